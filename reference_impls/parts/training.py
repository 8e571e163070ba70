"""The one training loop: every method that trains by gradient descent calls it, none copies it.

A method is a sequence of named stages (train, fine-tune); what it does inside a stage, it does by
`Hooks`.  Each epoch ends in a checkpoint, so a stopped run goes on at the epoch it was in, and, since
all randomness is addressed by epoch, ends bit for bit as if it had never been stopped (on CPU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from reference_impls.parts.stages import Stage, Stages
from suite.protocol import Run
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
        self._stages = Stages(problem.run)
        self._epochs: dict[str, int] = {}  #: of this trainer's stages: data and draws are addressed by the epoch of the solve

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
        done = self._stages.finished(stage)
        if done is not None:
            model.load_state_dict(done["model"])
            hooks.restore(done["hooks"])
            hooks.begin(optimizer)
        else:
            begun = sum(self._epochs.values())
            training = _Training(self.problem, model, recipe, optimizer, hooks, loss or recipe.loss, begun, epochs)
            done = self._stages.run(stage, lambda: training, epochs)
        self._epochs[stage] = int(done["epochs"])
        return model


@dataclass
class _Training(Stage):
    """Epochs of gradient descent on a problem's batches."""

    problem: Trainable
    model: nn.Module
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    hooks: Hooks
    loss: Loss
    begun: int  #: epochs of the stages before
    epochs: int
    forward: nn.Module = field(init=False)  #: what a step calls

    def begin(self) -> None:
        self.hooks.begin(self.optimizer)
        self.forward = self.problem.distribute(self.model)

    def step(self, epoch: int) -> float | None:
        """One pass over the batches; mean loss, or None where there were none."""
        problem, hooks = self.problem, self.hooks
        self.recipe.set_rate(self.optimizer, epoch, self.epochs)
        torch.manual_seed(problem.run.seed("torch", self.begun + epoch))  # dropout and the like
        hooks.before_epoch(epoch)
        self.forward.train()
        total, steps = torch.zeros((), device=problem.device), 0
        for x, y in problem.batches(self.begun + epoch):
            if self.recipe.stepwise:
                unit = 1 / problem.steps_per_epoch
                self.recipe.set_rate(self.optimizer, epoch + steps * unit, self.epochs, unit)
            with torch.autocast(problem.device.type, torch.bfloat16, enabled=problem.precision == "bf16"):
                value = self.loss(self.forward, x, y)
            self.optimizer.zero_grad()
            value.backward()
            if hooks.after_backward():
                self.optimizer.step()
            hooks.after_step()
            total += value.detach()  # looked at once an epoch: no synchronisation in between
            steps += 1
        return float(total) / steps if steps else None

    def after(self, epoch: int, loss: float | None) -> bool:
        problem, done = self.problem, self.begun + epoch + 1
        if loss is None:  # no batches: what the hooks do is done again sooner than it is read
            problem.run.progress(done, problem.epochs)
            return False
        every = max(1, problem.epochs // 6)
        values = {"train_loss": loss}
        if done % every == 0 or done == problem.epochs:
            values[problem.validation] = problem.validate(self.model)
        problem.run.progress(done, problem.epochs, **values)
        return True

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "hooks": self.hooks.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.hooks.restore(state["hooks"])

    def outcome(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "model": self.model.state_dict(), "hooks": self.hooks.state()}
