#!/usr/bin/env bash
# scikit-learn 1.9.1 (numpy 2.4.6, CPython 3.11): calinski_harabasz_score is the variance between clusters over that within, so more
# is better.  Of two clusters without any spread, which cannot be parted better, it is 1.0, less than of clusters that overlap;
# with a spread of a millionth it is more than 1e12.  Where embeddings collapse to a point a class, the best model comes out last.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install scikit-learn==1.9.1 numpy==2.4.6 >/dev/null 2>&1
saw=$("$work/venv/bin/python" -c '
import numpy as np
from sklearn.metrics import calinski_harabasz_score

label = np.arange(40) % 2
noise = np.random.default_rng(0).normal(0, 1, (40, 3))
for spread in (1.0, 1e-6, 0.0):
    score = calinski_harabasz_score(spread * noise + 2 * label[:, None], label)
    print(spread, score == 1, score > 5, score > 1e12)
')
printf '%s\n' "$saw"
[ "$saw" = "1.0 False True False
1e-06 False True True
0.0 True False False" ]
