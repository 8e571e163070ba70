"""Batch-norm scales are pushed towards zero while the network trains; channels whose scale stays small go (network slimming).

Paper: Liu, Li, Shen, Huang, Yan, Zhang. Learning Efficient Convolutional Networks through Network Slimming. ICCV 2017,
arXiv 1708.06519.

Deviations: the share p of channels is bisected to the operations target (`share` fixes it); every layer keeps a tenth. Only
the inner channels of residual blocks are ranked and pushed. Two thirds of the budget train, one third fine-tunes, at a
tenth of the rate; the paper trains again with the whole recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from reference_impls.parts.channels import largest, target_macs
from reference_impls.parts.filters import Masks, OneShot, Stage, inner, keep_best, protected, train_and_tune
from reference_impls.parts.training import Hooks
from tasks.image_pruning.task import ImageProblem
from tasks.images.channels import ChannelGroup

__all__ = ["Slimming"]


@dataclass(frozen=True)
class Slimming(OneShot):
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    s: float = 1e-4  #: strength of the L1 pull on BN scales
    share: float | None = None  #: p, of the ranked channels, removed; None: whatever meets the operations target
    pretrain: float = 2 / 3  #: share of the budget that trains the dense network before pruning
    floor: float = 0.1  #: share of its channels that a layer always keeps

    def stages(self, problem: ImageProblem) -> list[Stage]:
        return train_and_tune(self.pretrain, lambda model: Shrinking(inner(problem.groups(model)), self.s))

    def choose(self, problem: ImageProblem, model: nn.Module) -> Masks:
        """Masks of the channels with large scales, all layers together."""
        groups = inner(problem.groups(model))
        scales = {g.name: g.bn.weight.detach().abs() for g in groups}
        least = protected({g.name: g.width for g in groups}, self.floor)
        if self.share is None:
            return keep_best(scales, problem.macs_of, target_macs(problem), least)
        return above_threshold(scales, self.share, least)


class Shrinking(Hooks):
    """Adds s sign(gamma) to the gradients of the scales: the subgradient of an L1 penalty."""

    def __init__(self, groups: Sequence[ChannelGroup], s: float) -> None:
        self.groups, self.s = groups, s

    @torch.no_grad()
    def after_backward(self) -> bool:
        for g in self.groups:
            if g.bn.weight.grad is not None:
                g.bn.weight.grad.add_(g.bn.weight.sign(), alpha=self.s)
        return True


def above_threshold(scales: Mapping[str, torch.Tensor], share: float, least: Mapping[str, int]) -> Masks:
    """Masks of the scales strictly above sort(|gamma|)[int(N p)], counted from 0; a layer keeps its `least` largest anyway."""
    ordered = torch.cat(list(scales.values())).sort().values
    threshold = ordered[min(len(ordered) - 1, int(len(ordered) * share))]
    return {n: (s > threshold) | largest(s, least[n]) for n, s in scales.items()}
