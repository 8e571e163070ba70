#!/usr/bin/env bash
# timm 1.0.31 and torch-pruning 1.6.1 (torch 2.13.0, torchvision 0.28.0, CPython 3.11): a ViT whose heads torch-pruning cuts from
# 16 to 8 channels answers differently by fused and by unfused attention.  num_heads and head_dim are set afterwards as
# torch-pruning's own example for timm does (and attn_dim, which timm has now), but `scale` is a number that Attention stored when
# it was made: the unfused form goes on dividing by the root of 16, while the fused kernel takes the root of the width that it
# sees.  A network that was fine-tuned by the one form is another network by the other (set_fused_attn, TIMM_FUSED_ATTN=0); before
# pruning the two agree.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
  torch==2.13.0 torchvision==0.28.0 timm==1.0.31 torch-pruning==1.6.1 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import torch

try:
    import torchvision
except RuntimeError:  # beside a CPU build of torch its operators do not load; timm needs their names alone
    names = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torch_pruning as tp
from timm.models.vision_transformer import VisionTransformer

torch.manual_seed(0)
model = VisionTransformer(img_size=32, patch_size=4, embed_dim=64, depth=3, num_heads=4, num_classes=10).eval()
attentions = [block.attn for block in model.blocks]
with torch.no_grad():
    for a in attentions:
        a.qkv.weight *= 8  # as large as a trained network's: at initialisation attention is all but uniform
x = torch.randn(32, 3, 32, 32)


def compare(name: str) -> None:
    answers = []
    for fused in (True, False):
        for a in attentions:
            a.fused_attn = fused
        with torch.no_grad():
            answers.append(model(x))
    same = torch.allclose(*answers, atol=1e-4)
    print(name, {a.head_dim for a in attentions}, {round(a.scale**-2) for a in attentions}, same)


compare("whole")
for a in attentions:
    a.fused_attn = False
heads = {a.qkv: a.num_heads for a in attentions}
pruner = tp.pruner.MetaPruner(
    model,
    x[:1],
    tp.importance.GroupMagnitudeImportance(p=1),
    pruning_ratio=0.5,
    ignored_layers=[model.head],
    num_heads=heads,
    prune_head_dims=True,
)
pruner.step()
for a in attentions:
    a.num_heads = pruner.num_heads[a.qkv]
    a.head_dim = a.qkv.out_features // (3 * a.num_heads)
    a.attn_dim = a.num_heads * a.head_dim
compare("pruned")
for a in attentions:
    a.scale = a.head_dim**-0.5
compare("pruned, scale set")
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'channels of a head, those that its scale is for, whether fused and unfused logits agree\n%s\n' "$saw"
[ "$saw" = "whole {16} {16} True
pruned {8} {16} False
pruned, scale set {8} {8} True" ]
