"""What a task has shown beside its tables (`Task.show`): curves along the evidence, and quality over other measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from suite.board import charts, statistics
from suite.board.tables import Board, Row

if TYPE_CHECKING:
    import duckdb

    from suite.protocol import Task
    from suite.show import Against, Curve

WIDE, NARROW = 640, 380


@dataclass(frozen=True)
class Drawing:
    """A chart for a desk and for a phone, and what it says."""

    title: str
    note: str
    wide: Markup
    narrow: Markup


def drawings(db: duckdb.DuckDBPyConnection, board: Board, task: Task[Any, Any]) -> list[Drawing]:
    """The charts of a board, in the order in which they are read; none where the task declares none, or has no rows for it."""
    if board.ranking.division == "speed":
        return []
    found = [d for axis in task.show.against if (d := _over(board, task, axis))]
    return found + _along(db, board, task.show.curve) if task.show.curve else found


def shown(board: Board) -> list[Row]:
    """Rows of methods as their papers set them, on target, with a quality: what a chart has room for."""
    return [r for r in board.plain if math.isfinite(r.quality.mean)]


def series(db: duckdb.DuckDBPyConnection, board: Board) -> dict[str, list[tuple[float, float]]]:
    """Curves of a board's methods, the mean over their seeds, by method; variants are left out."""
    where, values = board.asked
    rows = db.execute(
        "SELECT c.method, s.place, avg(s.value) FROM counted AS c JOIN series AS s ON s.run = c.id"
        f" WHERE {where} AND c.variant = '' GROUP BY ALL ORDER BY ALL",
        values,
    ).fetchall()
    found: dict[str, list[tuple[float, float]]] = {}
    for method, at, value in rows:
        found.setdefault(method, []).append((at, value))
    return found


def _along(db: duckdb.DuckDBPyConnection, board: Board, curve: Curve) -> list[Drawing]:
    found = series(db, board)
    rows = [r for r in shown(board) if len(found.get(r.method, ())) > 1]
    if not rows:
        return []
    lines = [_line(board, r, found[r.method]) for r in rows]
    out = [
        _drawing(
            f"{curve.name} along the {curve.along}s",
            "Mean over seeds. Coloured: methods from papers, dashed where a colour comes twice; grey: baselines; in the colour of the text: the parent.",
            lambda width: charts.along_rows(
                lines, along=curve.along, value=curve.name, unit=curve.unit, up=curve.up, width=width, ident=f"r{width}{board.ranking.anchor}",
            ),
        )
    ]  # fmt: skip
    parent = board.parent
    base = dict(found.get(parent.method, ())) if parent else {}
    changed = [_line(board, r, [(at, v - base[at]) for at, v in found[r.method] if at in base]) for r in rows if r.kind != "parent"]
    changed = [c for c in changed if len(c.points) > 1]
    if parent and changed:
        zero = parent.label
        out.append(
            _drawing(
                f"The same, as a difference from {zero}",
                f"What one {curve.along} has that another has not falls out, what a method does is left.",
                lambda width: charts.along_rows(
                    changed, along=curve.along, value=curve.name, unit=curve.unit, up=curve.up, width=width,
                    ident=f"d{width}{board.ranking.anchor}", zero=zero,
                ),
            )
        )  # fmt: skip
    return out


def _line(board: Board, row: Row, points: Iterable[tuple[float, float]]) -> charts.Curve:
    return charts.Curve(row.label, [(at, value, math.nan) for at, value in points], row.mark, board.key(row))


def _over(board: Board, task: Task[Any, Any], axis: Against) -> Drawing | None:
    points, without = [], []
    for row in shown(board):
        cell = row.axes.get(axis.measure)
        if cell is None:
            without += [row.label] if row.kind != "parent" else []
            continue
        span = (axis.scale * cell.low, axis.scale * cell.high)
        points.append(charts.Point(row.label, axis.scale * cell.value, row.quality.mean, span, row.half, row.mark, board.key(row)))
    if len(points) < 2:
        return None
    places = [(p.x if axis.up else -p.x, p.y if board.up else -p.y) for p in points]
    front = statistics.front(places)
    read = {row.axes[axis.measure].source for row in shown(board) if axis.measure in row.axes}
    where = f" Timed on card {board.card[:4]}, {board.device}." if read - {"evidence"} and board.card else ""
    where += f" Not drawn, as not every seed has a value: {', '.join(without)}." if without else ""
    return _drawing(
        f"{task.ranked} over {axis.title.partition(',')[0]}",
        f"The line joins those that nothing beats on both axes. Bars: 95 % intervals.{where}",
        lambda width: charts.over(
            points, front, measure=axis.title, more=axis.up, quality=task.ranked, unit=board.unit, up=board.up, width=width,
            ident=f"o{width}{axis.measure.replace(':', '-').replace('/', '-')}{board.ranking.anchor}",
        ),
    )  # fmt: skip


def _drawing(title: str, note: str, draw: Any) -> Drawing:
    return Drawing(title, note, Markup(draw(WIDE)), Markup(draw(NARROW)))


__all__: Sequence[str] = ["Drawing", "drawings", "series", "shown"]
