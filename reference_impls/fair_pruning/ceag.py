"""A network pruned gradually, then trained on so that no group loses more accuracy than all do (CEAG).

Paper: Hashemizadeh, Ramirez, Sukumaran, Farnadi, Lacoste-Julien, Gallego-Posada. Balancing Act: Constraining Disparate Impact in
Sparse Models. ICLR 2024, arXiv 2310.20673.

Deviations: all convolutions and linear layers are pruned, by one threshold, where the paper leaves the first and the last dense;
accuracy of all groups is that of the batch, where the code takes it over the full memories. Pruned and constrained on the pruning
rows, which the dense network has not seen, and not on those that it was trained on. It is pruned for as many epochs as
others are fine-tuned, and trained under the constraints for as many again; the multipliers' rate and the memory are larger than
the paper's, since there are fewer steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.image_pruning.gmp import Shrinking
from reference_impls.parts.fair import Cut, Early, Pruner, Together, Watched, asked, dense, held, kept_count
from reference_impls.parts.fairness import Loss
from reference_impls.parts.sparse import weighted
from reference_impls.parts.training import Hooks, Trainer
from suite.naming import UserError
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["Ceag"]

Batch = tuple[torch.Tensor, torch.Tensor]  #: examples and (n, 2) labels and groups
Kind = Literal["accuracy", "loss"]


@dataclass(frozen=True)
class Ceag(Pruner):
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    tolerance: float = 0.01  #: tol: how much more accuracy than all together a group may lose
    dual_rate: float = 0.05  #: eta_d, of the multipliers
    memory: int = 200  #: last examples of a group that its accuracy is taken over
    constraint: Kind = "accuracy"  #: loss: every group's loss shall be that of all (equalised loss)
    interval: int = 0  #: steps between two removals; 0: an epoch

    def __post_init__(self) -> None:
        if self.memory < 1 or self.tolerance < 0 or self.dual_rate < 0:
            raise UserError("memory must be 1 or more, tolerance and dual_rate 0 or more")

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        """The dense network, gradually pruned; as many epochs as that took are left for the constraints."""
        asked(problem, "nonzero")
        model = dense(problem, trainer, loss)
        whole = copy.deepcopy(model)
        watch = problem.watch(whole)
        layers = weighted(model)
        count = kept_count(problem, sum(m.weight.numel() for m in layers.values()))
        steps = problem.tune_epochs * problem.steps_per_epoch
        shrinking = Shrinking(layers, count, self.interval or problem.steps_per_epoch, steps)
        hooks = Together(shrinking, Early(watch, model, steps))
        trainer.fit("prune", model, problem.tune, epochs=problem.tune_epochs, hooks=hooks)
        shrinking.finish()
        return Cut(model, shrinking.masks, problem.tune_epochs, whole, watch)

    def solve(self, problem: FairProblem) -> FairNetwork:
        trainer = Trainer(problem)
        cut = self.cut(problem, trainer)
        assert cut.dense is not None
        assert cut.watch is not None
        balance = Balance(self, problem, cut.dense)
        watched = Watched(cut.watch, cut.model, problem.tune_epochs * problem.steps_per_epoch)
        hooks = Together(held(cut.model, cut.masks), balance, watched)
        model = trainer.fit("tune", cut.model, problem.tune, epochs=cut.epochs, hooks=hooks, loss=balance.loss)
        notes = {f"multiplier_{group}": value for group, value in enumerate(balance.multipliers.tolist())} | balance.slack(model)
        return FairNetwork(model, notes, dense=cut.dense, reached=cut.watch.reached)


class Balance(Hooks):
    """The constraints and their multipliers: in every batch these take their step first, then `loss` is what weights descend."""

    def __init__(self, method: Ceag, problem: FairProblem, whole: nn.Module) -> None:
        self.method, self.problem, self.whole = method, problem, whole
        self.groups = problem.group_count
        self.multipliers = torch.zeros(self.groups, device=problem.device)
        self.memory = Memory(self.groups, method.memory, problem.device)
        self.dense: Measures = {}

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.dense:
            self.dense = measures(self.whole, self.problem.everyone(), self.groups)

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The Lagrangian of a batch; the multipliers' step is taken in here, between the forward and the backward pass."""
        logits, (label, group) = model(x), y.unbind(1)
        losses = F.cross_entropy(logits, label, reduction="none", label_smoothing=self.problem.tune.label_smoothing)
        of_groups, there = group_means(losses, group, self.groups)
        if self.method.constraint == "loss":
            self._ascend(losses.detach().float(), group)
            return losses.mean() + (self.multipliers * (of_groups - losses.mean()) * there).sum()
        self._ascend((logits.detach().argmax(1) == label).float(), group)
        gaps = surrogate(of_groups, self.dense["group_loss"], losses.mean(), self.dense["loss"])
        return losses.mean() + (self.multipliers * gaps * there).sum()

    def slack(self, model: nn.Module) -> dict[str, float]:
        """Points by which the worst group stays within the tolerance on the pruning rows; negative: by which it does not."""
        if self.problem.spec.division == "speed":
            return {}
        now = measures(model, self.problem.everyone(booked=False), self.groups)
        dense = self.dense
        missed = violation(
            now["group_accuracy"], dense["group_accuracy"], now["accuracy"], dense["accuracy"], self.method.tolerance
        )
        return {"slack": -100 * float(missed.max())}

    def _ascend(self, values: torch.Tensor, group: torch.Tensor) -> None:
        with torch.autocast(values.device.type, enabled=False):  # counts, not products of a network
            self.memory.add(values, group)
            of_groups, full = self.memory.means()
        if self.method.constraint == "loss":
            missed = of_groups - values.mean()
        else:
            dense = self.dense
            missed = violation(of_groups, dense["group_accuracy"], values.mean(), dense["accuracy"], self.method.tolerance)
        equal = self.method.constraint == "loss"
        self.multipliers = ascended(self.multipliers, missed, full, self.method.dual_rate, equal=equal)

    def state(self) -> dict[str, Any]:
        return {"multipliers": self.multipliers, "memory": self.memory.kept, "dense": self.dense}

    def restore(self, state: Mapping[str, Any]) -> None:
        device = self.problem.device
        self.multipliers = state["multipliers"].to(device)
        self.memory.kept = [k.to(device) for k in state["memory"]]
        self.dense = {n: m.to(device) for n, m in state["dense"].items()}


class Memory:
    """The last `size` values of each group, in the order in which they came."""

    def __init__(self, groups: int, size: int, device: torch.device | str = "cpu") -> None:
        self.size = size
        self.kept = [torch.zeros(0, device=device) for _ in range(groups)]

    def add(self, values: torch.Tensor, group: torch.Tensor) -> None:
        """Those of a batch, (n,), with their groups, (n,)."""
        self.kept = [torch.cat([kept, values[group == g]])[-self.size :] for g, kept in enumerate(self.kept)]

    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """By group the mean, 0 where there is nothing, and whether the memory is full, (groups,) each."""
        full = torch.tensor([len(k) == self.size for k in self.kept], device=self.kept[0].device)
        return torch.stack([k.sum() / max(1, len(k)) for k in self.kept]), full


def violation(
    accuracy_of_group: torch.Tensor,
    dense_of_group: torch.Tensor,
    accuracy: torch.Tensor | float,
    dense_accuracy: torch.Tensor | float,
    tolerance: float,
) -> torch.Tensor:
    """How much more accuracy each group has lost than all and the tolerance allow, (groups,); above 0: too much."""
    return (dense_of_group - accuracy_of_group) - (dense_accuracy - accuracy) - tolerance


def surrogate(
    loss_of_group: torch.Tensor,
    dense_of_group: torch.Tensor,
    loss: torch.Tensor | float,
    dense_loss: torch.Tensor | float,
) -> torch.Tensor:
    """What stands for the violation in the weights' gradient: how much more each group's loss has grown than that of all."""
    return (loss_of_group - dense_of_group) - (loss - dense_loss)


def ascended(
    multipliers: torch.Tensor, missed: torch.Tensor, full: torch.Tensor, rate: float, *, equal: bool = False
) -> torch.Tensor:
    """Multipliers after a step up the violation, (groups,); those of inequalities stay at 0 or above.

    Args:
        missed: violations.
        full: bool; a group that is not takes no step.
        equal: whether the constraints are equalities, whose multipliers have either sign.
    """
    stepped = multipliers + rate * missed
    return torch.where(full, stepped if equal else stepped.clamp_min(0), multipliers).to(multipliers.dtype)


def group_means(values: torch.Tensor, group: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """By group the mean of values (n,), 0 where there is none, and whether there is one, (groups,) each."""
    members = F.one_hot(group, groups).to(values.dtype)
    count = members.sum(0)
    return values @ members / count.clamp_min(1), count > 0


Measures = dict[str, torch.Tensor]  #: accuracy and loss of all, group_accuracy and group_loss (groups,)


@torch.no_grad()
def measures(model: nn.Module, batches: Iterable[Batch], groups: int) -> Measures:
    """Accuracy and mean cross-entropy of all and of each group, in eval mode; the model is left as it was."""
    device = next(model.parameters()).device
    sums = torch.zeros(3, groups, dtype=torch.float64, device=device)
    was = model.training
    model.eval()
    for x, y in batches:
        logits, (label, group) = model(x).float(), y.unbind(1)
        hit, loss = (logits.argmax(1) == label).double(), F.cross_entropy(logits, label, reduction="none").double()
        sums += torch.stack([torch.ones_like(hit), hit, loss]) @ F.one_hot(group, groups).double()
    model.train(was)
    means, overall = sums[1:] / sums[0].clamp_min(1), sums[1:].sum(1) / sums[0].sum().clamp_min(1)
    found = {"group_accuracy": means[0], "group_loss": means[1], "accuracy": overall[0], "loss": overall[1]}
    return {n: m.float() for n, m in found.items()}
