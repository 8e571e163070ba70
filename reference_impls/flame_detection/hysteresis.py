"""Fire where a patch has a part of a warm region that is hot somewhere (two thresholds): a rule, not a network.

Deviations: a baseline of FLAME 3's utilities; a mask there, here a patch is fire where the mask has a pixel in it, and regions go
across the patches of a frame, unless it is laid together of patches that know nothing of each other. A mask
gives no degrees of belief, so its scores do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from reference_impls.parts.flame_rules import rule_of_each_fold
from suite.naming import UserError
from tasks.flame_detection.frames import LAID
from tasks.flame_detection.patches import cut, pasted
from tasks.flame_detection.problem import Detectors, FlameProblem, PatchSet
from tasks.flame_detection.temperatures import hysteresis

__all__ = ["Hysteresis"]


@dataclass(frozen=True)
class Hysteresis:
    """Nothing is learnt."""

    version: ClassVar[int] = 1

    seedless: ClassVar[bool] = True

    low: float = 50.0  #: degrees Celsius that a region has throughout
    high: float = 150.0  #: degrees that one of its pixels has

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise UserError(f"low={self.low} is above high={self.high}: give the lower threshold first")

    def solve(self, problem: FlameProblem) -> Detectors:
        return rule_of_each_fold(problem, lambda own: InRegion(_grid(own.patches), self.low, self.high))


def _grid(patches: PatchSet) -> tuple[int, int]:
    """Patches down and across that one picture is cut into; where frames are laid together of patches, each is one."""
    return (1, 1) if patches.name in LAID else patches.grid


class InRegion(nn.Module):
    """Degrees of all patches of a frame (n, 1, P, P), in raster order, to 1 where the mask has a pixel of them, else -1; (n,)."""

    colour, degrees, whole_frames = False, True, True

    def __init__(self, grid: tuple[int, int], low: float, high: float) -> None:
        super().__init__()
        self.grid, self.low, self.high = grid, low, high

    def forward(self, celsius: torch.Tensor) -> torch.Tensor:
        return (self.embed(celsius)[:, 0] > 0).float() * 2 - 1

    def embed(self, celsius: torch.Tensor) -> torch.Tensor:
        """Share of a patch's pixels that the mask has, (n, 1)."""
        down, across = self.grid
        count, _, side, _ = celsius.shape
        if count % (down * across):
            raise UserError(f"a frame of {down}x{across} patches has {count} here: regions need all of them, use max_temperature")
        pictures = pasted(celsius, down, across)[:, 0]
        found = [hysteresis(picture, self.low, self.high) for picture in pictures.cpu().numpy()]
        mask = torch.from_numpy(np.stack(found)).to(celsius.device)
        return cut(mask[:, None], side).flatten(1).float().mean(1, keepdim=True)
