"""Parquet that means harm: bombs, lies in the footer, columns that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from suite import bundle, registry
from suite.checks import footer
from tests.suite.checks.forger import (
    QUICK,
    ROWS,
    SHARE,
    Dots,
    House,
    blocks,
    errors,
    evidence,
    honest,
    labels,
    refused,
    results,
)


def packed(file: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(dict(columns)), file, **{"compression": "snappy", "store_schema": False, **options})
    return file


def test_a_bomb_of_equal_rows_is_refused_unread(house: House, tmp_path: Path) -> None:
    rows = 20_000_000
    ones = {k: np.zeros(rows, dtype=v) for k, v in Dots.columns.items()}
    file = packed(tmp_path / "bomb", ones, row_group_size=rows, max_rows_per_page=rows)
    assert file.stat().st_size < 5_000
    with results() as root:
        refused(house, honest(root, evidence=file), "rows", bundle.EVIDENCE)


def test_a_bomb_of_one_long_text_is_refused_before_it_unfolds(house: House, tmp_path: Path) -> None:
    rows, text = 30_000, "x" * 5_000_000  # 150 GB, unfolded
    table = {k: v[np.arange(rows) % len(v)] for k, v in blocks().items()}
    table["workload"] = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text])
    file = packed(tmp_path / "bomb", table, row_group_size=rows, dictionary_pagesize_limit=10_000_000)
    assert file.stat().st_size < 1_000_000
    with results() as root:
        refused(house, honest(root, timing=file), "workload", bundle.TIMING)


def test_many_workloads_cannot_keep_the_checker_busy(house: House) -> None:
    names = np.array([f"w{i:05d}" for i in range(20_000) for _ in range(4)], dtype=object)
    one = {k: v[:4] for k, v in blocks().items()}
    table = {k: np.tile(v, 20_000) for k, v in one.items()} | {"workload": names}
    with results() as root:
        refused(house, honest(root, timing=table), "blocks", bundle.TIMING)


def raw(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


ODD: dict[str, Callable[[Path], Path]] = {
    "no column": lambda f: packed(f, {k: v for k, v in evidence().items() if k != "score"}),
    "extra column": lambda f: packed(f, {**evidence(), "extra": np.zeros(ROWS)}),
    "other order": lambda f: packed(f, dict(reversed(evidence().items()))),
    "wider type": lambda f: packed(f, {**evidence(), "label": labels().astype(np.int64)}),
    "unsigned": lambda f: packed(f, {**evidence(), "label": labels().astype(np.uint16)}),
    "text": lambda f: packed(f, {**evidence(), "label": labels().astype(str)}),
    "nested": lambda f: packed(f, {**evidence(), "label": pa.array([[int(x)] for x in labels()])}),
    "structs": lambda f: packed(f, {**evidence(), "label": pa.array([{"a": int(x)} for x in labels()])}),
    "timestamps": lambda f: packed(f, {**evidence(), "label": labels().astype("datetime64[ns]")}),
    "empty cells": lambda f: packed(f, {**evidence(), "label": pa.array([None, *labels()[1:]], pa.int16())}),
    "NaN": lambda f: packed(f, {**evidence(), "score": np.full(ROWS, np.nan, np.float16)}),
    "infinity": lambda f: packed(f, {**evidence(), "score": np.full(ROWS, np.inf, np.float16)}),
    "odd codec": lambda f: packed(f, evidence(), compression="zstd"),
    "odd encoding": lambda f: packed(f, evidence(), use_dictionary=False, column_encoding={"row": "DELTA_BINARY_PACKED"}),
    "arrow schema": lambda f: packed(f, evidence(), store_schema=True),
    "many groups": lambda f: packed(f, evidence(), row_group_size=1),
    "no rows": lambda f: packed(f, {k: v[:0] for k, v in evidence().items()}),
    "no Parquet": lambda f: raw(f, b"PAR1" + b"\x00" * 100 + b"PAR1"),
    "empty": lambda f: raw(f, b""),
    "too large": lambda f: raw(f, b"\x00" * (Dots.evidence_bytes + 1)),
    "far too large": lambda f: raw(f, b"\x00" * 8_000_001),
    "long footer": lambda f: raw(f, b"PAR1" + b"\x00" * 8 + b"\xff\xff\xff\x7fPAR1"),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_odd_parquet_is_refused(house: House, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with results() as root:
        refused(house, honest(root, evidence=make(tmp_path / "odd")), file=bundle.EVIDENCE)


@settings(QUICK, max_examples=60)
@given(
    name=st.sampled_from(["evidence", "timing"]),
    changes=st.lists(st.tuples(SHARE, st.integers(0, 255)), min_size=1, max_size=4),
    footer=st.booleans(),
)
def test_forged_parquet_with_a_new_hash_never_ends_in_a_traceback(
    house: House, name: str, changes: list[tuple[float, int]], footer: bool
) -> None:
    with results() as root:
        file = root / "forged"
        bundle.write_table(evidence() if name == "evidence" else blocks(), file)
        data = bytearray(file.read_bytes())
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if footer else 0
        for where, byte in changes:
            data[start + int(where * (len(data) - start))] = byte
        file.write_bytes(data)
        path = honest(root, change=lambda b: b.update(rows={f"{name}.parquet": ROWS if name == "evidence" else 80}), **{name: file})
        errors(house, path)


@pytest.mark.slow
def test_a_thousand_forged_tables_leave_the_process_alive(tmp_path: Path) -> None:
    """Native code may end the process, which no `except` sees: in a process of its own, footers above all.

    Before footers were read by code of ours, one in some seventy of these did.
    """
    bundle.write_table(evidence(), tmp_path / "evidence.parquet")
    code = (
        "import random, re; from pathlib import Path\n"
        "from suite.checks import untrusted; from suite.checks.findings import Refused\n"
        f"folder, columns = Path({str(tmp_path)!r}), {dict(Dots.columns)!r}\n"
        "whole = (folder / 'evidence.parquet').read_bytes()\n"
        "start = len(whole) - 8 - int.from_bytes(whole[-8:-4], 'little')\n"
        "for seed in range(1000):\n"
        "    draw, data = random.Random(seed), bytearray(whole)\n"
        "    first = start if seed % 4 else 0\n"
        "    for _ in range(draw.randint(1, 4)): data[draw.randrange(first, len(data))] = draw.randrange(256)\n"
        "    (folder / 'evidence.parquet').write_bytes(data)\n"
        "    try: untrusted.table(folder, 'evidence.parquet', columns, 60_000, 240)\n"
        "    except Refused: pass\n"
        # not ru_maxrss, which a child inherits from who started it
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)\n"
    )
    here = {**os.environ, "PYTHONPATH": str(registry.HOUSE)}
    done = subprocess.run([sys.executable, "-c", code], cwd=registry.HOUSE, env=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 1500  # MiB


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd", "none"])
def test_the_footer_says_what_pyarrow_says(tmp_path: Path, codec: str) -> None:
    file = packed(tmp_path / "table", blocks(), compression=codec, row_group_size=50)
    ours, theirs = footer.read(file), parquet.read_metadata(file)
    assert (ours.rows, len(ours.groups), ours.metadata) == (theirs.num_rows, theirs.num_row_groups, False)
    for i, (rows, chunks) in enumerate(ours.groups):
        group = theirs.row_group(i)
        assert (rows, len(chunks)) == (group.num_rows, group.num_columns)
        for j, chunk in enumerate(chunks):
            column = group.column(j)
            assert (chunk.codec, chunk.values, chunk.unpacked) == (
                column.compression,
                column.num_values,
                column.total_uncompressed_size,
            )
            assert chunk.encodings == set(column.encodings)
            assert not chunk.elsewhere
    assert footer.read(packed(tmp_path / "more", blocks(), store_schema=True)).metadata


@QUICK
@given(st.binary(max_size=300))
def test_the_footer_of_anything_is_a_footer_or_a_value_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "any").write_bytes(b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1")
    with suppress(ValueError):
        footer.read(tmp_path / "any")


def test_run_json_may_not_lie_about_rows(house: House) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(rows={bundle.EVIDENCE: ROWS + 1})), "rows", bundle.EVIDENCE)
