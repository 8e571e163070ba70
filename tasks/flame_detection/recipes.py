"""How detectors are trained: Adam and a cosine for every network of the table, and the loss of one logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.images.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Adam(Recipe):
    """Adam at 1e-3, cosine, no weight decay, of binary cross-entropy on one logit."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def optimizer(self, model: nn.Module) -> torch.optim.Adam:
        import torch

        trained = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, self.lr, self.betas, self.eps, self.weight_decay)

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy of a batch.

        Args:
            x: (n, C, P, P): thermal, and where C is 4 RGB behind it.
            y: (n,) int64, 1: flame.
        """
        return binary_cross_entropy(model(*split(x)), y, self.label_smoothing)

    def _optimizer_summary(self) -> list[str]:
        return [f"Adam {self.lr:g}"]


def split(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The arguments of a detector, thermal and RGB, of a batch (n, 1 or 4, P, P) that holds them behind one another."""
    return (x,) if x.shape[1] == 1 else (x[:, :1], x[:, 1:])


def binary_cross_entropy(logits: torch.Tensor, y: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Mean over a batch of logits (n,) and labels (n,) int64; smoothing as of two classes: targets s/2 and 1 - s/2."""
    from torch.nn import functional as F

    return F.binary_cross_entropy_with_logits(logits.float(), y.float() * (1 - smoothing) + smoothing / 2)
