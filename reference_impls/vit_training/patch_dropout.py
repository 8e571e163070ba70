"""A random share of each image's patches, drawn anew every step, is all that enters the network in training; all do at test.

Paper: Liu, Matsoukas, Strand, Azizpour, Smith. PatchDropout: Economizing Vision Transformers Using Patch Dropout. WACV 2023,
arXiv 2208.07220.

Deviations: the share is solved from what the training may cost, or how many patches it may see; whole patches only, so a small
image's training costs what comes nearest. Optional last steps on all patches are FLIP's (Li et al., CVPR 2023, arXiv 2212.00794).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from reference_impls.parts.vit_blocks import drawn_scores
from reference_impls.parts.vit_schedule import out_of_reach
from reference_impls.parts.vit_training import Draws, VitTrainer, trained
from suite.naming import UserError
from tasks.vit_training.networks import Shape, Tokens
from tasks.vit_training.patches import ChosenPatches, take_patches
from tasks.vit_training.problem import Trained, VitProblem, asked

__all__ = ["PatchDropout"]


@dataclass(frozen=True)
class PatchDropout:
    """Settings as in the paper and the released code."""

    version: ClassVar[int] = 1

    p: float | None = None  #: share of the patches that do not enter; None: whatever the target asks for
    unmasked: float = 0.0  #: share of the steps, the last ones, in which all patches enter

    def __post_init__(self) -> None:
        if self.p is not None and not 0 <= self.p < 1:
            raise UserError(f"p={self.p:g} is no share of the patches that can be left out; give one from 0 to below 1")
        if not 0 <= self.unmasked < 1:
            raise UserError(f"unmasked={self.unmasked:g} is no share of the steps; give one from 0 to below 1")

    def solve(self, problem: VitProblem) -> Trained:
        schedule = self.schedule(problem)
        model: Any = problem.network()
        model.patch_drop = drop = RandomPatches()
        draws = Draws(problem.run, "patch_dropout patches", drop)
        fitted = VitTrainer(problem).fit("train", model, schedule=schedule, hooks=draws)
        drop.keep = None
        drop.index = None
        return trained(fitted, schedule=schedule, points=schedule.points)

    def schedule(self, problem: VitProblem) -> Dropping:
        """Of so many patches as come nearest to what is asked for."""
        target, wanted = asked(problem, "train_macs", "tokens")
        shape, steps = problem.vit, problem.epochs * problem.steps_per_epoch
        begin = round((1 - self.unmasked) * steps)
        if self.p is not None:
            return Dropping(shape, kept_patches(shape.patches, self.p), begin, steps)

        def share(keep: int) -> float:
            """Of a whole training."""
            if target == "tokens":
                one = keep / shape.patches
            else:
                one = shape.macs(((keep + 1, keep + 1),) * shape.depth) / shape.macs(shape.full)
            return (begin * one + steps - begin) / steps

        out_of_reach(problem.spec.target, wanted, share(1))
        keep = min(range(1, shape.patches + 1), key=lambda k: abs(share(k) - wanted))
        return Dropping(shape, keep, begin, steps)


def kept_patches(count: int, p: float) -> int:
    """Of so many patches how many enter: the floor of the plain double product, at least 1 (5.2)."""
    return max(1, int(count * (1 - p)))


class RandomPatches(ChosenPatches):
    """In training lets the class token and random patches through, each image's own; those that are chosen, or all, at test."""

    keep: int | None = None  #: patches of an image; None: all
    seed: int = 0  #: of the next draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = x.shape[1] - 1
        if not self.training or self.keep is None or self.keep >= count:
            return super().forward(x)
        return take_patches(x, drawn_scores(x, self.seed).topk(self.keep, dim=1, sorted=False).indices)


@dataclass(frozen=True)
class Dropping:
    """A schedule by which so many random patches enter, and in the last steps all."""

    shape: Shape
    keep: int  #: patches of an image
    begin: int  #: steps until all enter
    steps: int  #: of the training

    def set(self, model: nn.Module, point: float) -> None:
        drop: Any = model.patch_drop
        drop.keep = self.at(point)

    def tokens(self, point: float) -> Tokens:
        count = self.shape.patches if self.at(point) is None else self.keep
        return ((count + 1, count + 1),) * self.shape.depth

    def at(self, point: float) -> int | None:
        """Patches that enter at a point, None where all do."""
        return self.keep if round(point * self.steps) < self.begin else None

    @property
    def points(self) -> tuple[float, ...]:
        """One on each side of where all patches enter, as far from it as each other."""
        masked = self.begin / self.steps
        if masked == 1:
            return (0.5,)
        apart = min(masked, 1 - masked) / 2
        return masked - apart, masked + apart
