"""Dynamic sparse training that drops the smallest weights of each layer and grows as many at random (SET).

Paper: Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta. Scalable training of artificial neural networks with adaptive sparse
connectivity inspired by network science. Nature Communications 2018.

Deviations: drops by smallest magnitude (the original: smallest positive and largest negative), at the constant share until
the end; ERK densities; the first layer stays dense, the classifier does not; new weights may not be those just dropped;
the optimizer's step is taken as well. The interval is RigL's: 100 steps on the paper tier, max(50 steps, half an epoch) where
runs are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.parts.sparse import Exploring, erk_counts, maskable, random_masks, small_interval, target_count
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Set"]


@dataclass(frozen=True)
class Set:
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    drop: float = 0.3  #: zeta: share of a layer's weights that moves
    interval: int = 0  #: Delta T, steps between moves; 0: by the tier and the size of the data
    end: float = 0.75  #: no move after this share of the training

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model)
        counts = erk_counts({n: tuple(m.weight.shape) for n, m in layers.items()}, target_count(problem, model, layers))
        masks = random_masks(layers, counts, problem.run.seed("set"))
        end = round(self.end * problem.epochs * problem.steps_per_epoch)
        hooks = Evolving(self, problem, layers, masks, end)
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs, hooks=hooks)
        return Network(model)


class Evolving(Exploring):
    """Drop and random growth, layer by layer."""

    def __init__(self, method: Set, problem: ImageProblem, layers, masks, end: int) -> None:  # type: ignore[no-untyped-def]
        super().__init__(layers, masks, method.interval or small_interval(problem.steps_per_epoch, problem.spec.tier))
        self.method, self.end, self.seed = method, end, problem.run.seed

    def explore(self) -> bool:
        if self.step >= self.end:
            return True
        generator = torch.Generator().manual_seed(self.seed("set", self.step))
        for name, layer in self.layers.items():
            mask = self.masks[name].flatten()
            living, dead = mask.nonzero().flatten(), (~mask).nonzero().flatten()
            count = min(int(self.method.drop * len(living)), len(dead))
            weakest = living[layer.weight.detach().flatten()[living].abs().sort(stable=True).indices[:count]]
            born = dead[torch.randperm(len(dead), generator=generator)[:count].to(dead.device)]
            moved = mask.clone()
            moved[weakest], moved[born] = False, True
            self.masks[name] = moved.view(layer.weight.shape)
        return True
