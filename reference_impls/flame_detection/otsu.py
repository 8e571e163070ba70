"""Fire where a patch has a pixel above Otsu's threshold of its frame's temperatures: a rule, not a network.

Paper: Otsu. A Threshold Selection Method from Gray-Level Histograms. IEEE Transactions on Systems, Man, and Cybernetics 1979.

Deviations: as FLAME 3's utilities use it, on whole degrees from 0 to 256 of a whole frame; a mask there, here a patch is fire where
the mask has a pixel in it. A frame without fire has a threshold as well, so it always finds some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from reference_impls.parts.flame_rules import rule_of_each_fold
from tasks.flame_detection.problem import Detectors, FlameProblem
from tasks.flame_detection.temperatures import otsu

__all__ = ["Otsu"]


@dataclass(frozen=True)
class Otsu:
    """No setting, and nothing is learnt."""

    version: ClassVar[int] = 1

    seedless: ClassVar[bool] = True

    def solve(self, problem: FlameProblem) -> Detectors:
        return rule_of_each_fold(problem, lambda _: AboveOtsu())


class AboveOtsu(nn.Module):
    """Degrees of all patches of a frame (n, 1, P, P) to how far their warmest pixels lie above its threshold, (n,)."""

    colour, degrees, whole_frames = False, True, True

    def forward(self, celsius: torch.Tensor) -> torch.Tensor:
        return self.embed(celsius)[:, 0]

    def embed(self, celsius: torch.Tensor) -> torch.Tensor:
        """Degrees above the threshold, (n, 1)."""
        return celsius.amax((1, 2, 3))[:, None] - otsu(celsius.cpu().numpy())
