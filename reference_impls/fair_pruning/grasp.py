"""Weights whose removal harms the gradient flow least removed before training (GraSP).

Paper: Wang, Zhang, Grosse. Picking Winning Tickets Before Training by Preserving Gradient Flow. ICLR 2020, arXiv 2002.07376.

Deviations: the last layer keeps the table's initial weights (the authors draw it anew); trained like snip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.fair_pruning.snip import trained
from reference_impls.parts import saliency
from reference_impls.parts.fair import Cut, Pruner, kept_count
from reference_impls.parts.fairness import Loss
from reference_impls.parts.sparse import weighted
from reference_impls.parts.training import Trainer
from suite.naming import UserError
from tasks.fair_pruning.problem import FairProblem

__all__ = ["Grasp"]


@dataclass(frozen=True)
class Grasp(Pruner):
    """Examples, as many of each class, score in two halves."""

    version: ClassVar[int] = 1

    per_class: int = 10  #: examples of each class that score
    temperature: float = 200.0  #: divides the logits

    def __post_init__(self) -> None:
        if self.per_class < 2:
            raise UserError(f"per_class={self.per_class}: two of each class at least have to score, one in each half")

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        model = problem.model()
        layers = weighted(model)
        count = kept_count(problem, sum(m.weight.numel() for m in layers.values()))
        # drawn from more than are used, so that rare classes have theirs
        x, y = problem.sample(20 * self.per_class * problem.classes, "grasp")
        chosen = torch.cat([(y == c).nonzero().flatten()[: self.per_class] for c in range(problem.classes)])
        halves = [(x[part], y[part]) for part in (chosen[::2], chosen[1::2]) if len(part)]
        masks = saliency.prune_iteratively(layers, lambda: saliency.grasp(model, layers, halves, self.temperature), count)
        return trained(problem, trainer, model, masks, loss)
