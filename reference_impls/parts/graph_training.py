"""The loop of full-graph training: what a stage does is a `Learner`, what a stopped run goes on from is the loop's.

A solve is a sequence of named stages.  Dropout is seeded by the epoch within a stage, so that every round of a ladder
sees the same draws (ugs.md 2.2 re-seeds alike) and a run that goes on from a checkpoint ends bit for bit as if it had never
been stopped.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from suite.protocol import Diverged
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
        self.problem, self._prefix = problem, ""
        self._books: dict[str, Any] = problem.run.load() or {"finished": {}, "current": None}

    def on(self, problem: GraphProblem, prefix: str) -> GraphTrainer:
        """A trainer of another problem of the same run; its stages are named apart and share the checkpoint."""
        other = copy.copy(self)
        other.problem, other._prefix = problem, f"{self._prefix}{prefix} "
        return other

    def fit(self, stage: str, make: Callable[[], Learner], epochs: int | None = None) -> dict[str, Any]:
        """Train for `epochs` (the problem's own if None) what `make` gives, and return its outcome.

        A stage that was finished before is not made again.  Raises Diverged where a loss is not finite; OverBudget and
        Stopped come from the problem.  In the `speed` division no epoch is run.
        """
        stage = self._prefix + stage
        finished: dict[str, dict[str, Any]] = self._books["finished"]
        if stage in finished:
            return finished[stage]
        learner = make()
        first, run = 0, self.problem.run
        current = self._books["current"]
        if current is not None and current["stage"] == stage:
            learner.restore(current["state"])
            first = current["epoch"]
        total = self.problem.passes(epochs)
        for epoch in range(first, total):
            torch.manual_seed(run.seed("torch", epoch))
            loss = learner.step(epoch)
            if not math.isfinite(loss):
                raise Diverged(f"the training loss is {loss} in epoch {epoch} of stage {stage!r}")
            with run.off_clock():
                accuracy = learner.judge(epoch)
            if (epoch + 1) % EVERY == 0 and epoch + 1 < total:
                run.save({"finished": finished, "current": {"stage": stage, "epoch": epoch + 1, "state": learner.state()}})
                run.progress(epoch + 1, total, train_loss=loss, val_accuracy=100 * accuracy)
            if learner.done():
                break
        finished[stage] = copy.deepcopy(learner.outcome())
        self._books["current"] = None
        run.save(self._books)
        return finished[stage]


def apply_masks(model: GraphNetwork, masks: Masks) -> None:
    """Zero the weights outside the masks, in place."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            own[name].mul_(mask)


class Retrain(Learner):
    """Weights alone are trained, on a fixed graph and under fixed masks; the epoch of best validation is kept (ugs.md 2.2)."""

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
