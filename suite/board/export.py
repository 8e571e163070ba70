"""A board's table to take away: CSV, Parquet, LaTeX, JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from suite.board.tables import Board
    from suite.protocol import Task


FORMULA = ("=", "+", "-", "@", "\t", "\r")  #: how cells begin that spreadsheets compute


def frame(board: Board, task: Task[Any, Any]) -> pd.DataFrame:
    """One line a row of the board, with its conditions: a number without them is not published."""
    import pandas as pd

    r = board.ranking
    lines = []
    for row in board.rows:
        line: dict[str, Any] = {
            "task": r.task, "version": r.version, "tier": r.tier, "division": r.division, "case": r.case, "target": r.target,
            "method": row.method, "variant": row.variant, "kind": row.kind, "rank": row.rank if row.ranked else "",
            task.ranked: row.quality.mean, "half_width_95": row.quality.half, "seeds": len(row.seeds),
            "change": row.change.value if row.change else math.nan, "promised_speedup": row.promise,
            "off_target": row.off_target, "unit": board.unit, "card": board.card,
            "device": board.device,
        }  # fmt: skip
        line |= {name.replace(" ", ":"): cell.value for name, cell in sorted(row.cells.items())}
        lines.append(line)
    return pd.DataFrame(lines)


def write(board: Board, task: Task[Any, Any], folder: Path, stem: str) -> None:
    """Write a board's table in all formats."""
    folder.mkdir(parents=True, exist_ok=True)
    table = frame(board, task)
    table.map(_unformulated).to_csv(folder / f"{stem}.csv", index=False)
    table.to_parquet(folder / f"{stem}.parquet", index=False, compression="snappy")
    table.to_json(folder / f"{stem}.json", orient="records", indent=1)
    (folder / f"{stem}.tex").write_text(latex(board, task), encoding="utf-8")


def _unformulated(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, as text: names of others' methods and settings come from outside."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def latex(board: Board, task: Task[Any, Any]) -> str:
    """The board's main columns for a paper, with its conditions in the caption."""
    r = board.ranking
    key = f"speedup {task.speed}"
    digits = 1 if board.unit == "%" else 2
    lines = []
    for row in board.rows:
        half = f"$\\pm${row.quality.half:.{digits}f}" if math.isfinite(row.quality.half) else ""
        quality = f"{row.quality.mean:.{digits}f}{half}" if math.isfinite(row.quality.mean) else "--"
        promise = [f"{row.promise:.2f}" if row.promise else "--"] if task.promised else []
        fact = f"{row.cells[key].value:.2f}" if key in row.cells else "--"
        lines.append(" & ".join([_escape(row.label), quality, *promise, fact, str(len(row.seeds))]) + " \\\\")
    ranked = f"{_escape(task.ranked)} ({_escape(board.unit)})"
    names = [ranked, *(["on paper ($\\times$)"] if task.promised else []), "in fact ($\\times$)", "seeds"]
    head = " & ".join(["method", *names]) + " \\\\"
    caption = f"weighin {r.task} version {r.version}, {r.tier}, {r.division}, {r.case}{f', {r.target}' if r.target else ''}; {task.show.spoken(task.speed)} on card {board.card}, {board.device}."
    body = "\n".join(lines)
    return f"\\begin{{table}}\n\\begin{{tabular}}{{l{'r' * len(names)}}}\n\\hline\n{head}\n\\hline\n{body}\n\\hline\n\\end{{tabular}}\n\\caption{{{_escape(caption)}}}\n\\end{{table}}\n"


def _escape(text: str) -> str:
    words = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    return "".join(words.get(c, f"\\{c}" if c in "_%&#${}" else c) for c in text)
