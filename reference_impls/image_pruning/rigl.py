"""Dynamic sparse training: every so often the smallest weights of each layer go, and those with large gradients come (RigL).

Paper: Evci, Gale, Menick, Castro, Elsen. Rigging the Lottery: Making All Tickets Winners. ICML 2020, arXiv 1911.11134.

Deviations: the interval is 100 steps on the paper tier alone, max(50 steps, half an epoch) where runs are small; momentum is
masked; the first layer stays dense, the classifier does not. `grow=random` is SET with a cosine-annealed drop;
`interval=4000` (steps) and `drop=0.5` give RigL-ITOP's schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from reference_impls.parts.sparse import Exploring, erk_counts, maskable, random_masks, small_interval, target_count
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Rigl"]


@dataclass(frozen=True)
class Rigl:
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    drop: float = 0.3  #: zeta: share of a layer's weights that moves at the start
    interval: int = 0  #: Delta T, steps between moves; 0: by the tier and the size of the data
    end: float = 0.75  #: T_end: no move after this share of the training
    grow: Literal["gradient", "random"] = "gradient"  #: random: as SET grows, by this method's schedule

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model)
        counts = erk_counts({n: tuple(m.weight.shape) for n, m in layers.items()}, target_count(problem, model, layers))
        masks = random_masks(layers, counts, problem.run.seed("rigl"))
        steps = problem.epochs * problem.steps_per_epoch
        hooks = Rigging(self, problem, layers, masks, max(1, round(self.end * steps)))
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs, hooks=hooks)
        return Network(model)


class Rigging(Exploring):
    """The update takes the place of the optimizer's step."""

    def __init__(self, method: Rigl, problem: ImageProblem, layers, masks, end: int) -> None:  # type: ignore[no-untyped-def]
        super().__init__(layers, masks, method.interval or small_interval(problem.steps_per_epoch, problem.spec.tier))
        self.method, self.end, self.seed = method, end, problem.run.seed

    def explore(self) -> bool:
        if self.step >= self.end:
            return True
        share = self.method.drop / 2 * (1 + math.cos(math.pi * self.step / self.end))
        generator = torch.Generator().manual_seed(self.seed("rigl", self.step))
        for name, layer in self.layers.items():
            mask, weight = self.masks[name], layer.weight
            if self.method.grow == "gradient":
                assert weight.grad is not None
                wish = weight.grad.abs()
            else:
                wish = torch.rand(weight.shape, generator=generator).to(weight.device)
            noise = 1e-5 * torch.randn(weight.shape, generator=generator).to(weight.device)
            self.masks[name] = swap(weight.detach().abs() + noise, wish, mask, int(share * int(mask.sum())))
        return False


def swap(strength: torch.Tensor, wish: torch.Tensor, mask: torch.Tensor, count: int) -> torch.Tensor:
    """Mask without the `count` weakest of the alive, and with as many of the most wished among those not kept.

    A dropped weight that is wished for comes back, with its value; a new one starts at 0, where masking left it.
    """
    if count <= 0:
        return mask
    held = strength.masked_fill(~mask, -math.inf).flatten()
    kept = torch.zeros_like(held, dtype=torch.bool)
    kept[torch.sort(held, descending=True, stable=True).indices[: int(mask.sum()) - count]] = True
    hoped = wish.flatten().masked_fill(kept, -math.inf)
    kept[torch.sort(hoped, descending=True, stable=True).indices[:count]] = True
    return kept.view(mask.shape)
