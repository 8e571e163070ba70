"""How long a bundle takes to check, and how much more that is than reading it: `make bench`, or pytest --benchmark-enable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suite import bundle, registry
from suite.check import check
from tasks.common import fairness as fairness_file
from tests import demo
from tests.benchmarks.timing import seconds

MOST = 12.0  #: times as long as reading a bundle's files and hashing them


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 bundles of 10,000 rows and three timed workloads, as the small tier writes them."""
    root = tmp_path_factory.mktemp("results")
    for seed in range(5):
        for method in ("dense", "chex", "l1_filters"):
            for target in ("macs=0.5", "macs=0.25"):
                demo.write(root, method, target=target, seed=seed)
    return root


def test_check_many(benchmark: Any, results: Path) -> None:
    found = benchmark(check, [results])
    benchmark.extra_info["bundles"] = 30
    if benchmark.stats:
        benchmark.extra_info["ms_per_bundle"] = 1000 * benchmark.stats.stats.mean / 30
        print(f"\n{benchmark.extra_info['ms_per_bundle']:.1f} ms a bundle")
    assert [f.line() for f in found if f.level == "error"] == []


def test_check_one_against_others(benchmark: Any, results: Path) -> None:
    """What a pull request with one bundle costs: reading the others' records included."""
    one = next(results.glob("*/*/*/*"))
    found = benchmark(check, [one], against=results)
    assert [f.line() for f in found if f.level == "error"] == []


def test_a_check_beside_reading_alone(benchmark: Any, results: Path) -> None:
    """In one run: what the checker takes, as a ratio to parsing, hashing and decoding the same files without a question asked."""

    def read() -> None:
        for path in bundle.find(results):
            json.loads((path / bundle.RUN).read_bytes())
            for name in (bundle.EVIDENCE, bundle.TIMING):
                bundle.sha256(path / name)
                bundle.read_table(path / name)

    check([results])  # tasks and methods are described once
    ratio = benchmark.pedantic(lambda: seconds(lambda: check([results])) / seconds(read), rounds=3)
    benchmark.extra_info["times_reading"] = ratio
    print(f"\n{ratio:.1f} times as long as reading alone")
    if benchmark.enabled:
        assert ratio < MOST


def test_draws_that_are_kept_spare_a_set_of_bundles_their_resamples(benchmark: Any) -> None:
    """Answers on one test set, as the seeds and methods of a case give them: with draws kept and with draws made anew each time."""
    draw = np.random.Generator(np.random.Philox(0))
    label, group = draw.integers(0, 2, 15_000), draw.integers(0, 2, 15_000)
    answers = [np.where(draw.random(15_000) < 0.8, label, 1 - label) for _ in range(4)]

    def score() -> list[object]:
        return [fairness_file.fairness(label, answer, group, 2) for answer in answers]

    kept = score()
    quick = seconds(score)
    fairness_file._KEPT, before = 0, fairness_file._KEPT
    try:
        assert score() == kept
        slow = benchmark.pedantic(lambda: seconds(score), rounds=2)
    finally:
        fairness_file._KEPT = before
    print(f"\n{slow / quick:.1f} times as fast with draws kept")
    if benchmark.enabled:
        assert slow > 3 * quick


def test_the_committed_bundles_of_a_task(benchmark: Any) -> None:
    """All of a task's rows in this process, as `weighin check` does it for fewer than 64 bundles at a time."""
    paths = list(bundle.find(registry.HOUSE / "results" / "fair_pruning"))[:63]
    found = benchmark.pedantic(lambda: check(paths), rounds=1, warmup_rounds=1)
    assert [f.line() for f in found if f.level == "error"] == []
    if benchmark.stats:
        print(f"\n{1000 * benchmark.stats.stats.mean / len(paths):.1f} ms a bundle")
