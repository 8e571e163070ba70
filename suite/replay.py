"""Run a row again from its bundle, and say whether it agrees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from suite import bundle, registry, runner, system, versions
from suite.naming import UserError
from suite.order import Order
from suite.protocol import Spec

if TYPE_CHECKING:
    from rich.table import Table

METER_TOLERANCE = 0.25  #: memory and seconds move from run to run; counts must be equal
COUNTS = ("macs", "params", "nonzero", "examples", "kept.")  #: how names of counts begin


@dataclass(frozen=True)
class Line:
    """One measure in the bundle and in its replay."""

    name: str
    bundle: float
    replay: float
    agrees: bool
    how: str  #: the rule it was held to


@dataclass(frozen=True)
class Verdict:
    """Whether a replay agreed, and in what."""

    agrees: bool
    same_card: bool
    same_evidence: bool  #: bit for bit
    bundle: str
    replay: str
    lines: tuple[Line, ...]


def order_of(path: Path, *, method: str = "", data: str = "", device: str = "") -> tuple[Order, bundle.RunRecord]:
    """The order that made a bundle; raises UserError where the method, its source or the data are not at hand."""
    record = bundle.read(path)
    asked = record.method
    if asked.origin != "reference" and not method:
        raise UserError(f"{asked.name} is somebody's own method: give its file with --method; its digest is {asked.version[:12]}")
    fields = {f: getattr(record.spec, f) for f in bundle.SpecRecord.model_fields}
    spec = Spec(**{**fields, "data": data, "device": device or record.spec.device})
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
    above = path.resolve().parents  # results/<task>/<tier>/<method>/<bundle>
    card = above[3] / "systems" / f"{record.systems['solve']}.json" if len(above) > 3 else path
    if not card.is_file():
        return 0
    used = int(system.read_card(card).processor.get("threads_used", 0))
    return 0 if used == system.card(record.spec.device).processor["threads_used"] else used


def compare(path: Path, record: bundle.RunRecord, replayed: Path) -> Verdict:
    """Hold a replay against its bundle.

    Evidence that is equal bit for bit agrees.  Otherwise (another processor rounds otherwise) the 95 %
    intervals of a measure must meet; timings are held to theirs on the same card only, as no one
    expects another machine to be as fast; counts must be equal.
    """
    again = bundle.read(replayed)
    same_card = record.systems == again.systems
    file = record.files.get("evidence.parquet")
    other = again.files.get("evidence.parquet")
    same_evidence = file is not None and other is not None and file.sha256 == other.sha256
    lines = [
        _line(m, n, same_card=same_card)
        for m in record.measures
        if (n := again.measure(m.name, m.part)) is not None
        and (m.source == "evidence" or same_card or m.name.startswith(COUNTS) or m.name == "speedup")
    ]
    missing = [m.name for m in record.measures if m.source == "evidence" and again.measure(m.name, m.part) is None]
    agrees = record.status == again.status and not missing and all(line.agrees for line in lines)
    return Verdict(agrees, same_card, same_evidence, str(path), str(replayed), tuple(lines))


def _line(m: bundle.MeasureRecord, n: bundle.MeasureRecord, *, same_card: bool) -> Line:
    name = f"{m.name} {m.part}".strip()
    if m.name.startswith(COUNTS):
        return Line(name, m.value, n.value, m.value == n.value, "equal")
    if m.source == "timing" and not same_card:
        return Line(name, m.value, n.value, True, "another card: shown, not judged")
    if m.low is not None and m.high is not None and n.low is not None and n.high is not None:
        # two machines' days differ by more than one day's interval: allow a timing 5 % besides
        slack = 0.05 * abs(m.value) if m.source == "timing" else 0.0
        return Line(name, m.value, n.value, m.low <= n.high + slack and n.low <= m.high + slack, "95 % intervals meet")
    near = abs(m.value - n.value) <= METER_TOLERANCE * max(abs(m.value), abs(n.value))
    return Line(name, m.value, n.value, near, f"within {METER_TOLERANCE:.0%}")


def render(verdict: Verdict) -> Table:
    """The verdict as a table for a terminal."""
    from rich.table import Table

    words = "agrees" if verdict.agrees else "does NOT agree"
    exact = "evidence equal bit for bit" if verdict.same_evidence else "evidence differs in rounding or more"
    table = Table("measure", "bundle", "replay", "", "held to", title=f"the replay {words}: {exact}", title_justify="left")
    for line in verdict.lines:
        table.add_row(line.name, f"{line.bundle:.6g}", f"{line.replay:.6g}", "✓" if line.agrees else "✗", line.how)
    return table
