"""What the stand-ins share: nothing of it is in suite/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from suite.protocol import Measure, Operations, Problem, Spec, Task, Tier


def sizes(case: str, target: str) -> dict[str, Tier]:
    """The smallest tiers that there are: what a test runs, and what a board shows."""
    return {tier: Tier((case,), (target,), 60) for tier in ("smoke", "small")}


def generator(problem: Problem, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(problem.run.seed(purpose))


def seeded(problem: Problem, make: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(problem.run.seed("init"))
        return make()


def linear_operations(model: nn.Module) -> Operations:
    return Operations(
        tuple(
            {
                "name": name,
                "kind": type(m).__name__,
                "macs": float(m.weight.numel()),
                "params": m.weight.numel(),
                "nonzero": int(m.weight.count_nonzero()),
            }
            for name, m in model.named_modules()
            if isinstance(m, nn.Linear | nn.Conv2d)
        )
    )


def accuracy(evidence: Mapping[str, np.ndarray], name: str = "accuracy", part: str = "") -> Measure:
    hit = evidence["label"] == evidence["prediction"]
    return Measure(name, 100 * float(hit.mean()), "%", "up", part)


class Base(Task[Any, Any]):
    """What no stand-in says otherwise."""

    version = 1
    parent_method = "dense"
    beside: ClassVar[Sequence[str]] = ()
    promised = ""
    truth: ClassVar[Sequence[str]] = ("row",)

    def digest(self, spec: Spec) -> str:
        return "0" * 64

    def operations(self, problem: Any, solution: Any) -> Operations:
        return linear_operations(solution.model)


@dataclass(frozen=True)
class Network:
    model: nn.Module


@dataclass
class VisionProblem(Problem):
    x: torch.Tensor
    y: torch.Tensor

    def model(self, width: int = 16) -> nn.Module:
        return seeded(
            self,
            lambda: nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)),
        )

    def batches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(96, generator=torch.Generator().manual_seed(self.run.seed("order", epoch)))
        for batch in order.split(32):
            self.run.spend(len(batch))
            yield self.x[batch], self.y[batch]
