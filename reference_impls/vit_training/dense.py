"""The dense network, trained on all examples and tokens for the whole schedule: the parent that all others are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.vit_training import VitTrainer, trained
from tasks.vit_training.problem import Trained, VitProblem

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense:
    """No setting: the recipe is the table's."""

    version: ClassVar[int] = 1

    def solve(self, problem: VitProblem) -> Trained:
        fitted = VitTrainer(problem).fit("train", problem.network())
        return trained(fitted, {"examples": problem.source.train_count})
