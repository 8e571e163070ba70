"""How fairly a classifier treats groups, from evidence alone: gaps, ratios, and whom pruning costs most.

Every measure is a pure function of one tensor of counts, (R, groups, labels, answers, parent wrong or right).  Its row 0 is the
data, the rows after it are resamples, so that a figure and its interval come out of the same line.

Undefined is NaN, never 0.  Row 0 settles what a figure is over: a group without an example for a rate is left out of that rate, a
class for which fewer than two groups are left is left out of the mean, and a figure that nothing is left for is not given.  A
resample that lacks what row 0 has is NaN, and counts in no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from suite.protocol import Measure
from tasks.common.scoring import MIN_GROUP

#: unit and direction of every measure; those in per cent or points are fractions until they become a Measure
KINDS: Mapping[str, tuple[str, Literal["up", "down", ""]]] = {
    "accuracy": ("%", "up"),
    "balanced_accuracy": ("%", "up"),
    "majority": ("%", ""),
    "worst_group": ("%", "up"),
    "worst_subgroup": ("%", "up"),
    "accuracy_gap": ("points", "down"),
    "group_accuracy": ("%", "up"),
    "selection_rate": ("%", ""),
    "true_positive_rate": ("%", "up"),
    "false_positive_rate": ("%", "down"),
    "demographic_parity_gap": ("points", "down"),
    "demographic_parity_ratio": ("", "up"),
    "equal_opportunity_gap": ("points", "down"),
    "equalized_odds_gap": ("points", "down"),
    "equalized_odds_mean_gap": ("points", "down"),
    "equalized_odds_ratio": ("", "up"),
    "eopp0": ("points", "down"),
    "eopp1": ("points", "down"),
    "eodd": ("points", "down"),
    "pqd": ("", "up"),
    "dpm": ("", "up"),
    "eom": ("", "up"),
    "nar": ("", "down"),
    "degradation": ("points", "down"),
    "degradation_gap": ("points", "down"),
    "degradation_std": ("points", "down"),
    "degradation_excess": ("points", "down"),
}

_CELLS = 2**21  # counts held at once: 16 MB, and a few times that while measures are taken
_DRAWS = 2**18  # examples drawn at once: stays in a core's cache
_KEPT = 2**25  # draws that are kept for the next bundle of a test set: 64 MB

Figures = dict[tuple[str, str], np.ndarray]  #: (name, part) to (R,) values


def fairness(
    label: np.ndarray,
    prediction: np.ndarray,
    group: np.ndarray,
    classes: int,
    names: Sequence[str] = (),
    class_names: Sequence[str] = (),
    chance: np.ndarray | None = None,
    dense: np.ndarray | None = None,
    resamples: int = 1000,
    min_group: int = MIN_GROUP,
    favourable: int = 1,
) -> list[Measure]:
    """Every measure of fairness that these answers define, with 95 % percentile intervals over test examples.

    Many arguments, of which all after `classes` are optional columns and names.

    Shares are in per cent, differences in points, ratios from 0 to 1.  Examples are resampled within each group, so that groups
    keep their sizes; an interval that fewer than half of the resamples define is not given.  Of two classes, rates are of
    `favourable`; of more, each class stands against the rest, a figure is that of its worst class and its part `mean` the mean over
    classes.  Nothing depends on the order of the rows.

    Args:
        label, prediction, group: (n,) int from 0, n at least 1.
        classes: that a label may be of, at least 2.
        names, class_names: of groups and classes; one without a name is told by its number.
        chance: (n,) from 0.5 to 1, how likely a randomised classifier gives this prediction, the other class being as likely as is
            left; None where it always does.  Rates are then expected, and a gap is one of expected rates.  Of two classes only.
            Chances of type float32 add up without rounding.
        dense: (n,) int, what the dense parent predicts; None, or -1 in every row, where there is no parent.
        resamples: for the intervals; 0 for none.
        min_group: groups and subgroups of fewer examples are listed, but left out wherever groups are compared (all count where all
            are small).
        favourable: of two classes the one whose rates are compared.

    Raises:
        ValueError: where columns do not fit together.
    """
    _check(label, prediction, group, classes, chance, dense, favourable)
    known, index = np.unique(group, return_inverse=True)
    groups = _groups(label, prediction, index, classes, chance, dense)
    parts = [_named(names, k, "group") for k in known.tolist()]
    data = _whole(groups)[None]

    def taken(counts: np.ndarray) -> Figures:
        return figures(np.concatenate([data, counts]), parts, min_group, favourable)

    values = {key: value[:1] for key, value in taken(data[:0]).items() if not np.isnan(value[0])}
    drawn: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in values}
    for counts in _resampled(groups, known.tolist(), resamples):
        for key, value in taken(counts).items():
            if key in drawn:
                drawn[key].append(value[1:])
    few = {p: n for p, n in zip(parts, np.bincount(index).tolist(), strict=True) if n < min_group}
    small = {} if len(few) == len(parts) else {p: (f"small: {n} of at least {min_group} examples",) for p, n in few.items()}
    out = []
    for (name, part), value in values.items():
        unit, direction = KINDS[name]
        scale = 100.0 if unit else 1.0
        interval = percentiles(np.concatenate(drawn[name, part])) if resamples else None
        scaled = (scale * interval[0], scale * interval[1]) if interval else None
        out.append(Measure(name, scale * float(value[0]), unit, direction, part, scaled, warnings=small.get(part, ())))
    return out + _undefined(data, classes, class_names, min_group)


def tally(
    label: np.ndarray,
    prediction: np.ndarray,
    group: np.ndarray,
    classes: int,
    chance: np.ndarray | None = None,
    dense: np.ndarray | None = None,
) -> np.ndarray:
    """How many examples are of each (group, label, answer, parent wrong or right): (groups, classes, classes, 1 or 2) float.

    The last axis has one entry where there is no dense parent.  With `chance` counts are expected ones.  Arguments and errors are
    those of `fairness`.
    """
    _check(label, prediction, group, classes, chance, dense, 1)
    return _whole(_groups(label, prediction, group, classes, chance, dense))


class Rates(NamedTuple):
    """Each class against the rest, by group: (R, G, K) each, NaN where a group has no example for it."""

    selection: np.ndarray  #: P(answer is k | group)
    true_positive: np.ndarray  #: P(answer is k | label is k, group)
    false_positive: np.ndarray  #: P(answer is k | label is not k, group)


def rates(answers: np.ndarray) -> Rates:
    """Rates of counts (R, G, K labels, K answers)."""
    labelled, answered = _labelled(answers), answers.sum(axis=2)
    right = np.diagonal(answers, axis1=2, axis2=3)
    size = labelled.sum(axis=2, keepdims=True)
    return Rates(share(answered, size), share(right, labelled), share(answered - right, size - labelled))


def share(hits: np.ndarray, count: np.ndarray) -> np.ndarray:
    """`hits` over `count`, NaN where there is nothing to count."""
    hits, count = np.broadcast_arrays(hits, count)
    out = np.full(hits.shape, np.nan)
    np.divide(hits, count, out=out, where=count > 0)
    return out


def ends(rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest over the groups, (R, G, ...) to (R, ...) each; NaN where row 0 defines fewer than two groups."""
    known = ~np.isnan(rate[:1])
    enough = known.sum(axis=1) > 1
    # a group that row 0 lacks yields to every other; one that a resample alone lacks makes that resample NaN
    largest, smallest = np.where(known, rate, -np.inf).max(axis=1), np.where(known, rate, np.inf).min(axis=1)
    return np.where(enough, largest, np.nan), np.where(enough, smallest, np.nan)


def gap(rate: np.ndarray) -> np.ndarray:
    """Largest less smallest over the groups, (R, G, ...) to (R, ...)."""
    largest, smallest = ends(rate)
    apart: np.ndarray = largest - smallest
    return apart


def ratio(rate: np.ndarray) -> np.ndarray:
    """Smallest over largest over the groups, (R, G, ...) to (R, ...); NaN where all are 0."""
    largest, smallest = ends(rate)
    return share(smallest, largest)


def percentiles(values: np.ndarray) -> tuple[float, float] | None:
    """95 % percentile interval of resampled values; None where fewer than half of them are defined."""
    kept = values[~np.isnan(values)]
    if not len(kept) or 2 * len(kept) < len(values):
        return None
    low, high = np.percentile(kept, [2.5, 97.5])
    return float(low), float(high)


def figures(counts: np.ndarray, names: Sequence[str], min_group: int = MIN_GROUP, favourable: int = 1) -> Figures:
    """Every measure of counts (R, G, K, K, 1 or 2), row 0 the data, as fractions; no group is empty, `names` has one for each."""
    answers = counts.sum(axis=4)
    large = _large(_labelled(answers)[0].sum(axis=1), min_group)
    out = _service(answers, large, names, min_group)
    out |= _parity(answers, large, names, favourable)
    out |= _fairprune(answers[:, large], favourable)
    return out | (_degradation(counts, large, names) if counts.shape[4] == 2 else {})


def _service(answers: np.ndarray, large: np.ndarray, names: Sequence[str], min_group: int) -> Figures:
    """How well groups are served."""
    labelled = _labelled(answers)
    right = np.diagonal(answers, axis1=2, axis2=3)
    by_class, size = labelled.sum(axis=1), labelled.sum(axis=2)
    accuracy = share(right.sum(axis=2), size)
    subgroup = share(right, labelled)[:, _large(labelled[0], min_group)]
    return {
        ("accuracy", ""): right.sum(axis=(1, 2)) / size.sum(axis=1),
        ("balanced_accuracy", ""): _defined(share(right.sum(axis=1), by_class)).mean(axis=1),
        ("majority", ""): by_class.max(axis=1) / size.sum(axis=1),
        ("worst_group", ""): accuracy[:, large].min(axis=1),
        ("worst_subgroup", ""): subgroup.min(axis=1),
        ("accuracy_gap", ""): gap(accuracy[:, large]),
        **_by_group("group_accuracy", accuracy, names),
    }


def _parity(answers: np.ndarray, large: np.ndarray, names: Sequence[str], favourable: int) -> Figures:
    """How unlike groups are answered."""
    every = rates(answers)
    out: Figures = {}
    if answers.shape[3] == 2:
        every = Rates(*(rate[:, :, [favourable]] for rate in every))
        out |= _by_group("selection_rate", every.selection[:, :, 0], names)
        out |= _by_group("true_positive_rate", every.true_positive[:, :, 0], names)
        out |= _by_group("false_positive_rate", every.false_positive[:, :, 0], names)
    selection, hits, alarms = (rate[:, large] for rate in every)
    out |= _worst("demographic_parity_gap", gap(selection), np.max)
    out |= _worst("demographic_parity_ratio", ratio(selection), np.min)
    out |= _worst("equal_opportunity_gap", gap(hits), np.max)
    # np.maximum and np.minimum hand a NaN on: odds are defined where both rates are
    out |= _worst("equalized_odds_gap", np.maximum(gap(hits), gap(alarms)), np.max)
    out |= _worst("equalized_odds_mean_gap", (gap(hits) + gap(alarms)) / 2, np.max)
    return out | _worst("equalized_odds_ratio", np.minimum(ratio(hits), ratio(alarms)), np.min)


def _fairprune(answers: np.ndarray, favourable: int) -> Figures:
    """FairPrune's set (Wu et al. 2022); the sums over more than two groups are of the two that lie farthest apart.

    Of two classes, `eopp0`, `eopp1` and `eodd` are of the favourable one alone.  A port that sums both classes (AliGhadirii's) has
    one number for `eopp0` and `eopp1`, their sum, and twice `eodd`.
    """
    every = rates(answers)
    accuracy = share(np.diagonal(answers, axis1=2, axis2=3).sum(axis=2), _labelled(answers).sum(axis=2))
    classes = [favourable] if answers.shape[3] == 2 else slice(None)
    hits, alarms = every.true_positive[:, :, classes], every.false_positive[:, :, classes]
    return {
        ("eopp0", ""): _total(gap(alarms)),  # a gap of true negative rates is one of false positive rates
        ("eopp1", ""): _total(gap(hits)),
        ("eodd", ""): _total(gap(hits + alarms)),  # rates that lie apart in opposite ways cancel
        ("pqd", ""): ratio(accuracy),
        ("dpm", ""): _mean(ratio(every.selection)),
        ("eom", ""): _mean(ratio(every.true_positive)),
        ("nar", ""): share(gap(accuracy), accuracy.mean(axis=1)),
    }


def _degradation(counts: np.ndarray, large: np.ndarray, names: Sequence[str]) -> Figures:
    """What groups lose against the dense parent: gap (Def. 3 of BiFP), standard deviation (FairGRAPE), excess over all (CEAG)."""
    right = np.diagonal(counts.sum(axis=4), axis1=2, axis2=3).sum(axis=2)
    lost = counts[..., 1].sum(axis=(2, 3)) - right
    size = _labelled(counts.sum(axis=4)).sum(axis=2)
    loss = lost / size
    out = _by_group("degradation", loss, names)
    if large.sum() > 1:
        compared = loss[:, large]
        out["degradation_gap", ""] = gap(compared)
        out["degradation_std", ""] = compared.std(axis=1, ddof=1)
        out["degradation_excess", ""] = compared.max(axis=1) - lost.sum(axis=1) / size.sum(axis=1)
    return out


def _undefined(data: np.ndarray, classes: int, class_names: Sequence[str], min_group: int) -> list[Measure]:
    """How many classes of several are in no mean over classes of equalised odds, and which."""
    answers = data.sum(axis=4)
    large = _large(_labelled(answers)[0].sum(axis=1), min_group)
    every = rates(answers[:, large])
    missing = np.flatnonzero(np.isnan(gap(every.true_positive) + gap(every.false_positive)))
    if classes == 2 or large.sum() < 2 or not len(missing):
        return []
    which = ", ".join(_named(class_names, k, "class") for k in missing.tolist())
    return [Measure("undefined_classes", float(len(missing)), warnings=(f"fewer than two groups have an example: {which}",))]


def _labelled(answers: np.ndarray) -> np.ndarray:
    """Examples by label, (R, G, K): whole numbers, though the chances of their answers may not add up to one exactly."""
    whole: np.ndarray = np.rint(answers.sum(axis=3))
    return whole


def _by_group(name: str, value: np.ndarray, names: Sequence[str]) -> Figures:
    return {(name, part): value[:, k] for k, part in enumerate(names)}


def _worst(name: str, by_class: np.ndarray, worst: Callable[..., np.ndarray]) -> Figures:
    """Of (R, K): the worst class, and of several their mean; nothing where no class is defined."""
    kept = _defined(by_class)
    if not kept.shape[1]:
        return {}
    return {(name, ""): worst(kept, axis=1)} | ({(name, "mean"): kept.mean(axis=1)} if by_class.shape[1] > 1 else {})


def _defined(values: np.ndarray) -> np.ndarray:
    """The columns of (R, X) that row 0 defines."""
    kept: np.ndarray = values[:, ~np.isnan(values[0])]
    return kept


def _total(by_class: np.ndarray) -> np.ndarray:
    kept = _defined(by_class)
    return kept.sum(axis=1) if kept.shape[1] else np.full(len(kept), np.nan)


def _mean(by_class: np.ndarray) -> np.ndarray:
    kept = _defined(by_class)
    return kept.mean(axis=1) if kept.shape[1] else np.full(len(kept), np.nan)


def _large(size: np.ndarray, min_group: int) -> np.ndarray:
    """Which of these are of at least `min_group` examples; all that have one where none is so large."""
    large = size >= max(1, min_group)
    return large if large.any() else size > 0


def _named(names: Sequence[str], k: int, kind: str) -> str:
    return names[k] if k < len(names) else f"{kind} {k}"


@dataclass(frozen=True)
class _Group:
    """A group's examples as the cells of (labels, answers, parent wrong or right) that they count in.

    They are sorted, so that what is drawn does not depend on the order of the rows.
    """

    shape: tuple[int, int, int]
    cell: np.ndarray  #: (m,)
    other: np.ndarray | None = None  #: (m,) the cell of the other answer; None where every chance is 1
    chance: np.ndarray | None = None  #: (m,) of `cell`

    def counts(self, draw: np.ndarray) -> np.ndarray:
        """Counts (r, labels, answers, 1 or 2) of the examples `draw` (r, any number)."""
        cells = int(np.prod(self.shape))
        to = np.arange(len(draw))[:, None] * cells

        def total(cell: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
            # bincount adds row by row, so that sums of chances are the same on every machine
            weights = None if weight is None else weight[draw].ravel()
            return np.bincount((cell[draw] + to).ravel(), weights, len(draw) * cells).astype(float)

        found = total(self.cell, self.chance)
        if self.other is not None and self.chance is not None:
            found += total(self.other, 1 - self.chance)
        return found.reshape(len(draw), *self.shape)

    def between(self, below: np.ndarray) -> np.ndarray:
        """Counts (r, labels, answers, 1 or 2) of draws of which `below` (r, m + 1) says how many lie before each example.

        Only where every chance is 1: the examples of a cell lie side by side, and how many were drawn is a difference.
        """
        ends = np.searchsorted(self.cell, np.arange(int(np.prod(self.shape)) + 1))
        return np.diff(below[:, ends].astype(float), axis=1).reshape(len(below), *self.shape)


def _groups(
    label: np.ndarray, prediction: np.ndarray, group: np.ndarray, classes: int, chance: np.ndarray | None, dense: np.ndarray | None
) -> list[_Group]:
    """One for each number from 0 to the largest group; arguments have been checked."""
    # products of small types overflow
    label, prediction, group = (np.asarray(column).astype(np.int64) for column in (label, prediction, group))
    parent = dense is not None and bool((np.asarray(dense) >= 0).all())
    right = (np.asarray(dense) == label).astype(np.int64) if parent else np.zeros_like(label)
    sure = np.ones(len(label)) if chance is None else np.asarray(chance).astype(np.float64)
    random = bool((sure < 1).any())
    shape = (classes, classes, 2 if parent else 1)
    cell = np.ravel_multi_index((label, prediction, right), shape)
    order = np.lexsort((sure, cell, group))
    out = []
    for rows in np.split(order, np.searchsorted(group[order], np.arange(1, int(group.max()) + 1))):
        if random:
            other = np.ravel_multi_index((label[rows], 1 - prediction[rows], right[rows]), shape)
            out.append(_Group(shape, cell[rows], other, sure[rows]))
        else:
            out.append(_Group(shape, cell[rows]))
    return out


def _whole(groups: Sequence[_Group]) -> np.ndarray:
    """Counts (groups, labels, answers, 1 or 2) of all examples."""
    return np.stack([group.counts(np.arange(len(group.cell))[None])[0] for group in groups])


def _resampled(groups: Sequence[_Group], numbers: Sequence[int], resamples: int) -> Iterator[np.ndarray]:
    """Counts (r, groups, labels, answers, 1 or 2) of resamples within each group, r as many at once as memory allows.

    Whole numbers come from a counter-based generator for each group, seeded by 0 and the group's number, so that neither the
    machine nor the memory nor another group can change a draw.  Draws depend on the sizes of the groups alone: they are kept for
    the next answers on the same test set.
    """
    chunk = max(1, _CELLS // (len(groups) * int(np.prod(groups[0].shape))))
    sizes = tuple(len(group.cell) for group in groups)
    if sum(sizes) * resamples <= _KEPT and max(sizes) < 2**16 and all(group.chance is None for group in groups):
        below = _below(tuple(numbers), sizes, resamples)
        for done in range(0, resamples, chunk):
            rows = slice(done, done + chunk)
            yield np.stack([group.between(drawn[rows]) for group, drawn in zip(groups, below, strict=True)], axis=1)
        return
    generators = [_generator(k) for k in numbers]
    for done in range(0, resamples, chunk):
        out = np.empty((min(chunk, resamples - done), len(groups), *groups[0].shape))
        for g, (group, generator) in enumerate(zip(groups, generators, strict=True)):
            size = len(group.cell)
            step = max(1, _DRAWS // size)
            for first in range(0, len(out), step):
                draw = generator.integers(size, size=(min(step, len(out) - first), size))
                out[first : first + step, g] = group.counts(draw)
        yield out


def _generator(number: int) -> np.random.Generator:
    """What draws the examples of group `number`."""
    return np.random.Generator(np.random.Philox([0, number]))


@lru_cache(maxsize=6)
def _below(numbers: tuple[int, ...], sizes: tuple[int, ...], resamples: int) -> list[np.ndarray]:
    """Of each group (resamples, size + 1): how many of a resample's draws lie before each example, and all of them."""
    out = []
    for number, size in zip(numbers, sizes, strict=True):
        generator, step = _generator(number), max(1, _DRAWS // size)
        below = np.zeros((resamples, size + 1), np.uint16)
        for first in range(0, resamples, step):
            draw = generator.integers(size, size=(min(step, resamples - first), size))
            to = np.arange(len(draw))[:, None] * size
            times = np.bincount((draw + to).ravel(), minlength=draw.size).reshape(draw.shape)
            np.cumsum(times, axis=1, out=below[first : first + step, 1:], dtype=np.uint16)
        out.append(below)
    return out


def _check(
    label: np.ndarray,
    prediction: np.ndarray,
    group: np.ndarray,
    classes: int,
    chance: np.ndarray | None,
    dense: np.ndarray | None,
    favourable: int,
) -> None:
    """Raises ValueError with the first thing that is wrong."""
    if classes < 2:
        raise ValueError(f"{classes} classes: fairness needs at least 2")
    if classes == 2 and favourable not in (0, 1):
        raise ValueError(f"favourable is {favourable}: of two classes it is 0 or 1")
    columns = {"label": label, "prediction": prediction, "group": group, "dense": dense}
    for name, column in columns.items():
        if column is not None and (np.ndim(column) != 1 or np.asarray(column).dtype.kind not in "biu"):
            raise ValueError(f"{name} is not one column of whole numbers")
    if not len(label):
        raise ValueError("no example to score")
    for name, column in {**columns, "chance": chance}.items():
        if column is not None and np.shape(column) != np.shape(label):
            raise ValueError(f"{name} has shape {np.shape(column)}, label has {np.shape(label)}")
    if np.min(group) < 0:
        raise ValueError(f"group {np.min(group)} is negative")
    for name, column in (("label", label), ("prediction", prediction)):
        if np.min(column) < 0 or np.max(column) >= classes:
            raise ValueError(
                f"{name} goes from {np.min(column)} to {np.max(column)}, with {classes} classes it is from 0 to {classes - 1}"
            )
    if dense is not None and not (bool((np.asarray(dense) == -1).all()) or (np.min(dense) >= 0 and np.max(dense) < classes)):
        raise ValueError(f"dense is neither -1 in every row nor a class from 0 to {classes - 1} in every row")
    if chance is not None:
        sure = np.asarray(chance)
        if not ((sure >= 0.5) & (sure <= 1)).all():
            raise ValueError("chance is not from 0.5 to 1 in every row")
        if classes > 2 and (sure < 1).any():
            raise ValueError(f"chance under 1 with {classes} classes: it cannot tell which other class is meant")
