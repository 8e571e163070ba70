"""Run a row again from its bundle, and say whether it agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from suite import bundle, naming, registry, runner, system, versions
from suite.checks import texts
from suite.confirming import Confirmation, Judged
from suite.confirming import Verdict as Said
from suite.naming import UserError
from suite.order import Order

if TYPE_CHECKING:
    from rich.table import Table

METER_TOLERANCE = 0.25  #: memory and seconds move from run to run; counts must be equal
NOTED = "noted"  #: what a method says of itself; other figures of meters without a unit are counts
DRIFT = 0.05  #: relative: what two days of one machine differ by besides their intervals, and counts of masks found on two


@dataclass(frozen=True)
class Line:
    """One measure in the bundle and in its replay."""

    name: str
    kind: Literal["evidence", "counts", "timings"]
    bundle: float | None  #: None: the bundle lacks it
    replay: float | None
    agrees: bool | None  #: None: shown, not judged
    how: str  #: the rule it was held to


@dataclass(frozen=True)
class Verdict:
    """What a replay says of a bundle: of its evidence, of its counts and of its timings, each by itself."""

    status: bool  #: both ended alike
    same_card: bool
    evidence: Said
    counts: Judged
    timings: Judged
    bundle: str
    replay: str
    lines: tuple[Line, ...]

    @property
    def agrees(self) -> bool:
        """Whether the replay confirms the bundle."""
        return self.status and "differs" not in (self.evidence, self.counts, self.timings)


def order_of(path: Path, *, method: str = "", data: str = "", device: str = "") -> tuple[Order, bundle.RunRecord]:
    """The order that made a bundle; raises UserError where the method, its source or the data are not at hand."""
    record = bundle.read(path)
    asked = record.method
    if asked.origin != "reference" and not method:
        raise UserError(f"{asked.name} is somebody's own method: give its file with --method; its digest is {asked.version[:12]}")
    spec = replace(bundle.spec_of(record), data=data, device=device or record.spec.device)
    version = registry.task_of(spec).version
    if spec.version != version:
        raise UserError(
            f"{path} is of {spec.task} version {spec.version}, this is version {version}: check out commit {record.source.commit}"
        )
    order = runner.make_order(spec, method or asked.name, [], processes=record.processes)
    if not _same_source(order, record):
        raise UserError(
            f"the source of {asked.name} is not the bundle's ({asked.version[:12]}): check out commit {record.source.commit}"
        )
    if order.data != record.data:
        raise UserError(f"the data are not the bundle's ({record.data[:12]}); name its folder with --data")
    instance = registry.configure(registry.load(registry.method(spec.task, method or asked.name)), asked.configuration)
    values, _ = registry.configuration(instance)
    return replace(order, configuration=values, variant=asked.variant, threads=_threads(path, record)), record


def _same_source(order: Order, record: bundle.RunRecord) -> bool:
    """Whether a bundle's sources, of method and task, are those here or one version with them."""
    asked, task_digest = record.method, record.source.task_digest
    if order.origin != "reference":
        return order.version == asked.version
    method, task = versions.of_method(order.spec.task, order.method), versions.of_task(order.spec.task)
    known = task_digest is None or task.version_of(task_digest) == task.stated
    return known and method.version_of(asked.version) == method.stated


def _threads(path: Path, record: bundle.RunRecord) -> int:
    """Threads that the bundle's solve used, as its card beside the results tells; 0 (all cores) without a card."""
    results = bundle.results_of(path)
    card = results / "systems" / f"{record.systems['solve']}.json" if results else path
    if not card.is_file():
        return 0
    used = int(system.read_card(card).processor.get("threads_used", 0))
    return 0 if used == system.card(record.spec.device).processor["threads_used"] else used


def compare(path: Path, record: bundle.RunRecord, replayed: Path) -> Verdict:
    """Hold a replay against its bundle.

    On the card of the bundle a processor repeats itself: evidence must be equal, value by value, and so must counts.  Elsewhere
    (another processor rounds otherwise, and a GPU's sums have no order) the 95 % intervals of each measure must meet, and counts
    may differ by as much as masks do that were found anew.  Timings, memory and seconds are held to theirs on the same card alone,
    and where neither run saw others at work.  What only one of the two has does not agree.
    """
    again = bundle.read(replayed)
    same_card = record.systems == again.systems
    exact = same_card and record.spec.device == "cpu"
    same = _same_evidence(path, record, replayed, again)
    busy = any(w.startswith("busy") for r in (record, again) for m in r.measures for w in m.warnings)
    keys = dict.fromkeys((m.name, m.part) for r in (record, again) for m in r.measures)
    lines = [
        _line(record.measure(*key), again.measure(*key), exact=exact, same=same, same_card=same_card, busy=busy) for key in keys
    ]
    evidence: Said = _said(lines, "evidence")
    if evidence != "differs":
        evidence = "differs" if exact and same is False else "equal" if same else evidence
    status = record.status == again.status
    return Verdict(
        status, same_card, evidence, _said(lines, "counts"), _said(lines, "timings"), str(path), str(replayed), tuple(lines)
    )


def _same_evidence(path: Path, record: bundle.RunRecord, replayed: Path, again: bundle.RunRecord) -> bool | None:
    """Whether both have the same evidence, however it is packed; None where neither has any."""
    if bundle.EVIDENCE not in record.files and bundle.EVIDENCE not in again.files:
        return None
    if bundle.EVIDENCE not in record.files or bundle.EVIDENCE not in again.files:
        return False
    if record.files[bundle.EVIDENCE].sha256 == again.files[bundle.EVIDENCE].sha256:
        return True
    ours, theirs = (bundle.read_table(p / bundle.EVIDENCE) for p in (path, replayed))
    return list(ours) == list(theirs) and all(
        ours[c].dtype == theirs[c].dtype and ours[c].shape == theirs[c].shape and bool((ours[c] == theirs[c]).all()) for c in ours
    )


def _said(lines: Sequence[Line], kind: str) -> Judged:
    judged = [x.agrees for x in lines if x.kind == kind and x.agrees is not None]
    return "not judged" if not judged else "agrees" if all(judged) else "differs"


def _line(
    m: bundle.MeasureRecord | None,
    n: bundle.MeasureRecord | None,
    *,
    exact: bool,
    same: bool | None,
    same_card: bool,
    busy: bool,
) -> Line:
    known = m or n
    assert known is not None
    name = f"{known.name} {known.part}".strip()
    counted = known.source == "meter" and not known.unit and known.name != NOTED
    kind: Literal["evidence", "counts", "timings"] = (
        "evidence" if known.source == "evidence" else "counts" if counted else "timings"
    )
    if m is None or n is None:
        # another machine may have other meters and runtimes
        judged = False if kind != "timings" or exact else None
        here, there = (r.value if r else None for r in (m, n))
        return Line(name, kind, here, there, judged, f"{'the bundle' if m is None else 'the replay'} lacks it")
    if counted and (exact or same):
        return Line(name, kind, m.value, n.value, m.value == n.value, "equal")
    if counted:
        near = abs(m.value - n.value) <= DRIFT * max(abs(m.value), abs(n.value))
        return Line(name, kind, m.value, n.value, near, f"within {DRIFT:.0%} on another machine")
    if kind == "timings" and (not same_card or busy):
        return Line(name, kind, m.value, n.value, None, "busy: not judged" if same_card else "another card: not judged")
    if kind == "evidence" and exact:
        return Line(name, kind, m.value, n.value, m.value == n.value, "equal on one card")
    if m.low is not None and m.high is not None and n.low is not None and n.high is not None:
        slack = DRIFT * abs(m.value) if kind == "timings" else 0.0
        return Line(name, kind, m.value, n.value, m.low <= n.high + slack and n.low <= m.high + slack, "95 % intervals meet")
    near = abs(m.value - n.value) <= METER_TOLERANCE * max(abs(m.value), abs(n.value))
    if kind == "evidence":  # a number without an interval follows from those that have one
        return Line(name, kind, m.value, n.value, True if same else None, "has no interval: not judged")
    return Line(name, kind, m.value, n.value, near, f"within {METER_TOLERANCE:.0%}")


def confirmation(verdict: Verdict, record: bundle.RunRecord, submitter: str) -> Confirmation:
    """What is submitted of a replay."""
    again = bundle.read(Path(verdict.replay))
    return Confirmation(
        run=record.id,
        replay=again.id,
        created=again.created,
        card=again.systems["weigh"],
        evidence=verdict.evidence if verdict.status else "differs",
        counts=verdict.counts,
        timings=verdict.timings,
        submitter=submitter,
    )


def may_confirm(record: bundle.RunRecord, submitter: str) -> None:
    """Raises UserError where somebody's replay is no confirmation: a nameless one, or of who submitted the run."""
    if not submitter:
        raise UserError("a confirmation names who ran it: --submitter NAME, or WEIGHIN_SUBMITTER")
    naming.check_submitter(submitter)
    if record.submitter and texts.alike(submitter, record.submitter):
        raise UserError(f"{submitter} submitted the run itself: somebody else's replay confirms it")


def render(verdict: Verdict) -> Table:
    """The verdict as a table for a terminal."""
    from rich.table import Table

    words = "agrees" if verdict.agrees else "does NOT agree"
    parts = f"evidence {verdict.evidence}, counts {verdict.counts}, timings {verdict.timings}"
    ended = "" if verdict.status else "; they ended differently"
    table = Table("measure", "bundle", "replay", "", "held to", title=f"the replay {words}: {parts}{ended}", title_justify="left")
    for line in verdict.lines:
        mark = {True: "✓", False: "✗", None: "·"}[line.agrees]
        table.add_row(line.name, _number(line.bundle), _number(line.replay), mark, line.how)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
