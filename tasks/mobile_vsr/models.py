"""Backbones of overfitted super-resolution, as the authors released them (STDO's `wdsr.py`, NAS's `model.py`, CaFM's models).

All take RGB in [0, 1], (N, 3, h, w), and give (N, 3, scale h, scale w); zero padding, biases everywhere.  Names:
``wdsr16_n32`` (16 blocks, 32 units, width 4), ``wdsr1_n8_w2``, ``edsr16``, ``edsr32`` (64 channels), ``edsr2_n16``, ``nas8_n9``
(8 blocks, 9 units), ``espcn``, ``espcn_n32`` (32, 32, 16 channels), ``srcnn``, ``vdsr20_n64``.
"""

from __future__ import annotations

import copy
import itertools
import math
import re

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from suite.naming import UserError

RGB_MEAN = (0.4488, 0.4371, 0.4040)
#: units of NAS's four levels of quality, by scale; 8 blocks, of which x1 has one (NAS's released `model.py`)
NAS_UNITS = {
    "low": {4: 9, 3: 8, 2: 4, 1: 2},
    "medium": {4: 21, 3: 18, 2: 9, 1: 7},
    "high": {4: 32, 3: 29, 2: 18, 1: 16},
    "ultra": {4: 48, 3: 42, 2: 26, 1: 26},
}
NAME = re.compile(r"(wdsr|edsr|nas|espcn|srcnn|vdsr)(\d*)(?:_n(\d+))?(?:_w(\d+))?")


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def _normed(inputs: int, outputs: int, kernel: int, gain: float) -> nn.Module:
    """A convolution with w = g v / |v|, the norm of each output channel; g starts at `gain`, the bias at 0."""
    conv = weight_norm(_conv(inputs, outputs, kernel))
    with torch.no_grad():
        conv.parametrizations.weight.original0.fill_(gain)  # type: ignore[union-attr, operator]
        conv.bias.zero_()  # type: ignore[union-attr, operator]
    return conv


class WDSR(nn.Module):
    """Wide activation blocks with weight normalisation; everything computes at the low resolution (STDO's `models/wdsr.py`)."""

    def __init__(self, scale: int, blocks: int = 16, units: int = 32, width: int = 4) -> None:
        super().__init__()
        out = 3 * scale * scale
        self.head = _normed(3, units, 3, 1.0)
        self.body = nn.ModuleList(
            nn.Sequential(_normed(units, units * width, 3, 2.0), nn.ReLU(), _normed(units * width, units, 3, 1 / math.sqrt(blocks)))
            for _ in range(blocks)
        )
        self.tail = _normed(units, out, 3, 1.0)
        self.skip = _normed(3, out, 5, 1.0)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - 0.5
        y = self.head(x)
        for block in self.body:
            y = y + block(y)
        shuffled: torch.Tensor = self.shuffle(self.tail(y) + self.skip(x))
        return shuffled + 0.5

    @staticmethod
    def modulated(blocks: int) -> list[str]:
        """CaFM does not define positions for WDSR: as in EDSR, behind both convolutions of a block."""
        return [f"body.{i}.{j}" for i in range(blocks) for j in (0, 2)]


class ResBlock(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(units, units), _conv(units, units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + y


class Residual(nn.Module):
    """Residual blocks without normalisation under one long skip, upsampled at the end; the first `depth` blocks are used."""

    def __init__(self, scale: int, blocks: int, units: int) -> None:
        super().__init__()
        self.head = _conv(3, units)
        self.body = nn.ModuleList(ResBlock(units) for _ in range(blocks))
        self.last = _conv(units, units)
        self.upsample = _upsampler(scale, units)
        self.tail = _conv(units, 3)
        self.depth = blocks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        y = x
        for block in itertools.islice(self.body, self.depth):
            y = block(y)
        out: torch.Tensor = self.tail(self.upsample(self.last(y) + x))
        return out

    @staticmethod
    def modulated(blocks: int) -> list[str]:
        """Behind both convolutions of a block; CaFM says so of EDSR alone."""
        return [f"body.{i}.{conv}" for i in range(blocks) for conv in ("conv1", "conv2")]


class EDSR(Residual):
    """With the mean of natural images taken off and put back; `peak` is the largest value of the input's range."""

    def __init__(self, scale: int, blocks: int = 16, units: int = 64, peak: float = 1.0) -> None:
        super().__init__(scale, blocks, units)
        self.register_buffer("mean", peak * torch.tensor(RGB_MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - self.mean) + self.mean


class NAS(Residual):
    """With exits, that is depths, which share all that follows the blocks (NAS's released `model.py`)."""


def exits(blocks: int) -> list[int]:
    """The depths at which NAS's network may end: every second block, and the last."""
    return sorted({*range(0, blocks, 2), blocks})


def need_exit(blocks: int, depth: int) -> None:
    """Raises UserError where NAS's network has no exit there."""
    if depth not in exits(blocks):
        raise UserError(f"no exit after {depth} blocks; there are {', '.join(map(str, exits(blocks)))}")


def shallow(model: NAS, depth: int) -> NAS:
    """The network of an exit alone, with copies of its weights: what can be played before the deeper blocks have come."""
    need_exit(len(model.body), depth)
    out = copy.deepcopy(model)
    out.body, out.depth = out.body[:depth], depth
    return out


class ESPCN(nn.Module):
    """Four convolutions and a pixel shuffle, as CaFM, EMT and STDO use it (the paper of that name has three)."""

    def __init__(self, scale: int, units: int = 64) -> None:
        super().__init__()
        widths = [3, units, units, units // 2, 3 * scale * scale]
        self.convs = nn.ModuleList(_conv(a, b) for a, b in itertools.pairwise(widths))
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.shuffle = nn.PixelShuffle(scale)
        for i, conv in enumerate(self.convs):
            nn.init.orthogonal_(conv.weight, nn.init.calculate_gain("relu") if i < 3 else 1.0)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, act in zip(self.convs, self.acts, strict=False):
            x = act(conv(x))
        out: torch.Tensor = self.shuffle(self.convs[-1](x))
        return out

    @staticmethod
    def modulated(blocks: int) -> list[str]:
        return [f"acts.{i}" for i in range(3)]


class SRCNN(nn.Module):
    """Three convolutions on the bicubically enlarged image."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.convs = nn.ModuleList((_conv(3, 64, 9), _conv(64, 32, 5), _conv(32, 3, 5)))
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        for conv, act in zip(self.convs, self.acts, strict=False):
            x = act(conv(x))
        out: torch.Tensor = self.convs[-1](x)
        return out

    @staticmethod
    def modulated(blocks: int) -> list[str]:
        return [f"acts.{i}" for i in range(2)]


class VDSR(nn.Module):
    """A residual to the bicubically enlarged image, by `layers` convolutions."""

    def __init__(self, scale: int, layers: int = 20, units: int = 64) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(1, 3, 1, 1), persistent=False)
        widths = [3] + [units] * (layers - 1) + [3]
        self.convs = nn.ModuleList(_conv(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False) - self.mean
        y = x
        for conv in self.convs[:-1]:
            y = F.relu(conv(y))
        out: torch.Tensor = x + self.convs[-1](y)
        return out + self.mean

    @staticmethod
    def modulated(blocks: int) -> list[str]:
        return [f"convs.{i}" for i in range(1, blocks - 1)]


class ContentAwareFM(nn.Module):
    """y = x + gamma conv1x1(x), the convolution in groups of one or two channels; gamma starts at 0 (CaFM)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.transformer = nn.Conv2d(channels, channels, 1, groups=groups)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.gamma * self.transformer(x)
        return out


class Switched(nn.Module):
    """A layer followed by the modulation of the chunk at hand."""

    def __init__(self, inner: nn.Module, channels: int, groups: int, chunks: int) -> None:
        super().__init__()
        self.inner = inner
        self.fms = nn.ModuleList(ContentAwareFM(channels, groups) for _ in range(chunks))
        self.chunk = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fms[self.chunk](self.inner(x))
        return out


def build(name: str, scale: int, *, normed: bool = True) -> nn.Module:
    """A backbone by name with fresh weights from torch's generator; `normed=False` folds weight normalisation.

    Raises UserError on a name or a scale that is none.
    """
    family, count, units, width = _parse(name)
    if scale not in (2, 3, 4) and (family, scale) != ("nas", 1):
        raise UserError(f"no scale x{scale}; use x2, x3 or x4")
    model: nn.Module
    if family == "wdsr":
        model = WDSR(scale, count or 16, units or 32, width or 4)
    elif family == "edsr":
        model = EDSR(scale, count or 16, units or 64)
    elif family == "nas":
        model = NAS(scale, 8 if count is None else count, units or NAS_UNITS["low"][scale])
    elif family == "espcn":
        model = ESPCN(scale, units or 64)
    elif family == "vdsr":
        model = VDSR(scale, count or 20, units or 64)
    else:
        model = SRCNN(scale)
    return model if normed else fold(model)


def modulate(model: nn.Module, name: str, chunks: int) -> nn.Module:
    """Put a modulation per chunk behind every position of CaFM, in place; the output stays what it was."""
    family, count, *_ = _parse(name)
    widths = {n: m.out_channels for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    for position in type(model).modulated(count or {"vdsr": 20}.get(family, 16)):  # type: ignore[attr-defined]
        inner = model.get_submodule(position)
        channels = widths[position] if position in widths else widths[position.replace("acts", "convs")]
        groups = channels // 2 if position.startswith("acts") else channels
        model.set_submodule(position, Switched(inner, channels, groups, chunks))
    return model


def switch(model: nn.Module, chunk: int) -> None:
    """Let the modulations of a chunk act."""
    for m in model.modules():
        if isinstance(m, Switched):
            m.chunk = chunk


def of_chunk(model: nn.Module, chunk: int) -> nn.Module:
    """The network of one chunk, without the others' modulations."""
    out = copy.deepcopy(model)
    for m in out.modules():
        if isinstance(m, Switched):
            m.fms = nn.ModuleList([m.fms[chunk]])
            m.chunk = 0
    return out


@torch.no_grad()
def fold(model: nn.Module) -> nn.Module:
    """A copy with plain weights: what is sent and played."""
    out = copy.deepcopy(model)
    for name, m in list(out.named_modules()):
        if isinstance(m, nn.Conv2d) and parametrize.is_parametrized(m):
            plain = nn.Conv2d(m.in_channels, m.out_channels, m.kernel_size, padding=m.padding)  # type: ignore[arg-type]
            plain.weight.copy_(m.weight)
            plain.bias.copy_(m.bias)  # type: ignore[union-attr, arg-type]
            out.set_submodule(name, plain.to(m.weight.device))
    return out


def conv_weights(model: nn.Module) -> int:
    """Weights of all convolutions, biases left out: multiply-adds per low-resolution pixel where all compute there."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))


def _parse(name: str) -> tuple[str, int | None, int | None, int | None]:
    """Family, blocks, units and width of a backbone's name; None for what it leaves out."""
    match = NAME.fullmatch(name)
    if match is None:
        raise UserError(f"no backbone {name!r}; there are wdsr16_n32, edsr16, edsr32, nas8_n9, espcn, srcnn, vdsr20_n64")
    family, *numbers = match.groups()
    count, units, width = (int(n) if n else None for n in numbers)
    return family, count, units, width


def _upsampler(scale: int, units: int) -> nn.Sequential:
    """A convolution and a pixel shuffle for each factor: twos, or one three."""
    factors = [3] if scale == 3 else [2] * int(math.log2(scale))
    return nn.Sequential(*(m for f in factors for m in (_conv(units, units * f * f), nn.PixelShuffle(f))))
