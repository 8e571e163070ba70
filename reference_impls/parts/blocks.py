"""A convolution whose weights stand in a few dense blocks, executed block by block (structure_lth.md 3, "Time").

A block is some rows (output channels) times some columns (places in the flattened filter).  Where its columns are
whole input channels it is a small convolution of those channels; else its columns of the unfolded input are gathered
and multiplied.  Either way only the blocks' own multiply-adds are executed, and so counted.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
        return len(self.rows) * len(self.columns)


def mask_of(blocks: Sequence[Block], shape: Sequence[int]) -> torch.Tensor:
    """Ones in the blocks: a bool mask of a weight's shape (C, ...)."""
    mask = torch.zeros(tuple(shape), dtype=torch.bool).flatten(1)
    for b in blocks:
        mask[b.rows[:, None], b.columns] = True
    return mask.view(tuple(shape))


class BlockConv2d(nn.Module):
    """Gives what `conv` gives with zeros outside the blocks, for the blocks' multiply-adds.

    `weight` holds the blocks' weights one after the other, (sum of q k,).  Where blocks overlap the first has the weight.
    Raises ValueError for a convolution in groups, or one that pads with anything but a number of zeros.
    """

    def __init__(self, conv: nn.Conv2d, blocks: Sequence[Block]) -> None:
        super().__init__()
        if conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(f"{conv}: blocks are for plain convolutions that pad with a number of zeros")
        self.stride, self.padding, self.dilation, self.kernel = conv.stride, conv.padding, conv.dilation, conv.kernel_size
        self.channels = conv.out_channels
        left = conv.weight.detach().flatten(1).clone()
        pieces, self.whole, self.again = [], [], []
        columns = None
        for i, b in enumerate(blocks):
            self.again.append(b.columns is columns)  # the halves of a block that was cut share what is gathered
            columns = b.columns
            rows, source = b.rows.to(left.device), columns.to(left.device).sort().values
            piece = left[rows[:, None], source]
            left[rows[:, None], source] = 0  # an overlap counts once
            channels = whole_channels(source, conv.kernel_size[0] * conv.kernel_size[1])
            self.whole.append(channels is not None)
            if channels is not None:  # weights lie as the inputs do, channels last
                piece = piece.view(len(rows), len(channels), -1).transpose(1, 2)
                source = channels[:0] if len(channels) == conv.in_channels else channels  # none: all of them
            pieces.append(piece.flatten())
            self.register_buffer(f"source{i}", source)
        self.sizes = [len(p) for p in pieces]
        self.rows = [len(b.rows) for b in blocks]
        self.weight = nn.Parameter(torch.cat(pieces))
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())
        self.register_buffer("place", torch.cat([b.rows for b in blocks]).to(left.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) to (N, C, H', W')."""
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(x.shape[2:], self.padding, self.dilation, self.kernel, self.stride, strict=True)
        ]
        unfolded = gathered = None
        parts = []
        for i, weight in enumerate(self.weight.split(self.sizes)):
            source = self.get_buffer(f"source{i}")
            if self.whole[i]:
                if not self.again[i]:
                    gathered = x.index_select(1, source) if len(source) else x
                weight = weight.view(self.rows[i], *self.kernel, -1).permute(0, 3, 1, 2)
                parts.append(F.conv2d(gathered, weight, None, self.stride, self.padding, self.dilation))
                continue
            if unfolded is None:
                unfolded = F.unfold(x, self.kernel, self.dilation, self.padding, self.stride)
            if not self.again[i]:
                gathered = unfolded.index_select(1, source)
            parts.append((weight.view(self.rows[i], -1) @ gathered).unflatten(2, size))
        out = x.new_zeros(len(x), self.channels, *size).index_add_(1, self.place, torch.cat(parts, 1))
        return out if self.bias is None else out + self.bias.view(-1, 1, 1)


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
        folded = fuse_conv_bn_eval(out.get_submodule(name), out.get_submodule(norms[name]))  # type: ignore[type-var]
        out.set_submodule(name, BlockConv2d(folded, layer))
        out.set_submodule(norms[name], nn.Identity())
    return out
