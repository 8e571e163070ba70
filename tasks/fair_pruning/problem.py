"""What a method of this task is given: a dense stage and a pruning stage on data of their own, and everybody's group."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from suite.naming import UserError, address
from tasks.common.scoring import MIN_GROUP
from tasks.images.problem import Network, PrunableProblem
from tasks.images.recipes import Recipe, Sgd

if TYPE_CHECKING:
    import torch
    from torch import nn

    Batch = tuple[torch.Tensor, torch.Tensor]

#: How often a network is looked at on its way to a fair one: at most so many times a stage, and not more often than this.
LOOKS, LEAST_STEPS = 24, 50


@dataclass(frozen=True)
class FairNetwork(Network):
    """The Solution: what is deployed, the dense network that it was cut from, and when it first was fair on its way."""

    dense: nn.Module | None = None  #: None: the method starts from no trained dense network, so nothing was lost against one
    reached: Mapping[str, float] = field(default_factory=dict)  #: by measure; empty: it never was


@dataclass(frozen=True)
class Labelled(Sgd):
    """SGD on targets (n, 2), the label and the group of each example: the loss reads the label alone."""

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return super().loss(model, x, y[:, 0])


@dataclass
class FairProblem(PrunableProblem):
    """Epochs below `pretrain_epochs` come from the pre-training rows, later ones from the pruning rows.

    A closed run may see the pre-training rows that often, the pruning rows twice as often as a method of one level trains on
    them, since a method of two levels takes two gradients an iteration, and those once more, to score by.
    """

    validation: ClassVar[str] = "val_accuracy"

    pretrain_epochs: int
    pretraining: torch.Tensor  #: rows (n,) int64 of the train split
    pruning: torch.Tensor
    groups_named: tuple[str, ...]
    tune: Recipe  #: of all that follows the dense network

    @property
    def tune_epochs(self) -> int:
        """Epochs that pruning and fine-tuning have together."""
        return self.epochs - self.pretrain_epochs

    @cached_property
    def steps_per_epoch(self) -> int:
        """Of the pruning rows."""
        return len(self.pruning) // self.batch

    @property
    def budget(self) -> int:
        first = self.pretrain_epochs * (len(self.pretraining) // self.batch)
        return self.batch * (first + 2 * self.tune_epochs * self.steps_per_epoch) + len(self.pruning)

    @property
    def group_count(self) -> int:
        return len(self.groups_named)

    @property
    def group_shares(self) -> tuple[float, ...]:
        """Of the pruning rows the share that each group has."""
        if self.spec.division == "speed":
            return (1 / self.group_count,) * self.group_count
        import torch

        count = torch.bincount(self._groups[self.pruning], minlength=self.group_count)
        return tuple((count / count.sum()).tolist())

    def build(self, widths: Mapping[str, int] | None = None) -> nn.Module:
        from tasks.fair_pruning.networks import build

        return build(self.architecture, self.classes, self.input, widths)

    def batches(self, epoch: int, among: torch.Tensor | None = None) -> Iterator[Batch]:
        """Batches of an epoch: x, and y int64 (n, 2) of labels and groups; what else holds is the base class's word."""
        order, augment = self._addresses(epoch)
        rows = (self.pretraining if epoch < self.pretrain_epochs else self.pruning) if among is None else among
        yield from ((x, y) for _, x, y in self._pass(order, augment, rows))

    def rows(self, epoch: int, among: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Which training rows each batch of `batches` holds, (n,) int64."""
        rows = (self.pretraining if epoch < self.pretrain_epochs else self.pruning) if among is None else among
        yield from super().rows(epoch, rows)

    def again(self, epoch: int) -> Iterator[Batch]:
        """A second pass over the pruning rows in an order of its own: what an upper level draws from."""
        found = self._pass(self.run.seed("upper order", epoch), self.run.seed("upper augment", epoch), self.pruning)
        yield from ((x, y) for _, x, y in found)

    def indexed(self, purpose: str, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """So many batches of the pruning rows, as many passes as that takes, each with the numbers of its training rows."""
        for epoch in range(-(-count // self.steps_per_epoch)):
            order, augment = self.run.seed(f"{purpose} order", epoch), self.run.seed(f"{purpose} augment", epoch)
            yield from itertools.islice(self._pass(order, augment, self.pruning), count - epoch * self.steps_per_epoch)

    def scoring(self, purpose: str, count: int) -> Iterator[Batch]:
        """At most `count` batches of the pruning rows, in an order addressed by the purpose; booked like any others."""
        order = self.run.seed(purpose)
        yield from ((x, y) for _, x, y in itertools.islice(self._pass(order, order, self.pruning), count))

    def everyone(self, *, booked: bool = True) -> Iterator[Batch]:
        """All pruning rows once, in stored order, not augmented: what accuracies that training is held to are taken on.

        Args:
            booked: whether something is learnt from them; what is only told of a finished network costs nothing.
        """
        if self.spec.division == "speed":
            return
        import torch

        wanted = torch.zeros(self.source.train_count, dtype=torch.bool)
        wanted[self.pruning] = True
        at = 0
        for x, y in self.source.evaluate("train", 500):
            mine = wanted[at : at + len(y)]
            both = torch.stack([y, self._groups[at : at + len(y)]], 1)[mine]
            at += len(y)
            if len(both):
                if booked:
                    self._book(len(both))
                yield self._to_device(x[mine]), both.to(self.device)

    def watch(self, dense: nn.Module) -> Watch:
        """What looks at a network in training and tells when it first is fair; see `Watch`."""
        gap, accuracy = self._looked_at(dense)
        return Watch(self, gap, accuracy)

    @cached_property
    def _groups(self) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.asarray(self.source.columns("train")[self.source.group]).astype(np.int64))

    def _pass(self, order: int, augment: int, among: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Numbers of training rows, x and y of each batch."""
        import torch

        if self.spec.division == "speed":
            return
        size, mine = self.batch, self._mine
        rows = self.source.rows(order, size, mine, among)
        augmentation = self.source.augmentation
        for step, (index, (x, y)) in enumerate(zip(rows, self.source.train(order, augment, size, mine, among), strict=True)):
            self._book(size)
            if augmentation:
                x, y = augmentation.mix(x, y, self.classes, address(augment, "mix", step))
            if y.dim() != 1:
                raise UserError("an augmentation that mixes images mixes their groups as well: use one that does not")
            yield index, self._to_device(x), torch.stack([y, self._groups[index]], 1).to(self.device, non_blocking=True)

    def _looked_at(self, model: nn.Module) -> tuple[float, float]:
        """Accuracy gap and accuracy on the test split, as shares: for `Watch` alone, no method is told."""
        if self.spec.division == "speed":
            return float("nan"), float("nan")
        with self.run.off_clock():
            label, prediction, _ = self.predict(model, "test")
            group = np.asarray(self.source.columns("test")[self.source.group])
        return accuracy_gap(label == prediction, group), float((label == prediction).mean())

    @property
    def left(self) -> int:
        """Batches of the budget that are not spent yet."""
        return (self.budget - self.run.spent.get("", 0)) // self.batch


class Watch:
    """Looks at a network every so many steps and keeps when it first was fair: gap at most half the dense network's, accuracy at
    most a point below (BiFP's third experiment).

    What is looked at are the test examples, off the clock.  Nothing is told to the method, and nothing is chosen by it: the
    result is a fact of the run like its training time.
    """

    def __init__(self, problem: FairProblem, gap: float, accuracy: float) -> None:
        self.problem, self.gap, self.accuracy = problem, gap, accuracy
        self.iterations = self.gradients = 0
        self.began = problem.run.seconds
        self.reached: dict[str, float] = {}

    def step(self, model: nn.Module, steps: int, *, gradients: int = 1, due: bool = True) -> None:
        """After an iteration.

        Args:
            steps: of the stage in all: it is looked at at most `LOOKS` times.
            gradients: that the iteration took.
            due: whether the network is as small as it is asked to be.
        """
        self.iterations += 1
        self.gradients += gradients
        run = self.problem.run
        if self.problem.spec.division == "speed" or self.iterations % max(LEAST_STEPS, -(-steps // LOOKS)):
            return
        gap, accuracy = self.problem._looked_at(model)
        run.progress(self.iterations, max(steps, self.iterations), watched_gap=100 * gap, watched_accuracy=100 * accuracy)
        if due and not self.reached and gap <= self.gap / 2 and accuracy >= self.accuracy - 0.01:
            self.reached = {
                "iterations_to_fair": self.iterations,
                "gradients_to_fair": self.gradients,
                "seconds_to_fair": run.seconds - self.began,
            }

    def state(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("iterations", "gradients", "began", "reached")}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def accuracy_gap(hit: np.ndarray, group: np.ndarray) -> float:
    """Largest less smallest accuracy of a group, a share; hit (n,) bool, group (n,) int.

    Groups of fewer examples than are compared anywhere are left out, where others are larger.
    """
    count = np.bincount(group)
    there = count >= MIN_GROUP if (count >= MIN_GROUP).any() else count > 0
    accuracy = np.bincount(group[hit], minlength=len(count))[there] / count[there]
    return float(accuracy.max() - accuracy.min())


def labelled(recipe: Sgd, **changes: Any) -> Labelled:
    """A recipe for targets that hold the group as well."""
    return Labelled(**{**{k: getattr(recipe, k) for k in recipe.__dataclass_fields__}, **changes})


__all__ = ["FairNetwork", "FairProblem", "Labelled", "Watch", "accuracy_gap", "labelled"]
