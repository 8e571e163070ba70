#!/usr/bin/env bash
# aif360 0.6.1 (numpy 2.4.6, CPython 3.11.7): ClassificationMetric.equalized_odds_difference is the larger of the differences of false and of
# true positive rates, taken by Python's max().  Of a group without positives the latter is NaN (equal_opportunity_difference
# says so); max(x, NaN) is x, so the NaN is dropped without a word and the figure is the false positive rates' difference alone: 0.0,
# perfectly fair, though nobody knows whether positives are treated alike.  Where the other class is missing max(NaN, x) is NaN,
# so whether the user learns of it depends on which class a group lacks.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install aif360==0.6.1 numpy==2.4.6 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import pandas as pd
from aif360.datasets import BinaryLabelDataset
from aif360.metrics import ClassificationMetric


def metric(label: list[int], answer: list[int]) -> ClassificationMetric:
    frame = pd.DataFrame({"s": [0] * 4 + [1] * 4, "y": label})
    true, told = (
        BinaryLabelDataset(df=f, label_names=["y"], protected_attribute_names=["s"], favorable_label=1, unfavorable_label=0)
        for f in (frame, frame.assign(y=answer))
    )
    return ClassificationMetric(true, told, unprivileged_groups=[{"s": 0}], privileged_groups=[{"s": 1}])


for name, label, answer in (
    ("no positives", [1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]),  # every positive is missed
    ("no negatives", [1, 1, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]),  # every negative is let through
):
    m = metric(label, answer)
    print(name, *(float(f()) for f in (m.false_positive_rate_difference, m.true_positive_rate_difference, m.equalized_odds_difference)))
PY
saw=$("$work/venv/bin/python" "$work/ask.py" 2>/dev/null)
printf 'one group has: false and true positive rate difference, equalized odds difference\n%s\n' "$saw"
[ "$saw" = "no positives 0.0 nan 0.0
no negatives nan 0.0 nan" ]
