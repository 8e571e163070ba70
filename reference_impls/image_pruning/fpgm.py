"""Filters nearest to their layer's geometric median are zeroed, chosen anew after every epoch, and go at the end (FPGM).

Paper: He, Liu, Wang, Hu, Yang. Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration.
CVPR 2019, arXiv 1811.00250. `rule=sfp`: He, Kang, Dong, Fu, Yang. Soft Filter Pruning for Accelerating Deep Convolutional
Neural Networks. IJCAI 2018, arXiv 1808.06866.

Within an epoch a zeroed filter gets no gradient, as in the authors' code (`pruning_cifar10.py`, `do_grad_mask`); only momentum
moves it.  Where it may learn (`hold=false`, as SFP's filters do) batch norm stretches its first small steps to full size at
once, and zeroing it for good costs as much at the end as at the beginning.

Deviations: one rate for all layers is bisected to the operations target (the paper's is 0.4; `rate` fixes it); only the inner
channels of residual blocks go. A zeroed filter still sends its batch norm's shift on; before it is sliced away, that is
moved into the next layer, so that the deployed network is the zeroed one but for the borders of its maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.channels import target_macs, uniform_widths, widths_of
from reference_impls.parts.filters import Masks, inner
from reference_impls.parts.training import Hooks, Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.channels import ChannelGroup
from tasks.images.recipes import Recipe

__all__ = ["Fpgm"]


@dataclass(frozen=True)
class Fpgm:
    """Symbols as in the released code: rate_norm is a share kept, rate = rate_dist (sfp: rate) a share removed."""

    version: ClassVar[int] = 1

    rule: Literal["fpgm", "sfp"] = "fpgm"  #: nearest to the geometric median, or smallest norm (SFP)
    rate: float | None = None  #: None: whatever meets the operations target
    rate_norm: float = 1.0  #: fpgm: 1 - rate_norm of the filters go by their norm first
    hold: bool | None = None  #: whether zeroed filters get no gradient until the choice is made anew; None: fpgm's do not, sfp's do
    floor: float = 0.1  #: share of its channels that a layer always keeps

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        groups = inner(problem.groups(model))
        soft = Soft(self, groups, self.removals(problem, groups))
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs, hooks=soft)
        keep = soft.zero()
        absorb_(model, groups, keep)
        return Network(problem.compact(model, keep), {"widths": widths_of(keep)})

    def removals(self, problem: ImageProblem, groups: Sequence[ChannelGroup]) -> dict[str, tuple[int, int]]:
        """Filters that go by their norm, and by their distances, in each layer."""
        share = 0.0 if self.rule == "sfp" else 1 - self.rate_norm
        if self.rate is None:
            widths = uniform_widths(groups, problem.macs_of, target_macs(problem), self.floor)
            gone = {g.name: g.width - widths[g.name] for g in groups}
        else:
            gone = {g.name: int(g.width * share) + int(g.width * self.rate) for g in groups}
        if self.rule == "sfp":
            return {n: (count, 0) for n, count in gone.items()}
        by_norm = {g.name: min(gone[g.name], int(g.width * share)) for g in groups}
        return {n: (by_norm[n], count - by_norm[n]) for n, count in gone.items()}


class Soft(Hooks):
    """Zeroes filters before the first epoch and after every one.

    After an epoch means as the next begins, before which nothing reads the weights but the curve's validation.
    """

    def __init__(self, method: Fpgm, groups: Sequence[ChannelGroup], removals: dict[str, tuple[int, int]]) -> None:
        self.groups, self.removals = groups, removals
        self.hold = method.rule == "fpgm" if method.hold is None else method.hold
        self.keep: Masks = {}

    def before_epoch(self, epoch: int) -> None:
        self.keep = self.zero()

    def after_backward(self) -> bool:
        for g in self.groups if self.hold else ():
            if g.layer.weight.grad is not None:
                g.layer.weight.grad.mul_(self.keep[g.name].view(-1, 1, 1, 1))
        return True

    @torch.no_grad()
    def zero(self) -> Masks:
        """Choose anew by the present weights, zero the rest; returns the masks."""
        keep = {}
        for g in self.groups:
            by_norm, by_distance = self.removals[g.name]
            masks = norm_mask(g.layer.weight, by_norm), median_mask(g.layer.weight, by_norm, by_distance)
            keep[g.name] = masks[0] & masks[1]
            g.layer.weight.mul_(keep[g.name].view(-1, 1, 1, 1))
        return keep


def norm_mask(weight: torch.Tensor, count: int) -> torch.Tensor:
    """Mask without the `count` filters of smallest L2 norm, (C, ...) to (C,) bool."""
    return _without(weight.detach().flatten(1).norm(dim=1), count)


def median_mask(weight: torch.Tensor, by_norm: int, count: int) -> torch.Tensor:
    """Mask without the `count` filters nearest to the geometric median, (C, ...) to (C,) bool.

    Nearest is who has the smallest sum of Euclidean distances to the others.  The `by_norm` filters of
    smallest norm take no part, and stay in this mask, also where `count` is more than the others are.
    """
    filters = weight.detach().flatten(1).double()
    others = norm_mask(weight, by_norm)
    sums = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")[:, others].sum(1)
    return _without(sums.masked_fill(~others, torch.inf), min(count, int(others.sum())))


@torch.no_grad()
def absorb_(model: nn.Module, groups: Sequence[ChannelGroup], keep: Masks) -> None:
    """Move the constants that zeroed filters send through their batch norms into what follows the next layer, in place.

    In eval mode a filter of zeros is the constant relu(shift - scale mean / deviation).  A linear layer takes it into
    its bias; of a convolution the next batch norm does, exactly but for the maps' padded borders.
    """
    modules = list(model.modules())
    for g in groups:
        bn, consumer = g.bn, g.consumer
        assert bn.running_mean is not None
        assert bn.running_var is not None
        constant = F.relu(bn.bias - bn.weight * bn.running_mean / (bn.running_var + bn.eps).sqrt()) * ~keep[g.name]
        if isinstance(consumer, nn.Linear):
            consumer.bias += consumer.weight @ constant
        elif consumer is not None:
            after = next(m for m in modules[modules.index(consumer) :] if isinstance(m, nn.BatchNorm2d))
            after.running_mean -= consumer.weight.flatten(2).sum(2) @ constant  # type: ignore[operator]


def _without(scores: torch.Tensor, count: int) -> torch.Tensor:
    mask = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    mask[torch.sort(scores, stable=True).indices[:count]] = False
    return mask
