"""A case's targets together: quality along what is kept, and what a whole curve comes down to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.board import charts, statistics
from suite.board.tables import Board, Ranking, Row

if TYPE_CHECKING:
    from suite.protocol import Task


@dataclass(frozen=True)
class Summary:
    """What a method's curve comes down to."""

    row: Row
    area: float  #: mean quality from everything kept to `until`
    low: float
    high: float
    least: float | None  #: least share kept at which quality is within one deviation of the parent's mean
    dips: bool  #: whether it falls below that at some larger share


def of(boards: Sequence[Board]) -> dict[Ranking, list[Board]]:
    """Boards of one case whose targets name the same things, under the first of each such series of two or more."""
    found: dict[tuple[str, ...], list[Board]] = {}
    for b in boards:
        if b.ranking.target and b.ranking.division != "speed":
            found.setdefault((b.ranking.case, b.ranking.division, *_target(b)), []).append(b)
    return {s[0].ranking: s for s in found.values() if len(s) > 1}


def chart(boards: Sequence[Board], task: Task[Any, Any], width: int) -> str:
    """Quality along a series' targets, by the share of the first thing that they name; variants and single points stand in the boards."""
    first, targets = boards[0], [_target(b) for b in boards]
    one = all(len(set(target.values())) == 1 for target in targets)
    return charts.along_targets(
        [
            charts.Curve(name, [(share, r.quality.mean, r.half) for share, r in rows], rows[0][1].mark)
            for name, rows in _curves(boards).items()
        ],
        (first.parent.label, first.parent.quality.mean) if first.parent else None,
        kept=" and ".join(task.show.word(name) for name in (targets[0] if one else list(targets[0])[:1])),
        quality=task.ranked,
        unit=first.unit,
        up=first.up,
        width=width,
        ident=f"a{width}{first.ranking.anchor}",
    )


def summary(boards: Sequence[Board]) -> list[Summary]:
    """Curves of methods as numbers, best area first; nothing without a parent, whose runs are each curve's first point.

    The area is clipped to the range that all methods share; its interval is a bootstrap over seeds.
    """
    parent, up = boards[0].parent, boards[0].up
    curves = _curves(boards)
    if parent is None or len(parent.seeds) < 2 or not curves:
        return []
    until = max(rows[-1][0] for rows in curves.values())
    sign = 1 if up else -1
    whole = np.array(list(parent.seeds.values()))
    bound = sign * float(whole.mean()) - float(whole.std(ddof=1))
    out = []
    for rows in curves.values():
        seeds = sorted(set(parent.seeds).intersection(*(r.seeds for _, r in rows)))
        if len(seeds) < statistics.LEAST_SEEDS:
            continue
        shares = [1.0, *(share for share, _ in rows)]
        table = np.array([[parent.seeds[s], *(r.seeds[s] for _, r in rows)] for s in seeds])
        areas = statistics.area(shares, table, until)
        held = [sign * r.quality.mean >= bound for _, r in rows]
        least = min((share for (share, _), ok in zip(rows, held, strict=True) if ok), default=None)
        dips = least is not None and not all(ok for (share, _), ok in zip(rows, held, strict=True) if share > least)
        out.append(Summary(rows[0][1], float(areas.mean()), *statistics.bootstrap(areas), least, dips))
    return sorted(out, key=lambda s: -sign * s.area)


def _target(board: Board) -> dict[str, float]:
    parts = (part.partition("=") for part in board.ranking.target.split(","))
    return {name: float(value) for name, _, value in parts}


def _curves(boards: Sequence[Board]) -> Mapping[str, list[tuple[float, Row]]]:
    """Share of the first thing named and row, largest share first, of each method that was run at two targets or more."""
    found: dict[str, list[tuple[float, Row]]] = {}
    for b in boards:
        share = next(iter(_target(b).values()))
        for row in b.plain:
            if row.kind != "parent" and math.isfinite(row.quality.mean):
                found.setdefault(row.method, []).append((share, row))
    return {name: sorted(rows, key=lambda r: -r[0]) for name, rows in found.items() if len(rows) > 1}
