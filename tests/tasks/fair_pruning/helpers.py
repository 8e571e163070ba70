"""What tests of fair pruning share: a problem of the smoke tier with a run in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from reference_impls.parts.sparse import weighted
from suite import registry
from suite.protocol import Spec
from tasks.fair_pruning.problem import FairProblem
from tests.helpers import MemoryRun


def spec(**changes: Any) -> Spec:
    """A Spec of the smoke tier."""
    fields = {"tier": "smoke", "division": "closed", "case": "adult/mlp-128-64", "target": "nonzero=0.2", "seed": 0}
    return Spec("fair_pruning", registry.task("fair_pruning").version, **{**fields, **changes})


def problem(run: MemoryRun | None = None, **changes: Any) -> FairProblem:
    """The fair problem of a Spec."""
    asked = spec(**changes)
    return registry.task("fair_pruning").problem(asked, run or MemoryRun(asked))


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    """The weights of convolutions and linear layers."""
    return [m.weight.detach() for m in weighted(model).values()]
