"""Test somebody's own method against the protocol, on the smoke tier, in seconds.

No time that is measured here is shown to anyone, so timing is short, threads that wait do not spin, and stages are forked from
one process.  The solve that is to repeat the first bit for bit runs in an interpreter of its own, as `weighin run` starts it:
what differs from one to the next (addresses, what a generator was left at) is to show.
"""

from __future__ import annotations

import ast
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from suite import bundle, check, registry, runner, system
from suite.forkserver import ForkServer
from suite.naming import UserError
from suite.order import Order
from suite.processors import cores
from suite.protocol import Spec

TIMING_SECONDS = 0.2  #: of each comparison
WAITING = {"OMP_WAIT_POLICY": "passive"}  #: threads that wait for each other sleep


@dataclass(frozen=True)
class Step:
    """One thing that was tested."""

    name: str
    passed: bool
    detail: str = ""


def conform(file: str, task_name: str = "", *, brief: bool = True) -> Iterator[Step]:
    """Yield each step as it is done; a failed step that makes the next ones moot ends the test.

    Long, as it reads like the list of what is tested, in its order.

    Args:
        file: the method's file.
        task_name: the task it is for; the one it imports where empty.
        brief: False runs each stage as `weighin run` does, one after the other: the same steps in several times the time.
    """
    ref = registry.method(task_name or "?", file) if file.endswith(".py") else None
    if ref is None:
        raise UserError(f"{file} is no Python file; give the path of your method's .py")
    name = task_name or _guess_task(ref.path)
    task = registry.task(name)
    ref = registry.method(name, file)
    try:
        instance = registry.configure(registry.load(ref), [])
    except registry.NotImportable as e:
        yield Step("the file imports", False, str(e))
        return
    except UserError as e:
        yield Step("one public frozen dataclass with solve()", False, str(e))
        return
    yield Step("one public frozen dataclass with solve()", True)
    yield Step("the docstring's first line says what it is", bool(ref.summary), ref.summary or "write one: the board shows it")
    yield _serialisable(instance)
    spec = Spec(name, task.version, "smoke", "closed", task.tiers["smoke"].cases[0], task.tiers["smoke"].targets[0], seed=0)
    card = system.card("cpu")
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weighin-conform-")))
        pool = ThreadPoolExecutor(min(2, cores()) if brief else 1)
        stack.callback(pool.shutdown, cancel_futures=True)
        order = runner.make_order(spec, file, [])
        forked: runner.Launch = runner.launch
        if brief:
            order = replace(order, timing_seconds=TIMING_SECONDS)
            forked = partial(runner.launch, extra=WAITING)
            if sys.platform == "linux":  # elsewhere libraries may not survive a fork
                forked = stack.enter_context(ForkServer(name, WAITING)).launch

        def fresh(arguments: list[str], log: Path) -> runner.Child:
            """A solve in an interpreter of its own, with what it then is looked at by forked."""
            if not brief or arguments[0] != "solve":
                return forked(arguments, log)
            child = runner.launch(arguments, log, WAITING)
            assert child.stdin is not None
            stack.callback(child.stdin.close)  # ends it, should Ctrl-C come
            return child

        first = runner.run(order, runner.Settings(root / "a", root / "work", launch=forked), card, _silent)
        yield Step("solves, examines and weighs on the smoke tier", first.status == "ok", first.reason)
        if first.status != "ok":
            return
        record = bundle.read(first.path)
        repeat = pool.submit(_solve_again, order, root, card, fresh)
        reseeded = pool.submit(_solve_again, replace(order, spec=replace(spec, seed=1)), root, card, forked)
        again = repeat.result()
        same = again is not None and again == bundle.sha256(first.path / bundle.EVIDENCE)
        yield Step(
            "the same seed gives the same evidence, bit for bit",
            same,
            "" if same else "draw from torch.Generator seeded by problem.run.seed(...)",
        )
        other = reseeded.result()
        differs = order.seedless or other != bundle.sha256(first.path / bundle.EVIDENCE)
        yield Step(
            "another seed gives other evidence",
            differs,
            "" if differs else "declare seedless = True if no seed can matter",
        )
        for share in record.asked():
            got = "nothing" if share.kept is None else f"{share.kept:.4f}"
            yield Step(
                f"keeps {share.name}={share.wanted:g} within 1 %",
                share.met,
                f"{got} kept" + ("" if share.met else ": such rows are shown, not ranked"),
            )
        findings = [f for f in check.check([first.path]) if f.level == "error"]
        yield Step("its bundle passes the checker", not findings, findings[0].line() if findings else "")


def _solve_again(order: Order, root: Path, card: system.SystemCard, launch: runner.Launch) -> str | None:
    """Solve in a work folder of its own; digest of the evidence, or None."""
    out = root / f"again-{order.spec.seed}"
    outcome = runner.run(order, runner.Settings(out, out / "work", solve_only=True, launch=launch), card, _silent)
    file = outcome.path / bundle.EVIDENCE
    return bundle.sha256(file) if outcome.status == "solved" and file.exists() else None


def _serialisable(instance: Any) -> Step:
    values, _ = registry.configuration(instance)
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as e:
        return Step("its fields are plain values", False, f"{e}; use numbers, strings, booleans, None")
    return Step("its fields are plain values", True, ", ".join(f"{k}={v}" for k, v in values.items()))


def _guess_task(path: Path) -> str:
    """The task whose package the file imports; the only task, if it imports none."""
    known = registry.tasks()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name if isinstance(node, ast.Import) else ""
        parts = (module or "").split(".")
        if len(parts) > 1 and parts[0] in ("tasks", "reference_impls") and parts[1] in known:
            return parts[1]
    if len(known) == 1:
        return next(iter(known))
    raise UserError(f"which task is {path.name} for? name it with --task: {', '.join(known)}")


def _silent(_stage: str, _event: Any) -> None:
    return None
