"""Small problems of vit_training for several tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from suite import registry
from suite.protocol import Spec
from tasks.vit_training.problem import VitProblem
from tests.helpers import MemoryRun


def vit_spec(**changes: Any) -> Spec:
    """A Spec of the smoke tier."""
    fields = {"tier": "smoke", "division": "closed", "case": "digits/vit-24-4-2-p4", "target": "train_macs=0.8", "seed": 0}
    return Spec("vit_training", registry.task("vit_training").version, **{**fields, **changes})


def vit_problem(run: MemoryRun | None = None, *, epochs: int = 0, **changes: Any) -> VitProblem:
    """The problem of a Spec, with a run in memory; of so many epochs where given."""
    asked = vit_spec(**changes)
    problem = registry.task("vit_training").problem(asked, run or MemoryRun(asked))
    return replace(problem, epochs=epochs) if epochs else problem
