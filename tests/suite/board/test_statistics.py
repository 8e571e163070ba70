"""Ranks and intervals: properties that must hold whatever the numbers are."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from suite.board import statistics
from suite.board.statistics import Noise, Standing

# few shapes: each new one costs an integral; thousandths: tests run with denormals flushed
value = st.integers(-50_000, 150_000).map(lambda v: v / 1000)
row = st.dictionaries(st.integers(0, 3), value, min_size=1, max_size=4)
rows = st.lists(row, min_size=1, max_size=4)
whole = st.integers(2, 4).flatmap(
    lambda n: st.lists(st.lists(value, min_size=n, max_size=n).map(lambda v: dict(enumerate(v))), min_size=2, max_size=4)
)


def alike(table: np.ndarray) -> list[dict[int, float]]:
    return [dict(enumerate(map(float, r))) for r in table]


pair = st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(value, min_size=n, max_size=n), min_size=2, max_size=2))


@settings(max_examples=40)
@given(pair)
@example([[0.409, 0.477, -27.654, 0.089]] * 2)  # what is left over is rounding, another in each row
def test_noise_of_two_methods_is_the_two_way_residual(values: list[list[float]]) -> None:
    table = np.array(values)  # of two rows neither can be called the wilder
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    freedom = table.shape[1] - 1
    for found in statistics.noise(alike(table)):
        assert found.freedom == pytest.approx(freedom)
        assert found.deviation == pytest.approx(math.sqrt((residual**2).sum() / freedom), rel=1e-6, abs=1e-6)


@settings(max_examples=40)
@given(whole, st.lists(value, min_size=6, max_size=6))
def test_what_a_seed_does_to_all_methods_is_no_noise(values: list[dict[int, float]], shift: list[float]) -> None:
    moved = [{s: v + shift[s] for s, v in r.items()} for r in values]
    for before, after in zip(statistics.noise(values), statistics.noise(moved), strict=True):
        assert after.deviation == pytest.approx(before.deviation, rel=1e-4, abs=1e-6)


def test_a_seed_more_for_one_method_neither_adds_noise_nor_freedom() -> None:
    values = [{0: 90.0, 1: 91.0, 2: 89.5}, {0: 88.2, 1: 89.1, 2: 87.4}]
    more = [values[0] | {3: 70.0}, values[1]]
    before, after = statistics.noise(values), statistics.noise(more)
    assert [n.freedom for n in after] == pytest.approx([n.freedom for n in before])
    assert [n.deviation for n in after] == pytest.approx([n.deviation for n in before])


def test_without_a_common_seed_the_scatter_speaks() -> None:
    values = [{0: 1.0, 1: 2.0, 2: 3.0}, {3: 4.0, 4: 5.0, 5: 7.0}]
    assert statistics.noise(values) == statistics.scatter(values)
    # variances 1 and 7/3, which two degrees of freedom each do not tell apart: pooled 5/3; the wilder row keeps its own
    assert statistics.scatter(values) == [Noise(pytest.approx(math.sqrt(5 / 3)), 4), Noise(pytest.approx(math.sqrt(7 / 3)), 4)]
    assert statistics.noise([{0: 1.0}])[0].freedom == 0
    assert statistics.noise([]) == []


def wild(draw: np.random.Generator, rows: int, deviation: float) -> list[dict[int, float]]:
    """Equal methods over three seeds, the last of them noisier."""
    return alike(draw.normal(0, 3, 3) + draw.normal(size=(rows, 3)) * np.array([1.0] * (rows - 1) + [deviation])[:, None])


def test_a_wild_method_does_not_blur_the_calm_ones() -> None:
    draw = np.random.Generator(np.random.Philox(5))
    found = [statistics.noise(wild(draw, 10, 10.0)) for _ in range(100)]
    calm = float(np.median([n[0].deviation for n in found]))
    assert 0.7 < calm < 2.0  # one; a noise pooled over all has 3.3
    assert float(np.median([n[-1].deviation for n in found])) > 4


def test_a_wild_method_is_seldom_called_different_by_the_others_calm() -> None:
    draw = np.random.Generator(np.random.Philox(6))
    boards = [statistics.standings(wild(draw, 10, 10.0), higher_is_better=True) for _ in range(200)]
    wrong = sum(any(p.worst < 10 for p in board) for board in boards)
    assert wrong <= 32  # 19 expected, 54 with noise pooled over all rows


def test_moderated_noise_by_hand() -> None:
    squares, freedom = np.array([2.0, 2.0, 2.0, 200.0]), np.full(4, 2.0)
    calm, *_, loud = statistics.moderated(squares, freedom)
    # log variances of two degrees of freedom vary by trigamma(1) = 1.645; these vary by ln(100)^2 / 4 = 5.302
    half = 0.59793  # trigamma(0.59793) = 5.302 - 1.645
    centre = math.exp(math.log(100) / 4 + 0.5772 + special.digamma(half) - math.log(half))
    assert calm.freedom == pytest.approx(2 * half + 2, abs=1e-3)
    assert calm.deviation**2 == pytest.approx((2 * half * centre + 2) / (2 * half + 2), rel=1e-3)
    assert loud.deviation == 10


@settings(max_examples=60)
@given(rows)
def test_ranks_are_ranges_within_the_board(values: list[dict[int, float]]) -> None:
    places = statistics.standings(values, higher_is_better=True)
    ranked = [p for p in places if p.best]
    assert len(ranked) == sum(len(v) >= 3 for v in values)
    for p, v in zip(places, values, strict=True):
        if len(v) < 3:
            assert (p.best, p.worst) == (0, 0)
        else:
            assert 1 <= p.best <= p.worst <= len(ranked)
    if ranked:
        assert min(p.best for p in ranked) == 1


@settings(max_examples=40)
@given(whole)
def test_lower_is_better_turns_the_board_upside_down(values: list[dict[int, float]]) -> None:
    up = statistics.standings(values, higher_is_better=True)
    down = statistics.standings(values, higher_is_better=False)
    n = sum(p.best > 0 for p in up)
    for a, b in zip(up, down, strict=True):
        assert (a.best, a.worst) == ((n + 1 - b.worst, n + 1 - b.best) if b.best else (0, 0))


@settings(max_examples=40)
@given(whole, value)
@example([{0: 0.0, 1: -43.0, 2: 0.0}, {0: 36.0, 1: -15.0, 2: 66.0}], 1.0)  # whose noise is one but for rounding
def test_a_common_offset_changes_no_rank(values: list[dict[int, float]], offset: float) -> None:
    rounded = [{s: round(v) for s, v in r.items()} for r in values]  # whole numbers: the offset adds exactly
    moved = [{s: v + round(offset) for s, v in r.items()} for r in rounded]
    here, there = (statistics.standings(v, higher_is_better=True) for v in (rounded, moved))
    assert [(p.best, p.worst) for p in here] == [(p.best, p.worst) for p in there]


def test_far_apart_is_told_apart_and_close_together_is_not() -> None:
    wobble = [0.0, 0.1, -0.1]
    apart = [{s: level + wobble[s] + 0.01 * ((s + i) % 2) for s in range(3)} for i, level in enumerate((90, 80, 70))]
    assert [(p.best, p.worst) for p in statistics.standings(apart, higher_is_better=True)] == [(1, 1), (2, 2), (3, 3)]
    close = [{0: 90.0, 1: 90.5, 2: 89.6}, {0: 90.3, 1: 89.9, 2: 90.2}, {0: 89.8, 1: 90.1, 2: 90.4}]
    assert {(p.best, p.worst) for p in statistics.standings(close, higher_is_better=True)} == {(1, 3)}


def test_tukey_calls_equal_methods_different_in_about_five_of_a_hundred_boards() -> None:
    draw = np.random.Generator(np.random.Philox(7))
    wrong = 0
    for _ in range(300):
        seeds = draw.normal(0, 3, 3)  # a seed is good or bad for all alike
        values = [{s: float(seeds[s] + draw.normal()) for s in range(3)} for _ in range(4)]
        wrong += any(p.worst < 4 for p in statistics.standings(values, higher_is_better=True))
    assert 4 <= wrong <= 30  # 15 expected; these bounds are missed once in a thousand


def test_intervals_of_means_hold_the_truth_where_seeds_do_not_differ() -> None:
    draw = np.random.Generator(np.random.Philox(8))
    held = []
    for _ in range(200):
        values = [{s: float(draw.normal(k, 1)) for s in range(3)} for k in range(4)]
        half = statistics.interval(values[0], statistics.noise(values)[0])
        held.append(abs(np.mean(list(values[0].values()))) <= half)
    assert 0.89 <= float(np.mean(held)) <= 0.99


def test_a_seedless_method_is_ranked_with_one_row() -> None:
    values = [{0: 30.0, 1: 31.0, 2: 30.5}, {0: 31.5, 1: 32.4, 2: 32.0}, {0: 20.0}]
    places = statistics.standings(values, higher_is_better=True, seedless=[False, False, True])
    assert places[2].best > 0
    assert statistics.standings(values, higher_is_better=True)[2].best == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), min_size=1, max_size=8))
def test_lanes_join_neighbours_and_none_lies_in_another(spans: list[tuple[int, int]]) -> None:
    n = len(spans)
    ordered = [Standing(0, 0, min(i + 1, a), min(n, max(i + 1, i + 1 + b))) for i, (a, b) in enumerate(spans)]
    found = statistics.lanes(ordered)
    assert all(0 <= a < b < n for a, b in found)
    assert not any(x != y and x[0] <= y[0] and y[1] <= x[1] for x in found for y in found)
    for i, place in enumerate(ordered):  # whoever cannot be told from the row below shares a lane with it
        if place.worst > i + 1:
            assert any(a <= i < i + 1 <= b for a, b in found)
    columns = statistics.lane_columns(found)
    for i, (_, last) in enumerate(found):  # what is drawn in one column does not touch
        assert all(last < found[j][0] for j in range(i + 1, len(found)) if columns[j] == columns[i])
    assert max(columns, default=0) == max((sum(a <= i <= b for a, b in found) for i in range(n)), default=0)


@settings(max_examples=100)
@given(st.lists(st.tuples(value, value), min_size=1, max_size=12))
def test_the_front_is_exactly_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    found = statistics.front(points)
    beaten = {i for i, p in enumerate(points) if any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)}
    assert {points[i] for i in found} == {p for i, p in enumerate(points) if i not in beaten}
    assert [points[i][0] for i in found] == sorted((points[i][0] for i in found), reverse=True)


def test_speedups_of_seeds_join_in_the_logarithm() -> None:
    middle, low, high = statistics.log_ratio([(2.0, 1.98, 2.02), (0.5, 0.495, 0.505)])
    assert middle == pytest.approx(1.0)
    assert low < 0.01  # two seeds this far apart say nothing: t with one degree of freedom
    assert high == pytest.approx(1 / low)
    one = statistics.log_ratio([(1.5, 1.47, 1.53)])
    assert one == pytest.approx((1.5, 1.47, 1.53), rel=1e-3)
    assert math.isnan(statistics.log_ratio([(1.5, None, None)])[1])


def test_domination_is_a_probability() -> None:
    errors = (0.1, 0.1)
    assert statistics.dominated((1, 90), (2, 92), errors, errors) > 0.99
    assert statistics.dominated((2, 92), (1, 90), errors, errors) < 0.01
    assert statistics.dominated((1, 90), (1, 90), errors, errors) == pytest.approx(0.25)
    assert statistics.dominated((1, 90), (2, 91), (0, 0), (0, 0)) == 1


@pytest.mark.parametrize(
    ("half", "most", "digits"),
    [(0.4, 1, 1), (0.04, 1, 1), (0.04, 2, 2), (4.0, 1, 0), (1.2, 1, 1),
     (12.0, 1, 0), (0.02, 4, 3), (0.3, 2, 1), (math.nan, 2, 2), (0.0, 1, 1)],
)  # fmt: skip
def test_no_digit_that_the_interval_does_not_support(half: float, most: int, digits: int) -> None:
    assert statistics.decimals(half, most) == digits


def test_area_along_a_curve_by_hand() -> None:
    shares = [1.0, 0.5, 0.25]
    values = np.array([[80.0, 70.0, 60.0], [80.0, 80.0, 80.0]])
    whole = (0.5 * 75 + 0.25 * 65) / 0.75
    assert statistics.area(shares, values, 0.25) == pytest.approx([whole, 80])
    # cut at 0.4: there the curve is at 70 - 0.1 / 0.25 * 10 = 66
    assert statistics.area(shares, values, 0.4) == pytest.approx([(0.5 * 75 + 0.1 * 68) / 0.6, 80])


def test_bootstrap_over_seeds_holds_the_mean_and_is_the_same_each_time() -> None:
    values = np.array([80.0, 81.0, 83.0])
    low, high = statistics.bootstrap(values)
    assert 80 <= low < values.mean() < high <= 83
    assert (low, high) == statistics.bootstrap(values)
    assert statistics.bootstrap(np.array([5.0, 5.0])) == (5.0, 5.0)


@settings(max_examples=40)
@given(st.lists(value, min_size=2, max_size=8))
def test_the_paired_interval_is_scipys(values: list[float]) -> None:
    mean, half = statistics.t_interval(values)
    if np.ptp(values) == 0:
        assert (mean, half) == (pytest.approx(values[0]), pytest.approx(0, abs=1e-9))
        return
    found = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == (pytest.approx(found.low, abs=1e-9), pytest.approx(found.high, abs=1e-9))


curve = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=7)


@given(curve, st.integers(0, 20), st.integers(1, 30))
def test_the_dominated_area_is_what_counting_squares_gives(points: list[tuple[int, int]], floor: int, corner: int) -> None:
    quality, cost = (np.array(v, float) for v in zip(*points, strict=True))
    squares = sum(
        any(q >= high + 1 and c <= left for q, c in points) for high in range(floor, 40) for left in range(corner)
    )  # a square is dominated where a point is at least as good as its best corner
    assert statistics.dominated_area(quality, cost, floor, corner) == squares
    several = statistics.dominated_area(np.array([quality, quality - 1]), np.array([cost, cost]), floor, corner)
    assert several[0] == squares
    assert several[1] <= squares


@given(curve, st.integers(-1, 41))
def test_the_cost_at_a_level_is_the_least_along_a_finely_walked_curve(points: list[tuple[int, int]], level: int) -> None:
    quality, cost = (np.array(v, float) for v in zip(*points, strict=True))
    found = float(statistics.cost_at(quality, cost, level))
    crossings = [float(c) for q, c in points if q == level]
    for (q1, c1), (q2, c2) in pairwise(points):
        if min(q1, q2) < level < max(q1, q2):
            crossings.append(c1 + (c2 - c1) * (level - q1) / (q2 - q1))
    if crossings:
        assert found == pytest.approx(min(crossings))
    else:
        assert math.isnan(found)
        assert (quality > level).all() or (quality < level).all()


def test_a_resampled_mean_has_the_interval_of_the_bootstrap_and_what_a_draw_leaves_undefined_has_none() -> None:
    values = np.array([1.0, 2.0, 4.0, 3.5])
    assert statistics.resampled(values, lambda means: means) == pytest.approx(statistics.bootstrap(values))
    table = np.array([[[80.0, 5.0], [70.0, 3.0]], [[82.0, 6.0], [71.0, 2.0]], [[78.0, 4.0], [69.0, 1.0]]])
    low, high = statistics.resampled(table, lambda m: statistics.dominated_area(m[..., 0], m[..., 1], 60, 10))
    assert low < float(statistics.dominated_area(table.mean(0)[:, 0], table.mean(0)[:, 1], 60, 10)) < high
    nowhere = statistics.resampled(table, lambda m: statistics.cost_at(m[..., 0], m[..., 1], 81.0))
    assert all(map(math.isnan, nowhere))
    assert all(map(math.isnan, statistics.resampled(np.empty(0), lambda m: m)))


@given(st.lists(st.integers(1, 50), max_size=6), st.integers(0, 6))
def test_a_run_that_reached_nothing_took_longer_than_any_that_did(values: list[int], more: int) -> None:
    runs = len(values) + more
    if runs:
        assert statistics.median_reached(values, runs) == np.median([*values, *[math.inf] * more])


def test_intervals_of_columns_are_those_of_their_values_one_by_one() -> None:
    values = np.array([[1.0, 2.0, np.nan, np.nan], [2.0, 4.0, 5.0, np.nan], [4.0, 3.0, np.nan, np.nan], [0.5, np.nan, 7.0, np.nan]])
    means, halves = statistics.t_intervals(values)
    for i in (0, 1):
        assert (means[i], halves[i]) == statistics.t_interval(values[~np.isnan(values[:, i]), i].tolist())
    assert means[2] == 6
    assert np.isnan([halves[2], means[3], halves[3]]).all()  # two values have no interval, none have no mean


@given(st.integers(2, 6), st.integers(2, 9), st.integers(0, 10**6))
def test_a_layout_with_its_seeds_solved_for_first_fits_as_the_design_itself(rows: int, seeds: int, key: int) -> None:
    draw = np.random.default_rng(key)
    there = draw.random((rows, seeds)) < 0.8
    there[draw.integers(rows, size=seeds), np.arange(seeds)] = True  # rows and seeds are those of which there is a value
    there[np.arange(rows), draw.integers(seeds, size=rows)] = True
    row, column = np.nonzero(there)
    weight = draw.uniform(0.3, 1, rows)[row]
    y = draw.normal(size=len(row))
    dense, eliminated = (fit(row, column, weight, y) for fit in (statistics._dense, statistics._eliminated))
    for a, b in zip(dense[:2], eliminated[:2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert dense[2] == eliminated[2]


def test_resampling_of_many_seeds_takes_the_draws_of_a_plain_mean() -> None:
    values = np.random.default_rng(0).normal(size=(30, 2))
    found = statistics.resampled(values, lambda m: m[..., 0] - m[..., 1])
    assert found == pytest.approx(statistics.bootstrap(values[:, 0] - values[:, 1]), rel=1e-12)
