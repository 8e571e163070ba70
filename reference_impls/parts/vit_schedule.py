"""How many tokens a ViT keeps: where it prunes, how the ratio falls over a training, and which ratio costs what is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from suite.naming import UserError
from tasks.vit_training.networks import Shape, Tokens

LOW = 0.02  #: the least keep ratio that is tried
RAMP_POINTS = (0.0, 0.2, 0.4)  #: of a training: before the ramp, on it, behind it


def prune_blocks(depth: int) -> tuple[int, ...]:
    """The blocks that prune, counted from 0: at a quarter, half and three quarters of the depth (3, 6, 9 of 12)."""
    return depth // 4, depth // 2, 3 * depth // 4


def kept(count: int, ratio: float) -> int:
    """Of so many tokens how many stay: the ceiling of the plain double product, at least 1."""
    return max(1, math.ceil(count * ratio))


def keep_ratio(epoch: int, iteration: int, base: float, per_epoch: int, warmup: int, total: int) -> float:
    """Keep ratio of a step: 1 until `warmup`, then along a cosine to `base` at epoch `total` (Tri-Level E-ViT).

    Args:
        iteration: steps that are over, counted over the whole training.
        per_epoch: steps of an epoch.
    """
    if epoch < warmup:
        return 1.0
    if epoch >= total:
        return base
    done = (iteration - per_epoch * warmup) / (per_epoch * (total - warmup))
    return base + (1 - base) * 0.5 * (1 + math.cos(math.pi * done))


def milestones(epochs: int) -> tuple[int, int]:
    """Epochs at which the cosine begins and ends: 10 and 110 of 300, scaled."""
    begin = max(1, round(epochs / 30))
    return begin, max(begin + 1, round(11 * epochs / 30))


@dataclass(frozen=True)
class Ramp:
    """A keep ratio over a whole training, by its point 0 to 1."""

    base: float
    epochs: int
    per_epoch: int  #: steps
    constant: bool = False  #: from the first step on

    def at(self, point: float) -> float:
        if self.constant:
            return self.base
        # rounding first: a point is steps over steps, and 3 of 30 epochs may come as 2.9999999
        iteration = round(point * self.epochs * self.per_epoch)
        begin, end = milestones(self.epochs)
        return keep_ratio(iteration // self.per_epoch, iteration, self.base, self.per_epoch, begin, end)


def pruned(shape: Shape, ratio: float, *, fused: bool = False) -> Tokens:
    """What the blocks see where `prune_blocks` keep this share of the patches that enter them.

    A pruning block's attention sees all that enter, its MLP what stays.

    Args:
        fused: whether the dropped ones go on as one patch (EViT), unless none are dropped.
    """
    patches, tokens = shape.patches, []
    at = prune_blocks(shape.depth)
    for block in range(shape.depth):
        before = patches
        if block in at:
            stay = kept(patches, ratio)
            patches = stay + (fused and stay < patches)
        tokens.append((before + 1, patches + 1))
    return tuple(tokens)


def mean_macs(shape: Shape, tokens: Callable[[float], Tokens], steps: int) -> float:
    """Multiply-adds of an image's forward pass, the mean over the steps of a training along which tokens never become more.

    So where two steps see the same, all between them do: it is asked for few of the steps.
    """
    seen = lru_cache(maxsize=None)(lambda i: tuple(tokens(i / steps)))

    def whole(first: int, last: int) -> int:
        if seen(first) == seen(last):
            return (last - first + 1) * shape.macs(seen(first))
        middle = (first + last) // 2
        return whole(first, middle) + whole(middle + 1, last)

    return whole(0, steps - 1) / steps


@dataclass(frozen=True)
class IfMasksSaved:
    """Multiply-adds of an image's forward pass by point, where attention cost what its masks leave of it."""

    shape: Shape
    tokens: Callable[[float], Tokens]
    left: Callable[[float], float]  #: share of attention's products that masks leave, by point

    def __call__(self, point: float) -> float:
        tokens = self.tokens(point)
        products = sum(2 * n * n for n, _ in tokens) * self.shape.width
        return self.shape.macs(tokens) - products * (1 - self.left(point))


def out_of_reach(target: str, wanted: float, least: float) -> None:
    """Raises UserError where a target lies more than 1 % below the least that a method can do."""
    if least > 1.01 * wanted:
        raise UserError(f"target {target!r} is out of reach: the least here is {least:.3f}; ask for more")


def ratio_for(share: Callable[[float], float], wanted: float) -> float:
    """The ratio in `LOW`..1 at which a rising function comes nearest to what is wanted, by halving."""
    a, b = LOW, 1.0
    for _ in range(40):
        middle = (a + b) / 2
        a, b = (middle, b) if share(middle) < wanted else (a, middle)
    return min((a, b), key=lambda r: abs(share(r) - wanted))
