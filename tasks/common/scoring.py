"""Scores of who classifies, from evidence alone: accuracy by class, accuracy by group, and how far groups lie apart.

Pure numpy, with closed-form intervals: the same for the runner and for the checker, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from suite.protocol import Measure
from tasks.common.intervals import mean_interval, newcombe, wilson

MIN_GROUP = 30  #: examples of a group that counts where groups are compared; a smaller one is listed alone


def share(name: str, hits: float, count: float, part: str = "") -> Measure:
    """A share in per cent with Wilson's interval."""
    return Measure(name, 100 * float(hits / count), "%", "up", part, wilson(int(hits), int(count)))


def by_class(name: str, label: np.ndarray, prediction: np.ndarray, names: Sequence[str]) -> list[Measure]:
    """Accuracy under `name`, `balanced_accuracy`, `worst_class`, and `class_accuracy` of each class that occurs, in per cent.

    Intervals are Wilson's at 95 %; that of the mean over classes adds the classes' variances.

    Args:
        label, prediction: (n,) int, n at least 1, labels from 0.
        names: of the classes; one without a name is told by its number.
    """
    hit = label == prediction
    count = np.bincount(label)
    known = np.flatnonzero(count)
    correct = np.bincount(label, weights=hit, minlength=len(count))
    recall = correct[known] / count[known]
    worst = known[np.argmin(recall)]
    return [
        share(name, hit.sum(), len(hit)),
        Measure("balanced_accuracy", 100 * float(recall.mean()), "%", "up", interval=mean_interval(recall, count[known])),
        share("worst_class", correct[worst], count[worst]),
        *(share("class_accuracy", correct[k], count[k], _named(names, k, "class")) for k in known.tolist()),
    ]


def by_group(
    label: np.ndarray, prediction: np.ndarray, group: np.ndarray, names: Sequence[str], min_group: int = MIN_GROUP
) -> list[Measure]:
    """How well each group is served: `worst_group`, `worst_subgroup`, `accuracy_gap`, and `group_accuracy` of each that occurs.

    `worst_subgroup` is over the pairs of label and group, `accuracy_gap` the largest accuracy of a group less the smallest, in
    points, with Newcombe's interval for these two; there is none of fewer than two groups.  Groups and subgroups of fewer than
    `min_group` examples are left out of these (all count where all are small).  Intervals do not allow for the choice of extremes.

    Args:
        label, prediction, group: (n,) int from 0, n at least 1.
        names: of the groups; one without a name is told by its number.
    """
    # products of small types overflow
    label, prediction, group = (column.astype(np.int64) for column in (label, prediction, group))
    hit = label == prediction
    hits, count = _by(group, hit)
    sub_hits, sub_count = _by(group * (int(label.max()) + 1) + label, hit)
    best, worst = _ends(hits, count, _large(count, min_group))
    _, least = _ends(sub_hits, sub_count, _large(sub_count, min_group))
    return [
        share("worst_group", hits[worst], count[worst]),
        share("worst_subgroup", sub_hits[least], sub_count[least]),
        *([_gap("accuracy_gap", hits, count, best, worst)] if best != worst else []),
        *(share("group_accuracy", hits[k], count[k], _named(names, k, "group")) for k in np.flatnonzero(count).tolist()),
    ]


def gaps(label: np.ndarray, prediction: np.ndarray, group: np.ndarray, classes: int, min_group: int = MIN_GROUP) -> list[Measure]:
    """How unlike groups are answered, in points: `demographic_parity_gap`, `equal_opportunity_gap`, `equalized_odds_gap`.

    The largest less the smallest over the groups of P(answer is c) (demographic parity), of P(answer is c | label is c)
    (equal opportunity), and the larger of the latter and of that of P(answer is c | label is not c) (equalised odds; Hardt,
    Price, Srebro 2016).  Of two classes c is 1; of more each class in turn is c, the figure is the largest of them, and a part
    `mean` gives their mean.  Intervals are Newcombe's for the two groups that lie farthest apart.

    A rate that a group has no example for is undefined, not 0: the group is left out of it, and a figure that fewer than two groups
    are left for is not given.

    Args:
        label, prediction, group: (n,) int from 0, n at least 1.
        classes: that a label may be of.
        min_group: groups of fewer examples are left out (all count where all are small).
    """
    large = np.isin(group, _large(np.bincount(group), min_group))
    label, prediction, group = label[large], prediction[large], group[large]
    found: dict[str, list[Measure]] = {"demographic_parity_gap": [], "equal_opportunity_gap": [], "equalized_odds_gap": []}
    for c in [1] if classes == 2 else range(classes):
        answered, true = prediction == c, label == c
        parity, hits, alarms = (_spread(group[of], answered[of]) for of in (np.ones_like(true), true, ~true))
        found["demographic_parity_gap"] += parity
        found["equal_opportunity_gap"] += hits
        found["equalized_odds_gap"] += [max(hits + alarms, key=lambda m: m.value)] if hits and alarms else []
    out = []
    for name, by in found.items():
        if by:
            most = max(by, key=lambda m: m.value)
            out.append(Measure(name, most.value, "points", "down", interval=most.interval))
        if by and classes > 2:
            out.append(Measure(name, float(np.mean([m.value for m in by])), "points", "down", "mean"))
    return out


def calibration_error(confidence: np.ndarray, hit: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017, equation 3)."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    distance = np.bincount(index, weights=confidence, minlength=bins) - np.bincount(index, weights=hit, minlength=bins)
    return float(np.abs(distance).sum() / len(hit))


def _by(group: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hits and examples by group, (G,) int each."""
    count = np.bincount(group)
    return np.bincount(group[hit], minlength=len(count)), count


def _large(count: np.ndarray, min_group: int) -> np.ndarray:
    """Groups of at least `min_group` examples; all that occur where none is so large."""
    large = np.flatnonzero(count >= max(1, min_group))
    return large if len(large) else np.flatnonzero(count)


def _ends(hits: np.ndarray, count: np.ndarray, among: np.ndarray) -> tuple[int, int]:
    """The groups of largest and of smallest share; of equal ones the last and the first, so two groups are never one."""
    order = among[np.argsort(hits[among] / count[among], kind="stable")]
    return int(order[-1]), int(order[0])


def _spread(group: np.ndarray, hit: np.ndarray) -> list[Measure]:
    """The largest share of a group less the smallest; none of fewer than two groups."""
    hits, count = _by(group, hit)
    best, worst = _ends(hits, count, np.flatnonzero(count)) if len(group) else (0, 0)
    return [_gap("", hits, count, best, worst)] if best != worst else []


def _gap(name: str, hits: np.ndarray, count: np.ndarray, best: int, worst: int) -> Measure:
    """Of two groups' shares, in points."""
    two = (int(hits[best]), int(count[best]), int(hits[worst]), int(count[worst]))
    apart = float(hits[best] / count[best] - hits[worst] / count[worst])
    return Measure(name, 100 * apart, "points", "down", interval=newcombe(*two))


def _named(names: Sequence[str], k: int, kind: str) -> str:
    return names[k] if k < len(names) else f"{kind} {k}"
