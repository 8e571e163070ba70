"""Patches as tokens: which of them enter a network, and how they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from suite import compat
from suite.extras import need
from suite.naming import UserError


def timm(name: str) -> Any:
    """A module of timm; raises UserError where it is not installed."""
    compat.declare_operators()  # timm imports torchvision, which does not load alone beside a CPU build of torch
    return need(name, "vit_training")


class ChosenPatches(nn.Module):
    """Lets the class token and chosen patches through, after the positions were added; all of them while none are chosen.

    It stands where timm's patch dropout does, between the embedding and the first block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.index: torch.Tensor | None = None  #: (B, T) int64, patches in raster order counted from 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + N, C) to (B, 1 + T, C)."""
        return x if self.index is None else take_patches(x, self.index)


def take_patches(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The class token and the patches of these numbers, in their order: (B, 1 + N, C) and (B, T) int64 to (B, 1 + T, C)."""
    return gather_patches(x, F.pad(index + 1, (1, 0)))


def gather_patches(patches: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(B, N, C) and (B, T) int64 to (B, T, C): whole rows are copied, which a gather does value by value."""
    batch, count, width = patches.shape
    flat = (index + count * torch.arange(batch, device=index.device).unsqueeze(1)).flatten()
    return patches.reshape(batch * count, width).index_select(0, flat).view(batch, -1, width)


def choose(model: nn.Module, index: torch.Tensor | None) -> None:
    """Let these patches (B, T) of the next batches into a network, or all; raises UserError where it cannot leave any out."""
    chosen = getattr(model, "patch_drop", None)
    if not isinstance(chosen, ChosenPatches):
        raise UserError(f"{type(model).__name__} cannot leave patches out; choose a ViT, for example vit-48-6-3-p4")
    chosen.index = index


@contextmanager
def entering(model: nn.Module, index: torch.Tensor | None) -> Iterator[None]:
    """Within, these patches (B, T) alone enter the network; after, all of them."""
    choose(model, index)
    try:
        yield
    finally:
        choose(model, None)


class OnTickets(nn.Module):
    """A network with the selector that chooses its patches: what is deployed where it was trained to be tested so."""

    def __init__(self, selector: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.selector, self.model = selector, model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with entering(self.model, self.selector(x)):
            return self.model(x)  # type: ignore[no-any-return]
