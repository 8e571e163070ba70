"""Pages from DuckDB: Markdown with the tables in it, then a builder.  No hooks, no data plugins."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from threadpoolctl import threadpool_limits

from suite import fields, place, registry
from suite.board import (
    addresses,
    budgets,
    building,
    cases,
    changes,
    charts,
    claims,
    clouds,
    comparing,
    compositions,
    crossed,
    deferred,
    elsewhere,
    export,
    figures,
    gallery,
    histories,
    series,
    showing,
    standing,
    statistics,
    store,
    systems,
    tables,
    tradeoffs,
)
from suite.board.schema import schema_table
from suite.board.tables import Board, Cell, Part, Ranking, Row
from suite.naming import UserError
from suite.processors import cores

if TYPE_CHECKING:
    import duckdb
    import jinja2

    from suite.protocol import Task

HERE = Path(__file__).resolve().parent
MOST_ROWS = 10  #: methods in a chart of classes or groups, at least
MOST_BELLS = 80  #: dumbbells of a board where classes or groups are few, so that of two groups there is room for many methods
MOVERS = 4  #: dumbbells of a method where there are many classes
MOST_MACHINES = 2  #: beside the board's own that stand on a page; all are to be picked
MOST_SHOWN = 500  #: rows of a ranking that stand in its page
MANY = 4000  #: runs that are worth other processes
COUNTED = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")


@dataclass(frozen=True)
class Column:
    """A timed or metered column of a board."""

    key: str
    head: str
    arrow: str
    kind: str
    slanted: bool


def build(db: Path, out: Path, *, results: Path | None = None, builder: str = "mkdocs", sources: Path | None = None) -> Path:
    """Write all pages and build them; returns the site's folder.

    Nothing but `out` and `sources` is touched, and `out` only if it is new, empty or a site.  Raises UserError where it
    is not, and where the builder fails.

    Args:
        results: not read: all stands in `db`.
        builder: of `building.BUILDERS`.
        sources: a new folder that keeps what the site is built from; without it a scratch folder has that.
    """
    building.check(out, builder, sources)
    try:
        with tempfile.TemporaryDirectory(prefix="weighin-site-") as scratch:
            write_sources(db, sources or Path(scratch))
            building.build(builder, sources or Path(scratch), out)
    except OSError as e:
        raise UserError(f"cannot write the site to {out}: {e.strerror}; make room or name another folder") from e
    return out


def write_sources(db: Path, folder: Path) -> None:
    """Write what a builder needs into a folder, laid out as in the clone: ``mkdocs.yml`` and, in ``site/docs``, every page and file."""
    docs = folder / "site" / "docs"
    shutil.copytree(place.site_sources() / "site" / "docs", docs)
    shutil.copyfile(place.site_sources() / "mkdocs.yml", folder / "mkdocs.yml")
    with store.connect(db) as connection:
        write_pages(connection, docs)
    (docs / "data").mkdir(exist_ok=True)
    shutil.copyfile(db, docs / "data" / "weighin.duckdb")


def write_pages(db: duckdb.DuckDBPyConnection, docs: Path) -> None:
    """Write the generated pages of a docs folder; of many runs the tasks are done by a process a core."""
    env = _environment()
    paths = addresses.pages(tables.rankings(db))
    boards: dict[Ranking, Board] = {}
    ledger: dict[str, list[claims.Verdict]] = {}
    beside: list[Board] = []
    for name, made in zip(registry.tasks(), _made(db, docs, paths), strict=True):
        boards |= {b.ranking: b for b in made.boards}
        beside += made.elsewhere
        ledger[name] = made.claims
    (docs / "data").mkdir(parents=True, exist_ok=True)
    (docs / "data" / "machines.js").write_text(systems.script(db), encoding="utf-8")
    pages = _method_pages(env, boards) | systems.pages(env, db, [*boards.values(), *beside])
    every = [v for found in ledger.values() for v in found]
    tally = claims.tally(every) if every else []
    pages["index.md"] = _home(env, db, boards, tally)
    pages["claims.md"] = env.get_template("claims.md.j2").render(ledger=ledger, tally=tally)
    pages["schema.md"] = "# The bundle's schema\n\n" + schema_table()
    pages["tasks/index.md"] = _task_index(paths)
    pages["methods/index.md"] = standing.index(env, boards)
    pages |= comparing.pages(env, boards)
    pages["changes.md"] = changes.page(env, db, paths)
    _write(docs, pages)


def _write(docs: Path, pages: Mapping[str, str]) -> None:
    for path, text in pages.items():
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Made:
    """What other pages tell of a task whose own are written; its boards have no runs any more."""

    boards: Sequence[Board]
    elsewhere: Sequence[Board]  #: those of further machines that stand on its pages
    claims: list[claims.Verdict]


def _made(db: duckdb.DuckDBPyConnection, docs: Path, paths: Mapping[Ranking, str]) -> Iterator[Made]:
    """Each task's pages written, in the order of the tasks."""
    names = list(registry.tasks())
    often = dict(db.execute("SELECT task, count(*) FROM runs GROUP BY ALL").fetchall())
    if sum(often.values()) < MANY:
        yield from (_of_task(db, docs, paths, name) for name in names)
        return
    with ProcessPoolExecutor(cores(), get_context("spawn")) as pool:
        file = store.file_of(db)
        largest = sorted(names, key=lambda name: -often.get(name, 0))
        found = {name: pool.submit(_of_task_in, file, docs, paths, name) for name in largest}
        yield from (found[name].result() for name in names)


def _of_task_in(file: Path, docs: Path, paths: Mapping[Ranking, str], name: str) -> Made:
    """As `_of_task`, in another process."""
    with threadpool_limits(1), store.connect(file) as db:
        db.execute("SET threads = 1")
        return _of_task(db, docs, paths, name)


def _of_task(db: duckdb.DuckDBPyConnection, docs: Path, paths: Mapping[Ranking, str], name: str) -> Made:
    """Write a task's pages, with its tables to take away and its pictures: a page a case, and where a tier has several their overview."""
    env, task = _environment(), registry.task(name)
    read = {case.name: case for case in cases.of_task(db, name)}
    boards = [replace(tables.of(read[tables.case_of(r)], r), page=path) for r, path in paths.items() if r.task == name]
    further = {b.ranking: _elsewhere(b) for b in boards}
    verdicts = claims.of(list(read.values()), name)
    pages: dict[str, str] = {}
    for tier in task.tiers:
        mine = [b for b in boards if b.ranking.tier == tier]
        told = [v for v in verdicts if v.tier in (tier, "")]
        by_page = {path: [b for b in mine if b.page == path] for path in dict.fromkeys(b.page for b in mine)}
        several = len(by_page) > 1
        for path, found in by_page.items():
            pages[f"{path}.md"] = _task_page(env, db, docs, task, found, further, series.of(mine), [] if several else told, several)
        if several:
            pages[f"{addresses.tier_page(name, tier)}.md"] = env.get_template("tier.md.j2").render(
                task=task,
                tier=tier,
                conditions=task.tiers[tier].conditions,
                parts=list(by_page.values()),
                series=series.of(mine),
                aside=tables.aside(mine),
                claims=told,
            )
    _write(docs, pages)
    for b in boards:
        of = registry.task_of(b.ranking)
        export.write(b, of, docs / "data", file_stem(b))
        if rest := _later(b):
            (docs / "data" / f"{file_stem(b)}-rows.js").write_text(_later_script(env, b, of, rest), encoding="utf-8")
        if _elsewhere_file(b):
            text = elsewhere.script(b, of, _timed_columns(b, of))
            (docs / "data" / f"{file_stem(b)}-machines.js").write_text(text, encoding="utf-8")
    bare = [b.bare() for b in boards]
    return Made(bare, [b.bare() for found in further.values() for b in found], verdicts)


def _task_page(
    env: jinja2.Environment,
    db: duckdb.DuckDBPyConnection,
    docs: Path,
    task: Task[Any, Any],
    boards: Sequence[Board],
    further: Mapping[Ranking, Sequence[Board]],
    curves: Mapping[Ranking, Sequence[Board]],
    told: Sequence[claims.Verdict],
    several: bool,
) -> str:
    """The boards of a page; `several`: its tier has other pages beside it.  Its pictures are written beside it.

    Many arguments, as a page brings together what its task's boards are asked one by one.

    `curves` are those of the tier (`series.of`): a case's go over all its targets, on whatever page these stand.
    """
    tier = boards[0].ranking.tier
    each = [(b, registry.task_of(b.ranking)) for b in boards]
    galleries = {b.ranking: found for b, of in each if (found := gallery.gallery(db, b, of))}
    for shot in (shot for found in galleries.values() for scene in found.scenes for shot in scene.shots):
        (docs / "pictures").mkdir(exist_ok=True)
        (docs / "pictures" / shot.file).write_bytes(shot.data)
    page = env.get_template("task.md.j2").render(
        task=task,
        tier=tier,
        case=f"{boards[0].ranking.case}{', between the named targets' * boards[0].page.endswith('-between')}" if several else "",
        overview=addresses.tier_page(task.name, tier),
        conditions=task.tiers[tier].conditions,
        boards=boards,
        aside=tables.aside(boards),
        others=further,
        columns=partial(_columns, task),
        series=curves,
        drawings={b.ranking: showing.drawings(db, b, of) for b, of in each},
        traded={b.ranking: tradeoffs.traded(b, of) for b, of in each},
        reached={b.ranking: tradeoffs.reaching(b, of) for b, of in each},
        told={b.ranking: histories.history(db, b, of) for b, of in each},
        crossings={b.ranking: crossed.crossing(db, b, of) for b, of in each},
        further={b.ranking: figures.figures(b, of) for b, of in each},
        clouds={b.ranking: clouds.clouds(db, b, of) for b, of in each},
        composed={b.ranking: compositions.compositions(db, b, of) for b, of in each},
        galleries=galleries,
        claims=told,
    )
    page, scripts = deferred.deferred(page, [file_stem(b) for b in boards])
    (docs / "data").mkdir(parents=True, exist_ok=True)
    for file, text in scripts.items():
        (docs / "data" / file).write_text(text, encoding="utf-8")
    return page


def _task_index(paths: Mapping[Ranking, str]) -> str:
    """All tasks' pages, those of cases below their tier's."""
    lines = ["# Tasks", ""]
    for (task, tier), found in groupby(paths.items(), key=lambda item: (item[0].task, item[0].tier)):
        lines.append(f"- [{task}, {tier}]({Path(addresses.tier_page(task, tier)).name}.md)")
        for case, path in dict.fromkeys((r.case, path) for r, path in found if path != addresses.tier_page(task, tier)):
            further = ", between the named targets" if path.endswith("-between") else ""
            lines.append(f"    - [{case}{further}]({Path(path).name}.md)")
    return "\n".join(lines)


def _elsewhere(board: Board) -> list[Board]:
    """The same ranking with the timings of those other classes of machine and devices that timed most, more than the parent."""
    found = (tables.timed_on(board, place) for place in board.cards if place != (board.card, board.device))
    return list(islice((b for b in found if any(row.cells and row.kind != "parent" for row in b.rows)), MOST_MACHINES))


def _later(board: Board) -> Sequence[Row]:
    """Rows of a long ranking that its page loads where they are asked for, the last ones."""
    return [*board.ranked, *board.unranked][MOST_SHOWN:] if board.ranking.division != "speed" else []


def _later_script(env: jinja2.Environment, board: Board, task: Task[Any, Any], rows: Sequence[Row]) -> str:
    """A script that hands its page these rows."""
    macros: Any = env.get_template("macros.j2").module
    extra = _columns(task, board)
    told = (rows, board, task, _spread(board, task), extra, budgets.rows(board, task))
    span = 7 + task.show.pays + bool(task.promised) + len(extra)  # as the table's divider
    html = [str(macros.later_ranked(*told)), str(macros.later_unranked(*told, span))]
    return f"weighin.rows({', '.join(json.dumps(text) for text in (board.ranking.anchor, *html))})\n"


def _elsewhere_file(board: Board) -> str:
    """The file of what other machines timed, from the site's root; empty where none did."""
    return f"data/{file_stem(board)}-machines.js" if len(elsewhere.places(board)) > 1 else ""


def _timed_columns(board: Board, task: Task[Any, Any]) -> Mapping[str, Callable[[Cell], str]]:
    """The columns of a board's table that are of a machine, as they are written there."""

    def fact(cell: Cell) -> str:
        ends = f" {_times(cell.low)}–{_times(cell.high)}" if math.isfinite(cell.low) else ""
        return f"{_times(cell.value)}×{ends}"

    columns = _columns(task, board)
    return {f"speedup {task.speed}": fact} | {c.key: partial(_written, kind=c.kind) for c in columns}


def _written(cell: Cell, kind: str) -> str:
    return _figure(cell.value, kind)


def file_stem(board: Board) -> str:
    """How the files of a board's ranking begin."""
    return f"{board.ranking.task}-{board.ranking.tier}-{board.ranking.anchor}{addresses.twin(board.page, board.ranking.case)}"


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    safe = _safe
    env.globals |= {
        "sign": safe(charts.sign),
        "interval_bar": safe(charts.interval_bar),
        "saving_bar": safe(charts.saving_bar),
        "claim_bar": safe(lambda v: charts.claim_bar(v.value, v.low, v.high, v.least)),
        "row_lanes": _lane_classes,
        "signs": claims.SIGNS,
    }
    env.filters |= {
        "q": _quality,
        "half": lambda r: r.half,
        "plus_minus": _plus_minus,
        "points": safe(_points),
        "head": _head,
        "change_word": lambda b: "points" if b.unit == "%" else b.unit,
        "worst": safe(_worst),
        "times": lambda v: f"{_times(v)}×",
        "times_interval": lambda c: f" {_times(c.low)}–{_times(c.high)}" if math.isfinite(c.low) else "",
        "figure": _figure,
        "short": _short,
        "slug": lambda s: s.replace("@", "-"),
        "only_paper": lambda r, t: _only_paper(r, t),
        "spread": _spread,
        "values": _values,
        "budgets": budgets.rows,
        "asked_of": budgets.asked,
        "digest": _digest,
        "frontier": safe(_frontier),
        "pays": _pays,
        "linked": safe(_linked),
        "data": lambda r: r.case.partition("/")[0],
        "area": _area,
        "cost": _cost,
        "middle": _middle,
        "along": safe(series.chart),
        "summary": series.summary,
        "asked": _asked,
        "file": file_stem,
        "speed_of": lambda r, workload: f"{_times(r.cells[k].value)}×" if (k := f"speedup {workload}") in r.cells else "",
        "fact": systems.told,
        "leading": _leading,
        "later": _later,
        "machines": _elsewhere_file,
        "faster": _faster,
        "ours": lambda v: claims.ours(v) if v.value is None else claims.ours(v).replace("-", "−"),
        "coded": safe(_coded),
        "likeness": lambda v, unit: f"{v:.1f} {unit}" if math.isfinite(v) else "",
    }
    return env


def _safe(function: Any) -> Any:
    return lambda *a, **k: Markup(function(*a, **k))


def _columns(task: Task[Any, Any], board: Board) -> list[Column]:
    """Shares of the parent, latency, speed-ups of other workloads, memory and training time: what rows have.

    Latency is that of the family of the task's own workload (what stands before the ``@``), at its smallest size.  A task whose
    speed is that of a whole job has the job's time instead, and no columns of what its jobs are made of.
    """
    job = task.speed in task.jobs
    of_jobs = tuple(beginning for found in task.jobs.values() for beginning in found) if job else ()
    keys = {k for row in board.rows for k in row.cells} - ({"train_seconds"} if board.ranking.division == "speed" else set())
    names = sorted((k.partition(" ")[2] for k in keys if k.startswith("time ")), key=_natural)
    out = [Column(key, f"{head}, %", "↓", "share", True) for key, head in task.show.shares.items() if key in keys]
    first = task.speed if job else next((n for n in names if n.partition("@")[0] == task.speed.partition("@")[0]), "")
    if first in names:
        head, kind = (f"{task.show.head(first)}, s", "span") if job else (f"Latency {first}, ms", "ms")
        out.append(Column(f"time {first}", head, "↓", kind, False))
    others = [n for n in names if n not in (first, task.speed) and not n.startswith(of_jobs)]
    others.sort(key=lambda n: n not in task.jobs)
    out += [Column(f"speedup {n}", task.show.head(n), "↑", "times", False) for n in others]
    slanted = [
        Column(f"memory_peak {task.speed}", "Peak memory, MiB", "↓", "mib", True),
        Column("train_seconds", "Whole solve, s" if job else "Training, s", "↓", "s", True),
    ]
    return out + [c for c in slanted if c.key in keys]


def _natural(name: str) -> list[tuple[int, str]]:
    """``call@64`` before ``call@256``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _coded(text: str) -> str:
    """Words of a docstring: what stands in backticks is code."""
    from html import escape

    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text))


def _head(board: Board, name: str) -> str:
    """A column's head: name, unit, and the arrow that says which way is better."""
    return f"{name}{f', {board.unit}' if board.unit else ''}\u00a0{'↑' if board.up else '↓'}"


def _most(board: Board) -> int:
    """Digits after the point that a quality has at most: shares of a test set one, others two."""
    return 1 if board.unit == "%" else 2


def _quality(row: Row, board: Board) -> str:
    digits = statistics.decimals(row.half, _most(board))
    return f"{row.quality.mean:.{digits}f}" if math.isfinite(row.quality.mean) else "–"


def _short(about: str, limit: int = 30) -> str:
    """The head of a summary, cut at a word."""
    head = about.partition(":")[0] if len(about) > limit and ":" in about[:limit] else about
    return head.rstrip(".") if len(head) <= limit else head[:limit].rpartition(" ")[0] + " …"


def _plus_minus(row: Row, board: Board) -> str:
    half = row.half
    return f" ±{half:.{statistics.decimals(half, _most(board))}f}" if math.isfinite(half) else ""


def _points(cell: Cell | None, board: Board) -> str:
    if cell is None:
        return "–"  # no parent of a seed to compare with
    half = (cell.high - cell.low) / 2
    digits = statistics.decimals(half, _most(board))
    return _signed(cell.value, digits) + (f"<small> ±{half:.{digits}f}</small>" if math.isfinite(half) else "")


def _signed(value: float, digits: int = 1) -> str:
    """With its sign, a real minus; what rounds to zero has none."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{'−' if value < 0 else '+'}{text}"


def _worst(row: Row) -> str:
    from html import escape

    worst = _least(row)
    if worst is None:
        return "–"
    moved = "" if math.isnan(worst.change) or row.kind == "parent" else f" {_signed(worst.change, 0)}"
    return f"{worst.value:.0f} <small>{escape(worst.name)}{moved}</small>"


def _least(row: Row) -> Part | None:
    """The class or group that a row serves worst, of those that have the examples to be compared; of all where none has."""
    parts = [p for p in row.classes if not p.small] or row.classes
    return min(parts, key=lambda p: p.value if p.up else -p.value, default=None)


def _figure(value: float, kind: str) -> str:
    if kind in ("ms", "span"):  # three significant figures, trailing zeros too
        time = value * 1e3 if kind == "ms" else value
        return f"{time:.0f}" if time >= 1000 else f"{time:#.3g}".rstrip(".")
    if kind == "mib":
        return f"{value / 2**20:.1f}"
    if kind == "share":
        return f"{100 * value:.3g}"
    return f"{_times(value)}×" if kind == "times" else f"{value:.0f}"


def _times(value: float) -> str:
    """A ratio of speeds: two decimals, and more where these would hide what it is (0.0026)."""
    return f"{value:.2f}" if abs(value) >= 0.095 or not value else f"{value:#.2g}"


def _only_paper(row: Row, task: Task[Any, Any]) -> bool:
    cell = row.cells.get(f"speedup {task.speed}")
    return bool(cell and row.kind != "parent" and row.promise and row.promise > 1.05 and cell.value < charts.EDGE)


def _spread(board: Board, task: Task[Any, Any]) -> tuple[float, float, float]:
    """Common axes of a board's columns: quality from low to high (what is far is clipped), savings up to the largest."""
    savings = [r.promise or 1 for r in board.rows] + [c.value for r in board.rows if (c := r.cells.get(f"speedup {task.speed}"))]
    values = [(r.quality.mean, r.half) for r in board.rows if math.isfinite(r.quality.mean)]
    return *(charts.near(values, board.up) if values else (0.0, 1.0)), max(savings, default=2.0)


def _values(row: Row, columns: Sequence[Column], task: Task[Any, Any]) -> str:
    cells = row.cells
    speed = cells.get(f"speedup {task.speed}")
    values: dict[str, Any] = {
        "q": round(row.quality.mean, 3) if math.isfinite(row.quality.mean) else None,
        "c": round(row.change.value, 3) if row.change else None,
        "w": round(worst.value, 2) if (worst := _least(row)) else 0.0,
        "s": round(speed.value, 4) if speed else None,
        "n": row.label,
        "k": row.kind,
    }
    values |= {f"x{i}": float(f"{cells[c.key].value:.6g}") if c.key in cells else None for i, c in enumerate(columns)}
    return json.dumps(values)


def _lane_classes(row: Row, board: Board) -> list[str]:
    if not row.ranked:
        return []
    at = list(board.ranked).index(row)
    return [f"l{c} {'first' if at == a else 'last' if at == b else 'mid'}" for a, b, c in board.lanes if a <= at <= b]


def _asked(r: Ranking, task: Task[Any, Any]) -> str:
    words = {0.5: "half", 0.25: "a quarter of", 0.75: "three quarters of", 0.2: "a fifth of"}
    parts = [p.partition("=")[::2] for p in r.target.split(",") if p]
    return " and ".join(f"keep {words.get(float(v), f'{float(v):.3g} of')} the {task.show.word(k)}" for k, v in parts)


def _digest(board: Board, task: Task[Any, Any]) -> list[dict[str, str]]:
    """Five questions, answered from the rows; one row answers none of them."""
    rows = list(board.ranked) or [r for r in board.unranked if not r.apart]
    if len(rows) < 2:
        return []
    sure = bool(board.ranked)
    key = f"speedup {task.speed}"
    top = [r for r in rows if r.quality.best == 1] if sure else rows[:1]
    out = [
        {
            "question": f"Keep most {task.show.word(task.ranked)}",
            "answer": _first(top),
            "detail": ("cannot be told apart" if len(top) > 1 else "certain") if sure else "one seed or two: not ranked",
        }
    ]
    fast = [r for r in rows if key in r.cells and r.cells[key].low > charts.EDGE]
    both = [r for r in top if r in fast]
    if both:
        best = max(both, key=lambda r: r.cells[key].value)
        out.append(
            {
                "question": "Keep most, and are faster in fact",
                "answer": best.label,
                "detail": f"{_change_words(best, board)}, {_times(best.cells[key].value)}×"
                + (f" of the {best.promise:.2f}× on paper" if best.promise else ""),
            }
        )
    timed = [r for r in rows if key in r.cells]
    if timed:
        best = max(timed, key=lambda r: r.cells[key].value)
        out.append(
            {
                "question": "Fastest in fact",
                "answer": best.label,
                "detail": f"{_times(best.cells[key].value)}×, {_change_words(best, board)}",
            }
        )
        paper = [r for r in timed if _only_paper(r, task)]
        if task.promised:
            out.append(
                {
                    "question": "Save only on paper here",
                    "answer": _first(paper) or "none",
                    "detail": f"{len(paper)} of {len(timed)} rows",
                }
            )
    pays = [(p.gain, p.name, r.label, p.change) for r in rows for p in r.classes if math.isfinite(p.change) and not p.small]
    if pays:
        _, name, label, change = min(pays)
        out.append(
            {
                "question": f"Worst {task.show.kinds[0].word} pays",
                "answer": f"{_signed(change)} {'points' if board.unit == '%' else board.unit}",
                "detail": f"{name}, by {label}",
            }
        )
    return out


def _leading(board: Board) -> list[Row]:
    """The rows of an overview: those that may be first, else those that stand first."""
    return [r for r in board.ranked if r.quality.best == 1] or [r for r in board.unranked if not r.apart]


def _faster(board: Board, task: Task[Any, Any]) -> str:
    """How many rows are certainly faster than the parent, of those that were weighed."""
    cells = [r.cells[key] for r in board.rows if r.kind != "parent" and not r.apart and (key := f"speedup {task.speed}") in r.cells]
    return f"{sum(c.low > charts.EDGE for c in cells)} of {len(cells)}" if cells else "–"


def _first(rows: Sequence[Row], most: int = 4) -> str:
    """Names of the first rows, and how many more there are: a digest is read at a glance."""
    named = list(rows) if len(rows) <= most + 1 else list(rows)[:most]
    more = len(rows) - len(named)
    return ", ".join(r.label for r in named) + (f" and {more} more" if more else "")


def _change_words(row: Row, board: Board) -> str:
    if row.change is None:
        return "no parent yet"
    return f"{_signed(row.change.value, _most(board))} {'points' if board.unit == '%' else board.unit}"


def _points_of(board: Board, task: Task[Any, Any]) -> list[charts.Point]:
    key = f"speedup {task.speed}"
    out = []
    for row in board.rows:
        cell = row.cells.get(key)
        if row.apart or not math.isfinite(row.quality.mean):
            continue
        if cell is None:
            continue
        span = (cell.low, cell.high) if math.isfinite(cell.low) else (cell.value, cell.value)
        out.append(charts.Point(row.label, cell.value, row.quality.mean, span, row.half, row.mark, board.key(row)))
    return out


def _frontier(board: Board, task: Task[Any, Any], width: int) -> str:
    points = _points_of(board, task)
    if not points:
        return ""
    # a row without a rank is drawn, but the line is drawn through what is certain enough to be ranked
    sure = {board.key(r) for r in board.rows if r.ranked or r.kind == "parent"}
    on_line = [i for i, p in enumerate(points) if not board.ranked or p.key in sure]
    sign = 1 if board.up else -1
    front = [on_line[i] for i in statistics.front([(points[i].x, sign * points[i].y) for i in on_line])]
    ident = f"f{width}{board.ranking.anchor}"
    return charts.frontier(
        points,
        front,
        promise=_common_promise(board),
        counted=bool(task.promised),
        quality=task.ranked,
        unit=board.unit,
        up=board.up,
        speed=task.show.spoken(task.speed),
        width=width,
        ident=ident,
    )


def _common_promise(board: Board) -> float | None:
    """What more than half of the rows promise within 5 %; none where each promises something else, as masks of one density do."""
    found = [r.promise for r in board.rows if r.promise and r.kind != "parent" and not r.apart]
    if not found:
        return None
    middle = median_low(found)
    return middle if 2 * sum(abs(v / middle - 1) <= 0.05 for v in found) > len(found) else None


@dataclass(frozen=True)
class Pays:
    """To whom it happens: how each class or group fares under each method, of one measure."""

    word: str  #: for a class or group
    dots: Sequence[Markup]  #: changes of all of them, for a desk and for a phone; where these are too many for dumbbells
    blocks: Sequence[Markup]  #: dumbbells, a block a method
    most: int  #: dumbbells of those that moved most, in each block; 0: of all
    small: bool  #: whether some are too small to be compared
    left_out: int  #: methods that are not drawn


def _pays(board: Board, task: Task[Any, Any]) -> list[Pays]:
    """For each measure in parts: dumbbells of all parts where they are few; of many dots, and dumbbells of those that moved most."""
    sweeps = task.show.tradeoff.sweeps if task.show.tradeoff else {}
    rows = [r for r in [*board.ranked, *board.unranked] if not r.apart and not (r.variant and r.method in sweeps)]
    out = []
    for at, kind in enumerate(task.show.kinds):
        found = [(r, [p for p in _of_kind(r, at) if math.isfinite(p.change)]) for r in rows]
        found = [(r, parts) for r, parts in found if parts]
        if not found:
            continue
        widest = max(len(parts) for _, parts in found)
        few = widest <= charts.PARTS
        drawn = found[: max(MOST_ROWS, MOST_BELLS // widest) if few else MOST_ROWS]
        unit = next((p.unit for _, parts in found for p in parts), "")
        words = {"part": kind.word, "parent": task.parent_method}
        changes = [(r.label, r.mark, [(p.name, p.change) for p in parts]) for r, parts in drawn]
        unit_ = "points" if unit == "%" else unit
        dots = [] if few else [charts.who_pays(changes, unit_, width, **words) for width in (760, 380)]
        order = _order(board.parent, at)
        blocks = [(r.label, r.mark, _bells(parts, order, widest if few else MOVERS)) for r, parts in drawn]
        bells = charts.dumbbells(blocks, unit_, **words)
        small = any(p.small for _, parts in drawn for p in parts)
        out.append(
            Pays(kind.word, [*map(Markup, dots)], [*map(Markup, bells)], 0 if few else MOVERS, small, len(found) - len(drawn))
        )
    return out


def _of_kind(row: Row, at: int) -> Sequence[Part]:
    return row.classes if at == 0 else row.further[at - 1] if at <= len(row.further) else ()


def _order(parent: Row | None, at: int) -> Mapping[str, float]:
    """Where each class or group comes in every block: the worst served by the parent first."""
    return {p.name: p.value if p.up else -p.value for p in _of_kind(parent, at)} if parent else {}


def _bells(parts: Sequence[Part], order: Mapping[str, float], most: int) -> list[charts.Dumbbell]:
    """Dumbbells of the parts that moved most, in the order that all blocks share."""
    moved = sorted(parts, key=lambda p: -abs(p.change))[:most]
    ordered = sorted(moved, key=lambda p: (order.get(p.name, math.inf), p.name))
    return [charts.Dumbbell(p.name, p.before, p.before + p.change, p.change, p.half, p.gain, p.small) for p in ordered]


def _linked(text: str) -> str:
    """A sentence of a task, in which ``[words](address)`` is a link to a page of the site or to another site."""
    from html import escape

    return re.sub(r"\[([^\]]+)\]\(((?:https://|\.{0,2}/|#)?[\w./#?=&;%~+-]+)\)", r'<a href="\2">\1</a>', escape(text))


def _area(o: tradeoffs.Outcome) -> str:
    if o.area is None:
        return "–"
    return f"{o.area:.1f}" + (f" ({o.area_ends[0]:.1f}–{o.area_ends[1]:.1f})" if math.isfinite(o.area_ends[0]) else "")


def _cost(o: tradeoffs.Outcome) -> str:
    """The cost at the level, or why there is none; so many digits as three of the largest end need."""
    if o.at_level is None:
        return o.why or "–"
    ends = o.level_ends if math.isfinite(o.level_ends[0]) else ()
    return f"{o.at_level:.3g}" + (f" ({ends[0]:.3g}–{ends[1]:.3g})" if ends else "")


def _middle(cell: tuple[float, Sequence[float]] | None) -> str:
    """The median, and from where to where the values go that there are."""
    if cell is None:
        return "–"
    middle, values = cell
    told = _counted(middle) if math.isfinite(middle) else "not reached"
    if len(values) > 1 and values[0] != values[-1]:
        return f"{told} ({_counted(values[0])}–{_counted(values[-1])})"
    return told if math.isfinite(middle) or not values else f"{told} (once {_counted(values[0])})"


def _counted(value: float) -> str:
    """Three digits, or all of a larger number's, its thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _method_pages(env: jinja2.Environment, boards: Mapping[Ranking, Board]) -> dict[str, str]:
    out = {}
    places = standing.of(boards)
    names: dict[str, tuple[str, Any]] = {}
    for task_name in registry.tasks():
        for name, ref in registry.methods(task_name).items():
            names[name] = (task_name, ref)
    for ranking, b in boards.items():
        for row in b.rows:
            names.setdefault(row.method, (ranking.task, None))
    for name, (task_name, ref) in names.items():
        rows = [(b, row, registry.task_of(r)) for r, b in boards.items() for row in b.rows if row.method == name]
        failures = [(b, f) for b in boards.values() for f in b.failures if f.method == name]
        papers = tables.papers_of(task_name)
        out[f"methods/{name.replace('@', '-')}.md"] = env.get_template("method.md.j2").render(
            name=name,
            mark=papers.index(name) if name in papers else -1,
            about=ref.summary if ref else "Somebody’s own method; its code is not here, its digest is in its name.",
            paper=ref.paper if ref else "",
            departs=ref.departs if ref else "",
            settings=fields.settings(ref) if ref else (),
            places=places.get(name, ()),
            rows=rows,
            failures=failures,
        )
    return out


def _home(
    env: jinja2.Environment, db: duckdb.DuckDBPyConnection, boards: Mapping[Ranking, Board], tally: Sequence[tuple[str, str, int]]
) -> str:
    cards: list[dict[str, Any]] = []
    first_page, speeds = "tasks/index.html", ""
    for name, question in registry.families().items():
        mine = [b for r, b in boards.items() if r.task == name and r.division == "closed" and (r.target or _of_methods(b))]
        mine.sort(key=lambda b: not b.ranking.target)
        if name not in registry.tasks() or not mine:
            cards.append({"name": name, "question": question, "page": "", "top": [], "note": "No rows yet."})
            continue
        best = mine[0]
        task = registry.task_of(best.ranking)
        page = f"{addresses.tier_page(name, best.ranking.tier)}.html"
        rows = _of_methods(best)
        key = f"speedup {task.speed}"
        fast = sum(r.cells[key].low > charts.EDGE for r in rows if key in r.cells)
        cards.append(
            {
                "name": name,
                "question": task.question,
                "page": page,
                "top": rows[:3],
                "note": f"{best.ranking.title}: {fast} of {len(rows)} are faster in fact"
                + ("" if best.ranked else "; under three seeds, so not ranked"),
                "task": task,
                "board": best,
                "speed": task.speed,
            }
        )
        if not speeds:
            first_page, speeds = page, _speed_list(best, task)
    counts = dict(
        zip(
            ("runs", "methods", "cards", "failed", "parted"),
            db.execute(
                "SELECT count(*), count(DISTINCT method), count(DISTINCT weigh_card), count(*) FILTER (status <> 'ok'),"
                " (SELECT count(*) FROM origins) FROM standing"
            ).fetchone()
            or (0,) * 5,
            strict=True,
        )
    )
    return env.get_template("index.md.j2").render(
        tasks=cards, how_many=_how_many(len(cards)), first_page=first_page, speeds=Markup(speeds), counts=counts, claims=tally
    )


def _how_many(tasks: int) -> str:
    """So many tasks, in words as long as there are any."""
    return f"{COUNTED[tasks] if tasks < len(COUNTED) else tasks} task{'s' * (tasks != 1)}"


def _of_methods(board: Board) -> list[Row]:
    """Rows on their target for the front page: methods as their papers set them; ablations stand on the task's page."""
    return [r for r in board.plain if r.kind != "parent"]


def _speed_list(board: Board, task: Task[Any, Any]) -> str:
    """Promise and fact of each row, for the front page."""
    from html import escape

    key = f"speedup {task.speed}"
    rows = sorted(
        (r for r in _of_methods(board) if key in r.cells),
        key=lambda r: -r.cells[key].value,
    )[:10]
    most = max([r.promise or 1 for r in rows] + [r.cells[key].value for r in rows], default=2.0)
    lines = [
        f"<tr><td>{charts.sign(r.mark)} {'<b>' if r.kind == 'paper' and not r.variant else ''}{escape(r.label)}{'</b>' if r.kind == 'paper' and not r.variant else ''}</td>"
        f'<td>{charts.saving_bar(r.promise, r.cells[key].value, r.mark, most)}</td><td class="num"><b>{_times(r.cells[key].value)}×</b></td>'
        f"<td>{'<span class=' + chr(34) + 'tag paper' + chr(34) + '>only on paper</span>' if _only_paper(r, task) else ''}</td></tr>"
        for r in rows
    ]
    words = f"{board.ranking.task}, {board.ranking.target}: dashed is the speed-up that counting promises, <b>solid what the clock found</b>, {task.show.spoken(task.speed)}, card {board.card[:4]}."
    return f'<table class="speedlist">{"".join(lines)}</table><p class="note">{words}</p>' if lines else ""


__all__: Sequence[str] = ["build", "file_stem", "write_pages", "write_sources"]
