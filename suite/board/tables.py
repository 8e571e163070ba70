"""The board's rows, from DuckDB: one row a method and variant over its seeds, in one ranking."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from suite import registry
from suite.board import statistics
from suite.board.statistics import Standing
from suite.bundle import stage_of
from suite.order import DATA

if TYPE_CHECKING:
    import duckdb

    from suite.protocol import Task
    from suite.show import Parts


@dataclass(frozen=True)
class Ranking:
    """What is compared with what."""

    task: str
    version: int
    tier: str
    division: str
    case: str
    target: str

    @property
    def title(self) -> str:
        """What is asked to be kept; where a task asks for nothing, the case."""
        return self.target or self.case

    @property
    def anchor(self) -> str:
        return f"{self.case.replace('/', '-')}-{self.target or 'parent'}-{self.division}".replace("=", "-").replace(",", "-")


@dataclass(frozen=True)
class Cell:
    """A number read over seeds: mean, interval, where it comes from, what taints it."""

    value: float
    low: float = math.nan
    high: float = math.nan
    source: str = "evidence"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """How a class or a group fares under a row, and how it fared under the parent of the same seeds."""

    name: str
    value: float  #: mean over the row's seeds
    before: float = math.nan  #: the parent's, over the seeds that both have; NaN where there are none
    change: float = math.nan  #: mean of the differences from the parent, paired by seed
    half: float = math.nan  #: of its 95 % interval; NaN under three seeds
    small: bool = False  #: of too few examples to be the worst
    up: bool = True  #: more is better
    unit: str = ""

    @property
    def gain(self) -> float:
        """The change, positive where it is for the better."""
        return self.change if self.up else -self.change


@dataclass(frozen=True)
class Mark:
    """What is to be known of a row's runs besides their numbers."""

    text: str
    about: str  #: in full
    kind: str = "off"  #: good, warn, or of no weight


@dataclass(frozen=True)
class Row:
    """One method and variant, over its seeds."""

    method: str
    variant: str
    kind: str  #: parent, paper or baseline
    mark: int
    about: str
    quality: Standing
    seeds: Mapping[int, float]  #: the ranked measure by seed
    wilson: float  #: half width of a single seed's interval
    change: Cell | None
    classes: Sequence[Part]  #: of the measure that leads among those in parts (`Show.kinds`)
    promise: float | None
    cells: Mapping[str, Cell]  #: metered and timed columns
    off_target: str
    notes: Sequence[str] = ()
    marks: Sequence[Mark] = ()
    foreign: bool = False  #: of a method of ours whose source is not ours
    sources: Sequence[str] = ()  #: how the digests of its method's source begin
    timed: int = 0  #: seeds weighed on the board's card
    axes: Mapping[str, Cell] = field(default_factory=dict)  #: what the task draws quality over, by `Against.measure`
    further: Sequence[Sequence[Part]] = ()  #: of the other measures in parts, in the order of `Show.kinds`

    @property
    def label(self) -> str:
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def key(self) -> str:
        return f"{self.method}-{self.variant}".replace("=", "-").replace(",", "-")

    @property
    def ranked(self) -> bool:
        return self.kind != "parent" and not self.apart and self.quality.best > 0

    @property
    def apart(self) -> bool:
        """Whether it is kept out of what is drawn of the others: off its target, or of a source that is not ours."""
        return bool(self.off_target) or self.foreign

    @property
    def why(self) -> tuple[str, str]:
        """Why it is not ranked, in a word and in a sentence."""
        if self.foreign:
            return "foreign source", "the source that ran is not ours in any of its versions: shown apart"
        if self.off_target:
            return "off target", self.off_target
        return "under 3 seeds", f"{len(self.seeds)} of at least 3 seeds"

    @property
    def half(self) -> float:
        """Half width of the quality's interval: over seeds, or a single seed's own."""
        return self.quality.half if math.isfinite(self.quality.half) else self.wilson

    @property
    def rank(self) -> str:
        q = self.quality
        return str(q.best) if q.best == q.worst else f"{q.best}–{q.worst}"


@dataclass(frozen=True)
class Failure:
    method: str
    variant: str
    seed: int
    status: str
    reason: str


@dataclass(frozen=True)
class Board:
    """One ranking: the parent, the ranked rows best first, the others, and what failed."""

    ranking: Ranking
    unit: str  #: of the ranked measure
    up: bool  #: whether more of it is better
    card: str  #: system card of the timings, empty where nothing was timed
    device: str  #: of the timings: one card may have timed on two
    cards: Sequence[tuple[str, str]]  #: all cards and devices with timings, most rows first
    parent: Row | None
    ranked: Sequence[Row]
    unranked: Sequence[Row]
    failures: Sequence[Failure]
    lanes: Sequence[tuple[int, int, int]] = field(default_factory=tuple)  #: first and last ranked row, and the column

    @property
    def rows(self) -> list[Row]:
        return [*([self.parent] if self.parent else []), *self.ranked, *self.unranked]

    @property
    def plain(self) -> list[Row]:
        """Rows of methods as their papers set them, on target, the parent among them; ablations stand in the table alone."""
        return [r for r in self.rows if not r.variant and not r.apart]

    @property
    def asked(self) -> tuple[str, list[Any]]:
        """Condition and its values for the runs that stand here, the parent's among them."""
        return asked(self.ranking, self.parent.method if self.parent else "")

    def key(self, row: Row) -> str:
        """What links a row of the table to its marks in charts."""
        return f"{self.ranking.anchor}-{row.key}"


def rankings(db: duckdb.DuckDBPyConnection) -> list[Ranking]:
    """All rankings that have rows; a parent's own (empty target) only where nothing else was asked.

    Older versions of a task are archived in the database and not ranked; tasks that are not installed cannot be.
    """
    found = db.execute(
        "SELECT DISTINCT task, version, tier, division, \"case\", target FROM standing WHERE tier <> 'smoke' ORDER BY ALL"
    ).fetchall()
    versions = {name: registry.task(name).version for name in registry.tasks()}
    all_ = [r for r in (Ranking(*row) for row in found) if versions.get(r.task) == r.version]
    asked = {(r.task, r.version, r.tier, r.division, r.case) for r in all_ if r.target}
    kept = [r for r in all_ if r.target or (r.task, r.version, r.tier, r.division, r.case) not in asked]
    return sorted(kept, key=lambda r: (r.task, r.tier, r.division, _case_order(r), _target_order(r)))


def papers_of(task: str) -> list[str]:
    """Methods from papers but the parent, in the order in which they are given marks."""
    return [n for n, m in registry.methods(task).items() if m.paper and n != registry.task(task).parent_method]


def asked(ranking: Ranking, parent: str) -> tuple[str, list[Any]]:
    """Condition and its values for the runs of a ranking, those of the parent's method among them."""
    where = "(task, version, tier, division, \"case\") = (?, ?, ?, ?, ?) AND (target = ? OR target = '' AND method = ?)"
    return where, [*astuple(ranking), parent]


def board(db: duckdb.DuckDBPyConnection, ranking: Ranking, on: tuple[str, str] | None = None) -> Board:
    """Rows of a ranking with the timings of one card and device (default: those with most rows)."""
    task = registry.task_of(ranking)
    where, values = asked(ranking, task.parent_method)
    counted = _runs(db, "counted", where, values)
    weighed = _runs(db, "weighed", where, values)
    places_timed = Counter((r["weigh_card"], r["device"]) for r in weighed if r["weigh_card"])
    cards = sorted(places_timed, key=lambda c: (-places_timed[c], c))
    card, device = on or (cards[0] if cards else ("", ""))
    measures = _measures(db, {r["id"] for r in [*counted, *weighed]})
    off = {
        row[0]: f"kept {row[2]:.3g} of {row[1]} where {row[3]:g} was asked" if row[2] is not None else f"{row[1]} was not measured"
        for row in db.execute("SELECT id, name, kept, wanted FROM kept WHERE off_target").fetchall()
    }
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in counted:
        groups[run["method"], run["variant"]].append(run)
    parents = {r["seed"]: measures[r["id"]] for r in groups.get((task.parent_method, ""), []) if not r["target"]}
    known = registry.methods(ranking.task)
    papers = papers_of(ranking.task)
    drafts = []
    for (method, variant), runs in groups.items():
        kind = "parent" if method == task.parent_method and not variant else "paper" if method in papers else "baseline"
        # a paper's ablations are drawn like baselines: five coloured marks are as many as an eye can hold
        index = -2 if kind == "parent" else papers.index(method) if kind == "paper" and not variant else -1
        timed = [
            r
            for r in weighed
            if (r["method"], r["variant"]) == (method, variant) and (r["weigh_card"], r["device"]) == (card, device)
        ]
        about = _about(known.get(method), variant)
        drafts.append((method, variant, kind, index, about, runs, timed))
    ranked_measure = task.ranked
    sample = next((m[ranked_measure, ""] for m in measures.values() if (ranked_measure, "") in m), None)
    up, unit = sample is None or sample.direction != "down", sample.unit if sample else ""
    per_seed = [
        {r["seed"]: measures[r["id"]][ranked_measure, ""].value for r in runs if (ranked_measure, "") in measures[r["id"]]}
        for *_, runs, _ in drafts
    ]
    bad = [next((off[r["id"]] for r in runs if r["id"] in off), "") for *_, runs, _ in drafts]
    single = [any(r["seedless"] for r in runs) for *_, runs, _ in drafts]
    strange = [any(r["foreign"] for r in runs) for *_, runs, _ in drafts]
    judged = [
        i
        for i, (d, values_) in enumerate(zip(drafts, per_seed, strict=True))
        if d[2] != "parent" and not bad[i] and not strange[i] and values_
    ]
    confirmed, disputed = _replayed(db, {r["id"] for r in [*counted, *weighed]})
    places = dict(
        zip(
            judged,
            statistics.standings([per_seed[i] for i in judged], higher_is_better=up, seedless=[single[i] for i in judged]),
            strict=True,
        )
    )
    several = [i for i, values_ in enumerate(per_seed) if len(values_) > 1]
    noises = dict(zip(several, statistics.noise([per_seed[i] for i in several]), strict=True))
    rows = []
    for i, (method, variant, kind, index, about, runs, timed) in enumerate(drafts):
        if not per_seed[i] and ranking.division != "speed":
            continue
        mean = float(np.mean(list(per_seed[i].values()))) if per_seed[i] else math.nan
        place = places.get(i) or Standing(mean, statistics.interval(per_seed[i], noises[i]) if i in noises else math.nan, 0, 0)
        first = measures[runs[0]["id"]].get((ranked_measure, ""))
        half = (first.high - first.low) / 2 if first else math.nan
        parts = [_parts(p, runs, measures, parents) for p in task.show.kinds]
        rows.append(
            Row(
                method,
                variant,
                kind,
                index,
                about,
                place,
                per_seed[i],
                half,
                _change(runs, measures, parents, ranked_measure) if kind != "parent" else None,
                parts[0] if parts else [],
                _promise(task, runs, measures),
                _cells(task, timed, measures),
                bad[i],
                _copies(task, [*runs, *timed]),
                marks=_marks(list({r["id"]: r for r in [*runs, *timed]}.values()), confirmed, disputed),
                foreign=strange[i],
                sources=sorted({(r["method_version"] or "")[:8] for r in runs}),
                timed=len(timed),
                axes=_axes(task, runs, timed, measures),
                further=parts[1:],
            )
        )
    sign = -1 if up else 1
    ranked = sorted((r for r in rows if r.ranked), key=lambda r: sign * r.quality.mean)
    unranked = sorted((r for r in rows if not r.ranked and r.kind != "parent"), key=lambda r: sign * r.quality.mean)
    failed = [
        Failure(
            r["method"],
            r["variant"],
            r["seed"],
            "retracted" if r["retracted"] else r["status"],
            r["retracted"] or r["reason"],
        )
        for r in _runs(db, "failures", where, values)
    ]
    parent = next((r for r in rows if r.kind == "parent"), None)
    spans = statistics.lanes([r.quality for r in ranked])
    lanes = [(first, last, column) for (first, last), column in zip(spans, statistics.lane_columns(spans), strict=True)]
    return Board(ranking, unit, up, card, device, cards, parent, ranked, unranked, failed, lanes)


def _about(ref: registry.MethodRef | None, variant: str) -> str:
    """One line under a method's name: a paper's venue, an ablation, or what a baseline is."""
    if ref is None:
        return "somebody's own method"
    if variant:
        return f"{'ablation' if ref.paper else 'variant'} of {ref.name}"
    venue = re.search(r"\b([A-Z][A-Za-z]+ (?:19|20)\d\d)\b", ref.paper)
    return f"paper · {venue.group(1)}" if venue else ref.summary if not ref.paper else "paper"


def _runs(db: duckdb.DuckDBPyConnection, view: str, where: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    result = db.execute(
        'SELECT id, method, method_version, variant, seed, target, seedless, "foreign", solve_card, weigh_card, device, status, reason,'
        f" retracted, notes, processes, dirty, submitter FROM {view} WHERE {where} ORDER BY seed, created, id",
        list(values),
    )
    names = [d[0] for d in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@dataclass(frozen=True)
class _Value:
    value: float
    low: float
    high: float
    source: str
    direction: str
    unit: str
    warnings: tuple[str, ...]


def _measures(db: duckdb.DuckDBPyConnection, ids: set[str]) -> dict[str, dict[tuple[str, str], _Value]]:
    out: dict[str, dict[tuple[str, str], _Value]] = defaultdict(dict)
    rows = db.execute(
        "SELECT run, name, part, value, low, high, source, direction, unit, warnings FROM measures WHERE run IN (SELECT unnest(?))",
        [list(ids)],
    ).fetchall()
    for run, name, part, value, low, high, source, direction, unit, warnings in rows:
        ends = (math.nan if low is None else low, math.nan if high is None else high)
        out[run][name, part] = _Value(value, *ends, source, direction, unit, tuple(warnings or ()))
    return out


def _change(runs: Sequence[Mapping[str, Any]], measures: Any, parents: Any, name: str, part: str = "") -> Cell | None:
    """Paired by seed with the parent: mean difference and its t interval."""
    pairs = [
        measures[r["id"]][name, part].value - parents[r["seed"]][name, part].value
        for r in runs
        if (name, part) in parents.get(r["seed"], ()) and (name, part) in measures[r["id"]]
    ]
    if not pairs:
        return None
    if len(pairs) < statistics.LEAST_SEEDS:
        return Cell(float(np.mean(pairs)))
    mean, half = statistics.t_interval(pairs)
    return Cell(mean, mean - half, mean + half)


def _copies(task: Task[Any, Any], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be said of runs by several processes where the task shares no batches: each trained a copy."""
    most = max((r["processes"] for r in runs), default=1)
    return [f"{most} processes, a copy each"] if most > 1 and not task.shares_batches else []


MOST_NOTES = 6  #: of a row, where they are told in full
#: how notes begin that nearly every run has: they are told where somebody asks, not shown beside the others
USUAL = ("energy: ", "load average ", "GPU before ", "GPU after ")


def _marks(
    runs: Sequence[Mapping[str, Any]], confirmed: Mapping[str, list[tuple[str, str]]], disputed: Mapping[str, list[str]]
) -> list[Mark]:
    """Who ran them, from what, with what remarks, and who ran them again."""
    marks = []
    if names := sorted({r["submitter"] for r in runs if r["submitter"]}):
        marks.append(Mark(f"by {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}", f"submitted by {', '.join(names)}"))
    if any(r["dirty"] is not False for r in runs):
        marks.append(Mark("△ uncommitted changes", "made from a tree with uncommitted changes, or outside a clone", "warn"))
    notes = list(dict.fromkeys(n for r in runs for n in r["notes"] or ()))
    if odd := [n for n in notes if not n.startswith(USUAL)]:
        marks.append(
            Mark(f"△ {len(odd)} note{'s' if odd[1:] else ''}", " · ".join(n.removeprefix(DATA) for n in odd[:MOST_NOTES]), "warn")
        )
    if usual := list(dict.fromkeys(re.sub(r"[\d.]+", "…", n) for n in notes if n.startswith(USUAL))):
        marks.append(Mark("notes", " · ".join(usual[:MOST_NOTES])))
    again = [c for r in runs for c in confirmed.get(r["id"], ())]
    if again:
        machines, by = {card for card, _ in again}, sorted({name for _, name in again})
        times = {1: "once", 2: "twice"}.get(len(again), f"{len(again)} times")
        on = "one machine" if len(machines) == 1 else f"{_counted(len(machines))} machines"
        marks.append(Mark(f"✓ confirmed {times}, on {on}", f"replayed by {', '.join(by)}", "good"))
    if against := sorted({name for r in runs for name in disputed.get(r["id"], ())}):
        marks.append(Mark("✕ a replay differs", f"replayed by {', '.join(against)}", "bad"))
    return marks


def _counted(number: int) -> str:
    return {2: "two", 3: "three", 4: "four", 5: "five"}.get(number, str(number))


def _replayed(db: duckdb.DuckDBPyConnection, ids: set[str]) -> tuple[dict[str, list[tuple[str, str]]], dict[str, list[str]]]:
    """By run the card and submitter of each replay by somebody else that agreed, and the submitters of those that did not."""
    confirmed: dict[str, list[tuple[str, str]]] = defaultdict(list)
    disputed: dict[str, list[str]] = defaultdict(list)
    for run, card, by, agrees in db.execute(
        "SELECT DISTINCT c.run, c.card, c.submitter, c.agrees FROM confirmations AS c JOIN runs ON runs.id = c.run"
        " WHERE c.submitter <> coalesce(runs.submitter, '') AND c.run IN (SELECT unnest(?)) ORDER BY ALL",
        [list(ids)],
    ).fetchall():
        if agrees:
            confirmed[run].append((card, by))
        else:
            disputed[run].append(by)
    return confirmed, disputed


def _parts(kind: Parts, runs: Sequence[Mapping[str, Any]], measures: Any, parents: Any) -> list[Part]:
    """A measure of the evidence in its parts: mean over seeds, and change from the parent of the same seeds."""
    told = {key: m for r in runs for key, m in measures[r["id"]].items() if key[1] and m.source == "evidence"}
    keys = sorted(k for k, m in told.items() if m.direction and (k[0] == kind.measure if kind.measure else m.direction == "up"))
    out = []
    for name, part in keys:
        found = [(r["seed"], m) for r in runs if (m := measures[r["id"]].get((name, part)))]
        change = _change(runs, measures, parents, name, part)
        before = [p.value for seed, _ in found if (p := parents.get(seed, {}).get((name, part)))]
        out.append(
            Part(
                part,
                float(np.mean([m.value for _, m in found])),
                float(np.mean(before)) if before else math.nan,
                change.value if change else math.nan,
                (change.high - change.low) / 2 if change else math.nan,
                any(w.partition(":")[0] == kind.small for _, m in found for w in m.warnings),
                told[name, part].direction == "up",
                told[name, part].unit,
            )
        )
    return out


def _promise(task: Task[Any, Any], runs: Sequence[Mapping[str, Any]], measures: Any) -> float | None:
    """The speed-up that the counted share promises: its inverse; none where nothing was counted or nothing is left."""
    shares = [share for r in runs if (share := _share(task.promised, measures[r["id"]])) is not None]
    return 1 / float(np.mean(shares)) if any(shares) else None


def _share(promised: str, measures: Mapping[tuple[str, str], _Value]) -> float | None:
    """A measure, or one over another (``<x>/<x of the parent>``), of one run; None where it lacks them."""
    found = [measures.get((name, "")) for name in promised.split("/")]
    values = [m.value for m in found if m]
    if len(values) < len(found) or not all(values[1:]):
        return None
    return values[0] / math.prod(values[1:])


def _cells(task: Task[Any, Any], timed: Sequence[Mapping[str, Any]], measures: Any) -> dict[str, Cell]:
    """Timed and metered numbers of the runs weighed on one card, by ``name part``; of those solved elsewhere none of the solve's."""
    out: dict[str, Cell] = {}
    keys = {key for r in timed for key, m in measures[r["id"]].items() if m.source != "evidence"}
    for name, part in keys:
        here = [measures[r["id"]] for r in timed if r[f"{stage_of(name)}_card"] == r["weigh_card"]]
        found = [m[name, part] for m in here if (name, part) in m]
        if not found:
            continue
        warnings = tuple(dict.fromkeys(w.partition(":")[0] for v in found for w in v.warnings))
        if name == "speedup":
            middle, low, high = statistics.log_ratio([(v.value, v.low, v.high) for v in found])
            out[f"{name} {part}"] = Cell(middle, low, high, "timing", warnings)
        else:
            out[f"{name} {part}".strip()] = Cell(
                float(np.mean([v.value for v in found])), source=found[0].source, warnings=warnings
            )
    return out | _peaks(task, timed, measures)


def _peaks(task: Task[Any, Any], timed: Sequence[Mapping[str, Any]], measures: Any) -> dict[str, Cell]:
    """Memory of the task's jobs: of each run the most that a workload of the job took, as the mean over runs."""
    out = {}
    for job, beginnings in task.jobs.items():
        found = [
            max(peaks, key=lambda m: m.value)
            for r in timed
            if (
                peaks := [
                    m
                    for (name, part), m in measures[r["id"]].items()
                    if name == "memory_peak" and part.startswith(tuple(beginnings))
                ]
            )
        ]
        if found:
            warnings = tuple(dict.fromkeys(w.partition(":")[0] for m in found for w in m.warnings))
            out[f"memory_peak {job}"] = Cell(float(np.mean([m.value for m in found])), source=found[0].source, warnings=warnings)
    return out


def _axes(
    task: Task[Any, Any], runs: Sequence[Mapping[str, Any]], timed: Sequence[Mapping[str, Any]], measures: Any
) -> dict[str, Cell]:
    """What quality is drawn over: of evidence from all seeds, else from the runs weighed on one card."""
    out = {}
    for axis in task.show.against:
        name, _, part = axis.measure.partition(":")
        told = [m for r in runs if (m := measures[r["id"]].get((name, part))) and m.source == "evidence"]
        here = [r for r in timed if r[f"{stage_of(name)}_card"] == r["weigh_card"]]  # of those solved elsewhere none of the solve's
        found = told or [m for r in here if (m := measures[r["id"]].get((name, part)))]
        # a mean over those seeds alone that have a value would flatter who seldom gets there
        whole = len(found) == len(runs if told else here)
        if found and whole and min(m.value for m in found) > 0:
            warnings = tuple(dict.fromkeys(w.partition(":")[0] for m in found for w in m.warnings))
            # a number without an interval of its own has no width: what is left is the scatter between seeds
            spans = [(m.low, m.high) if math.isfinite(m.low) and m.low > 0 else (m.value, m.value) for m in found]
            middle, low, high = statistics.log_ratio([(m.value, *span) for m, span in zip(found, spans, strict=True)])
            out[axis.measure] = Cell(middle, low, high, found[0].source, warnings)
    return out


def aside(boards: Sequence[Board]) -> set[Ranking]:
    """Rungs between the marks: rankings of targets that their tier does not name, of rows that the same case has at named ones."""

    def between(b: Board) -> bool:
        beside = [o for o in boards if _named(o.ranking) and replace(o.ranking, target=b.ranking.target) == b.ranking]
        there = {row.label for o in beside for row in o.rows}
        return not _named(b.ranking) and bool(beside) and all(row.label in there for row in b.rows if row.kind != "parent")

    return {b.ranking for b in boards if between(b)}


def _named(r: Ranking) -> bool:
    return r.target in _targets(r)


def _targets(r: Ranking) -> Sequence[str]:
    """Those that the ranking's tier names."""
    shape = registry.task_of(r).tiers.get(r.tier)
    return shape.targets if shape else ()


def _numbers(target: str) -> list[float]:
    return [float(part.partition("=")[2]) for part in target.split(",") if part]


def _case_order(r: Ranking) -> tuple[int, str]:
    shape = registry.task_of(r).tiers.get(r.tier)
    return _place(r.case, shape.cases if shape else ()), r.case


def _target_order(r: Ranking) -> tuple[int, list[float]]:
    """Targets that the tier names come first, in its order; of the others the larger."""
    return _place(r.target, _targets(r)), [-v for v in _numbers(r.target)]


def _place(name: str, listed: Sequence[str]) -> int:
    """Index in a list; what is not in it comes last."""
    return listed.index(name) if name in listed else len(listed)


def facts(text: str) -> dict[str, Any]:
    """A system card's JSON."""
    value = json.loads(text)
    return value if isinstance(value, dict) else {}
