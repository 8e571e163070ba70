"""The one training loop: every method that trains by gradient descent calls it, none copies it.

A method is a sequence of named stages (train, fine-tune); what it does inside a stage, it does by
`Hooks`.  Each epoch ends in a checkpoint, so a stopped run goes on at the epoch it was in, and, since
all randomness is addressed by epoch, ends bit for bit as if it had never been stopped (on CPU).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.stages import Stage, Stages
from suite.protocol import Run

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


class Trainable(Protocol):
    """What the loop needs of a problem."""

    run: Run
    epochs: int
    precision: str
    device: torch.device
    recipe: Mapping[str, Any]  #: the data set's own recipe, as fields of `Recipe`; what it leaves out is the CIFAR line

    def batches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]: ...

    def validate(self, model: nn.Module) -> float: ...

    def distribute(self, model: nn.Module) -> nn.Module:
        """What to call in a training step: the model, or a wrapper of it that averages gradients over processes."""


@dataclass(frozen=True)
class Recipe:
    """SGD and its schedule.  The defaults are the CIFAR line (chex.md 3); `Recipe.of` gives the problem's own."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[float, ...] = ()  #: shares of the stage after which lr falls by `factor`
    factor: float = 0.1
    warmup: int = 0  #: epochs
    label_smoothing: float = 0.0
    mixup: float = 0.0  #: alpha of the Beta distribution that two images of a batch are mixed by (Zhang et al. 2018); 0: off
    norm_decay: bool = False  #: whether batch-norm scales and shifts decay

    @classmethod
    def of(cls, problem: Trainable, **changes: Any) -> Recipe:
        """The recipe that all methods of the problem's table share, with what a method must change."""
        return cls(**{**problem.recipe, **changes})

    def fine_tune(self) -> Recipe:
        """What follows pruning: a tenth of the rate, which falls at 60 and 80 % of the stage (pruning_baselines.md 6)."""
        return replace(self, lr=self.lr / 10, schedule="steps", milestones=(0.6, 0.8), warmup=0)

    def rate(self, epoch: int, epochs: int) -> float:
        """Learning rate of an epoch of a stage, set once per epoch."""
        if epoch < self.warmup:
            return self.lr * (epoch + 1) / self.warmup
        if self.schedule == "steps":
            return self.lr * self.factor ** sum(epoch >= round(m * epochs) for m in self.milestones)
        done = (epoch - self.warmup) / max(1, epochs - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        norms = {
            id(p) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for p in m.parameters(recurse=False)
        }
        decayed = [p for p in model.parameters() if self.norm_decay or id(p) not in norms]
        free = [p for p in model.parameters() if not self.norm_decay and id(p) in norms]
        parts = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}]
        return torch.optim.SGD([p for p in parts if p["params"]], self.lr, self.momentum, nesterov=self.nesterov)


class Hooks:
    """What a method does inside the loop.  All of it optional; state that must survive a stop goes into `state`."""

    def begin(self, optimizer: torch.optim.SGD) -> None:
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
            training = _Training(self.problem, model, recipe, optimizer, hooks, loss or _classification(recipe), begun, epochs)
            done = self._stages.run(stage, lambda: training, epochs)
        self._epochs[stage] = int(done["epochs"])
        return model


@dataclass
class _Training(Stage):
    """Epochs of gradient descent on a problem's batches."""

    problem: Trainable
    model: nn.Module
    recipe: Recipe
    optimizer: torch.optim.SGD
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
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(epoch, self.epochs)
        torch.manual_seed(self.problem.run.seed("torch", self.begun + epoch))  # dropout and the like
        self.hooks.before_epoch(epoch)
        problem, hooks = self.problem, self.hooks
        self.forward.train()
        total, steps = torch.zeros((), device=problem.device), 0
        for x, y in problem.batches(self.begun + epoch):
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
            values["val_top1"] = problem.validate(self.model)
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


def _classification(recipe: Recipe) -> Loss:
    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing)

    def mixed(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # torch's own stream, which the loop seeds anew each epoch: a stopped run draws the same again
        share = float(torch.distributions.Beta(recipe.mixup, recipe.mixup).sample())
        other = torch.randperm(len(x)).to(x.device)
        logits = model(share * x + (1 - share) * x[other])
        ours, theirs = (F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing) for labels in (y, y[other]))
        return share * ours + (1 - share) * theirs

    return mixed if recipe.mixup else loss
