#!/usr/bin/env bash
# fairlearn 0.15.0 (scikit-learn 1.9.1, CPython 3.11.7): demographic_parity_difference compares the shares of answers that equal 1, whatever
# the labels are, and has no argument to say otherwise.  Of labels "no" and "yes", or 2 and 3, no answer is 1, every share is
# 0, and the difference is 0.0, perfectly fair, without a warning: also for a classifier that says yes to one group alone.  Its
# sister equalized_odds_difference refuses the same columns with a ValueError.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install fairlearn==0.15.0 scikit-learn==1.9.1 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import warnings
import numpy as np
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

group = np.repeat(["a", "b"], 4)
label, answer = np.tile([0, 1], 4), np.repeat([1, 0], 4)  # yes to all of group a, to none of group b
for names in ([0, 1], ["no", "yes"], [2, 3]):
    y, p = np.array(names)[label], np.array(names)[answer]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        parity = float(demographic_parity_difference(y, p, sensitive_features=group))
        try:
            odds = float(equalized_odds_difference(y, p, sensitive_features=group))
        except ValueError:
            odds = "ValueError"
    print(names, parity, odds, len(told))
PY
saw=$("$work/venv/bin/python" "$work/ask.py")
printf 'labels, demographic parity difference, equalized odds difference, warnings\n%s\n' "$saw"
[ "$saw" = "[0, 1] 1.0 1.0 0
['no', 'yes'] 0.0 ValueError 0
[2, 3] 0.0 ValueError 0" ]
