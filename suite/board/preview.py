"""What a submission would change: the checker's verdict, and the places that its rows would take on the board.

Both boards are published: one of the bundles that stand, one with the submission's added, of those tasks and tiers alone that it
touches.  A submission with an error is told its errors and is on no board.
"""

from __future__ import annotations

import filecmp
import math
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from suite import bundle, check, confirming, registry, timings
from suite.board import statistics, store, tables
from suite.checks import tree
from suite.checks.findings import Finding, printable
from suite.naming import UserError

if TYPE_CHECKING:
    import duckdb

    from suite.board.tables import Board, Ranking, Row

BESIDE = ("retractions", confirming.FOLDER)  #: folders of small files beside the bundles
MOST_LINES = 20  #: of findings, of rows of one table, of runs that are not counted
MOST_TEXT = 50_000  #: characters of a comment: GitHub takes 65,536
#: within code nothing is markup, a mention or a link; these would end the code, or the cell that it stands in
ENDS = str.maketrans({"`": "'", "|": "¦", "\\": "⧵"})


@dataclass(frozen=True)
class Place:
    """Where a row stands in a ranking."""

    rank: str  #: ``2``, or ``2–4`` where its noise leaves that open; empty where it is not ranked
    mean: float | None  #: of the ranked measure over the seeds
    half: float | None  #: half width of its 95 % interval
    seeds: Sequence[int]
    why: str = ""  #: why it is not ranked


@dataclass(frozen=True)
class Move:
    """A row before and after; None where it is not on the board."""

    row: str
    submitted: bool  #: whether runs of the submission are among its own, or are taken back
    before: Place | None
    after: Place | None


@dataclass(frozen=True)
class Ranked:
    """A ranking that the submission touches: its own rows first, then those whose ranks it changes."""

    task: str
    tier: str
    division: str
    case: str
    target: str
    unit: str
    rows: int  #: ranked ones, afterwards
    moves: Sequence[Move]


@dataclass(frozen=True)
class Aside:
    """Bundles that change no place, and why."""

    why: str
    bundles: Sequence[str]


@dataclass(frozen=True)
class Preview:
    """The verdict, and without errors the rankings that change."""

    bundles: Sequence[str]  #: that do not stand yet, by their folders below the results
    beside: Sequence[str]  #: retractions and confirmations that do not stand yet
    refused: Sequence[str]  #: what the pull request changes and may not
    findings: Sequence[Finding]  #: errors first
    rankings: Sequence[Ranked] = ()
    aside: Sequence[Aside] = ()
    timings: Sequence[str] = ()  #: of shapes of rows, that do not stand yet: they change no place

    @property
    def errors(self) -> int:
        return len(self.refused) + sum(f.level == "error" for f in self.findings)


@dataclass(frozen=True)
class _Run:
    """A bundle of the submission, or one that it takes back, as the database with it has it."""

    path: str
    label: str  #: of its row
    ranking: tables.Ranking
    parent: bool  #: a run of the parent: its ranking's others hold it against themselves
    why: str  #: why it is not counted; empty where it is


def preview(submission: Path, against: Path, refused: Sequence[str] = ()) -> Preview:
    """Check what a submission adds, and publish it beside what stands.

    Args:
        submission: a folder of results; bundles in it that stand already are passed over.
        against: the results that stand.
        refused: lines on what it may not change, as `suite.submission` tells them: errors of it.

    Raises UserError where the results that stand cannot be read.
    """
    new = [
        p.relative_to(submission) for p in bundle.find(submission) if not _stands(p.relative_to(submission), submission, against)
    ]
    beside = [p for name in BESIDE for p in _files(submission / name, submission) if not (against / p).exists()]
    weighed = [p.relative_to(submission) for p in timings.find(submission / timings.FOLDER)]
    weighed = [p for p in weighed if not (against / p / timings.TIME).exists()]  # else they are refused: results are only added to
    asked = [submission / p for p in (*new, *weighed)]
    findings = check.check(asked, against=against) if asked else []
    findings += _strays(submission, against, new)
    told = sorted((_below(f, submission, against) for f in findings), key=lambda f: f.level != "error")
    names = [[printable(p.as_posix()) for p in paths] for paths in (new, beside, weighed)]
    found = Preview(names[0], names[1], refused, told, timings=names[2])
    return found if found.errors or not (new or beside) else _placed(found, submission, against, new)


def _stands(path: Path, submission: Path, against: Path) -> bool:
    there = against / path / bundle.RUN
    return there.is_file() and filecmp.cmp(there, submission / path / bundle.RUN, shallow=False)


def _files(folder: Path, root: Path) -> list[Path]:
    return sorted(p.relative_to(root) for p in folder.iterdir()) if folder.is_dir() else []


def _strays(submission: Path, against: Path, new: Sequence[Path]) -> list[Finding]:
    """What lies beside bundles and does not stand already."""
    runs = {}
    beside = any((submission / name).is_dir() for name in BESIDE)  # what they are of is looked up
    for path in [*bundle.find(against), *(submission / p for p in new)] if beside else ():
        try:
            record = bundle.read(path)
        except UserError:  # the checker has told of it, or it is not what is being checked
            continue
        runs[record.id] = record
    found = [f.printable() for f in tree.strays(submission, tree.Known(tuple(registry.tasks()), runs))]
    return [f for f in found if not (against / _below(f, submission, against).bundle / f.file).exists()]


def _below(finding: Finding, submission: Path, against: Path) -> Finding:
    """The finding with paths below the results: it is read where neither folder is."""
    if finding.bundle == printable(str(submission)):
        return replace(finding, bundle=".")
    bundle_, message = finding.bundle, finding.message
    for root in dict.fromkeys(f"{p}/" for folder in (submission, against) for p in (folder.resolve(), folder)):
        bundle_, message = bundle_.removeprefix(printable(root)), message.replace(printable(root), "")
    return replace(finding, bundle=bundle_, message=message)


def _placed(found: Preview, submission: Path, against: Path, new: Sequence[Path]) -> Preview:
    """The same with the rankings that change; the submission holds."""
    mine = {bundle.read(submission / p).id for p in new}
    with tempfile.TemporaryDirectory(prefix="weighin-preview-") as folder, ExitStack() as stack:
        results, before, after = (Path(folder) / name for name in ("results", "before.duckdb", "after.duckdb"))
        taken_back = {str(tree.retraction(submission / p)["id"]) for p in map(Path, found.beside) if p.parts[0] == BESIDE[0]}
        for part in sorted({p.parent.parent for p in (*new, *_of(against, taken_back))}):
            _copy(against / part, results / part)
        for name in BESIDE:
            _copy(against / name, results / name)
        results.mkdir(exist_ok=True)
        store.publish(results, before)
        for path in (*new, *map(Path, BESIDE)):
            _copy(submission / path, results / path)
        shutil.copyfile(before, after)
        store.publish(results, after)
        databases = [stack.enter_context(store.connect(db)) for db in (before, after)]
        runs = list(_runs(databases[1], mine | taken_back))
        boards = [tables.rankings(db) for db in databases]
        touched = [r for r in boards[1] if any(_touches(run, r) for run in runs)]
        rankings = [
            _ranked(
                tables.board(databases[0], r) if r in boards[0] else None,
                tables.board(databases[1], r),
                {run.label for run in runs if _touches(run, r)},
            )
            for r in touched
        ]
    return replace(found, rankings=rankings, aside=_aside([r for r in runs if r.path in {p.as_posix() for p in new}], touched))


def _of(results: Path, ids: Collection[str]) -> Iterator[Path]:
    """Bundles of these ids, below the results."""
    names = {run[:12] for run in ids}
    for path in bundle.find(results) if ids else ():
        if path.name.rpartition("-")[2] in names:
            yield path.relative_to(results)


def _copy(source: Path, target: Path) -> None:
    """A folder without evidence and timings: a place follows from the measures alone, which the checker has derived."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.parquet"), dirs_exist_ok=True)


def _runs(db: duckdb.DuckDBPyConnection, ids: Collection[str]) -> Iterator[_Run]:
    """What a database says of runs: their rows, and why they are not counted."""
    rows = db.execute(
        "SELECT r.path, r.status, s.id IS NULL, s.retracted, c.id IS NULL, w.id IS NULL, coalesce(s.method, r.method),"
        ' coalesce(s.variant, r.variant), r.task, r.version, r.tier, r.division, r."case", r.target FROM runs AS r'
        " LEFT JOIN standing AS s USING (id) LEFT JOIN counted AS c USING (id) LEFT JOIN weighed AS w USING (id)"
        " WHERE r.id IN (SELECT unnest(?)) ORDER BY r.path",
        [sorted(ids)],
    ).fetchall()
    for path, status, archived, retracted, uncounted, unweighed, method, variant, *asked in rows:
        ranking = tables.Ranking(*asked)
        task = registry.task(ranking.task) if ranking.task in registry.tasks() else None
        why = ""
        if ranking.tier == "smoke":
            why = "the smoke tier ranks nobody"
        elif task is None or archived or task.version != ranking.version:
            why = "its version of the task or of the method is archived"
        elif retracted:
            why = "it is retracted"
        elif status != "ok":
            why = f"it ended as {status}, and is told among the failures"
        elif uncounted:
            why = "its row has a run of this seed already, and the first counts"
            why += "" if unweighed else "; its timings stand on the page of their own card"
        yield _Run(path, f"{method} ({variant})" if variant else method, ranking, bool(task and method == task.parent_method), why)


def _touches(run: _Run, ranking: Ranking) -> bool:
    """A run has a row in its own ranking, one of the parent that was asked nothing in all of the same case."""
    return run.ranking == ranking or (run.parent and not run.ranking.target and replace(ranking, target="") == run.ranking)


def _ranked(before: Board | None, after: Board, labels: Collection[str]) -> Ranked:
    """A ranking's rows of these labels, and all others whose rank changes."""
    was, now = ({row.label: _place(board, row) for row in board.rows} if board else {} for board in (before, after))
    all_ = [*now, *(label for label in was if label not in now)]
    moves = [Move(label, label in labels, was.get(label), now.get(label)) for label in all_]
    own = [m for m in moves if m.submitted and (m.before or m.after)]
    others = [m for m in moves if not m.submitted and _rank(m.before) != _rank(m.after)]
    r = after.ranking
    return Ranked(r.task, r.tier, r.division, r.case, r.target, after.unit, len(after.ranked), [*own, *others])


def _rank(place: Place | None) -> str:
    return place.rank if place else ""


def _place(board: Board, row: Row) -> Place:
    why = ""
    if row.kind == "parent":
        why = "the parent, which the others are held against"
    elif board.ranking.division == "speed":
        why = "timings alone are not ranked"
    elif not row.ranked:
        why = row.why[1]
    return Place("" if why else row.rank, _finite(row.quality.mean), _finite(row.half), sorted(row.seeds), why)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _aside(runs: Sequence[_Run], touched: Sequence[Ranking]) -> list[Aside]:
    """Bundles that change no place, by their reasons."""
    found: dict[str, list[str]] = {}
    for run in runs:
        why = run.why
        if not why and not any(_touches(run, r) for r in touched):
            why = "it was asked for no target, and its case is ranked by targets"
        if why:
            found.setdefault(why, []).append(run.path)
    return [Aside(why, paths) for why, paths in found.items()]


def markdown(told: Preview, checked_by: str = "") -> str:
    """A comment on a pull request.

    Whatever comes from the submission stands in code, on one line, cut short: it can be no markup, no mention and no link.

    Args:
        told: what to say.
        checked_by: commit of the code that checked it.
    """
    marks = len(told.findings) + len(told.refused) - told.errors
    counted = [_count(len(told.bundles), "new bundle"), _count(told.errors, "error"), _count(marks, "mark")]
    if told.beside:
        counted.insert(1, _count(len(told.beside), "retraction or confirmation", "retractions and confirmations"))
    if told.timings:
        counted.insert(1, _count(len(told.timings), "new timing"))
    by = f" by the code of {_code(checked_by)}" if checked_by else ""
    blocks = [
        f"### {'✕ This submission does not hold' if told.errors else '✓ This submission holds'}",
        f"{', '.join(counted)}. Every number was derived again{by}; nothing of the submission was run.",
    ]
    if told.refused:
        blocks += ["**What it changes and may not**", _list([_code(line) for line in told.refused])]
    if told.findings:
        blocks += ["**What the checker found**", _list([f"{f.level}: {_code(f.line().partition(': ')[2])}" for f in told.findings])]
    if told.errors:
        return "\n\n".join([*blocks, "No place is told before all errors are mended; marks may stand, explained."]) + "\n"
    left, size = list(told.rankings), sum(map(len, blocks))
    while left and size + len(table := _ranking(left[0])) < MOST_TEXT:
        blocks.append(table)
        size += len(table)
        left.pop(0)
    if left:
        blocks.append(f"{_count(len(left), 'more ranking')} changed: `weighin preview` on the submission tells all.")
    if told.aside:
        blocks += ["**Not counted**", _list([f"{_code(a.why)}: {_several(a.bundles)}" for a in told.aside])]
    if not told.rankings:
        blocks.append("No place on the board changes.")
    else:
        blocks.append(
            "Places are those beside what stands today: what is merged before may change them. A mean has its 95 % interval."
        )
    return "\n\n".join(blocks) + "\n"


def _ranking(told: Ranked) -> str:
    """One ranking: its title, the submission's rows, and the others that change their rank."""
    title = " ".join(_code(name) for name in (told.task, told.case, told.target) if name)
    own, others = ([m for m in told.moves if m.submitted == mine] for mine in (True, False))
    lines = [f"#### {title}, {told.tier} tier, {told.division}: {_count(told.rows, 'ranked row')}", ""]
    lines += ["| submitted row | before | after |", "|---|---|---|"]
    lines += [f"| {_code(m.row)} | {_told(m.before, told.unit)} | {_told(m.after, told.unit)} |" for m in own[:MOST_LINES]]
    if own[MOST_LINES:]:
        lines.append(f"| and {_count(len(own) - MOST_LINES, 'more row')} | | |")
    if not others:
        return "\n".join([*lines, "", "No other row's rank changes."])
    lines += ["", "| displaced row | rank before | rank after |", "|---|---|---|"]
    lines += [
        f"| {_code(m.row)} | {_rank(m.before) or 'not ranked'} | {_rank(m.after) or 'not ranked'} |" for m in others[:MOST_LINES]
    ]
    if others[MOST_LINES:]:
        lines.append(f"| and {_count(len(others) - MOST_LINES, 'more row')} | | |")
    return "\n".join(lines)


def _told(place: Place | None, unit: str) -> str:
    """A place as a table's cell: rank, mean and interval, seeds."""
    if place is None:
        return "not on the board"
    rank = f"rank {place.rank}" if place.rank else f"not ranked: {_code(place.why)}"
    if place.mean is None:
        return rank
    half = place.half or math.nan
    places = statistics.decimals(half, most=4)
    within = f" ± {half:.{places}f}" if math.isfinite(half) else ""
    return f"{rank}, {_code(f'{place.mean:.{places}f}{within} {unit}'.strip())}, {_count(len(place.seeds), 'seed')}"


def _several(names: Sequence[str]) -> str:
    shown = ", ".join(_code(name) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if names[3:] else shown


def _list(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - MOST_LINES} more"] if lines[MOST_LINES:] else []
    return "\n".join(f"- {line}" for line in [*lines[:MOST_LINES], *more])


def _code(text: str) -> str:
    """Text from outside as code: a page, a terminal and GitHub show it as it is."""
    return f"`{printable(text, 400).translate(ENDS) or '–'}`"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number or 'no'} {one if number == 1 else many or f'{one}s'}"


__all__ = ["Aside", "Move", "Place", "Preview", "Ranked", "markdown", "preview"]
