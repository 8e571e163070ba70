"""Fire where a thermal patch is bright enough, the threshold being the best of the training patches: a rule, not a network.

Deviations: a baseline, from no paper; brightness is relative to the patch's frame, since nothing else is left
of a thermal picture that is not radiometric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from reference_impls.parts.flame_rules import best_threshold, rule_of_each_fold
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Luma"]

Statistic = Literal["max", "mean"]


@dataclass(frozen=True)
class Luma:
    """The threshold has the best balanced accuracy on the labels of the training patches, each seen once."""

    version: ClassVar[int] = 1

    seedless: ClassVar[bool] = True

    statistic: Statistic = "max"  #: of a patch's brightness

    def solve(self, problem: FlameProblem) -> Detectors:
        return rule_of_each_fold(problem, self._rule)

    def _rule(self, own: FlameProblem) -> nn.Module:
        rule = Bright(self.statistic, 0.5)
        if own.spec.division != "speed":
            own.need_batches()  # as networks do: what may be seen is counted in batches
            own.book(len(own.train))
            rule.above = best_threshold(rule.embed(own.train.thermal)[:, 0], own.train.label)
        return rule


class Bright(nn.Module):
    """Thermal patches (n, 1, P, P) in 0..1 to how far their brightness lies above a threshold, (n,)."""

    colour = False

    def __init__(self, statistic: Statistic, above: float) -> None:
        super().__init__()
        self.statistic, self.above = statistic, above

    def forward(self, thermal: torch.Tensor) -> torch.Tensor:
        return self.embed(thermal)[:, 0] - self.above

    def embed(self, thermal: torch.Tensor) -> torch.Tensor:
        """The brightness, (n, 1)."""
        found = thermal.amax((1, 2, 3)) if self.statistic == "max" else thermal.mean((1, 2, 3))
        return found[:, None]
