"""Fire where the warmest pixel of a patch is above 150 degrees: a rule, not a network.

Deviations: a baseline, from no paper; it needs a radiometric camera and is not possible without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from reference_impls.parts.flame_rules import rule_of_each_fold
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["MaxTemperature"]


@dataclass(frozen=True)
class MaxTemperature:
    """Nothing is learnt."""

    version: ClassVar[int] = 1

    seedless: ClassVar[bool] = True

    above: float = 150.0  #: degrees Celsius

    def solve(self, problem: FlameProblem) -> Detectors:
        return rule_of_each_fold(problem, lambda _: Hottest(self.above))


class Hottest(nn.Module):
    """Degrees (n, 1, P, P) to how far the warmest pixel lies above a threshold, (n,)."""

    colour, degrees = False, True

    def __init__(self, above: float) -> None:
        super().__init__()
        self.above = above

    def forward(self, celsius: torch.Tensor) -> torch.Tensor:
        return self.embed(celsius)[:, 0] - self.above

    def embed(self, celsius: torch.Tensor) -> torch.Tensor:
        """The warmest pixel, (n, 1)."""
        return celsius.amax((1, 2, 3))[:, None]
