"""Swin blocks in which the tokens of least attention stand still (Tri-Level E-ViT's variant for Swin)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from reference_impls.parts.vit_attention_masks import eps_softmax, kth_largest
from reference_impls.parts.vit_blocks import heads, merge
from tasks.vit_training.patches import timm

_swin = timm("timm.models.swin_transformer")

STAGE = 2  #: the third stage, whose tokens are stopped
UPDATES = (1, 2, 3)  #: after these of its blocks, whatever its depth


@dataclass
class Standing:
    """What the blocks of the stage are set to, and what they hand on within a forward pass; copied and pickled with the network."""

    ratio: float = 0.9  #: share of the moving tokens that go on moving, at each update
    #: whether exactly as many go on, and none comes back; else one fewer, and a token that stands may move again, as released
    corrected: bool = False
    moving: torch.Tensor | None = None  #: (B, H, W, 1) bool; None: all
    count: int = 0  #: how many move by the book
    record: bool = False  #: whether the next two are filled
    masks: list[torch.Tensor] = field(default_factory=list)  #: which tokens moved in each block of the last pass, (B, H W) bool
    scores: list[torch.Tensor] = field(default_factory=list)  #: what each block's tokens scored (B, H W)


def policy_softmax(logits: torch.Tensor, policy: torch.Tensor | None) -> torch.Tensor:
    """Weights of attention in which only some keys count, and each query's own (Tri-Level E-ViT's `swin_transformer_prune.py`).

    Args:
        logits: (B, H, n, n)
        policy: (B, n) of 0 and 1, by key; None: all 1.

    Returns weights (B, H, n, n) in float32.
    """
    if policy is None:
        return eps_softmax(logits.float(), None)
    counts = policy[:, None, None].float()
    return eps_softmax(logits.float(), counts + (1 - counts) * torch.eye(logits.shape[-1], device=logits.device))


class StandingBlock(_swin.SwinTransformerBlock):  # type: ignore[misc, name-defined]
    """timm's block until it is connected; then tokens that stand enter it as zeros, and leave it as they came."""

    flow: Standing | None = None
    number: int = 0  #: within its stage
    last: bool = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same."""
        flow = self.flow
        if flow is None:
            return super().forward(x)  # type: ignore[no-any-return]
        if self.number == 0:
            flow.moving, flow.count = None, x.shape[1] * x.shape[2]
            flow.masks, flow.scores = [], []
        moving = flow.moving
        went = x if moving is None else x * moving
        update = self.number in UPDATES
        attended, score = self.attended(self.norm1(went), moving, scored=update or flow.record)
        went = went + self.drop_path1(attended)
        went = went + self.drop_path2(self.mlp(self.norm2(went)))
        if flow.record and score is not None:
            everywhere = torch.ones_like(score, dtype=torch.bool)
            flow.masks.append(everywhere if moving is None else moving.flatten(1))
            flow.scores.append(score)
        if update and score is not None:
            flow.count = max(1, int(flow.count * flow.ratio))
            stay = stays(score, None if moving is None else moving.flatten(1), flow.count, corrected=flow.corrected)
            flow.moving = stay.view(*x.shape[:3], 1)
        if self.last:
            flow.moving = None  # nothing is held until the next pass
        return went if moving is None else torch.where(moving, went, x)

    def attended(self, x: torch.Tensor, moving: torch.Tensor | None, *, scored: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the windows' attention makes of normalised tokens (B, H, W, C), and if wanted the tokens' scores (B, H W).

        A token's score is the attention that it gets from all tokens of its window, mean over the heads.  Windows tile the stage.
        """
        height, width = x.shape[1:3]
        shift = [-s for s in self.shift_size]
        if any(shift):
            x = x.roll(shift, (1, 2))
            moving = None if moving is None else moving.roll(shift, (1, 2))
        windows = _swin.window_partition(x, self.window_size).flatten(1, 2)
        policy = None if moving is None else _swin.window_partition(moving, self.window_size).flatten(1)
        q, k, v = heads(self.attn, windows)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.attn._get_rel_pos_bias()
        if self.attn_mask is not None:  # between tokens that only the roll made neighbours
            logits = (logits.unflatten(0, (-1, len(self.attn_mask))) + self.attn_mask[:, None]).flatten(0, 1)
        weights = policy_softmax(logits, policy)
        out = self.whole(merge(self.attn, weights.to(v.dtype) @ v), height, width)
        if not scored:
            return out, None
        got = weights.detach().mean(1).sum(1)
        return out, self.whole(got.unsqueeze(-1), height, width).flatten(1)

    def whole(self, windows: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Windows (B', n, C) put together and rolled back, (B, H, W, C)."""
        x = _swin.window_reverse(windows.unflatten(1, self.window_size), self.window_size, height, width)
        return x.roll(list(self.shift_size), (1, 2)) if any(self.shift_size) else x  # type: ignore[no-any-return]


@torch.no_grad()
def stays(score: torch.Tensor, moving: torch.Tensor | None, count: int, *, corrected: bool) -> torch.Tensor:
    """Which tokens move on, (B, L) bool: those above the `count`-th largest score of a moving token, or at least as large.

    As released they are one fewer than `count` (fewer still where scores are equal), and the score of a token that stands is
    compared too, so that it may move again.

    Args:
        score: (B, L)
        moving: (B, L) bool; None: all.
    """
    held = score if moving is None else score * moving
    least = kth_largest(held, count)
    return held >= least if corrected else score > least


def connect_standing(model: nn.Module, flow: Standing) -> nn.Module:
    """Let tokens stand still in the third stage of a Swin of such blocks; returns it."""
    layers: Any = model.layers
    return connect_stage(layers[STAGE], flow) and model


def connect_stage(stage: Any, flow: Standing) -> nn.Module:
    """The same in one stage."""
    for number, block in enumerate(stage.blocks):
        block.flow, block.number, block.last = flow, number, number + 1 == len(stage.blocks)
    return stage  # type: ignore[no-any-return]
