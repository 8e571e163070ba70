"""Who is better, and is it certain?  Pure functions from numbers to numbers.

Methods of one seed share initial weights, data order and test rows, so seeds are blocks: the noise that
remains when method and seed effects are taken out is pooled over all methods, which gives three seeds
enough degrees of freedom to say something.  Where methods plainly differ in their noise, each has its own,
drawn towards the others' (Smyth 2004): one wild method must not blur the calm ones, nor be called different
by their calm.  Comparisons are Tukey's, as every pair is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from suite.board.tukey import studentized_range

LEAST_SEEDS = 3
NORMAL = 1.96  #: 95 % point of the normal distribution as `log_ratio` rounds it; more digits would move what is published


@dataclass(frozen=True)
class Noise:
    """Residual standard deviation of one seed's value, and the degrees of freedom behind it."""

    deviation: float
    freedom: float


@dataclass(frozen=True)
class Standing:
    """A row's mean over seeds, its 95 % interval, and the ranks that it may have."""

    mean: float
    half: float  #: NaN where nothing can be said
    best: int  #: 0: not ranked
    worst: int


def noise(values: Sequence[Mapping[int, float]]) -> list[Noise]:
    """Residual noise of each method (row) over seeds (keys): least squares of the two-way layout method + seed.

    Fitted twice, the second time with each row weighed by what the first found, so that a wild row does
    not move the seeds' effects.  Rows need not have the same seeds.  Where the layout leaves nothing over
    (one row, or no seed in two rows), as `scatter`.
    """
    cells = [(i, seed, value) for i, row in enumerate(values) for seed, value in row.items()]
    seeds = sorted({seed for _, seed, _ in cells})
    if len(values) < 2 or not cells:
        return scatter(values)
    row = np.array([i for i, *_ in cells])
    place = {seed: i for i, seed in enumerate(seeds)}
    column = np.array([place[seed] for _, seed, _ in cells])
    y = np.array([value for *_, value in cells])
    y = y - y.mean()  # large common values would cost digits
    fit = _dense if len(cells) * (len(values) + len(seeds)) <= SMALL else _eliminated
    found: list[Noise] = []
    weight = np.ones(len(cells))
    for _ in range(2):
        residual, share, rank = fit(row, column, weight, y)
        residual[np.abs(residual) < 1e-12 * np.abs(y).max()] = 0  # rounding, which is no noise that rows could differ in
        left = np.clip(1 - share, 0, None)
        if len(cells) == rank:
            return scatter(values)
        squares, freedom = (np.bincount(row, v, minlength=len(values)) for v in (residual**2, left))
        found = moderated(squares, freedom)
        deviation = np.array([n.deviation for n in found])[row]
        if not (deviation > 0).all():
            break
        weight = deviation.min() / deviation
    return found


SMALL = 20_000  #: entries of a layout's design that is decomposed as it is
Fit = tuple[np.ndarray, np.ndarray, int]  #: residuals, the share of each value that the fit takes for itself, and the fit's rank


def _dense(row: np.ndarray, column: np.ndarray, weight: np.ndarray, y: np.ndarray) -> Fit:
    """Weighted least squares of the layout row + column, of a weight a cell, by the design itself."""
    rows, every = row.max() + 1, np.arange(len(row))
    design = np.zeros((len(row), rows + column.max() + 1))
    design[every, row] = 1
    design[every, rows + column] = 1
    # columns of the hat matrix: the share of each value that the fit takes for itself
    basis, size, _ = np.linalg.svd(design * weight[:, None], full_matrices=False)
    basis = basis[:, size > 1e-10 * size[0]]
    residual = (weight * y - basis @ (basis.T @ (weight * y))) / weight
    return residual, (basis**2).sum(1), basis.shape[1]


def _eliminated(row: np.ndarray, column: np.ndarray, weight: np.ndarray, y: np.ndarray) -> Fit:
    """The same with the columns' effects solved for first: what is left has a row and a column a method, however many the seeds."""
    shape = (row.max() + 1, column.max() + 1)
    squared = weight**2
    cells, sums = np.zeros(shape), np.zeros(shape)
    np.add.at(cells, (row, column), squared)
    np.add.at(sums, (row, column), squared * y)
    per_row, per_column = cells.sum(1), cells.sum(0)
    shared = cells / per_column
    inverse, rank = _pseudo_inverse(np.diag(per_row) - shared @ cells.T)
    effect = inverse @ (sums.sum(1) - shared @ sums.sum(0))
    residual = y - effect[row] - ((sums.sum(0) - cells.T @ effect) / per_column)[column]
    cross = inverse @ shared  # of rows with columns, with its sign turned
    own = 1 / per_column + (shared * cross).sum(0)
    share = squared * (np.diag(inverse)[row] - 2 * cross[row, column] + own[column])
    return residual, share, rank + shape[1]


def _pseudo_inverse(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """Of a symmetric matrix without negative eigenvalues, and its rank."""
    size, basis = np.linalg.eigh(matrix)
    kept = size > 1e-10 * size[-1]
    return (basis[:, kept] / size[kept]) @ basis[:, kept].T, int(kept.sum())


def scatter(values: Sequence[Mapping[int, float]]) -> list[Noise]:
    """Standard deviation within each row: noise and the seeds' own effects together."""
    rows = [np.array(list(v.values())) for v in values]
    squares = [float(((r - r.mean()) ** 2).sum()) if len(r) else 0.0 for r in rows]
    return moderated(np.array(squares), np.array([max(0.0, len(r) - 1) for r in rows]))


def moderated(squares: np.ndarray, freedom: np.ndarray) -> list[Noise]:
    """Each row's noise from its residual sum of squares and their degrees of freedom, drawn towards that of all.

    True variances are taken as drawn from a scaled inverse chi-squared law, whose two parameters come from the
    mean and the variance of the rows' log variances (Smyth 2004, section 6.2).  Where these vary no more
    than chance makes them, one pooled estimate serves all.  But no row's variance is taken for less than its
    own residuals show: a row wilder than the law foresees must not be called different too easily.
    """
    total = float(freedom.sum())
    if not round(total, 6):
        return [Noise(math.nan, 0)] * len(squares)
    own = np.divide(squares, freedom, out=np.zeros(len(squares)), where=freedom > 1e-6)
    centre, prior = law(own, freedom)
    weight = freedom / (prior + freedom)
    variance = np.maximum(own, (1 - weight) * centre + weight * own)
    return [Noise(math.sqrt(v), float(f)) for v, f in zip(variance, np.minimum(prior + freedom, total), strict=True)]


def law(variance: np.ndarray, freedom: np.ndarray) -> tuple[float, float]:
    """The law that true variances are drawn from: its centre, and the degrees of freedom that it is worth (Smyth 2004, section 6.2).

    Infinitely many where the variances differ no more than chance makes them; the centre then is the pooled variance.  Ranks
    (`moderated`) and claims (`suite.board.pooling`) both take it from here.

    Args:
        variance: (n,) estimates; those of nothing at all say nothing of the law.
        freedom: (n,) degrees of freedom behind each, not all 0.
    """
    from scipy import optimize, special

    known = variance > 1e-12 * variance.max()
    d = freedom[known]
    if len(d) > 1:
        logs = np.log(variance[known]) - special.digamma(d / 2) + np.log(d / 2)
        excess = float(logs.var(ddof=1) - special.polygamma(1, d / 2).mean())
        if excess > 1e-3:
            # trigamma falls from infinity to zero and lies between 1/x and 1/x + 1/x**2
            half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - excess, 0.5 / excess, 2 + 2 / excess)
            return math.exp(float(logs.mean()) + float(special.digamma(half)) - math.log(half)), 2 * half
    return float((variance * freedom).sum() / freedom.sum()), math.inf


def interval(values: Mapping[int, float], own: Noise) -> float:
    """Half width of the 95 % interval of a row's mean; NaN where there is no estimate of the noise."""
    from scipy import stats

    if own.freedom < 1 or not math.isfinite(own.deviation):
        return math.nan
    return float(stats.t.ppf(0.975, own.freedom)) * own.deviation / math.sqrt(len(values))


def least_difference(ours: Noise, theirs: Noise, rows: int, n: int, m: int) -> float:
    """Smallest difference of two means (over n and m seeds) that is told apart at 5 % among `rows`.

    Tukey and Kramer's where the noise is one, Games and Howell's where it is not: Welch and Satterthwaite's
    degrees of freedom, rounded down.
    """
    if min(ours.freedom, theirs.freedom) < 1 or not math.isfinite(ours.deviation + theirs.deviation):
        return math.inf
    a, b = ours.deviation**2 / n, theirs.deviation**2 / m
    if a + b == 0:
        return 0.0
    freedom = min(ours.freedom, theirs.freedom)
    if not _one(ours, theirs):
        freedom = (a + b) ** 2 / (a**2 / ours.freedom + b**2 / theirs.freedom)
    return studentized_range(max(2, rows), math.floor(freedom + 1e-6)) / math.sqrt(2) * math.sqrt(a + b)


def _one(ours: Noise, theirs: Noise) -> bool:
    """Whether two rows have one estimate of noise; what parts them by rounding alone must not double its degrees of freedom."""
    return math.isclose(ours.deviation, theirs.deviation, rel_tol=1e-9) and math.isclose(ours.freedom, theirs.freedom, rel_tol=1e-9)


@dataclass(frozen=True)
class Entrant:
    """A row among those compared: its values by seed, its noise beside the others' and within itself."""

    values: Mapping[int, float]
    paired: Noise
    loose: Noise


def compare(ours: Entrant, theirs: Entrant, rows: int) -> tuple[float, float]:
    """How far `theirs` lies above `ours`, and the least distance that counts.

    Over the seeds that both have, where there are at least three: what a seed does to both falls out.
    Otherwise over all seeds of each, against the noise that contains the seeds' effects.
    """
    common = sorted(ours.values.keys() & theirs.values.keys())
    if len(common) >= LEAST_SEEDS:
        gap = float(np.mean([theirs.values[s] - ours.values[s] for s in common]))
        return gap, least_difference(ours.paired, theirs.paired, rows, len(common), len(common))
    gap = float(np.mean(list(theirs.values.values())) - np.mean(list(ours.values.values())))
    return gap, least_difference(ours.loose, theirs.loose, rows, len(ours.values), len(theirs.values))


def standings(values: Sequence[Mapping[int, float]], *, higher_is_better: bool, seedless: Sequence[bool] = ()) -> list[Standing]:
    """Means, intervals and rank ranges of rows.

    A row with fewer than three seeds has no rank (a seedless one has no other seeds to show).  Rank
    `best` counts the rows that are better for certain, `worst` those that are worse for certain.
    """
    sign = 1 if higher_is_better else -1
    means = [float(np.mean(list(v.values()))) for v in values]
    single = list(seedless) or [False] * len(values)
    ranked = [i for i, v in enumerate(values) if len(v) >= LEAST_SEEDS or single[i]]
    among = [values[i] for i in ranked]
    entrants = dict(zip(ranked, map(Entrant, among, noise(among), scatter(among)), strict=True))
    out = []
    for i, v in enumerate(values):
        if i not in entrants:
            out.append(Standing(means[i], math.nan, 0, 0))
            continue
        pairs = [compare(entrants[i], other, len(ranked)) for j, other in entrants.items() if j != i]
        above = sum(sign * gap > least for gap, least in pairs)
        below = sum(-sign * gap > least for gap, least in pairs)
        out.append(Standing(means[i], interval(v, entrants[i].paired), 1 + above, len(ranked) - below))
    return out


def area(shares: Sequence[float], values: np.ndarray, until: float) -> np.ndarray:
    """Mean quality along a curve, from everything kept to a share of `until`, linear in what is removed.

    Args:
        shares: (k,) kept, falling from 1.
        values: (n, k) quality of n seeds.
        until: share, not below the last one; the curve is cut there.

    Returns:
        (n,) areas over their width.
    """
    removed, end = 1 - np.asarray(shares), 1 - until
    inside = removed < end
    at_end = np.array([np.interp(end, removed, row) for row in values])
    x = np.append(removed[inside], end)
    y = np.column_stack([values[:, inside], at_end])
    return np.asarray(((y[:, 1:] + y[:, :-1]) / 2 * np.diff(x)).sum(1) / end)


def bootstrap(values: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of a mean over seeds, resampled with replacement by a fixed generator."""
    draw = np.random.Generator(np.random.Philox(0))
    means = values[draw.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


FEW_SEEDS = 8  #: of which many draws are the same


def resampled(values: np.ndarray, of: Callable[[np.ndarray], np.ndarray], draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of a function of means over seeds, resampled with replacement by `bootstrap`'s generator.

    Args:
        values: (n, ...) of n seeds.
        of: (u, ...) of u draws' means to (u,).

    Returns:
        its ends; NaN where a draw leaves the function undefined, or there is no seed.
    """
    if not len(values):
        return math.nan, math.nan
    n = len(values)
    draw = np.random.Generator(np.random.Philox(0))
    picked = draw.integers(0, n, (draws, n))
    if n <= FEW_SEEDS:  # three seeds can be drawn in ten ways only
        once, back = np.unique(np.sort(picked, axis=1), axis=0, return_inverse=True)
        found = np.asarray(of(values[once].mean(1)))[back.reshape(-1)]
    else:
        often = np.bincount((picked + n * np.arange(draws)[:, None]).reshape(-1), minlength=draws * n).reshape(draws, n)
        found = np.asarray(of(np.tensordot(often / n, values, 1)))
    if not np.isfinite(found).all():
        return math.nan, math.nan
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def dominated_area(quality: np.ndarray, cost: np.ndarray, floor: float, corner: float) -> np.ndarray:
    """Area of the qualities and costs that some point of a curve is as good as, up to a corner: its dominated hyper-volume.

    Args:
        quality: (..., k), more is better.
        cost: (..., k), less is better, not below 0.
        floor, corner: the worst quality and the highest cost that count; a point beyond either adds nothing.

    Returns:
        (...) areas from `floor` to the best quality and from each quality's least cost to `corner`.
    """
    order = np.argsort(-quality, axis=-1, kind="stable")
    height = np.clip(np.take_along_axis(quality, order, -1) - floor, 0, None)
    least = np.minimum.accumulate(np.take_along_axis(cost, order, -1), axis=-1)
    steps = -np.diff(height, axis=-1, append=0.0)
    return np.asarray((steps * np.clip(corner - least, 0, None)).sum(-1))


def cost_at(quality: np.ndarray, cost: np.ndarray, level: float) -> np.ndarray:
    """The least cost at which a curve passes a level of quality, straight between its points in their order.

    Args:
        quality, cost: (..., k).

    Returns:
        (...) costs; NaN where the curve stays above the level or below it.
    """
    first, last = quality[..., :-1], quality[..., 1:]
    passes = (np.minimum(first, last) <= level) & (level <= np.maximum(first, last))
    flat = first == last
    share = np.where(flat, 0.0, (level - first) / np.where(flat, 1.0, last - first))
    between = np.where(passes, cost[..., :-1] + share * (cost[..., 1:] - cost[..., :-1]), np.inf)
    there = np.where(quality == level, cost, np.inf)
    least = np.concatenate([between, there], axis=-1).min(-1)
    return np.where(np.isfinite(least), least, np.nan)


def median_reached(values: Sequence[float], runs: int) -> float:
    """Median over all runs of when each reached something, of which those without a value did not: infinite where that takes the middle."""
    ordered = sorted([*values, *[math.inf] * (runs - len(values))])
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


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


def lane_columns(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Where each span is drawn, from 1: the first column that is free there, so that they take little room side by side.

    `spans` as `lanes` gives them, by their first row.
    """
    ends: list[int] = []
    found: list[int] = []
    for first, last in spans:
        free = next((i for i, end in enumerate(ends) if end < first), len(ends))
        ends[free : free + 1] = [last]
        found.append(free + 1)
    return found


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of paired values, one a seed, and the half width of its 95 % t interval; needs two values."""
    from scipy import stats

    n = len(values)
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)


def means(values: np.ndarray) -> np.ndarray:
    """Means of columns (n, k) over those rows that are not NaN; NaN where all are."""
    there = ~np.isnan(values)
    count = there.sum(0)
    out = np.full(values.shape[1], np.nan)
    np.divide(np.where(there, values, 0).sum(0), count, out=out, where=count > 0)
    return out


def t_intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `t_interval` of each column (n, k), over those rows that are not NaN; the half width is NaN under three of them."""
    from scipy import stats

    count = (~np.isnan(values)).sum(0)
    middle = means(values)
    squares = np.nansum((values - middle) ** 2, axis=0)
    half = np.full(values.shape[1], np.nan)
    for n in np.unique(count[count >= LEAST_SEEDS]).tolist():
        mine = count == n
        half[mine] = float(stats.t.ppf(0.975, n - 1)) * np.sqrt(squares[mine] / (n - 1)) / math.sqrt(n)
    return middle, half


def log_ratio(values: Sequence[tuple[float, float | None, float | None]]) -> tuple[float, float, float]:
    """Speed-ups of several seeds in one: geometric mean and 95 % interval.

    The scatter between seeds (other seeds may keep other widths) or within each timing, whichever is
    larger; with one seed, that timing's own interval.
    """
    from scipy import stats

    logs = np.log([v for v, _, _ in values])
    middle = float(logs.mean())
    widths = [(math.log(high) - math.log(low)) / 2 / NORMAL for _, low, high in values if low and high]
    within = float(np.mean(np.square(widths))) if widths else math.nan
    n = len(logs)
    if n == 1:
        half = NORMAL * math.sqrt(within) if widths else math.nan
    else:
        between = float(logs.var(ddof=1))
        multiplier = float(stats.t.ppf(0.975, n - 1)) if between > within else NORMAL
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
