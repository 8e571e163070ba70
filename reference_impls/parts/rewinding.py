"""Iterative magnitude pruning with rewinding, as lottery tickets share it (Frankle et al. 2020; Chen et al. 2022)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from reference_impls.parts.sparse import Masked, Masks, keep_top, magnitudes
from reference_impls.parts.training import Hooks, Trainer
from tasks.images.networks import initialise
from tasks.images.recipes import Recipe

if TYPE_CHECKING:
    from tasks.images.problem import PrunableProblem

State = dict[str, torch.Tensor]
#: How many weights stay at a level: of (magnitudes, masks so far, number planned, whether the level is the last).
Aim = Callable[[Mapping[str, torch.Tensor], Masks, int, bool], int]


def later(recipe: Recipe, skip: int) -> Recipe:
    """`recipe` from epoch `skip` on: what a network rewound to that epoch goes on with."""
    return replace(recipe, skip=skip)


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


def ladder(size: int, count: int, rate: float, most: int = 0, whole: Callable[[float], int] = math.ceil) -> list[int]:
    """Weights alive after each level, the last of them `count`: every level removes rate x alive, made whole, one at least.

    Where that would take more than `most` levels (0: as many as it takes), `most` levels of one larger rate.
    """
    levels, left = [], size
    while left > count:
        left = max(count, left - max(1, whole(rate * left)))
        levels.append(left)
    if most and len(levels) > most:
        return [round(size * (count / size) ** (k / most)) for k in range(1, most)] + [count]
    return levels


@dataclass(frozen=True)
class Plan:
    """How a budget of epochs is spread over a dense training and `levels` trainings from the weights of its epoch `rewind`."""

    first: int
    each: int
    rewind: int
    skip: int  #: epochs of the recipe's schedule that the others leave out: those before the rewind point, or none


def plan(epochs: int, trainings: int, rewind: float, *, fresh: bool = False) -> Plan:
    """Equal trainings, `epochs` in all; the first gets what is left over.

    Args:
        epochs: the budget, at least an epoch for each training.
        trainings: the dense one included.
        rewind: share of a training, rounded up to an epoch (0: to the initial weights).
        fresh: rewound networks are trained for a whole length under a schedule from its start (Chen et al. 2022), instead of
            from the rewind point on (Frankle et al. 2020).
    """

    def point(length: int) -> int:
        return min(math.ceil(rewind * length), length - 1)

    def each(length: int) -> int:
        return length if fresh else length - point(length)

    length = epochs
    while length > 1 and length + (trainings - 1) * each(length) > epochs:
        length -= 1
    start = point(length)
    return Plan(epochs - (trainings - 1) * each(length), each(length), start, 0 if fresh else start)


def rounds(
    problem: PrunableProblem,
    size: int,
    count: int,
    rate: float,
    most: int,
    rewind: float,
    spared: int = 0,
    *,
    fresh: bool = False,
    whole: Callable[[float], int] = math.ceil,
) -> tuple[list[int], Plan]:
    """Levels from `size` weights down to `count`, and how the budget, `spared` epochs of it left out, is spread over them.

    Many arguments, as the papers that rewind differ in each.

    In the closed division all trainings share the budget, so there are at most `most` levels, each of an epoch at least;
    elsewhere every training has all of it, and there are as many levels as `rate` asks for.
    """
    epochs = problem.epochs - spared
    if problem.spec.division == "closed":
        counts = ladder(size, count, rate, max(1, min(most, epochs - 1)), whole) or [count]
        return counts, plan(epochs, 1 + len(counts), rewind, fresh=fresh)
    start = round(rewind * epochs)
    skip = 0 if fresh else start
    return ladder(size, count, rate, whole=whole) or [count], Plan(epochs, epochs - skip, start, skip)


def tickets(
    trainer: Trainer,
    model: nn.Module,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    counts: Sequence[int],
    recipe: Recipe,
    spread: Plan,
    aim: Aim | None = None,
) -> tuple[Masks, State]:
    """Train, prune to `counts[0]`, rewind, train, prune to `counts[1]`, ...; the last training is left to the caller.

    `aim` may correct a count once the weights are known that are to be cut.  Returns the last masks, and the state to
    rewind to; the model holds the trained weights that the masks were cut from.
    """
    memory = Remember(model, spread.rewind)
    trainer.fit("dense", model, recipe, epochs=spread.first, hooks=memory)
    masks: Masks = {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()}
    for level, count in enumerate(counts):
        if level:
            model.load_state_dict(memory.kept)
            trainer.fit(f"level {level}", model, later(recipe, spread.skip), epochs=spread.each, hooks=Masked(layers, masks))
        scores = magnitudes(layers)
        kept = aim(scores, masks, count, level == len(counts) - 1) if aim else count
        masks = keep_top(scores, kept, among=masks)
    return masks, memory.kept


def train_ticket(
    trainer: Trainer, model: nn.Module, rewound: State, recipe: Recipe, spread: Plan, hooks: Hooks, redrawn: int | None = None
) -> None:
    """The training after the last level, in place: from the rewound weights, or as a control from ones drawn by a seed."""
    model.load_state_dict(rewound)
    if redrawn is not None:
        redraw(model, redrawn)
    trainer.fit("ticket", model, later(recipe, spread.skip), epochs=spread.each, hooks=hooks)


def redraw(model: nn.Module, seed: int) -> None:
    """Other initial weights for the whole network: the control of every ticket."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for m in model.modules():
            initialise(m)
