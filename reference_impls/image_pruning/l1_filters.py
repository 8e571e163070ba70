"""Filters of smallest L1 norm removed from a trained network, which is then fine-tuned (Li et al.), at equal budget.

Deviations: the paper prunes by hand-set ratios a stage; here one ratio for all layers is bisected to the operations
target, and there is no ranking over all layers together. In residual blocks only the inner channels go. Two thirds of the
budget train the dense network, one third fine-tunes, so that the total equals every other method's; it does so at a tenth of
the training's rate (0.01 with the CIFAR recipe, the paper: 0.001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.channels import l1_norms, largest, target_macs, uniform_widths
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["L1Filters"]


@dataclass(frozen=True)
class L1Filters:
    """Train, prune once, fine-tune."""

    version: ClassVar[int] = 1

    pretrain: float = 2 / 3  #: share of the budget that trains the dense network before pruning
    floor: float = 0.1  #: share of its channels that a layer always keeps

    def solve(self, problem: ImageProblem) -> Network:
        before = round(self.pretrain * problem.epochs)
        trainer = Trainer(problem)
        recipe = Recipe.of(problem)
        model = trainer.fit("train", problem.model(), recipe, epochs=before)
        groups = problem.groups(model)
        widths = uniform_widths(groups, problem.macs_of, target_macs(problem), self.floor)
        keep = {g.name: largest(l1_norms(g.layer.weight), widths[g.name]) for g in groups if g.name in widths}
        small = problem.compact(model, keep)
        return Network(trainer.fit("fine_tune", small, recipe.fine_tune(), epochs=problem.epochs - before), {"widths": widths})
