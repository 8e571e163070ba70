"""timm's block with a step between attention and MLP in which tokens may go: what EViT, Tri-Level and ticket selectors share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.vit_schedule import Ramp, kept, prune_blocks, pruned
from tasks.vit_training.networks import Shape, Tokens
from tasks.vit_training.patches import gather_patches, timm

TEST_SEED = 0  #: of the draws outside training

_vit = timm("timm.models.vision_transformer")


@dataclass
class Flow:
    """What the blocks of one network are set to, and what they hand on within a forward pass; copied and pickled with it."""

    keep: float = 1.0  #: share of the patches that a pruning block keeps in training, as the schedule has it now
    target: float = 1.0  #: the same in evaluation
    fuse: bool = False  #: whether dropped patches go on as one
    record: bool = False  #: whether `kept` is filled
    kept: list[torch.Tensor] = field(default_factory=list)  #: of each prune of the last pass (B, K), among those that entered


def heads(attention: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of timm's Attention, (B, H, n, d) each."""
    b, n, _ = x.shape
    q, k, v = attention.qkv(x).reshape(b, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def merge(attention: Any, out: torch.Tensor) -> torch.Tensor:
    """(B, H, n, d) of the heads to (B, n, C)."""
    return attention.proj_drop(attention.proj(out.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax attention by the fused kernel, (B, H, n, d); no matrix of weights is kept."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def class_attention(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """The class token's attention to the patches, mean over heads (B, n - 1): the one row of the matrix that is needed."""
    row = (q[:, :, :1] * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return row.softmax(-1).mean(1)[:, 0, 1:]


def drawn_scores(tokens: torch.Tensor, seed: int) -> torch.Tensor:
    """A uniform number for each patch (B, N), by a seed alone: a stream of their own.

    Args:
        tokens: (B, 1 + N, ...), the class token first.
    """
    generator = torch.Generator(tokens.device).manual_seed(seed)
    return torch.rand(len(tokens), tokens.shape[1] - 1, device=tokens.device, generator=generator)


def strongest(score: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers of the largest scores (B, count) int64, in falling order; of equal ones the first: scores tie in masses."""
    return score.argsort(dim=1, descending=True, stable=True)[:, :count]


def complement(index: torch.Tensor, count: int) -> torch.Tensor:
    """Of `count` numbers those that are not in index (B, K), in rising order (B, count - K)."""
    taken = torch.zeros(len(index), count, dtype=torch.uint8, device=index.device).scatter_(1, index, 1)
    return taken.argsort(dim=1, stable=True)[:, : count - index.shape[1]]  # a search for zeros would wait for a GPU


class TokenBlock(_vit.Block):  # type: ignore[misc, name-defined]
    """A block that keeps the patches of the largest class attention where it prunes (EViT, Liang et al. 2022, section 3)."""

    flow: Flow
    prunes: bool = False
    first: bool = False  #: of its network

    def forward(self, x: torch.Tensor, attn_mask: Any = None, is_causal: bool = False) -> torch.Tensor:
        if self.first:
            self.flow.kept = []
        x = self.attention_step(x)
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))  # type: ignore[no-any-return]

    def attention_step(self, x: torch.Tensor) -> torch.Tensor:
        """The attention's residual, and the prune behind it: (B, 1 + N, C) to (B, 1 + K, C), one more where patches are fused."""
        count = x.shape[1] - 1
        stay = kept(count, self.ratio) if self.prunes else count
        q, k, v = heads(self.attn, self.norm1(x))
        x = x + self.drop_path1(self.ls1(merge(self.attn, attend(q, k, v))))
        if stay >= count:
            if self.prunes and self.flow.record:
                self.flow.kept.append(torch.arange(count, device=x.device).expand(len(x), -1))
            return x
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.flow.fuse):  # who stays is a comparison; fusing weighs by it
            score = self.score(q, k)
        index = strongest(score.detach(), stay)
        if self.flow.record:
            self.flow.kept.append(index)
        patches = x[:, 1:]
        parts = [x[:, :1], gather_patches(patches, index)]
        if self.flow.fuse:
            rest = complement(index, count)
            parts.append((score.gather(1, rest).unsqueeze(-1) * gather_patches(patches, rest)).sum(1, keepdim=True))
        return torch.cat(parts, 1)

    def score(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """What patches are ranked by, (B, N)."""
        return class_attention(q, k)

    @property
    def ratio(self) -> float:
        return self.flow.keep if self.training else self.flow.target


def connect(model: nn.Module, flow: Flow) -> nn.Module:
    """Give a network of such blocks its flow, and let those at `prune_blocks` prune; returns it."""
    blocks: Any = model.blocks
    at = prune_blocks(len(blocks))
    for i, block in enumerate(blocks):
        block.flow, block.prunes, block.first = flow, i in at, i == 0
    return model


class Kept(nn.Module):
    """Which patches a network of such blocks keeps to its end: images to numbers of patches (B, K) int64; -1 is a fused one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flow = flow_of(self.model)
        was, flow.record = flow.record, True
        try:
            self.model(x)
            return compose(flow.kept)
        finally:
            flow.record, flow.kept = was, []


def compose(lists: Sequence[torch.Tensor]) -> torch.Tensor:
    """Index lists, each into what the one before it kept, as one into all patches (B, K); -1 is a patch that was fused."""
    whole, *later = lists
    for index in later:
        whole = F.pad(whole, (0, 1), value=-1).gather(1, index)
    return whole


def flow_of(model: nn.Module) -> Flow:
    blocks: Any = model.blocks
    return blocks[0].flow  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Pruning:
    """A schedule (`tasks.vit_training.problem.Schedule`) by which such blocks keep fewer patches."""

    ramp: Ramp
    shape: Shape
    fused: bool = False

    def set(self, model: nn.Module, point: float) -> None:
        flow_of(model).keep = self.ramp.at(point)

    def tokens(self, point: float) -> Tokens:
        return pruned(self.shape, self.ramp.at(point), fused=self.fused)
