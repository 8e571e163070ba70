#!/usr/bin/env bash
# torch 2.13.0 (CPython 3.11, CPU): where scores are equal, topk(k) need not be part of topk(k + 1).  Of 196 equal scores the
# three "largest" and the four "largest" have not one in common, since another algorithm is taken once k is more than a 64th of
# the row; the same happens with scores of a few levels, as counts are.  Of two keep ratios the larger does not keep what the
# smaller keeps.  An argsort without stable=True leaves up to 16 equal scores in their order and 17 or more not, so a test on a
# small example does not tell.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install torch==2.13.0 numpy==2.4.6 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import torch


def shared(scores: torch.Tensor, k: int) -> int:
    """How many of topk(k) are in topk(k + 1)."""
    return len(set(scores.topk(k).indices.tolist()) & set(scores.topk(k + 1).indices.tolist()))


for count, k in ((196, 3), (196, 4), (1000, 15), (1000, 16)):
    print(f"{count} equal scores, topk({k}): {shared(torch.zeros(count), k)} of {k}")
levels = torch.arange(196) % 5
print(f"196 scores of 5 levels, topk(3): {shared(levels, 3)} of 3")
kept = (n for n in range(2, 65) if torch.zeros(n).argsort(descending=True).tolist() == list(range(n)))
print("argsort keeps the order of", *kept)
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'how many of topk(k) are in topk(k + 1)\n%s\n' "$saw"
[ "$saw" = "196 equal scores, topk(3): 0 of 3
196 equal scores, topk(4): 4 of 4
1000 equal scores, topk(15): 0 of 15
1000 equal scores, topk(16): 16 of 16
196 scores of 5 levels, topk(3): 0 of 3
argsort keeps the order of $(seq -s ' ' 2 16)" ]
