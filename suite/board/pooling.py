"""The noise of paired differences, each drawn towards that of all comparisons of its case.

Three seeds leave two degrees of freedom to a difference of two rows; the other rows of the case, of the same measure, tell what such
differences scatter by.  True variances are taken as drawn from the law that ranks take theirs from (`statistics.law`, Smyth 2004): a
difference's own variance s² with d degrees of freedom becomes (d0 s0² + d s²) / (d0 + d), with d0 + d of them.  The differences
themselves are pooled, not the rows: rows of one seed share a parent, data order and initial weights, and what two of them have in
common falls out of their difference alone.

Three guards, since comparisons of one case are not independent and seldom equally noisy; their values were set by simulation
(`tests/suite/board/test_pooling.py`), before any row was judged by them:

- the law counts for `MOST` degrees of freedom at most: that the comparisons at hand look alike does not show that they are;
- a variance that the law would exceed once in twenty (`ODD`) is taken as it was seen, as ranks take every row that is wilder than the law's;
- under `LEAST_ROWS` rows nothing is pooled: a difference has its own t interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from suite.board import statistics
from suite.board.statistics import Noise

MOST = 6.0
ODD = 0.05
LEAST_ROWS = 10
PAIRS = 5_000  #: of rows, beyond which each row is only held against its next neighbours


@dataclass(frozen=True)
class Prior:
    """What the comparisons of a case say of any one's variance before its own seeds do."""

    variance: float  #: centre of the law
    freedom: float  #: degrees of freedom that it is worth
    most: float  #: those of all comparisons together, which no single one can have more than
    rows: int  #: that were compared


def of_pairs(rows: Sequence[Mapping[int, float]]) -> Prior | None:
    """From all differences of two rows, each over the seeds that both have; None where rows are too few to tell.

    Args:
        rows: a measure by seed, one entry a row.
    """
    told = [row for row in rows if len(row) >= statistics.LEAST_SEEDS]
    if len(told) < LEAST_ROWS:
        return None
    seeds = sorted({seed for row in told for seed in row})
    table = np.array([[row.get(seed, math.nan) for seed in seeds] for row in told])
    first, second = _pairs(len(told))
    variance, freedom = _variances(table[first] - table[second])
    cells = int((~np.isnan(table)).sum())
    # what is left of the values when rows' and seeds' effects are taken out
    return _prior(variance, freedom, cells - len(told) - len(seeds) + 1, len(told))


def of_rows(rows: Sequence[Mapping[int, float]]) -> Prior | None:
    """From the rows' own scatter, where a row's value is itself a difference of two of its measures."""
    told = [row for row in rows if len(row) >= statistics.LEAST_SEEDS]
    if len(told) < LEAST_ROWS:
        return None
    longest = max(map(len, told))
    variance, freedom = _variances(np.array([[*row.values(), *[math.nan] * (longest - len(row))] for row in told]))
    return _prior(variance, freedom, float(freedom.sum()), len(told))


def difference(values: Sequence[float], prior: Prior | None) -> Noise:
    """The noise of one seed's difference, from those of n seeds, at least two, and from what others' say of it."""
    n = len(values)
    own = Noise(float(np.std(values, ddof=1)), n - 1)
    if prior is None:
        return own
    deviation, freedom = moderated(np.array([own.deviation**2]), n - 1, prior)
    return Noise(math.sqrt(float(deviation[0])), freedom)


def moderated(variance: np.ndarray, freedom: float, prior: Prior) -> tuple[np.ndarray, float]:
    """Variances (n,) of differences over as many seeds each, drawn towards the prior's; and their degrees of freedom."""
    from scipy import special

    drawn = (prior.freedom * prior.variance + freedom * variance) / (prior.freedom + freedom)
    odd = special.fdtrc(freedom, prior.freedom, variance / prior.variance) < ODD
    return np.where(odd, variance, drawn), max(freedom, min(prior.freedom + freedom, prior.most))


def half_width(noise: Noise, n: int, tail: float = 0.025) -> float:
    """Half width of the interval of a mean over n seeds that leaves a chance of `tail` on either side."""
    from scipy import special

    return -float(special.stdtrit(noise.freedom, tail)) * noise.deviation / math.sqrt(n)


def _prior(variance: np.ndarray, freedom: np.ndarray, most: float, rows: int) -> Prior | None:
    """None where fewer than two comparisons differ at all, or nothing is left over."""
    if (variance > 0).sum() < 2 or most < 1:
        return None
    centre, worth = statistics.law(variance, freedom)
    return Prior(centre, min(worth, MOST), float(most), rows)


def _variances(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances and their degrees of freedom of the rows (n, seeds) that have three values or more; NaN: none."""
    count = (~np.isnan(values)).sum(1)
    values, count = values[count >= statistics.LEAST_SEEDS], count[count >= statistics.LEAST_SEEDS]
    filled = np.nan_to_num(values)
    mean = filled.sum(1) / np.maximum(count, 1)
    squares = (np.where(np.isnan(values), 0, values - mean[:, None]) ** 2).sum(1)
    # rounding is no noise: it would tell the law of comparisons that are calm beyond measure
    squares[squares < 1e-24 * np.abs(filled).max(initial=0) ** 2] = 0
    return squares / np.maximum(count - 1, 1), (count - 1).astype(float)


def _pairs(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows; of so many that these exceed `PAIRS`, each row with as many next ones as come to it, around."""
    first, second = np.triu_indices(rows, 1)
    if len(first) <= PAIRS:
        return first, second
    steps = max(1, PAIRS // rows)
    first = np.repeat(np.arange(rows), steps)
    return first, (first + np.tile(np.arange(1, steps + 1), rows)) % rows
