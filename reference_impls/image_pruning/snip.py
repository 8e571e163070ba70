"""Weights to which the loss is least sensitive removed before training (SNIP).

Paper: Lee, Ajanthan, Torr. SNIP: Single-shot Network Pruning based on Connection Sensitivity. ICLR 2019, arXiv 1810.02340.

Deviations: the scoring images are booked against the budget, so the training is one epoch shorter. All convolutions and linear
layers are pruned, the first (`stem=false`: not that one) and the classifier too; batch norms are scored in eval mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts import saliency
from reference_impls.parts.sparse import Masked, maskable, target_count
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Snip"]


@dataclass(frozen=True)
class Snip:
    """Images score in eval mode."""

    version: ClassVar[int] = 1

    per_class: int = 100  #: images of each class that score, on average
    stem: bool = True  #: whether the first convolution may be pruned

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model, stem=self.stem)
        size = min(self.per_class * problem.classes, problem.steps_per_epoch * problem.batch)
        batches = problem.samples(size, "snip", saliency.piece(problem.input))
        count = target_count(problem, model, layers)
        masks = saliency.prune_iteratively(layers, lambda: saliency.snip(model, layers, batches), count)
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs - 1, hooks=Masked(layers, masks))
        return Network(model)
