"""Points of the evidence in a plane (`Show.scatter`): a small drawing a method, of its run of seed 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from suite.board import charts
from suite.board.tables import Board, Row

if TYPE_CHECKING:
    import duckdb

    from suite.protocol import Task
    from suite.show import Scatter, Table

WIDTH, HEIGHT, EDGE = 200, 150, 7  #: CSS pixels, and how far from the edge a point lies at least
HELD = 0.98  #: of the points that the axes are chosen for; what lies beyond them is drawn at the edge
FAR = 1.5  #: times what the points span, within which a landmark widens the axes
COLUMNS = ("x", "y", "colour", "shape", "landmark")

Points = Mapping[str, np.ndarray]  #: `COLUMNS`, a line a point


@dataclass(frozen=True)
class Drawn:
    """A method's drawing."""

    row: Row
    svg: Markup


@dataclass(frozen=True)
class Clouds:
    """All drawings of a board, and what their colours and shapes stand for."""

    declared: Scatter
    drawings: Sequence[Drawn]
    legend: Markup


def read(declared: Scatter, evidence: Table) -> dict[str, np.ndarray]:
    """The finite points of an evidence table; raises ValueError where they are not what a scatter holds."""
    found = declared.of(evidence)
    x, y = (np.asarray(found[k], np.float64) for k in ("x", "y"))
    kinds = {k: np.asarray(found[k]).astype(np.int64) for k in ("colour", "shape", "landmark")}
    if x.ndim != 1 or any(v.shape != x.shape for v in (y, *kinds.values())):
        raise ValueError("a scatter's columns are of equal length")
    bounds = {"colour": (-1, len(declared.colours)), "shape": (0, len(declared.shapes)), "landmark": (-1, len(declared.landmarks))}
    for name, (low, high) in bounds.items():
        if len(x) and not low <= kinds[name].min() <= kinds[name].max() < high:
            raise ValueError(f"{name} of a scatter lies outside {low}..{high - 1}")
    seen = np.isfinite(x) & np.isfinite(y)
    return {"x": x[seen], "y": y[seen], **{k: v[seen].astype(np.int8) for k, v in kinds.items()}}


def clouds(db: duckdb.DuckDBPyConnection, board: Board, task: Task[Any, Any]) -> Clouds | None:
    """The drawings of a board's methods as their papers set them; None where the task declares none, or none has points."""
    declared = task.show.scatter
    if declared is None or board.ranking.division == "speed":
        return None
    found = _stored(db, board)
    drawings = [
        Drawn(row, Markup(draw(declared, row.label, found[row.method], ident=f"c{i}{board.ranking.anchor}")))
        for i, row in enumerate(board.plain)
        if row.method in found
    ]
    return Clouds(declared, drawings, Markup(legend(declared))) if drawings else None


def _stored(db: duckdb.DuckDBPyConnection, board: Board) -> dict[str, Points]:
    where, values = board.asked
    listed = ", ".join(f"list(p.{c})" for c in COLUMNS)
    rows = db.execute(
        f"SELECT c.method, {listed} FROM counted AS c JOIN clouds AS p ON p.run = c.id WHERE {where} AND c.variant = ''"
        " GROUP BY c.method",
        values,
    ).fetchall()
    return {method: dict(zip(COLUMNS, map(np.array, columns), strict=True)) for method, *columns in rows}


def span(points: Points) -> tuple[float, float, float]:
    """Middle of both axes, and half of what each of the two spans at most: one scale for both, as distances are looked at."""
    plain = points["landmark"] < 0
    middle, half = [], 0.0
    for name in ("x", "y"):
        every = points[name][plain] if plain.any() else points[name]
        low, high = np.quantile(every, [(1 - HELD) / 2, (1 + HELD) / 2])
        reach = FAR * max(high - low, 1e-12)
        near = [v for v in points[name][~plain].tolist() if low - reach <= v <= high + reach]
        low, high = min([low, *near]), max([high, *near])
        middle.append((low + high) / 2)
        # the plane is wider than it is high
        half = max(half, (high - low) / 2 / (1 if name == "x" else (HEIGHT - 2 * EDGE) / (WIDTH - 2 * EDGE)))
    return middle[0], middle[1], half or 1.0


def draw(declared: Scatter, label: str, points: Points, *, ident: str) -> str:
    """Points by colour and shape, landmarks over them."""
    across, up, half = span(points)
    scale = (WIDTH / 2 - EDGE) / half
    x = np.clip(WIDTH / 2 + scale * (points["x"] - across), EDGE, WIDTH - EDGE)
    y = np.clip(HEIGHT / 2 - scale * (points["y"] - up), EDGE, HEIGHT - EDGE)
    out = [
        f'<svg class="cloud" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-labelledby="{ident}t" aria-describedby="{ident}d">',
        f'<title id="{ident}t">{escape(f"{declared.title}: {label}")}</title>',
        f'<desc id="{ident}d">{escape(words(declared, points))}</desc>',
        f'<rect class="edge" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}"/>',
    ]
    plain = points["landmark"] < 0
    for colour in range(-1, len(declared.colours)):
        for shape in range(len(declared.shapes)):
            mine = plain & (points["colour"] == colour) & (points["shape"] == shape)
            if mine.any():
                path = "".join(_mark(shape, a, b) for a, b in zip(x[mine].tolist(), y[mine].tolist(), strict=True))
                out.append(f'<path class="{_colour(colour)} {"dots" if shape == 0 else "crosses"}" d="{path}"/>')
    for i in np.flatnonzero(~plain).tolist():
        place, name = int(points["landmark"][i]), declared.landmarks[int(points["landmark"][i])]
        sign = _landmark(float(x[i]), float(y[i]))
        out.append(
            f'<path class="halo" d="{sign}"/><path class="{_colour(place)} landmark" d="{sign}"><title>{escape(name)}</title></path>'
        )
    return "".join([*out, "</svg>"])


def words(declared: Scatter, points: Points) -> str:
    """How many points are of which colour and shape, and where the landmarks are beside them."""
    plain, parts = points["landmark"] < 0, []
    for colour in range(-1, len(declared.colours)):
        for shape, form in enumerate(declared.shapes):
            count = int((plain & (points["colour"] == colour) & (points["shape"] == shape)).sum())
            if count:
                parts.append(f"{count} {declared.colours[colour] if colour >= 0 else 'unknown'}, {form}")
    landmarks = [declared.landmarks[i] for i in points["landmark"][~plain].tolist()]
    return "; ".join(parts) + (f". With {', '.join(landmarks)}." if landmarks else ".")


def legend(declared: Scatter) -> str:
    """What colours, shapes and landmarks stand for, in a line."""

    def sign(kind: str, path: str, name: str) -> str:
        return f'<span><svg class="sign" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"><path class="{kind}" d="{path}"/></svg> {escape(name)}</span>'

    dot, out = _mark(0, 8, 8), []
    out += [sign(f"{_colour(i)} dots", dot, name) for i, name in enumerate(declared.colours)]
    out += [sign(f"ink {'dots' if i == 0 else 'crosses'}", _mark(i, 8, 8), name) for i, name in enumerate(declared.shapes)]
    out += [sign(f"{_colour(i)} landmark", _landmark(8, 8), name) for i, name in enumerate(declared.landmarks)]
    return " ".join(out)


def _colour(index: int) -> str:
    return "base" if index < 0 else charts.mark_class(index)


def _mark(shape: int, x: float, y: float) -> str:
    """A dot, as a line of no length with round ends, or a cross."""
    return f"M{x:.0f} {y:.0f}h0" if shape == 0 else f"M{x - 2:.0f} {y - 2:.0f}l4 4m0-4l-4 4"


def _landmark(x: float, y: float) -> str:
    """A large diamond."""
    return f"M{x:.0f} {y - 6:.0f}l6 6-6 6-6-6z"
