"""The interval that is printed covers the truth, whatever the machine does; the table is the blocks."""

from __future__ import annotations

import math
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from suite import child
from suite.meters import energy, timing
from suite.meters.timing import LOOKS, ORDER, Block
from suite.protocol import Workload


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


def test_compare_and_derive_find_a_real_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.Generator(np.random.Philox(1))
    now = 0.0

    def busy(seconds: float) -> Callable[[], None]:
        def call() -> None:
            nonlocal now
            now += seconds * (1 + 0.1 * now) * float(np.exp(draw.normal(0, 0.05)))  # a machine that slows down, and is noisy

        return call

    # a clock of its own: whatever else computes beside the test cannot make it fail
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: now))
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


def as_table(seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Blocks of an A/A trial, quads by 4 of them in seconds, as `compare` would store them."""
    rows = [
        Block("w", side, quad, 4 * quad + i, 1, float(seconds[quad, i]), 1, 0.0, False)
        for quad in range(len(seconds))
        for i, side in enumerate(ORDER)
    ]
    return timing.to_table(rows)


def bursts_of_blocks(draw: np.random.Generator, n: int) -> np.ndarray:
    """A tenth of the blocks are interrupted, for exponential times."""
    return 1 + draw.normal(0, 0.01, n) + (draw.random(n) < 0.1) * draw.exponential(0.5, n)


def switching_blocks(draw: np.random.Generator, n: int) -> np.ndarray:
    """A neighbour that comes and goes takes more than half of our time while it is there."""
    there = np.cumsum(draw.random(n) < 0.1) % 2
    return (1 + 0.6 * there) * np.exp(draw.normal(0, 0.01, n))


def drifting_blocks(draw: np.random.Generator, n: int) -> np.ndarray:
    """The machine heats up: half as slow again at the end."""
    return np.linspace(1, 1.5, n) * np.exp(draw.normal(0, 0.02, n))


def wandering_blocks(draw: np.random.Generator, n: int) -> np.ndarray:
    """Speed wanders from block to block: first-order correlation of 0.9."""
    out = draw.normal(0, 0.03, n)
    for i in range(1, n):
        out[i] += 0.9 * out[i - 1]
    return np.exp(out)


def waves_of_blocks(draw: np.random.Generator, n: int) -> np.ndarray:
    """Something with a period of eight blocks, at a phase that nobody chose."""
    return (1 + 0.1 * np.sin(2 * np.pi * (np.arange(n) / 8 + draw.random()))) * np.exp(draw.normal(0, 0.005, n))


@pytest.mark.parametrize("noise", [bursts_of_blocks, switching_blocks, drifting_blocks, wandering_blocks, waves_of_blocks])
def test_what_happens_to_blocks_leaves_the_interval_honest(noise: Callable[[np.random.Generator, int], np.ndarray]) -> None:
    draw = np.random.Generator(np.random.Philox(11))
    covered = []
    for _ in range(600):
        logs = timing.quad_ratios(as_table(0.05 * noise(draw, 320).reshape(80, 4)))
        middle, half = timing.ratio(stop_as_compare_does(logs))
        covered.append(abs(middle) <= half)
    assert np.mean(covered) >= 0.935, np.mean(covered)


def test_the_interval_of_a_time_holds_the_true_median() -> None:
    draw = np.random.Generator(np.random.Philox(3))
    for n in (8, 20, 50):
        trials = [timing._median(draw.exponential(1, n))[1] for _ in range(1000)]
        assert np.mean([low <= math.log(2) <= high for low, high in trials]) >= 0.93


def test_a_trial_of_one_quad_claims_no_interval() -> None:
    found = {m.name: m for m in timing.derive(as_table(np.full((1, 4), 0.05)))}
    assert found["speedup"].interval is None
    assert "too few samples for an interval" in found["speedup"].warnings
    assert found["speedup"].value == 1


def test_a_cap_ends_a_comparison_of_slow_calls() -> None:
    made = 0

    def slow() -> None:
        nonlocal made
        made += 1
        time.sleep(0.06)

    blocks = timing.compare(slow, slow, cap_seconds=0.01)
    assert [b.side for b in blocks] == list(ORDER)  # a quad is never left half done
    assert made <= 2 * 4 + 4  # warm-up of two sides, and the quad


@pytest.mark.slow
def test_calls_of_seconds_get_as_many_quads_as_an_interval_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def lasting(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    blocks = timing.compare(lasting(4.0), lasting(6.0), cap_seconds=12.0)
    assert len(blocks) == 4 * timing.ENOUGH
    (speedup,) = (m for m in timing.derive(timing.to_table(blocks)) if m.name == "speedup")
    assert speedup.interval is not None
    hopeless = timing.compare(lasting(40.0), lasting(60.0), cap_seconds=12.0)
    assert len(hopeless) == 4  # a quad of 200 s: ten caps are over


def test_a_pace_found_under_a_neighbour_does_not_make_short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = iter([0.02, 0.002, 0.001] + [0.001] * 40)  # the first timings were interrupted

    def timed(call: Callable[[], object], calls: int, wait: Callable[[], None]) -> float:
        return next(paces) * calls

    monkeypatch.setattr(timing, "_time", timed)
    assert 50 <= timing._calibrate(lambda: None, lambda: None, 0.05, 10) <= 60


def test_blocks_grow_once_a_neighbour_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def timed(call: Callable[[], object], calls: int, wait: Callable[[], None]) -> float:
        nonlocal made
        made += 1
        return calls * (0.01 if made <= 12 else 0.001)  # slowed through both warm-ups and the first quad

    monkeypatch.setattr(timing, "_time", timed)
    seconds = [b.seconds for b in timing.compare(lambda: None, lambda: None, cap_seconds=0.02)]
    assert min(seconds[:8]) < 0.05
    assert min(seconds[8:]) >= 0.05


def test_garbage_is_left_alone_while_blocks_are_timed_and_only_then() -> None:
    import gc

    states = []
    timing.compare(lambda: states.append(gc.isenabled()), lambda: None, cap_seconds=0.01, block_seconds=0.001)
    assert states
    assert not any(states)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_device_is_waited_for_at_both_ends_of_a_block() -> None:
    seen: list[str] = []
    timing.compare(
        lambda: seen.append("call"), lambda: seen.append("call"), synchronize=lambda: seen.append("wait"), cap_seconds=0.01,
        block_seconds=1e-9,
    )  # fmt: skip
    blocks = [block for block in "".join(word[0] for word in seen).split("ww") if block]
    assert len(blocks) > len(ORDER)
    assert all("w" not in block.strip("w") for block in blocks)  # waits stand around calls, never between them


@pytest.mark.parametrize("spoil", ["busy", "items"])
def test_doubts_cannot_be_forged_away(spoil: str) -> None:
    table = as_table(np.full((12, 4), 0.05))
    table[spoil][...] = np.nan if spoil == "busy" else 0
    with pytest.raises(ValueError, match="workload w"):
        timing.derive(table)


# --- whole jobs


def blocks(workload: str, gain: float, parent: float = 0.2, quads: int = 10, noise: float = 0.0) -> list[Block]:
    draw = np.random.Generator(np.random.Philox(len(workload)))
    return [
        Block(
            workload,
            side,
            quad,
            4 * quad + i,
            1,
            parent / (gain if side == "candidate" else 1) * (1 + noise * draw.normal()),
            48,
            0.0,
            False,
        )
        for quad in range(quads)
        for i, side in enumerate(ORDER)
    ]


def of_job(table: timing.Table, calls: dict[str, tuple[float, float]], *beginnings: str) -> dict[str, float]:
    return {m.name: m.value for m in timing.jobs(table, calls, {"training": beginnings})}


def test_a_job_adds_its_workloads_each_as_often_as_it_is_called() -> None:
    table = timing.to_table(blocks("step@0", 1.0) + blocks("step@1", 2.0) + blocks("infer", 5.0))
    found = of_job(table, {"step@0": (25, 25), "step@1": (75, 75)}, "step@")
    assert found == pytest.approx({"time": 0.2 * (25 + 37.5), "parent_time": 20.0, "speedup": 100 / 62.5})


def test_fewer_calls_are_a_gain_and_what_the_parent_never_does_is_none() -> None:
    table = timing.to_table(blocks("step@0", 1.0) + blocks("before/dense", 1.0))
    calls = {"step@0": (80.0, 100.0), "before/dense": (30.0, 0.0)}
    assert of_job(table, calls, "step@")["speedup"] == pytest.approx(1.25)
    assert of_job(table, calls, "step@", "before/")["speedup"] == pytest.approx(100 / 110)


def test_drift_between_workloads_of_a_job_cancels() -> None:
    slower = timing.to_table(blocks("step@0", 1.0, parent=0.2) + blocks("step@1", 1.0, parent=0.4))
    assert of_job(slower, {"step@0": (50, 50), "step@1": (50, 50)}, "step@")["speedup"] == pytest.approx(1.0)


def test_the_interval_of_a_job_is_narrower_than_its_parts_and_holds_the_truth() -> None:
    table = timing.to_table(blocks("step@0", 1.5, noise=0.02) + blocks("step@0.5", 1.5, noise=0.02))
    calls = {"step@0": (50.0, 50.0), "step@0.5": (50.0, 50.0)}
    (_, whole, _) = timing.jobs(table, calls, {"training": ("step@",)})
    one = next(m for m in timing.derive(table) if m.name == "speedup")
    assert whole.interval is not None
    assert one.interval is not None
    assert whole.interval[0] < 1.5 < whole.interval[1]
    assert whole.interval[1] - whole.interval[0] < one.interval[1] - one.interval[0]


def test_a_job_whose_calls_nobody_told_or_whose_part_was_not_timed() -> None:
    table = timing.to_table(blocks("step@0", 1.0))
    assert of_job(table, {"step@0": (5, 5), "step@1": (5, 5)}, "step@") == {}
    assert of_job(table, {}, "other@") == {}
    assert timing.jobs(table, {"step@0": (5, 5)}, {"training": ("step@",)}, ["step@1"]) == []  # whether its calls were told or not
    assert timing.jobs(table, {"step@0": (5, 5)}, {"training": ("step@",)}, ["infer"])
    for calls in ({}, {"step@0": (math.nan, 1.0)}, {"step@0": (-1.0, 1.0)}, {"step@0": (0.0, 1.0)}, {"step@0": (1.0, 0.0)}):
        with pytest.raises(ValueError, match="calls"):
            of_job(table, calls, "step@")
    assert timing.calls_of([("calls", "a", 2.0), ("parent_calls", "a", 3.0), ("time", "a", 1.0)]) == {"a": (2.0, 3.0)}


def test_workloads_of_a_job_share_one_comparisons_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [f"step@{i}" for i in range(9)]
    assert [timing.caps(steps[:n], {"steps": ["step@"]}, 12.0)["step@0"] for n in (1, 2, 4, 9)] == [12.0, 6.0, 3.0, 3.0]
    assert timing.caps(steps, {}, 12.0) == dict.fromkeys(steps, 12.0)
    caps: dict[str, float] = {}

    def compare(*sides: object, workload: str, cap_seconds: float, **options: object) -> list[timing.Block]:
        caps[workload] = cap_seconds
        return []

    names = ("step@0", "step@1", "before/dense", "infer@64")
    works = {n: Workload(n, lambda: lambda: None, 1) for n in names}
    stage = SimpleNamespace(
        deployed=lambda: (None, None),
        workloads=lambda problem, solution: works,
        task=SimpleNamespace(
            parent=lambda problem: None, jobs={"all": ("step@", "before/"), "steps": ("step@",)}, weigh=lambda problem, solution: []
        ),
        spec=SimpleNamespace(device="cpu", tier="small"),
        order=SimpleNamespace(timing_seconds=0.0, again=False),
        tell=lambda event: None,
        work=tmp_path,
    )
    monkeypatch.setattr(timing, "compare", compare)
    monkeypatch.setattr(energy, "open_meter", lambda device: (None, ""))
    child.weigh(stage)  # type: ignore[arg-type]
    assert caps == {"step@0": 4.0, "step@1": 4.0, "before/dense": 4.0, "infer@64": 12.0}


def counted(calls: Sequence[Sequence[int]], seconds: float = 0.055) -> dict[str, np.ndarray]:
    """A table of quads with these calls in their four blocks."""
    return timing.to_table(
        [
            timing.Block("w", side, q, 4 * q + i, calls[q][i], seconds, 1, 0.0, False)
            for q in range(len(calls))
            for i, side in enumerate(timing.ORDER)
        ]
    )


@pytest.mark.parametrize(
    "calls",
    [
        [(40, 10, 10, 40)] * 5 + [(10, 10, 10, 10)] * 5,  # counted four times in the first half
        [(10, 10, 10, 40)] * 10,  # in every second block
        [(10, 10, 40, 10)] * 10,
        [(10, 10, 10, 10)] * 5 + [(40, 10, 10, 40)] * 5,  # grown after blocks that were long enough
    ],
)
def test_calls_are_counted_as_the_scale_counts_them(calls: list[tuple[int, int, int, int]]) -> None:
    timing.derive(counted([(10, 20, 20, 10)] * 10))
    with pytest.raises(ValueError, match="not counted as the scale counts them"):
        timing.derive(counted(calls))


def test_calls_grow_after_a_short_block_and_no_further_than_fills_one() -> None:
    timing.derive(counted([(10, 10, 10, 10)] * 2 + [(22, 22, 22, 22)] * 8, seconds=0.025))
    timing.derive(counted([(10, 10, 10, 10)] * 10, seconds=0.025))  # an older scale let them be
    with pytest.raises(ValueError, match="calls of the"):
        timing.derive(counted([(10, 10, 10, 10)] * 2 + [(23, 23, 23, 23)] * 8, seconds=0.025))
