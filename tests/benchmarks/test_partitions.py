"""How long 20,000 bundles take from partitions beside from their own folders: `pytest tests/benchmarks --benchmark-enable -s`.

Both in turns in one run, so that what the machine does besides falls on both.  Without --benchmark-enable a few hundred bundles go
the same way.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from suite.board import partitions, store
from tests.benchmarks.test_publish import generate
from tests.benchmarks.timing import seconds
from tests.suite.board.test_store import ask

CHECKED = partitions.Checked(marks=0)


@pytest.mark.parametrize("in_place", [False, True])
def test_publish_from_partitions_beside_from_bundles(request: pytest.FixtureRequest, tmp_path: Path, in_place: bool) -> None:
    full = request.config.getoption("benchmark_enable")
    count, rounds = (20_000, 3) if full else (300, 1)
    generate(tmp_path, count)
    results, folder, anew, read = (tmp_path / name for name in ("results", "partitions", "anew.duckdb", "read.duckdb"))
    partitions.write(results, folder, CHECKED)

    def publish() -> None:
        anew.unlink(missing_ok=True)
        store.publish(results, anew)

    def publish_from() -> None:
        partitions.publish([str(folder)], read, in_place=in_place)

    pairs = [(seconds(publish), seconds(publish_from)) for _ in range(rounds)]
    quotient = median(bundles / parquet for bundles, parquet in pairs)
    ours, theirs = (median(pair) for pair in zip(*pairs, strict=True))
    print(f"{count} bundles: {ours:.2f} s from their folders, {theirs:.2f} s from partitions: {quotient:.1f} times as fast")
    for table in ("runs", "measures", "counted"):
        assert ask(read, f"SELECT count(*) FROM {table}") == ask(anew, f"SELECT count(*) FROM {table}")
    if full:
        assert quotient > 2
