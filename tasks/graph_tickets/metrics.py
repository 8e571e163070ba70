"""The evaluators of OGB 1.3.6, in numpy: what its leaderboards rank by; and how sure an area is."""

from __future__ import annotations

import numpy as np


def accuracy(label: np.ndarray, prediction: np.ndarray) -> float:
    """Mean over tasks (columns) of the share that is right among the labelled; both (n, tasks), NaN is no label."""
    labelled = label == label
    right = ((label == prediction) & labelled).sum(0)
    return float(np.mean(right / labelled.sum(0)))


def roc_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Mean over tasks that have a positive and a negative; label (n, tasks) of 0, 1 and NaN, score (n, tasks)."""
    areas = []
    for y, s in zip(label.T, score.T, strict=True):
        known = y == y
        y, s = y[known] > 0, s[known]
        positive, negative = int(y.sum()), int((~y).sum())
        if positive and negative:
            areas.append((_mean_ranks(s)[y].sum() - positive * (positive + 1) / 2) / (positive * negative))
    if not areas:
        raise ValueError("no task has a positive and a negative label")
    return float(np.mean(areas))


def areas(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area under ROC of each task, and by how much each row moves it (DeLong et al. 1988).

    The root of the sum over rows of the squares of a task's column is the area's standard error by DeLong; that of any linear
    combination of tasks, as a mean or a difference, is the same of the columns' combination: rows are what is drawn.

    Args:
        label: (n, tasks) of 0, 1 and NaN, which is no label; score: (n, tasks).

    Returns:
        (tasks,), NaN where a task has no positive or no negative, and (n, tasks), 0 where a row has no label.
    """
    area, moved = np.full(label.shape[1], np.nan), np.zeros(label.shape)
    for t, (y, s) in enumerate(zip(label.T, score.T, strict=True)):
        above, under = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
        if not len(above) or not len(under):
            continue
        beaten, beating = _below(s[above], s[under]), 1 - _below(s[under], s[above])
        area[t] = beaten.mean()
        for rows, shares in ((above, beaten), (under, beating)):
            moved[rows, t] = (shares - area[t]) / np.sqrt(len(rows) * max(1, len(rows) - 1))
    return area, moved


def _below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each value the share of `others` that are smaller, ties counted half."""
    ordered = np.sort(others)
    both = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(both / (2 * len(others)))


def hits_at(k: int, positive: np.ndarray, negative: np.ndarray) -> float:
    """Share of positive scores strictly above the k-th largest of all negative ones; 1 where there are fewer than k."""
    return float(hits(k, positive, negative).mean())


def hits(k: int, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Which of the positive scores are strictly above the k-th largest of the negative ones; all where there are fewer than k."""
    if len(negative) < k:
        return np.ones(len(positive), bool)
    return np.asarray(positive > np.partition(negative, -k)[-k])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[inverse])
