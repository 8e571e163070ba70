"""The one training loop: every method that trains by gradient descent calls it, none copies it.

A method is a sequence of named stages (train, fine-tune); what it does inside a stage, it does by
`Hooks`.  Each epoch ends in a checkpoint, so a stopped run goes on at the epoch it was in, and, since
all randomness is addressed by epoch, ends bit for bit as if it had never been stopped (on CPU).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from suite.protocol import Diverged, Run

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
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(epoch, epochs)
            torch.manual_seed(self.problem.run.seed("torch", begun + epoch))  # dropout and the like
            hooks.before_epoch(epoch)
            mean = self._epoch(begun + epoch, forward, optimizer, hooks, loss or _classification(recipe))
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

    def _epoch(self, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, hooks: Hooks, loss: Loss) -> float | None:
        """One pass over the batches; mean loss, or None where there were none."""
        problem = self.problem
        model.train()
        total, steps = torch.zeros((), device=problem.device), 0
        for x, y in problem.batches(epoch):
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
            values["val_top1"] = problem.validate(model)
        problem.run.progress(done, problem.epochs, **values)


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
