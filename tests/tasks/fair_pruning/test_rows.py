"""The committed rows' figures are fairlearn's, taken from their evidence anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from suite import bundle, registry
from tasks.fair_pruning import sets

ROWS = sorted((registry.HOUSE / "results" / "fair_pruning").glob("*/*/*/run.json"))


def rows(case: str, method: str, count: int) -> list[Path]:
    found = []
    for path in ROWS:
        record = bundle.read(path.parent)
        if record.spec.case.startswith(case) and record.method.name == method and record.status == "ok":
            found.append(path.parent)
        if len(found) == count:
            break
    return found


@pytest.mark.slow
@pytest.mark.skipif(not ROWS, reason="no rows are committed yet")
@pytest.mark.parametrize("case", ["adult", "compas", "digits"])
@pytest.mark.parametrize("method", ["dense", "bifp"])
def test_a_rows_gaps_are_fairlearns(case: str, method: str) -> None:
    metrics = pytest.importorskip("fairlearn.metrics")
    from sklearn.metrics import accuracy_score

    found = rows(case, method, 2)
    assert found
    for folder in found:
        record, z = bundle.read(folder), bundle.read_table(folder / bundle.EVIDENCE)
        told = {m.name: m.value for m in record.measures if not m.part}
        good = sets.favourable(record.spec.case.partition("/")[0])
        y, answer, group = (z["label"] == good).astype(int), (z["prediction"] == good).astype(int), z["group"]
        frame = metrics.MetricFrame(metrics=accuracy_score, y_true=y, y_pred=answer, sensitive_features=group)
        expected = {
            "accuracy": 100 * frame.overall,
            "worst_group": 100 * frame.group_min(),
            "accuracy_gap": 100 * frame.difference(),
            "demographic_parity_gap": 100 * metrics.demographic_parity_difference(y, answer, sensitive_features=group),
            "demographic_parity_ratio": metrics.demographic_parity_ratio(y, answer, sensitive_features=group),
            "equal_opportunity_gap": 100 * metrics.equal_opportunity_difference(y, answer, sensitive_features=group),
            "equalized_odds_gap": 100 * metrics.equalized_odds_difference(y, answer, sensitive_features=group),
        }
        assert {k: told[k] for k in expected} == pytest.approx(expected, abs=1e-9)
        right = (z["dense"] == z["label"]).astype(float) - (z["prediction"] == z["label"])
        lost = [right[group == g].mean() for g in np.unique(group)]
        assert told["degradation_gap"] == pytest.approx(100 * (max(lost) - min(lost)), abs=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(not ROWS, reason="no rows are committed yet")
def test_a_mixtures_gap_is_fairlearns_of_every_answer_by_its_chance() -> None:
    metrics = pytest.importorskip("fairlearn.metrics")
    found = rows("adult", "exponentiated_gradient", 1)
    assert found
    record, z = bundle.read(found[0]), bundle.read_table(found[0] / bundle.EVIDENCE)
    told = {m.name: m.value for m in record.measures if not m.part}
    assert (z["chance"] < 1).any()
    # each example twice: as it likely is answered, and as it else is
    y, group = np.tile(z["label"], 2), np.tile(z["group"], 2)
    chance = z["chance"].astype(np.float64)
    answer, weight = np.concatenate([z["prediction"], 1 - z["prediction"]]), np.concatenate([chance, 1 - chance])
    for name, function in (
        ("demographic_parity_gap", metrics.demographic_parity_difference),
        ("equalized_odds_gap", metrics.equalized_odds_difference),
    ):
        expected = function(y, answer, sensitive_features=group, sample_weight=weight)
        assert told[name] == pytest.approx(100 * expected, abs=1e-6)
