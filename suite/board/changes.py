"""What changed on the board: new rows, retractions and raised versions by day, and since when the board had which release."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

from suite import place, registry, versions
from suite.board import addresses
from suite.board.tables import Ranking

if TYPE_CHECKING:
    import duckdb
    import jinja2

MOST_DAYS = 50  #: told in full; of older ones the counts
#: of each day and row: the seeds that count from then on, how many runs only repeat one, what failed.  What counts is told as in
#: views.sql, over the archived versions too
RUNS = """
WITH told AS (
    SELECT CAST(r.created AS DATE) AS day, r.task, r.version, r.tier, r.division, r."case", r.target, r.method,
           coalesce(s.variant, r.variant) AS variant, r.seed, r.status = 'ok' AS ok, s.id IS NULL AS archived,
           min(CAST(r.created AS DATE)) FILTER (WHERE r.status = 'ok') OVER line AS first,
           row_number() OVER (PARTITION BY r.task, r.version, r.tier, r.division, r."case", r.target, r.method,
               coalesce(s.variant, r.variant), s.id IS NULL, r.seed, r.status = 'ok' ORDER BY r.created, r.id) AS nth
    FROM runs AS r LEFT JOIN standing AS s USING (id) WHERE r.tier <> 'smoke'
    WINDOW line AS (PARTITION BY r.task, r.version, r.tier, r.division, r."case", r.target, r.method,
        coalesce(s.variant, r.variant), s.id IS NULL)
)
SELECT day, task, version, tier, division, "case", target, method, variant, archived, first IS NOT DISTINCT FROM day AS fresh,
       coalesce(list(seed ORDER BY seed) FILTER (WHERE ok AND nth = 1), []) AS seeds,
       count(*) FILTER (WHERE ok AND nth > 1) AS again, coalesce(list(DISTINCT seed ORDER BY seed) FILTER (WHERE NOT ok), []) AS failed
FROM told GROUP BY ALL ORDER BY day DESC, task, tier, division, "case", target, method, variant
"""
RETRACTED = """
SELECT retractions.day, id, retractions.reason, task, tier, division, "case", target, method, variant, seed, CAST(created AS DATE)
FROM retractions JOIN runs USING (id) ORDER BY ALL
"""
#: the first day of each version above the lowest that is known, of a method's or of a task, and how many runs of lower ones there are
RAISED = """
WITH known AS (SELECT unnest(?) AS task, unnest(?) AS method, unnest(?) AS digest, unnest(?) AS version),
stated AS (SELECT task, method, version FROM known GROUP BY ALL UNION SELECT task, '', version FROM runs WHERE tier <> 'smoke'),
seen AS (
    SELECT task, method, known.version, CAST(created AS DATE) AS day
    FROM runs JOIN known USING (task, method) WHERE known.digest = method_version AND tier <> 'smoke'
    UNION ALL SELECT task, '', version, CAST(created AS DATE) FROM runs WHERE tier <> 'smoke'
)
SELECT task, method, version, (SELECT min(day) FROM seen AS s WHERE (s.task, s.method, s.version) = (v.task, v.method, v.version)) AS day,
       (SELECT count(*) FROM seen AS s WHERE (s.task, s.method) = (v.task, v.method) AND s.version < v.version) AS older
FROM stated AS v WHERE version > (SELECT min(version) FROM stated AS w WHERE (w.task, w.method) = (v.task, v.method)) ORDER BY ALL
"""


@dataclass(frozen=True)
class Change:
    """What one day brought to one row."""

    ranking: Ranking
    method: str
    variant: str
    archived: bool  #: its version, which stands on the board no longer
    fresh: bool  #: the row's first day
    seeds: Sequence[int]  #: that count from then on
    again: int  #: runs that repeat a seed, of another card or as a replay
    failed: Sequence[int]  #: seeds

    @property
    def label(self) -> str:
        """The row, as boards call it."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def page(self) -> str:
        """The method's page, from the site's root."""
        return addresses.method_page(self.method)


@dataclass(frozen=True)
class Retraction:
    """A run that was taken back."""

    day: date | None  #: None where it was not told
    id: str
    reason: str
    words: str  #: what run it was, and of which day


@dataclass(frozen=True)
class Raised:
    """A version of a method, or of a task, above an earlier one."""

    day: date | None  #: of its first run; None where there is none yet
    task: str
    method: str  #: empty: of the task
    version: int
    older: int  #: runs of lower versions


@dataclass(frozen=True)
class Counts:
    """What a day brought, in numbers."""

    new: int  #: rows
    more: int  #: rows with further seeds
    again: int  #: runs
    failed: int  #: runs

    @property
    def words(self) -> str:
        """A sentence without its end."""
        told = [
            _many(self.new, "new row"), _many(self.more, "row", "with further seeds"),
            _many(self.again, "run", "again or on another machine"), _many(self.failed, "failed run"),
        ]  # fmt: skip
        return ", ".join(filter(None, told)) or "nothing that counts"


@dataclass(frozen=True)
class Place:
    """What a day brought to one ranking."""

    ranking: Ranking
    page: str  #: empty where it is none of the board's today
    changes: Sequence[Change]


@dataclass(frozen=True)
class Day:
    """A day on which something changed; `tasks` by name."""

    day: date
    tasks: Mapping[str, Sequence[Place]]
    retracted: Sequence[Retraction]
    raised: Sequence[Raised]
    release: str  #: of the board, made that day

    @property
    def counts(self) -> Counts:
        """Of all its tasks."""
        return counts(c for places in self.tasks.values() for p in places for c in p.changes)


def page(env: jinja2.Environment, db: duckdb.DuckDBPyConnection, paths: Mapping[Ranking, str]) -> str:
    """The page of changes."""
    found, undated_retractions, undated_raised = days(db, paths)
    return env.get_template("changes.md.j2").render(
        days=found[:MOST_DAYS], older=found[MOST_DAYS:], retracted=undated_retractions, raised=undated_raised,
        releases=releases(), counts_of=lambda places: counts(c for p in places for c in p.changes), span=span,
    )  # fmt: skip


def days(
    db: duckdb.DuckDBPyConnection, paths: Mapping[Ranking, str] | None = None
) -> tuple[Sequence[Day], Sequence[Retraction], Sequence[Raised]]:
    """Days with changes, newest first, and what has no day: retractions that tell none, versions that nothing was run under.

    `paths` are the pages of those rankings that the board has today, which are linked.
    """
    by_day: dict[date, list[tuple[object, ...]]] = {}
    for day, *line in db.execute(RUNS).fetchall():
        by_day.setdefault(day, []).append(tuple(line))
    retracted = [_retraction(*line) for line in db.execute(RETRACTED).fetchall()]
    raised = [Raised(day, task, method, version, older) for task, method, version, day, older in _raised(db)]
    made = {day: name for name, day in releases().items()}
    dated = {*by_day, *made, *(e.day for e in retracted if e.day), *(e.day for e in raised if e.day)}
    found = [
        Day(
            day,
            _places(by_day.get(day, ()), paths or {}),
            [e for e in retracted if e.day == day],
            [e for e in raised if e.day == day],
            made.get(day, ""),
        )
        for day in sorted(dated, reverse=True)
    ]
    return found, [e for e in retracted if not e.day], [e for e in raised if not e.day]


def _places(lines: Iterable[tuple[object, ...]], paths: Mapping[Ranking, str]) -> Mapping[str, Sequence[Place]]:
    present = {name: registry.task(name).version for name in registry.tasks()}
    changes = []
    for line in lines:
        ranking = Ranking(*line[:6])  # type: ignore[arg-type]
        method, variant, archived, *rest = line[6:]
        old = bool(archived) or present.get(ranking.task) != ranking.version
        changes.append(Change(ranking, method, variant, old, *rest))  # type: ignore[arg-type]
    out: dict[str, list[Place]] = {}
    for ranking, found in groupby(changes, key=lambda c: c.ranking):
        link = f"{paths[ranking]}.html#{ranking.anchor}" if ranking in paths else ""
        out.setdefault(ranking.task, []).append(Place(ranking, link, list(found)))
    return out


def _retraction(day: date | None, ident: str, reason: str, *run: object) -> Retraction:
    task, tier, _, case, target, method, variant, seed, made = run
    row = f"{method} ({variant})" if variant else method
    where = ", ".join(filter(None, (str(x) for x in (task, tier, case, target))))
    return Retraction(day, ident, reason, f"{row}, seed {seed}: {where}, run on {made}")


def _raised(db: duckdb.DuckDBPyConnection) -> Sequence[tuple[str, str, int, date | None, int]]:
    known = [
        (task, method, e.digest, e.version)
        for task in registry.tasks()
        for method, entries in versions.table(task).methods.items()
        for e in entries
    ]
    columns = [list(c) for c in zip(*known, strict=True)] or [[], [], [], []]
    return db.execute(RAISED, columns).fetchall()


def counts(changes: Iterable[Change]) -> Counts:
    """Numbers of some changes."""
    found = list(changes)
    return Counts(
        sum(c.fresh and bool(c.seeds) for c in found),
        sum(not c.fresh and bool(c.seeds) for c in found),
        sum(c.again for c in found),
        sum(len(c.failed) for c in found),
    )


def _many(number: int, word: str, then: str = "") -> str:
    return f"{number} {word}{'s' * (number != 1)} {then}".strip() if number else ""


def span(seeds: Sequence[int]) -> str:
    """Whole numbers in rising order, runs of them as ranges: ``0–2, 5``."""
    runs = [[seed for _, seed in run] for _, run in groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs)


def releases(text: str | None = None) -> Mapping[str, date]:
    """Releases of the board by name with their days, newest first: dated headings of the changelog (`text`, or the project's own)."""
    if text is None:
        file = place.site_sources() / "CHANGELOG.md"
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
    dated = re.findall(r"^## \[?v?(\d[\w.+-]*)\]?\s.*?(\d{4}-\d\d-\d\d)", text, re.M)
    return {name: date.fromisoformat(day) for name, day in dated}
