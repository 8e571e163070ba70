#!/usr/bin/env bash
# scikit-learn 1.9.1 (numpy 2.4.6, CPython 3.11): davies_bouldin_score is a ratio of distances, so it does not depend on the unit that
# points are measured in; of points a thousand-millionth as large it is 0.0, the best score there is, and stays so however badly
# clusters lie apart.  Distances between centroids are compared with an absolute 1e-8, and what is nearer counts as perfect.  For
# the same reason clusters whose centroids coincide score 0.0, where the ratio is infinite.  silhouette_score and
# calinski_harabasz_score of the same points are what they were.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install scikit-learn==1.9.1 numpy==2.4.6 >/dev/null 2>&1
saw=$("$work/venv/bin/python" -c '
import numpy as np
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

label = np.arange(40) % 2
x = np.random.default_rng(0).normal(0, 1, (40, 3)) + 0.2 * label[:, None]  # all but mixed
for scale in (1.0, 1e-6, 1e-9):
    scores = [f(scale * x, label) for f in (davies_bouldin_score, silhouette_score, calinski_harabasz_score)]
    print(scale, *(f"{s:.3f}" for s in scores))
cross = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])
print("one centroid", davies_bouldin_score(cross, [0, 0, 1, 1]))
')
printf '%s\n' "$saw"
[ "$(printf '%s\n' "$saw" | cut -d' ' -f1,2)" = "1.0 $(printf '%s\n' "$saw" | sed -n 1p | cut -d' ' -f2)
1e-06 $(printf '%s\n' "$saw" | sed -n 1p | cut -d' ' -f2)
1e-09 0.000
one centroid" ] && [ "$(printf '%s\n' "$saw" | sed -n '1p;3p' | cut -d' ' -f3,4 | uniq | wc -l)" = 1 ] &&
  [ "$(printf '%s\n' "$saw" | sed -n 1p | cut -d' ' -f2 | cut -d. -f1)" -ge 2 ] && printf '%s\n' "$saw" | grep -qx 'one centroid 0.0'
