#!/usr/bin/env bash
# timm 1.0.31 (torch 2.13.0, torchvision 0.28.0, CPython 3.11): VisionTransformer.set_input_size puts a new Parameter in the place
# of `pos_embed` where the number of patches changes.  An optimizer made before it goes on with the old one: training runs, the
# loss falls, the new positions get gradients, and not one of them moves, without a word.  At the size that it has already the
# parameter stays the same, so code that calls it always works until the size is another.  Swin's method does it to every relative
# position bias.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
  torch==2.13.0 torchvision==0.28.0 timm==1.0.31 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import torch

try:
    import torchvision
except RuntimeError:  # beside a CPU build of torch its operators do not load; timm needs their names alone
    names = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm
from timm.models.vision_transformer import VisionTransformer

for size in (16, 32):
    torch.manual_seed(0)
    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.set_input_size(img_size=(size, size))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    x, y = torch.randn(9, 3, size, size), torch.arange(9) % 3
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    print(size, losses[-1] < losses[0], bool(model.pos_embed.grad.any()), still)
swin = timm.create_model("swin_tiny_patch4_window7_224")
held = list(swin.parameters())
swin.set_input_size(img_size=(64, 64))
lost = [name for name, p in swin.named_parameters() if all(p is not q for q in held)]
print("swin", len(lost), {name.rpartition(".")[2] for name in lost})
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'pixels after 16: loss falls, positions have a gradient, parameters that 20 steps leave as they were\n%s\n' "$saw"
[ "$saw" = "16 True True []
32 True True ['pos_embed']
swin 12 {'relative_position_bias_table'}" ]
