"""Each patch attends to a share of the patches only: to the strongest, to near ones, or to ones drawn at random.

Paper: Zaheer et al. Big Bird: Transformers for Longer Sequences. NeurIPS 2020, arXiv 2007.14062, for near and random connections
with a global token; Kong et al. Peeling the Onion. AAAI 2023, arXiv 2211.10801, for the strongest.

Deviations: a mask in every block from the first step on, with as many connections whatever the pattern. The class token attends to
all and is attended to by all; it is the only global token. Half of BigBird's connections are near, half are drawn. Masks save no
arithmetic, so the share is Tri-Level's default whatever the target asks for, and the row is off it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from reference_impls.parts.vit_attention_masks import linked
from reference_impls.parts.vit_blocks import attend, heads, merge
from reference_impls.parts.vit_schedule import IfMasksSaved, kept
from reference_impls.parts.vit_training import VitTrainer, trained
from suite.naming import UserError, address
from tasks.vit_training.problem import Constant, Same, Trained, VitProblem, asked

__all__ = ["SparseAttention"]

Pattern = Literal["topk", "window", "bigbird", "random"]


@dataclass(frozen=True)
class SparseAttention:
    """Settings as in the paper and the released code."""

    version: ClassVar[int] = 1

    #: which connections stay: each patch's strongest, by the mean over heads; those of least distance on the grid; half such ones
    #: and half drawn; all drawn. Drawn ones are each block's own and stay the same
    pattern: Pattern = "topk"
    keep: float = 0.3  #: share of the patches that a patch attends to, a mean over the patches

    def __post_init__(self) -> None:
        if self.pattern not in get_args(Pattern):
            raise UserError(f"no pattern {self.pattern!r}; there are: {', '.join(get_args(Pattern))}")
        if not 0 < self.keep <= 1:
            raise UserError(f"keep={self.keep:g} is no share of the patches; give one above 0 and at most 1, for example 0.3")

    def solve(self, problem: VitProblem) -> Trained:
        asked(problem, "train_macs")
        shape = problem.vit
        count = kept(shape.patches, self.keep)
        model = with_masks(problem.network(), self.pattern, shape.patches, count, problem.run.seed("sparse_attention connections"))
        fitted, schedule = VitTrainer(problem).fit("train", model), Constant(shape.full)
        ideal = IfMasksSaved(shape, schedule.tokens, Same(left_share(shape.patches, count)))
        return trained(fitted, schedule=schedule, ideal=ideal)


def left_share(patches: int, count: int) -> float:
    """Share of the connections that stay where a patch attends to so many patches: the class token's row and column are open."""
    return (patches * count + 2 * patches + 1) / (patches + 1) ** 2


def connections(pattern: Pattern, patches: int, count: int, seed: int) -> torch.Tensor:
    """Which patches attend to which, (N, N) bool, `count` a row in the mean; patches lie in raster order on a square grid.

    A window holds all pairs up to a distance of the grid (the larger of rows and columns between them), and of the pairs that lie
    one further as many as are left over, drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    # two draws: what the first has left over would be chosen unevenly by it
    tie, draw = torch.rand(2, patches, patches, generator=generator, dtype=torch.float64)
    near = {"window": count * patches, "bigbird": count * patches // 2, "random": 0}[pattern]
    side = round(patches**0.5)
    place = torch.stack([torch.arange(patches) // side, torch.arange(patches) % side], 1)
    distance = (place[:, None] - place[None]).abs().amax(-1)
    # a draw is below 1: it decides among pairs of one distance only
    first = (distance + tie).flatten().argsort()[:near]
    open_ = torch.zeros(patches * patches, dtype=torch.bool)
    open_[first] = True
    rest = draw.flatten().masked_fill(open_, torch.inf).argsort()[: count * patches - near]
    open_[rest] = True
    return open_.view(patches, patches)


class SparseBlocks(nn.Sequential):
    """timm's blocks in their order, the attention of each under a mask that all heads share."""

    links: int | None = None  #: connections that a patch keeps of its strongest; None: the masks are fixed
    masks: torch.Tensor | None  #: those (depth, n, n) bool; None: all open, or the strongest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, block in enumerate(self):
            x = self.step(block, x, None if self.masks is None else self.masks[number])
        return x

    def step(self, block: Any, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        q, k, v = heads(block.attn, block.norm1(x))
        if self.links is not None:
            mask, _ = linked(q, k, None, self.links, None)
        x = x + block.drop_path1(block.ls1(merge(block.attn, attend(q, k, v, mask))))
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))  # type: ignore[no-any-return]


def with_masks(model: Any, pattern: Pattern, patches: int, count: int, seed: int) -> nn.Module:
    """Let each patch of a plain ViT attend to `count` patches in the mean; fixed masks are addressed by the seed; returns it."""
    model.blocks = blocks = SparseBlocks(*model.blocks)
    masks = None
    if count < patches and pattern == "topk":
        blocks.links = count
    elif count < patches:
        masks = torch.ones(len(blocks), patches + 1, patches + 1, dtype=torch.bool)
        for number, mask in enumerate(masks):
            mask[1:, 1:] = connections(pattern, patches, count, address(seed, number))
    at = next(model.parameters()).device
    # made anew with the network: no weight, and no part of a checkpoint
    blocks.register_buffer("masks", None if masks is None else masks.to(at), persistent=False)
    return model  # type: ignore[no-any-return]
