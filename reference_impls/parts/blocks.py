"""A convolution whose weights stand in a few dense blocks, executed block by block (Chen et al. 2022 time such blocks).

A block is some rows (output channels) times some columns (places in the flattened filter).  Where its columns are
whole input channels it is a small convolution of those channels; else its columns of the unfolded input are gathered,
straight from the padded image, and multiplied.  Either way only the blocks' own multiply-adds are executed, and so counted.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True, eq=False)
class Block:
    """Rows (q,) and columns (k,) of a weight seen as a matrix (C, C_in k k), int64."""

    rows: torch.Tensor
    columns: torch.Tensor

    @property
    def size(self) -> int:
        """Weights in it."""
        return len(self.rows) * len(self.columns)


#: Multiply-adds in whose time one value is gathered, or one output scattered (one thread of an x86 CPU, 4 to 16 px).
GATHER, SCATTER = 64, 96
#: Values gathered at a time, so that they are still in the cache when they are multiplied.
CACHED = 2**19


def pays(blocks: Sequence[Block], weight: torch.Tensor) -> bool:
    """Whether blocks are faster than the convolution with this weight (C, ...), by a fixed rule: no run depends on a clock."""
    gathered = sum(len(b.columns) for i, b in enumerate(blocks) if not _shared(blocks, i))
    return sum(b.size for b in blocks) + GATHER * gathered + SCATTER * len(weight) < weight.numel()


def _shared(blocks: Sequence[Block], i: int) -> bool:
    """Whether a block has the columns of the one before it, as the two halves of a block that was cut."""
    return i > 0 and blocks[i].columns is blocks[i - 1].columns


def mask_of(blocks: Sequence[Block], shape: Sequence[int]) -> torch.Tensor:
    """Ones in the blocks: a bool mask of a weight's shape (C, ...)."""
    mask = torch.zeros(tuple(shape), dtype=torch.bool).flatten(1)
    for b in blocks:
        mask[b.rows[:, None], b.columns] = True
    return mask.view(tuple(shape))


class BlockConv2d(nn.Module):
    """Gives what `conv` gives with zeros outside the blocks, for the blocks' multiply-adds; (N, C_in, H, W) to (N, C, H', W').

    `weight` holds the blocks' weights one after the other, (sum of q k,).  Where blocks overlap the first has the weight.
    Raises ValueError where there is no block, and for a convolution in groups or one that pads with anything but a number
    of zeros.
    """

    def __init__(self, conv: nn.Conv2d, blocks: Sequence[Block]) -> None:
        super().__init__()
        if not blocks or conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(
                f"{len(blocks)} blocks of {conv}: at least one, of a plain convolution that pads with a number of zeros"
            )
        self.kernel, self.stride, self.padding, self.dilation = conv.kernel_size, conv.stride, conv.padding, conv.dilation
        self.channels = conv.out_channels
        left = conv.weight.detach().flatten(1).clone()
        pieces: list[torch.Tensor] = []
        self.whole: list[bool] = []  #: whether a block's columns are whole input channels
        self.again = [_shared(blocks, i) for i in range(len(blocks))]
        for i, b in enumerate(blocks):
            rows, source = b.rows.to(left.device), b.columns.to(left.device).sort().values
            piece = left[rows[:, None], source]
            left[rows[:, None], source] = 0  # an overlap counts once
            channels = whole_channels(source, self.kernel[0] * self.kernel[1])
            self.whole.append(channels is not None)
            if channels is None:
                piece = piece.T
            else:  # weights lie as the inputs do, channels last
                piece = piece.view(len(rows), len(channels), -1).transpose(1, 2)
                source = channels[:0] if len(channels) == conv.in_channels else channels  # none: all of them
            pieces.append(piece.flatten())
            self.register_buffer(f"source{i}", source)
        self.sizes, self.rows = [len(p) for p in pieces], [len(b.rows) for b in blocks]
        self.weight = nn.Parameter(torch.cat(pieces))
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())
        # each output's place among the blocks' rows; the one behind them is zero
        rows = torch.cat([b.rows for b in blocks]).to(left.device)
        self.overlaps = len(rows.unique()) < len(rows)
        place = rows.new_full((conv.out_channels,), len(rows))
        place[rows] = torch.arange(len(rows), device=rows.device)
        self.register_buffer("place", rows if self.overlaps else place)
        self._places: dict[Any, list[torch.Tensor | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_places": {}}  # found again at the first call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = self._gathered(x)
        most = max((len(p) for p in places if p is not None), default=0)
        step = max(1, CACHED // most) if most else len(x)
        if len(x) <= step:
            return self._images(x, places)
        return torch.cat([self._images(some, places) for some in x.split(step)])

    def _images(self, x: torch.Tensor, places: Sequence[torch.Tensor | None]) -> torch.Tensor:
        size = self._size(x)
        pixels = len(x) * size[0] * size[1]
        padded = None if all(self.whole) else self._padded(x)
        inputs, outputs = x, []
        for i, flat in enumerate(self.weight.split(self.sizes)):
            place = places[i]
            if place is not None and padded is not None:
                if not self.again[i]:
                    inputs = padded.index_select(1, place).view(pixels, -1)
                outputs.append(inputs @ flat.view(-1, self.rows[i]))
                continue
            if not self.again[i]:
                source = self.get_buffer(f"source{i}")
                inputs = x.index_select(1, source) if len(source) else x
            weight = flat.view(self.rows[i], *self.kernel, -1).permute(0, 3, 1, 2)
            y = F.conv2d(inputs, weight, None, self.stride, self.padding, self.dilation)
            outputs.append(y.permute(0, 2, 3, 1).reshape(pixels, -1))
        if self.overlaps:
            out = x.new_zeros(pixels, self.channels).index_add_(1, self.place, torch.cat(outputs, 1))
        else:
            out = torch.cat([*outputs, x.new_zeros(pixels, 1)], 1).index_select(1, self.place)
        if self.bias is not None:
            out += self.bias
        return out.view(len(x), *size, -1).permute(0, 3, 1, 2)

    def _size(self, x: torch.Tensor) -> list[int]:
        """Height and width of the output."""
        sides = zip(x.shape[2:], self.padding, self.dilation, self.kernel, self.stride, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in sides]

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        """(N, (H + 2 p) (W + 2 p) C_in)."""
        down, right = self.padding
        return F.pad(x.permute(0, 2, 3, 1), (0, 0, right, right, down, down)).flatten(1)

    def _gathered(self, x: torch.Tensor) -> list[torch.Tensor | None]:
        """For each block that is no convolution: where its columns stand in a padded image, output by output, (H' W' k,)."""
        key = (x.shape[1:], x.device)
        if key not in self._places:
            with torch.inference_mode(False):  # they outlive this call
                self._places[key] = [None if w else self._index(i, x) for i, w in enumerate(self.whole)]
        return self._places[key]

    def _index(self, i: int, x: torch.Tensor) -> torch.Tensor:
        channels, line = x.shape[1], x.shape[3] + 2 * self.padding[1]
        down, right = (torch.arange(n, device=x.device) * s for n, s in zip(self._size(x), self.stride, strict=True))
        starts = (down[:, None] * line + right).flatten() * channels
        source = self.get_buffer(f"source{i}")
        tap = source % (self.kernel[0] * self.kernel[1])
        pixel = tap // self.kernel[1] * self.dilation[0] * line + tap % self.kernel[1] * self.dilation[1]
        channel = source // (self.kernel[0] * self.kernel[1])
        return (starts[:, None] + pixel * channels + channel).flatten()


def whole_channels(columns: torch.Tensor, area: int) -> torch.Tensor | None:
    """Input channels that sorted columns are made of, None where a channel is there in part."""
    if len(columns) % area:
        return None
    channels = columns[::area] // area
    each = torch.arange(area, device=columns.device)
    return channels if torch.equal((channels[:, None] * area + each).flatten(), columns) else None


def batch_norms(model: nn.Module) -> dict[str, str]:
    """Names of convolutions, and of the batch norm that stands right behind each in module order."""
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    return {a: b for (a, m), (b, k) in pairwise(layers) if isinstance(m, nn.Conv2d) and isinstance(k, nn.BatchNorm2d)}


@torch.no_grad()
def with_blocks(model: nn.Module, blocks: Mapping[str, Sequence[Block]]) -> nn.Module:
    """A copy in eval mode that executes these convolutions by blocks, their batch norms folded into them.

    What stands outside a layer's blocks must be zero.  Folded here, since whoever deploys a network folds
    (`fold_batch_norms`) and knows plain convolutions only.
    """
    out = copy.deepcopy(model).eval()
    norms = batch_norms(out)
    for name, layer in blocks.items():
        conv = out.get_submodule(name)
        if name in norms:
            conv = fuse_conv_bn_eval(conv, out.get_submodule(norms[name]))  # type: ignore[type-var]
            out.set_submodule(norms[name], nn.Identity())
        out.set_submodule(name, BlockConv2d(conv, layer))  # type: ignore[arg-type]
    return out
