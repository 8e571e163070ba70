"""Measures of fairness: the field's own numbers, what is undefined, randomised answers, and intervals against a plain loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.protocol import Measure
from tasks.common import fairness as fairness_file
from tasks.common.fairness import KINDS, fairness, figures, gap, percentiles, rates, ratio, tally
from tests.helpers import golden

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def named(measures: list[Measure]) -> dict[tuple[str, str], Measure]:
    return {(m.name, m.part): m for m in measures}


def shares(measures: list[Measure]) -> dict[tuple[str, str], float]:
    """Values as fractions, whatever their unit."""
    return {(m.name, m.part): m.value / (100 if m.unit else 1) for m in measures}


def of_counts(*cells: tuple[int, int, int, int]) -> Columns:
    """Columns label, prediction, group from (group, label, prediction, how many)."""
    rows = np.array([(y, p, g) for g, y, p, n in cells for _ in range(n)])
    return rows[:, 0], rows[:, 1], rows[:, 2]


def drawn(seed: int, rows: int, classes: int, groups: int) -> Columns:
    draw = np.random.Generator(np.random.Philox(seed))
    return draw.integers(0, classes, rows), draw.integers(0, classes, rows), draw.integers(0, groups, rows)


#: group 0 is right on 8 of 10 positives and 9 of 10 negatives, group 1 on 5 and 6
SKEWED = of_counts(
    (0, 1, 1, 80), (0, 1, 0, 20), (0, 0, 0, 90), (0, 0, 1, 10), (1, 1, 1, 50), (1, 1, 0, 50), (1, 0, 0, 60), (1, 0, 1, 40)
)  # fmt: skip


def test_binary_figures_are_fairlearns() -> None:
    z = golden("fair_pruning_baselines_metrics")
    found = shares(fairness(z["y_true"], z["y_pred"], z["s"], 2, ["a", "b"], dense=z["y_pred_dense"], resamples=0))
    like = {
        "accuracy": "accuracy",
        "worst_group": "worst_group_accuracy",
        "accuracy_gap": "accuracy_difference",
        "demographic_parity_gap": "demographic_parity_difference",
        "demographic_parity_ratio": "demographic_parity_ratio",
        "equal_opportunity_gap": "equal_opportunity_difference",
        "equalized_odds_gap": "equalized_odds_difference_worst",
        "equalized_odds_mean_gap": "equalized_odds_difference_mean",
        "equalized_odds_ratio": "equalized_odds_ratio",
        "degradation_gap": "degradation_difference",
    }
    for ours, theirs in like.items():
        assert found[ours, ""] == pytest.approx(float(z[theirs]), abs=1e-12), ours
    for ours, theirs in (("group_accuracy", "group_accuracy"), ("degradation", "group_degradation")):
        assert [found[ours, part] for part in "ab"] == pytest.approx(z[theirs].tolist(), abs=1e-12)
    dense = shares(fairness(z["y_true"], z["y_pred_dense"], z["s"], 2, ["a", "b"], resamples=0))
    assert [dense["group_accuracy", part] for part in "ab"] == pytest.approx(z["group_accuracy_dense"].tolist(), abs=1e-12)
    assert not [name for name, _ in dense if name.startswith("degradation")], "nothing degrades without a parent"


def test_figures_of_several_classes_and_groups_are_fairlearns_one_against_the_rest() -> None:
    z = golden("fair_pruning_baselines_metrics")
    columns = z["mc_y_true"], z["mc_y_pred"], z["mc_s"]
    found = shares(fairness(*columns, 4, "abc", dense=z["mc_y_pred_dense"], resamples=0))
    like = {
        ("demographic_parity_gap", ""): z["mc_dp_max"],
        ("demographic_parity_gap", "mean"): z["mc_dp_mean"],
        ("equal_opportunity_gap", ""): z["mc_tpr_diff_per_class"].max(),
        ("equal_opportunity_gap", "mean"): z["mc_tpr_diff_per_class"].mean(),
        ("equalized_odds_gap", ""): z["mc_eo_max"],
        ("equalized_odds_gap", "mean"): z["mc_eo_mean"],
        ("equalized_odds_mean_gap", "mean"): (z["mc_tpr_diff_per_class"] + z["mc_fpr_diff_per_class"]).mean() / 2,
        ("eopp0", ""): z["mc_fpr_diff_per_class"].sum(),
        ("eopp1", ""): z["mc_tpr_diff_per_class"].sum(),
        ("accuracy_gap", ""): z["mc_accuracy_difference"],
        ("worst_group", ""): z["mc_worst_group_accuracy"],
        ("degradation_std", ""): z["mc_std_degradation"],
    }
    for key, value in like.items():
        assert found[key] == pytest.approx(float(value), abs=1e-12), key
    assert [found["group_accuracy", part] for part in "abc"] == pytest.approx(z["mc_group_accuracy"].tolist(), abs=1e-12)
    every = rates(tally(*columns, 4).sum(axis=3)[None])
    for name, rate in (("dp", every.selection), ("tpr_diff", every.true_positive), ("fpr_diff", every.false_positive)):
        assert gap(rate)[0] == pytest.approx(z[f"mc_{name}_per_class"], abs=1e-12)


def test_figures_by_hand() -> None:
    found = named(fairness(*SKEWED, 2, ["x", "y"], resamples=0))
    by_hand = {
        "accuracy": 70, "balanced_accuracy": 70, "majority": 50, "worst_group": 55, "worst_subgroup": 50, "accuracy_gap": 30,
        "demographic_parity_gap": 0, "demographic_parity_ratio": 1, "equal_opportunity_gap": 30, "equalized_odds_gap": 30,
        "equalized_odds_mean_gap": 30, "equalized_odds_ratio": 0.25, "eopp0": 30, "eopp1": 30, "eodd": 0, "pqd": 55 / 85,
        "dpm": 1, "eom": (50 / 80 + 60 / 90) / 2, "nar": 30 / 70,
    }  # fmt: skip
    assert {name: m.value for (name, part), m in found.items() if not part} == pytest.approx(by_hand)
    for name, x, y in (("selection_rate", 45, 45), ("true_positive_rate", 80, 50), ("false_positive_rate", 10, 40)):
        assert (found[name, "x"].value, found[name, "y"].value) == pytest.approx((x, y))
    for (name, _), m in found.items():
        assert (m.unit, m.direction) == KINDS[name]
    turned = shares(fairness(*SKEWED, 2, favourable=0, resamples=0))
    assert turned["equal_opportunity_gap", ""] == pytest.approx(0.3)
    assert turned["true_positive_rate", "group 1"] == pytest.approx(0.6), "of the other class"


def test_degradation_is_held_against_everyones() -> None:
    label, prediction, group = of_counts((0, 0, 0, 90), (0, 0, 1, 10), (1, 1, 1, 30), (1, 1, 0, 20))
    found = named(fairness(label, prediction, group, 2, ["x", "y"], dense=label, resamples=0))
    assert (found["degradation", "x"].value, found["degradation", "y"].value) == pytest.approx((10, 40))
    assert found["degradation_gap", ""].value == pytest.approx(30)
    assert found["degradation_std", ""].value == pytest.approx(30 / np.sqrt(2))
    assert found["degradation_excess", ""].value == pytest.approx(40 - 100 * 30 / 150)
    absent = np.full(len(label), -1)
    assert not [m for m in fairness(label, prediction, group, 2, dense=absent, resamples=0) if m.name.startswith("degradation")]


def test_a_rate_without_an_example_is_undefined_and_not_nothing() -> None:
    # nobody of group 2 is positive: fairlearn counts its true positive rate as 0, and the gap as 1 instead of a half
    columns = of_counts((0, 1, 1, 40), (0, 0, 0, 40), (1, 1, 1, 20), (1, 1, 0, 20), (1, 0, 0, 40), (2, 0, 0, 40))
    found = named(fairness(*columns, 2, resamples=0))
    assert found["equal_opportunity_gap", ""].value == 50
    assert ("true_positive_rate", "group 2") not in found
    assert found["false_positive_rate", "group 2"].value == 0
    assert ("equalized_odds_ratio", "") not in found, "no group has a false positive: 0/0"
    only = columns[2] > 0
    names = {name for name, _ in named(fairness(*(c[only] for c in columns), 2, resamples=0))}
    assert "demographic_parity_gap" in names
    assert not names & {"equal_opportunity_gap", "equalized_odds_gap", "equalized_odds_mean_gap", "eopp1", "eodd"}, (
        "one group is left of whom anybody is positive"
    )


def test_who_never_says_yes_has_no_ratio() -> None:
    label, prediction, group = SKEWED
    found = named(fairness(label, 0 * prediction, group, 2, resamples=0))
    assert found["demographic_parity_gap", ""].value == found["equalized_odds_gap", ""].value == 0
    assert not {("demographic_parity_ratio", ""), ("equalized_odds_ratio", "")} & found.keys()
    assert found["dpm", ""].value == 1, "the mean is over classes that are answered"


def test_one_group_is_far_from_none() -> None:
    found = named(fairness(*(c[:200] for c in SKEWED), 2, dense=SKEWED[0][:200], resamples=10))
    whole = {"accuracy", "balanced_accuracy", "majority", "worst_group", "worst_subgroup"}
    of_groups = {"group_accuracy", "selection_rate", "true_positive_rate", "false_positive_rate", "degradation"}
    assert {name for name, _ in found} == whole | of_groups


def test_classes_that_cannot_be_compared_are_out_of_the_mean_and_counted() -> None:
    columns = of_counts((0, 0, 0, 30), (0, 1, 1, 30), (0, 2, 2, 30), (1, 0, 0, 30), (1, 1, 1, 15), (1, 1, 0, 15))
    found = named(fairness(*columns, 4, class_names=["a", "b", "rare"], resamples=0))
    assert found["equal_opportunity_gap", ""].value == 50
    assert found["equal_opportunity_gap", "mean"].value == 25
    count = found["undefined_classes", ""]
    assert (count.value, count.warnings) == (2, ("fewer than two groups have an example: rare, class 3",))
    assert ("undefined_classes", "") not in named(fairness(*SKEWED, 2, resamples=0))
    assert ("selection_rate", "group 0") not in found, "of two classes alone"
    assert ("undefined_classes", "") not in named(fairness(*(c[:90] for c in columns), 4, resamples=0)), "nothing is compared"


def test_a_group_of_few_is_listed_and_decides_nothing() -> None:
    small = of_counts((2, 1, 0, 29))
    columns = tuple(np.concatenate(pair) for pair in zip(SKEWED, small, strict=True))
    found, without = (named(fairness(*c, 2, dense=c[0], resamples=0)) for c in (columns, SKEWED))
    assert found["group_accuracy", "group 2"].value == 0
    assert found["degradation", "group 2"].value == 100
    over_all = {"accuracy", "balanced_accuracy", "majority", "degradation_excess"}
    for (name, part), m in without.items():
        if name not in over_all:
            assert found[name, part].value == m.value, name
    assert named(fairness(*columns, 2, min_group=29, resamples=0))["worst_group", ""].value == 0
    few = named(fairness(*(c[::10] for c in SKEWED), 2, min_group=1000, resamples=0))
    assert few["accuracy_gap", ""].value == pytest.approx(30), "all count where all are small"


def test_a_rare_positive_class_is_scored_and_its_interval_is_wide_or_absent() -> None:
    label, prediction, group = of_counts((0, 1, 1, 400), (0, 0, 0, 600), (1, 1, 1, 3), (1, 1, 0, 1), (1, 0, 0, 996))
    found = named(fairness(label, prediction, group, 2))
    rare = found["equal_opportunity_gap", ""]
    assert rare.value == 25
    assert rare.interval is not None
    assert rare.interval[1] - rare.interval[0] > 50
    label[group == 1] = 0
    label[-1] = 1  # one positive: a third of the resamples have none, and none of the rest differs
    assert named(fairness(label, prediction, group, 2))["equal_opportunity_gap", ""].interval == (100, 100)
    assert percentiles(np.array([1.0, np.nan])) == (1, 1)
    assert percentiles(np.array([1.0, np.nan, np.nan])) is None
    assert percentiles(np.array([])) is None


@pytest.mark.parametrize(("classes", "groups", "rows"), [(2, 2, 3000), (2, 5, 700), (9, 3, 1500)])
def test_draws_that_are_kept_give_what_draws_made_anew_give(
    classes: int, groups: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, prediction, group = drawn(3, rows, classes, groups)
    parent = drawn(4, rows, classes, groups)[1]
    kept = fairness(label, prediction, group, classes, dense=parent)
    again = fairness(label, prediction, group, classes, dense=parent)
    other = fairness(label, parent, group, classes, dense=parent)
    monkeypatch.setattr(fairness_file, "_CELLS", 4096)
    in_parts = fairness(label, prediction, group, classes, dense=parent)
    monkeypatch.setattr(fairness_file, "_KEPT", 0)
    anew = fairness(label, prediction, group, classes, dense=parent)
    assert kept == again == in_parts == anew
    assert other == fairness(label, parent, group, classes, dense=parent)
    assert {m.interval for m in kept} != {m.interval for m in other}


def test_gaps_come_from_the_whole_evidence_and_not_from_batches() -> None:
    label, prediction, group = of_counts((0, 1, 1, 50), (0, 1, 0, 50), (1, 1, 1, 30), (1, 1, 0, 70))

    def parity(rows: np.ndarray) -> float:
        found = named(fairness(label[rows], prediction[rows], group[rows], 2, resamples=0))
        return found["demographic_parity_gap", ""].value if ("demographic_parity_gap", "") in found else 0.0

    assert parity(np.arange(200)) == pytest.approx(20)
    batches = np.split(np.arange(200), 10)  # each of one group: a trainer that averages them sees a gap of 0
    assert np.mean([parity(batch) for batch in batches]) == 0


def expected(members: np.ndarray, weight: np.ndarray, label: np.ndarray, group: np.ndarray) -> dict[str, np.ndarray]:
    """Rates of a mixture by the average over its members, each scored alone."""
    out: dict[str, list[np.ndarray]] = {"selection": [], "hits": [], "alarms": [], "accuracy": []}
    for answer in members:
        for name, of, what in (
            ("selection", label >= 0, answer == 1),
            ("hits", label == 1, answer == 1),
            ("alarms", label == 0, answer == 1),
            ("accuracy", label >= 0, answer == label),
        ):
            out[name].append(np.array([what[of & (group == g)].mean() for g in range(3)]))
    return {name: weight @ np.stack(value) for name, value in out.items()}


@pytest.mark.parametrize("weights", [[0.5, 0.25, 0.25], [0.61, 0.28, 0.11]])
def test_a_randomised_classifier_is_scored_by_its_expectation(weights: list[float]) -> None:
    label, _, group = drawn(1, 300, 2, 3)
    members = np.random.Generator(np.random.Philox(2)).integers(0, 2, (3, 300))
    weight = np.array(weights)
    yes = weight @ members
    prediction, chance = (yes > 0.5).astype(int), np.maximum(yes, 1 - yes)
    found = shares(fairness(label, prediction, group, 2, "abc", chance=chance, dense=label, resamples=0))
    by_hand = expected(members, weight, label, group)
    for name, like in (("selection_rate", "selection"), ("true_positive_rate", "hits"), ("false_positive_rate", "alarms")):
        assert [found[name, part] for part in "abc"] == pytest.approx(by_hand[like].tolist(), abs=1e-12)
    apart = {name: np.ptp(value) for name, value in by_hand.items()}
    assert found["demographic_parity_gap", ""] == pytest.approx(apart["selection"], abs=1e-12)
    assert found["equalized_odds_gap", ""] == pytest.approx(max(apart["hits"], apart["alarms"]), abs=1e-12)
    assert found["accuracy_gap", ""] == pytest.approx(apart["accuracy"], abs=1e-12)
    assert found["degradation_gap", ""] == pytest.approx(apart["accuracy"], abs=1e-12)
    assert found["accuracy", ""] == pytest.approx(weight @ (members == label).mean(axis=1), abs=1e-12)


def test_expected_counts_are_those_of_every_outcome() -> None:
    label, prediction, group = np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    chance = np.array([0.9, 0.6, 0.75, 1.0])
    total = np.zeros((2, 2, 2, 1))
    for kept in itertools.product([False, True], repeat=4):
        outcome = np.where(kept, prediction, 1 - prediction)
        total += np.prod(np.where(kept, chance, 1 - chance)) * tally(label, outcome, group, 2)
    assert tally(label, prediction, group, 2, chance=chance) == pytest.approx(total, abs=1e-12)


def test_a_chance_of_one_changes_nothing() -> None:
    label, prediction, group = drawn(3, 200, 2, 2)
    assert fairness(label, prediction, group, 2, chance=np.ones(200)) == fairness(label, prediction, group, 2)
    several = drawn(3, 200, 3, 2)
    assert fairness(*several, 3, chance=np.ones(200, np.float32)) == fairness(*several, 3)


def test_a_group_of_thirty_stays_one_though_chances_add_up_to_less() -> None:
    columns = of_counts((0, 1, 1, 30), (1, 0, 0, 30))
    chance = np.repeat([0.7, 1], 30)
    assert tally(*columns, 2, chance=chance)[0].sum() < 30
    found = named(fairness(*columns, 2, chance=chance, min_group=30, resamples=0))
    assert found["worst_group", ""].value == pytest.approx(70)
    assert ("accuracy_gap", "") in found


def naive_interval(columns: Columns, measure: Callable[..., float], resamples: int) -> tuple[float, float]:
    """The same bootstrap as a plain loop over resamples, on the rows in the order that draws are defined on: by group and cell."""
    label, prediction, group = columns
    order = np.lexsort((prediction, label, group))
    label, prediction, group = label[order], prediction[order], group[order]
    draws = {
        g: np.random.Generator(np.random.Philox([0, g])).integers((group == g).sum(), size=(resamples, (group == g).sum()))
        for g in np.unique(group).tolist()
    }
    values = []
    for r in range(resamples):
        rows = np.concatenate([np.flatnonzero(group == g)[draw[r]] for g, draw in draws.items()])
        values.append(measure(label[rows], prediction[rows], group[rows]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def test_intervals_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = drawn(5, 240, 2, 3)
    columns = columns[0], columns[1], columns[2] + 2  # numbers need not start at 0

    def odds(label: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        def apart(y: int) -> float:
            by = [prediction[(group == g) & (label == y)].mean() for g in (2, 3, 4)]
            return float(max(by) - min(by))

        return 100 * max(apart(0), apart(1))

    def accuracy(label: np.ndarray, prediction: np.ndarray, group: np.ndarray) -> float:
        return 100 * float(np.mean(label == prediction))

    found = fairness(*columns, 2, resamples=200)
    for name, measure in (("equalized_odds_gap", odds), ("accuracy", accuracy)):
        interval = named(found)[name, ""].interval
        assert interval == pytest.approx(naive_interval(columns, measure, 200), abs=1e-9)
    monkeypatch.setattr("tasks.common.fairness._DRAWS", 1)
    monkeypatch.setattr("tasks.common.fairness._CELLS", 100)
    assert fairness(*columns, 2, resamples=200) == found, "memory does not change a draw"


def test_intervals_cover() -> None:
    """Of an accuracy gap of 20 points, over fresh test sets."""
    draw = np.random.Generator(np.random.Philox(7))
    group, label = np.repeat([0, 1], 150), np.zeros(300, int)
    inside = 0
    for _ in range(150):
        prediction = (draw.random(300) < np.where(group == 0, 0.1, 0.3)).astype(int)
        interval = named(fairness(label, prediction, group, 2, resamples=200))["accuracy_gap", ""].interval
        assert interval is not None
        inside += interval[0] <= 20 <= interval[1]
    assert 0.88 <= inside / 150 <= 1


@settings(max_examples=40)
@given(st.integers(2, 4), st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(1, 80), st.booleans())
def test_figures_are_in_range_and_neither_order_nor_names_of_groups_matter(
    classes: int, groups: int, seed: int, rows: int, sure: bool
) -> None:
    columns = drawn(seed, rows, classes, groups)
    draw = np.random.Generator(np.random.Philox(seed + 1))
    # multiples of 2^-24, as all float32 of this range are, add up without rounding
    chance = None if sure or classes > 2 else draw.uniform(0.5, 1, rows).astype(np.float32)
    dense = draw.integers(0, classes, rows)
    found = fairness(*columns, classes, chance=chance, dense=dense, resamples=50, min_group=10)
    assert len(named(found)) == len(found)
    for m in found:
        assert np.isfinite(m.value)
        sums = {"eopp0": 100 * classes, "eopp1": 100 * classes, "eodd": 200 * classes, "nar": groups, "undefined_classes": classes}
        high = sums.get(m.name, 100 if m.unit else 1)
        lost = m.name.startswith("degradation")  # from 100 gained to 100 lost
        assert -100 * lost <= m.value <= (200 if lost else high) + 1e-9
        assert m.interval is None or m.interval[0] <= m.interval[1]
    order = draw.permutation(rows)
    moved = [c if c is None else c[order] for c in (*columns, chance, dense)]
    assert fairness(*moved[:3], classes, chance=moved[3], dense=moved[4], resamples=50, min_group=10) == found

    other = columns[0], columns[1], draw.permutation(groups)[columns[2]]
    renamed = fairness(*other, classes, chance=chance, dense=dense, resamples=0, min_group=10)
    of_all, again = ({k: v for k, v in shares(each).items() if k[1] in ("", "mean")} for each in (found, renamed))
    assert again == pytest.approx(of_all, abs=1e-12)


@settings(max_examples=30)
@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 2**32 - 1), st.integers(10, 60))
def test_groups_that_are_answered_alike_lie_no_way_apart(classes: int, groups: int, seed: int, rows: int) -> None:
    label, prediction, _ = drawn(seed, rows, classes, 1)
    columns = np.tile(label, groups), np.tile(prediction, groups), np.repeat(np.arange(groups), rows)
    for m in fairness(*columns, classes, dense=columns[0], resamples=0, min_group=1):
        if m.name.endswith(("gap", "_std", "_excess")) or m.name in ("eopp0", "eopp1", "eodd", "nar"):
            assert m.value == pytest.approx(0, abs=1e-9)
        if m.name.endswith("ratio") or m.name in ("pqd", "dpm"):
            assert m.value == pytest.approx(1)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_intervals_of_shares_hold_the_share(seed: int) -> None:
    for m in fairness(*drawn(seed, 300, 2, 2), 2, resamples=200):
        if m.unit == "%" and m.name not in ("majority", "worst_group", "worst_subgroup"):  # a maximum leans to one side
            assert m.interval is not None
            assert m.interval[0] <= m.value <= m.interval[1]


def test_ratio_and_gap_leave_out_what_the_data_lack() -> None:
    rate = np.array([[0.2, 0.5, np.nan], [0.4, np.nan, 0.9], [0.1, 0.3, 0.0]])  # row 0 is the data
    assert gap(rate) == pytest.approx([0.3, np.nan, 0.2], nan_ok=True)
    assert ratio(rate) == pytest.approx([0.4, np.nan, 1 / 3], nan_ok=True)
    assert np.isnan(gap(rate[:, 1:])).all(), "row 0 has one group"
    assert np.isnan(ratio(np.zeros((1, 2)))).all()


def test_every_figure_has_a_unit_and_a_direction() -> None:
    label, prediction, group = SKEWED
    counts = tally(label, prediction, group, 2, dense=label)[None]
    assert {name for name, _ in figures(counts, ["a", "b"])} == set(KINDS)


def test_columns_of_small_types_are_scored_as_those_of_large_ones() -> None:
    label, prediction, group = (np.arange(600) % k for k in (3, 2, 127))
    small = (c.astype(np.int8) for c in (label, prediction, group))
    assert fairness(*small, 3, resamples=20) == fairness(label, prediction, group, 3, resamples=20)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": np.array([0, 1])}, "prediction has shape (3,), label has (2,)"),
        ({"group": np.array([0, -1, 0])}, "group -1 is negative"),
        ({"prediction": np.array([0, 1, 2])}, "prediction goes from 0 to 2, with 2 classes it is from 0 to 1"),
        ({"label": np.array([-1, 1, 1])}, "label goes from -1 to 1"),
        ({"label": np.array([0.0, 1.0, 1.0])}, "label is not one column of whole numbers"),
        ({"label": np.zeros((3, 1), int)}, "label is not one column"),
        ({k: np.zeros(0, int) for k in ("label", "prediction", "group")}, "no example to score"),
        ({"dense": np.array([0, -1, 1])}, "dense is neither -1 in every row"),
        ({"dense": np.array([0, 2, 1])}, "dense is neither -1 in every row"),
        ({"chance": np.array([1.0, 0.4, 1.0])}, "chance is not from 0.5 to 1"),
        ({"chance": np.array([1.0, np.nan, 1.0])}, "chance is not from 0.5 to 1"),
        ({"chance": np.array([1.0])}, "chance has shape (1,)"),
        ({"chance": np.array([1.0, 0.9, 1.0]), "classes": 3}, "chance under 1 with 3 classes"),
        ({"classes": 1}, "1 classes: fairness needs at least 2"),
        ({"favourable": 2}, "favourable is 2"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_one_line(change: dict[str, object], says: str) -> None:
    good: dict[str, object] = {"label": np.array([0, 1, 1]), "prediction": np.array([0, 1, 0]), "group": np.array([0, 1, 0])}
    with pytest.raises(ValueError) as error:
        fairness(**{**good, "classes": 2, **change})  # type: ignore[arg-type]
    assert says in str(error.value)
    assert "\n" not in str(error.value)
