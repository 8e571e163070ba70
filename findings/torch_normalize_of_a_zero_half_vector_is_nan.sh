#!/usr/bin/env bash
# torch 2.13.0 (CPython 3.11): F.normalize and F.cosine_similarity of a zero vector are not a number in float16, though both
# documentations give an eps against division by zero: 1e-12 and 1e-8 are 0 there.  In float32 and bfloat16 the same call gives 0.
# Autocast does not help a tensor that is half precision already. Whoever runs a network with cosine features in float16 (dead
# units, padding) gets NaN from an input that trained well; an eps of 1e-7 or more has to be given.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install torch==2.13.0 numpy >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import torch
from torch.nn import functional as F

for kind in (torch.float32, torch.bfloat16, torch.float16):
    zero, one = torch.zeros(1, 2, dtype=kind), torch.ones(1, 2, dtype=kind)
    print(kind, F.normalize(zero).tolist(), F.cosine_similarity(zero, one).tolist(), F.normalize(zero, eps=1e-7).tolist())
with torch.autocast("cpu", torch.float16):
    print("autocast", F.normalize(zero).tolist())
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'normalized zero, its cosine with ones, normalized with eps=1e-7\n%s\n' "$saw"
[ "$saw" = "torch.float32 [[0.0, 0.0]] [0.0] [[0.0, 0.0]]
torch.bfloat16 [[0.0, 0.0]] [0.0] [[0.0, 0.0]]
torch.float16 [[nan, nan]] [nan] [[0.0, 0.0]]
autocast [[nan, nan]]" ]
