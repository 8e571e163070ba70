#!/usr/bin/env bash
# timm 1.0.31 (torch 2.13.0, torchvision 0.28.0, CPython 3.11): a ViT is given an attn_mask in which one token may look at
# nothing.  By fused attention that row is zeros and all logits are finite; by the unfused form of the same module
# (set_fused_attn, TIMM_FUSED_ATTN=0, what multiply-adds are counted with) the row is NaN.  The NaN does not stay there: though no
# other token looks at the masked one, 0 times NaN is NaN, so from the next block on every token is, the class token and all
# logits with it.  Masked with the smallest finite number instead of -inf the two forms agree, and the row is the mean of all
# values.
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
from timm.models.vision_transformer import VisionTransformer

torch.manual_seed(0)
model = VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=3).eval()
x = torch.randn(1, 3, 16, 16)
allowed = torch.ones(5, 5, dtype=torch.bool)
allowed[4, :] = allowed[:, 4] = False  # the last patch is cut off: it sees nothing and nothing sees it
masks = {
    "bool": allowed,
    "-inf": torch.zeros(5, 5).masked_fill(~allowed, -torch.inf),
    "smallest": torch.zeros(5, 5).masked_fill(~allowed, torch.finfo(torch.float32).min),
}
for name, mask in masks.items():
    told, logits = [], []
    for fused in (True, False):
        for block in model.blocks:
            block.attn.fused_attn = fused
        with torch.no_grad():
            row = model.blocks[0].attn(torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(1)), attn_mask=mask)[0, 4]
            logits.append(model(x, attn_mask=mask))
        told.append(f"row {bool(row.isfinite().all())} logits {bool(logits[-1].isfinite().all())}")
    print(f"{name}: fused {told[0]}, unfused {told[1]}, equal {torch.allclose(*logits, atol=1e-5)}")
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'whether the masked row of the first block, and the logits, are finite\n%s\n' "$saw"
[ "$saw" = "bool: fused row True logits True, unfused row False logits False, equal False
-inf: fused row True logits True, unfused row False logits False, equal False
smallest: fused row True logits True, unfused row True logits True, equal True" ]
