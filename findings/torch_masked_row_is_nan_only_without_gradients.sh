#!/usr/bin/env bash
# torch 2.13.0 (CPython 3.11, CPU): what a wholly masked row of attention gives depends on the mode that the same layer is in.  A
# TransformerEncoderLayer with an example that is padding from end to end answers with finite numbers in training, and in
# evaluation while gradients are on; in evaluation under no_grad it takes another path and answers NaN.  So training never shows
# it and validation does, and printing in a debugger without no_grad takes it away again.  With an odd number of heads the path is
# not taken and nothing is NaN.  MultiheadAttention does the same, and with need_weights=True it is NaN in every mode.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install torch==2.13.0 numpy==2.4.6 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(2, 4, 12)
padding = torch.tensor([[False] * 4, [True] * 4])  # the second example is empty
for heads in (4, 3):
    layer = nn.TransformerEncoderLayer(12, heads, 24, dropout=0.0, batch_first=True)
    attention = layer.self_attn
    calls = {
        "encoder layer": lambda: layer(x, src_key_padding_mask=padding),
        "attention": lambda: attention(x, x, x, key_padding_mask=padding, need_weights=False)[0],
        "attention, weights": lambda: attention(x, x, x, key_padding_mask=padding, need_weights=True)[0],
    }
    for name, call in calls.items():
        told = []
        for training, gradients in ((True, True), (False, True), (False, False)):
            layer.train(training)
            with torch.set_grad_enabled(gradients):
                whole, empty = call()
            assert whole.isfinite().all()
            told.append("finite" if empty.isfinite().all() else "NaN")
        print(heads, name + ":", *told)
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'heads, layer: in training, in evaluation, in evaluation under no_grad\n%s\n' "$saw"
[ "$saw" = "4 encoder layer: finite finite NaN
4 attention: finite finite NaN
4 attention, weights: NaN NaN NaN
3 encoder layer: finite finite finite
3 attention: finite finite finite
3 attention, weights: NaN NaN NaN" ]
