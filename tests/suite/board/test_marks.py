"""What stands beside a row besides its numbers: who ran it, from what, with what remarks, and who ran it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suite import bundle, confirming
from suite.board import store, tables
from tests.suite.board.test_store import HERE, light
from tests.suite.board.test_tables import measured


def rows_of(root: Path, tmp_path: Path) -> dict[str, tables.Row]:
    store.publish(root, tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        (ranking,) = tables.rankings(db)
        return {row.label: row for row in tables.board(db, ranking).rows}


def confirm(root: Path, run: str, card: str, by: str, *, evidence: str = "equal") -> None:
    told = {"run": run, "replay": "e" * 64, "created": "2026-03-01T00:00:00Z", "card": card, "evidence": evidence}
    rest: dict[str, Any] = {"counts": "agrees", "timings": "not judged", "submitter": by}
    confirming.write(root, confirming.Confirmation.model_validate(told | rest))


def texts(row: tables.Row) -> list[str]:
    return [m.text for m in row.marks]


@pytest.mark.slow
def test_submitter_changes_and_notes_stand_on_the_row(tmp_path: Path) -> None:
    for seed, name in enumerate(("Some Lab", "Other Lab", "")):
        notes = ["data: 3 files were left out", "load average 2.0 when weighing began", "energy: no counter"]
        source = {"weighin": "0.1.0", "dirty": seed == 1}
        light(tmp_path / "r", seed, measures=measured(90), submitter=name, notes=notes, source=source)
    (row,) = rows_of(tmp_path / "r", tmp_path).values()
    assert texts(row) == ["by Other Lab and 1 more", "△ uncommitted changes", "△ 1 note", "notes"]
    assert row.marks[2].about == "3 files were left out"
    assert row.ranked


@pytest.mark.slow
def test_a_source_that_is_not_ours_is_a_row_apart_and_unranked(tmp_path: Path) -> None:
    ours = {"name": "chex", "origin": "reference", "version": HERE}
    for seed in range(3):
        light(tmp_path / "r", seed, measures=measured(90), method=ours)
        light(tmp_path / "r", seed, measures=measured(99), method={**ours, "version": "b" * 16}, key=f"{seed + 50:064x}")
    rows = rows_of(tmp_path / "r", tmp_path)
    assert {label: row.ranked for label, row in rows.items()} == {"chex": True, f"chex (source={'b' * 8})": False}
    assert rows["chex"].quality.mean == pytest.approx(90)
    assert rows[f"chex (source={'b' * 8})"].why[0] == "foreign source"


@pytest.mark.slow
def test_a_foreign_task_stands_apart_as_well(tmp_path: Path) -> None:
    for seed in range(3):
        light(tmp_path / "r", seed, measures=measured(99), source={"weighin": "0.1.0", "task_digest": "d" * 16})
    (row,) = rows_of(tmp_path / "r", tmp_path).values()
    assert row.foreign
    assert not row.ranked


@pytest.mark.slow
def test_replays_by_others_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "r"
    runs = [bundle.read(light(root, seed, measures=measured(90), submitter="Some Lab")).id for seed in range(3)]
    confirm(root, runs[0], "a" * 16, "Other Lab")
    (row,) = rows_of(root, tmp_path).values()
    assert "✓ confirmed once, on one machine" in texts(row)
    confirm(root, runs[1], "b" * 16, "Third Lab")
    (row,) = rows_of(root, tmp_path).values()
    assert "✓ confirmed twice, on two machines" in texts(row)
    confirm(root, runs[2], "c" * 16, "Some Lab")  # himself: the checker refuses it, and the board does not count it
    confirm(root, runs[2], "d" * 16, "Fourth Lab", evidence="differs")
    (row,) = rows_of(root, tmp_path).values()
    assert "✓ confirmed twice, on two machines" in texts(row)
    assert "✕ a replay differs" in texts(row)


def test_a_method_of_ones_own_is_ranked_by_seeds_alone(tmp_path: Path) -> None:
    mine = {"name": "mine@abababababab", "origin": "file", "version": "ab" * 16, "seedless": True}
    light(tmp_path / "r", 0, measures=measured(99), method=mine)
    (row,) = rows_of(tmp_path / "r", tmp_path).values()
    assert not row.ranked
