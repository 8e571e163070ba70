"""Channels whose feature maps have the lowest matrix rank go, layer by layer, with some fine-tuning after each (HRank).

Paper: Lin, Ji, Wang, Zhang, Zhang, Tian, Shao. HRank: Filter Pruning using High-Rank Feature Map. CVPR 2020,
arXiv 2002.10179.

Deviations: one ratio for all layers is bisected to the operations target, where the paper sets one a layer by hand. Layers go
in as many rounds as leave each three epochs of fine-tuning (the paper: a layer a round, 15 epochs). The scoring images are
booked against the budget, so the training is one epoch shorter. In residual blocks only the inner channels go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.channels import largest, target_macs, uniform_widths
from reference_impls.parts.filters import Masks, inner, split
from reference_impls.parts.training import Hooks, Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.channels import ChannelGroup
from tasks.images.recipes import Recipe

__all__ = ["Hrank"]


@dataclass(frozen=True)
class Hrank:
    """A layer after the other loses the channels of lowest rank."""

    version: ClassVar[int] = 1

    batches: int = 5  #: of training images, which ranks are averaged over
    batch: int = 128  #: images in each
    rounds: int = 0  #: of pruning and fine-tuning; 0: a layer each, as far as each has three epochs; 1: all layers at once
    pretrain: float = 2 / 3  #: share of the budget that trains the dense network before pruning
    floor: float = 0.1  #: share of its channels that a layer always keeps

    def solve(self, problem: ImageProblem) -> Network:
        trainer, recipe, model = Trainer(problem), Recipe.of(problem), problem.model()
        widths = uniform_widths(problem.groups(model), problem.macs_of, target_macs(problem), self.floor)
        before, tune = split(problem.epochs - 1, (self.pretrain, 1 - self.pretrain))
        trainer.fit("train", model, recipe, epochs=before)
        choice = Once(lambda: self.choose(problem, model, widths))
        trainer.fit("rank", model, recipe, epochs=0, hooks=choice)
        # the rates of a round: a tenth of training's, which falls after each third
        recipe = replace(recipe.fine_tune(), milestones=(1 / 3, 2 / 3))
        names = list(choice.made)
        rounds = max(1, min(self.rounds or tune // 3, tune, len(names)))
        lengths, layers = split(tune, [1] * rounds), iter(names)
        for i, (epochs, count) in enumerate(zip(lengths, split(len(names), [1] * rounds), strict=True)):
            model = problem.compact(model, {n: choice.made[n] for n in islice(layers, count)})
            trainer.fit(f"round {i}", model, recipe, epochs=epochs)
        return Network(model, {"widths": widths})

    def choose(self, problem: ImageProblem, model: nn.Module, widths: Mapping[str, int]) -> Masks:
        """Masks of the channels with the highest ranks in each layer."""
        groups = inner(problem.groups(model))
        count = min(self.batches * self.batch, problem.steps_per_epoch * problem.batch)
        x, _ = problem.sample(count, "hrank")
        scores = feature_ranks(model, groups, x.split(self.batch))
        return {n: largest(scores[n], widths[n]) for n in widths}


class Once(Hooks):
    """A choice that costs images: made when its stage begins; a solve that was stopped later finds it in the checkpoint."""

    def __init__(self, make: Callable[[], Masks]) -> None:
        self.make = make
        self.made: Masks = {}

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.made:
            self.made = self.make()

    def state(self) -> dict[str, Any]:
        return {"made": self.made}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.made = dict(state["made"])


def map_ranks(maps: torch.Tensor) -> torch.Tensor:
    """Mean over images of the rank of each channel's map, (N, C, h, w) to (C,).

    The rank counts singular values above max(h, w) x 1.19e-7 x the largest, which is torch's rule in float32.
    """
    return torch.linalg.matrix_rank(maps.detach().float()).float().mean(0)


@torch.no_grad()
def feature_ranks(model: nn.Module, groups: Sequence[ChannelGroup], batches: Iterable[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean rank of each channel's feature map after its activation, over all images, (C,) a group; in eval mode.

    The batch norm's output is caught and rectified here, since the activation may be a function and not a module.
    """
    totals = {g.name: torch.zeros(g.width, device=g.layer.weight.device) for g in groups}
    count = 0

    def catch(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def hook(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            totals[name] += len(output) * map_ranks(F.relu(output))

        return hook

    handles = [g.bn.register_forward_hook(catch(g.name)) for g in groups]
    was = model.training
    model.eval()
    try:
        for x in batches:
            model(x)
            count += len(x)
    finally:
        model.train(was)
        for handle in handles:
            handle.remove()
    return {n: total / count for n, total in totals.items()}
