"""Blocks that drop patches and then look only along the strongest of their connections (Tri-Level E-ViT, Kong et al. 2023).

Where a block prunes, the attention between the patches that stay, mean over its heads, tells which connections the blocks behind
it keep: of each patch the strongest share.  The class token sees all patches and is seen by all.

Two forms of the same masks: `attend` takes an additive one of 0 and the lowest number (a masked connection weighs exactly 0, and no
matrix of weights is kept), `masked_softmax` is the released code's, in which it weighs about 1e-6 over the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.vit_blocks import (
    TEST_SEED,
    Flow,
    TokenBlock,
    attend,
    connect,
    drawn_scores,
    flow_of,
    heads,
    merge,
    strongest,
)
from reference_impls.parts.vit_schedule import Ramp, kept, prune_blocks, pruned
from suite.naming import address
from tasks.vit_training.networks import Shape, Tokens

EPS = 1e-6  #: of the released softmax
ALIGNED = 16  #: entries that a mask's rows lie apart, or a multiple: torch's kernel on a GPU copies a mask of others at each call
#: weights of attention that are computed at once where a mask is made, a few images at a time: as many as a core's cache holds
CHUNK, CHUNK_GPU = 2**19, 2**25


@dataclass
class MaskFlow(Flow):
    """What masked blocks are set to, and what they hand on within a forward pass."""

    links: float = 1.0  #: share of the connections that a patch keeps in training, as the schedule has it now
    links_target: float = 1.0  #: the same in evaluation
    exact: bool = False  #: whether attention is the released code's softmax
    watch: bool = False  #: whether `spread` is filled
    drawn: bool = False  #: whether patches leave by uniform draws instead of the class attention
    seed: int = TEST_SEED  #: of this step's draws
    #: (B, 1, n, n) of the coming blocks: 0 and the lowest number, or 1 and 0 where exact; None: all open
    mask: torch.Tensor | None = None
    open: float | torch.Tensor = 0.0  #: how many connections this mask leaves, a mean over the images
    spread: torch.Tensor | None = None  #: variance of the last block's class attention over the patches (B,)
    left: float | torch.Tensor = 0.0  #: how many the blocks of the last training pass had in all, a mean over the images
    whole: int = 0  #: how many they would have had without masks


def masked_softmax(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Weights of attention as released (Tri-Level E-ViT's `models_attn_tok.py`), (B, H, n, n) in float32.

    Args:
        mask: (B, 1, n, n) of 0 and 1; None: all 1.
    """
    return eps_softmax((q @ k.transpose(-2, -1)).float() * q.shape[-1] ** -0.5, mask)


def eps_softmax(logits: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """A softmax over the last of n columns in which masked ones weigh about 1e-6 / n: of float32, in its shape.

    The largest logit is that of all columns, masked ones too: where it is a masked one, the two eps count.  A row that is masked
    whole would weigh all columns alike.
    """
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    if mask is not None:
        weights = weights * mask
    found: torch.Tensor = (weights + EPS / weights.shape[-1]) / (weights.sum(-1, keepdim=True) + EPS)
    return found


def kth_largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """The `count`-th largest value of each row, (..., n) to (..., 1)."""
    if values.device.type == "cpu":  # numpy's selection is several times as fast as torch's there
        at = values.shape[-1] - count
        return torch.from_numpy(np.partition(values.numpy(), at, axis=-1)[..., at : at + 1])
    return values.topk(count, sorted=False).values.amin(-1, keepdim=True)


def rows(matrices: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of each matrix (B, n, m) by their numbers (B, K) int64, (B, K, m).

    Whole rows are copied, and their gradients back: a gather does either entry by entry.
    """
    batch, n, m = matrices.shape
    numbers = at + n * torch.arange(batch, device=at.device).unsqueeze(1)
    return matrices.reshape(batch * n, m).index_select(0, numbers.flatten()).view(batch, -1, m)


@torch.no_grad()
def linked(
    q: torch.Tensor, k: torch.Tensor, index: torch.Tensor | None, count: int, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next mask, from the attention between the patches that stay: additive (B, 1, K + 1, K + 1), and how many it opens.

    Of each patch those connections stay that are at least as strong as its `count`-th strongest.  That is more of them where
    several are equal, as masked ones are: a patch that has fewer open connections left than `count` opens to all.

    Args:
        q, k: queries and keys of all tokens that entered (B, H, n, d).
        index: the patches that stay (B, K) int64, in their new order; None: all.
        mask: the one that this attention was under, additive (B, 1, n, n); None: there was none.

    Returns the mask in the type of `q`, and the open connections as a mean over the images.
    """
    batch, _, n, d = q.shape
    stay = n - 1 if index is None else index.shape[1]
    made = q.new_zeros(batch, 1, stay + 1, ALIGNED * -(-(stay + 1) // ALIGNED))[..., : stay + 1]
    closed = torch.zeros((), dtype=torch.int64, device=q.device)
    size = max(1, (CHUNK if q.device.type == "cpu" else CHUNK_GPU) // (q.shape[1] * stay * n))
    for here in (slice(first, first + size) for first in range(0, batch, size)):
        queries, before = q[here], None if mask is None else mask[here, 0]
        at = None if index is None else index[here] + 1  # the class token counted
        if at is None:
            queries, before = queries[:, :, 1:] * d**-0.5, None if before is None else before[:, 1:]
        else:
            queries = rows(queries.transpose(1, 2).flatten(2), at).mul_(d**-0.5).unflatten(2, (-1, d)).transpose(1, 2)
            before = None if before is None else rows(before, at)
        logits = (queries @ k[here].transpose(-2, -1).contiguous()).float()
        if before is not None:
            logits += before.unsqueeze(1)
        weights = logits.softmax(-1).mean(1)
        weights = weights[:, :, 1:] if at is None else weights.gather(2, at.unsqueeze(1).expand(-1, stay, -1))
        weak = weights < kth_largest(weights, count)
        made[here, 0, 1:, 1:].copy_(weak)
        closed += weak.count_nonzero()
    return made.mul_(torch.finfo(made.dtype).min), (stay + 1) ** 2 - closed / batch


@torch.no_grad()
def linked_exactly(weights: torch.Tensor, index: torch.Tensor | None, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same mask as 1 and 0, from the weights of attention (B, N, N) between all patches, which are there already."""
    if index is not None:
        stay = index.shape[1]
        weights = weights.gather(1, index.unsqueeze(-1).expand(-1, -1, weights.shape[-1]))
        weights = weights.gather(2, index[:, None].expand(-1, stay, -1))
    batch, stay, _ = weights.shape
    strong = weights >= kth_largest(weights, count)
    made = weights.new_ones(batch, 1, stay + 1, stay + 1)
    made[:, 0, 1:, 1:] = strong
    return made, made.sum() / batch


class MaskedBlock(TokenBlock):
    """A block whose attention is masked; where it prunes it drops patches and makes the mask of the blocks behind it.

    Its own attention runs on all tokens that enter, under the mask of the prune before.
    """

    flow: MaskFlow
    last: bool = False  #: of its network

    def attention_step(self, x: torch.Tensor) -> torch.Tensor:
        flow, n = self.flow, x.shape[1]
        if self.first:
            flow.mask, flow.left, flow.whole = None, 0.0, 0
        if self.training:
            flow.left, flow.whole = flow.left + (n * n if flow.mask is None else flow.open), flow.whole + n * n
        q, k, v = heads(self.attn, self.norm1(x))
        weights = masked_softmax(q, k, flow.mask) if flow.exact else None
        out = attend(q, k, v, flow.mask) if weights is None else weights.to(v.dtype) @ v
        x = x + self.drop_path1(self.ls1(merge(self.attn, out)))
        if self.last and flow.watch:
            flow.spread = self.classes(q, k, weights).float().var(1)
        if self.prunes:
            x = self.prune(x, q, k, weights)
        if self.last:
            flow.mask = None  # nothing is held until the next pass
        return x

    @torch.no_grad()
    def classes(self, q: torch.Tensor, k: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """The class token's attention to the patches (B, N); it is never masked."""
        return self.score(q, k) if weights is None else weights[:, :, 0, 1:].mean(1)

    def ranking(self, q: torch.Tensor, k: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """What patches are ranked by where some leave (B, N)."""
        if not self.flow.drawn:
            return self.classes(q, k, weights)
        # every prune sees another number of tokens, or none leaves
        return drawn_scores(q.transpose(1, 2), address(self.flow.seed if self.training else TEST_SEED, q.shape[2]))

    def prune(self, x: torch.Tensor, q: torch.Tensor, k: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """Patches (B, 1 + N, C) to those that stay (B, 1 + K, C), in falling order of the class token's attention to them."""
        flow, count = self.flow, x.shape[1] - 1
        stay = kept(count, self.ratio)
        index = None if stay == count else strongest(self.ranking(q, k, weights), stay)
        if flow.record:
            flow.kept.append(torch.arange(count, device=x.device).expand(len(x), -1) if index is None else index)
        if index is not None:
            x = rows(x, F.pad(index + 1, (1, 0)))
        links = kept(stay, flow.links if self.training else flow.links_target)
        if links == stay:
            flow.mask = None
        elif weights is None:
            flow.mask, flow.open = linked(q, k, index, links, flow.mask)
        else:
            flow.mask, flow.open = linked_exactly(weights.detach()[:, :, 1:, 1:].mean(1), index, links)
        return x


def connect_masked(model: nn.Module, flow: MaskFlow) -> nn.Module:
    """Give a network of `MaskedBlock` its flow, and let those at `prune_blocks` prune; returns it."""
    blocks: Any = connect(model, flow).blocks
    blocks[-1].last = True
    return model


@dataclass(frozen=True)
class Masking:
    """A schedule (`tasks.vit_training.problem.Schedule`) by which such blocks keep fewer patches and fewer connections."""

    patches: Ramp
    links: Ramp
    shape: Shape

    def set(self, model: nn.Module, point: float) -> None:
        flow: Any = flow_of(model)
        flow.keep, flow.links = self.patches.at(point), self.links.at(point)

    def tokens(self, point: float) -> Tokens:
        return pruned(self.shape, self.patches.at(point))

    def open(self, point: float) -> float:
        """Share of attention's products that masks leave at a point where no two connections are equally strong."""
        return open_share(self.shape, self.patches.at(point), self.links.at(point))


def open_share(shape: Shape, keep: float, links: float) -> float:
    """Share of the connections that masks leave in a pass, the class token's row and column counted; equal ones are not."""
    tokens, left, whole, opened = pruned(shape, keep), 0, 0, 0
    at = prune_blocks(shape.depth)
    for block, (n, m) in enumerate(tokens):
        whole += n * n
        left += opened or n * n
        if block in at:
            opened = 2 * m - 1 + (m - 1) * kept(m - 1, links)
    return left / whole
