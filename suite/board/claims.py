"""The claim ledger: each paper's claim beside what stands on the board, the verdict computed, never typed.

``tasks/<task>/claims.toml`` names a claim, its number and place in the paper, and the form that a tier can
test: a difference or a ratio of a measure between two rows over seeds, the least it must reach (a number, or with `deviations` so
many deviations of the other row's seeds), and with `seeds` how many seeds it takes where three are too few to see what is claimed.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from suite import registry
from suite.board import cases, statistics, store
from suite.board.cases import EVIDENCE, Case, CaseName, Run
from suite.bundle import stage_of

if TYPE_CHECKING:
    import duckdb
    from rich.console import Group, RenderableType

Word = Literal["met", "not met", "undecided", "too few rows", "not testable here"]
Seeds = dict[int, dict[str, float]]  #: measures of a row's runs by seed, each under its ``name part``
SIGNS: dict[Word, str] = {"met": "✓", "not met": "✕", "undecided": "≈", "too few rows": "○", "not testable here": "–"}
STYLES: dict[Word, str] = {
    "met": "green",
    "not met": "red",
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


def judge(results: Path, task: str = "") -> list[Verdict]:
    """Verdicts of all claims (of one task) from a folder of bundles."""
    with tempfile.TemporaryDirectory(prefix="weighin-claims-") as folder:
        db = Path(folder) / "claims.duckdb"
        store.publish(results, db)
        with store.connect(db) as connection:
            return verdicts(connection, task)


def verdicts(db: duckdb.DuckDBPyConnection, task: str = "") -> list[Verdict]:
    """Verdicts of all claims (of one task) from a published database."""
    return [v for name in registry.tasks() if not task or name == task for v in of(list(cases.of_task(db, name)), name)]


def of(read: Sequence[Case], task: str) -> list[Verdict]:
    """Verdicts of a task's claims from its cases."""
    ref = registry.tasks()[task]
    file = ref.path.with_name("claims.toml") if ref.path else None
    if file is None or not file.is_file():
        return []
    return [_judge(read, task, claim) for claim in tomllib.loads(file.read_text(encoding="utf-8"))["claim"]]


def _judge(read: Sequence[Case], task: str, claim: Mapping[str, Any]) -> Verdict:
    told = {k: claim[k] for k in ("method", "claim", "paper", "where")}
    form = claim.get("form", "")
    if "untestable" in claim:
        return Verdict(task, **told, form=form, verdict="not testable here", reason=claim["untestable"])
    unit, tier = claim.get("unit", ""), claim["row"]["tier"]
    row, versus = _rows(read, task, claim)
    values, least = _values(claim, row, versus), _least(claim, versus)
    seeds = max(statistics.LEAST_SEEDS, claim.get("seeds", 0))
    if len(values) < seeds or least is None:
        reason = f"{len(values)} of at least {seeds} paired seeds"
        if missed := _missed(read, task, claim):
            reason += f"; {missed} runs missed their target" if missed > 1 else "; 1 run missed its target"
        return Verdict(task, **told, form=form, verdict="too few rows", least=least, unit=unit, reason=reason, tier=tier)
    mean, half = statistics.t_interval(values)
    verdict: Word = "met" if mean - half >= least else "not met" if mean + half < least else "undecided"
    reason = "the interval holds the bound: more seeds would decide" if verdict == "undecided" else ""
    return Verdict(
        task,
        **told,
        form=form,
        verdict=verdict,
        value=mean,
        low=mean - half,
        high=mean + half,
        least=least,
        unit=unit,
        reason=reason,
        why="" if verdict == "met" else claim.get("why", ""),
        tier=tier,
    )


def _least(claim: Mapping[str, Any], theirs: Seeds) -> float | None:
    """The bound; None where it is a spread of fewer than three seeds."""
    if "deviations" not in claim:
        return float(claim["least"])
    values = [v[claim["measure"]] for v in theirs.values() if claim["measure"] in v]
    return float(claim["deviations"]) * float(np.std(values, ddof=1)) if len(values) >= statistics.LEAST_SEEDS else None


def _values(claim: Mapping[str, Any], ours: Seeds, theirs: Seeds) -> list[float]:
    """The claim's quantity for each seed that both rows have.

    `difference`: measure of the row minus that of `versus`.  `ratio`: over it; without `versus` over another measure of
    the same runs, `over`.  `realised`: measured speed-up over what the kept share promises.  `value`: the measure itself.
    """
    name, test = claim["measure"], claim["test"]
    other = claim.get("over", name)
    if test == "value":
        return [v[name] for v in ours.values() if name in v]
    if test == "realised":
        return [v[name] * v[claim["promised"]] for v in ours.values() if name in v and claim["promised"] in v]
    both = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[s][name], theirs[s][other]) for s in both if name in ours[s] and other in theirs[s]]
    return [a - b for a, b in pairs] if test == "difference" else [a / b for a, b in pairs]


def _rows(read: Sequence[Case], task: str, claim: Mapping[str, Any]) -> tuple[Seeds, Seeds]:
    """Measures by seed of the claim's row and of that of `versus` (without one, the same row); off-target runs do not count.

    What a machine was measured by never mixes cards: where a measure is a timing or a meter's, both rows are of the card that
    measured most of the seeds they share, among the cards of the device (`cpu`, `cuda`) where a row names one.
    """
    stage = _stage(read, claim)
    found = [_runs(read, task, claim[row], stage) for row in ("row", "versus") if row in claim]
    if stage:

        def shared(card: str) -> int:
            return len(set.intersection(*({r.seed for _, r in runs if _card(r, stage) == card} for runs in found)))

        most = max(sorted({_card(r, stage) for _, r in found[0]}), key=shared, default="")
        found = [[(case, r) for case, r in runs if _card(r, stage) == most] for runs in found]
    rows = [{r.seed: _measures(case, r, claim) for case, r in runs} for runs in found]
    return rows[0], rows[-1]


def _card(run: Run, stage: str) -> str:
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
    name = CaseName(task, registry.task(task).version, row["tier"], row.get("division", "closed"), row["case"])
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
    return f"{v.value:.2f} [{v.low:.2f}, {v.high:.2f}] {v.unit}".rstrip() + f", at least {v.least:.3g}"
