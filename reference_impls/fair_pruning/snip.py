"""Weights to which the loss is least sensitive removed before training (SNIP).

Paper: Lee, Ajanthan, Torr. SNIP: Single-shot Network Pruning based on Connection Sensitivity. ICLR 2019, arXiv 1810.02340.

Deviations: scored by `batches` batches on the table's initial weights (the authors draw others to score by); trained on the
pre-training and then on the pruning rows, as long on each as the others, so that there is no dense network that it lost anything
against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from reference_impls.parts import saliency
from reference_impls.parts.fair import Cut, Pruner, asked, held
from reference_impls.parts.fairness import Loss
from reference_impls.parts.sparse import Masks, weighted
from reference_impls.parts.training import Trainer
from suite.naming import UserError
from tasks.fair_pruning.problem import FairProblem

__all__ = ["Snip"]


@dataclass(frozen=True)
class Snip(Pruner):
    """All convolutions and linear layers are scored, biases are not."""

    version: ClassVar[int] = 1

    batches: int = 1  #: that score

    def __post_init__(self) -> None:
        if self.batches < 1:
            raise UserError(f"batches={self.batches}: at least one batch has to score")

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        model = problem.model()
        layers = weighted(model)
        count = max(1, int(sum(m.weight.numel() for m in layers.values()) * asked(problem, "nonzero")))  # the authors' own count
        examples = list(problem.samples(self.batches * problem.batch, "snip", saliency.piece(problem.input)))
        masks = saliency.prune_iteratively(layers, lambda: saliency.snip(model, layers, examples), count)
        return trained(problem, trainer, model, masks, loss)


def trained(problem: FairProblem, trainer: Trainer, model: nn.Module, masks: Masks, loss: Loss | None) -> Cut:
    """The training of what was pruned at birth, on the pre-training rows."""
    trainer.fit("sparse", model, problem.recipe, epochs=problem.pretrain_epochs, hooks=held(model, masks), loss=loss)
    return Cut(model, masks, problem.tune_epochs, None, None)
