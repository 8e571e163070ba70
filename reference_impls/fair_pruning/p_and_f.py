"""Prune, then make fair: any pruner's mask, fine-tuned under a penalty on the gap between groups (two stages).

Deviations: this is what BiFP compares itself with (Dai et al. 2023) and calls its two-stage baselines; it does not say how they are
trained. Here as blind pruners are, with the penalty added; `bip` has half the iterations that it has alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.fair_pruning._pruners import PRUNERS, Name
from reference_impls.parts.fair import tuned
from reference_impls.parts.fairness import Constraint, Kind, Surrogate
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["PandF"]


@dataclass(frozen=True)
class PandF:
    """Cross-entropy and `fairness` times the penalty, on the mask that the pruner left."""

    version: ClassVar[int] = 1

    pruner: Name = "magnitude"  #: that prunes, blind to groups and as it is set by default
    fairness: float = 1.0  #: weight of the penalty
    constraint: Kind = "accuracy"  #: what it penalises: the gap in accuracy, in answers, in answers by label, or their covariance
    surrogate: Surrogate = "sigmoid"  #: of the accuracy gap: what stands for "is right"
    tolerance: float = 0.0  #: gap that is not penalised

    def solve(self, problem: FairProblem) -> FairNetwork:
        penalty = Constraint(self.fairness, self.constraint, self.surrogate, tolerance=self.tolerance, groups=problem.group_count)
        penalty.check(problem.classes)
        trainer = Trainer(problem)
        cut = PRUNERS[self.pruner].cut(problem, trainer)
        return tuned(problem, trainer, cut, penalty)
