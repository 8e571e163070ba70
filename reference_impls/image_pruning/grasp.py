"""Weights whose removal harms the gradient flow least removed before training (GraSP).

Paper: Wang, Zhang, Grosse. Picking Winning Tickets Before Training by Preserving Gradient Flow. ICLR 2020, arXiv 2002.07376.

Deviations: the classifier keeps the table's initial weights (the authors draw it anew by Xavier's rule); the scoring images
are booked against the budget, so the training is one epoch shorter. All convolutions and linear layers are pruned, the
first (`stem=false`: not that one) and the classifier too; batch norms are scored in eval mode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts import saliency
from reference_impls.parts.sparse import Masked, maskable, target_count
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Grasp"]


@dataclass(frozen=True)
class Grasp:
    """The images score in two halves, or in more pieces."""

    version: ClassVar[int] = 1

    per_class: int = 10  #: images of each class that score, on average
    temperature: float = 200.0  #: divides the logits
    stem: bool = True  #: whether the first convolution may be pruned

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model, stem=self.stem)
        x, y = problem.sample(min(self.per_class * problem.classes, problem.steps_per_epoch * problem.batch), "grasp")
        most = min(math.ceil(len(x) / 2), saliency.piece(problem.input))
        parts = list(zip(x.split(most), y.split(most), strict=True))
        count = target_count(problem, model, layers)
        masks = saliency.prune_iteratively(layers, lambda: saliency.grasp(model, layers, parts, self.temperature), count)
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs - 1, hooks=Masked(layers, masks))
        return Network(model)
