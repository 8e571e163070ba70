"""Patches leave at three blocks by another score than the largest class attention: controls that tell whether the score matters.

Deviations: EViT's blocks, schedule and counts, nothing fused; the score is drawn uniformly, the class attention turned round, the
variance of a patch's pixels, or for comparison the class attention itself. All four keep equally many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from reference_impls.parts.vit_blocks import TEST_SEED, Flow, Kept, TokenBlock, class_attention, connect, drawn_scores
from reference_impls.parts.vit_schedule import RAMP_POINTS
from reference_impls.parts.vit_tickets import cut
from reference_impls.parts.vit_training import Draws, VitTrainer, trained
from reference_impls.vit_training.evit import Current, Way, check_keep, ramp_for
from suite.naming import address
from tasks.vit_training.problem import Trained, VitProblem

__all__ = ["TokenSelection"]

Score = Literal["random", "inverted", "variance", "class"]


@dataclass(frozen=True)
class TokenSelection:
    """Tokens chosen by class attention in the first layers, and random tokens as a control."""

    version: ClassVar[int] = 1

    #: what patches are ranked by: a uniform draw, class attention turned round, the variance of their pixels, class attention
    score: Score = "random"
    keep: float | None = None  #: share of the patches that a pruning block keeps in the end; None: whatever the target asks for
    ramp: Way = "cosine"  #: how the ratio falls to that share: along a cosine, or at the first step

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def solve(self, problem: VitProblem) -> Trained:
        ramp = ramp_for(problem, self.keep, self.ramp, fused=False)
        scoring = Scoring(by=self.score, record=True)
        model = connect(problem.network(ScoredBlock), scoring)
        if self.score == "variance":
            embed: Any = model.patch_embed
            embed.register_forward_pre_hook(PixelVariance(scoring, problem.vit.patch))
        schedule = Current(ramp, problem.vit)
        draws = Draws(problem.run, "token_selection scores", scoring)
        fitted = VitTrainer(problem).fit("train", model, schedule=schedule, hooks=draws)
        schedule.end(model)
        scoring.variance = None
        return trained(fitted, schedule=schedule, points=(0.5,) if ramp.constant else RAMP_POINTS, keeps=Kept(model))


@dataclass
class Scoring(Flow):
    """What blocks rank patches by; who was kept is recorded, so that a pixel variance can be followed."""

    by: Score = "random"
    seed: int = TEST_SEED  #: of this step's draws
    variance: torch.Tensor | None = None  #: of the pass's patches (B, N), in raster order


class ScoredBlock(TokenBlock):
    flow: Scoring

    def score(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        flow = self.flow
        if flow.by == "class":
            return class_attention(q, k)
        if flow.by == "inverted":
            return -class_attention(q, k)
        if flow.by == "random":
            return drawn_scores(q.transpose(1, 2), address(flow.seed if self.training else TEST_SEED, len(flow.kept)))
        assert flow.variance is not None
        variance = flow.variance
        for index in flow.kept:
            variance = variance.gather(1, index)
        return variance


@dataclass
class PixelVariance:
    """A hook before the patch embedding that notes the variance of each patch's pixels, channels together."""

    scoring: Scoring
    patch: int  #: side in pixels

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.scoring.variance = cut(inputs[0].detach(), self.patch).var(-1)
