"""The claim ledger: each paper's claim beside what stands on the board, the verdict computed, never typed.

``tasks/<task>/claims.toml`` names a claim, its number and place in the paper, and the form that a tier can
test: a difference or a ratio of a measure between two rows over seeds, the least it must reach (a number, or with `deviations` so
many deviations of the other row's seeds), with `seeds` how many seeds it is first looked at with where three are too few to see what
is claimed, and with `margin` what of a difference counts for none.

The noise of a difference is pooled with that of its case's other comparisons (`suite.board.pooling`).  A claim is looked at once its
first seeds are there, and again after each one more; the first look that decides it does so for good (`suite.board.sequential`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from suite import registry
from suite.board import cases, pooling, sequential, statistics, store
from suite.board.cases import EVIDENCE, Case, CaseName, Run
from suite.board.pooling import Prior
from suite.bundle import stage_of

if TYPE_CHECKING:
    import duckdb
    from rich.console import Group, RenderableType

Word = Literal["met", "not met", "no difference", "undecided", "too few rows", "not testable here"]
Seeds = dict[int, dict[str, float]]  #: measures of a row's runs by seed, each under its ``name part``
Pools = dict[tuple[Any, ...], Prior | None]  #: of a task's comparisons that were looked at already
SIGNS: dict[Word, str] = {
    "met": "✓",
    "not met": "✕",
    "no difference": "=",
    "undecided": "≈",
    "too few rows": "○",
    "not testable here": "–",
}
STYLES: dict[Word, str] = {
    "met": "green",
    "not met": "red",
    "no difference": "blue",
    "undecided": "yellow",
    "too few rows": "dim",
    "not testable here": "dim",
}


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it."""

    task: str
    method: str
    claim: str
    paper: str  #: the paper's number
    where: str  #: where it stands in the paper
    form: str  #: what is tested here, in words
    verdict: Word
    value: float | None = None
    low: float | None = None
    high: float | None = None
    least: float | None = None
    unit: str = ""
    reason: str = ""
    why: str = ""  #: what was found out about it, shown unless the claim is met
    tier: str = ""  #: where it is tested; empty where it cannot be
    margin: float | None = None  #: a difference up to which counts for none
    seeds: int = 0  #: that the value is of: those of the look that decided it, or of the last one
    look: int = 0  #: which look that was
    level: float | None = None  #: of its interval
    pooled: int = 0  #: rows whose differences its noise is pooled with; 0: its own alone


@dataclass(frozen=True)
class Sample:
    """What a claim is judged by."""

    values: Mapping[int, float]  #: its quantity by seed, ascending
    first: int  #: seeds of its first look
    least: float | None
    margin: float | None
    prior: Prior | None  #: what the case's other comparisons say of its noise
    card: str  #: that its numbers are of, where a machine's decide it
    stage: str  #: whose card that is

    @property
    def most(self) -> int:
        """Seeds of its last look."""
        return max(self.first, sequential.MOST_SEEDS)


@dataclass(frozen=True)
class Look:
    """A claim at its first n seeds."""

    seeds: int
    mean: float
    half: float  #: of the look's interval
    tail: float  #: chance that it leaves on either side
    word: Word


def judge(results: Path, task: str = "") -> list[Verdict]:
    """Verdicts of all claims (of one task) from a folder of bundles."""
    with store.of_bundles(results) as connection:
        return verdicts(connection, task)


def verdicts(db: duckdb.DuckDBPyConnection, task: str = "") -> list[Verdict]:
    """Verdicts of all claims (of one task) from a published database."""
    return [v for name in registry.tasks() if not task or name == task for v in of(list(cases.of_task(db, name)), name)]


def of(read: Sequence[Case], task: str) -> list[Verdict]:
    """Verdicts of a task's claims from its cases."""
    pools: Pools = {}
    return [_judge(read, task, claim, pools) for claim in stated(task)]


def stated(task: str) -> list[dict[str, Any]]:
    """The claims of a task's methods, as ``claims.toml`` has them."""
    ref = registry.tasks()[task]
    file = ref.path.with_name("claims.toml") if ref.path else None
    if file is None or not file.is_file():
        return []
    found: list[dict[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))["claim"]
    return found


def _judge(read: Sequence[Case], task: str, claim: Mapping[str, Any], pools: Pools | None = None) -> Verdict:
    told = {k: claim[k] for k in ("method", "claim", "paper", "where")}
    form = claim.get("form", "")
    if "untestable" in claim:
        return Verdict(task, **told, form=form, verdict="not testable here", reason=claim["untestable"])
    unit, tier = claim.get("unit", ""), claim["row"]["tier"]
    found = sample(read, task, claim, {} if pools is None else pools)
    if len(found.values) < found.first or found.least is None:
        reason = f"{len(found.values)} of at least {found.first} paired seeds"
        if missed := _missed(read, task, claim):
            reason += f"; {missed} runs missed their target" if missed > 1 else "; 1 run missed its target"
        return Verdict(
            task,
            **told,
            form=form,
            verdict="too few rows",
            least=found.least,
            unit=unit,
            reason=reason,
            tier=tier,
            margin=found.margin,
        )
    seen = looks(found)[-1]
    return Verdict(
        task,
        **told,
        form=form,
        verdict=seen.word,
        value=seen.mean,
        low=seen.mean - seen.half,
        high=seen.mean + seen.half,
        least=found.least,
        unit=unit,
        reason=_reason(found, seen),
        why="" if seen.word == "met" else claim.get("why", ""),
        tier=tier,
        margin=found.margin,
        seeds=seen.seeds,
        look=seen.seeds - found.first + 1,
        level=round(1 - 2 * seen.tail, 6),
        pooled=found.prior.rows if found.prior else 0,
    )


def _reason(found: Sample, seen: Look) -> str:
    later = len(found.values) - seen.seeds
    if seen.word != "undecided":
        return f"decided by its first {seen.seeds} seeds; {later} more came since" if later else ""
    if seen.seeds == found.most:
        return f"the interval of the last look, at {seen.seeds} seeds, holds the bound"
    return "the interval holds the bound: more seeds would decide"


def sample(read: Sequence[Case], task: str, claim: Mapping[str, Any], pools: Pools) -> Sample:
    """What a claim that can be tested is judged by; `pools` keeps what several claims of a task share."""
    runs, stage, card = chosen(read, task, claim)
    ours, *versus = [{r.seed: _measures(case, r, claim) for case, r in found} for found in runs]
    theirs = versus[0] if versus else ours
    return Sample(
        dict(sorted(_values(claim, ours, theirs).items())),
        max(statistics.LEAST_SEEDS, claim.get("seeds", 0)),
        _least(claim, theirs),
        claim.get("margin"),
        _pooled(read, task, claim, stage, card, pools),
        card,
        stage,
    )


def looks(found: Sample) -> list[Look]:
    """The looks at a claim, in their order, up to the first that decides it; none where its first seeds are not there.

    `met` and `not met`: the whole interval lies beyond the bound, or short of it.  `no difference`: it does neither, and lies within
    the margin on either side of 0, which is two one-sided tests (Schuirmann 1987), each at the chance that the interval leaves on a side.
    """
    out: list[Look] = []
    least = found.least
    if least is None:
        return out
    for n in range(found.first, min(len(found.values), found.most) + 1):
        values = list(islice(found.values.values(), n))
        mean, tail = float(np.mean(values)), sequential.tail(found.first, n)
        half = pooling.half_width(pooling.difference(values, found.prior), n, tail)
        word: Word = "undecided"
        if mean - half >= least:
            word = "met"
        elif mean + half < least:
            word = "not met"
        elif found.margin is not None and -found.margin <= mean - half and mean + half <= found.margin:
            word = "no difference"
        out.append(Look(n, mean, half, tail, word))
        if word != "undecided":
            break
    return out


def _pooled(read: Sequence[Case], task: str, claim: Mapping[str, Any], stage: str, card: str, pools: Pools) -> Prior | None:
    """What the noise of a claim's difference is pooled with: differences of the same measure among the rows of its case.

    Only methods of the project: nobody's rows of his own narrow or widen the interval of a paper's claim.  Ratios and plain values are
    no differences, and two cases are no case: there a claim has its own noise.
    """
    row, versus = claim["row"], claim.get("versus", claim["row"])
    names = {name_of(task, row), name_of(task, versus)}
    measure, over = claim["measure"], claim.get("over", claim["measure"])
    if claim["test"] != "difference" or len(names) > 1 or (measure != over) != (row == versus):
        return None
    (name,), device = names, row.get("device", "") if stage else ""
    key = (name, measure, over, stage, card, device)
    if key not in pools:
        rows = _beside(read, name, claim, stage, card, device)
        if measure == over:
            plain = [{seed: told[measure] for seed, told in runs.items() if measure in told} for runs in rows]
            pools[key] = pooling.of_pairs(plain)
        else:
            pools[key] = pooling.of_rows([_values(claim, runs, runs) for runs in rows])
    return pools[key]


def _beside(read: Sequence[Case], name: CaseName, claim: Mapping[str, Any], stage: str, card: str, device: str) -> list[Seeds]:
    """The project's rows of a case that are on their target, in the order of their names."""
    rows: dict[tuple[str, str, str], Seeds] = {}
    for case in read:
        for r in case.runs if case.name == name else ():
            if r.off_target or r.foreign or "@" in r.method or not (r.weighed if stage else r.counted):
                continue
            if not stage or (card_of(r, stage) == card and r.device.startswith(device)):
                rows.setdefault((r.target, r.method, r.variant), {})[r.seed] = _measures(case, r, claim)
    return [rows[key] for key in sorted(rows)]


def _least(claim: Mapping[str, Any], theirs: Seeds) -> float | None:
    """The bound; None where it is a spread of fewer than three seeds."""
    if "deviations" not in claim:
        return float(claim["least"])
    values = [v[claim["measure"]] for v in theirs.values() if claim["measure"] in v]
    return float(claim["deviations"]) * float(np.std(values, ddof=1)) if len(values) >= statistics.LEAST_SEEDS else None


def _values(claim: Mapping[str, Any], ours: Seeds, theirs: Seeds) -> dict[int, float]:
    """The claim's quantity for each seed that both rows have.

    `difference`: measure of the row minus that of `versus`.  `ratio`: over it; without `versus` over another measure of
    the same runs, `over`.  `realised`: measured speed-up over what the kept share promises.  `value`: the measure itself.
    """
    name, test = claim["measure"], claim["test"]
    other = claim.get("over", name)
    if test == "value":
        return {s: v[name] for s, v in ours.items() if name in v}
    if test == "realised":
        return {s: v[name] * v[claim["promised"]] for s, v in ours.items() if name in v and claim["promised"] in v}
    pairs = {s: (v[name], theirs[s][other]) for s, v in ours.items() if s in theirs and name in v and other in theirs[s]}
    return {s: a - b if test == "difference" else a / b for s, (a, b) in pairs.items()}


def chosen(read: Sequence[Case], task: str, claim: Mapping[str, Any]) -> tuple[list[list[tuple[Case, Run]]], str, str]:
    """Runs of the claim's row and, where it has one, of `versus`, and the stage and card that decide; off-target runs do not count.

    What a machine was measured by never mixes cards: where a measure is a timing or a meter's, both rows are of the card that
    measured most of the seeds they share, among the cards of the device (`cpu`, `cuda`) where a row names one.
    """
    stage, most = _stage(read, claim), ""
    found = [_runs(read, task, claim[row], stage) for row in ("row", "versus") if row in claim]
    if stage:

        def shared(card: str) -> int:
            return len(set.intersection(*({r.seed for _, r in runs if card_of(r, stage) == card} for runs in found)))

        most = max(sorted({card_of(r, stage) for _, r in found[0]}), key=shared, default="")
        found = [[(case, r) for case, r in runs if card_of(r, stage) == most] for runs in found]
    return found, stage, most


def card_of(run: Run, stage: str) -> str:
    return run.weigh_card if stage == "weigh" else run.solve_card


def _missed(read: Sequence[Case], task: str, claim: Mapping[str, Any]) -> int:
    """How many runs of a claim's rows do not count because they are off their target."""
    stage = _stage(read, claim)
    return len({r.id for row in ("row", "versus") if row in claim for _, r in _runs(read, task, claim[row], stage, missed=True)})


def _stage(read: Sequence[Case], claim: Mapping[str, Any]) -> str:
    """The stage whose machine decides a claim's numbers; empty where they are derived from evidence."""
    measures = {claim["measure"], claim.get("over", claim["measure"])}
    return next((stage_of(m) for m in sorted(measures) if _of_a_machine(read, m)), "")


def _runs(read: Sequence[Case], task: str, row: Mapping[str, Any], stage: str, *, missed: bool = False) -> list[tuple[Case, Run]]:
    """The runs of a row: of those that were weighed, where a stage is named, else of each that counts for quality.

    Only runs on their target, or, with `missed`, only those off it.  A row that says ``off_target = true`` is of a method that
    saves what it saves, whatever it is asked for: there all runs count.
    """
    any_target = bool(row.get("off_target"))
    if any_target and missed:
        return []
    name = name_of(task, row)
    asked = (row.get("target", ""), row["method"], row.get("variant", ""))
    return [
        (case, r)
        for case in read
        if case.name == name
        for r in case.runs
        if (r.target, r.method, r.variant) == asked
        and ((r.weighed and not r.of) if stage else r.counted)  # a claim is judged by what was weighed as it was solved
        and r.device.startswith(row.get("device", "") if stage else "")
        and (any_target or bool(r.off_target) == missed)
    ]


def name_of(task: str, row: Mapping[str, Any]) -> CaseName:
    return CaseName(task, registry.task(task).version, row["tier"], row.get("division", "closed"), row["case"])


def _measures(case: Case, run: Run, claim: Mapping[str, Any]) -> dict[str, float]:
    """Those that the claim is about, each under its ``name part``."""
    asked = {claim["measure"], claim.get("over", ""), claim.get("promised", "")}
    told = ((name, case.of(run, *name.partition(" ")[::2])) for name in sorted(asked) if name)
    return {name: value for name, value in told if value is not None}


def _of_a_machine(read: Sequence[Case], measure: str) -> bool:
    """Whether a task's number is the machine's, not derived from evidence."""
    columns = [(case, case.columns.get(measure.partition(" ")[::2])) for case in read]
    return any(at is not None and (case.source[:, at] > EVIDENCE).any() for case, at in columns)


def tally(found: Sequence[Verdict]) -> list[tuple[str, str, int]]:
    """Sign, word and count of each verdict."""
    every: list[str] = [v.verdict for v in found]
    return [(sign, word, every.count(word)) for word, sign in SIGNS.items()]


def render(found: Sequence[Verdict]) -> Group:
    """The ledger for a terminal: task by task, a claim below the other, so that it reads at any width."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    width = max((len(f"{SIGNS[v.verdict]} {v.verdict}") for v in found), default=0)
    for task in dict.fromkeys(v.task for v in found):
        parts.append(Text(task, style="bold"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=width)
        grid.add_column()
        for v in (v for v in found if v.task == task):
            told = Text.assemble((v.method, "cyan"), f" {v.claim}\n", (f"paper: {v.paper} ({v.where})\n", "dim"))
            if v.form:
                told.append(f"here: {v.form}\n", "dim")
            told.append(f"{ours(v)}\n")
            if v.why:
                told.append(f"why: {v.why}\n", "dim")
            grid.add_row(Text(f"{SIGNS[v.verdict]} {v.verdict}", style=STYLES[v.verdict]), told)
        parts.append(Padding(grid, (0, 0, 0, 2)))
    return Group(*parts, Text(", ".join(f"{count} {word}" for _, word, count in tally(found))))


def ours(v: Verdict) -> str:
    """Our number with its interval, or why there is none."""
    if v.value is None:
        return v.reason
    told = f"{v.value:.2f} [{v.low:.2f}, {v.high:.2f}] {v.unit}".rstrip() + f", at least {v.least:.3g}"
    if v.margin is not None:
        told += f", margin {v.margin:.3g}"
    return told + (f", look {v.look} at {v.seeds} seeds" if v.look > 1 else "")
