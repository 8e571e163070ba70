"""Measures that no row is ranked by, as tables beside the board (`Show.figures`): mean over seeds with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.board import statistics
from suite.board.runs import Runs, kinds, measured
from suite.board.tables import Board, Row

if TYPE_CHECKING:
    from suite.protocol import Task
    from suite.show import Figures

ARROWS = {"up": "↑", "down": "↓", "": ""}
MILLI = {"s": ("ms", 1e3)}  #: units that are told in another one


@dataclass(frozen=True)
class Figure:
    """A cell: the mean and half of its interval as they are shown, and over how many of the row's seeds where not over all."""

    value: str
    half: str = ""
    few: str = ""
    metered: bool = False


@dataclass(frozen=True)
class Line:
    row: Row
    cells: Sequence[Figure | None]


@dataclass(frozen=True)
class Told:
    """A table."""

    declared: Figures
    heads: Sequence[str]
    lines: Sequence[Line]


def figures(board: Board, task: Task[Any, Any]) -> list[Told]:
    """The tables of a board, without columns and rows that have no value; none where the task declares none."""
    if board.ranking.division == "speed":
        return []
    every = list(dict.fromkeys(name for declared in task.show.figures for name in declared.columns))
    runs, of = (measured(board, every), kinds(board, every)) if every else ({}, {})
    out = []
    for declared in task.show.figures:
        names = list(declared.columns)
        metered = {n for n in names if any(_key(n) in row.cells for row in board.rows)}
        lines = [Line(row, [_figure(row, n, runs, of[n][1], n in metered) for n in names]) for row in board.rows]
        lines = [line for line in lines if any(line.cells)]
        there = [i for i in range(len(names)) if any(line.cells[i] for line in lines)]
        if lines:
            heads = [_head(declared.columns[names[i]], *of[names[i]]) for i in there]
            out.append(Told(declared, heads, [Line(line.row, [line.cells[i] for i in there]) for line in lines]))
    return out


def _key(name: str) -> str:
    """A measure by its name among a row's cells."""
    return name.replace(":", " ", 1)


def _head(words: str, direction: str, unit: str) -> str:
    shown = MILLI.get(unit, (unit, 1.0))[0]
    return f"{words}{f', {shown}' if shown else ''}\u00a0{ARROWS[direction]}".rstrip("\u00a0")


def _figure(row: Row, name: str, runs: Runs, unit: str, metered: bool) -> Figure | None:
    """A row's cell; what a machine was measured by is of the board's card alone, as all timings are."""
    scale = MILLI.get(unit, (unit, 1.0))[1]
    if metered:
        cell = row.cells.get(_key(name))
        return Figure(_told(scale * cell.value, unit, math.nan), metered=cell.source == "meter") if cell else None
    mine: Mapping[int, Mapping[str, float]] = runs.get((row.method, row.variant), {})
    values = [scale * m[name] for m in mine.values() if name in m]
    if not values:
        return None
    half = statistics.t_interval(values)[1] if len(values) >= statistics.LEAST_SEEDS else math.nan
    few = f"{len(values)} of {len(mine)} seeds" if len(values) < len(mine) else ""
    return Figure(_told(float(np.mean(values)), unit, half), f"±{_told(half, unit, half)}" if half > 0 else "", few)


def _told(value: float, unit: str, half: float) -> str:
    """So many digits as the interval supports: of shares one after the point at most, of others three, or as many significant."""
    if unit == "%":
        text = f"{value:.{statistics.decimals(half, 1)}f}"
    elif math.isfinite(half) and half > 0:
        text = f"{value:.{statistics.decimals(half, 3)}f}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")
