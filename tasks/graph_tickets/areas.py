"""Areas under ROC as measures: what link prediction and nodes with several labels share."""

from __future__ import annotations

import numpy as np

from suite.protocol import Measure
from tasks.common.intervals import Z95


def percent(name: str, area: float, moved: np.ndarray) -> Measure:
    """An area under ROC in per cent, with DeLong's 95 % interval from what each row moves it by (`metrics.areas`)."""
    half = Z95 * float(np.sqrt((moved**2).sum()))
    low, high = 100 * max(0.0, float(area) - half), 100 * min(1.0, float(area) + half)
    return Measure(name, 100 * float(area), "%", "up", interval=(low, high))


def gap(difference: float, moved: np.ndarray) -> Measure:
    """`degree_gap` of two areas, in points, with the interval of what each row moves the difference by."""
    half = Z95 * float(np.sqrt((moved**2).sum()))
    ends = (100 * (float(difference) - half), 100 * (float(difference) + half))
    return Measure("degree_gap", 100 * float(difference), "points", "down", interval=ends)
