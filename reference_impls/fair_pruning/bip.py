"""Mask and weights learned together in one run, blind to groups (BiP): BiFP without its penalties.

Paper: Zhang, Yao, Ram, Zhao, Chen, Hong, Wang, Liu. Advancing Model Pruning via Bi-level Optimization. NeurIPS 2022,
arXiv 2210.04092.

Deviations: scores are a copy of the weights, in the authors' code they share their storage; each level has an optimizer of its own,
and the scores no weight decay; the scores' rate follows a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.fair_pruning.bifp import Bifp
from reference_impls.parts.bilevel import Implicit
from reference_impls.parts.fair import Cut
from reference_impls.parts.fairness import Loss
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["Bip"]


@dataclass(frozen=True)
class Bip:
    """Symbols as in BiP."""

    version: ClassVar[int] = 1

    implicit: Implicit = "paper"  #: the indirect part of the mask's gradient; bip_code: as BiP's code multiplies; none: without
    inverse_gamma: float = 1e-4  #: how much of the indirect part counts, BiP's lr2
    score_rate: float | None = None  #: of the scores' first step; None: the weights'
    score_momentum: float = 0.9  #: of the scores' steps

    def solve(self, problem: FairProblem) -> FairNetwork:
        return self._blind().solve(problem)

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        """As the first of two stages: half the iterations, two gradients each, so that the second has as many gradients left."""
        return self._blind().cut(problem, trainer, loss, max(1, problem.tune_epochs // 2))

    def _blind(self) -> Bifp:
        return Bifp(
            fairness=0.0,
            implicit=self.implicit,
            inverse_gamma=self.inverse_gamma,
            score_rate=self.score_rate,
            score_momentum=self.score_momentum,
        )
