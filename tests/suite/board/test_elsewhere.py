"""Timings of all machines at once: the same as those of each machine alone, and as a page reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from suite import registry
from suite.board import elsewhere, pages, tables

if TYPE_CHECKING:
    import duckdb

    from suite.board.tables import Board


@pytest.fixture
def half(connection: duckdb.DuckDBPyConnection) -> Board:
    return tables.board(connection, next(r for r in tables.rankings(connection) if r.target == "macs=0.5"))


def told(board: Board) -> dict[str, Any]:
    task = registry.task_of(board.ranking)
    head, _, body = elsewhere.script(board, task, pages._timed_columns(board, task)).partition(",")
    assert head == f'weighin.timed("{board.ranking.anchor}"'
    found: dict[str, Any] = json.loads(body.rstrip().removesuffix(")"))
    return found


def test_every_machines_cells_are_those_that_its_own_board_has(half: Board) -> None:
    task = registry.task_of(half.ranking)
    names = sorted({name for row in half.rows for name in row.cells})
    found = elsewhere.cells(half, task, names)
    assert len(half.cards) == 2
    for place in half.cards:
        for row in tables.timed_on(half, place).rows:
            mine = found.get((place, (row.method, row.variant)), {})
            assert mine.keys() == row.cells.keys() & set(names)
            for name, cell in mine.items():
                theirs = row.cells[name]
                assert (cell.value, cell.low, cell.high) == pytest.approx((theirs.value, theirs.low, theirs.high), nan_ok=True)
                assert cell.warnings == theirs.warnings


def test_a_page_reads_numbers_and_words_of_each_machine(half: Board) -> None:
    found = told(half)
    assert [tuple(p) for p in found["places"]] == list(half.cards)
    chex = next(r for r in half.rows if r.label == "chex")
    for place, cells in zip(half.cards, found["rows"][half.key(chex)], strict=True):
        row = next(r for r in tables.timed_on(half, place).rows if r.label == "chex")
        cell = row.cells["speedup infer@64"]
        assert cells[0][0] == pytest.approx(cell.value, rel=1e-4)
        assert cells[0][1].startswith(f"{cell.value:.2f}× {cell.low:.2f}–{cell.high:.2f}")


def test_a_machine_that_weighed_the_parent_alone_is_none_to_pick(half: Board) -> None:
    parents = [r for r in half.every if r.method == "dense"]
    alone = tables.replace(half, every=[*parents, *(r for r in half.every if r.weigh_class == half.cards[0][0])])
    assert elsewhere.places(alone) == [half.cards[0]]
