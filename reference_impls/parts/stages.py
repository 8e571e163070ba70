"""Named stages that a stopped run goes on in: the one loop under the trainers of images, graphs and video.

A solve is a sequence of stages, a stage a sequence of epochs.  What a stage ended with and how far the current one is make up
the run's checkpoint, so a stopped run does no finished stage again and goes on at the epoch that it was in.  Where all
randomness is addressed by stage and epoch it ends bit for bit as if it had never been stopped (on CPU).
"""

from __future__ import annotations

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from suite.protocol import Diverged, Run


class Stage(ABC):
    """One stage: what an epoch does, and what must survive a stop."""

    @abstractmethod
    def step(self, epoch: int) -> float | None:
        """An epoch, counted from 0 over the stage; its loss, or None where there was nothing to train on."""

    @abstractmethod
    def after(self, epoch: int, loss: float | None) -> bool:
        """After an epoch whose loss is finite: validation, points of the curve; returns whether a checkpoint is due."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Tensors and counters for the checkpoint."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""

    @abstractmethod
    def outcome(self) -> dict[str, Any]:
        """What is left of the stage at its end, for whatever comes after it."""

    def begin(self) -> None:
        """Before the first epoch of this life of the run, after `restore`."""
        return

    def done(self) -> bool:
        """Whether the stage ends before its last epoch."""
        return False


class Stages:
    """The stages of one solve.  Make one per solve: it reads the checkpoint, if there is one.

    A checkpoint is ``{"finished": {stage: outcome}, "current": {"stage", "epoch", "state"} or None}``.  It is written after an
    epoch where the stage says that one is due, and at every stage's end.
    """

    def __init__(self, run: Run) -> None:
        saved = run.load() or {"finished": {}, "current": None}
        self._run, self._prefix = run, ""
        self._checkpoint: dict[str, Any] = {"finished": dict(saved["finished"]), "current": saved["current"]}

    def on(self, prefix: str) -> Stages:
        """Stages that are named apart and share the checkpoint."""
        other = copy.copy(self)
        other._prefix = f"{self._prefix}{prefix} "
        return other

    def finished(self, name: str) -> dict[str, Any] | None:
        """The outcome of a stage that was run to its end, in this life or an earlier one."""
        found: dict[str, Any] | None = self._checkpoint["finished"].get(self._prefix + name)
        return found

    def run(self, name: str, make: Callable[[], Stage], epochs: int | None = None) -> dict[str, Any]:
        """The outcome of a stage of so many epochs (None: until it is done); one that was finished before is not made again.

        Raises Diverged where a loss is not finite; OverBudget and Stopped come from the loaders.
        """
        found = self.finished(name)
        if found is not None:
            return found
        name = self._prefix + name
        stage, first, current = make(), 0, self._checkpoint["current"]
        if current is not None and current["stage"] == name:
            stage.restore(current["state"])
            first = current["epoch"]
        stage.begin()
        for epoch in itertools.count(first) if epochs is None else range(first, epochs):
            loss = stage.step(epoch)
            if loss is not None and not math.isfinite(loss):
                raise Diverged(f"the training loss is {loss} in epoch {epoch} of stage {name!r}")
            due = stage.after(epoch, loss)
            if stage.done():
                break
            if due and epoch + 1 != epochs:
                current = {"stage": name, "epoch": epoch + 1, "state": stage.state()}
                self._run.save({**self._checkpoint, "current": current})
        # later checkpoints are written in later stages: what this one ended with must go along
        outcome = copy.deepcopy(stage.outcome())
        self._checkpoint["finished"][name] = outcome
        self._checkpoint["current"] = None
        self._run.save(self._checkpoint)
        return outcome
