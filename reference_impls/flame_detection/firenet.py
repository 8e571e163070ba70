"""FireNet, a small network for fire alarms, trained by cross-entropy.

Paper: Jadon, Omama, Varshney, Ansari, Sharma. FireNet: A Specialized Lightweight Fire & Smoke Detection Model for Real-Time IoT
Applications. 2019, arXiv 1905.11922.

Deviations: stands in for one of the three flame networks that FlameFinder compares itself with, which it does not name; patches are
enlarged to its 64 pixels; one logit; the rate is the better of two on the synthetic validation patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit_backbone
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Firenet"]


@dataclass(frozen=True)
class Firenet:
    """What reads RGB at the test belongs to a table of its own."""

    version: ClassVar[int] = 1

    mode: Literal["thermal", "rgb", "early"] = "thermal"  #: early: RGB and thermal as six channels of one picture
    lr: float = 3e-3  #: Adam's first rate

    def solve(self, problem: FlameProblem) -> Detectors:
        return fit_backbone(problem, "firenet", self.mode, self.lr)
