"""The submission checker: derives every number again and refuses what does not hold.

Needs neither data nor torch, and never unpickles or runs anything.  Figures of source `evidence` and
`timing` are recomputed from the stored files; figures of source `meter` (memory, energy, operations,
seconds) can only be held to bounds and cross-sums: once a submitter recomputes the hash, no checker can
see that such a figure was changed, so the board shows their source and `weighin replay` confirms them.
The key only says which runs are replays of each other; it decides no figure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import cache, partial
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from suite import bundle, deployed, fields, pictures, rules, timings, truth
from suite import registry as ours
from suite.checks import held, identity, numbers, retimed, texts, tree, untrusted
from suite.checks.findings import AGAIN, Finding, Refused, printable
from suite.checks.seen import Print, Seen, print_of
from suite.meters import timing
from suite.naming import UserError
from suite.processors import cores
from suite.protocol import TIERS, Measure, NoShape, Shapes, Task
from suite.versions import TABLE, Lineage, Table, read

MOST_FINDINGS = 20  #: of one bundle
MANY = 64  #: bundles that are worth other processes
#: memory figures of the host, and of what computed: a GPU's where there is one
HOST = ("solve_resident", "memory_resident")
DEVICE = ("solve_allocated", "memory_peak", "memory_allocated", "memory_reserved", "memory_device")
COMPUTES = re.compile(r"cpu|cuda(?::(?:0|[1-9][0-9]?))?")  #: what a run is told to compute on
TRIES = 2  #: at a bundle whose process ended: something else may have ended it

T = TypeVar("T")
R = TypeVar("R")


class TaskPlace(Protocol):
    """Where a task stands; ``truth.toml`` lies beside its file."""

    @property
    def path(self) -> Path | None: ...


class MethodSource(Protocol):
    """A method as the registry describes it, not imported."""

    @property
    def origin(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def stated(self) -> int: ...
    @property
    def path(self) -> Path: ...


class Registry(Protocol):
    """What the checker asks of `suite.registry`."""

    def tasks(self) -> Mapping[str, TaskPlace]: ...
    def task(self, name: str, /) -> Task[Any, Any]: ...
    def task_digest(self, name: str, /) -> str: ...
    def methods(self, task_name: str, /) -> Mapping[str, MethodSource]: ...
    def shapes(self, name: str, /) -> Shapes | None: ...


def check(paths: Sequence[Path], *, against: Path | None = None, registry: Registry = ours) -> list[Finding]:
    """Check bundles, or all bundles under folders.

    Args:
        paths: bundles' folders, or folders of them, in which also cards, retractions and strays are looked at.
        against: other results, in which duplicates and system cards are looked for.
        registry: tasks and methods; ours, unless a test brings its own.

    Returns at most 20 findings a bundle; none where all holds.  Raises nothing on whatever lies there.
    """
    known, seen = _Known(registry), Seen()
    if against is not None:
        for path in bundle.find(against):
            try:
                record = bundle.read(path)
            except UserError:
                continue  # it is not what is being checked
            seen.add(record, path.resolve(), partial(_print_at, path, record, known), stands=True)
    findings: list[Finding] = []
    for root in paths:
        inner = [] if os.path.exists(root / bundle.RUN) else list(bundle.find(root))  # of a name that is too long as well
        weighed = [] if os.path.exists(root / bundle.RUN) else list(timings.find(root))
        cases = [_Case(path, root, against, known, seen) for path in inner or ([] if weighed else [root])]
        for found in _several(cases) if len(cases) >= MANY and registry is ours else map(_bundle, cases):
            findings += islice(found, MOST_FINDINGS)
        of = retimed.Known(known.of_spec, known.shapes, known.rules, against)
        for path in weighed:
            findings += islice(retimed.check(path, of), MOST_FINDINGS)
        if inner:
            findings += tree.strays(root, tree.Known(tuple(known.tasks), seen.runs()))
    return [f.printable() for f in findings]


def _several(cases: Sequence[_Case]) -> Iterator[Iterator[Finding]]:
    """What `_bundle` finds in each: what bundles share is seen here, their numbers are derived by a process a core."""
    for case, judged in zip(cases, each(_judged, [(c.path, c.root, c.against) for c in cases]), strict=True):
        if judged is None:
            told = "ends the process that derives its numbers"
            rules = [case.error("process", told, "check it alone, on a machine of more memory", ".")]
        else:
            case.print, rules = judged
        yield chain(_bundle(case, rules=False), rules)


def each(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R | None]:
    """What `work` gives of each item, in order, by a process a core; None of an item that ends its process.

    Once a process has ended, nobody can tell at which item: the rest is done one by one, so that each death has its item.
    """
    done = 0
    try:
        with _processes(cores()) as pool:
            for found in pool.map(work, items, chunksize=8):
                yield found
                done += 1
    except BrokenExecutor:
        yield from _one_by_one(work, items[done:])


def _one_by_one(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R | None]:
    """As `each`, by one process at a time."""
    pool = _processes(1)
    try:
        for item in items:
            found = None
            for _ in range(TRIES):
                try:
                    found = pool.submit(work, item).result()
                    break
                except BrokenExecutor:
                    pool.shutdown()
                    pool = _processes(1)
            yield found
    finally:
        pool.shutdown()


def _processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, get_context("spawn"), _one_thread)


def _one_thread() -> None:
    """A process a core: threads of their linear algebra would wait for each other."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _judged(place: tuple[Path, Path, Path | None]) -> tuple[Print | None, list[Finding]]:
    """In another process: the print of one bundle's evidence, and what `_rules` finds."""
    case = _Case(*place, _known(), Seen())
    found = list(islice(_alone(case), MOST_FINDINGS))
    return case.print, found


@cache
def _known() -> _Known:
    return _Known(ours)


def _alone(case: _Case) -> Iterator[Finding]:
    """What `_rules` finds in a bundle whose files are what they say; the rest is `_bundle`'s to tell."""
    try:
        record = _trusted(case)
    except Refused:
        return
    yield from _held(case, record)


def _held(case: _Case, record: bundle.RunRecord) -> Iterator[Finding]:
    """What `_rules` finds; what ends it is a finding like others."""
    try:
        yield from _rules(case, record)
    except Refused as e:
        yield e.finding(case.where)
    except (MemoryError, RecursionError) as e:  # of whatever a cell of it asks for
        yield _too_much(case, e)


def _too_much(case: _Case, error: MemoryError | RecursionError) -> Finding:
    told = "more memory" if isinstance(error, MemoryError) else "a deeper stack"
    return case.error("files", f"need {told} than there is for them to be checked", file=".")


class _Known:
    """The registry's answers, each asked for once a check: to describe methods is to read their sources."""

    def __init__(self, registry: Registry) -> None:
        self.tasks = registry.tasks()
        self.task = cache(registry.task)
        self.methods = cache(registry.methods)
        self.task_digest = cache(registry.task_digest)
        self.shapes = cache(registry.shapes)
        self.truth = cache(self._truth)
        self.rules = cache(self._rules)
        self.versions = cache(self._versions)
        self.settings = cache(self._settings)

    def _truth(self, task: str) -> dict[tuple[str, str], dict[str, Any]]:
        """truth.toml of a task by tier and data name; empty where there is none."""
        path = self.tasks[task].path
        return truth.read(path.with_name(truth.FILE)) if path else {}

    def of_spec(self, spec: bundle.SpecRecord) -> Task[Any, Any] | None:
        """The task of a Spec; None where it is not here."""
        return self.task(spec.task).of(spec.case) if spec.task in self.tasks else None

    def of_case(self, spec: bundle.SpecRecord) -> rules.CaseRules | None:
        """What holds of a case; None where nothing is known of it."""
        return self.rules(spec.task).of(spec.tier, spec.division, spec.case)

    def _rules(self, task: str) -> rules.TaskRules:
        path = self.tasks[task].path
        return rules.read(path.with_name(rules.FILE)) if path else rules.TaskRules()

    def _settings(self, task: str, method: str) -> identity.Settings | None:
        """What can be set of a reference method, and to what; None where its source computes defaults otherwise."""
        source = self.methods(task)[method]
        try:
            return identity.Settings(fields.defaults(source), {s.name: s.values for s in fields.settings(source)})
        except ValueError:
            return None

    def _versions(self, task: str) -> Table:
        """Which sources of a task and of its methods are one version."""
        path = self.tasks[task].path
        return read(path.with_name(TABLE) if path else None)


def _print_at(path: Path, record: bundle.RunRecord, known: _Known) -> Print | None:
    """The print of evidence that stands already; None where there is none that can be read."""
    if bundle.EVIDENCE not in record.files or record.spec.task not in known.tasks:
        return None
    try:
        evidence = bundle.read_table(path / bundle.EVIDENCE)
        return print_of(evidence, _dictated(known, record))
    except (OSError, ValueError, KeyError):  # it is not what is being checked
        return None


def _dictated(known: _Known, record: bundle.RunRecord) -> set[str]:
    """Columns that every run of a case has alike."""
    task, case = known.task(record.spec.task).of(record.spec.case), known.of_case(record.spec)
    return {*task.truth, *(case.columns if case else ()), *(case.totals if case else ())}


class _Case:
    """One bundle under examination, and what it is judged by."""

    def __init__(self, path: Path, root: Path, against: Path | None, known: _Known, seen: Seen) -> None:
        self.path, self.root, self.against, self.known, self.seen = path, root, against, known, seen
        self.where = str(path)
        self.print: Print | None = None  #: of its evidence, once that has been read

    def error(self, field: str, message: str, mend: str = AGAIN, file: str = bundle.RUN) -> Finding:
        return Finding(self.where, file, field, "error", message, mend)

    def mark(self, field: str, message: str, mend: str, file: str = bundle.RUN) -> Finding:
        return Finding(self.where, file, field, "mark", message, mend)


def _bundle(case: _Case, *, rules: bool = True) -> Iterator[Finding]:
    """Whether a bundle's files are what they say, where it stands, what it repeats of others, and what its rules find."""
    try:
        record = _trusted(case)
        yield from _place(case, record)
        found = list(_held(case, record)) if rules else []
        yield from case.seen.before(record, case.path, case.print)
        case.seen.add(record, case.path, lambda: case.print)
        yield from found
    except Refused as e:
        yield e.finding(case.where)
    except (MemoryError, RecursionError) as e:
        yield _too_much(case, e)


def _trusted(case: _Case) -> bundle.RunRecord:
    """The record of a bundle whose files are what it says; raises Refused."""
    untrusted.plain_files(case.path)
    record = untrusted.record(case.path)
    untrusted.hashes(case.path, record)
    untrusted.seen(case.path, record)
    return record


def _place(case: _Case, record: bundle.RunRecord) -> Iterator[Finding]:
    """Within a results tree, the folders say what the record says; a bundle alone is held to its own name."""
    parts = case.path.resolve().parts
    expected = bundle.folder(Path(), record).parts
    alone = case.path == case.root and (len(parts) < 4 or parts[-3] not in TIERS)
    count = 1 if alone else len(expected)
    if parts[-count:] != expected[-count:]:
        told, wanted = "/".join(parts[-count:]), "/".join(expected[-count:])
        yield case.error("folder", f"lies at {told}", f"its place is {wanted}", ".")


def _rules(case: _Case, record: bundle.RunRecord) -> Iterator[Finding]:
    spec = record.spec
    if spec.task not in case.known.tasks:
        yield case.error("spec.task", f"no task {spec.task!r} here", f"there are: {', '.join(case.known.tasks)}")
        return
    task = case.known.task(spec.task).of(spec.case)
    if spec.version > task.version:
        told = f"version {spec.version} of {task.name} is unknown, the newest is {task.version}"
        yield case.error("spec.version", told, "update weighin")
        return
    if spec.version < task.version:
        told = f"version {spec.version} of {task.name} is archived"
        yield case.mark("spec.version", told, "only its hash and schema were checked")
        return
    if spec.tier not in task.tiers:
        yield case.error("spec.tier", f"{task.name} has no tier {spec.tier!r}", f"there are: {', '.join(task.tiers)}")
        return
    held_to = case.known.rules(spec.task)
    yield from identity.dated(case.where, record)
    yield from identity.signed(case.where, record)
    yield from identity.places(case.where, record)
    yield from held.asked(case.where, record, held_to)
    yield from _method(case, record)
    yield from _cards(case, record)
    yield from numbers.reserved(case.where, record, task.ranked)
    yield from numbers.possible(case.where, record, task)
    yield from numbers.marks(case.where, record, task.tiers[spec.tier])
    if record.processes > 1 and not task.shares_batches:
        told = (
            f"{record.processes} processes shared no batch ({task.name} shares none): each trained a copy, the first one's is here"
        )
        yield case.mark("processes", told, "run it again with --processes 1")
    entry = case.known.truth(task.name).get((spec.tier, spec.case.partition("/")[0]))
    if entry and entry["data"] != record.data and spec.division != "speed":  # there no data are looked at
        told = f"digest {record.data[:12]}, the set's is {entry['data'][:12]}"
        yield case.error("data", told, "use the data set as it is shipped")
    yield from _pictures(case, record, task)
    if record.status != "ok":
        yield from _failed(case, record)
        return
    if record.reason:
        yield case.error("reason", "an ok run has none")
    if held_to.known and spec.tier != "paper" and not held_to.has(spec.tier, spec.division, spec.case):
        told = f"{spec.case} is no case of the {spec.division} division in tier {spec.tier}"
        yield case.error("spec.case", told, "use a case of the tier, or --division open")
    yield from _shape(case, record)
    yield from _derived(case, record, task, entry)


def _pictures(case: _Case, record: bundle.RunRecord, task: Task[Any, Any]) -> Iterator[Finding]:
    """Only where the task shows some and the originals' licence lets them be shown; originals come from the reference alone.

    What is on them no checker can derive: like a meter's figures they are confirmed by a replay.
    """
    if not record.pictures:
        return
    spec, gallery = record.spec, task.show.gallery
    if gallery is None or not task.show.credit(spec.case, spec.seed, spec.division):
        yield case.error("pictures", f"{task.name} shows none of {spec.case}, seed {spec.seed}")
        return
    original = {n for n in record.pictures if n.endswith(f"{pictures.ORIGINAL}.webp")}
    of_case = case.known.of_case(spec)
    known = of_case.originals if of_case else {}
    for name in sorted(original) if known else ():
        if pictures.fingerprint(pictures.decode((case.path / name).read_bytes())) != known.get(name):
            yield case.error("pictures", f"is not the original of {spec.case}", "originals come from the data", file=name)
    width, height = gallery.size
    for name, entry in record.pictures.items():
        if entry.width > width or entry.height > height:
            told = f"{entry.width}x{entry.height} pixels, over the {width}x{height} that {task.name} shows"
            yield case.error("pictures", told, file=name)
    if original and (record.method.origin, record.method.name) != ("reference", gallery.reference):
        told = f"an original comes with {gallery.reference}, not with {record.method.name}"
        yield case.error("pictures", told, file=min(original))


def _shape(case: _Case, record: bundle.RunRecord) -> Iterator[Finding]:
    """The shape of what is deployed has the operations that the record tells, layer by layer: neither more nor less of them."""
    if record.deployed is None:
        return
    told, shapes = untrusted.shape(case.path, record), case.known.shapes(record.spec.task)
    if shapes is None or told.form > shapes.FORM:
        here = "tells no shapes" if shapes is None else f"knows forms of shapes up to {shapes.FORM}"
        yield case.error("form", f"is {told.form}, and {record.spec.task} {here}", "update weighin", bundle.DEPLOYED)
        return
    try:
        layers = shapes.layers(bundle.spec_of(record), told.shape)
    except (NoShape, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as e:
        raise Refused(bundle.DEPLOYED, "shape", printable(str(e), 200)) from e
    for difference in deployed.differences(layers, [layer.model_dump() for layer in record.operations]):
        yield case.error("shape", difference, file=bundle.DEPLOYED)


def _failed(case: _Case, record: bundle.RunRecord) -> Iterator[Finding]:
    if not record.reason.strip():
        yield case.error("reason", f"a run that ended as {record.status} says why")
    if record.hashed:
        yield case.error("files", "a failed run has neither evidence nor timing, and no pictures")
    if any(m.source != "meter" for m in record.measures):
        yield case.error("measures", "a failed run has no measures of evidence or timing")


def _derived(case: _Case, record: bundle.RunRecord, task: Task[Any, Any], entry: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Evidence and timing are whole and true, and give the numbers that the record tells."""
    derived: list[Measure] = []
    if record.spec.division == "speed":
        if bundle.EVIDENCE in record.files:
            yield case.error("files", "the speed division has no evidence", file=bundle.EVIDENCE)
            return
    else:
        evidence = _table(case, record, bundle.EVIDENCE, task.columns, min(task.evidence_bytes, untrusted.PAPER_BYTES))
        yield from _truth(case, record, task, evidence, entry)
        case.print = print_of(evidence, _dictated(case.known, record))
        try:
            derived += task.score(bundle.spec_of(record), evidence)
        except (UserError, ValueError, ArithmeticError, LookupError, MemoryError, RecursionError) as e:
            # what numbers and labels out of range raise, and a cell that asks for more than there is
            told = str(e) or type(e).__name__
            raise Refused(bundle.EVIDENCE, "rows", f"no score can be derived: {told}") from e
    table = _table(case, record, bundle.TIMING, timing.COLUMNS, untrusted.TIMING_BYTES)
    derived += numbers.derive_timing(record, table, task.jobs)
    yield from numbers.same(case.where, record, derived)
    yield from numbers.block_lengths(case.where, table)
    yield from _as_ruled(case, record, task, table)
    yield from numbers.whole_jobs(case.where, record, table, derived, task)
    if task.speed not in {*table["workload"], *record.unsupported, *task.jobs}:
        yield case.error("workload", f"{task.speed} is neither timed nor said to be unsupported", file=bundle.TIMING)
    spec_targets = (part.partition("=")[0] for part in record.spec.target.split(",") if part)
    for name in spec_targets:
        if record.measure(f"kept.{name}") is None:
            yield case.error(f"measures kept.{name}", f"is missing, and {record.spec.target} was asked")


def _as_ruled(case: _Case, record: bundle.RunRecord, task: Task[Any, Any], table: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """What the case grants and counts holds, its workloads are all there, and each was timed until it was known."""
    ruled, of_case = case.known.rules(record.spec.task), case.known.of_case(record.spec)
    if ruled.known and record.spec.tier != "smoke":  # the smoke tier ranks nobody, and a trial of a method times a moment
        names = list(dict.fromkeys([*table["workload"].tolist(), *record.unsupported]))
        caps = timing.caps(names, task.jobs, timing.CAP_SECONDS)
        yield from held.ends(case.where, table, caps, ruled.timing_seconds or timing.CAP_SECONDS)
    if of_case is not None:
        yield from held.held(case.where, record, ruled, of_case)
        yield from held.workloads(case.where, record, table, of_case, task.speed)


def _table(case: _Case, record: bundle.RunRecord, name: str, columns: Mapping[str, str], most_bytes: int) -> dict[str, np.ndarray]:
    entry = {str(k): v for k, v in record.files.items()}.get(name)
    if entry is None:
        raise Refused(name, "file", f"is missing: an ok run of division {record.spec.division} has one")
    return untrusted.table(case.path, name, columns, most_bytes, entry.rows)


def _truth(
    case: _Case,
    record: bundle.RunRecord,
    task: Task[Any, Any],
    evidence: Mapping[str, np.ndarray],
    entry: Mapping[str, Any] | None,
) -> Iterator[Finding]:
    """The rows are all there, once and in order, and the columns that the data dictates are the data's."""
    row = evidence["row"]
    if (row != np.arange(len(row))).any():
        yield case.error("row", "rows are not 0, 1, 2, … each once", file=bundle.EVIDENCE)
    if entry is None:
        told = f"no truth is known of {record.spec.tier} {record.spec.case}: labels cannot be checked"
        if record.spec.division == "closed" and record.spec.tier in ("smoke", "small"):
            yield case.error("truth", told, "use a case of the tier, or the open division", bundle.EVIDENCE)
        else:
            yield case.mark("truth", told, "nothing to do: the row is marked", bundle.EVIDENCE)
        return
    if len(row) != entry["rows"]:
        told = f"{len(row):,} rows, the test set has {entry['rows']:,}"
        yield case.error("row", told, "examine the whole test set", bundle.EVIDENCE)
        return
    of_case = case.known.of_case(record.spec)
    if of_case is not None:
        ruled = case.known.rules(record.spec.task)
        yield from held.dictated(case.where, record, evidence, task.columns, ruled, of_case)
    for name, expected in entry["columns"].items():
        if truth.column_digest(evidence[name], task.columns[name]) != expected:
            mend = "labels come from the data and are not to be changed"
            yield case.error(name, "is not what the data set says", mend, bundle.EVIDENCE)


def _method(case: _Case, record: bundle.RunRecord) -> Iterator[Finding]:
    """Ours are in the registry, by name and source; others' bear their digest and never our names."""
    method = record.method
    reference = {n: m for n, m in case.known.methods(record.spec.task).items() if m.origin == "reference"}
    stem, at, digest = method.name.partition("@")
    if method.origin != "reference":
        yield from identity.key(case.where, record, [method.version])
        yield from identity.named(case.where, record, None)
        if method.seedless:
            yield case.mark("method.seedless", "says that no seed changes it: three seeds would show it", "run three seeds")
        if not stem or not at or digest != method.version[:12]:
            yield case.error("method.name", f"{method.name} must be name@{method.version[:12]}")
        if texts.skeletons(stem) & {s for n in reference for s in texts.skeletons(n)}:
            mend = "give the file another name and run it again"
            yield case.error("method.name", f"{stem} is, or reads like, a method of ours", mend)
        return
    source = reference.get(method.name)
    if source is None:
        yield case.error("method.name", f"no reference method {method.name}", f"there are: {', '.join(reference)}")
        return
    if method.seedless and "seedless" not in source.path.read_text(encoding="utf-8"):
        yield case.error("method.seedless", f"{method.name} does not declare itself seedless")
        return
    table = case.known.versions(record.spec.task)
    lineage = Lineage(method.name, source.stated, source.version, table.methods.get(method.name, ()))
    yield from identity.key(case.where, record, lineage.identities(method.version))
    current = lineage.version_of(method.version) == lineage.stated
    settings = case.known.settings(record.spec.task, method.name) if current else None
    yield from identity.named(case.where, record, settings, whole=method.version == source.version)
    yield from _sources(case, record, lineage, table)


def _sources(case: _Case, record: bundle.RunRecord, method: Lineage, table: Table) -> Iterator[Finding]:
    """Method and task are the versions that stand here, by the digests of their sources; an older version is archived."""
    name = record.spec.task
    task = Lineage(name, case.known.task(name).version, case.known.task_digest(name), table.task)
    stated, digest = record.method.stated_version, record.method.version
    mend = f"replay it at commit {record.source.commit or '(none is named)'}"
    for field, lineage, sha, said in (
        ("method.version", method, digest, stated),
        ("source.task_digest", task, record.source.task_digest, record.spec.version),
    ):
        if sha is None:
            continue  # a bundle of before it was recorded: the task's version is all that it says
        version = lineage.version_of(sha)
        if version is None:
            yield case.mark(field, "the source differs from the one here", mend)
        elif said is not None and said != version:
            yield case.error(field, f"this source of {lineage.name} is version {version}, and {said} is stated")
        elif version < lineage.stated:
            yield case.mark(field, f"version {version} of {lineage.name} is archived, {lineage.stated} stands here", mend)
        else:
            continue
        return
    if record.source.dirty is not False:
        told = "made from a tree with uncommitted changes, or outside a clone"
        yield case.mark("source", told, "commit, then run it again")


def _cards(case: _Case, record: bundle.RunRecord) -> Iterator[Finding]:
    """Both system cards stand in the results and hash to their names, tell of what computed, and hold every memory figure."""
    spoken = COMPUTES.fullmatch(record.spec.device)
    if not spoken:
        yield case.error("spec.device", f"{record.spec.device} is nothing that a run computes on", "it is cpu, cuda or cuda:N")
    for role in ("solve", "weigh"):
        name = record.systems.get(role)
        if name is None:
            yield case.error(f"systems.{role}", "names no card")
            continue
        if (file := tree.card_file(name, case.path, case.against)) is None:
            yield case.error(f"systems.{role}", f"no card {name}.json", "submit results/systems/ with it")
            continue
        try:
            card = tree.card(file)
        except Refused as e:
            yield case.error(f"systems.{role}", f"card {e.file}: {e.message}", e.mend)
            continue
        # what solved may be another machine than what weighs, and the device is that of the weighing
        if spoken and role == "weigh" and bool(card.gpu) != (record.spec.device != "cpu"):
            told = f"says {record.spec.device}, the card that weighed {'names a GPU' if card.gpu else 'names no GPU'}"
            yield case.error("spec.device", told)
        yield from held.card(case.where, record, role, card.model_dump(), case.known.rules(record.spec.task))
        host = card.memory.get("total_gib")
        # a GPU may have solved what a processor weighed; a card names a GPU only where one computed
        on_gpu = card.gpu and (role == "solve" or record.spec.device.startswith("cuda"))
        device = card.gpu.get("memory_gib") if on_gpu else host
        for m in record.measures:
            most = host if m.name in HOST else device if m.name in DEVICE else None
            if bundle.stage_of(m.name) == role and (told := held.beyond(m, most)):
                yield case.error(f"measures {m.name} {m.part}".strip(), told)
