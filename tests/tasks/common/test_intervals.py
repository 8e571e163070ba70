"""Intervals hold what they say."""

from __future__ import annotations

import numpy as np

from tasks.common.intervals import wilson


def test_wilson_interval_covers() -> None:
    draw = np.random.Generator(np.random.Philox(0))
    for p in (0.5, 0.9, 0.99):
        hits = draw.binomial(400, p, 2000)
        inside = [low <= 100 * p <= high for low, high in (wilson(int(h), 400) for h in hits)]
        assert 0.91 <= np.mean(inside) <= 0.985  # a share's coverage steps with the count
