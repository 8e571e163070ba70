"""What every class of machine timed, of a ranking: beside the page, for who picks a machine there."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from suite.board import statistics
from suite.board.tables import Board, Cell
from suite.bundle import stage_of
from suite.protocol import Task

Place = tuple[str, str]  #: a class of machine and a device
Key = tuple[str, str]  #: method and variant
#: a cell's name, as `Row.cells` has it, with what it is written by
Columns = Mapping[str, Callable[[Cell], str]]


def places(board: Board) -> list[Place]:
    """All that timed something but the parent, those of most rows first."""
    parent = (board.parent.method, "") if board.parent else None
    timed = {(r.weigh_class, r.device) for r in board.every if r.weighed and (r.method, r.variant) != parent}
    return [place for place in board.cards if place in timed]


def cells(board: Board, task: Task[Any, Any], names: Sequence[str]) -> dict[tuple[Place, Key], dict[str, Cell]]:
    """As `Row.cells` on each place (`tables.timed_on`), of all places at once."""
    runs = [r for r in board.every if r.weighed and r.weigh_class]
    keys = list(dict.fromkeys(((r.weigh_class, r.device), (r.method, r.variant)) for r in runs))
    index = {key: i for i, key in enumerate(keys)}
    group = np.array([index[(r.weigh_class, r.device), (r.method, r.variant)] for r in runs], np.int64)
    home = np.array([r.solve_class == r.weigh_class for r in runs], bool)
    rows = np.array([r.place for r in runs], np.int64)
    out: dict[tuple[Place, Key], dict[str, Cell]] = defaultdict(dict)
    for name in names:
        measure, _, part = name.partition(" ")
        columns = _columns(board, task, measure, part)
        if not columns or not runs:
            continue
        value, low, high = (_most(a, board.read.value, rows, columns) for a in (board.read.value, board.read.low, board.read.high))
        there = ~np.isnan(value) & (home if stage_of(measure) == "solve" else True)
        count = np.bincount(group[there], minlength=len(keys))
        if measure == "speedup":
            found = _ratios(group[there], value[there], low[there], high[there], len(keys))
        else:
            total = np.bincount(group[there], value[there], minlength=len(keys))
            mean = np.divide(total, count, out=np.full(len(keys), np.nan), where=count > 0)
            found = [(m, np.nan, np.nan) for m in mean.tolist()]
        warned: dict[int, dict[str, None]] = defaultdict(dict)
        if any(column in columns for _, column in board.read.warnings):
            for g, row in zip(group[there].tolist(), rows[there].tolist(), strict=True):
                for column in columns:
                    warned[g] |= dict.fromkeys(w.partition(":")[0] for w in board.read.warnings.get((row, column), ()))
        for g in np.flatnonzero(count).tolist():
            out[keys[g]][name] = Cell(*found[g], "timing", tuple(warned[g]))
    return out


def _columns(board: Board, task: Task[Any, Any], measure: str, part: str) -> list[int]:
    """Columns of a cell: of a job's memory those of all its workloads, of which the most counts."""
    if measure == "memory_peak" and part in task.jobs:
        return [at for name, at in board.read.named.get(measure, ()) if name.startswith(tuple(task.jobs[part]))]
    at = board.read.columns.get((measure, part))
    return [] if at is None else [at]


def _most(array: np.ndarray, by: np.ndarray, rows: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Of several columns that in which `by` has most."""
    told = by[rows][:, columns]
    first = np.where(np.isnan(told), -np.inf, told).argmax(1)
    found: np.ndarray = array[rows, np.array(columns)[first]]
    return found


def _ratios(
    group: np.ndarray, value: np.ndarray, low: np.ndarray, high: np.ndarray, groups: int
) -> list[tuple[float, float, float]]:
    """`statistics.log_ratio` of each group."""
    order = np.argsort(group, kind="stable")
    cuts = np.searchsorted(group[order], np.arange(groups + 1)).tolist()
    told = list(zip(value[order].tolist(), low[order].tolist(), high[order].tolist(), strict=True))
    spans = [(v, a, b) if a > 0 else (v, v, v) for v, a, b in told]
    nothing = (np.nan, np.nan, np.nan)
    return [statistics.log_ratio(spans[a:b]) if b > a else nothing for a, b in pairwise(cuts)]


def script(board: Board, task: Task[Any, Any], columns: Columns) -> str:
    """A script that hands its page what each place timed: a page from a folder can load nothing else.

    By row (`Board.key`), for each place a list of cells ``[number, words]`` in the order of the columns, 0 where there is none.
    """
    there = places(board)
    found = cells(board, task, list(columns))
    rows = {}
    for row in board.rows:
        told = [found.get((place, (row.method, row.variant)), {}) for place in there]
        rows[board.key(row)] = [[_cell(cells, name, write) for name, write in columns.items()] if cells else 0 for cells in told]
    body = json.dumps({"places": there, "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    return f"weighin.timed({json.dumps(board.ranking.anchor)},{body})\n"


def _cell(of: Mapping[str, Cell], name: str, write: Callable[[Cell], str]) -> Any:
    cell = of.get(name)
    return 0 if cell is None else [float(f"{cell.value:.5g}"), write(cell) + "".join(f" △ {w}" for w in cell.warnings)]
