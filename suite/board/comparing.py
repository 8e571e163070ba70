"""Two to five methods side by side: the page, and the numbers that ``assets/compare.js`` lays out in it.

The numbers are a script that sets a global, not JSON: a page opened from a folder may load the one, and may not fetch the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite import registry
from suite.board import addresses, budgets, charts
from suite.board.standing import Place
from suite.board.tables import Board, Ranking, Row

if TYPE_CHECKING:
    import jinja2

DATA = "data/compare.js"


def pages(env: jinja2.Environment, boards: Mapping[Ranking, Board]) -> dict[str, str]:
    """The page and its data, by their paths."""
    told = data(env.filters, boards)
    text = env.get_template("compare.md.j2").render(methods=told["methods"], data=DATA)
    return {"compare.md": text, DATA: f"window.weighinCompare={json.dumps(told, ensure_ascii=False, separators=(',', ':'))};\n"}


def data(told: Mapping[str, Any], boards: Mapping[Ranking, Board]) -> dict[str, Any]:
    """What is compared, as the boards write it; `told` are the filters that write it there.

    ``methods``: name, page.  ``rankings``: task, tier, case, target, division, page, measure, unit, workload, card.
    ``rows``: indices of ranking and method, variant, further variants there, quality, its half width, change, speed-up in fact, its
    interval, 1 where all of that lies above the parent, worst part, rank, and where it is ranked the first place that it cannot be
    told apart from, its own, and the last.
    """
    names = sorted({row.method for b in boards.values() for row in b.rows})
    at = {name: i for i, name in enumerate(names)}
    rankings, rows = [], []
    ordered = sorted(boards.items(), key=lambda b: (b[0].task, b[0].division == "speed"))  # where speed alone is asked comes last
    for i, (r, board) in enumerate(ordered):
        task = registry.task_of(r)
        asked = [r.task, r.tier, r.case, r.target, r.division, board.address]
        rankings.append([*asked, task.show.word(task.ranked), board.unit, task.show.spoken(task.speed), board.card[:4]])
        joined = budgets.joined(board)
        for row, more in _own(board):
            cells = _cells(told, row, board, f"speedup {task.speed}")
            rows.append([i, at[row.method], row.variant, more, *cells, *joined.get(row.key, ())])
    return {"methods": [[n, addresses.method_page(n)] for n in names], "rankings": rankings, "rows": rows}


def _own(board: Board) -> Sequence[tuple[Row, int]]:
    """Each method's row and how many variants it has beside: with its default settings, or else the best of its variants."""
    found: dict[str, list[Row]] = {}
    for row in board.rows:
        found.setdefault(row.method, []).append(row)
    return [(min(rows, key=lambda r: bool(r.variant)), len(rows) - 1) for rows in found.values()]


def _cells(told: Mapping[str, Any], row: Row, board: Board, speed: str) -> list[Any]:
    cell = row.cells.get(speed)
    return [
        told["q"](row, board) if math.isfinite(row.quality.mean) else "",
        told["plus_minus"](row, board).strip(),
        told["points"](row.change, board).striptags() if row.change else "",
        told["times"](cell.value) if cell else "",
        told["times_interval"](cell).strip() if cell else "",
        int(cell is not None and cell.low > charts.EDGE),
        told["worst"](row).striptags() if row.classes else "",
        Place(board, row).told,
    ]
