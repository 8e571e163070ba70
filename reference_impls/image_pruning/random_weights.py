"""Random weights removed before training, at ERK densities: the control of every sparse network.

Departs: nothing; `layerwise=uniform` gives every layer the same density.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reference_impls.parts.sparse import Masked, erk_counts, maskable, random_masks, target_count
from reference_impls.parts.training import Recipe, Trainer
from tasks.image_pruning.task import ImageProblem, Network

__all__ = ["RandomWeights"]


@dataclass(frozen=True)
class RandomWeights:
    """`layerwise` says how densities are spread over layers."""

    layerwise: Literal["erk", "uniform"] = "erk"

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model)
        count = target_count(problem, model, layers)
        shapes = {n: tuple(m.weight.shape) for n, m in layers.items()}
        counts = erk_counts(shapes, count)
        if self.layerwise == "uniform":
            total = sum(m.weight.numel() for m in layers.values())
            counts = {n: round(count * m.weight.numel() / total) for n, m in layers.items()}
        masks = random_masks(layers, counts, problem.run.seed("random_weights"))
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs, hooks=Masked(layers, masks))
        return Network(model)
