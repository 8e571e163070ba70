"""The dense network of the pre-training rows: the parent that all others are cut from and compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.fair import Cut, cut_of, dense, tuned
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense:
    """The recipe is the table's."""

    version: ClassVar[int] = 1

    tune: bool = False  #: whether it is trained on like the pruned ones, the control for what more data and epochs do

    def solve(self, problem: FairProblem) -> FairNetwork:
        trainer = Trainer(problem)
        model = dense(problem, trainer)
        if not self.tune:
            return FairNetwork(model, dense=model)
        cut: Cut = cut_of(problem, model, {})
        return tuned(problem, trainer, cut)
