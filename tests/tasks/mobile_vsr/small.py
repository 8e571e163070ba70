"""Networks small enough to be compiled in a test."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from suite.extras import install
from tasks.mobile_vsr import runtimes

COARSE, FINE = (1, 3, 16, 12), (1, 3, 8, 6)


class Upscaler(nn.Module):
    """A small WDSR: mean shift, head, residual blocks, tail beside a skip, pixel shuffle; biases that a mask must stop."""

    def __init__(self, blocks: int, units: int = 4, width: int = 2, scale: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, units, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(units, units * width, 3, padding=1), nn.ReLU(), nn.Conv2d(units * width, units, 3, padding=1))
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(units, 3 * scale**2, 3, padding=1)
        self.skip = nn.Conv2d(3, 3 * scale**2, 5, padding=2)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - 0.5
        y = self.head(x)
        for block in self.blocks:
            y = y + block(y)
        return self.shuffle(self.tail(y) + self.skip(x)) + 0.5


def images(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def networks() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Upscaler(1).eval(), Upscaler(0).eval()


def need(*names: str) -> None:
    """Skip, with a clear word, where a runtime's packages are absent; where they are there it must work."""
    wanted = {p.partition(".")[0] for r in runtimes.LADDER if r.name in names for p in r.needs}
    absent = [p for p in sorted(wanted) if importlib.util.find_spec(p) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: {install(absent[0])}")
