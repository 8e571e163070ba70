"""MobileNetV2 on thermal patches, trained by cross-entropy: a baseline of FLAME 2's authors.

Paper: Sandler, Howard, Zhu, Zhmoginov, Chen. MobileNetV2: Inverted Residuals and Linear Bottlenecks. CVPR 2018, arXiv 1801.04381.

Deviations: torchvision's network; patches under 32 pixels are enlarged to 32; one logit; from scratch unless `pretrained`; the
rate is the better of two on the synthetic validation patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit_backbone
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Mobilenetv2"]


@dataclass(frozen=True)
class Mobilenetv2:
    """What reads RGB at the test belongs to a table of its own."""

    version: ClassVar[int] = 1

    mode: Literal["thermal", "rgb", "late"] = "thermal"  #: late: RGB and thermal, a network for each
    lr: float = 3e-3  #: Adam's first rate
    pretrained: bool = False  #: whether it starts from ImageNet, torchvision's file in the folder weights of the data folder

    def solve(self, problem: FlameProblem) -> Detectors:
        return fit_backbone(problem, "mobilenetv2", self.mode, self.lr, pretrained=self.pretrained)
