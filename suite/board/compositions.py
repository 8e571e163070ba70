"""What makes up a whole along the training (`Show.composition`): a small drawing a method, its parts stacked to one."""

from __future__ import annotations

from collections import defaultdict
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
    from suite.show import Composition

WIDTH, HEIGHT = 300, 168
LEFT, TOP, BOTTOM = 34, 10, 134  #: of the plane, CSS pixels
NAMES = 84  #: right of it, for the names of the parts
MOST_POINTS = 60


@dataclass(frozen=True)
class Shares:
    """Of a row, the mean over its seeds at each look."""

    examples: np.ndarray  #: (looks,) handled
    value: Mapping[str, np.ndarray]  #: by part, in the declared order, (looks,) each; they add up to 1
    seeds: int


@dataclass(frozen=True)
class Drawn:
    row: Row
    svg: Markup
    seeds: int


@dataclass(frozen=True)
class Compositions:
    declared: Composition
    drawings: Sequence[Drawn]


def compositions(db: duckdb.DuckDBPyConnection, board: Board, task: Task[Any, Any]) -> Compositions | None:
    """The drawings of a board's rows, ablations among them; None where the task declares none, or no run told of two parts."""
    declared = task.show.composition
    if declared is None or board.ranking.division == "speed":
        return None
    found = shares(db, board, declared)
    drawings = [
        Drawn(row, Markup(draw(declared, row.label, told, ident=f"k{i}{board.ranking.anchor}")), told.seeds)
        for i, row in enumerate(board.rows)
        if (told := found.get((row.method, row.variant)))
    ]
    return Compositions(declared, drawings) if drawings else None


def shares(db: duckdb.DuckDBPyConnection, board: Board, declared: Composition) -> dict[tuple[str, str], Shares]:
    """What the runs that count on a board told, of rows of two parts or more at two looks or more, by method and variant."""
    where, values = board.asked
    names = [f"{declared.prefix}{part}" for part in declared.parts]
    rows = db.execute(
        "SELECT c.method, c.variant, c.seed, h.name, list(h.examples ORDER BY h.look), list(h.value ORDER BY h.look)"
        " FROM counted AS c JOIN histories AS h ON h.run = c.id"
        f" WHERE h.name IN (SELECT unnest(?)) AND {where} GROUP BY ALL ORDER BY ALL",
        [names, *values],
    ).fetchall()
    runs: dict[tuple[str, str], dict[int, dict[str, tuple[list[int], list[float]]]]] = defaultdict(lambda: defaultdict(dict))
    for method, variant, seed, name, examples, told in rows:
        runs[method, variant][seed][name.removeprefix(declared.prefix)] = (examples, told)
    return {key: made for key, mine in runs.items() if (made := _mean(list(mine.values()), list(declared.parts)))}


def _mean(runs: Sequence[Mapping[str, tuple[list[int], list[float]]]], order: Sequence[str]) -> Shares | None:
    """Over runs, as far as all of them go on; each look's parts are brought to a sum of 1."""
    parts = [p for p in order if any(p in run for run in runs)]
    looks = min(len(told) for run in runs for _, told in run.values())
    if len(parts) < 2 or looks < 2:
        return None
    at = np.median([next(iter(run.values()))[0][:looks] for run in runs], axis=0)
    stack = np.array([[run[p][1][:looks] if p in run else [0.0] * looks for p in parts] for run in runs], np.float64)
    whole = stack.sum(1, keepdims=True)
    mean = np.divide(stack, whole, out=np.zeros_like(stack), where=whole > 0).mean(0)
    return Shares(at, dict(zip(parts, mean, strict=True)), len(runs))


def draw(declared: Composition, label: str, told: Shares, *, ident: str) -> str:
    """Parts stacked from the first one at the bottom, over examples handled, with their names at the end."""
    right = WIDTH - NAMES
    picked = charts.thinned(len(told.examples), MOST_POINTS)
    first, last = float(told.examples[0]), float(told.examples[-1])
    x = LEFT + (told.examples[picked] - first) / max(last - first, 1.0) * (right - LEFT)
    colours = {part: i for i, part in enumerate(declared.parts)}
    out = [
        f'<svg class="parts" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-labelledby="{ident}t" aria-describedby="{ident}d">',
        f'<title id="{ident}t">{escape(f"{declared.title}: {label}")}</title>',
        f'<desc id="{ident}d">{escape(words(declared, told))}</desc>',
    ]
    for share in (0, 50, 100):
        at = BOTTOM - share / 100 * (BOTTOM - TOP)
        out.append(f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{at + 4:.0f}">{share}</text>')
        out.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
    ends: list[tuple[float, float, str, str]] = []
    floor = np.zeros(len(picked))
    for part, value in told.value.items():
        ceiling = floor + value[picked]
        low, high = (BOTTOM - v * (BOTTOM - TOP) for v in (floor, ceiling))
        corners = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
        kind = charts.mark_class(colours[part])
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        out.append(f'<polygon class="{kind} layer" points="{path}"><title>{escape(declared.parts[part])}</title></polygon>')
        ends.append(((low[-1] + high[-1]) / 2, right - 5, f"{declared.parts[part]} {100 * value[-1]:.0f}", kind))
        floor = ceiling
    out += charts.end_labels(ends, right + 9, TOP + 4, BOTTOM)
    out.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    for place, handled, anchor in ((LEFT, first, "start"), (right, last, "end")):
        out.append(f'<text class="tick" text-anchor="{anchor}" x="{place}" y="{BOTTOM + 15}">{handled:,.0f}</text>')
    out.append(f'<text class="tick" text-anchor="middle" x="{(LEFT + right) / 2:.0f}" y="{BOTTOM + 29}">examples handled</text>')
    return "".join([*out, "</svg>"])


def words(declared: Composition, told: Shares) -> str:
    """Each part's share at the first and at the last look."""
    parts = [f"{declared.parts[p]}: {100 * v[0]:.0f} % at first, {100 * v[-1]:.0f} % in the end" for p, v in told.value.items()]
    return "; ".join(parts)
