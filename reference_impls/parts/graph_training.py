"""Full-graph training: what a stage does is a `Learner`, what a stopped run goes on from is kept by `stages`.

A solve is a sequence of named stages.  Dropout is seeded by the epoch within a stage, so that every round of a ladder
sees the same draws (UGS re-seeds alike) and a run that goes on from a checkpoint ends bit for bit as if it had never
been stopped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from reference_impls.parts.stages import Stage, Stages
from suite.protocol import Run
from tasks.graph_tickets.graph import Graph
from tasks.graph_tickets.models import GraphNetwork

if TYPE_CHECKING:
    from tasks.graph_tickets.task import GraphProblem, View

EVERY = 25  #: epochs between checkpoints and points of the curve: an epoch of a small graph takes 20 ms
Masks = dict[str, torch.Tensor]  #: bool, by parameter name: True stays


class Learner:
    """One stage of training."""

    def step(self, epoch: int) -> float:
        """An epoch: forward, backward, update; returns the loss."""
        raise NotImplementedError

    def judge(self, epoch: int) -> float:
        """After an epoch, off the clock: validation accuracy as a share, for the choice of the epoch."""
        raise NotImplementedError

    def done(self) -> bool:
        """Whether the stage may end before its last epoch."""
        return False

    def state(self) -> dict[str, Any]:
        """Tensors and counters for the checkpoint."""
        raise NotImplementedError

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        raise NotImplementedError

    def outcome(self) -> dict[str, Any]:
        """What later stages need of this one."""
        raise NotImplementedError


class GraphTrainer:
    """Runs the stages of one solve.  Make one per solve: it reads the checkpoint, if there is one."""

    def __init__(self, problem: GraphProblem) -> None:
        self.problem, self._stages = problem, Stages(problem.run)

    def on(self, problem: GraphProblem, prefix: str) -> GraphTrainer:
        """A trainer of another problem of the same run; its stages are named apart and share the checkpoint."""
        other = copy.copy(self)
        other.problem, other._stages = problem, self._stages.on(prefix)
        return other

    def fit(self, stage: str, make: Callable[[], Learner], epochs: int | None = None) -> dict[str, Any]:
        """Train for `epochs` (the problem's own if None) what `make` gives, and return its outcome.

        A stage that was finished before is not made again.  Raises Diverged where a loss is not finite; OverBudget and
        Stopped come from the problem.  In the `speed` division no epoch is run.
        """
        total = self.problem.passes(epochs)
        return self._stages.run(stage, lambda: _Learning(self.problem.run, make(), total), total)


@dataclass
class _Learning(Stage):
    """A learner's epochs: seeded, judged off the clock, shown now and then."""

    run: Run
    learner: Learner
    epochs: int

    def step(self, epoch: int) -> float:
        torch.manual_seed(self.run.seed("torch", epoch))
        return self.learner.step(epoch)

    def after(self, epoch: int, loss: float | None) -> bool:
        with self.run.off_clock():
            accuracy = self.learner.judge(epoch)
        due = (epoch + 1) % EVERY == 0 and epoch + 1 < self.epochs
        if due and loss is not None:
            self.run.progress(epoch + 1, self.epochs, train_loss=loss, val_accuracy=100 * accuracy)
        return due

    def done(self) -> bool:
        return self.learner.done()

    def state(self) -> dict[str, Any]:
        return self.learner.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.learner.restore(state)

    def outcome(self) -> dict[str, Any]:
        return self.learner.outcome()


def apply_masks(model: GraphNetwork, masks: Masks) -> None:
    """Zero the weights outside the masks, in place."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            own[name].mul_(mask)


class Retrain(Learner):
    """Weights alone are trained, on a fixed graph and under fixed masks; the epoch of best validation is kept."""

    ties_to_later = False  #: whether an equal accuracy replaces the kept one

    def __init__(self, problem: GraphProblem, model: GraphNetwork, graph: Graph, masks: Masks | None = None) -> None:
        self.problem, self.model, self.graph, self.masks = problem, model, graph, masks or {}
        apply_masks(model, self.masks)
        recipe = problem.recipe
        self.optimizer = torch.optim.Adam(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
        self.best = -1.0
        self.kept: dict[str, torch.Tensor] = {}

    def training_graph(self, epoch: int) -> Graph:
        """The graph of an epoch's forward pass."""
        return self.graph

    def logits(self, graph: Graph, view: View) -> torch.Tensor:
        """Of what is looked at, over an epoch's graph."""
        out: torch.Tensor = self.model(self.problem.x, graph, sample=view.sample)
        return out

    def loss(self, logits: torch.Tensor, view: View) -> torch.Tensor:
        """Of the logits of what is looked at."""
        return self.problem.loss(logits, view)

    def after_step(self) -> None:
        """The optimizer has moved."""
        apply_masks(self.model, self.masks)

    def step(self, epoch: int) -> float:
        graph, total = self.training_graph(epoch), 0.0
        self.model.train()
        for view in self.problem.views(graph, epoch):
            loss = self.loss(self.logits(graph, view), view)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.after_step()
            total += float(loss.detach())
        return total

    def judge(self, epoch: int) -> float:
        self.model.eval()
        with torch.no_grad():
            accuracy = self.problem.accuracy(self.model(self.problem.x, self.graph))
        if accuracy > self.best or (self.ties_to_later and accuracy == self.best):
            self.best, self.kept = accuracy, copy.deepcopy(self.model.state_dict())
        return accuracy

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "kept": self.kept,
            "masks": self.masks,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.kept, self.masks = float(state["best"]), dict(state["kept"]), dict(state["masks"])

    def outcome(self) -> dict[str, Any]:
        return {"model": self.kept or self.model.state_dict(), "val": self.best}


def train(
    trainer: GraphTrainer, graph: Graph, masks: Masks | None = None, *, stage: str = "ticket", seed: int | None = None
) -> GraphNetwork:
    """The network of the best validation epoch, trained on `graph` under `masks` from the initial weights, or from redrawn ones."""
    problem = trainer.problem
    outcome = trainer.fit(stage, lambda: Retrain(problem, problem.model(seed), graph, masks))
    model = problem.model(seed)
    model.load_state_dict(outcome["model"])
    apply_masks(model, masks or {})
    return model
