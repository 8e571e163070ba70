"""The small Xception-like network of the first FLAME paper, trained by cross-entropy.

Paper: Chen, Hopkins, Wang, O'Neill, Afghah et al. Wildland Fire Detection and Monitoring Using a Drone-Collected RGB/IR Image
Dataset. IEEE Access 10, 2022.

Deviations: stands in for one of the three flame networks that FlameFinder compares itself with, which it does not name; one logit
without the dropout that the authors' code applies to logits; no label smoothing; the rate is the best of three on the synthetic
validation patches, three times the authors'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit_backbone
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Flame"]


@dataclass(frozen=True)
class Flame:
    """What reads RGB at the test belongs to a table of its own."""

    version: ClassVar[int] = 1

    #: early: RGB and thermal as six channels of one picture; late: a network for each
    mode: Literal["thermal", "rgb", "early", "late"] = "thermal"
    lr: float = 3e-3  #: Adam's first rate

    def solve(self, problem: FlameProblem) -> Detectors:
        return fit_backbone(problem, "flame", self.mode, self.lr)
