"""What several tests need: a Run in memory, and method files that misbehave."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from suite import registry
from suite.budget import Budget
from suite.protocol import Spec, Stopped


class MemoryRun:
    """A `Run` that keeps its checkpoint in memory, and can be told to stop after some batches."""

    def __init__(self, spec: Spec, *, stop_after: int | None = None, saved: dict[str, Any] | None = None) -> None:
        from suite.naming import address

        self.spec, self.saved, self.stop_after = spec, saved, stop_after
        self.examples, self.batches = 0, 0
        self.budget = Budget(spec)
        self.spent = self.budget.spent
        self.values: list[tuple[str, float]] = []
        self._address = address
        self.seconds = 0.0

    def seed(self, purpose: str, epoch: int = 0) -> int:
        s = self.spec
        return self._address(s.task, s.version, s.case, s.seed, purpose, epoch)

    def grant(self, budget: int, unit: str = "examples", counter: str = "") -> None:
        self.budget.grant(budget, unit, counter)

    def spend(self, examples: int, counter: str = "", amount: int | None = None) -> None:
        self.budget.book(examples if amount is None else amount, counter)
        if self.stop_after is not None and self.batches >= self.stop_after:
            raise Stopped
        self.examples += examples
        self.batches += 1

    @contextlib.contextmanager
    def off_clock(self) -> Iterator[None]:
        yield

    def save(self, state: Mapping[str, Any]) -> None:
        self.saved = {"state": copy.deepcopy(dict(state)), "examples": self.examples, "spent": dict(self.spent)}

    def load(self) -> dict[str, Any] | None:
        if self.saved is None:
            return None
        self.examples = self.saved["examples"]
        self.budget.resume(self.saved["spent"])
        return copy.deepcopy(self.saved["state"])

    def progress(self, done: float, total: float, **values: float) -> None:
        self.values += list(values.items())


def spec(**changes: Any) -> Spec:
    """A Spec of the smoke tier."""
    fields = {"tier": "smoke", "division": "closed", "case": "fashion/resnet20", "target": "macs=0.5", "seed": 0}
    return Spec("image_pruning", registry.task("image_pruning").version, **{**fields, **changes})


def problem(run: MemoryRun | None = None, **changes: Any) -> Any:
    """The image problem of a Spec, with a run in memory."""
    asked = spec(**changes)
    return registry.task("image_pruning").problem(asked, run or MemoryRun(asked))


def shrunk(p: Any, epochs: int, **images: int) -> Any:
    """The problem with so many images of each split (``train=640``) and epochs; changed in place."""
    p.epochs = epochs
    p.source.examples = p.source.examples.take(images)
    p.source.__post_init__()
    p.__dict__.pop("steps_per_epoch", None)
    return p


def method_file(folder: Path, body: str, name: str = "mine") -> str:
    """A method of one's own whose solve() has this body; returns its path."""
    indented = "\n".join("        " + line for line in body.strip().splitlines())
    text = f'''"""A method for a test."""

from dataclasses import dataclass

from reference_impls.parts.training import Trainer
from tasks.images.recipes import Sgd
from tasks.image_pruning.task import ImageProblem, Network


@dataclass(frozen=True)
class Mine:
    speed: float = 1.0

    def solve(self, problem: ImageProblem) -> Network:
{indented}
'''
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def golden(name: str) -> dict[str, Any]:
    """The arrays of tests/golden/<name>.npz."""
    import numpy as np

    with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as z:
        return dict(z)


def golden_tensors(name: str) -> dict[str, Any]:
    """The same as tensors; single values are numbers."""
    import torch

    return {k: torch.from_numpy(v) if v.ndim else v.item() for k, v in golden(name).items()}


def graph_problem(run: MemoryRun | None = None, **changes: Any) -> Any:
    """A graph problem of the smoke tier, with a run in memory; the generated graph unless a case is named."""
    fields = {"tier": "smoke", "division": "closed", "case": "sbm/gcn", "target": "edges=0.5,weights=0.5", "seed": 0}
    task = registry.task("graph_tickets").of(str(changes.get("case", "")))
    asked = Spec("graph_tickets", task.version, **{**fields, **changes})
    return task.problem(asked, run or MemoryRun(asked))


def on_one_line(page: str) -> str:
    """A page's text as a browser takes it: line breaks are spaces, and none stand between the cells of a table."""
    text = re.sub(r"[ \n\t]+", " ", page)
    return re.sub(r"(</t[dhr]>|<tr[^>]*>|<t(?:head|body)[^>]*>) (?=<)", r"\1", text)


def page_text(file: Path) -> str:
    """As `on_one_line`, of a page's file."""
    return on_one_line(file.read_text(encoding="utf-8"))
