"""Our statistics beside those of scipy, statsmodels and pingouin, wherever these compute the same thing."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from suite.board import statistics
from suite.board.statistics import Noise
from suite.board.tukey import studentized_range
from tasks.common import intervals

shares = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def drawn(seed: int, rows: int, seeds: int, deviations: float | np.ndarray = 1.0) -> list[dict[int, float]]:
    """Rows with effects of their own and of the seeds, and normal noise."""
    draw = np.random.default_rng(seed)
    y = (
        draw.normal(80, 5, (rows, 1))
        + draw.normal(0, 2, seeds)
        + draw.normal(0, 1, (rows, seeds)) * np.reshape(deviations, (-1, 1))
    )
    return [dict(enumerate(map(float, r))) for r in y]


@given(shares)
def test_wilson_is_that_of_statsmodels(share: tuple[int, int]) -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits, count = share
    expected = proportion_confint(hits, count, alpha=0.05, method="wilson")
    assert intervals.wilson(hits, count) == pytest.approx([100 * v for v in expected], abs=1e-9)


@given(shares, shares)
def test_newcombe_is_that_of_statsmodels(ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it divides by variances that it does not use
        expected = confint_proportions_2indep(*ours, *theirs, compare="diff", method="newcomb", alpha=0.05)
    assert intervals.newcombe(*ours, *theirs) == pytest.approx([100 * v for v in expected], abs=1e-9)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_t_interval_is_that_of_pingouin_and_scipy(seeds: int) -> None:
    import pingouin

    values = np.random.default_rng(seeds).normal(1, 2, seeds)
    mean, half = statistics.t_interval(values.tolist())
    low, high = pingouin.ttest(values, 0)["CI95"].iloc[0]
    assert [mean - half, mean + half] == pytest.approx([low, high], abs=0.006)  # it rounds to two decimals
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert [mean - half, mean + half] == pytest.approx([interval.low, interval.high], abs=1e-12)


@pytest.mark.parametrize("groups", [2, 3, 7, 20])
@pytest.mark.parametrize("freedom", [2, 4, 11, 60])
def test_the_studentized_range_is_that_of_scipy_and_statsmodels(groups: int, freedom: int) -> None:
    from statsmodels.stats.libqsturng import qsturng

    ours = studentized_range(groups, freedom)
    assert ours == pytest.approx(stats.studentized_range.ppf(0.95, groups, freedom), rel=1e-5)
    assert ours == pytest.approx(float(qsturng(0.95, groups, freedom)), rel=2e-3)  # a fit to a printed table


@pytest.mark.parametrize("seed", range(3))
def test_one_noise_is_the_residual_of_statsmodels_two_way_layout(seed: int) -> None:
    import statsmodels.formula.api as smf

    # of two rows that have the same seeds the residuals are alike, so their noise is one
    values = drawn(seed, rows=2, seeds=6)
    long = pd.DataFrame([{"row": str(i), "seed": str(s), "y": y} for i, row in enumerate(values) for s, y in row.items()])
    fitted = smf.ols("y ~ C(row) + C(seed)", long).fit()
    for own in statistics.noise(values):
        assert own.deviation == pytest.approx(float(np.sqrt(fitted.mse_resid)), rel=1e-9)
        assert own.freedom == pytest.approx(float(fitted.df_resid), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_two_rows_of_the_same_seeds_are_told_apart_as_by_a_paired_t_test(seed: int) -> None:
    import pingouin

    values = drawn(seed, rows=2, seeds=5)
    ours = [statistics.Entrant(*e) for e in zip(values, statistics.noise(values), statistics.scatter(values), strict=True)]
    gap, least = statistics.compare(*ours, 2)
    tested = stats.ttest_rel(list(values[1].values()), list(values[0].values()))
    interval = tested.confidence_interval()
    assert [gap - least, gap + least] == pytest.approx([interval.low, interval.high], rel=1e-5)
    assert float(pingouin.ttest(list(values[1].values()), list(values[0].values()), paired=True)["p_val"].iloc[0]) == pytest.approx(
        tested.pvalue, abs=1e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_one_noise_and_loose_rows_are_compared_as_by_tukeys_test_of_scipy(seed: int) -> None:
    values = [list(row.values()) for row in drawn(seed, rows=4, seeds=6)]
    pooled = Noise(float(np.sqrt(np.mean([np.var(v, ddof=1) for v in values]))), 4 * 5)
    interval = stats.tukey_hsd(*values).confidence_interval()
    least = statistics.least_difference(pooled, pooled, 4, 6, 6)
    assert least == pytest.approx(float(interval.high[0, 1] - interval.low[0, 1]) / 2, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_unlike_noise_are_compared_as_by_games_and_howells_test_of_pingouin(seed: int) -> None:
    import pingouin

    values = [list(r.values()) for r in drawn(seed, rows=3, seeds=8, deviations=np.array([0.3, 1.0, 4.0]))]
    long = pd.DataFrame([{"row": i, "y": y} for i, row in enumerate(values) for y in row])
    found = pingouin.pairwise_gameshowell(long, dv="y", between="row")
    for _, line in found.iterrows():
        a, b = values[int(line["A"])], values[int(line["B"])]
        ours, theirs = (Noise(float(np.std(v, ddof=1)), len(v) - 1) for v in (a, b))
        least = statistics.least_difference(ours, theirs, 3, len(a), len(b))
        # ours rounds the degrees of freedom down, so at most it asks for more
        exact = float(stats.studentized_range.ppf(0.95, 3, line["df"])) / np.sqrt(2) * float(line["se"])
        assert exact <= least * (1 + 1e-5)
        floored = float(stats.studentized_range.ppf(0.95, 3, np.floor(line["df"]))) / np.sqrt(2) * float(line["se"])
        assert least == pytest.approx(floored, rel=1e-5)


def test_a_bootstrap_over_seeds_is_that_of_scipy() -> None:
    values = np.random.default_rng(4).gamma(2, 3, 12)
    found = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0))
    low, high = statistics.bootstrap(values)
    assert [low, high] == pytest.approx([found.confidence_interval.low, found.confidence_interval.high], abs=0.15)
