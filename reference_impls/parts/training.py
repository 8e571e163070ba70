"""The one training loop: every method that trains by gradient descent calls it, none copies it.

A method is a sequence of named stages (train, fine-tune); what it does inside a stage, it does by
`Hooks`.  Each epoch ends in a checkpoint, so a stopped run goes on at the epoch it was in, and, since
all randomness is addressed by epoch, ends bit for bit as if it had never been stopped (on CPU).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from suite.protocol import Diverged, Run
from tasks.images.recipes import Recipe

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


class Trainable(Protocol):
    """What the loop needs of a problem."""

    run: Run
    epochs: int
    precision: str
    device: torch.device
    recipe: Recipe  #: the data set's own
    validation: str  #: what `validate` measures, as the curve calls it

    @property
    def steps_per_epoch(self) -> int: ...

    def batches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]: ...

    def validate(self, model: nn.Module) -> float: ...

    def distribute(self, model: nn.Module) -> nn.Module:
        """What to call in a training step: the model, or a wrapper of it that averages gradients over processes."""


class Hooks:
    """What a method does inside the loop.  All of it optional; state that must survive a stop goes into `state`."""

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Before a stage's first epoch, or where a stopped one goes on; the optimizer has its state already."""

    def before_epoch(self, epoch: int) -> None:
        """At the start of an epoch (counted from 0 over the stage), before its training."""

    def after_backward(self) -> bool:
        """Gradients are there, the optimizer has not moved yet: sparsity terms, growth; True lets it move."""
        return True

    def after_step(self) -> None:
        """The optimizer has moved, or was told not to: masks are applied again."""

    def state(self) -> dict[str, Any]:
        """Tensors and counters for the checkpoint."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""


class Trainer:
    """Runs the stages of one solve.  Make one per solve: it reads the checkpoint, if there is one."""

    def __init__(self, problem: Trainable) -> None:
        self.problem = problem
        self._saved: dict[str, Any] = problem.run.load() or {"finished": {}, "current": None}
        self._finished: dict[str, Any] = self._saved["finished"]
        self._epochs_done = sum(entry["epochs"] for entry in self._finished.values())

    def fit(
        self,
        stage: str,
        model: nn.Module,
        recipe: Recipe,
        *,
        epochs: int,
        hooks: Hooks | None = None,
        loss: Loss | None = None,
    ) -> nn.Module:
        """Train `model` in place for `epochs`, spending that many epochs of the budget; returns it.

        Raises Diverged when the loss of an epoch is not finite; OverBudget and Stopped come from the
        loaders.  In the `speed` division there are no batches: only the hooks act.
        """
        hooks = hooks or Hooks()
        optimizer = recipe.optimizer(model)
        first = self._resume(stage, model, optimizer, hooks)
        hooks.begin(optimizer)
        forward = self.problem.distribute(model)
        begun = self._epochs_done
        for epoch in range(first, epochs):
            recipe.set_rate(optimizer, epoch, epochs)
            torch.manual_seed(self.problem.run.seed("torch", begun + epoch))  # dropout and the like
            hooks.before_epoch(epoch)
            each = partial(self._set_rate, recipe, optimizer, epoch, epochs) if recipe.stepwise else None
            mean = self._epoch(begun + epoch, forward, optimizer, hooks, loss or recipe.loss, each)
            if mean is not None and not math.isfinite(mean):
                raise Diverged(f"the training loss is {mean} in epoch {epoch} of stage {stage!r}")
            self._report(begun + epoch + 1, model, mean)
            if mean is None:
                continue  # no batches: what the hooks do is done again sooner than it is read
            current = {
                "stage": stage,
                "epoch": epoch + 1,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "hooks": hooks.state(),
            }
            self.problem.run.save({"finished": self._finished, "current": current})
        if stage not in self._finished:
            # a later checkpoint is written in a later stage: what this one ended with must go along
            self._finished[stage] = {
                "epochs": epochs,
                "model": copy.deepcopy(model.state_dict()),
                "hooks": copy.deepcopy(hooks.state()),
            }
            self._epochs_done += epochs
        return model

    def _resume(self, stage: str, model: nn.Module, optimizer: torch.optim.Optimizer, hooks: Hooks) -> int:
        """Take up a stage where it was left; returns the epoch to start with."""
        done = self._finished.get(stage)
        if done is not None:
            model.load_state_dict(done["model"])
            hooks.restore(done["hooks"])
            return int(done["epochs"])
        current = self._saved["current"]
        if current is None or current["stage"] != stage:
            return 0
        model.load_state_dict(current["model"])
        optimizer.load_state_dict(current["optimizer"])
        hooks.restore(current["hooks"])
        return int(current["epoch"])

    def _set_rate(self, recipe: Recipe, optimizer: torch.optim.Optimizer, epoch: int, epochs: int, step: int) -> None:
        """Set the rate of a step of an epoch."""
        unit = 1 / self.problem.steps_per_epoch
        recipe.set_rate(optimizer, epoch + step * unit, epochs, unit)

    def _epoch(
        self,
        epoch: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        hooks: Hooks,
        loss: Loss,
        before_step: Callable[[int], None] | None = None,
    ) -> float | None:
        """One pass over the batches; mean loss, or None where there were none."""
        problem = self.problem
        model.train()
        total, steps = torch.zeros((), device=problem.device), 0
        for x, y in problem.batches(epoch):
            if before_step is not None:
                before_step(steps)
            with torch.autocast(problem.device.type, torch.bfloat16, enabled=problem.precision == "bf16"):
                value = loss(model, x, y)
            optimizer.zero_grad()
            value.backward()
            if hooks.after_backward():
                optimizer.step()
            hooks.after_step()
            total += value.detach()  # looked at once an epoch: no synchronisation in between
            steps += 1
        return float(total) / steps if steps else None

    def _report(self, done: int, model: nn.Module, mean: float | None) -> None:
        problem = self.problem
        if mean is None:
            problem.run.progress(done, problem.epochs)
            return
        every = max(1, problem.epochs // 6)
        values = {"train_loss": mean}
        if done % every == 0 or done == problem.epochs:
            values[problem.validation] = problem.validate(model)
        problem.run.progress(done, problem.epochs, **values)
