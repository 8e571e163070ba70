"""The board's rows, from DuckDB: one row a method and variant over its seeds, in one ranking."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from suite import registry
from suite.board import cases, statistics
from suite.board.cases import EVIDENCE, Case, CaseName, Run
from suite.board.statistics import Standing
from suite.bundle import stage_of
from suite.order import DATA, SHAPE

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
    every: Sequence[Run] = field(default=(), repr=False)  #: that was asked here, the parent's among them
    page: str = ""  #: that it stands on, from the site's root and without its ending
    read: Case = field(default=cases.NONE, repr=False, compare=False)  #: the case that they are of

    @property
    def rows(self) -> list[Row]:
        return [*([self.parent] if self.parent else []), *self.ranked, *self.unranked]

    @property
    def plain(self) -> list[Row]:
        """Rows of methods as their papers set them, on target, the parent among them; ablations stand in the table alone."""
        return [r for r in self.rows if not r.variant and not r.apart]

    @property
    def runs(self) -> list[Run]:
        """Those that count."""
        return [r for r in self.every if r.counted]

    @property
    def asked(self) -> tuple[str, list[Any]]:
        """Condition and its values for the runs that stand here, the parent's among them."""
        return asked(self.ranking, self.parent.method if self.parent else "")

    @property
    def address(self) -> str:
        """Of its section, from the site's root."""
        return f"{self.page}.html#{self.ranking.anchor}"

    def bare(self) -> Board:
        """The same without its runs: what other pages tell of it."""
        return replace(self, every=(), read=cases.NONE)

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
    """Rows of a ranking with the timings of one card and device (default: those with most rows), its case read for it alone."""
    return of(cases.read(db, case_of(ranking)), ranking, on)


def case_of(r: Ranking) -> CaseName:
    return CaseName(r.task, r.version, r.tier, r.division, r.case)


def of(case: Case, ranking: Ranking, on: tuple[str, str] | None = None) -> Board:
    """As `board`, of a case that was read. Long, as a row is made of every query's part at once."""
    task = registry.task_of(ranking)
    asked = case.asked(ranking.target, task.parent_method)
    counted, weighed = [r for r in asked if r.counted], [r for r in asked if r.weighed]
    often = Counter((r.weigh_class, r.device) for r in weighed if r.weigh_class)
    cards = sorted(often, key=lambda c: (-often[c], c))
    groups = _grouped(counted)
    parents = {r.seed: r.place for r in groups.get((task.parent_method, ""), ()) if not r.target}
    known, papers = registry.methods(ranking.task), papers_of(ranking.task)
    ranked_at = case.columns.get((task.ranked, ""))
    about = case.about[ranked_at] if ranked_at is not None else cases.About("", "")
    up = about.direction != "down"
    per_seed = {key: _by_seed(case, runs, ranked_at) for key, runs in groups.items()}
    bad = {key: next((r.off_target for r in runs if r.off_target), "") for key, runs in groups.items()}
    strange = {key: any(r.foreign for r in runs) for key, runs in groups.items()}
    parent = (task.parent_method, "")
    judged = [key for key, found in per_seed.items() if key != parent and not bad[key] and not strange[key] and found]
    places = dict(
        zip(
            judged,
            statistics.standings(
                [per_seed[key] for key in judged],
                higher_is_better=up,
                seedless=[any(r.seedless for r in groups[key]) for key in judged],
            ),
            strict=True,
        )
    )
    several = [key for key, found in per_seed.items() if len(found) > 1]
    noises = dict(zip(several, statistics.noise([per_seed[key] for key in several]), strict=True))
    rows = []
    for key, runs in groups.items():
        method, variant = key
        found = per_seed[key]
        if not found and ranking.division != "speed":
            continue
        kind = "parent" if key == parent else "paper" if method in papers else "baseline"
        mean = float(np.mean(list(found.values()))) if found else math.nan
        parts = [_parts(p, case, runs, parents) for p in task.show.kinds]
        rows.append(
            Row(
                method,
                variant,
                kind,
                # a paper's ablations are drawn like baselines: five coloured marks are as many as an eye can hold
                -2 if kind == "parent" else papers.index(method) if kind == "paper" and not variant else -1,
                _about(known.get(method), variant),
                places.get(key) or Standing(mean, statistics.interval(found, noises[key]) if key in noises else math.nan, 0, 0),
                found,
                _own_half(case, runs[0], ranked_at),
                _change(case, runs, parents, ranked_at) if kind != "parent" else None,
                parts[0] if parts else [],
                _promise(task, case, runs),
                {},
                bad[key],
                foreign=strange[key],
                sources=sorted({r.method_version[:8] for r in runs}),
                further=parts[1:],
            )
        )
    sign = -1 if up else 1
    ranked = sorted((r for r in rows if r.ranked), key=lambda r: sign * r.quality.mean)
    unranked = sorted((r for r in rows if not r.ranked and r.kind != "parent"), key=lambda r: sign * r.quality.mean)
    failed = [
        Failure(r.method, r.variant, r.seed, "retracted" if r.retracted else r.status, r.retracted or r.reason)
        for r in asked
        if r.failed
    ]
    first = next((r for r in rows if r.kind == "parent"), None)
    spans = statistics.lanes([r.quality for r in ranked])
    lanes = [(first, last, column) for (first, last), column in zip(spans, statistics.lane_columns(spans), strict=True)]
    board = Board(ranking, about.unit, up, "", "", cards, first, ranked, unranked, failed, lanes, asked, read=case)
    return timed_on(board, on or (cards[0] if cards else ("", "")))


def timed_on(board: Board, on: tuple[str, str]) -> Board:
    """The same rows with the timings of another class of machine and device."""
    task, case = registry.task_of(board.ranking), board.read
    groups = _grouped(r for r in board.runs)
    timed = _grouped(r for r in board.every if r.weighed and (r.weigh_class, r.device) == on)

    def row(old: Row) -> Row:
        runs, here = groups[old.method, old.variant], timed.get((old.method, old.variant), [])
        every = list({r.id: r for r in [*runs, *here]}.values())
        return replace(
            old,
            cells=_cells(task, case, here),
            notes=_copies(task, every),
            marks=_marks(case, every),
            timed=len(here),
            axes=_axes(task, case, runs, here),
        )

    parent = row(board.parent) if board.parent else None
    ranked, unranked = ([row(r) for r in rows] for rows in (board.ranked, board.unranked))
    return replace(board, card=on[0], device=on[1], parent=parent, ranked=ranked, unranked=unranked)


def _grouped(runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs by method and variant."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.method, run.variant].append(run)
    return groups


def _by_seed(case: Case, runs: Sequence[Run], at: int | None) -> dict[int, float]:
    """A column's values by seed."""
    if at is None:
        return {}
    values, found = case.told(runs, at)
    return dict(zip([r.seed for r in found], values.tolist(), strict=True))


def _own_half(case: Case, run: Run, at: int | None) -> float:
    """Half width of one run's own interval."""
    return math.nan if at is None else float(case.high[run.place, at] - case.low[run.place, at]) / 2


def _about(ref: registry.MethodRef | None, variant: str) -> str:
    """One line under a method's name: a paper's venue, an ablation, or what a baseline is."""
    if ref is None:
        return "somebody's own method"
    if variant:
        return f"{'ablation' if ref.paper else 'variant'} of {ref.name}"
    venue = re.search(r"\b([A-Z][A-Za-z]+ (?:19|20)\d\d)\b", ref.paper)
    return f"paper · {venue.group(1)}" if venue else ref.summary if not ref.paper else "paper"


def _change(case: Case, runs: Sequence[Run], parents: Mapping[int, int], at: int | None) -> Cell | None:
    """Paired by seed with the parent: mean difference and its t interval."""
    if at is None:
        return None
    mean, half, _ = _paired(case, runs, parents, [at])
    return None if math.isnan(mean[0]) else Cell(float(mean[0]), float(mean[0] - half[0]), float(mean[0] + half[0]))


def _paired(
    case: Case, runs: Sequence[Run], parents: Mapping[int, int], columns: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of columns the mean difference from the parent of the same seed, half of its t interval, and the parent's own mean.

    NaN where no seed has both, and the half width where fewer than three have.
    """
    both = [r for r in runs if r.seed in parents]
    ours = case.value[_cells_of(both, columns)]
    theirs = case.value[np.array([parents[r.seed] for r in both], np.int64)][:, columns]
    change = ours - theirs
    mean, half = statistics.t_intervals(change)
    return mean, half, statistics.means(np.where(np.isnan(ours), np.nan, theirs))


def _copies(task: Task[Any, Any], runs: Sequence[Run]) -> list[str]:
    """What is to be said of runs by several processes where the task shares no batches: each trained a copy."""
    most = max((r.processes for r in runs), default=1)
    return [f"{most} processes, a copy each"] if most > 1 and not task.shares_batches else []


MOST_NOTES = 6  #: of a row, where they are told in full
#: how notes begin that nearly every run has: they are told where somebody asks, not shown beside the others
USUAL = ("energy: ", "load average ", "GPU before ", "GPU after ", SHAPE)


def _marks(case: Case, runs: Sequence[Run]) -> list[Mark]:
    """Who ran them, from what, with what remarks, and who ran them again."""
    marks = []
    if again := [r for r in runs if r.of]:
        by = sorted({r.submitter for r in again if r.submitter})
        told = "timed again on this machine from the shape of what is deployed, its weights drawn anew"
        marks.append(Mark(f"re-timed by {by[0]}" if by else "re-timed", told + (f", by {', '.join(by)}" if by else "")))
    if names := sorted({r.submitter for r in runs if r.submitter and not r.of}):
        marks.append(Mark(f"by {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}", f"submitted by {', '.join(names)}"))
    if any(r.dirty is not False for r in runs):
        marks.append(Mark("△ uncommitted changes", "made from a tree with uncommitted changes, or outside a clone", "warn"))
    notes = list(dict.fromkeys(n for r in runs for n in r.notes))
    if odd := [n for n in notes if not n.startswith(USUAL)]:
        marks.append(
            Mark(f"△ {len(odd)} note{'s' if odd[1:] else ''}", " · ".join(n.removeprefix(DATA) for n in odd[:MOST_NOTES]), "warn")
        )
    if usual := list(dict.fromkeys(re.sub(r"[\d.]+", "…", n) for n in notes if n.startswith(USUAL))):
        marks.append(Mark("notes", " · ".join(usual[:MOST_NOTES])))
    replays = [c for r in runs for c in case.confirmed.get(r.id, ())]
    if replays:
        machines, by = {card for card, _ in replays}, sorted({name for _, name in replays})
        times = {1: "once", 2: "twice"}.get(len(replays), f"{len(replays)} times")
        on = "one machine" if len(machines) == 1 else f"{_counted(len(machines))} machines"
        marks.append(Mark(f"✓ confirmed {times}, on {on}", f"replayed by {', '.join(by)}", "good"))
    if against := sorted({name for r in runs for name in case.disputed.get(r.id, ())}):
        marks.append(Mark("✕ a replay differs", f"replayed by {', '.join(against)}", "bad"))
    return marks


def _counted(number: int) -> str:
    return {2: "two", 3: "three", 4: "four", 5: "five"}.get(number, str(number))


def _parts(kind: Parts, case: Case, runs: Sequence[Run], parents: Mapping[int, int]) -> list[Part]:
    """A measure of the evidence in its parts: mean over seeds, and change from the parent of the same seeds."""
    here = [r.place for r in runs]
    keys = []
    for name, part in sorted(case.columns):
        at = case.columns[name, part]
        direction = case.about[at].direction
        wanted = name == kind.measure if kind.measure else direction == "up"
        if part and direction and wanted and (case.source[here, at] == EVIDENCE).any():
            keys.append((part, at))
    columns = [at for _, at in keys]
    means = statistics.means(case.value[_cells_of(runs, columns)])
    change, half, before = _paired(case, runs, parents, columns)
    return [
        Part(
            part,
            float(means[i]),
            float(before[i]),
            float(change[i]),
            float(half[i]),
            kind.small in case.tainted(runs, at),
            case.about[at].direction == "up",
            case.about[at].unit,
        )
        for i, (part, at) in enumerate(keys)
    ]


def _promise(task: Task[Any, Any], case: Case, runs: Sequence[Run]) -> float | None:
    """The speed-up that the counted share promises: its inverse; none where nothing was counted or nothing is left.

    The share is a measure, or one over another (``<x>/<x of the parent>``), of each run that has them.
    """
    columns = [case.columns.get((name, "")) for name in task.promised.split("/")]
    known = [at for at in columns if at is not None]
    if len(known) < len(columns):
        return None
    first, *below = case.value[_cells_of(runs, known)].T
    whole = np.prod(below, axis=0) if below else np.ones(len(runs))
    there = (whole != 0) & ~np.isnan(first + whole)
    shares = first[there] / whole[there]
    return 1 / float(np.mean(shares)) if shares.any() else None


def _cells_of(runs: Sequence[Run], columns: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Index of runs by columns in a case's arrays."""
    return np.ix_(np.array([r.place for r in runs], np.int64), np.array(columns, np.int64))


def _cells(task: Task[Any, Any], case: Case, timed: Sequence[Run]) -> dict[str, Cell]:
    """Timed and metered numbers of the runs weighed on one card, by ``name part``; of those solved elsewhere none of the solve's."""
    out: dict[str, Cell] = {}
    places = np.array([r.place for r in timed], np.int64)
    read = set(np.flatnonzero((case.source[places] > EVIDENCE).any(0)).tolist())
    home = [r for r in timed if r.solve_class == r.weigh_class]
    for (name, part), at in case.columns.items():
        if at not in read:
            continue
        values, found = case.told(timed if stage_of(name) == "weigh" else home, at)
        if not found:
            continue
        warnings = case.tainted(found, at)
        if name == "speedup":
            out[f"{name} {part}"] = Cell(*_ratio(case, found, at), "timing", warnings)
        else:
            out[f"{name} {part}".strip()] = Cell(float(np.mean(values)), source=_source(case, found[0], at), warnings=warnings)
    return out | _peaks(task, case, timed)


def _ratio(case: Case, runs: Sequence[Run], at: int) -> tuple[float, float, float]:
    """Geometric mean and 95 % interval of a column.

    A number without an interval of its own has no width: what is left is the scatter between seeds.
    """
    places = [r.place for r in runs]
    value, low, high = (a[places, at].tolist() for a in (case.value, case.low, case.high))
    return statistics.log_ratio([(v, a, b) if a > 0 else (v, v, v) for v, a, b in zip(value, low, high, strict=True)])


def _source(case: Case, run: Run, at: int) -> str:
    return cases.SOURCES[case.source[run.place, at]]


def _peaks(task: Task[Any, Any], case: Case, timed: Sequence[Run]) -> dict[str, Cell]:
    """Memory of the task's jobs: of each run the most that a workload of the job took, as the mean over runs."""
    out = {}
    places = np.array([r.place for r in timed], np.int64)
    for job, beginnings in task.jobs.items():
        columns = np.array([at for part, at in case.named.get("memory_peak", ()) if part.startswith(tuple(beginnings))], np.int64)
        peaks = case.value[_cells_of(timed, columns.tolist())]
        there = ~np.isnan(peaks).all(1) if columns.size else np.zeros(len(places), bool)
        if there.any():
            most = np.nanargmax(peaks[there], axis=1)
            cells = list(zip(places[there].tolist(), columns[most].tolist(), strict=True))
            every = (w for cell in cells for w in case.warnings.get(cell, ()))
            warnings = tuple(dict.fromkeys(w.partition(":")[0] for w in every))
            value = float(np.mean([case.value[cell] for cell in cells]))
            out[f"memory_peak {job}"] = Cell(value, source=cases.SOURCES[case.source[cells[0]]], warnings=warnings)
    return out


def _axes(task: Task[Any, Any], case: Case, runs: Sequence[Run], timed: Sequence[Run]) -> dict[str, Cell]:
    """What quality is drawn over: of evidence from all seeds, else from the runs weighed on one card."""
    out = {}
    for axis in task.show.against:
        name, _, part = axis.measure.partition(":")
        at = case.columns.get((name, part))
        if at is None:
            continue
        told = [r for r in runs if case.source[r.place, at] == EVIDENCE]
        # of those solved elsewhere none of the solve's
        here = [r for r in timed if stage_of(name) == "weigh" or r.solve_class == r.weigh_class]
        found = told or case.told(here, at)[1]
        # a mean over those seeds alone that have a value would flatter who seldom gets there
        if found and len(found) == len(runs if told else here) and case.value[[r.place for r in found], at].min() > 0:
            out[axis.measure] = Cell(*_ratio(case, found, at), _source(case, found[0], at), case.tainted(found, at))
    return out


def aside(boards: Sequence[Board]) -> set[Ranking]:
    """Rungs between the marks: rankings of targets that their tier does not name, of rows that the same case has at named ones."""

    def between(b: Board) -> bool:
        beside = [o for o in boards if named(o.ranking) and replace(o.ranking, target=b.ranking.target) == b.ranking]
        there = {row.label for o in beside for row in o.rows}
        return not named(b.ranking) and bool(beside) and all(row.label in there for row in b.rows if row.kind != "parent")

    return {b.ranking for b in boards if between(b)}


def named(r: Ranking) -> bool:
    """Whether its tier names its target."""
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
