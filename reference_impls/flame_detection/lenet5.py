"""LeNet-5 as FLAME 2's authors adapt it, trained by cross-entropy.

Paper: LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 1998.

Deviations: stands in for one of the three flame networks that FlameFinder compares itself with, which it does not name; its dense
layer is as wide as the patch leaves it, and patches under 32 pixels are enlarged to 32; one logit; the rate is the best
of three on the synthetic validation patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit_backbone
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Lenet5"]


@dataclass(frozen=True)
class Lenet5:
    """What reads RGB at the test belongs to a table of its own."""

    version: ClassVar[int] = 1

    mode: Literal["thermal", "rgb", "early"] = "thermal"  #: early: RGB and thermal as six channels of one picture
    lr: float = 1e-2  #: Adam's first rate

    def solve(self, problem: FlameProblem) -> Detectors:
        return fit_backbone(problem, "lenet5", self.mode, self.lr)
