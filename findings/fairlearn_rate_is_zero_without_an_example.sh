#!/usr/bin/env bash
# fairlearn 0.15.0 (scikit-learn 1.9.1, CPython 3.11.7): the true positive rate of a group in which nobody is positive is 0/0; it is
# counted as 0, without a warning, and takes part in the maximum and minimum over the groups.  A classifier without a single error
# then has the worst equal opportunity difference there is, 1.0, an equalised odds difference of 1.0, and an equal opportunity
# ratio of 0.0, where 1.0 is ideal; without that group the difference of the same answers is 0.0.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install fairlearn==0.15.0 scikit-learn==1.9.1 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import warnings
from fairlearn.metrics import MetricFrame, equal_opportunity_difference, equal_opportunity_ratio, equalized_odds_difference, true_positive_rate

group = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
label = [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
answer = list(label)  # no error at all
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    rate = MetricFrame(metrics=true_positive_rate, y_true=label, y_pred=answer, sensitive_features=group).by_group.to_dict()
    found = [float(f(label, answer, sensitive_features=group)) for f in (equal_opportunity_difference, equal_opportunity_ratio, equalized_odds_difference)]
    without = float(equal_opportunity_difference(label[:8], answer[:8], sensitive_features=group[:8]))
print({k: float(v) for k, v in rate.items()}, *found, without, len(told))
PY
saw=$("$work/venv/bin/python" "$work/ask.py")
echo "true positive rates, difference, ratio, odds difference, difference without group c, warnings: $saw"
[ "$saw" = "{'a': 1.0, 'b': 1.0, 'c': 0.0} 1.0 0.0 1.0 0.0 0" ]
