"""Filters nearest to their layer's geometric median are zeroed, chosen anew before every epoch, and go at the end (FPGM).

Paper: He, Liu, Wang, Hu, Yang. Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration.
CVPR 2019, arXiv 1811.00250.

Deviations: starts from the dense network; zeroed filters are held within an epoch, as in the authors' code, with their bias; in the
last third of the epochs the smaller network is trained, filters that can be cut out being the only ones that go.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.image_pruning.fpgm import median_mask, norm_mask
from reference_impls.parts.fair import Cut, Pruner, Together, Watched, asked, dense, filter_groups, removed
from reference_impls.parts.fairness import Loss
from reference_impls.parts.training import Hooks, Trainer
from suite.naming import UserError
from tasks.fair_pruning.problem import FairProblem
from tasks.images.channels import ChannelGroup

__all__ = ["Fpgm"]


@dataclass(frozen=True)
class Fpgm(Pruner):
    """Symbols as in the released code."""

    version: ClassVar[int] = 1

    rate_norm: float = 1.0  #: 1 - rate_norm of the filters go by their norm first
    soft: float = 2 / 3  #: share of the pruning epochs in which filters are chosen anew; the rest trains the smaller network

    def __post_init__(self) -> None:
        if not 0 <= self.soft <= 1 or not 0 <= self.rate_norm <= 1:
            raise UserError("soft and rate_norm are shares from 0 to 1")

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        share = asked(problem, "filters")
        filter_groups(problem, problem.model())
        model = dense(problem, trainer, loss)
        groups = filter_groups(problem, model)
        gone = {g.name: removed(share, g.width) for g in groups}
        by_norm = {g.name: min(gone[g.name], int(g.width * (1 - self.rate_norm))) for g in groups}
        whole = copy.deepcopy(model)
        watch = problem.watch(whole)
        soft = Soft(groups, {n: (by_norm[n], gone[n] - by_norm[n]) for n in gone})
        epochs = min(round(self.soft * problem.tune_epochs), problem.tune_epochs)
        hooks = Together(soft, Watched(watch, model, problem.tune_epochs * problem.steps_per_epoch))
        trainer.fit("soft", model, problem.tune, epochs=epochs, hooks=hooks)
        small = problem.compact(model, soft.choose())
        return Cut(small, {}, problem.tune_epochs - epochs, whole, watch)


class Soft(Hooks):
    """Zeroes filters before every epoch and holds them until the next."""

    def __init__(self, groups: Sequence[ChannelGroup], removals: dict[str, tuple[int, int]]) -> None:
        self.groups, self.removals = groups, removals
        self.keep: dict[str, torch.Tensor] = {}

    def before_epoch(self, epoch: int) -> None:
        self.keep = self.choose()
        self.after_step()

    @torch.no_grad()
    def after_step(self) -> None:
        for g in self.groups if self.keep else ():
            g.layer.weight.mul_(self.keep[g.name].view(-1, 1, 1, 1))
            if g.layer.bias is not None:
                g.layer.bias.mul_(self.keep[g.name])

    def choose(self) -> dict[str, torch.Tensor]:
        """Masks (C,) bool of the filters that stay, by the present weights."""
        kept = {}
        for g in self.groups:
            norm, distance = self.removals[g.name]
            kept[g.name] = norm_mask(g.layer.weight, norm) & median_mask(g.layer.weight, norm, distance)
        return kept
