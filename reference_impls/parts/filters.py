"""Named parts of filter pruning: the one-shot course, global ranking with a protected tenth, removal in equal steps.

A mask is a bool tensor (C,) under the name of its group; True stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import nn

from reference_impls.parts.channels import MacsOf, close_gap, largest, ranked_widths, target_macs, widths_of
from reference_impls.parts.training import Hooks, Trainer
from tasks.images.channels import ChannelGroup
from tasks.images.problem import Network, PrunableProblem
from tasks.images.recipes import Recipe

Masks = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """A stretch of training, as long as its part of the budget."""

    name: str
    parts: float
    hooks: Callable[[nn.Module], Hooks] | None = None
    gentle: bool = False  #: at the rates of fine-tuning


class OneShot:
    """A method that trains the dense network, cuts once, and fine-tunes: says in what stages, and who is kept."""

    def stages(self, problem: PrunableProblem) -> list[Stage]:
        """What trains, in order; the cut comes before the last."""
        raise NotImplementedError

    def choose(self, problem: PrunableProblem, model: nn.Module) -> Masks:
        """Masks of the channels of a trained network that are kept."""
        raise NotImplementedError

    def cut(self, problem: PrunableProblem, model: nn.Module) -> tuple[nn.Module, Masks]:
        """A physically smaller network, and the masks that say what is left."""
        keep = self.choose(problem, model)
        return problem.compact(model, keep), keep

    def solve(self, problem: PrunableProblem) -> Network:
        target_macs(problem)  # the wrong kind of target ends here, not after the training
        trainer, recipe, model = Trainer(problem), Recipe.of(problem), problem.model()
        stages = self.stages(problem)
        keep: Masks = {}
        for stage, epochs in zip(stages, split(problem.epochs, [s.parts for s in stages]), strict=True):
            if stage is stages[-1]:
                model, keep = self.cut(problem, model)
            hooks = stage.hooks(model) if stage.hooks else None
            trainer.fit(stage.name, model, recipe.fine_tune() if stage.gentle else recipe, epochs=epochs, hooks=hooks)
        return Network(model, {"widths": widths_of(keep)})


def train_and_tune(pretrain: float, hooks: Callable[[nn.Module], Hooks] | None = None) -> list[Stage]:
    """The usual stages: `pretrain` is the share of the budget before the cut."""
    return [Stage("train", pretrain, hooks), Stage("fine_tune", 1 - pretrain, gentle=True)]


def split(epochs: int, parts: Sequence[float]) -> list[int]:
    """Epochs in these proportions, rounded at the joints, `epochs` in all; each gets one while there are enough."""
    total, ends = sum(parts), [0]
    for i, end in enumerate(accumulate(parts)):
        latest = epochs - (len(parts) - 1 - i)
        ends.append(max(ends[-1], min(max(round(epochs * end / total), ends[-1] + 1), latest)))
    return [b - a for a, b in pairwise(ends)]


def inner(groups: Iterable[ChannelGroup]) -> list[ChannelGroup]:
    """Groups that can be sliced: those whose output joins no shortcut."""
    return [g for g in groups if g.consumer is not None]


def protected(widths: Mapping[str, int], floor: float = 0.1) -> dict[str, int]:
    """Channels that each layer keeps whatever its scores: max(1, ceil(floor C)) (our own rule, for all global methods)."""
    # 0.1 x 30 is a little more than 3 in floating point
    return {n: max(1, math.ceil(round(floor * c, 9))) for n, c in widths.items()}


def keep_best(
    scores: Mapping[str, torch.Tensor],
    macs_of: MacsOf,
    target: float,
    least: Mapping[str, int],
    among: Mapping[str, torch.Tensor] | None = None,
    steps: int = 1,
) -> Masks:
    """Masks of the best channels of all layers together, or the next of `steps` equal steps down to them.

    How many channels the target costs is asked of the present scores: a step removes its share of them, rounded
    up, the smallest first; the last step meets the target.

    Args:
        scores: (C,) a layer, larger is better.
        macs_of: multiply-adds of given widths.
        target: multiply-adds to reach after all steps.
        least: channels that a layer keeps whatever its scores.
        among: masks of the channels that are left; all if None.
        steps: steps to go, this one included.
    """
    left = {n: s if among is None else s[among[n]] for n, s in scores.items()}
    full = {n: len(s) for n, s in left.items()}
    widths = close_gap(ranked_widths(left, macs_of, target, least), full, least, macs_of, target)
    if steps > 1:
        now = sum(full.values())
        count = now - math.ceil((now - sum(widths.values())) / steps)
        widths = ranked_widths(left, lambda w: sum(w.values()), count, least)
    if among is not None:
        scores = {n: s.masked_fill(~among[n], -math.inf) for n, s in scores.items()}
    return {n: largest(s, widths[n]) for n, s in scores.items()}
