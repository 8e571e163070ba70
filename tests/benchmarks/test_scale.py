"""How wrong a speed ratio comes out, three ways, in one run: `pytest tests/benchmarks --benchmark-enable -s`.

The truth is known: a network against its twin, 1.  Timings of different runs or machines say nothing about a way
of timing, so the ways are interleaved here and compared with each other.  Without --benchmark-enable two short
trials go the same way, so that the benchmark itself stays tested.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console

from suite.meters import environment, selftest, timing
from suite.processors import cores

#: Coverage needs many trials: of a hundred 95 % intervals, fewer than ninety hold the truth once in ninety runs.
TRIALS = {"one thread": 20, "all threads": 100}
COVERED = 0.9


@pytest.fixture
def threads(using: str) -> Iterator[int]:
    yield 1 if using == "one thread" else 0
    environment.prepare_process()


@pytest.mark.parametrize("using", list(TRIALS))
def test_error_of_a_ratio_three_ways(benchmark: BenchmarkFixture, using: str, threads: int) -> None:
    if not benchmark.enabled and not threads:
        pytest.skip("threads that wait for each other on a busy machine take long: with --benchmark-enable")
    trials, cap = (TRIALS[using], 4.0) if benchmark.enabled else (2, 0.3)
    result = benchmark.pedantic(selftest.self_test, (trials, cap, threads or None), rounds=1)
    ours, *others = result.ways
    benchmark.extra_info |= {
        "threads": threads or cores(),
        "resolution": result.resolution,
        "covered": f"{ours.covered} of {result.trials}",
        # above 1: that way's error is so many times ours, in the same run
        "error against ours": {w.name: w.median / max(ours.median, 1e-12) for w in others},
        "worst against ours": {w.name: max(w.errors) / max(*ours.errors, 1e-12) for w in others},
    }
    if benchmark.enabled:
        Console().print(f"\n{threads or cores()} threads", selftest.render(result))
    assert len({len(w.errors) for w in result.ways}) == 1
    assert ours.covered is not None
    if benchmark.enabled:
        if trials >= 100:
            assert ours.covered >= COVERED * trials
        assert ours.median <= min(w.median for w in others)


def test_deriving_a_bundles_measures(benchmark: BenchmarkFixture) -> None:
    """What the checker spends on the longest comparison of one workload."""
    blocks = [
        timing.Block("infer@64", side, quad, 4 * quad + i, 10, 0.05 + 1e-4 * ((7 * quad + i) % 11), 64, 0.0, False)
        for quad in range(timing.LOOKS[-1])
        for i, side in enumerate(timing.ORDER)
    ]
    measures = benchmark(timing.derive, timing.to_table(blocks))
    assert {m.name for m in measures} == {"time", "throughput", "speedup", "parent_time"}
