"""Iterative magnitude pruning with rewinding, as lottery tickets share it (pruning_baselines.md 3, structure_lth.md 2.1)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from reference_impls.parts.sparse import Masked, Masks, keep_top, magnitudes
from reference_impls.parts.training import Hooks, Recipe, Trainer
from tasks.image_pruning.models import initialise

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Later(Recipe):
    """A recipe taken up at epoch `skip`: what a network rewound to that epoch goes on with."""

    skip: int = 0

    def rate(self, epoch: int, epochs: int) -> float:
        return super().rate(epoch + self.skip, epochs + self.skip)


def later(recipe: Recipe, skip: int) -> Recipe:
    """`recipe` from epoch `skip` on."""
    return Later(**{f.name: getattr(recipe, f.name) for f in fields(Recipe)}, skip=skip)


class Remember(Hooks):
    """Keeps the model as it was at the start of an epoch; at epoch 0 as it is given."""

    def __init__(self, model: nn.Module, epoch: int) -> None:
        self.model, self.epoch = model, epoch
        self.kept: State = {} if epoch else copy.deepcopy(model.state_dict())

    def before_epoch(self, epoch: int) -> None:
        if epoch == self.epoch:
            self.kept = copy.deepcopy(self.model.state_dict())

    def state(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.kept = dict(state["kept"])


def ladder(size: int, count: int, rate: float, most: int = 0) -> list[int]:
    """Weights alive after each level, the last of them `count`: every level removes ceil(rate x alive).

    Where that would take more than `most` levels (0: as many as it takes), `most` levels of one larger rate.
    """
    levels, left = [], size
    while left > count:
        left = max(count, left - math.ceil(rate * left))
        levels.append(left)
    if most and len(levels) > most:
        return [round(size * (count / size) ** (k / most)) for k in range(1, most)] + [count]
    return levels


@dataclass(frozen=True)
class Plan:
    """How a budget of epochs is spread over a dense training and `levels` trainings that start at epoch `rewind`."""

    first: int
    each: int
    rewind: int


def plan(epochs: int, trainings: int, rewind: float) -> Plan:
    """Equal trainings: the first from 0, the others from the rewind point, `epochs` in all; the first gets what is left over.

    Args:
        epochs: the budget, at least an epoch for each training.
        trainings: the dense one included.
        rewind: share of a training, rounded up to an epoch (0: to the initial weights).
    """
    length = epochs
    while length > 1:
        point = math.ceil(rewind * length)
        if length + (trainings - 1) * (length - point) <= epochs:
            break
        length -= 1
    point = min(math.ceil(rewind * length), length - 1)
    return Plan(epochs - (trainings - 1) * (length - point), length - point, point)


def tickets(
    trainer: Trainer,
    model: nn.Module,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    counts: Sequence[int],
    recipe: Recipe,
    spread: Plan,
) -> tuple[Masks, State]:
    """Train, prune to `counts[0]`, rewind, train, prune to `counts[1]`, ...; the last training is left to the caller.

    Returns the last masks, and the state to rewind to; the model holds the trained weights that the masks were cut from.
    """
    memory = Remember(model, spread.rewind)
    trainer.fit("dense", model, recipe, epochs=spread.first, hooks=memory)
    masks: Masks = {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()}
    for level, count in enumerate(counts):
        if level:
            model.load_state_dict(memory.kept)
            trainer.fit(f"level {level}", model, later(recipe, spread.rewind), epochs=spread.each, hooks=Masked(layers, masks))
        masks = keep_top(magnitudes(layers), count, among=masks)
    return masks, memory.kept


def redraw(model: nn.Module, seed: int) -> None:
    """Other initial weights for the whole network: the control of every ticket."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for m in model.modules():
            initialise(m)
