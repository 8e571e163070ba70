"""Any byte of a bundle changed, any number of it: the checker says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import bundle
from suite.check import check
from suite.meters import timing
from suite.protocol import Measure, Table
from tests.suite.checks.forger import (
    CLASSES,
    QUICK,
    ROWS,
    SHARE,
    Change,
    Fields,
    House,
    blocks,
    card,
    errors,
    evidence,
    fields,
    honest,
    refused,
    results,
    seal,
    stored,
)


@pytest.mark.parametrize("name", [bundle.RUN, bundle.EVIDENCE, bundle.TIMING])
@QUICK
@given(where=SHARE, flip=st.integers(1, 255))
def test_any_changed_byte_is_refused(house: House, name: str, where: float, flip: int) -> None:
    with results() as root:
        file = honest(root) / name
        data = bytearray(file.read_bytes())
        data[int(where * len(data))] ^= flip
        file.write_bytes(data)
        assert errors(house, file.parent)


@pytest.mark.parametrize("name", [bundle.RUN, bundle.EVIDENCE, bundle.TIMING])
@QUICK
@given(where=SHARE)
def test_any_truncation_is_refused_even_with_new_hashes(house: House, name: str, where: float) -> None:
    with results() as root:
        path = honest(root)
        file = path / name
        file.write_bytes(file.read_bytes()[: int(where * file.stat().st_size)])
        assert errors(house, path)
        if name != bundle.RUN:
            short = {name.partition(".")[0]: file}
            with results() as other:
                refused(house, honest(other, change=lambda b: b.update(rows={name: ROWS}), **short), file=name)


def test_white_space_is_a_change_too(house: House) -> None:
    with results() as root:
        file = honest(root) / bundle.RUN
        file.write_bytes(file.read_bytes().replace(b"\n ", b"\n\t", 1))
        refused(house, file.parent, "bytes")


DERIVED = ["accuracy", "class_accuracy", "time", "throughput", "speedup", "parent_time"]


@QUICK
@given(
    name=st.sampled_from(DERIVED),
    field=st.sampled_from(["value", "low", "high"]),
    factor=st.floats(-2, 3, allow_subnormal=False).filter(lambda f: abs(f - 1) > 1e-6),
)
def test_any_changed_number_of_evidence_or_timing_is_refused(house: House, name: str, field: str, factor: float) -> None:
    def change(body: Fields) -> None:
        told = next(m for m in body["measures"] if m["name"] == name)
        told[field] = factor * told[field] if told[field] is not None else factor

    with results() as root:
        refused(house, honest(root, change=change), name)


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize(
    "changed",
    [
        {"unit": "kg"},
        {"direction": ""},
        {"direction": "down"},
        {"warnings": ["fine"]},
        {"source": "meter"},
        {"low": None, "high": None},
    ],
)
def test_any_changed_condition_is_refused(house: House, name: str, changed: Fields) -> None:
    def change(body: Fields) -> None:
        told = next(m for m in body["measures"] if m["name"] == name)
        body["moved"] = any(told[k] != v for k, v in changed.items())
        told.update(changed)

    with results() as root:
        body = fields(0, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()}, card().hash)
        change(body)
        if body.pop("moved"):
            path = seal(root, body, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()})
            refused(house, path, name)


@pytest.mark.parametrize("source", ["evidence", "timing", "meter"])
def test_missing_surplus_and_doubled_measures_are_refused(house: House, source: str) -> None:
    def twice(body: Fields) -> None:
        body["measures"].append(dict(next(m for m in body["measures"] if m["source"] == source)))

    with results() as root:
        refused(house, honest(root, change=twice), "measures")
        extra = stored(Measure("accuracy", 99.0, "%", "up", "of my own", source=source))  # type: ignore[arg-type]
        refused(house, honest(root, change=lambda b: b["measures"].append(extra)), "accuracy")
        if source != "meter":
            gone: Change = lambda b: b["measures"].remove(next(m for m in b["measures"] if m["source"] == source))  # noqa: E731
            refused(house, honest(root, change=gone), "measures")


@QUICK
@given(row=st.integers(0, ROWS - 1), column=st.sampled_from(["label", "prediction"]))
def test_evidence_changed_without_its_score_is_refused_and_labels_with_it_too(house: House, row: int, column: str) -> None:
    table = evidence()
    other = {**table, column: table[column].copy()}
    other[column][row] = (int(table[column][row]) + 2) % CLASSES
    with results() as root:
        if (table["label"] == table["prediction"]).mean() != (other["label"] == other["prediction"]).mean():
            refused(house, honest(root, evidence=other), "accuracy")
    with results() as root:  # a forger who also scores it again
        whole = {bundle.EVIDENCE: other, bundle.TIMING: blocks()}
        path = seal(root, fields(0, whole, card().hash), whole)
        assert bool(errors(house, path)) == (column == "label")


@pytest.mark.parametrize(
    "pick",
    [
        np.arange(ROWS - 1),
        np.r_[0, np.arange(ROWS - 1)],
        np.arange(ROWS)[::-1],
        np.r_[np.arange(ROWS), ROWS - 1],
        np.r_[1, 0, np.arange(2, ROWS)],
    ],
    ids=["missing", "twice", "unsorted", "surplus", "swapped"],
)
def test_rows_are_complete_unique_and_sorted(house: House, pick: np.ndarray) -> None:
    table = {k: v[pick] for k, v in evidence().items()}
    whole = {bundle.EVIDENCE: table, bundle.TIMING: blocks()}
    with results() as root:
        refused(house, seal(root, fields(0, whole, card().hash), whole), "row")


@QUICK
@given(block=st.integers(0, 79), factor=st.sampled_from([0.5, 0.9, 1.1, 3.0, 1e-300, 1e300]))
def test_changed_blocks_are_refused(house: House, block: int, factor: float) -> None:
    table = blocks()
    table["seconds"][block] *= factor
    with results() as root:
        path = honest(root, timing=table)
        changed = {k: v[table["workload"] == table["workload"][block]] for k, v in table.items()}
        moved = [m for m in timing.derive(changed) if m not in timing.derive(blocks())] if 1e-9 < factor < 1e9 else [None]
        assert bool(errors(house, path)) == bool(moved)  # a trimmed mean and a median may not move: then no number did


def retimed(root: Path, table: Table, change: Change | None = None) -> Path:
    """A forger who derives the numbers of other timings as well, where they can be derived."""
    whole = {bundle.EVIDENCE: evidence(), bundle.TIMING: table}
    try:
        body = fields(0, whole, card().hash)
    except (ValueError, ArithmeticError):
        body = fields(0, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()}, card().hash)
    if change:
        change(body)
    return seal(root, body, whole)


def shaken(**columns: Callable[[np.ndarray], Any]) -> dict[str, np.ndarray]:
    table = blocks()
    return {k: np.asarray(columns[k](v)).astype(v.dtype) if k in columns else v for k, v in table.items()}


@pytest.mark.parametrize(
    "table",
    [
        shaken(seconds=lambda v: v / 10),
        shaken(side=lambda v: np.roll(v, 1)),
        shaken(side=lambda v: np.where(v == "parent", "candidate", "parent")),
        shaken(quad=lambda v: v + 1),
        shaken(index=lambda v: v[::-1]),
        shaken(calls=lambda v: v * 0),
        shaken(calls=lambda v: -v),
        shaken(items=lambda v: np.arange(len(v)) + 1),
        shaken(seconds=lambda v: -v),
        shaken(seconds=lambda v: v * 0),
        shaken(workload=lambda v: [f"w{i // 4}" for i in range(len(v))]),
        {k: v[:-1] for k, v in blocks().items()},
        {k: v[v.shape[0] // 2 :] for k, v in blocks().items()},
        {k: v[:0] if v.dtype != object else np.array([], dtype=str) for k, v in blocks().items()},
        blocks(quads=timing.LOOKS[-1] + 1),
    ],
    ids=[
        "short",
        "BAAB",
        "swapped",
        "quads",
        "reversed",
        "no calls",
        "minus calls",
        "items",
        "negative",
        "zero",
        "many",
        "no whole quad",
        "speed workload left out",
        "empty",
        "longer than the scale",
    ],
)
def test_timings_that_no_scale_of_ours_wrote_are_refused(house: House, table: dict[str, np.ndarray]) -> None:
    with results() as root:
        refused(house, retimed(root, table), file=bundle.TIMING)


def test_a_workload_that_was_calibrated_while_others_computed_is_marked(house: House) -> None:
    table = blocks()
    table["seconds"][table["workload"] == "infer@1"] /= 10  # one call a block, as a burst of load left it
    table["seconds"][table["workload"] == "infer@64"] *= 10
    with results() as root:
        (mark,) = check([retimed(root, table)], registry=house)
        assert (mark.level, mark.file, mark.message.split(":")[0]) == ("mark", bundle.TIMING, "infer@1")


def test_an_unsupported_workload_is_said_or_timed_never_both(house: House) -> None:
    half = {k: v[v.shape[0] // 2 :] for k, v in blocks().items()}
    told: Change = lambda b: b.update(unsupported={"infer@1": "no such runtime here"})  # noqa: E731
    with results() as root:
        assert errors(house, retimed(root, half, told)) == []
        refused(house, retimed(root, blocks(), told), "workload")
