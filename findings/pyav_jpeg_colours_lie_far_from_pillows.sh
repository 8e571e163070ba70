#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg) and Pillow 13.0.0 (libjpeg-turbo) decode the same ordinary JPEG (4:2:0, quality 90) of a picture in false
# colours, as thermal cameras write them, to RGB values that differ by dozens of grey levels; the brightness planes agree within 1.
# What differs is how the halved colour planes are brought to full size.  Whoever takes temperatures back from the colours, or
# thresholds them, gets another picture from another decoder; the brightness is safe.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install pillow==13.0.0 av==18.1.0 numpy==2.4.6 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import sys
import av, numpy as np
from PIL import Image

rng = np.random.default_rng(0)
y, x = np.mgrid[:256, :320]
hot = np.zeros(x.shape)
for cy, cx in rng.uniform(10, 240, (40, 2)):
    hot = np.maximum(hot, np.exp(-(((y - cy) / 2) ** 2 + ((x - cx) / 4) ** 2)))
ramp = np.array([[0, 0, 20], [120, 0, 140], [220, 60, 60], [255, 160, 20], [255, 255, 200]])
colours = np.stack([np.interp(hot * 4, range(5), ramp[:, c]) for c in range(3)], -1).astype(np.uint8)
Image.fromarray(colours).save(sys.argv[1], quality=90)
pillow = np.asarray(Image.open(sys.argv[1])).astype(int)
frame = next(av.open(sys.argv[1]).decode(video=0))
apart = np.abs(pillow - frame.to_ndarray(format="rgb24"))
grey = Image.open(sys.argv[1])
grey.draft("L", None)  # the brightness plane alone
planes = np.abs(np.asarray(grey).astype(int) - frame.to_ndarray()[:256, :320])
print(f"RGB apart by up to {apart.max()} of 255, {apart.mean():.2f} on the mean; brightness planes by up to {planes.max()}", file=sys.stderr)
print("dozens" if apart.max() >= 24 else "few", "within 1" if planes.max() <= 1 else "apart")
PY
saw=$("$work/venv/bin/python" "$work/ask.py" "$work/picture.jpg")
echo "colours, brightness: $saw"
[ "$saw" = "dozens within 1" ]
