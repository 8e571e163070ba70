"""Random weights removed before training, at ERK densities: the control of every sparse network.

Deviations: a control, from no paper. The first layer stays dense, the classifier does not. `layerwise=uniform` gives every
other layer the same density, `layerwise=global` the same odds to every weight of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from reference_impls.parts.sparse import Masked, erk_counts, keep_top, maskable, random_masks, target_count, uniform_counts
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["RandomWeights"]


@dataclass(frozen=True)
class RandomWeights:
    """A mask drawn once."""

    version: ClassVar[int] = 1

    layerwise: Literal["erk", "uniform", "global"] = "erk"  #: densities; global: the largest of scores drawn for all

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model)
        count = target_count(problem, model, layers)
        shapes = {n: tuple(m.weight.shape) for n, m in layers.items()}
        seed = problem.run.seed("random_weights")
        if self.layerwise == "global":
            generator = torch.Generator().manual_seed(seed)
            masks = keep_top({n: torch.rand(m.weight.shape, generator=generator).to(m.weight) for n, m in layers.items()}, count)
        else:
            counts = (erk_counts if self.layerwise == "erk" else uniform_counts)(shapes, count)
            masks = random_masks(layers, counts, seed)
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs, hooks=Masked(layers, masks))
        return Network(model)
