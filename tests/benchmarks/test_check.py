"""How long a bundle takes to check: `make bench`, or pytest tests/benchmarks --benchmark-enable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite.check import check
from tests import demo


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
