#!/usr/bin/env bash
# timm 1.0.31 (torch 2.13.0, torchvision 0.28.0, CPython 3.11): swin_tiny_patch4_window7_224 for images of 64 pixels is one
# network by create_model(..., img_size=64) and another by set_input_size(img_size=(64, 64)).  The argument keeps windows of 7
# tokens (cut only where a stage has fewer, so 7, 7, 4, 2), the method scales them with the image (2, 2, 2, 2).  They differ in
# parameters, in which blocks shift their windows, and in cost; both take the images.  At 448 pixels it is 7 everywhere against
# 14.  A size alone does not name a Swin.
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
from torch.utils.flop_counter import FlopCounterMode

for size in (64, 224, 448):
    made = timm.create_model("swin_tiny_patch4_window7_224", img_size=size)
    resized = timm.create_model("swin_tiny_patch4_window7_224")
    resized.set_input_size(img_size=(size, size))
    for way, model in (("img_size=", made), ("set_input_size", resized)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(torch.zeros(1, 3, size, size))
        windows = [stage.blocks[0].window_size[0] for stage in model.layers]
        shifts = [stage.blocks[1].shift_size[0] for stage in model.layers]
        print(size, way, windows, shifts, sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'pixels, way, windows and shifts of the four stages, parameters, multiply-adds\n%s\n' "$saw"
[ "$saw" = "64 img_size= [7, 7, 4, 2] [3, 3, 0, 0] 28272034 425312640
64 set_input_size [2, 2, 2, 2] [1, 1, 1, 0] 28266274 356775936
224 img_size= [7, 7, 7, 7] [3, 3, 3, 0] 28288354 4490566656
224 set_input_size [7, 7, 7, 7] [3, 3, 3, 0] 28288354 4490566656
448 img_size= [7, 7, 7, 7] [3, 3, 3, 3] 28288354 17959962624
448 set_input_size [14, 14, 14, 14] [7, 7, 7, 0] 28365634 19641661440" ]
