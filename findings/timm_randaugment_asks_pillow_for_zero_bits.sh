#!/usr/bin/env bash
# timm 1.0.31 beside Pillow 13.0.0 (torch 2.13.0, torchvision 0.28.0, CPython 3.11): DeiT's published training augmentation,
# rand-m9-mstd0.5-inc1, stops a training within a few thousand images.  Its posterize operation maps the magnitude to "keep 4 down
# to 0 bits", so a drawn magnitude of 10 asks for 0 bits.  Pillow 12.3.0 gives a black image for it (its own documentation said 1
# to 8 all along); Pillow 13 raises ValueError.  timm states no upper bound of Pillow, so a fresh installation gets the two together.
# Seen: 0 errors of 4000 images with Pillow 12.3.0, some (7 with this seed) with Pillow 13.0.0.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@" >/dev/null 2>&1; }
pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 pillow==13.0.0
cat >"$work/ask.py" <<'PY'
import random

import numpy as np
import torch

try:
    import torchvision
except RuntimeError:  # beside a CPU build of torch its operators do not load; timm needs their names alone
    names = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import PIL
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

random.seed(0)
np.random.seed(0)
policy = rand_augment_transform("rand-m9-mstd0.5-inc1", {"translate_const": 100, "img_mean": (124, 116, 104)})
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
errors = []
for _ in range(4000):
    try:
        policy(image)
    except ValueError as e:
        errors.append(str(e))
print(PIL.__version__, len(errors), sorted(set(errors)))
PY
new=$("$work/venv/bin/python" "$work/ask.py")
pip install pillow==12.3.0
old=$("$work/venv/bin/python" "$work/ask.py")
printf '%s\n%s\n' "$new" "$old"
[[ $new == "13.0.0 "[1-9]*"bits must be"* && $old == "12.3.0 0 []" ]]
