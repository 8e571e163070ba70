"""The smallest weights of a trained network removed at once, all layers together, then fine-tuning (Han et al.).

Paper: Han, Pool, Tran, Dally. Learning both Weights and Connections for Efficient Neural Networks. NeurIPS 2015.

Deviations: one threshold for the whole network, over all but the first layer (`stem=true`: that too), classifier included;
two thirds of the budget train, one third fine-tunes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.sparse import Masked, keep_top, magnitudes, maskable, target_count
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Magnitude"]


@dataclass(frozen=True)
class Magnitude:
    """Train, prune once, fine-tune."""

    version: ClassVar[int] = 1

    pretrain: float = 2 / 3  #: share of the budget that trains the dense network before pruning
    stem: bool = False  #: whether the first convolution may be pruned
    classifier: bool = True  #: whether the last layer may be pruned

    def solve(self, problem: ImageProblem) -> Network:
        before = round(self.pretrain * problem.epochs)
        trainer = Trainer(problem)
        recipe = Recipe.of(problem)
        model = trainer.fit("train", problem.model(), recipe, epochs=before)
        layers = maskable(model, stem=self.stem, classifier=self.classifier)
        masks = keep_top(magnitudes(layers), target_count(problem, model, layers))
        hooks = Masked(layers, masks)
        return Network(trainer.fit("fine_tune", model, recipe.fine_tune(), epochs=problem.epochs - before, hooks=hooks))
