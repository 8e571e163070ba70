"""The runs that count on a board, one by one: what they measured, and on which card they were solved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from suite.board.tables import Board

Key = tuple[str, str]  #: method and variant
Runs = Mapping[Key, Mapping[int, Mapping[str, float]]]  #: measures by method and variant, then by seed


def measured(board: Board, names: Sequence[str]) -> Runs:
    """The measures (``name`` or ``name:part``) of the runs that count on a board; a run without any of them is there, empty."""
    found: dict[Key, dict[int, dict[str, float]]] = defaultdict(dict)
    columns = [(name, *name.partition(":")[::2]) for name in filter(None, names)]
    for run in board.runs:
        told = ((full, board.read.of(run, name, part)) for full, name, part in columns)
        found[run.method, run.variant][run.seed] = {name: value for name, value in told if value is not None}
    return found


def workloads(board: Board, names: Sequence[str]) -> Mapping[str, Mapping[tuple[str, str], float]]:
    """Measures of workloads, whatever these are called, of the runs that count on a board: by run, then by measure and workload."""
    columns = [(name, part) for name in names for part, _ in board.read.named.get(name, ())]
    found: dict[str, dict[tuple[str, str], float]] = {}
    for run in board.runs:
        told = ((column, board.read.of(run, *column)) for column in columns)
        found[run.id] = {column: value for column, value in told if value is not None}
    return found


def kinds(board: Board, names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Direction and unit of measures."""
    found = {name: board.read.columns.get(name.partition(":")[::2]) for name in names}
    about = board.read.about
    return {name: (about[at].direction, about[at].unit) if at is not None else ("", "") for name, at in found.items()}


def solved_on(board: Board) -> Mapping[tuple[str, str, int], str]:
    """The card that each run was solved on, by method, variant and seed."""
    return {(r.method, r.variant, r.seed): r.solve_card for r in board.runs}
