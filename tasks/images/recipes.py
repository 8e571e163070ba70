"""How networks are trained: optimizer, schedule and loss as one value, the same for every method of a table.

A task states its sets' recipes, a method takes `Recipe.of(problem)` and changes what it must.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    import torch
    from torch import nn

    Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  #: of a network and a batch


Schedule = Literal["cosine", "timm", "steps"]


class HasRecipe(Protocol):
    recipe: Recipe


@dataclass(frozen=True)
class Recipe(ABC):
    """What recipes of all optimizers share.  `rate` is a pure function of the epoch, so a stopped run goes on as it would have."""

    lr: float
    weight_decay: float
    #: cosine: to `least` over what the warm-up leaves; timm: over the whole stage, the warm-up taking the place of its start;
    #: steps: falls by `factor` at the milestones
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = ()  #: shares of the stage after which lr falls by `factor`
    factor: float = 0.1
    warmup: int = 0  #: epochs
    warmup_from: float = 0.0  #: of the timm schedule: the rate that the warm-up starts at
    least: float = 0.0  #: the rate that a cosine falls to
    stepwise: bool = False  #: whether the rate is set before every step instead of once an epoch
    skip: int = 0  #: epochs of the schedule that are left out: what a network rewound to that epoch goes on with
    label_smoothing: float = 0.0
    mixup: float = 0.0  #: alpha of the Beta distribution that two images of a batch are mixed by (Zhang et al. 2018); 0: off

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"no schedule {self.schedule!r}; there are: {', '.join(get_args(Schedule))}")

    @classmethod
    def of(cls, problem: HasRecipe, **changes: Any) -> Recipe:
        """The recipe that all methods of the problem's table share, with what a method must change.

        Called of a subclass it becomes one of that class, which the problem's must be the base of.
        """
        shared = problem.recipe
        if issubclass(cls, type(shared)):
            return cls(**{f.name: getattr(shared, f.name) for f in fields(shared)} | changes)
        return replace(shared, **changes)

    def fine_tune(self) -> Recipe:
        """What follows pruning: a tenth of the rate, which falls at 60 and 80 % of the stage."""
        return replace(self, lr=self.lr / 10, schedule="steps", milestones=(0.6, 0.8), warmup=0)

    def rate(self, epoch: float, epochs: int, unit: float = 1.0) -> float:
        """Learning rate at a moment of a stage.

        Args:
            epoch: epochs that are over, with a fraction where the rate is set before every step.
            epochs: of the whole stage.
            unit: epochs until the rate is set anew.
        """
        epoch, epochs = epoch + self.skip, epochs + self.skip
        if epoch < self.warmup:
            if self.schedule == "timm":
                return self.warmup_from + epoch * (self.lr - self.warmup_from) / self.warmup
            return self.lr * (epoch + unit) / self.warmup
        if self.schedule == "steps":
            return self.lr * self.factor ** sum(epoch >= round(m * epochs) for m in self.milestones)
        start = 0 if self.schedule == "timm" else self.warmup
        done = (epoch - start) / max(1, epochs - start)
        return self.least + (self.lr - self.least) * 0.5 * (1 + math.cos(math.pi * done))

    def set_rate(self, optimizer: torch.optim.Optimizer, epoch: float, epochs: int, unit: float = 1.0) -> None:
        """Set the rate of a moment."""
        rate = self.rate(epoch, epochs, unit)
        for group in optimizer.param_groups:
            group["lr"] = rate

    @abstractmethod
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer of the network's parameters, those that decay and those that do not in groups of their own."""

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of a batch, with what the recipe does to it.

        Args:
            y: (n,) labels, or (n, C) soft targets, which the augmentation has smoothed and mixed already.
        """
        import torch
        from torch.nn import functional as F

        if y.is_floating_point():
            return F.cross_entropy(model(x), y)
        if not self.mixup:
            return F.cross_entropy(model(x), y, label_smoothing=self.label_smoothing)
        # torch's own stream, which the loop seeds anew each epoch: a stopped run draws the same again
        share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        other = torch.randperm(len(x)).to(x.device)
        logits = model(share * x + (1 - share) * x[other])
        ours, theirs = (F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing) for labels in (y, y[other]))
        return share * ours + (1 - share) * theirs

    def summary(self, batch: int = 0) -> str:
        """In words, for the conditions of a tier: the batch where it is given, and nothing that is off."""
        parts = [
            *self._optimizer_summary(),
            f"weight decay {_number(self.weight_decay)}",
            *([f"batch {batch}"] if batch else []),
            *([f"{self.warmup} epochs of warm-up"] if self.warmup else []),
            "steps" if self.schedule == "steps" else "cosine",
            *([f"label smoothing {self.label_smoothing:g}"] if self.label_smoothing else []),
            *([f"mixup {self.mixup:g}"] if self.mixup else []),
        ]
        return ", ".join(parts)

    @abstractmethod
    def _optimizer_summary(self) -> list[str]: ...


@dataclass(frozen=True)
class Sgd(Recipe):
    """SGD with momentum.  The defaults are the line for CIFAR and sets like it: 0.1, cosine, no warm-up, no smoothing."""

    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = False
    norm_decay: bool = False  #: whether batch-norm scales and shifts decay

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        import torch

        norm = torch.nn.modules.batchnorm._BatchNorm
        norms = {id(p) for m in model.modules() if isinstance(m, norm) for p in m.parameters(recurse=False)}
        decayed = [p for p in model.parameters() if self.norm_decay or id(p) not in norms]
        free = [p for p in model.parameters() if not self.norm_decay and id(p) in norms]
        return torch.optim.SGD(_groups(decayed, free, self.weight_decay), self.lr, self.momentum, nesterov=self.nesterov)

    def _optimizer_summary(self) -> list[str]:
        return [f"SGD {_number(self.lr)}", f"momentum {self.momentum:g}"]


@dataclass(frozen=True)
class AdamW(Recipe):
    """AdamW.  The defaults are DeiT's (Touvron et al. 2021, table 9) at its batch of 512; its rate grows with the batch.

    What is no matrix does not decay, biases, scales, shifts, nor what the network's `no_weight_decay` names (positions, the class
    token), as timm has it.
    """

    lr: float = 5e-4
    weight_decay: float = 0.05
    schedule: Schedule = "timm"
    warmup: int = 5
    warmup_from: float = 1e-6
    least: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        import torch

        named = set(model.no_weight_decay()) if hasattr(model, "no_weight_decay") else set()  # type: ignore[operator]
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        spared = {n for n, p in trained if p.dim() <= 1 or n.endswith(".bias") or n in named}
        decayed, free = ([p for n, p in trained if (n in spared) == which] for which in (False, True))
        return torch.optim.AdamW(_groups(decayed, free, self.weight_decay), self.lr, self.betas, self.eps)

    def _optimizer_summary(self) -> list[str]:
        return [f"AdamW {_number(self.lr)}"]


def _groups(decayed: list[nn.Parameter], free: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups; one without a parameter is left out."""
    parts = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [p for p in parts if p["params"]]


def _number(value: float) -> str:
    """As people write it: 5e-4, 0.05, and a power of two as one."""
    mantissa, exponent = math.frexp(value)
    if mantissa == 0.5 and value < 1e-3:
        return f"2^{exponent - 1}"
    if value >= 0.01 or not value:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(power)}"
