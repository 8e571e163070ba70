"""During fine-tuning the channels whose gates move the loss least are removed, some at a time (Taylor-FO-BN).

Paper: Molchanov, Mallya, Tyree, Frosio, Kautz. Importance Estimation for Neural Network Pruning. CVPR 2019, arXiv 1906.10771.

Deviations: channels are removed down to the operations target, in 30 removals of equal number, every 10 batches or as often as
makes them fit into half of the fine-tuning; every layer keeps a tenth. Only the inner channels of residual blocks go, so no
gate is shared and none is divided. No gates are built: their gradient is had from those of the batch norm. Two thirds of
the budget train the dense network; the last third fine-tunes at a tenth of its rate and with its weight decay (the paper:
a rate of 0.001, no decay).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from reference_impls.parts.channels import target_macs, widths_of
from reference_impls.parts.filters import Masks, inner, keep_best, protected, split
from reference_impls.parts.training import Hooks, Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.channels import mask_
from tasks.images.recipes import Recipe

__all__ = ["Taylor"]


@dataclass(frozen=True)
class Taylor:
    """Settings as in the released code."""

    version: ClassVar[int] = 1

    removals: int = 30  #: of equal number, fewer where training is short
    interval: int = 10  #: batches between them, fewer where training is short
    momentum: float = 0.9  #: of the scores from one removal to the next
    pretrain: float = 2 / 3  #: share of the budget that trains the dense network before pruning
    floor: float = 0.1  #: share of its channels that a layer always keeps

    def solve(self, problem: ImageProblem) -> Network:
        trainer, recipe, model = Trainer(problem), Recipe.of(problem), problem.model()
        before, tune = split(problem.epochs, (self.pretrain, 1 - self.pretrain))
        removing = Removing(self, problem, model, tune * problem.steps_per_epoch)
        trainer.fit("train", model, recipe, epochs=before)
        trainer.fit("fine_tune", model, recipe.fine_tune(), epochs=tune, hooks=removing)
        removing.finish()
        return Network(problem.compact(model, removing.keep), {"widths": widths_of(removing.keep)})


class Removing(Hooks):
    """Sums squared gate gradients over batches; at each removal the smallest means go, smoothed by momentum."""

    def __init__(self, method: Taylor, problem: ImageProblem, model: nn.Module, steps: int) -> None:
        self.method, self.problem, self.target = method, problem, target_macs(problem)
        self.groups = inner(problem.groups(model))
        self.removals, self.interval = timetable(steps, method.removals, method.interval)
        self.least = protected({g.name: g.width for g in self.groups}, method.floor)
        self.keep: Masks = {g.name: torch.ones_like(g.bn.weight, dtype=torch.bool) for g in self.groups}
        self.sums = {g.name: torch.zeros_like(g.bn.weight.detach()) for g in self.groups}
        self.averages: dict[str, torch.Tensor] = {}
        self.batches, self.done = 0, 0

    @torch.no_grad()
    def after_backward(self) -> bool:
        if self.done < self.removals:
            for g in self.groups:
                self.sums[g.name] += gate_gradients(g.bn) ** 2
            self.batches += 1
        return True

    def after_step(self) -> None:
        if self.batches == self.interval:
            self.remove()
        mask_(self.groups, self.keep)

    @torch.no_grad()
    def remove(self) -> None:
        means = {n: s / max(1, self.batches) for n, s in self.sums.items()}
        self.averages = {n: smoothed(self.averages.get(n), m, self.method.momentum) for n, m in means.items()}
        steps = self.removals - self.done
        self.keep = keep_best(self.averages, self.problem.macs_of, self.target, self.least, self.keep, steps)
        for s in self.sums.values():
            s.zero_()
        self.batches, self.done = 0, self.done + 1

    def finish(self) -> None:
        """All that is left to remove at once: the `speed` division sees no batch, so all its scores are equal."""
        if self.done < self.removals:
            self.done = self.removals - 1
            self.remove()

    def state(self) -> dict[str, Any]:
        tensors = {"keep": self.keep, "sums": self.sums, "averages": self.averages}
        return {**tensors, "batches": self.batches, "done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.keep, self.sums, self.averages = dict(state["keep"]), dict(state["sums"]), dict(state["averages"])
        self.batches, self.done = int(state["batches"]), int(state["done"])


def gate_gradients(bn: nn.BatchNorm2d) -> torch.Tensor:
    """dL/dz of gates z = 1 on the batch norm's output channels, (C,), from the gradients of its scale and shift.

    With y = z (gamma x + beta): dL/dz = gamma dL/dgamma + beta dL/dbeta.
    """
    assert bn.weight.grad is not None
    assert bn.bias.grad is not None
    return bn.weight.detach() * bn.weight.grad + bn.bias.detach() * bn.bias.grad


def smoothed(before: torch.Tensor | None, now: torch.Tensor, momentum: float) -> torch.Tensor:
    """momentum x before + (1 - momentum) x now; the first time, now."""
    return now if before is None else momentum * before + (1 - momentum) * now


def timetable(steps: int, removals: int, interval: int) -> tuple[int, int]:
    """How many removals, and every how many steps, so that they fit into half of the steps."""
    half = max(1, steps // 2)
    removals = min(removals, half)
    return removals, min(interval, half // removals)
