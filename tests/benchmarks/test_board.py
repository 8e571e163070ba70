"""How long a board of many labs' results takes: `pytest tests/benchmarks/test_board.py --benchmark-enable -s`.

Without --benchmark-enable two labs with a few rows go the same way, so that the benchmark itself stays tested.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suite import bundle
from suite.board import pages, store, tables
from suite.registry import HOUSE
from tests.benchmarks.copies import copies

RESULTS = HOUSE / "results"
#: committed rows of several cases and targets: what a few of them cost is in proportion to what all cost
ROWS = ("image_pruning/small/dense", "image_pruning/small/l1_filters", "graph_tickets/small/dense", "graph_tickets/small/ugs")


@pytest.fixture
def labs(request: pytest.FixtureRequest) -> int:
    return 10 if request.config.getoption("benchmark_enable") else 2


@pytest.fixture
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """All committed results, or a few of them."""
    if request.config.getoption("benchmark_enable"):
        return RESULTS
    for row in ROWS:
        shutil.copytree(RESULTS / row, tmp_path / "few" / row)
    shutil.copytree(RESULTS / "systems", tmp_path / "few" / "systems")
    return tmp_path / "few"


def board(results: Path, folder: Path) -> float:
    """Seconds of a publication and its pages."""
    start = time.perf_counter()
    store.publish(results, folder / "board.duckdb")
    with store.connect(folder / "board.duckdb") as db:
        pages.write_pages(db, folder / "docs")
    return time.perf_counter() - start


def test_ten_labs_take_no_more_than_ten_times_one(benchmark: BenchmarkFixture, rows: Path, labs: int, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    count = copies(rows, tmp_path / "results", labs)
    one = board(rows, tmp_path / "one")
    many = benchmark.pedantic(lambda: board(tmp_path / "results", tmp_path), rounds=1)
    benchmark.extra_info |= {"bundles": count, "one lab": one, "all": many}
    print(f"{count // labs} bundles in {one:.1f} s, {count} in {many:.1f} s: {many / one:.1f} times")
    with store.connect(tmp_path / "one" / "board.duckdb") as few, store.connect(tmp_path / "board.duckdb") as every:
        assert tables.rankings(few) == tables.rankings(every)
        ranking = tables.rankings(few)[-1]
        ours, theirs = ({r.label: len(r.seeds) for r in tables.board(db, ranking).rows} for db in (few, every))
        assert theirs == {label: labs * seeds for label, seeds in ours.items()}
    if benchmark.enabled:
        assert many < labs * one


def test_copies_are_bundles_whose_files_are_what_they_say(rows: Path, labs: int, tmp_path: Path) -> None:
    count = copies(rows, tmp_path / "results", labs)
    found = list(bundle.find(tmp_path / "results"))
    assert len(found) == count
    for path in found[:: max(1, count // 50)]:
        record = bundle.read(path)
        assert path == bundle.folder(tmp_path / "results", record)
        assert record.id == bundle.identity(record.model_dump(mode="json", exclude_unset=True))
        assert all(bundle.sha256(path / name) == entry.sha256 for name, entry in record.hashed.items())
