"""What the pruners of fair_pruning share: the dense checkpoint, what is cut from it, and the training after the cut."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reference_impls.parts.fairness import Constraint, Loss, constrained
from reference_impls.parts.sparse import Masked, Masks, weighted
from reference_impls.parts.training import Hooks, Trainer
from suite.naming import UserError
from tasks.fair_pruning.problem import FairNetwork, FairProblem, Watch
from tasks.images.channels import ChannelGroup


@dataclass(frozen=True)
class Cut:
    """A network that was cut and what is left to train it."""

    model: nn.Module
    masks: Masks  #: of its weights; empty: what went is out of the network
    epochs: int  #: of the pruning rows, left for what follows
    dense: nn.Module | None  #: the dense network that it was cut from, as it was
    watch: Watch | None  #: None: there was no dense network to be as fair as


class Pruner(ABC):
    """Prunes a network; by itself it is then fine-tuned without a constraint, on the mask that was found."""

    @abstractmethod
    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        """Train what is pruned, and prune it.

        Args:
            loss: of the training before the cut; None: the recipe's.
        """

    def solve(self, problem: FairProblem) -> FairNetwork:
        trainer = Trainer(problem)
        return tuned(problem, trainer, self.cut(problem, trainer))


def dense(problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> nn.Module:
    """The dense network of the pre-training rows: the same checkpoint for every method of a seed."""
    return trainer.fit("dense", problem.model(), problem.recipe, epochs=problem.pretrain_epochs, loss=loss)


def cut_of(problem: FairProblem, model: nn.Module, masks: Masks, epochs: int | None = None, small: nn.Module | None = None) -> Cut:
    """What is cut from a dense network at once: by masks, or where it is given into a smaller one."""
    whole = copy.deepcopy(model)
    return Cut(small or model, masks, problem.tune_epochs if epochs is None else epochs, whole, problem.watch(whole))


def tuned(problem: FairProblem, trainer: Trainer, cut: Cut, constraint: Constraint | None = None) -> FairNetwork:
    """Train what is left on the pruning rows, its masks held, with a constraint or without, as long as the cut left it."""
    loss = constrained(problem.tune, constraint) if constraint else None
    hooks = Together(held(cut.model, cut.masks), Watched(cut.watch, cut.model, problem.tune_epochs * problem.steps_per_epoch))
    model = trainer.fit("tune", cut.model, problem.tune, epochs=cut.epochs, hooks=hooks, loss=loss) if cut.epochs else cut.model
    return FairNetwork(model, dense=cut.dense, reached=cut.watch.reached if cut.watch else {})


def held(model: nn.Module, masks: Masks) -> Hooks:
    """Holds masks where there are some."""
    layers = weighted(model)
    return Masked({n: layers[n] for n in masks}, masks) if masks else Hooks()


def kept_count(problem: FairProblem, total: int) -> int:
    """Weights of all convolutions and linear layers that stay: all but int((1 - k) N) of them (BiP's released `models/layers.py`).

    Raises UserError where the target is of another kind.
    """
    return total - removed(asked(problem, "nonzero"), total)


def removed(share: float, count: int) -> int:
    """How many of `count` go where a share of them stays: int((1 - k) N), in floating point as BiP's code has it."""
    return int((1 - share) * count)


def asked(problem: FairProblem, name: str) -> float:
    """The share of a target; raises UserError where it asks for something else."""
    share = problem.spec.targets.get(name)
    if share is None or not 0 < share <= 1 or len(problem.spec.targets) > 1:
        example = {"nonzero": "nonzero=0.2", "filters": "filters=0.5"}[name]
        raise UserError(f"target {problem.spec.target!r}: this method needs {name}=SHARE, for example {example}")
    return share


def by_filters(problem: FairProblem) -> bool:
    """Whether whole filters are asked for, and not single weights; raises UserError where it is neither, or there are none."""
    if "filters" in problem.spec.targets:
        asked(problem, "filters")
        filter_groups(problem, problem.model())
        return True
    asked(problem, "nonzero")
    return False


def filter_groups(problem: FairProblem, model: nn.Module) -> list[ChannelGroup]:
    """Convolutions whose filters can go; raises UserError where there is none."""
    found = [g for g in problem.groups(model) if g.consumer is not None and isinstance(g.layer, nn.Conv2d)]
    if not found:
        raise UserError(f"{problem.architecture} has no convolution whose filters can go; ask for nonzero=SHARE")
    return found


class Together(Hooks):
    """Several hooks as one, in their order; the optimizer moves where all let it."""

    def __init__(self, *hooks: Hooks) -> None:
        self.hooks = hooks

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        for h in self.hooks:
            h.begin(optimizer)

    def before_epoch(self, epoch: int) -> None:
        for h in self.hooks:
            h.before_epoch(epoch)

    def after_backward(self) -> bool:
        moves = [h.after_backward() for h in self.hooks]  # all are asked, whatever the first says
        return all(moves)

    def after_step(self) -> None:
        for h in self.hooks:
            h.after_step()

    def state(self) -> dict[str, Any]:
        return {str(i): h.state() for i, h in enumerate(self.hooks)}

    def restore(self, state: Mapping[str, Any]) -> None:
        for i, h in enumerate(self.hooks):
            h.restore(state[str(i)])


class Watched(Hooks):
    """Has a network looked at while it trains (`tasks.fair_pruning.problem.Watch`)."""

    def __init__(self, watch: Watch | None, model: nn.Module, steps: int, *, gradients: int = 1) -> None:
        self.watch, self.model, self.steps, self.gradients = watch, model, steps, gradients

    def due(self) -> bool:
        """Whether the network is as small as it is asked to be by now."""
        return True

    def after_step(self) -> None:
        if self.watch:
            self.watch.step(self.model, self.steps, gradients=self.gradients, due=self.due())

    def state(self) -> dict[str, Any]:
        return self.watch.state() if self.watch else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        if self.watch:
            self.watch.restore(state)


class Early(Watched):
    """Not as small yet as it is asked to be."""

    def due(self) -> bool:
        return False


def groups_of(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches as x, label and group."""
    return [(x, y[:, 0], y[:, 1]) for x, y in batches]


__all__: Sequence[str] = [
    "Cut",
    "Early",
    "Pruner",
    "Together",
    "Watched",
    "asked",
    "by_filters",
    "cut_of",
    "dense",
    "filter_groups",
    "groups_of",
    "held",
    "kept_count",
    "removed",
    "tuned",
]
