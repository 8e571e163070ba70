"""In every block the tokens that are most alike are merged, weighed by how many patches each stands for.

Paper: Bolya, Fu, Dai, Zhang, Feichtenhofer, Hoffman. Token Merging: Your ViT But Faster. ICLR 2023, arXiv 2210.09461.

Deviations: trained with merging from the first step. How many merge in each block is solved from what the training may cost:
equally many in all blocks, and one more in some, so that it is met closely; the paper takes 13 in every block of DeiT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.vit_blocks import attend, heads, merge
from reference_impls.parts.vit_schedule import out_of_reach
from reference_impls.parts.vit_training import VitTrainer, trained
from suite.naming import UserError
from tasks.vit_training.networks import Shape, Tokens
from tasks.vit_training.patches import gather_patches
from tasks.vit_training.problem import Constant, Trained, VitProblem, asked

__all__ = ["Tome"]


@dataclass(frozen=True)
class Tome:
    """Settings as in the paper and the released code."""

    version: ClassVar[int] = 1

    r: int | None = None  #: tokens that merge in a block, the mean over blocks; None: whatever the target asks for
    inflection: float = 0.0  #: how they lie: 0 equally many in every block, -1 falling from 2 r to none, 1 rising from none to 2 r
    proportional: bool = True  #: whether a token draws as much attention as the patches that it stands for

    def __post_init__(self) -> None:
        if self.r is not None and self.r < 0:
            raise UserError(f"r={self.r} tokens cannot merge; give 0 or more")
        if not -1 <= self.inflection <= 1:
            raise UserError(f"inflection={self.inflection:g} must lie between -1 and 1")

    def solve(self, problem: VitProblem) -> Trained:
        _, wanted = asked(problem, "train_macs")
        shape = problem.vit
        if self.r is not None:
            merges = parse_r(shape.depth, self.r, self.inflection)
        else:  # the same in every step, so the training costs the share that an image does
            merges = merges_for(shape, wanted, self.inflection)
            out_of_reach(problem.spec.target, wanted, shape.macs(merged(shape, merges)) / shape.macs(shape.full))
        model = with_merging(problem.network(), merges, proportional=self.proportional)
        schedule = Constant(merged(shape, merges))
        fitted = VitTrainer(problem).fit("train", model, schedule=schedule)
        return trained(fitted, schedule=schedule)


@dataclass(frozen=True)
class Matching:
    """Which tokens of the even positions merge into which of the odd ones."""

    stay: torch.Tensor  #: (B, even - r) even positions that do not merge, numbered among the even ones, rising
    gone: torch.Tensor  #: (B, r) those that do
    into: torch.Tensor  #: (B, r) where to, numbered among the odd ones

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to (B, T - r, C): the unmerged even positions, then the odd ones, each with what merges into it added."""
        even, odd = values[:, ::2], values[:, 1::2]
        into = self.into.unsqueeze(-1).expand(-1, -1, values.shape[-1])
        return torch.cat([gather_patches(even, self.stay), odd.scatter_add(1, into, gather_patches(even, self.gone))], 1)


@torch.no_grad()
def match(metric: torch.Tensor, r: int) -> Matching:
    """The r even positions that are most alike to an odd one, each with the odd one that it is most alike to.

    The class token, at position 0, does not merge, and none merges into it: it is an even one.

    Args:
        metric: (B, T, d), compared by cosine.
        r: where so many cannot merge, as many as can: (T - 1) // 2.
    """
    r, metric = most_merges(metric.shape[1], r), F.normalize(metric, dim=-1)
    alike = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)
    alike[:, 0] = -torch.inf
    best, partner = alike.max(-1)
    order = best.argsort(dim=1, descending=True, stable=True)
    gone = order[:, :r]
    return Matching(order[:, r:].sort(1).values, gone, partner.gather(1, gone))


def most_merges(tokens: int, r: int) -> int:
    """Of r how many can merge, the class token being among so many tokens."""
    return min(r, (tokens - 1) // 2)


class MergingBlocks(nn.Sequential):
    """timm's blocks in their order; between attention and MLP of each some tokens merge."""

    merges: Sequence[int] = ()  #: tokens that merge in each block; none where it is empty
    proportional: bool = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + N, C) to (B, 1 + N - merged, C), the class token first."""
        size = None  # (B, T, 1) patches that a token stands for; None while it is 1 of all
        for block, r in zip(self, self.merges, strict=True):
            x, size = self.step(block, x, size, most_merges(x.shape[1], r))
        return x

    def step(self, block: Any, x: torch.Tensor, size: torch.Tensor | None, r: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        q, k, v = heads(block.attn, block.norm1(x))
        log_size = None
        if size is not None and self.proportional:
            log_size = size.log().to(q.dtype)[:, None, None, :, 0]  # added to the logits of each key
        x = x + block.drop_path1(block.ls1(merge(block.attn, attend(q, k, v, log_size))))
        if r:
            x, size = merge_tokens(x, size, match(k.mean(1), r))
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))), size


def with_merging(model: Any, merges: Sequence[int], *, proportional: bool = True) -> nn.Module:
    """Let the blocks of a plain ViT merge so many tokens each; returns it."""
    model.blocks = blocks = MergingBlocks(*model.blocks)
    blocks.merges, blocks.proportional = tuple(merges), proportional
    return model  # type: ignore[no-any-return]


def merge_tokens(x: torch.Tensor, size: torch.Tensor | None, matching: Matching) -> tuple[torch.Tensor, torch.Tensor]:
    """Means weighed by size: (B, T, C) and (B, T, 1) to (B, T - r, C) and (B, T - r, 1), sizes summed; None: all are 1."""
    if size is None:
        size = x.new_ones(*x.shape[:2], 1)
    merged_size = matching.sums(size)
    return matching.sums(x * size) / merged_size, merged_size


def parse_r(depth: int, r: int, inflection: float = 0.0) -> tuple[int, ...]:
    """Merges of each block: r in all, or along a line from r (1 - inflection) to r (1 + inflection), cut to whole numbers (5.5)."""
    low = int(r * (1 - inflection))
    high = 2 * r - low
    return tuple(int(low + (high - low) * block / max(1, depth - 1)) for block in range(depth))


def merged(shape: Shape, merges: Sequence[int]) -> Tokens:
    """What the blocks see: the attention all tokens that enter, the MLP what merging leaves."""
    count, tokens = shape.patches + 1, []
    for r in merges:
        left = count - most_merges(count, r)
        tokens.append((count, left))
        count = left
    return tuple(tokens)


def merges_for(shape: Shape, wanted: float, inflection: float = 0.0) -> tuple[int, ...]:
    """Merges of each block whose cost comes nearest to a share of the dense forward pass.

    The largest r that does not cost less, and on top of it more merges where that still holds, the earliest blocks first, which
    save most; no block has more than the next r gives it.
    """

    def cost(merges: Sequence[int]) -> float:
        return shape.macs(merged(shape, merges)) / shape.macs(shape.full)

    r = max(r for r in range(shape.patches + 1) if r == 0 or cost(parse_r(shape.depth, r, inflection)) >= wanted)
    found, most = (parse_r(shape.depth, n, inflection) for n in (r, r + 1))

    def more(block: int) -> tuple[int, ...]:
        return (*found[:block], found[block] + 1, *found[block + 1 :])

    for block in range(shape.depth):
        while found[block] < most[block] and cost(more(block)) >= wanted:
            found = more(block)
    nearby = [found, *(more(block) for block in range(shape.depth) if found[block] < most[block])]
    return min(nearby, key=lambda merges: abs(cost(merges) - wanted))
