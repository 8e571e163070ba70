"""Timings of shapes (`suite.timings`): derived again like those of bundles, and held against the row whose shape was weighed."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite import bundle, deployed, rules, timings
from suite.checks import held, identity, numbers, texts, tree, untrusted
from suite.checks.findings import Finding, Refused, printable
from suite.meters import timing
from suite.protocol import NoShape, Shapes, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

TIME_BYTES = 200_000
MINE = ("time.json", bundle.TIMING)
METERED = ("memory_", "energy")  #: how what is metered of a weighing begins, beside how often workloads are called


class Known:
    """What the checker knows of tasks: `suite.check` has it of its registry."""

    def __init__(
        self,
        task: Callable[[bundle.SpecRecord], Task[Any, Any] | None],
        shapes: Callable[[str], Shapes | None],
        rules: Callable[[str], rules.TaskRules],
        against: Path | None,
    ) -> None:
        self.task, self.shapes, self.rules, self.against = task, shapes, rules, against


def check(path: Path, known: Known) -> Iterator[Finding]:
    """Whether a timing's files are what they say, and say what the row and the scale allow."""
    where = str(path)
    try:
        yield from _check(path, where, known)
    except Refused as e:
        yield e.finding(where)
    except (MemoryError, RecursionError):
        yield _wrong(where, "files", "need more than there is for them to be checked")


def _check(path: Path, where: str, known: Known) -> Iterator[Finding]:
    _plain_files(path)
    record = untrusted.sealed(path, timings.TIME, timings.TimingRecord, timings.AGAIN)
    told = record.files.get("timing.parquet")
    if told is None or bundle.sha256(path / bundle.TIMING) != told.sha256:
        raise Refused(bundle.TIMING, "sha256", f"the file is not the one that {timings.TIME} describes", timings.AGAIN)
    results = timings.results_of(path)
    if results is None:
        raise Refused(".", "folder", f"lies in no {timings.FOLDER} of results", "leave it where `weighin time` wrote it")
    expected = timings.folder(results, record)
    if path.resolve() != expected:
        yield _wrong(where, "folder", f"lies at {path.name}", f"its place is {'/'.join(expected.parts[-3:])}")
    yield from _signed(where, record)
    row, lies = _row(results, record, known)
    task, shapes = known.task(row.spec), known.shapes(row.spec.task)
    if task is None or shapes is None or row.spec.version != task.version:
        raise Refused(timings.TIME, "row", f"is of {row.spec.task}, of which no shapes are known here", "update weighin")
    yield from _shape(where, record, row, shapes)
    yield from _card(where, path, record, row, known)
    table = untrusted.table(path, bundle.TIMING, timing.COLUMNS, untrusted.TIMING_BYTES, told.rows)
    here = record.of(row)
    derived = numbers.derive_timing(here, table, task.jobs)
    for found in (
        *numbers.same(where, here, derived),
        *numbers.reserved(where, here, task.ranked),
        *numbers.possible(where, here.model_copy(update={"operations": [], "curve": []}), task),
        *numbers.block_lengths(where, table),
        *_as_row(where, here, row, lies, table, task, known.rules(row.spec.task)),
    ):
        yield Finding(found.bundle, timings.TIME if found.file == bundle.RUN else found.file, *_rest(found))


def _rest(found: Finding) -> tuple[Any, ...]:
    return found.field, found.level, found.message, found.mend


def _plain_files(path: Path) -> None:
    """The two files and nothing else, none of them a link or a program; raises Refused."""
    entries = untrusted.entries_of(path, f"a timing is a folder with {timings.TIME} in it")
    for name, status in sorted(entries.items()):
        if name not in MINE or not stat.S_ISREG(status.st_mode):
            raise Refused(printable(name), "file", "does not belong in a timing", f"it holds {' and '.join(MINE)}")
        untrusted.not_run(name, status.st_mode)
    for name, most in zip(MINE, (TIME_BYTES, untrusted.TIMING_BYTES), strict=True):
        if name not in entries:
            raise Refused(name, "file", "is missing", f"a timing holds {' and '.join(MINE)}")
        untrusted.within(name, entries[name].st_size, most)


def _signed(where: str, record: timings.TimingRecord) -> Iterator[Finding]:
    if record.created < identity.BEGAN or identity.ahead(record.created):
        yield _wrong(where, "created", f"{record.created} lies in the future, or before there was a runner", identity.CLOCK)
    if record.submitter and (told := texts.nameless(record.submitter)):
        yield _wrong(where, "submitter", told, "write a name, or none")


def _row(results: Path, record: timings.TimingRecord, known: Known) -> tuple[bundle.RunRecord, Path]:
    """The row and its bundle's folder; raises Refused where there is none."""
    for root in filter(None, (results, known.against)):
        path = timings.row_of(root, record)
        if (path / bundle.RUN).is_file():
            untrusted.plain_files(path)
            row = untrusted.record(path)
            untrusted.hashes(path, row)
            if (row.id, row.key) != (record.row.id, record.row.key) or row.status != "ok":
                raise Refused(timings.TIME, "row", "is not the run that lies there, or one that failed", timings.AGAIN)
            return row, path
    raise Refused(
        timings.TIME, "row", "is of no run that is here", "submit it with its row, or check it --against results that have it"
    )


def _shape(where: str, record: timings.TimingRecord, row: bundle.RunRecord, shapes: Shapes) -> Iterator[Finding]:
    """What was weighed is the shape that the row's bundle holds, or the one that follows from its operations."""
    if row.deployed is not None:
        if record.origin != "bundle" or record.shape != row.deployed.sha256:
            yield _wrong(where, "shape", "is not the one in the row's bundle")
        return
    try:
        wanted = of_operations(row, shapes)
    except NoShape as e:
        yield _wrong(where, "shape", f"the row's bundle has none, and its operations give none: {printable(str(e), 120)}")
        return
    if record.origin != "operations" or record.shape != deployed.sha256(wanted):
        yield _wrong(where, "shape", "is not the one that the row's operations give")


def of_operations(row: bundle.RunRecord, shapes: Shapes) -> bytes:
    """The file of the shape that follows from a row's operations; raises NoShape."""
    spec = bundle.spec_of(row)
    layers = [layer.model_dump() for layer in row.operations]
    try:
        shape = shapes.of_operations(spec, layers)
        told = deployed.differences(shapes.layers(spec, shape), layers)
    except (ValueError, LookupError, TypeError, ArithmeticError) as e:  # of operations that are no network's
        raise NoShape(str(e)) from e
    if told:
        raise NoShape(told[0])
    return deployed.file_of(spec, shapes, shape)


def _card(where: str, path: Path, record: timings.TimingRecord, row: bundle.RunRecord, known: Known) -> Iterator[Finding]:
    if (file := tree.card_file(record.card, path, known.against)) is None:
        yield _wrong(where, "card", f"no card {record.card}.json", "submit results/systems/ with it")
        return
    try:
        card = tree.card(file)
    except Refused as e:
        yield _wrong(where, "card", f"{e.file}: {e.message}", e.mend)
        return
    if bool(card.gpu) != (record.device != "cpu"):
        yield _wrong(where, "device", f"says {record.device}, the card names {'a GPU' if card.gpu else 'no GPU'}")
    yield from held.card(where, record.of(row), "weigh", card.model_dump(), known.rules(row.spec.task))
    most = card.gpu.get("memory_gib") if record.device != "cpu" else card.memory.get("total_gib")
    for m in record.measures:
        limit = card.memory.get("total_gib") if m.name == "memory_resident" else most
        if m.name.startswith("memory_") and m.unit == "B" and (told := held.beyond(m, limit)):
            yield _wrong(where, f"measures {m.name} {m.part}".strip(), told)


def _as_row(
    where: str,
    here: bundle.RunRecord,
    row: bundle.RunRecord,
    lies: Path,
    table: Mapping[str, np.ndarray],
    task: Task[Any, Any],
    ruled: rules.TaskRules,
) -> Iterator[Finding]:
    """Workloads, their items and how often they are called are the row's, and each was timed until it was known."""
    of_case = ruled.of(row.spec.tier, row.spec.division, row.spec.case)
    if ruled.known and row.spec.tier != "smoke":
        names = list(dict.fromkeys([*table["workload"].tolist(), *here.unsupported]))
        yield from held.ends(
            where, table, timing.caps(names, task.jobs, timing.CAP_SECONDS), ruled.timing_seconds or timing.CAP_SECONDS
        )
    items = timing.items_of(table)
    if of_case is not None:
        # examples were spent by the row's own solve, and are no part of a timing
        spec = {"device": here.spec.device, "division": "speed"}
        yield from held.workloads(
            where, here.model_copy(update={"spec": row.spec.model_copy(update=spec)}), table, of_case, task.speed
        )
    elif task.speed not in {*items, *here.unsupported, *task.jobs}:
        yield _wrong(where, "workload", f"{task.speed} is neither timed nor said to be unsupported")
    for m in here.measures:
        if m.source == "evidence" or (m.source == "meter" and not m.name.startswith(METERED) and m.name not in timing.CALLS):
            yield _wrong(where, f"measures {m.name} {m.part}".strip(), "is no part of a weighing: the row itself tells it")
        if (
            m.name in timing.CALLS
            and (before := row.measure(m.name, m.part)) is not None
            and not numbers.equal(m.value, before.value)
        ):
            yield _wrong(where, f"measures {m.name} {m.part}", f"says {m.value:.9g}, the row {before.value:.9g}")
    stored = row.files.get("timing.parquet")
    if stored is not None:
        theirs = timing.items_of(untrusted.table(lies, bundle.TIMING, timing.COLUMNS, untrusted.TIMING_BYTES, stored.rows))
        for name in items:
            if name in theirs and theirs[name] != items[name]:
                yield _wrong(where, "workload", f"{name} handles {theirs[name]} items a call in the row, {items[name]} here")
        if here.spec.device == row.spec.device and (odd := sorted(items.keys() - theirs.keys() - row.unsupported.keys())):
            yield _wrong(where, "workload", f"{odd[0]} is no workload of the row")


def _wrong(where: str, field: str, message: str, mend: str = timings.AGAIN) -> Finding:
    return Finding(where, timings.TIME, field, "error", message, mend)
