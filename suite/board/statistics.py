"""Who is better, and is it certain?  Pure functions from numbers to numbers.

Methods of one seed share initial weights, data order and test rows, so seeds are blocks: the noise that
remains when method and seed effects are taken out is pooled over all methods, which gives three seeds
enough degrees of freedom to say something.  Comparisons are Tukey's, as every pair is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

LEAST_SEEDS = 3


@dataclass(frozen=True)
class Noise:
    """Residual standard deviation of one seed's value, and its degrees of freedom."""

    deviation: float
    freedom: int


@dataclass(frozen=True)
class Standing:
    """A row's mean over seeds, its 95 % interval, and the ranks that it may have."""

    mean: float
    half: float  #: NaN where nothing can be said
    best: int  #: 0: not ranked
    worst: int


def noise(values: Sequence[Mapping[int, float]]) -> Noise:
    """Pooled residual noise of methods (rows) over seeds (keys): least squares of the two-way layout method + seed.

    Rows need not have the same seeds.  Where the layout leaves nothing over (one row, or no seed in two
    rows), the scatter within methods, which contains the seeds' own effects and is therefore cautious.
    """
    cells = [(i, seed, value) for i, row in enumerate(values) for seed, value in row.items()]
    seeds = sorted({seed for _, seed, _ in cells})
    if len(values) > 1 and cells:
        design = np.zeros((len(cells), len(values) + len(seeds)))
        for at, (i, seed, _) in enumerate(cells):
            design[at, i] = design[at, len(values) + seeds.index(seed)] = 1
        y = np.array([value for *_, value in cells])
        y = y - y.mean()  # large common values would cost digits
        fit, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
        freedom = len(cells) - int(rank)
        if freedom:
            return Noise(float(np.sqrt(((y - design @ fit) ** 2).sum() / freedom)), freedom)
    return scatter(values)


def scatter(values: Sequence[Mapping[int, float]]) -> Noise:
    """Pooled standard deviation within rows: noise and the seeds' own effects together."""
    rows = [np.array(list(v.values())) for v in values if len(v) > 1]
    freedom = sum(len(r) - 1 for r in rows)
    if not freedom:
        return Noise(math.nan, 0)
    return Noise(math.sqrt(sum(float(((r - r.mean()) ** 2).sum()) for r in rows) / freedom), freedom)


def interval(values: Mapping[int, float], pooled: Noise) -> float:
    """Half width of the 95 % interval of a row's mean; NaN where there is no estimate of the noise."""
    from scipy import stats

    if pooled.freedom < 1 or not math.isfinite(pooled.deviation):
        return math.nan
    return float(stats.t.ppf(0.975, pooled.freedom)) * pooled.deviation / math.sqrt(len(values))


@cache
def _studentized_range(rows: int, freedom: int) -> float:
    """Its 95 % point: an integral that takes scipy a tenth of a second, and every pair of a board asks for the same."""
    from scipy import stats

    return float(stats.studentized_range.ppf(0.95, rows, freedom))


def least_difference(pooled: Noise, rows: int, n: int, m: int) -> float:
    """Tukey and Kramer's smallest difference of two means (over n and m seeds) that is told apart at 5 % among `rows`."""
    if pooled.freedom < 1 or not math.isfinite(pooled.deviation):
        return math.inf
    q = _studentized_range(max(2, rows), pooled.freedom)
    return q / math.sqrt(2) * pooled.deviation * math.sqrt(1 / n + 1 / m)


def compare(ours: Mapping[int, float], theirs: Mapping[int, float], rows: int, paired: Noise, loose: Noise) -> tuple[float, float]:
    """How far `theirs` lies above `ours`, and the least distance that counts.

    Over the seeds that both have, where there are at least three: what a seed does to both falls out.
    Otherwise over all seeds of each, against the noise that contains the seeds' effects.
    """
    common = sorted(ours.keys() & theirs.keys())
    if len(common) >= LEAST_SEEDS:
        gap = float(np.mean([theirs[s] - ours[s] for s in common]))
        return gap, least_difference(paired, rows, len(common), len(common))
    gap = float(np.mean(list(theirs.values())) - np.mean(list(ours.values())))
    return gap, least_difference(loose, rows, len(ours), len(theirs))


def standings(values: Sequence[Mapping[int, float]], *, higher_is_better: bool, seedless: Sequence[bool] = ()) -> list[Standing]:
    """Means, intervals and rank ranges of rows.

    A row with fewer than three seeds has no rank (a seedless one has no other seeds to show).  Rank
    `best` counts the rows that are better for certain, `worst` those that are worse for certain.
    """
    sign = 1 if higher_is_better else -1
    means = [float(np.mean(list(v.values()))) for v in values]
    single = list(seedless) or [False] * len(values)
    ranked = [i for i, v in enumerate(values) if len(v) >= LEAST_SEEDS or single[i]]
    pooled = noise([values[i] for i in ranked]) if ranked else Noise(math.nan, 0)
    loose = scatter([values[i] for i in ranked])
    out = []
    for i, v in enumerate(values):
        half = interval(v, pooled) if i in ranked else math.nan
        if i not in ranked:
            out.append(Standing(means[i], half, 0, 0))
            continue
        pairs = [compare(v, values[j], len(ranked), pooled, loose) for j in ranked if j != i]
        above = sum(sign * gap > least for gap, least in pairs)
        below = sum(-sign * gap > least for gap, least in pairs)
        out.append(Standing(means[i], half, 1 + above, len(ranked) - below))
    return out


def lanes(ordered: Sequence[Standing]) -> list[tuple[int, int]]:
    """Groups of neighbouring rows that cannot be told apart, as first and last index; they overlap.

    `ordered` runs from best to worst; only groups of two or more, none inside another.
    """
    spans: list[tuple[int, int]] = []
    for i, row in enumerate(ordered):
        if row.worst:
            last = min(len(ordered), row.worst) - 1
            if last > i and not any(a <= i and last <= b for a, b in spans):
                spans.append((i, last))
    return spans


def log_ratio(values: Sequence[tuple[float, float | None, float | None]]) -> tuple[float, float, float]:
    """Speed-ups of several seeds in one: geometric mean and 95 % interval.

    The scatter between seeds (other seeds may keep other widths) or within each timing, whichever is
    larger; with one seed, that timing's own interval.
    """
    from scipy import stats

    logs = np.log([v for v, _, _ in values])
    middle = float(logs.mean())
    widths = [(math.log(high) - math.log(low)) / 2 / 1.96 for _, low, high in values if low and high]
    within = float(np.mean(np.square(widths))) if widths else math.nan
    n = len(logs)
    if n == 1:
        half = 1.96 * math.sqrt(within) if widths else math.nan
    else:
        between = float(logs.var(ddof=1))
        multiplier = float(stats.t.ppf(0.975, n - 1)) if between > within else 1.96
        half = multiplier * math.sqrt(max(between, within) / n)
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def decimals(half: float, most: int) -> int:
    """Digits after the point that a 95 % half width supports: its first digit, and one more if that is a 1 or 2.

    At most `most`, which is also the answer where there is no half width.
    """
    if not math.isfinite(half) or half <= 0:
        return most
    first = math.floor(math.log10(half))
    return min(max(0, -first + int(round(half / 10.0**first, 6) < 3)), most)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of points that nothing beats on both axes (higher is better on both), by falling second axis."""
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1]))
    out: list[int] = []
    best = -math.inf
    for i in order:
        if points[i][1] > best:
            out.append(i)
            best = points[i][1]
    return out


def dominated(
    ours: tuple[float, float], theirs: tuple[float, float], our_se: tuple[float, float], their_se: tuple[float, float]
) -> float:
    """Probability that `theirs` is truly better on both axes, errors taken as normal and independent."""
    from scipy import stats

    out = 1.0
    for a, b, sa, sb in zip(ours, theirs, our_se, their_se, strict=True):
        spread = math.hypot(sa, sb)
        out *= float(stats.norm.cdf((b - a) / spread)) if spread > 0 else float(b > a)
    return out
