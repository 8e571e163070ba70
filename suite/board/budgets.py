"""What a budget is held against: numbers of each row for ``assets/budget.js``, the better end up and the surer end beside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite.board.tables import Board, Cell, Part, Row

if TYPE_CHECKING:
    from suite.protocol import Task


def asked(board: Board, task: Task[Any, Any]) -> str:
    """JSON of what a board can be asked: its words and units; sliders are made of the rows' own numbers."""
    words = {
        "best": f"{'most' if board.up else 'least'} {task.show.word(task.ranked)}",
        "unit": board.unit,
        "per": "points" if board.unit == "%" else board.unit,
        "up": board.up,
        "fact": task.show.spoken(task.speed),
        "parts": [kind.word for kind in task.show.kinds],
    }
    return json.dumps(words, ensure_ascii=False)


def rows(board: Board, task: Task[Any, Any]) -> Mapping[str, str]:
    """JSON by `Row.key` of the rows that may answer: neither the parent nor what is kept apart.

    ``n`` method; ``q`` quality; ``s`` speed-up in fact, ``c`` gain over the parent, ``w`` gain of the part that pays most, a list a kind: each as
    value and unfavourable end of the 95 % interval (null without one), the part's name behind; ``p`` share in % that counting finds
    left; ``m`` bytes of the weights as they run; ``j`` its place among the ranked, between the first and last that it cannot be told
    apart from, which rows without a rank lack.
    """
    places = joined(board)
    found = {}
    for row in board.rows:
        if row.kind == "parent" or row.apart or not math.isfinite(row.quality.mean):
            continue
        speed, weights = row.cells.get(f"speedup {task.speed}"), row.cells.get(f"memory_weights {task.speed}")
        told = {
            "n": row.method,
            "q": _short(row.quality.mean),
            "s": [_short(speed.value), _short(speed.low)] if speed else None,
            "c": _gain(row.change, board.up),
            "w": [_pays(parts) for parts in _kinds(row, task)],
            "p": _short(100 / row.promise) if row.promise else None,
            "m": round(weights.value) if weights else None,
            "j": places.get(row.key),
        }
        found[row.key] = json.dumps({k: v for k, v in told.items() if v is not None}, ensure_ascii=False, separators=(",", ":"))
    return found


def joined(board: Board) -> Mapping[str, tuple[int, int, int]]:
    """Places from 0: the first ranked row that each cannot be told apart from, its own, the last."""
    out = {}
    for at, row in enumerate(board.ranked):
        spans = [(first, last) for first, last, _ in board.lanes if first <= at <= last]
        out[row.key] = (min((a for a, _ in spans), default=at), at, max((b for _, b in spans), default=at))
    return out


def _kinds(row: Row, task: Task[Any, Any]) -> Sequence[Sequence[Part]]:
    return [row.classes, *row.further][: len(task.show.kinds)]


def _gain(change: Cell | None, up: bool) -> list[Any] | None:
    if change is None:
        return None
    low = change.low if up else -change.high
    return [_short(change.value if up else -change.value), _short(low)]


def _pays(parts: Sequence[Part]) -> list[Any] | None:
    """Of the parts large enough to be compared the least gain, the least surer end of any, and which one gains least."""
    found = [p for p in parts if math.isfinite(p.change) and not p.small]
    if not found:
        return None
    least = min(found, key=lambda p: p.gain)
    sure = [p.gain - p.half for p in found if math.isfinite(p.half)]
    return [_short(least.gain), _short(min(sure)) if sure else None, least.name]


def _short(value: float) -> float | None:
    """Five significant digits; null where there is no number."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
