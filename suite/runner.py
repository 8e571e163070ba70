"""One run: solve, examine, weigh, memory, bundle; each stage in a child process.

Everything lives in a work folder until the bundle is written whole.  A stage that has its outcome is
not done again, so a killed runner goes on where it was; a child that dies while the runner lives
makes a bundle that says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, Protocol

from suite import bundle, deployed, folders, parallel, place, registry, system, timings, versions
from suite.child import STOPPED, Stage
from suite.files import read_json, write_json
from suite.naming import UserError, parse_target, variant
from suite.order import CHECKPOINT, DATA, LOG, SOLUTION, Order, outcome_file
from suite.protocol import Measure, Spec, Stopped

Progress = Callable[[str, Mapping[str, Any]], None]  #: called with the stage and the child's event
SOLVE_AGAIN = "run the same `weighin run --solve-only` command again"
MOMENTS = "moments.json"
STAGES = ("solve", "examine", "weigh", "memory")  #: in their order; memory is one of each workload
MEND_DATA = "take the file from the repository or install weighin again"
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  #: of schedulers
KILLER = 1.0  #: seconds after which whoever kills all processes of a job, one by one, has come to the runner
GRACE = 20.0  #: seconds a child has to stop by itself


class Child(Protocol):
    """What the runner needs of a stage's process, which leads a process group: a `Popen`, or what stands in for one."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...


#: starts a stage: the arguments of `suite.child`, and the file that its stderr is appended to
Launch = Callable[[list[str], Path], Child]


def launch(arguments: list[str], log: Path, extra: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen[bytes]:
    """Start a stage in a process that shares nothing with this one; `extra` goes to its environment.

    Signals by which schedulers warn all processes of a job that its time is up are kept from it: they would end it as if it had
    failed, and the runner is the one to answer.
    """
    with log.open("ab") as file:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)  # a process begins with the mask of whoever starts it
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "suite.child", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                env={**environment(), **extra},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class Settings:
    """How to run, none of which changes what is run."""

    out: Path
    work: Path
    cap_seconds: float | None = None  #: None: the tier's
    retry: bool = False
    submitter: str = ""
    solve_only: bool = False
    launch: Launch = launch


@dataclass(frozen=True)
class Outcome:
    """What became of an order: a bundle (new or found), or a work folder that waits to be weighed."""

    order: Order
    status: str
    path: Path
    fresh: bool
    reason: str = ""
    notes: tuple[str, ...] = ()  #: of the data
    kept: Path | None = None  #: the work folder of a run that failed, from which another try goes on


def make_order(spec: Spec, method_name: str, settings: list[str], threads: int = 0, processes: int = 1) -> Order:
    """Resolve names, read configuration and data digest; raises UserError on any of them, and where processes share nothing."""
    task = registry.task_of(spec)
    if processes > 1 and not task.shares_batches:
        raise UserError(
            f"{spec.task} does not share its batches: {processes} processes would each train a copy of their own; use --processes 1"
        )
    _check_names(spec)
    ref = registry.method(spec.task, method_name)
    instance = registry.configure(registry.load(ref), settings)
    values, defaults = registry.configuration(instance)
    if ref.name == task.parent_method:
        known = {name for tier in task.tiers.values() for target in tier.targets for name in parse_target(target)}
        if odd := sorted(set(spec.targets) - known):
            raise UserError(f"target {odd[0]!r}: {spec.task} knows {', '.join(sorted(known)) or 'none'}")
        spec = replace(spec, target="")  # a parent is asked nothing: one row serves all targets
    found = _data(spec)  # last: many files may have to be looked at
    return Order(
        spec=spec,
        method=ref.name,
        origin=ref.origin,
        path=str(ref.path),
        module=ref.module,
        version=ref.version,
        configuration=values,
        variant=variant(values, defaults),
        seedless=bool(getattr(instance, "seedless", False)),
        data=found,
        threads=threads,
        processes=processes,
        stated=ref.stated,
        identity=versions.of_method(spec.task, ref.name).identity if ref.origin == "reference" else ref.version,
        task_digest=versions.of_task(spec.task).digest,
    )


def _data(spec: Spec) -> str:
    """The digest of a Spec's data; raises UserError where they cannot be read, and where they are not what the project shipped."""
    from suite import truth

    task, ref = registry.task_of(spec), registry.tasks()[spec.task]
    entry = None
    if ref.path is not None and spec.division != "speed" and spec.tier != "paper":
        entry = truth.read(ref.path.with_name(truth.FILE)).get((spec.tier, spec.case.partition("/")[0]))
    try:
        found = task.digest(spec)
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        mend = MEND_DATA if entry else "look at its files: they are not what this set is made of"
        raise UserError(f"the data of {spec.case} cannot be read: {e}; {mend}") from e
    if entry and entry["data"] != found:
        raise UserError(
            f"the data of {spec.case} are not those that weighin ships ({found[:12]}, not {entry['data'][:12]}); {MEND_DATA}"
        )
    return found


def _check_names(spec: Spec) -> None:
    """A bundle must be able to hold the names of a Spec: found out before the work, not after it.  Raises UserError."""
    from pydantic import ValidationError

    try:
        bundle.SpecRecord(**{f: getattr(spec, f) for f in bundle.SpecRecord.model_fields})
    except ValidationError as e:
        field = str(e.errors()[0]["loc"][0])
        data, slash, rest = spec.case.partition("/")
        other = f"write {folders.slug(data)}{slash}{rest}, which stands for a file or folder named {data}"
        mend = {
            "case": other if folders.slug(data) != data else "`weighin list` shows cases",
            "seed": "seeds are numbers below 2^63",
        }.get(field, "see weighin run --help")
        raise UserError(
            f"{field} {getattr(spec, field)!r}: names are of letters, digits and . _ - + @, with / between data and network; {mend}"
        ) from e


def shelf(out: Path, order: Order) -> Path:
    """The folder where bundles of such orders lie."""
    return out / order.spec.task / order.spec.tier / order.method


def stored(out: Path, order: Order, key: str, among: Sequence[Path] | None = None) -> tuple[Path, bundle.RunRecord] | None:
    """The first whole bundle of this key, an `ok` one before others; `among`: the folders that can be it, where they are known."""
    base = shelf(out, order)
    found = []
    for path in sorted((base.glob(f"{key[:12]}-*") if base.is_dir() else []) if among is None else among):
        with contextlib.suppress(UserError):  # a torn or foreign folder is not a result: run again
            record = bundle.read(path)
            if record.key == key and all(
                (path / n).is_file() and bundle.sha256(path / n) == f.sha256 for n, f in record.hashed.items()
            ):
                found.append((path, record))
    found.sort(key=lambda f: (f[1].status != "ok", f[1].status not in bundle.FINAL, f[1].created))
    return found[0] if found else None


def run(order: Order, settings: Settings, card: system.SystemCard, progress: Progress) -> Outcome:
    """Do the order unless it is done.  Raises Stopped on Ctrl-C or SIGTERM, UserError on the user's mistake."""
    key = order.key({"solve": card.hash, "weigh": card.hash})
    done = stored(settings.out, order, key)
    if done and (done[1].status in bundle.FINAL or not settings.retry):
        return _outcome(order, done[1], done[0], fresh=False)
    work = settings.work / key[:24]
    with _alone(work):
        _forget_others(work, order)
        order.write(work)
        system.write_card(card, settings.out / "systems")
        task = registry.task_of(order.spec)
        cap = settings.cap_seconds or task.tiers[order.spec.tier].cap_seconds
        write_json(work / "solver.json", {"card": card.hash, "cap": cap, "submitter": settings.submitter})
        status, reason = _stages(work, ["solve", "examine"], cap, progress, settings.launch)
        if status == "ok" and settings.solve_only:
            return Outcome(order, "solved", work, fresh=True)
        if status == "ok":
            status, reason = _weigh(work, order, cap, progress, settings.launch)
        return _ended(work, order, settings.out, card, status, reason)


def _ended(work: Path, order: Order, out: Path, card: system.SystemCard, status: str, reason: str) -> Outcome:
    """Write the bundle of a run that came to its end, and clear its work folder."""
    path = _assemble(work, order, out, card, status, reason)
    record = bundle.read(path)
    return _outcome(order, record, path, fresh=True, kept=_clear(work, record.status))


def _outcome(order: Order, record: bundle.RunRecord, path: Path, *, fresh: bool, kept: Path | None = None) -> Outcome:
    notes = tuple(n.removeprefix(DATA) for n in record.notes if n.startswith(DATA))
    return Outcome(order, record.status, path, fresh, record.reason, notes, kept)


def _forget_others(work: Path, order: Order) -> None:
    """Take away what other sources of method or task left in a work folder: a key may stand for several of one version."""
    try:
        before = Order.read(work)
    except UserError:
        return
    if (before.version, before.task_digest) != (order.version, order.task_digest):
        shutil.rmtree(work)
        work.mkdir()


def _clear(work: Path, status: str) -> Path | None:
    """Take away the work folder of a run whose bundle stands; returns it where what cost the time is kept for another try."""
    if status in bundle.FINAL or not any((work / name).exists() for name in (SOLUTION, CHECKPOINT)):
        shutil.rmtree(work)
        return None
    for stage in ("solve", "examine"):
        if (read_json(outcome_file(work, stage)) or {"status": "ok"})["status"] != "ok":
            _forget(work, stage)
    _unweigh(work)  # another try may be on another machine
    return work


def _unweigh(work: Path) -> None:
    """Take away what was weighed: on another machine or device none of it is true."""
    _forget(work, "weigh")
    for name in (MOMENTS, bundle.TIMING):
        (work / name).unlink(missing_ok=True)


def weigh(work: Path, settings: Settings, progress: Progress, device: str = "") -> Outcome:
    """Weigh a solved run and write its bundle: on this machine or another than it was solved on, on its device or another."""
    solved = _solved(work)
    if not _whole(work, "examine"):
        raise UserError(f"{work} has not been examined: {SOLVE_AGAIN}, with --retry if it failed")
    order = replace(solved, spec=replace(solved.spec, device=device or solved.spec.device))
    card = system.card(order.spec.device, order.threads)
    solver = read_json(work / "solver.json")
    with _alone(work):
        if order.spec.device != solved.spec.device:
            _unweigh(work)
        order.write(work)
        system.write_card(card, settings.out / "systems")
        status, reason = _weigh(work, order, solver["cap"], progress, settings.launch)
        return _ended(work, order, settings.out, card, status, reason)


def export(work: Path, folder: Path) -> list[Path]:
    """Write what a solved run deploys into a new folder, by its task's own `export`; returns the files there.

    Raises UserError where nothing is solved yet, or the task has nothing to export.
    """
    order = _solved(work)
    with _alone(work):
        order.write(work)
        stage = Stage(work, lambda event: None)
        stage.task.export(stage.problem(), stage.solution(), folder)
    return sorted(p for p in folder.rglob("*") if p.is_file())


@dataclass(frozen=True)
class Again:
    """A row whose shape is to be weighed on this machine."""

    row: bundle.RunRecord
    shape: bytes  #: its ``deployed.json``
    origin: Literal["bundle", "operations"]
    memory: bool = True  #: whether memory is read as well, by a process a workload


def time_again(asked: Again, settings: Settings, device: str, threads: int, card: system.SystemCard, progress: Progress) -> Path:
    """Weigh a row's shape on this machine and write its timing; returns the timing's folder.

    What was weighed when it was stopped is weighed again: half a comparison says nothing.  Raises UserError where it cannot be
    weighed, and TimeoutError where it took longer than `Settings.cap_seconds`.
    """
    row = asked.row
    spec = replace(bundle.spec_of(row), device=device)
    task = registry.task_of(spec)
    order = Order(
        spec=spec,
        method=row.method.name,
        origin=row.method.origin,
        path="",
        module="",
        version=row.method.version,
        configuration={},
        variant=row.method.variant,
        seedless=row.method.seedless,
        data=row.data,
        threads=threads,
        again=True,
    )
    work = settings.work / f"time-{row.id[:12]}-{card.hash}-{device.replace(':', '-')}"
    with _alone(work):
        _unweigh(work)
        order.write(work)
        (work / bundle.DEPLOYED).write_bytes(asked.shape)
        write_json(work / deployed.OPERATIONS, [layer.model_dump() for layer in row.operations])
        system.write_card(card, settings.out / "systems")
        cap = settings.cap_seconds or task.tiers[spec.tier].cap_seconds
        status, reason = _weigh(work, order, cap, progress, settings.launch, memory=asked.memory)
        if status == "timeout":
            shutil.rmtree(work)
            raise TimeoutError(reason)
        if status != "ok":
            raise UserError(
                f"{spec.task} {row.method.name} cannot be weighed here: {reason.splitlines()[0]}; its log: {work / LOG}"
            )
        path = _timed(work, asked, order, settings, card)
        shutil.rmtree(work)
        return path


def _timed(work: Path, asked: Again, order: Order, settings: Settings, card: system.SystemCard) -> Path:
    """Gather what the stages left into a sealed timing."""
    row = asked.row
    outcomes = {p.stem: read_json(p) for p in work.glob("*.json")}
    metered, unsupported = _weighed(outcomes)
    status, reason, derived = _derive(work, order, metered)
    if status != "ok":
        raise UserError(f"{row.spec.task} {row.method.name} cannot be weighed here: {reason}")
    notes = [*outcomes["weigh"]["notes"], *(outcomes.get("moments") or [])]
    record = timings.seal(
        {
            "row": {"id": row.id, "key": row.key, "task": row.spec.task, "tier": row.spec.tier, "method": row.method.name},
            "shape": deployed.sha256(asked.shape),
            "origin": asked.origin,
            "created": datetime.now(UTC).strftime(bundle.WHEN),
            "device": order.spec.device,
            "card": card.hash,
            "source": _source(),
            "libraries": system.libraries(registry.task_of(order.spec).libraries),
            "measures": [*derived, *map(_fields, metered)],
            "unsupported": {name: place.without_paths(why, work, "") for name, why in unsupported.items()},
            "notes": [place.without_paths(str(note), work, "") for note in notes],
            "submitter": settings.submitter,
            "files": {bundle.TIMING: bundle.describe(work / bundle.TIMING)},
        }
    )
    return timings.write(settings.out, record, work / bundle.TIMING)


def _solved(work: Path) -> Order:
    """The order of a work folder with a Solution in it; its method's file is the one that stands on this machine."""
    order = Order.read(work)
    if not (work / "solver.json").exists() or not (work / SOLUTION).exists():
        raise UserError(f"{work} holds no solved run yet; {SOLVE_AGAIN}")
    for stage in ("solve", "examine"):
        if outcome_file(work, stage).exists() and not _whole(work, stage):
            raise UserError(f"{work}: what the stage {stage} left is damaged; {SOLVE_AGAIN}")
    # solved elsewhere, or in another clone: a method of ours is taken from here, and its digest is compared later
    if order.origin != "file" or not Path(order.path).exists():
        order = replace(order, path=str(registry.method(order.spec.task, order.method).path))
    return order


def _weigh(work: Path, order: Order, cap: float, progress: Progress, launch: Launch, *, memory: bool = True) -> tuple[str, str]:
    before = system.moments(order.spec.device)
    status, reason = _stages(work, ["weigh"], cap, progress, launch)
    if status != "ok":
        return status, reason
    from numpy import unique

    names = list(unique(bundle.read_table(work / bundle.TIMING)["workload"])) if memory else []
    status, reason = _stages(work, [f"memory {name}" for name in names], cap, progress, launch)
    write_json(work / MOMENTS, system.compare_moments(before, system.moments(order.spec.device)))
    return status, reason


def _stages(work: Path, stages: list[str], cap: float, progress: Progress, launch: Launch) -> tuple[str, str]:
    for stage in stages:
        outcome_path = outcome_file(work, *stage.split())
        if not _whole(work, stage):
            _forget(work, stage)
            _child(work, stage, outcome_path, cap, progress, launch)
        outcome = read_json(outcome_path)
        if outcome["status"] == "user":
            outcome_path.unlink()
            raise UserError(outcome["reason"])
        if outcome["status"] != "ok":
            return outcome["status"], f"{stage}: {outcome['reason']}"
    return "ok", ""


def _whole(work: Path, stage: str) -> bool:
    """Whether a stage has its outcome, and the files that it left are as it left them."""
    try:
        outcome = read_json(outcome_file(work, *stage.split()))
        return outcome["status"] != "ok" or all(bundle.sha256(work / n) == sha for n, sha in outcome.get("files", {}).items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or torn
        return False


def _forget(work: Path, stage: str) -> None:
    """Take away the outcome of a stage, and those of the stages behind it."""
    outcome_file(work, *stage.split()).unlink(missing_ok=True)
    for behind in STAGES[STAGES.index(stage.split()[0]) + 1 :]:
        for left in (work / f"{behind}.json", *work.glob(f"{behind}-*.json")):
            left.unlink(missing_ok=True)


def _child(work: Path, stage: str, outcome_path: Path, cap: float, progress: Progress, launch: Launch) -> None:
    """Run one stage in a process; if it dies or overruns, write the outcome in its place."""
    first, *rest = stage.split()
    child = launch([first, str(work), *rest], work / LOG)
    events: queue.Queue[bytes] = queue.Queue()
    reader = threading.Thread(target=_drain, args=(child, events), daemon=True)
    reader.start()
    began = time.monotonic()
    try:
        while child.poll() is None or not events.empty():
            with contextlib.suppress(queue.Empty):
                progress(stage, json.loads(events.get(timeout=0.2)))
            if time.monotonic() - began > cap:
                _end(child, signal.SIGKILL)
                write_json(outcome_path, {"status": "timeout", "reason": f"not done after the cap of {cap:g} s"})
                return
    except (KeyboardInterrupt, Stopped):
        _end(child, signal.SIGTERM)
        raise Stopped from None
    finally:
        _end(child, signal.SIGKILL)
    if child.returncode == STOPPED:
        raise Stopped
    if child.returncode == -signal.SIGKILL:
        time.sleep(KILLER)
    if outcome_path.exists():
        return
    words = (work / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    name = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
    hint = "; a kernel out of memory does this: look at its log" if child.returncode == -signal.SIGKILL else ""
    write_json(outcome_path, {"status": "killed", "reason": f"the process ended by {name}{hint}. {' | '.join(words)}"[:4000]})


def _end(child: Child, how: signal.Signals) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, how)
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _drain(child: Child, events: queue.Queue[bytes]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        events.put(line)


def environment() -> dict[str, str]:
    """Children hash alike, find these very packages wherever the user stands, and are no part of somebody else's launch."""
    ours = {k: v for k, v in os.environ.items() if k not in parallel.LAUNCHERS} | {"PYTHONHASHSEED": "0"}
    here = place.clone()
    if here is None:
        return ours  # installed: the interpreter finds them, and site-packages does not belong before the standard library
    path = os.environ.get("PYTHONPATH", "")
    return ours | {"PYTHONPATH": f"{here}{os.pathsep}{path}" if path else str(here)}


def _assemble(work: Path, order: Order, out: Path, card: system.SystemCard, status: str, reason: str) -> Path:
    """Gather what the stages left into a sealed bundle.  Numbers come from files as they were read back.

    Long, as it fills in the record of a bundle field by field.
    """
    outcomes = {p.stem: read_json(p) for p in work.glob("*.json")}
    solver = outcomes["solver"]
    cards = {"solve": solver["card"], "weigh": card.hash}
    solved, examined = outcomes.get("solve", {}), outcomes.get("examine", {})
    measures: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    pictures: dict[str, Path] = {}
    shape: dict[str, Path] = {}
    notes = [str(w) for w in examined.get("warnings", [])] + list(outcomes.get("weigh", {}).get("notes", []))
    if order.processes > 1:
        shared = registry.task_of(order.spec).shares_batches
        how = "that shared each batch; batch norms saw their own share" if shared else "that each trained a copy of their own"
        notes.append(f"trained by {order.processes} processes {how}")
    metered, unsupported = _weighed(outcomes)
    if status == "ok":
        status, reason, derived = _derive(work, order, metered)
        measures += derived
        files = {n: work / n for n in (bundle.EVIDENCE, bundle.TIMING) if (work / n).exists()}
        pictures = {n: work / n for n in examined.get("pictures", [])}
        shape = {n: work / n for n in (bundle.DEPLOYED,) if n in examined.get("files", {})}
        notes += outcomes.get("moments", [])
    if "examples" in solved:
        measures += [
            _record(Measure("examples", solved["examples"], "", "down", source="meter")),
            _record(Measure("train_seconds", solved["seconds"], "s", "down", source="meter", warnings=tuple(solved["warnings"]))),
            *map(_fields, solved["memory"]),
        ]
    measures += map(_fields, metered)
    spec = {f: getattr(order.spec, f) for f in bundle.SpecRecord.model_fields}

    def shown(text: str) -> str:
        return place.without_paths(text, work, order.spec.data)

    unsupported = {name: shown(why) for name, why in unsupported.items()}
    measures = [{**m, "warnings": [shown(w) for w in m["warnings"]]} if m["warnings"] else m for m in measures]
    record = bundle.seal(
        {
            "key": order.key(cards),
            "status": status,
            "reason": shown(reason)[:8000],
            "created": datetime.now(UTC).strftime(bundle.WHEN),
            "spec": spec,
            "data": order.data,
            "method": {
                "name": order.method,
                "origin": order.origin,
                "version": order.version,
                "stated_version": order.stated,
                "configuration": dict(order.configuration),
                "variant": order.variant,
                "seedless": order.seedless,
            },
            "source": {**_source(), "task_digest": order.task_digest or None},
            "libraries": solved.get("libraries") or system.libraries(registry.task_of(order.spec).libraries),
            "systems": cards,
            "processes": solved.get("processes", order.processes),
            "measures": measures,
            "operations": examined.get("operations", []),
            "curve": solved.get("curve", []),
            "unsupported": unsupported,
            "notes": [shown(note) for note in notes],
            "submitter": solver["submitter"],
            "files": {n: bundle.describe(p) for n, p in files.items()},
            "pictures": {n: bundle.describe_picture(p) for n, p in pictures.items()},
            "deployed": next((bundle.describe_plain(p) for p in shape.values()), None),
        }
    )
    return bundle.write(out, record, {**files, **pictures, **shape})


def _weighed(outcomes: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What weighing metered, memory after the rest, and the workloads that could not be, with why."""
    found = [o for name, o in outcomes.items() if name == "weigh"] + [
        o for name, o in outcomes.items() if name.startswith("memory-")
    ]
    return [m for o in found for m in o.get("measures", [])], {n: w for o in found for n, w in o.get("unsupported", {}).items()}


def _derive(work: Path, order: Order, metered: list[dict[str, Any]]) -> tuple[str, str, list[dict[str, Any]]]:
    """Measures of evidence and timing, from the files that the bundle will hold, and from what weighing metered."""
    from suite.meters import timing

    task = registry.task_of(order.spec)
    measures: list[Measure] = []
    if (work / bundle.EVIDENCE).exists():
        measures += task.score(order.spec, bundle.read_table(work / bundle.EVIDENCE))
    table = bundle.read_table(work / bundle.TIMING)
    calls = timing.calls_of((m["name"], m["part"], m["value"]) for m in metered)
    measures += [*timing.derive(table), *timing.jobs(table, calls, task.jobs)]
    lost = [m.name for m in measures if m.value != m.value or abs(m.value) == float("inf")]
    if lost:
        return "diverged", f"the evidence gives no finite {', '.join(lost)}", []
    return "ok", "", [_record(m) for m in measures]


def _record(measure: Measure) -> dict[str, Any]:
    low, high = measure.interval or (None, None)
    return {
        "name": measure.name,
        "part": measure.part,
        "value": float(measure.value),
        "unit": measure.unit,
        "direction": measure.direction,
        "low": low,
        "high": high,
        "source": measure.source,
        "warnings": list(measure.warnings),
    }


def _fields(measure: Mapping[str, Any]) -> dict[str, Any]:
    """A measure that came through JSON from a child."""
    interval = tuple(measure["interval"]) if measure["interval"] else None
    return _record(Measure(**{**measure, "interval": interval, "warnings": tuple(measure["warnings"])}))


def _source() -> dict[str, Any]:
    """Commit and dirtiness of the clone that ran, if one did; results are not code, so they do not make it dirty."""
    here = place.clone()

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD") if here else None
    changed = git("status", "--porcelain", "--", "suite", "tasks", "reference_impls") if commit else None
    return {
        "weighin": metadata.version("weighin"),
        "commit": commit,
        "dirty": bool(changed) if changed is not None else None,
    }


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold a work folder; a second runner at the same run is told so."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work.parent / f".{work.name}.lock").open("w")
    except OSError as e:
        raise UserError(f"cannot write to {work.parent}: {e.strerror}; make room or set WEIGHIN_WORK") from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another runner is at work on {work.name}; wait for it or stop it") from None
        yield
