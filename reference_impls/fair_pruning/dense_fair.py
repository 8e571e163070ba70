"""A dense network trained on under a fairness penalty: what fairness costs where nothing is pruned.

Deviations: the accuracy gap's penalty is BiFP's; parity, odds and covariance are the usual regularisers (covariance: Zafar, Valera,
Gomez Rodriguez, Gummadi. Fairness Constraints. AISTATS 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.fair import cut_of, dense, tuned
from reference_impls.parts.fairness import Constraint, Kind, Surrogate
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["DenseFair"]


@dataclass(frozen=True)
class DenseFair:
    """The pre-trained network, trained on on the pruning rows with cross-entropy and `fairness` times the penalty."""

    version: ClassVar[int] = 1

    fairness: float = 1.0  #: weight of the penalty
    constraint: Kind = "accuracy"  #: what it penalises: the gap in accuracy, in answers, in answers by label, or their covariance
    surrogate: Surrogate = "sigmoid"  #: of the accuracy gap: what stands for "is right"
    tolerance: float = 0.0  #: gap that is not penalised

    def solve(self, problem: FairProblem) -> FairNetwork:
        penalty = Constraint(self.fairness, self.constraint, self.surrogate, tolerance=self.tolerance, groups=problem.group_count)
        penalty.check(problem.classes)
        trainer = Trainer(problem)
        return tuned(problem, trainer, cut_of(problem, dense(problem, trainer), {}), penalty)
