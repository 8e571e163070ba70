#!/usr/bin/env bash
# torch 2.13.0 (CPython 3.11, CPU): FlopCounterMode has no formula for the fused attention kernel of the CPU and passes over it in
# silence, and attention dropout makes attention fall apart into products that it does see.  One TransformerEncoderLayer of 65
# tokens and width 64 is counted in full in training with dropout, 14 % lower in training without, 14 % lower in evaluation
# whatever the dropout, and in evaluation under no_grad it is nothing at all, 0; with an odd number of heads it is 14 % lower
# again.  The arithmetic is the same in all of them: a training step seems to cost more than the forward pass that it consists of.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install torch==2.13.0 numpy==2.4.6 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

n, c = 65, 64
print("by hand", 2 * (12 * n * c * c + 2 * n * n * c))
for name, training, dropout, gradients, heads in (
    ("training, dropout", True, 0.1, True, 4),
    ("training, no dropout", True, 0.0, True, 4),
    ("evaluation", False, 0.1, True, 4),
    ("evaluation, no_grad", False, 0.1, False, 4),
    ("evaluation, no_grad, one head", False, 0.1, False, 1),
):
    layer = nn.TransformerEncoderLayer(c, heads, 4 * c, dropout=dropout, batch_first=True).train(training)
    with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, n, c))
    print(name, counter.get_total_flops())
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'operations, two a multiply-add\n%s\n' "$saw"
[ "$saw" = "by hand 7471360
training, dropout 7471360
training, no dropout 6389760
evaluation 6389760
evaluation, no_grad 0
evaluation, no_grad, one head 6389760" ]
