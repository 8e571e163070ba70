"""How fast a thermal frame is seen end to end, and what of its time is the network and the decoding.

`pytest tests/benchmarks/test_flame_detection.py --benchmark-enable -s` judges; without it the same code runs on small frames and
nothing is judged.  Frames a second are of the wall clock with two threads, as on a board with two cores, and hold on a quiet
machine alone; where time goes is of the processor's own time with one thread, which nothing else that runs can change.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from suite.meters.environment import BUSY, Ledger
from tasks.common.engines import torch_threads
from tasks.flame_detection import frames
from tasks.flame_detection import patches as cutting
from tasks.flame_detection.networks import Lfe
from tasks.flame_detection.problem import Detector, PatchSet
from tests.tasks.flame_detection.few import patch_set

K = TypeVar("K", str, int)
CPU = torch.device("cpu")
TARGET = 30.0  #: frames a second that thermal cameras deliver
ENOUGH = 0.85  #: of a frame that is network and decoding
THREADS, ROUNDS = 2, 60


def network(side: int) -> Detector:
    """The LFE network with centres, as FlameFinder deploys it."""
    torch.manual_seed(0)
    model = Lfe(side)
    return Detector(model, torch.randn(2, model.head.in_features))


def scene(judged: bool, name: str) -> PatchSet:
    """The set itself; where nothing is judged a few patches of the same shape."""
    if not judged:
        side, grid = (24, (3, 4)) if name == "synthetic" else (64, (1, 2))
        few = patch_set(side=side, count=12, smoky=4, name="few")
        return PatchSet("few", side, few.folds, few.scenes, grid)
    from tasks.flame_detection import data

    return data.source(name, "")


def medians(calls: Mapping[K, Callable[[], object]], rounds: int) -> dict[K, float]:
    """Seconds of the processor that each call takes; calls take turns, as a machine's speed wanders."""
    found: dict[K, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            found[name].append(time.process_time() - began)
    return {name: statistics.median(spent) for name, spent in found.items()}


@pytest.mark.parametrize("name", ["flame3_scenes", "synthetic"])
def test_a_frame_is_seen_as_fast_as_a_camera_delivers_it(benchmark: BenchmarkFixture, prepared: None, name: str) -> None:
    judged = bool(benchmark.enabled)
    patches, detector = scene(judged, name), network(24 if name == "synthetic" else 64)
    frame, grid = frames.frame_of(patches, detector.model), frames.layout(patches)
    if judged:
        assert frames.HEIGHT - patches.patch < grid[0] * patches.patch <= frames.HEIGHT
        assert frames.WIDTH - patches.patch < grid[1] * patches.patch <= frames.WIDTH
    program = frames.eager(detector, frame, CPU)
    alone = medians({"frame": lambda: frames.see(frame, program, grid)}, ROUNDS if judged else 1)["frame"]
    with torch_threads(THREADS if judged else 1):
        ledger = Ledger()
        spent = benchmark.pedantic(frames.latencies, (lambda: frames.see(frame, program, grid), 20.0 if judged else 0.01))
        busy = ledger.others()
    middle, late = (float(torch.tensor(spent).quantile(q)) for q in (0.5, 0.95))
    benchmark.extra_info |= {"median ms": round(1e3 * middle, 2), "p95 ms": round(1e3 * late, 2), "FPS": round(1 / middle, 1)}
    if judged:
        print(f"\n{name}: {1e3 * middle:.1f} ms, 95 % within {1e3 * late:.1f} ms, {1 / middle:.1f} frames a second of {TARGET:g}")
        print(f"one thread by its own time: {1e3 * alone:.1f} ms, {1 / alone:.1f} frames a second")
        assert 1 / alone >= TARGET
        if busy > BUSY:
            pytest.skip(f"other processes used {busy:.1f} cores: the wall clock of two threads tells nothing here")
        assert 1 / middle >= TARGET


@pytest.mark.parametrize("name", ["flame3_scenes", "synthetic"])
def test_a_frame_is_network_and_decoding(benchmark: BenchmarkFixture, prepared: None, name: str) -> None:
    judged = bool(benchmark.enabled)
    patches, detector = scene(judged, name), network(24 if name == "synthetic" else 64)
    frame, grid = frames.frame_of(patches, detector.model), frames.layout(patches)
    program = frames.eager(detector, frame, CPU)
    x = frames.batch_of(frame)
    picture = frames.decoded(frame.thermal)
    scaled = frames.scaled(picture)[None, None]

    parts: dict[str, Callable[[], object]] = {
        "frame": lambda: frames.see(frame, program, grid),
        "decode": lambda: frames.decoded(frame.thermal),
        "scale": lambda: frames.scaled(picture),
        "cut": lambda: cutting.cut(scaled, patches.patch),
        "network": lambda: program(x),
        "map": lambda: frames.spread(torch.zeros(grid), patches.patch),
    }
    took = benchmark.pedantic(medians, (parts, ROUNDS if judged else 1), rounds=1, iterations=1)
    benchmark.extra_info |= {k: round(1e3 * v, 3) for k, v in took.items()}
    if not judged:
        return
    whole = took.pop("frame")
    share = (took["network"] + took["decode"]) / max(whole, sum(took.values()))
    print(f"\n{name}: {1e3 * whole:.2f} ms a frame; " + ", ".join(f"{k} {1e3 * v:.2f}" for k, v in took.items()))
    print(f"network and decoding: {100 * share:.0f} % of a frame, {100 * ENOUGH:.0f} % at least")
    assert share >= ENOUGH


def test_cutting_takes_no_longer_for_many_patches_than_for_few(benchmark: BenchmarkFixture, prepared: None) -> None:
    """A loop over patches would: 5,120 of 8 pixels against 20 of 128, the same pixels."""
    frame = torch.rand(1, 1, frames.HEIGHT, frames.WIDTH)
    rounds = ROUNDS if benchmark.enabled else 1
    benchmark.pedantic(lambda: None, rounds=1, iterations=1)
    took = medians({side: lambda s=side: cutting.cut(frame, s) for side in (8, 64, 128)}, rounds)  # type: ignore[misc]
    assert [len(cutting.cut(frame, side)) for side in (8, 128)] == [5120, 20]
    benchmark.extra_info |= {f"{side} pixels, ms": round(1e3 * v, 3) for side, v in took.items()}
    if benchmark.enabled:
        print("\n" + ", ".join(f"{side} pixels: {1e3 * v:.2f} ms" for side, v in took.items()))
        assert took[8] < 8 * took[128] + 1e-3, "a loop takes 256 times as long"


def test_batch_norms_are_folded_before_a_frame_is_timed(prepared: None) -> None:
    few = patch_set(side=24, count=12, smoky=4)
    detector = network(24)
    frame = frames.frame_of(PatchSet("few", 24, few.folds, few.scenes, (3, 4)), detector.model)
    seen: list[str] = []
    program = frames.eager(detector, frame, CPU)
    hook = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m).__name__))
    try:
        program(frames.batch_of(frame))
    finally:
        hook.remove()
    assert "Conv2d" in seen
    assert "BatchNorm2d" not in seen
