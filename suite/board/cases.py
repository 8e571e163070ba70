"""All runs of a case and what they measured, as arrays: read from DuckDB once, for every board of the case.

A case here is what the rankings of its targets share: task, version, tier, division and case.  Runs of the parent, which stand in
each of them, are there once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.board import machines

if TYPE_CHECKING:
    import duckdb

Column = tuple[str, str]  #: a measure's name and part
SOURCES = ("", "evidence", "timing", "meter")  #: by their codes in `Case.source`; the first: not measured
EVIDENCE = SOURCES.index("evidence")
SAME = '(r.task, r.version, r.tier, r.division, r."case") = (?, ?, ?, ?, ?)'


@dataclass(frozen=True, order=True)
class CaseName:
    task: str
    version: int
    tier: str
    division: str
    case: str


@dataclass(frozen=True, slots=True)
class Run:
    """A bundle that stands: neither of an archived version nor of a smoke tier."""

    place: int  #: its row in the arrays of its case
    id: str
    target: str
    method: str
    variant: str
    seed: int
    method_version: str
    seedless: bool
    foreign: bool  #: of a method of ours whose source is not ours
    solve_card: str
    weigh_card: str
    solve_class: str  #: the class of machine that solved it (`suite.board.machines`)
    weigh_class: str
    device: str
    status: str
    reason: str
    retracted: str  #: why, where it is
    notes: Sequence[str]
    processes: int
    dirty: bool | None
    submitter: str
    configuration: str  #: JSON
    counted: bool  #: the first of its row and seed
    weighed: bool  #: the first of its row and seed on its class of machine and device
    failed: bool  #: no answer to its question stands
    off_target: str  #: what was kept where something else was asked; empty on target
    of: str = ""  #: of a timing of a shape the run that it is of; empty of a run


@dataclass(frozen=True)
class About:
    unit: str
    direction: str


@dataclass(frozen=True)
class Case:
    """Runs in the order of their seeds, then of when they were made, and their measures (runs, columns)."""

    name: CaseName
    runs: Sequence[Run]
    columns: Mapping[Column, int]
    about: Sequence[About]  #: of each column
    value: np.ndarray  #: NaN where a run lacks the measure
    low: np.ndarray  #: of the 95 % interval; NaN where there is none
    high: np.ndarray
    source: np.ndarray  #: index of `SOURCES`
    warnings: Mapping[tuple[int, int], tuple[str, ...]]  #: of a run's measure, where it has any
    confirmed: Mapping[str, Sequence[tuple[str, str]]] = field(
        default_factory=dict
    )  #: by run, card and submitter of replays that agree
    disputed: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: by run, the submitters of those that do not

    def asked(self, target: str, parent: str) -> list[Run]:
        """The runs of a ranking: those of its target, and the parent's, which were asked for nothing."""
        return [r for r in self.runs if r.target == target or (not r.target and r.method == parent)]

    def of(self, run: Run, name: str, part: str = "") -> float | None:
        """What a run measured; None where it did not."""
        at = self.columns.get((name, part))
        return None if at is None or not self.source[run.place, at] else float(self.value[run.place, at])

    def told(self, runs: Sequence[Run], at: int) -> tuple[np.ndarray, list[Run]]:
        """Values of a column, and the runs that have it."""
        found = [r for r in runs if self.source[r.place, at]]
        return self.value[[r.place for r in found], at], found

    def tainted(self, runs: Sequence[Run], at: int) -> tuple[str, ...]:
        """How the warnings of a column begin, each once."""
        every = (w for r in runs for w in self.warnings.get((r.place, at), ()))
        return tuple(dict.fromkeys(w.partition(":")[0] for w in every))

    @cached_property
    def named(self) -> Mapping[str, Sequence[tuple[str, int]]]:
        """Parts and columns by the measure's name."""
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for (name, part), at in self.columns.items():
            found[name].append((part, at))
        return found


def _empty(name: CaseName) -> Case:
    nothing = np.empty((0, 0))
    return Case(name, [], {}, [], nothing, nothing, nothing, nothing.astype(np.int8), {})


NONE = _empty(CaseName("", 0, "", "", ""))


def names(db: duckdb.DuckDBPyConnection, where: str = "true", values: Sequence[Any] = ()) -> list[CaseName]:
    """The cases that have runs outside the smoke tier."""
    rows = db.execute(
        f"SELECT DISTINCT task, version, tier, division, \"case\" FROM standing WHERE tier <> 'smoke' AND {where} ORDER BY ALL",
        list(values),
    ).fetchall()
    return [CaseName(*row) for row in rows]


def read(db: duckdb.DuckDBPyConnection, name: CaseName) -> Case:
    """One case; without runs where there are none."""
    where = (
        '(task, version, tier, division, "case") = (?, ?, ?, ?, ?)',
        [name.task, name.version, name.tier, name.division, name.case],
    )
    return next(_read(db, *where), _empty(name))


def of_task(db: duckdb.DuckDBPyConnection, task: str) -> Iterator[Case]:
    """All cases of a task, in one pass over what is stored of it."""
    return _read(db, "task = ?", [task])


TOLD = tuple(f.name for f in fields(Run) if f.name not in ("place", "solve_class", "weigh_class", "off_target"))  # `of` comes last
_TOLD = """
    task, version, tier, division, "case", id, target, method, coalesce(variant, '') AS variant, seed,
    coalesce(method_version, '') AS method_version, coalesce(seedless, false) AS seedless, "foreign", coalesce(solve_card, '') AS solve_card,
    coalesce(weigh_card, '') AS weigh_card, coalesce(device, '') AS device, status, coalesce(reason, '') AS reason,
    coalesce(retracted, '') AS retracted, coalesce(notes, []) AS notes, coalesce(processes, 1) AS processes, dirty,
    coalesce(submitter, '') AS submitter, coalesce(configuration, '{{}}') AS configuration
"""
RUNS = f"""
SELECT * EXCLUDE (created) FROM (
    SELECT {_TOLD}, id IN (SELECT id FROM counted WHERE {{where}}) AS counted, id IN (SELECT id FROM weighed WHERE {{where}}) AS weighed,
        id IN (SELECT id FROM failures WHERE {{where}}) AS failed, '' AS "row", created
    FROM standing WHERE tier <> 'smoke' AND {{where}}
    UNION ALL
    SELECT {_TOLD}, false, true, false, "row", created FROM retimed WHERE {{where}}
)
ORDER BY task, version, tier, division, "case", seed, "row" <> '', created, id
"""

MEASURED = """
SELECT places.place, kinds.col, m.value, m.low, m.high, list_position(['evidence', 'timing', 'meter'], m.source)
FROM measured AS m JOIN places ON places.id = m.run JOIN kinds ON (kinds.name, kinds.part) = (m.name, m.part)
"""


def _read(db: duckdb.DuckDBPyConnection, where: str, values: Sequence[Any]) -> Iterator[Case]:
    """Cases one after the other; what a condition's runs measured is read whole, so it names a task at most."""
    import pyarrow as pa

    rows = db.execute(RUNS.format(where=where), 5 * list(values)).fetchall()
    if not rows:
        return
    off = {
        run: f"kept {kept:.3g} of {name} where {wanted:g} was asked" if kept is not None else f"{name} was not measured"
        for run, name, kept, wanted in db.execute(
            f"SELECT id, name, kept, wanted FROM kept WHERE off_target AND id IN (SELECT id FROM standing WHERE {where}) ORDER BY name DESC",
            list(values),
        ).fetchall()
    }
    confirmed, disputed = _replayed(db)
    machine = classes(db)
    starts = [i for i, row in enumerate(rows) if not i or row[:5] != rows[i - 1][:5]] + [len(rows)]
    places = pa.table({"id": [row[5] for row in rows], "place": pa.array(range(len(rows)), pa.int32())})
    db.register("places", places)
    kinds = db.execute(
        "SELECT name, part, arg_min(unit, place), arg_min(direction, place), (row_number() OVER (ORDER BY name, part) - 1)::INTEGER"
        " FROM measured JOIN places ON places.id = run GROUP BY name, part ORDER BY name, part"
    ).fetchall()
    name, part, unit, direction, col = zip(*kinds, strict=True) if kinds else [()] * 5
    db.register(
        "kinds",
        pa.table({"name": pa.array(name, pa.string()), "part": pa.array(part, pa.string()), "col": pa.array(col, pa.int32())}),
    )
    found = db.execute(MEASURED).fetchnumpy()
    run, kind, value, low, high, source = (np.ma.filled(c, np.nan if c.dtype.kind == "f" else 0) for c in found.values())
    told = db.execute(f"{MEASURED.replace('SELECT', 'SELECT m.warnings,', 1)} WHERE len(m.warnings) > 0").fetchall()
    db.unregister("places")
    db.unregister("kinds")
    order = np.argsort(run, kind="stable")
    cuts = np.searchsorted(run[order], starts)
    columns = list(zip(name, part, strict=True))
    about = [About(u or "", d or "") for u, d in zip(unit, direction, strict=True)]
    warned: dict[int, dict[tuple[int, int], tuple[str, ...]]] = defaultdict(dict)
    for warnings, at, column, *_ in told:
        first = int(np.searchsorted(starts, at, "right")) - 1
        warned[first][at - starts[first], column] = tuple(warnings)
    for i, (first, last) in enumerate(pairwise(starts)):
        mine = order[cuts[i] : cuts[i + 1]]
        used, column = np.unique(kind[mine], return_inverse=True)
        shape, at = (last - first, len(used)), (run[mine] - first, column)
        back = {int(k): j for j, k in enumerate(used)}
        yield Case(
            CaseName(*rows[first][:5]),
            _runs(rows[first:last], off, machine),
            {columns[k]: j for k, j in back.items()},
            [about[k] for k in used],
            _table(value[mine], at, shape, np.float64),
            _table(low[mine], at, shape, np.float64),
            _table(high[mine], at, shape, np.float64),
            _table(source[mine], at, shape, np.int8),
            {(place, back[k]): w for (place, k), w in warned[i].items()},
            confirmed,
            disputed,
        )


def _table(values: np.ndarray, at: tuple[np.ndarray, np.ndarray], shape: tuple[int, int], kind: type[np.generic]) -> np.ndarray:
    """Values (n,) at their places in an array of that shape; elsewhere NaN, or 0 of whole numbers."""
    out: np.ndarray = np.zeros(shape, kind) if issubclass(kind, np.integer) else np.full(shape, np.nan, kind)
    out[at] = values
    return out


def _runs(rows: Sequence[Sequence[Any]], off: Mapping[str, str], machine: Mapping[str, str]) -> list[Run]:
    """Rows of `RUNS` of one case; of those weighed on cards of one class the first counts, runs before timings of their shapes."""
    out, seen = [], set()
    for place, row in enumerate(rows):
        told = dict(zip(TOLD, row[5:], strict=True))
        solve, weigh = (machine.get(told[card], told[card]) for card in ("solve_card", "weigh_card"))
        if told["weighed"]:
            question = (told["target"], told["method"], told["variant"], told["seed"], weigh, told["device"])
            told["weighed"] = question not in seen
            seen.add(question)
        out.append(Run(place=place, **told, solve_class=solve, weigh_class=weigh, off_target=off.get(told["of"] or told["id"], "")))
    return out


def classes(db: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The class of each card (`suite.board.machines`)."""
    weighed = dict(db.execute("SELECT weigh_card, count(*) FROM runs GROUP BY 1").fetchall())
    return machines.classes(
        {name: json.loads(facts) for name, facts in db.execute("SELECT hash, facts FROM cards").fetchall()}, weighed
    )


def _replayed(db: duckdb.DuckDBPyConnection) -> tuple[dict[str, list[tuple[str, str]]], dict[str, list[str]]]:
    """By run the card and submitter of each replay by somebody else that agreed, and the submitters of those that did not."""
    confirmed: dict[str, list[tuple[str, str]]] = defaultdict(list)
    disputed: dict[str, list[str]] = defaultdict(list)
    for run, card, by, agrees in db.execute(
        "SELECT DISTINCT c.run, c.card, c.submitter, c.agrees FROM confirmations AS c JOIN runs ON runs.id = c.run"
        " WHERE c.submitter <> coalesce(runs.submitter, '') ORDER BY ALL"
    ).fetchall():
        if agrees:
            confirmed[run].append((card, by))
        else:
            disputed[run].append(by)
    return confirmed, disputed
