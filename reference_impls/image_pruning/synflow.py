"""Weights with the least synaptic flow removed before training, in many small steps and without data (SynFlow).

Paper: Tanaka, Kunin, Yamins, Ganguli. Pruning neural networks without any data by iteratively conserving synaptic flow.
NeurIPS 2020, arXiv 2006.05467.

Deviations: nothing in the rule. All convolutions and linear layers are pruned, the first (`stem=false`: not that one) and the
classifier too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts import saliency
from reference_impls.parts.sparse import Masked, maskable, target_count, weighted
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Synflow"]


@dataclass(frozen=True)
class Synflow:
    """Scores need no data."""

    version: ClassVar[int] = 1

    steps: int = 100  #: of the exponential schedule
    stem: bool = True  #: whether the first convolution may be pruned

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model, stem=self.stem)
        count = target_count(problem, model, layers)
        whole, own = (sum(m.weight.numel() for m in part.values()) for part in (weighted(model), layers))
        density = 1 - (1 - problem.spec.targets["nonzero"]) * whole / own  # of the layers that may be pruned
        masks = saliency.prune_iteratively(
            layers, lambda: saliency.synflow(model, layers, problem.input), count, self.steps, density
        )
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs, hooks=Masked(layers, masks))
        return Network(model)
