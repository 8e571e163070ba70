"""The interval that is printed covers the truth, whatever the machine does; the table is the blocks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from suite.meters import timing
from suite.meters.timing import LOOKS, ORDER, Block


def stop_as_compare_does(logs: np.ndarray, most: int = 80) -> np.ndarray:
    """The part of a series of quads after which `compare` would have stopped."""
    for n in LOOKS:
        if n >= most:
            break
        if timing.ratio(logs[:n])[1] <= math.log1p(timing.PRECISION):
            return logs[:n]
    return logs[:most]


def white(draw: np.random.Generator) -> np.ndarray:
    return draw.normal(0, 0.015, 200)


def correlated(draw: np.random.Generator) -> np.ndarray:
    out = draw.normal(0, 0.012, 200)
    for i in range(1, 200):
        out[i] += 0.4 * out[i - 1]
    return out


def bursts(draw: np.random.Generator) -> np.ndarray:
    """A neighbour wakes up in every fifth quad and slows one side by up to a half."""
    hit = draw.random(200) < 0.2
    return draw.normal(0, 0.008, 200) + hit * draw.choice([-1, 1], 200) * draw.uniform(0.05, 0.4, 200)


def heavy(draw: np.random.Generator) -> np.ndarray:
    return 0.01 * draw.standard_t(2, 200)


@pytest.mark.parametrize("noise", [white, correlated, bursts, heavy])
def test_the_interval_holds_one_in_a_a_trials(noise: Callable[[np.random.Generator], np.ndarray]) -> None:
    draw = np.random.Generator(np.random.Philox(7))
    trials = [timing.ratio(stop_as_compare_does(noise(draw))) for _ in range(1000)]
    covered = np.mean([abs(middle) <= half for middle, half in trials])
    # the binomial error of 1000 trials at 95 % is 0.7 points
    assert covered >= (0.92 if noise is correlated else 0.935), covered


def test_a_linear_drift_cancels_within_a_quad() -> None:
    pace = iter(np.linspace(1.0, 2.0, 400))
    rows = [
        Block("w", side, quad, 4 * quad + i, 10, 0.05 * float(next(pace)), 1, 0.0, False)
        for quad in range(40)
        for i, side in enumerate(ORDER)
    ]
    logs = timing.quad_ratios(timing.to_table(rows))
    assert np.abs(logs).max() < 1e-4  # back to back, 1.00 to 2.00 would have looked like a third


def busy(seconds: float) -> Callable[[], None]:
    def call() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    return call


def test_compare_and_derive_find_a_real_ratio() -> None:
    blocks = timing.compare(busy(0.001), busy(0.0015), workload="w", items=4, cap_seconds=6)
    table = timing.to_table(blocks)
    assert list(table) == list(timing.COLUMNS)
    assert np.median(table["seconds"]) >= 0.9 * timing.BLOCK_SECONDS
    found = {m.name: m for m in timing.derive(table)}
    assert found["speedup"].interval is not None
    low, high = found["speedup"].interval
    assert low <= 1.5 <= high or abs(found["speedup"].value / 1.5 - 1) < 0.02
    assert found["throughput"].value == pytest.approx(4 / found["time"].value)
    assert timing.derive(table) == timing.derive(table)


@pytest.mark.parametrize("spoil", ["order", "count", "negative", "items", "nan"])
def test_a_table_that_compare_cannot_make_is_refused(spoil: str) -> None:
    rows = [Block("w", side, quad, 4 * quad + i, 1, 0.06, 1, 0.0, False) for quad in range(12) for i, side in enumerate(ORDER)]
    table = timing.to_table(rows)
    timing.derive(table)
    if spoil == "order":
        table["side"] = table["side"][::-1].copy()
        table["side"][0] = "parent"
    elif spoil == "count":
        table = {k: v[:-1] for k, v in table.items()}
    elif spoil == "negative":
        table["seconds"][3] = -1
    elif spoil == "nan":
        table["seconds"][3] = np.nan
    else:
        table["items"][5] = 7
    with pytest.raises(ValueError, match="workload w"):
        timing.derive(table)


def test_doubts_travel_with_the_number() -> None:
    draw = np.random.Generator(np.random.Philox(1))
    rows = [
        Block("w", side, quad, 4 * quad + i, 1, float(0.06 * np.exp(draw.normal(0, 0.3))), 1, 1.3, quad == 2)
        for quad in range(12)
        for i, side in enumerate(ORDER)
    ]
    words = " ".join(next(m for m in timing.derive(timing.to_table(rows)) if m.name == "speedup").warnings)
    assert "noisy" in words
    assert "other processes used 1.3 cores" in words
    assert "throttled" in words
