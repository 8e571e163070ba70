#!/usr/bin/env bash
# Pillow 13.0.0 (CPython 3.11): two kinds of valid TIFF of one channel are opened without an error or a warning, and hold other numbers
# than the file.  Unsigned 32-bit integers come as mode I, which is signed: from 2^31 on they are negative.  Signed bytes come as
# mode L, which is unsigned: below 0 they are 256 too large.  Signed 16-bit integers and float32 are read as they are, and tifffile
# reads all four right.  (Raw counts of a thermal camera are such integers; degrees below zero as bytes become hot ones.)
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import sys, warnings
import numpy as np, tifffile
from PIL import Image

warnings.simplefilter("error")
for values in (
    np.array([[3_000_000_000, 7]], np.uint32),
    np.array([[-40, 7]], np.int8),
    np.array([[-40, 7]], np.int16),
    np.array([[-40.5, 7]], np.float32),
):
    tifffile.imwrite(sys.argv[1], values)
    with Image.open(sys.argv[1]) as image:
        print(values.dtype, tifffile.imread(sys.argv[1]).tolist(), image.mode, np.asarray(image).tolist())
PY
saw=$("$work/venv/bin/python" "$work/ask.py" "$work/picture.tiff")
echo "type, what the file holds, Pillow's mode, what Pillow holds:"
printf '%s\n' "$saw"
[ "$saw" = "uint32 [[3000000000, 7]] I [[-1294967296, 7]]
int8 [[-40, 7]] L [[216, 7]]
int16 [[-40, 7]] I [[-40, 7]]
float32 [[-40.5, 7.0]] F [[-40.5, 7.0]]" ]
