"""Closed-form intervals that tasks give their scores: no data, no random numbers, the same on every machine."""

from __future__ import annotations

import math

import numpy as np

Z95 = 1.959963984540054  #: of the normal distribution, two-sided


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in per cent (Wilson 1927)."""
    p, z2 = hits / count, Z95**2
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * float(np.sqrt(p * (1 - p) / count + z2 / (4 * count**2)))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def mean_interval(recall: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean over classes of shares `recall` (C,) of `count` (C,) each, in per cent: variances are added."""
    # a class that is all right or all wrong has no plug-in variance: add a half hit and a half miss
    p = (recall * count + 0.5) / (count + 1)
    half = Z95 * float(np.sqrt((p * (1 - p) / count).sum())) / len(recall)
    middle = float(recall.mean())
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def newcombe(hits: int, count: int, other_hits: int, other_count: int) -> tuple[float, float]:
    """95 % interval of the difference of two independent shares, in points (Newcombe 1998, method 10)."""
    p, q = 100 * hits / count, 100 * other_hits / other_count
    (low_p, high_p), (low_q, high_q) = wilson(hits, count), wilson(other_hits, other_count)
    return p - q - math.hypot(p - low_p, high_q - q), p - q + math.hypot(high_p - p, q - low_q)
