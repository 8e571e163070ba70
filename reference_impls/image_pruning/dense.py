"""The dense network, trained with the whole budget: the parent that all others are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense:
    """No setting: the recipe is the table's."""

    version: ClassVar[int] = 1

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        return Network(Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs))
