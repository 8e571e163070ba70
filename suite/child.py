"""What the runner's child processes execute: ``python -P -m suite.child STAGE WORK [WORKLOAD]``.

Each stage runs in a process of its own, so that no timing or memory figure inherits another's
state: ``solve`` (the method), ``examine`` (evidence, operations), ``weigh`` (all timings) and
``memory`` (one workload).  A stage writes its outcome to ``<stage>.json``; progress goes to the
runner line by line; whatever a method prints goes to the log.  If the runner dies, the pipe to
standard input closes and the child ends at once, so that nobody computes for no one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from suite import bundle, deployed, parallel, pictures, registry, system
from suite.budget import Budget
from suite.files import atomic, write_json
from suite.naming import UserError, address
from suite.order import CHECKPOINT, DATA, SHAPE, SOLUTION, Order, outcome_file
from suite.protocol import (
    Diverged,
    Measure,
    Method,
    NoShape,
    Operations,
    OverBudget,
    Problem,
    Run,
    Spec,
    Stopped,
    Task,
    Unsupported,
    Workload,
)

STOPPED = 75  #: exit code after a signal: temporary, try again
MOST_NOTES = 32  #: of a Solution, and of a Problem
MOST_CHARACTERS = 2000  #: of a note
LAYOUT = 2  #: of a checkpoint; one of another layout is not read, its run starts afresh
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


class ChildRun(Run):
    """The `Run` of a solve: counts what is spent, writes checkpoints, reports progress."""

    def __init__(self, spec: Spec, checkpoint: Path, tell: Callable[[Mapping[str, Any]], None]):
        self.spec = spec
        self.budget = Budget(spec)
        self.spent = self.budget.spent
        self.examples = 0
        self.curve: list[dict[str, Any]] = []
        self.stopping = threading.Event()
        self._checkpoint, self._tell = checkpoint, tell
        self._carried, self._since, self._off = 0.0, time.perf_counter(), 0
        self._saved = self._read()

    def start(self) -> None:
        """Start the clock: loading data and libraries is not training."""
        self._carried, self._since = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time so far, earlier lives of this run included, evaluation and checkpoints not."""
        return self._carried + (0.0 if self._off else time.perf_counter() - self._since)

    def seed(self, purpose: str, epoch: int = 0) -> int:
        s = self.spec
        return address(s.task, s.version, s.case, s.seed, purpose, epoch)

    def grant(self, budget: int, unit: str = "examples", counter: str = "") -> None:
        self.budget.grant(budget, unit, counter)

    def spend(self, examples: int, counter: str = "", amount: int | None = None) -> None:
        if examples < 0:
            raise ValueError(f"{examples} examples cannot be spent: nothing is given back")
        self.budget.book(examples if amount is None else amount, counter)
        if self.stopping.is_set():
            raise Stopped
        self.examples += examples

    @contextlib.contextmanager
    def off_clock(self) -> Iterator[None]:
        self._synchronize()
        self._carried, self._off = self.seconds, self._off + 1
        try:
            yield
        finally:
            self._synchronize()
            self._off -= 1
            self._since = time.perf_counter()

    def save(self, state: Mapping[str, Any]) -> None:
        import torch

        if parallel.rank():
            return  # the first process's state is the run's
        with self.off_clock():
            far = {"examples": self.examples, "spent": self.spent, "seconds": self.seconds, "curve": self.curve}
            try:
                with atomic(self._checkpoint) as scratch, scratch.open("wb") as f:
                    torch.save({"layout": LAYOUT, "state": dict(state), "far": far}, f)
            except OSError as e:
                raise UserError(f"cannot write the checkpoint {self._checkpoint}: {e.strerror}; make room and run again") from e

    def load(self) -> dict[str, Any] | None:
        if self._saved is None:
            return None
        far = self._saved["far"]
        self.examples, self.curve = far["examples"], list(far["curve"])
        self.budget.resume(far["spent"])
        self._carried, self._since = far["seconds"], time.perf_counter()
        return dict(self._saved["state"])

    def progress(self, done: float, total: float, **values: float) -> None:
        self.curve += [
            {"examples": self.examples, "seconds": round(self.seconds, 3), "name": name, "value": float(value)}
            for name, value in values.items()
        ]
        if not parallel.rank():
            self._tell({"done": done, "total": total, "values": {k: float(v) for k, v in values.items()}})

    def _read(self) -> dict[str, Any] | None:
        if not self._checkpoint.exists():
            return None
        import torch

        try:
            # our own file, written by save(): it may hold a method's own objects, so not weights only
            saved = torch.load(self._checkpoint, map_location=self.spec.device, weights_only=False)
            whole = saved["layout"] == LAYOUT and {"examples", "spent", "seconds", "curve"} <= saved["far"].keys()
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as e:
            print(f"the checkpoint cannot be read ({type(e).__name__}: {e}): starting afresh", file=sys.stderr)
            return None
        return saved if whole else None

    def _synchronize(self) -> None:
        if self.spec.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()


class Stage:
    """One stage's surroundings: order, task, problem, and how to tell the runner."""

    def __init__(self, work: Path, tell: Callable[[Mapping[str, Any]], None]):
        self.work, self.tell = work, tell
        self.order = Order.read(work)
        self.spec = self.order.spec
        self.task: Task[Any, Any] = registry.task_of(self.spec)
        self.run = ChildRun(self.spec, work / CHECKPOINT, tell)

    def method(self) -> Method:
        """The method, its module imported under the name its classes were pickled with."""
        o = self.order
        ref = registry.MethodRef(o.method, self.spec.task, o.origin, Path(o.path))
        if ref.version != o.version:
            raise UserError(f"{o.path} has changed since this run was ordered; start it again")
        return registry.configure(registry.load(ref), o.configuration)

    def problem(self) -> Problem:
        problem: Problem = self.task.problem(self.spec, self.run)
        return problem

    def solution(self) -> Any:
        import torch

        from suite import compat

        self.method()
        compat.declare_operators()
        return torch.load(self.work / SOLUTION, map_location=self.spec.device, weights_only=False)

    def deployed(self) -> tuple[Problem, Any]:
        """The problem and what is weighed of it: the Solution, or one that is built from the shape of a row."""
        return rebuilt(self) if self.order.again else (self.problem(), self.solution())

    def workloads(self, problem: Problem, solution: Any) -> dict[str, Workload]:
        return {w.name: w for w in self.task.workloads(problem, solution)}


def solve(stage: Stage) -> dict[str, Any]:
    """Let the method solve the problem; keep the Solution, the budget counters and the high-water memory."""
    import torch

    from suite.meters import environment, memory

    if stage.order.processes > 1:
        parallel.launch(stage.order.processes, stage.spec.device)
    method, problem = stage.method(), stage.problem()
    torch.manual_seed(stage.run.seed("process"))
    ledger = environment.Ledger()
    stage.run.start()
    solution = method.solve(problem)
    seconds, busy = stage.run.seconds, ledger.others()
    if parallel.rank():
        sys.exit(0)  # what the first process found is the run's
    with atomic(stage.work / SOLUTION) as scratch:
        torch.save(solution, scratch)
    return {
        "files": _described(stage.work, SOLUTION),
        "processes": parallel.world(),
        "examples": stage.run.examples,
        "seconds": seconds,
        "warnings": [f"busy: other processes used {busy:.1f} cores"] if busy > environment.BUSY else [],
        "curve": stage.run.curve,
        "libraries": system.libraries(stage.task.libraries),
        "memory": [asdict(m) for m in memory.high_water(stage.spec.device)],
    }


def examine(stage: Stage) -> dict[str, Any]:
    """Evidence on the test data, and what the Solution costs on paper."""
    problem, solution = stage.problem(), stage.solution()
    if stage.spec.division != "speed":
        evidence = stage.task.examine(problem, solution)
        bundle.write_table(dict(evidence), stage.work / bundle.EVIDENCE)
    seen = draw(stage, problem, solution)
    operations = stage.task.operations(problem, solution)
    unshaped = shape(stage, problem, solution, operations)
    notes = [f"{DATA}{note}"[:MOST_CHARACTERS] for note in islice(problem.notes, MOST_NOTES)]
    return {
        "files": _described(stage.work, bundle.EVIDENCE, bundle.DEPLOYED),
        "operations": [dict(layer) for layer in operations.layers],
        "warnings": [*notes, *operations.warnings, *([f"{SHAPE}{unshaped}"[:MOST_CHARACTERS]] if unshaped else [])],
        "pictures": seen,
    }


def shape(stage: Stage, problem: Problem, solution: Any, operations: Operations) -> str:
    """Write the shape of what is deployed, if the task tells one; returns why a Solution has none.

    What is written is what can be built again: the network of this shape has the same operations, layer by layer.
    """
    shapes = registry.shapes(stage.spec.task)
    if shapes is None:
        return ""
    try:
        found = deployed.file_of(stage.spec, shapes, shapes.describe(problem, solution))
        read = deployed.read(found).shape
        told = deployed.changed(stage.task.operations(problem, shapes.rebuild(problem, read)).layers, operations.layers)
        told += deployed.differences(shapes.layers(stage.spec, read), operations.layers)
        if told:
            return f"built again it is another program: {told[0]}"
    except NoShape as e:
        return str(e)
    except (UserError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as e:  # somebody's own network
        traceback.print_exc()
        return f"cannot be told ({type(e).__name__}: {e})"
    with atomic(stage.work / bundle.DEPLOYED) as scratch:
        scratch.write_bytes(found)
    return ""


def rebuilt(stage: Stage) -> tuple[Problem, Any]:
    """The problem of a row without its data, and what is deployed built again from the row's shape.

    Raises UserError where its operations are not the row's: then it is another program, and its time says nothing of the row.
    """
    shapes = registry.shapes(stage.spec.task)
    if shapes is None:
        raise UserError(f"{stage.spec.task} tells no shapes, so its rows cannot be weighed again")
    told = deployed.read((stage.work / bundle.DEPLOYED).read_bytes())
    problem = shapes.problem(stage.spec, stage.run, told.shape)
    solution = shapes.rebuild(problem, told.shape)
    layers = json.loads((stage.work / deployed.OPERATIONS).read_text(encoding="utf-8"))
    if differ := deployed.changed(stage.task.operations(problem, solution).layers, layers):
        raise UserError(f"the network of this shape is not the row's: {differ[0]}; run `weighin check` on the row")
    return problem, solution


def _described(work: Path, *names: str) -> dict[str, str]:
    """SHA-256 of what a stage leaves to those behind it: what is not whole when they look is made again."""
    return {name: bundle.sha256(work / name) for name in names if (work / name).exists()}


def draw(stage: Stage, problem: Problem, solution: Any) -> list[str]:
    """Write the pictures that the task shows of a Solution, and of the originals beside the reference; returns their names."""
    spec, gallery = stage.spec, stage.task.show.gallery
    if gallery is None or not stage.task.show.credit(spec.case, spec.seed, spec.division):
        return []
    found = {f"{name}.webp": pixels for name, pixels in gallery.crops(problem, solution).items()}
    if stage.order.method == gallery.reference:
        originals = gallery.crops(problem, None)
        found |= {f"{name}{pictures.ORIGINAL}.webp": pixels for name, pixels in originals.items()}
    if len(found) > pictures.MOST or not all(map(pictures.NAME.fullmatch, found)):
        raise ValueError(f"a bundle carries at most {pictures.MOST} pictures of plain names, not {', '.join(found)}")
    for name, pixels in found.items():
        with atomic(stage.work / name) as scratch:
            scratch.write_bytes(pictures.encode(pixels, gallery.size))
    return list(found)


def weigh(stage: Stage) -> dict[str, Any]:
    """Time every workload of the candidate beside the parent's, read the energy meters, then what the task itself meters."""
    import torch

    from suite.meters import energy, timing

    problem, solution = stage.deployed()
    ours = stage.workloads(problem, solution)
    theirs = stage.workloads(problem, stage.task.parent(problem))
    synchronize = torch.cuda.synchronize if stage.spec.device.startswith("cuda") else None
    blocks: list[Any] = []
    unsupported: dict[str, str] = {}
    measures: list[dict[str, Any]] = []
    meter, reason = energy.open_meter(stage.spec.device)
    reasons = [reason] if reason else []
    cap = stage.order.timing_seconds or (timing.SMOKE_SECONDS if stage.spec.tier == "smoke" else timing.CAP_SECONDS)
    caps = timing.caps(ours, stage.task.jobs, cap)
    for done, (name, workload) in enumerate(ours.items()):
        stage.tell({"done": done, "total": len(ours), "values": {}, "what": name})
        try:
            candidate = workload.prepare()
            parent = theirs[workload.versus or name].prepare()
        except Unsupported as e:
            unsupported[name] = str(e)
            continue
        blocks += timing.compare(
            candidate,
            parent,
            workload=name,
            items=workload.items,
            device=stage.spec.device,
            synchronize=synchronize,
            cap_seconds=caps[name],
        )
        figures, reason = meter.measure(candidate, items=workload.items, workload=name) if meter else ([], None)
        measures += [asdict(m) for m in figures]
        if reason and reason not in reasons:
            reasons.append(reason)
    bundle.write_table(timing.to_table(blocks), stage.work / bundle.TIMING)
    # of what is built again the row itself tells what it counts, and what its method noted
    facts = () if stage.order.again else (*stage.task.weigh(problem, solution), *noted(solution))
    measures += [asdict(m) for m in (*called(stage.task, ours), *facts)]
    return {
        "files": _described(stage.work, bundle.TIMING),
        "unsupported": unsupported,
        "measures": measures,
        "notes": [f"energy: {r}" for r in reasons],
    }


def called(task: Task[Any, Any], workloads: Mapping[str, Workload]) -> list[Measure]:
    """How often the workloads of the task's jobs are called, by the candidate and by the parent."""
    from suite.meters.timing import CALLS, of_jobs

    found = []
    for w in [workloads[name] for name in of_jobs(workloads, task.jobs)]:
        parent = w.count if w.parent_count is None else w.parent_count
        found += [Measure(n, float(v), part=w.name, source="meter") for n, v in zip(CALLS, (w.count, parent), strict=True)]
    return found


def noted(solution: Any) -> list[Measure]:
    """What a method wrote down of its own Solution, by the numbers among its `notes`, if it has any.  Nobody checks them.

    Of a list of numbers, or of mappings to numbers, as a method may keep along its training, the first and the last count
    (`alive_first`, `spread_umm_last`).
    """
    found = getattr(solution, "notes", None)
    plain = [pair for k, v in found.items() for pair in _numbers(k, v)] if isinstance(found, Mapping) else []
    named = [(k, v) for k, v in plain if k.isidentifier()][:MOST_NOTES]
    return [Measure("noted", v, part=k, source="meter") for k, v in named if math.isfinite(v)]


def _numbers(name: Any, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, int | float):
        yield str(name), float(value)
    elif isinstance(value, list) and value:
        for end, entry in (("first", value[0]), ("last", value[-1])):
            pairs = entry.items() if isinstance(entry, Mapping) else [("", entry)]
            yield from ((f"{name}_{k}_{end}" if k else f"{name}_{end}", float(v)) for k, v in pairs if isinstance(v, int | float))


def memory_of(stage: Stage, name: str) -> dict[str, Any]:
    """Memory of one workload, alone in this process."""
    from suite.meters import memory, size

    problem, solution = stage.deployed()
    workload = stage.workloads(problem, solution)[name]
    weights = size.weight_bytes(stage.task.deployed(solution))
    try:
        figures = memory.measure(workload.prepare, device=stage.spec.device, workload=name, solution_bytes=weights)
    except Unsupported as e:
        return {"unsupported": {name: str(e)}, "measures": []}
    return {"unsupported": {}, "measures": [asdict(m) for m in figures]}


def classify(error: BaseException) -> str:
    """The status that a bundle gives to this failure."""
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, OverBudget):
        return "over_budget"
    words = str(error).lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom"
    return "oom" if isinstance(error, RuntimeError) and any(w in words for w in MEMORY_WORDS) else "error"


def main(arguments: list[str]) -> int:
    stage_name, work = arguments[0], Path(arguments[1])
    pipe = _private_stdout()
    outcome_path = outcome_file(work, stage_name, *arguments[2:])

    def tell(event: Mapping[str, Any]) -> None:
        pipe.write(json.dumps(event) + "\n")
        pipe.flush()

    try:
        stage = Stage(work, tell)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner hears Ctrl-C and says SIGTERM
        if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:  # a scheduler's job works on until it is killed (suite.sweep)
            signal.signal(signal.SIGTERM, lambda *_: stage.run.stopping.set())
        threading.Thread(target=_end_with_the_runner, daemon=True).start()
        workers = stage.order.processes if stage_name == "solve" else 1
        _prepare(stage.order.threads, workers, tune=stage_name in ("weigh", "memory"))
        if stage_name == "memory":
            outcome = memory_of(stage, arguments[2])
        else:
            outcome = {"solve": solve, "examine": examine, "weigh": weigh}[stage_name](stage)
        outcome |= {"status": "ok", "reason": ""}
    except Stopped:
        return STOPPED
    except UserError as e:
        outcome = {"status": "user", "reason": str(e)}
    except Exception as e:  # a method may raise anything: all of it is recorded
        traceback.print_exc()
        tail = "".join(traceback.format_exception(e)[-4:])[-6000:]
        outcome = {"status": classify(e), "reason": f"{type(e).__name__}: {e}"[:1500] + f"\n{tail}"}
    write_json(outcome_path, outcome)
    return 0


def _prepare(threads: int, processes: int, *, tune: bool) -> None:
    from suite.meters.environment import prepare_process
    from suite.processors import cores

    prepare_process(max(1, (threads or cores()) // processes), tune=tune)


def _private_stdout() -> TextIO:
    """Keep the pipe to the runner for ourselves; prints of methods and libraries go to the log."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def _end_with_the_runner() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
