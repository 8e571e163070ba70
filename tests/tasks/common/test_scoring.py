"""Scores by class and by group: the field's own numbers, and what no example is there for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.protocol import Measure
from tasks.common.scoring import by_class, by_group, calibration_error, gaps
from tests.helpers import golden


def named(measures: list[Measure]) -> dict[tuple[str, str], Measure]:
    return {(m.name, m.part): m for m in measures}


def test_figures_of_two_groups_are_fairlearns() -> None:
    z = golden("fair_pruning_baselines_metrics")
    found = {k: m.value / 100 for k, m in named(by_group(z["y_true"], z["y_pred"], z["s"], ["a"])).items()}
    assert found["group_accuracy", "a"] == pytest.approx(z["group_accuracy"][0], abs=1e-12)
    assert found["group_accuracy", "group 1"] == pytest.approx(z["group_accuracy"][1], abs=1e-12)
    assert found["worst_group", ""] == pytest.approx(z["worst_group_accuracy"], abs=1e-12)
    assert found["accuracy_gap", ""] == pytest.approx(z["accuracy_difference"], abs=1e-12)
    found = {k: m.value / 100 for k, m in named(gaps(z["y_true"], z["y_pred"], z["s"], 2)).items()}
    assert found.keys() == {("demographic_parity_gap", ""), ("equal_opportunity_gap", ""), ("equalized_odds_gap", "")}
    assert found["demographic_parity_gap", ""] == pytest.approx(z["demographic_parity_difference"], abs=1e-12)
    assert found["equal_opportunity_gap", ""] == pytest.approx(z["equal_opportunity_difference"], abs=1e-12)
    assert found["equalized_odds_gap", ""] == pytest.approx(z["equalized_odds_difference_worst"], abs=1e-12)


def test_figures_of_several_classes_and_groups_are_fairlearns_one_against_the_rest() -> None:
    z = golden("fair_pruning_baselines_metrics")
    columns = z["mc_y_true"], z["mc_y_pred"], z["mc_s"]
    found = {k: m.value / 100 for k, m in named(by_group(*columns, ())).items()}
    assert found["worst_group", ""] == pytest.approx(z["mc_worst_group_accuracy"], abs=1e-12)
    assert found["accuracy_gap", ""] == pytest.approx(z["mc_accuracy_difference"], abs=1e-12)
    found = {k: m.value / 100 for k, m in named(gaps(*columns, 4)).items()}
    for name, like in (("demographic_parity_gap", "dp"), ("equalized_odds_gap", "eo")):
        assert found[name, ""] == pytest.approx(z[f"mc_{like}_max"], abs=1e-12)
        assert found[name, "mean"] == pytest.approx(z[f"mc_{like}_mean"], abs=1e-12)
    assert found["equal_opportunity_gap", "mean"] == pytest.approx(z["mc_tpr_diff_per_class"].mean(), abs=1e-12)


def test_a_rate_without_an_example_is_undefined_and_not_nothing() -> None:
    group = np.repeat([0, 1, 2], 40)
    label = np.where(group == 2, 0, np.tile([0, 1], 60))  # nobody of group 2 is of class 1
    prediction = label.copy()
    prediction[:10] = 1 - label[:10]
    found = named(gaps(label, prediction, group, 2))
    wrong = label[:40] != prediction[:40]
    assert found["equal_opportunity_gap", ""].value == pytest.approx(100 * wrong[label[:40] == 1].mean())
    only = named(gaps(label[40:], prediction[40:], group[40:], 2))
    assert ("equal_opportunity_gap", "") not in only, "one group is left of whom a label is 1"
    assert ("equalized_odds_gap", "") not in only
    assert only["demographic_parity_gap", ""].value == 50.0


def test_a_group_of_few_is_listed_and_decides_nothing() -> None:
    group = np.array([0] * 50 + [1] * 50 + [2] * 5)
    label = np.zeros(105, int)
    prediction = np.array([0] * 50 + [0] * 40 + [1] * 10 + [1] * 5)
    found = named(by_group(label, prediction, group, ["a", "b", "c"]))
    assert found["group_accuracy", "c"].value == 0.0
    assert found["worst_group", ""].value == found["worst_subgroup", ""].value == 80.0
    assert found["accuracy_gap", ""].value == pytest.approx(20.0)
    assert named(by_group(label, prediction, group, [], min_group=1))["accuracy_gap", ""].value == 100.0
    alone = named(by_group(label[:50], prediction[:50], group[:50], []))
    assert alone["worst_group", ""].value == 100.0
    assert ("accuracy_gap", "") not in alone, "one group is far from none"


def test_the_worst_subgroup_is_a_label_of_a_group() -> None:
    group, label = np.repeat([0, 1], 80), np.tile([0, 1], 80)
    prediction = np.where((group == 1) & (label == 1) & (np.arange(160) % 4 == 1), 0, label)
    found = named(by_group(label, prediction, group, []))
    assert (found["worst_subgroup", ""].value, found["worst_group", ""].value) == (50.0, 75.0)


@settings(max_examples=60)
@given(st.integers(2, 4), st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_every_figure_lies_in_its_interval_and_who_is_worst_is_under_all(classes: int, groups: int, seed: int, rows: int) -> None:
    draw = np.random.Generator(np.random.Philox(seed))
    label, prediction = draw.integers(0, classes, (2, rows))
    group = draw.integers(0, groups, rows)
    found = (
        by_group(label, prediction, group, []) + gaps(label, prediction, group, classes) + by_class("top1", label, prediction, [])
    )
    for m in found:
        assert 0 <= m.value <= 100 + 1e-9
        if m.interval is not None:
            assert m.interval[0] - 1e-9 <= m.value <= m.interval[1] + 1e-9
    figures = named(found)
    assert len(figures) == len(found)
    all_small = np.bincount(group).max() < 30
    if all_small:
        assert figures["worst_group", ""].value == min(m.value for m in found if m.name == "group_accuracy")


def test_calibration_is_the_distance_of_confidence_and_hits() -> None:
    assert calibration_error(np.array([0.9, 0.9]), np.array([True, False])) == pytest.approx(0.4)


def test_columns_of_small_types_are_scored_as_those_of_large_ones() -> None:
    label, prediction, group = (np.arange(600) % k for k in (3, 2, 127))
    wide = by_group(label, prediction, group, ())
    assert by_group(*(c.astype(np.int8) for c in (label, prediction, group)), ()) == wide
