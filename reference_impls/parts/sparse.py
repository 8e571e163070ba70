"""Named parts of unstructured sparsity: which weights may go, how many stay, who they are, and masks that hold in training.

A mask is a bool tensor of a weight's shape under the name of its module; True stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from reference_impls.parts.training import Hooks
from suite.naming import UserError

if TYPE_CHECKING:
    from tasks.images.problem import PrunableProblem

Masks = dict[str, torch.Tensor]
MOMENTA = ("momentum_buffer", "exp_avg", "exp_avg_sq")  #: what SGD and AdamW keep of a weight's gradients


def weighted(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers by name, in module order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def maskable(model: nn.Module, *, stem: bool = False, classifier: bool = True) -> dict[str, nn.Conv2d | nn.Linear]:
    """Layers whose weights may go; the first convolution and the classifier on request."""
    layers = weighted(model)
    first = next(iter(layers))
    return {n: m for n, m in layers.items() if (stem or n != first) and (classifier or not isinstance(m, nn.Linear))}


def target_count(problem: PrunableProblem, model: nn.Module, layers: Iterable[str]) -> int:
    """Weights of `layers` that stay, so that the share of all convolution and linear weights is the Spec's ``nonzero``.

    Raises UserError where the target is of another kind, or what may not go is more already.
    """
    share = problem.spec.targets.get("nonzero")
    if share is None or not 0 < share <= 1:
        raise UserError(f"target {problem.spec.target!r}: this method needs nonzero=SHARE, for example nonzero=0.2")
    chosen = set(layers)
    sizes = {n: m.weight.numel() for n, m in weighted(model).items()}
    fixed = sum(size for n, size in sizes.items() if n not in chosen)
    count = round(share * sum(sizes.values())) - fixed
    if count < 1:
        raise UserError(
            f"target {problem.spec.target!r}: {fixed:,} weights of this network may not go, which is more; ask for more"
        )
    return count


def places(scores: Mapping[str, torch.Tensor], among: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Each score's place over all layers together, int64, 0 for the largest; ties go to the earlier layer, the lower index.

    Args:
        scores: a tensor a layer; NaN counts as smallest.
        among: masks; what lies outside of them comes last.
    """
    flat = torch.cat([s.detach().flatten().double() for s in scores.values()]).nan_to_num(nan=-math.inf)
    order = torch.sort(flat, descending=True, stable=True).indices
    if among is not None:
        # below every score, -inf included: the order is by (free, score)
        free = torch.cat([among[n].flatten() for n in scores])
        order = order[torch.sort(free[order].int(), descending=True, stable=True).indices]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    pieces = place.split([s.numel() for s in scores.values()])
    return {n: piece.view(s.shape) for (n, s), piece in zip(scores.items(), pieces, strict=True)}


def keep_top(scores: Mapping[str, torch.Tensor], count: int, among: Mapping[str, torch.Tensor] | None = None) -> Masks:
    """Masks of the `count` largest scores over all layers together, no more than there are `among` those of these masks.

    NaN and ties: as `places` has them.
    """
    count = count if among is None else min(count, alive(among))
    return {n: place < count for n, place in places(scores, among).items()}


def magnitudes(layers: Mapping[str, nn.Conv2d | nn.Linear]) -> dict[str, torch.Tensor]:
    """Absolute weights by layer."""
    return {n: m.weight.detach().abs() for n, m in layers.items()}


def alive(masks: Mapping[str, torch.Tensor]) -> int:
    """How many weights the masks keep."""
    return int(sum(int(m.sum()) for m in masks.values()))


@torch.no_grad()
def apply_masks(layers: Mapping[str, nn.Conv2d | nn.Linear], masks: Mapping[str, torch.Tensor]) -> None:
    """Zero the masked weights, in place."""
    for name, mask in masks.items():
        layers[name].weight.mul_(mask)


def erk_densities(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Erdos-Renyi-Kernel densities (Chase's initialisation; Evci et al. 2020): share of weights that each layer keeps.

    A layer's raw share is the sum of its dimensions over their product; one factor scales all shares to
    the total, and layers that would exceed 1 are dense.
    """
    size = {n: math.prod(s) for n, s in shapes.items()}
    raw = {n: sum(s) / math.prod(s) for n, s in shapes.items()}
    dense: set[str] = set()
    while len(dense) < len(shapes):
        sparse = [n for n in shapes if n not in dense]
        wanted = density * sum(size[n] for n in sparse) - (1 - density) * sum(size[n] for n in dense)
        factor = wanted / sum(raw[n] * size[n] for n in sparse)
        largest = max(raw[n] for n in sparse)
        if largest * factor <= 1:
            return {n: 1.0 if n in dense else max(0.0, factor * raw[n]) for n in shapes}
        dense |= {n for n in sparse if raw[n] == largest}
    return dict.fromkeys(shapes, 1.0)


def erk_counts(shapes: Mapping[str, tuple[int, ...]], count: int) -> dict[str, int]:
    """Whole weights a layer at ERK densities, `count` in all: largest remainders are rounded up."""
    return whole_counts(shapes, erk_densities(shapes, count / sum(map(math.prod, shapes.values()))), count)


def uniform_counts(shapes: Mapping[str, tuple[int, ...]], count: int) -> dict[str, int]:
    """Whole weights a layer at one density for all, `count` in all: largest remainders are rounded up."""
    return whole_counts(shapes, dict.fromkeys(shapes, count / sum(map(math.prod, shapes.values()))), count)


def whole_counts(shapes: Mapping[str, tuple[int, ...]], shares: Mapping[str, float], count: int) -> dict[str, int]:
    """Whole weights a layer at these densities, `count` in all: largest remainders are rounded up."""
    size = {n: math.prod(s) for n, s in shapes.items()}
    counts = {n: min(size[n], int(shares[n] * size[n])) for n in shapes}
    by_remainder = sorted(shapes, key=lambda n: counts[n] - shares[n] * size[n])
    missing = count - sum(counts.values())
    for name in by_remainder * (1 + max(0, missing) // max(1, len(shapes))):
        if missing > 0 and counts[name] < size[name]:
            counts[name] += 1
            missing -= 1
    return counts


def random_masks(layers: Mapping[str, nn.Conv2d | nn.Linear], counts: Mapping[str, int], seed: int) -> Masks:
    """Masks of `counts` random weights a layer."""
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, layer in layers.items():
        mask = torch.zeros(layer.weight.numel(), dtype=torch.bool)
        mask[torch.randperm(len(mask), generator=generator)[: counts[name]]] = True
        masks[name] = mask.view(layer.weight.shape).to(layer.weight.device)
    return masks


def shuffled(mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As many weights of the layer, at random."""
    order = torch.randperm(mask.numel(), generator=generator).to(mask.device)
    return mask.flatten()[order].view(mask.shape)


class Masked(Hooks):
    """Holds masks through training: weights and momentum are zero outside them after every step."""

    def __init__(self, layers: Mapping[str, nn.Conv2d | nn.Linear], masks: Masks) -> None:
        self.layers, self.masks = dict(layers), masks
        self.optimizer: torch.optim.Optimizer | None = None
        apply_masks(self.layers, masks)

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.after_step()

    @torch.no_grad()
    def after_step(self) -> None:
        momenta = self.optimizer.state if self.optimizer is not None else {}
        for name, mask in self.masks.items():
            weight = self.layers[name].weight
            weight.mul_(mask)
            kept = momenta.get(weight, {})
            for momentum in (kept[k] for k in MOMENTA if kept.get(k) is not None):
                momentum.mul_(mask)

    def state(self) -> dict[str, Any]:
        return {"masks": self.masks}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.masks = dict(state["masks"])


class Exploring(Masked):
    """Masks that move during training: `explore` is called at every `interval`-th step, before the optimizer's.

    Where it returns False the optimizer rests at that step.  Steps count from 1 over the stage.
    """

    def __init__(self, layers: Mapping[str, nn.Conv2d | nn.Linear], masks: Masks, interval: int) -> None:
        super().__init__(layers, masks)
        self.interval, self.step = interval, 0

    def after_backward(self) -> bool:
        self.step += 1
        return self.explore() if self.step % self.interval == 0 else True

    def explore(self) -> bool:
        """Change `masks`; gradients of all weights, masked ones too, are at hand."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        return {**super().state(), "step": self.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.step = int(state["step"])


def small_interval(steps_per_epoch: int, tier: str = "small", least: int = 50) -> int:
    """Steps between two changes of the masks (RigL's Delta T): 100 on the paper tier, else max(least, half an epoch)."""
    return 100 if tier == "paper" else max(least, steps_per_epoch // 2)
