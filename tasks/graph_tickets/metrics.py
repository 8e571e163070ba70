"""OGB's evaluators, in numpy (graph_baselines.md 3.2): what its leaderboards rank by."""

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


def hits_at(k: int, positive: np.ndarray, negative: np.ndarray) -> float:
    """Share of positive scores strictly above the k-th largest of all negative ones; 1 where there are fewer than k."""
    if len(negative) < k:
        return 1.0
    return float((positive > np.partition(negative, -k)[-k]).mean())


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[inverse])
