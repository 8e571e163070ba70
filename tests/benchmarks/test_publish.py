"""How long 20,000 bundles take to publish, and how much memory: `pytest tests/benchmarks --benchmark-enable -s`.

Without --benchmark-enable a few hundred bundles go the same way, so that the benchmark itself stays tested.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suite import bundle
from suite.board import store
from tests.suite.board.test_store import light

#: run in a process of its own: its high-water mark is the publication's (ru_maxrss would inherit the caller's)
PUBLISH = """
import re, sys
from pathlib import Path
from suite.board import store
done = store.publish(Path(sys.argv[1]), Path(sys.argv[2]))
print(done.new, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def generate(root: Path, count: int) -> None:
    """Bundles of 6.6 KB, as a run of image_pruning weighs, that differ in id, key, seed and method."""
    record = bundle.read(light(root / "template"))
    body = record.model_dump(mode="json")
    body["measures"] = [
        {**body["measures"][0], "name": "class_accuracy", "part": f"class {i}", "low": 80.0, "high": 90.0} for i in range(36)
    ]
    for i in range(count):
        body["id"], body["key"] = f"{i:064x}", f"{i + 1:064x}"
        body["spec"]["seed"], body["method"]["variant"] = i % 10, f"delta0={i // 10}"
        folder = root / "results" / "image_pruning" / "small" / "chex" / f"{i:012x}"
        folder.mkdir(parents=True)
        (folder / bundle.RUN).write_text(json.dumps(body, sort_keys=True, indent=1), encoding="utf-8")


@pytest.fixture
def many(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    count = 20_000 if request.config.getoption("benchmark_enable") else 300
    generate(tmp_path, count)
    return tmp_path / "results", count


def test_publish_anew(benchmark: BenchmarkFixture, many: tuple[Path, int], tmp_path: Path) -> None:
    results, count = many

    def fresh() -> None:
        (tmp_path / "b.duckdb").unlink(missing_ok=True)

    def publish() -> store.Published:
        return store.publish(results, tmp_path / "b.duckdb")

    done = benchmark.pedantic(publish, setup=fresh, rounds=3)
    assert done == store.Published(count, count, 0)
    benchmark.extra_info["bundles"] = count


def test_publish_again_with_one_more(benchmark: BenchmarkFixture, many: tuple[Path, int], tmp_path: Path) -> None:
    results, count = many
    store.publish(results, tmp_path / "b.duckdb")
    light(results, 3)
    done = benchmark.pedantic(lambda: store.publish(results, tmp_path / "b.duckdb"), rounds=1)
    assert done == store.Published(count + 1, 1, 0)


def test_publish_keeps_within_a_gigabyte(many: tuple[Path, int], tmp_path: Path) -> None:
    results, count = many
    call = [sys.executable, "-c", PUBLISH, str(results), str(tmp_path / "b.duckdb")]
    new, mib = map(int, subprocess.run(call, capture_output=True, text=True, check=True).stdout.split())
    print(f"{count} bundles: high-water mark {mib} MiB")
    assert new == count
    assert mib < 1000
