"""Make fair, then prune: the dense network trained under a penalty on the gap between groups, pruned and fine-tuned blindly.

Deviations: the order that BiFP compares itself with (Dai et al. 2023); it does not say how it is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.fair_pruning._pruners import PRUNERS, Name
from reference_impls.parts.fair import tuned
from reference_impls.parts.fairness import Constraint, Kind, Surrogate, constrained
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["FandP"]


@dataclass(frozen=True)
class FandP:
    """What each group lost is told against the fair dense network, which is what was pruned."""

    version: ClassVar[int] = 1

    pruner: Name = "magnitude"  #: that prunes, as it is set by default
    fairness: float = 1.0  #: weight of the penalty on the dense network
    constraint: Kind = "accuracy"  #: what it penalises: the gap in accuracy, in answers, in answers by label, or their covariance
    surrogate: Surrogate = "sigmoid"  #: of the accuracy gap: what stands for "is right"
    tolerance: float = 0.0  #: gap that is not penalised

    def solve(self, problem: FairProblem) -> FairNetwork:
        penalty = Constraint(self.fairness, self.constraint, self.surrogate, tolerance=self.tolerance, groups=problem.group_count)
        penalty.check(problem.classes)
        trainer = Trainer(problem)
        cut = PRUNERS[self.pruner].cut(problem, trainer, constrained(problem.recipe, penalty))
        return tuned(problem, trainer, cut)
