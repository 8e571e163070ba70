#!/usr/bin/env bash
# torchvision 0.28.0: ImageFolder takes a hidden folder for a class.  Where an editor left a copy of a picture in `.ipynb_checkpoints`
# of one split, that is class 0 and every true class is numbered one higher than in the other split: a classifier that is right on
# every picture scores 0 %, and nothing is said.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install torchvision==0.28.0 pillow==13.0.0 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import sys
from pathlib import Path

from PIL import Image
from torchvision.datasets import ImageFolder

root = Path(sys.argv[1])
for split in ("train", "val"):
    for name, colour in (("cat", (200, 0, 0)), ("dog", (0, 200, 0))):
        (root / split / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(root / split / name / "1.png")
(root / "val" / ".ipynb_checkpoints").mkdir()
Image.new("RGB", (8, 8), (200, 0, 0)).save(root / "val" / ".ipynb_checkpoints" / "1-checkpoint.png")
print(*(ImageFolder(str(root / split)).class_to_idx["cat"] for split in ("train", "val")))
PY
saw=$("$work/venv/bin/python" "$work/ask.py" "$work/set")
echo "number of the class cat in train, in val: $saw"
[ "$saw" = "0 1" ]
