"""The runs that count on a board, one by one: what they measured, and on which card they were solved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from suite.board.tables import Board

if TYPE_CHECKING:
    import duckdb

Key = tuple[str, str]  #: method and variant
Runs = Mapping[Key, Mapping[int, Mapping[str, float]]]  #: measures by method and variant, then by seed


def measured(db: duckdb.DuckDBPyConnection, board: Board, names: Sequence[str]) -> Runs:
    """The measures (``name`` or ``name:part``) of the runs that count on a board; a run without any of them is there, empty."""
    where, values = board.asked
    found: dict[Key, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    rows = db.execute(
        "SELECT c.method, c.variant, c.seed, m.name, m.part, m.value FROM counted AS c LEFT JOIN measures AS m"
        " ON m.run = c.id AND concat_ws(':', m.name, nullif(m.part, '')) IN (SELECT unnest(?))"
        f" WHERE {where} ORDER BY c.seed",
        [list(filter(None, names)), *values],
    ).fetchall()
    for method, variant, seed, name, part, value in rows:
        mine = found[method, variant][seed]
        if name is not None:
            mine[f"{name}:{part}" if part else name] = value
    return found


def workloads(db: duckdb.DuckDBPyConnection, board: Board, names: Sequence[str]) -> Mapping[str, Mapping[tuple[str, str], float]]:
    """Measures of workloads, whatever these are called, of the runs that count on a board: by run, then by measure and workload."""
    where, values = board.asked
    found: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for run, name, part, value in db.execute(
        "SELECT m.run, m.name, m.part, m.value FROM measures AS m JOIN counted AS c ON m.run = c.id"
        f" WHERE m.name IN (SELECT unnest(?)) AND {where}",
        [list(names), *values],
    ).fetchall():
        found[run][name, part] = value
    return found


def kinds(db: duckdb.DuckDBPyConnection, board: Board, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Direction and unit of measures."""
    where, values = board.asked
    rows = db.execute(
        "SELECT DISTINCT concat_ws(':', m.name, nullif(m.part, '')), m.direction, m.unit FROM counted AS c JOIN measures AS m"
        f" ON m.run = c.id WHERE {where} ORDER BY ALL",
        values,
    ).fetchall()
    found = {name: (direction, unit) for name, direction, unit in rows}
    return {name: found.get(name, ("", "")) for name in names}


def solved_on(db: duckdb.DuckDBPyConnection, board: Board) -> Mapping[tuple[str, str, int], str]:
    """The card that each run was solved on, by method, variant and seed."""
    where, values = board.asked
    rows = db.execute(f"SELECT method, variant, seed, solve_card FROM counted AS c WHERE {where}", values).fetchall()
    return {(method, variant, seed): card or "" for method, variant, seed, card in rows}
