"""Many runs: methods x cases x targets x seeds, in a fixed order, resumable.  The state is the results folder."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from suite import registry, runner, system
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
        yield runner.run(order, settings, card, progress(order))


def submit(todo: Sequence[Order], settings: runner.Settings, cluster: Path) -> list[Any]:
    """Hand every order to a cluster through submitit; the TOML names its executor and its parameters.

    ``executor = "slurm" | "local"``, ``folder = "..."`` for logs, and a table ``parameters`` passed on
    as it is (``slurm_partition``, ``timeout_min``, ``gpus_per_node`` and so on).  Weigh on a quiet
    machine: set ``solve_only = true`` here and call ``weighin weigh`` afterwards.
    """
    submitit = need("submitit", "--cluster")
    try:
        plan = tomllib.loads(cluster.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise UserError(f"{cluster}: {e}; write executor, folder and a table parameters in TOML") from e
    executor = submitit.AutoExecutor(folder=plan.get("folder", "build/cluster"), cluster=plan.get("executor", "slurm"))
    executor.update_parameters(**plan.get("parameters", {}))
    with executor.batch():
        jobs = [executor.submit(run_one, order, settings) for order in todo]
    return list(jobs)


def run_one(order: Order, settings: runner.Settings) -> str:
    """A cluster job: one order, on the card of the node it landed on."""
    outcome = runner.run(order, settings, system.card(order.spec.device, order.threads), lambda _stage, _event: None)
    return f"{outcome.status} {outcome.path}" + (f", kept in {outcome.kept}" if outcome.kept else "")
