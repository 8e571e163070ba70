"""Many runs: methods x cases x targets x seeds, in a fixed order, resumable.  The state is the results folder."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import signal
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from suite import queues, registry, runner, standing, system
from suite.extras import need
from suite.naming import UserError, canonical_target
from suite.order import Order
from suite.protocol import DIVISIONS, TIERS, Spec


def orders(
    task_name: str,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    tier: str,
    division: str,
    cases: Sequence[str] = (),
    targets: Sequence[str] = (),
    settings: Sequence[str] = (),
    device: str = "cpu",
    data: str = "",
    threads: int = 0,
    processes: int = 1,
) -> list[Order]:
    """The runs that a call names, seeds outermost so that every method has its first seed early.

    Many arguments, each an option of `weighin run`.
    """
    task = registry.task(task_name)
    if tier not in TIERS or tier not in task.tiers:
        raise UserError(f"no tier {tier!r} in {task_name}; there are: {', '.join(task.tiers)}")
    if division not in DIVISIONS:
        raise UserError(f"no division {division!r}; there are: {', '.join(DIVISIONS)}")
    if any(s < 0 for s in seeds):
        raise UserError("a seed is a whole number from 0 on")
    shape = task.tiers[tier]
    wanted = [canonical_target(t) for t in targets] or [canonical_target(t) for t in shape.targets[:1]] or [""]
    found: dict[str, Order] = {}
    for seed, case, target, name in itertools.product(seeds, cases or shape.cases[:1], wanted, methods):
        spec = Spec(task_name, task.version, tier, division, case, target, seed, device, data)
        order = runner.make_order(spec, name, list(settings), threads, processes)
        found.setdefault(order.key({}), order)  # a parent has one row for all targets
    return list(found.values())


def run_all(
    todo: Sequence[Order],
    settings: runner.Settings,
    card: system.SystemCard,
    progress: Callable[[Order], runner.Progress],
) -> Iterator[runner.Outcome]:
    """Run orders one after the other; each outcome as it lands."""
    for order in todo:
        with standing.noting(settings.work, order, queues.this_process()):
            standing.note_card(settings.work, order, card.hash)
            outcome = runner.run(order, settings, card, progress(order))
            standing.note_outcome(settings.work, outcome)
        yield outcome


@dataclass(frozen=True)
class Plan:
    """What a cluster's TOML says."""

    file: Path
    executor: Literal["slurm", "local"] = "slurm"
    folder: str = "build/cluster"  #: of logs; all nodes must see it
    restarts: int = 3  #: how often a job that met its time limit goes on
    solve_only: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: submitit's


def read_plan(file: Path) -> Plan:
    """Read a cluster's TOML.  Raises UserError on what it does not know, and on values of another type."""
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        words = " ".join(str(e).split())
        raise UserError(f"{file}: {words}; write executor, folder and a table parameters in TOML") from e
    kinds = {"executor": str, "folder": str, "restarts": int, "solve_only": bool, "parameters": dict}
    for key, value in told.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1)
            meant = f"; do you mean {near[0]}?" if near else "; what submitit is told goes into the table [parameters]"
            raise UserError(f"{file}: no key {key!r}, there are {', '.join(kinds)}{meant}")
        if type(value) is not kinds[key]:
            raise UserError(f"{file}: {key} = {value!r}: write {KINDS[kinds[key]]}")
    if told.get("executor", "slurm") not in ("slurm", "local"):
        raise UserError(f'{file}: executor = "{told["executor"]}": write "slurm", or "local" to try it on this machine')
    if told.get("restarts", 0) < 0:
        raise UserError(f"{file}: restarts = {told['restarts']}: write a whole number from 0 on")
    plan = Plan(file, **told)
    if not any(plan.parameters.get(name) for name in LIMITS[plan.executor]):
        raise UserError(
            f"{file}: write timeout_min, the minutes that a job may take, under [parameters]: submitit grants a few alone"
        )
    return plan


KINDS: Mapping[type, str] = {str: "text", int: "a whole number", bool: "true or false", dict: "a table [parameters]"}
#: parameters that say how long a job may take
LIMITS = {"slurm": ("timeout_min", "slurm_timeout_min", "slurm_time"), "local": ("timeout_min", "local_timeout_min")}


@dataclass(frozen=True)
class Submitted:
    """What `submit` did with one run."""

    before: standing.Standing | None  #: as it stood; None where it was asked for the first time
    job: str = ""  #: that it was given now; empty where it has its bundle, or a job that lives


def submit(todo: Sequence[Order], settings: runner.Settings, plan: Plan) -> list[Submitted]:
    """Hand orders to a cluster through submitit: those without a bundle and without a job that waits or runs, one job each.

    A job that ended without a bundle, whatever its scheduler or submitit calls it, is known by that, and its order is handed over
    again.  What is submitted is written to `standing.FILE` before the next array goes out.  Raises UserError: submitit or the
    scheduler is not here, does not know a parameter, or refuses the jobs.
    """
    submitit = need("submitit", "--cluster")
    if plan.executor == "slurm":
        queues.need_slurm()
    settings = replace(settings, out=settings.out.resolve(), solve_only=settings.solve_only or plan.solve_only)
    executor = _executor(submitit, plan)
    stamp, logs = standing.now(), str(executor.folder)
    with standing.Ledger(settings.out, settings.work) as ledger:
        known = [e for e in map(ledger.entries.get, map(standing.identity, todo)) if e is not None]
        found = standing.standings(settings.out, settings.work, known, strict=True)
        stood = {standing.identity(s.order): s for s in found}
        before = [stood.get(standing.identity(o)) for o in todo]
        missing = [o for o, s in zip(todo, before, strict=True) if _wanted(s, settings)]
        ledger.put(replace(e, asked=stamp) for e, s in zip(known, found, strict=True) if not _wanted(s, settings))
        size = queues.largest_array() if plan.executor == "slurm" else len(todo)
        given: dict[str, str] = {}
        for first in range(0, len(missing), size):
            part = missing[first : first + size]
            for order, job in zip(part, _hand_over(executor, part, settings, plan, len(given), len(missing)), strict=True):
                given[standing.identity(order)] = job
            ledger.put(
                standing.Entry(o, plan.executor, given[standing.identity(o)], stamp, logs, settings.solve_only) for o in part
            )
    return [Submitted(s, given.get(standing.identity(o), "")) for o, s in zip(todo, before, strict=True)]


def _wanted(stood: standing.Standing | None, settings: runner.Settings) -> bool:
    """Whether a run needs a job."""
    if stood is None or stood.state == "missing":
        return True
    if stood.state == "failed":
        return settings.retry and bool(stood.mend)
    return stood.state == "solved" and not settings.solve_only


def _executor(submitit: Any, plan: Plan) -> Any:
    """submitit's executor with the plan's parameters; raises UserError on those that it does not know."""
    parameters = dict(plan.parameters)
    try:
        executor = submitit.AutoExecutor(folder=plan.folder, cluster=plan.executor, slurm_max_num_timeout=plan.restarts)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of names that it will not know for long
            executor.update_parameters(**parameters)
    except (NameError, AssertionError, ValueError, TypeError, RuntimeError, UserWarning) as e:
        told = str(e).splitlines()[0].partition(" Valid arguments")[0].rstrip(".")
        valid = {**dict.fromkeys(GENERIC), **{f"slurm_{name}": None for name in _slurm_names(submitit)}}
        named = [name for name in parameters if f"'{name}'" in told or f"_{name}'" in told]
        near = [m for name in named for m in difflib.get_close_matches(name, valid, 1)]
        raise UserError(f"{plan.file}: {told}" + (f"; do you mean {near[0]}?" if near else "; see submitit's parameters")) from e
    return executor


#: submitit's parameters that have one name for every executor
GENERIC = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout")


def _slurm_names(submitit: Any) -> list[str]:
    try:
        return sorted(submitit.SlurmExecutor._valid_parameters())
    except AttributeError:  # only a hint
        return []


def _hand_over(executor: Any, part: Sequence[Order], settings: runner.Settings, plan: Plan, done: int, of: int) -> list[str]:
    """Submit orders at one stroke; returns their jobs' ids."""
    try:
        with _unheard(), executor.batch():
            jobs = [executor.submit(Job(order, settings)) for order in part]
    except (RuntimeError, OSError) as e:  # submitit's own errors are RuntimeErrors
        said = [line.strip() for line in str(e).splitlines() if line.strip()]
        told = next((line for w in ("fatal", "error", "") for line in said if w in line.lower()), type(e).__name__)
        rest = f"; {done} of {of} runs were submitted, the same command submits the others" if done else ""
        raise UserError(f"{plan.file}: {told}; mend [parameters], or ask who runs the cluster{rest}") from e
    return [str(j.job_id) for j in jobs]


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Standard output and error lead nowhere: submitit prints what it raises, and its local jobs keep both open until they end,
    for which whoever reads this command through a pipe would wait.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [(fd, os.dup(fd)) for fd in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for fd, _ in kept:
            os.dup2(nowhere, fd)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for fd, before in kept:
            os.dup2(before, fd)
            os.close(before)
        os.close(nowhere)


@dataclass(frozen=True)
class Job:
    """A cluster job: one order, on the card of the node it landed on.

    Whatever ends it early (a pre-emption, its node, its time limit), its next life goes on from the run's checkpoint.  SIGTERM
    means that SIGKILL is near: it and its stages work on until then, for a stage that ended by itself would read as a failure.
    """

    order: Order
    settings: runner.Settings

    def __call__(self) -> str:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # stages begin with it ignored, and leave it so
        device, threads, work = self.order.spec.device, self.order.threads, self.settings.work
        with standing.noting(work, self.order, _job_id()):
            system.check_machine(device, threads)
            card = system.card(device, threads)
            standing.note_card(work, self.order, card.hash)
            outcome = runner.run(self.order, self.settings, card, lambda _stage, _event: None)
            standing.note_outcome(work, outcome)
        return f"{outcome.status} {outcome.path}" + (f", kept in {outcome.kept}" if outcome.kept else "")

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue when the time limit is near: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _job_id() -> str:
    """This job's id as it was submitted under; empty outside of one."""
    try:
        import submitit

        return str(submitit.JobEnvironment().job_id)
    except (ImportError, RuntimeError, KeyError, AttributeError):
        return ""
