"""Logistic regression on the pixels of a thermal patch.

Deviations: a baseline of FLAME 2's authors, trained like the networks; one logit; the rate is the best of
three on the synthetic validation patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit_backbone
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Logistic"]


@dataclass(frozen=True)
class Logistic:
    """What reads RGB at the test belongs to a table of its own."""

    version: ClassVar[int] = 1

    mode: Literal["thermal", "rgb", "early"] = "thermal"  #: early: RGB and thermal as six channels of one picture
    lr: float = 1e-2  #: Adam's first rate

    def solve(self, problem: FlameProblem) -> Detectors:
        return fit_backbone(problem, "logistic", self.mode, self.lr)
