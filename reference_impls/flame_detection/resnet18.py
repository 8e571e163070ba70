"""ResNet18 on thermal patches, trained by cross-entropy: one of the networks that FlameFinder is compared with.

Paper: He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016, arXiv 1512.03385.

Deviations: torchvision's network; patches under 32 pixels are enlarged to 32; one logit; from scratch unless `pretrained`; the
rate is the better of two on the synthetic validation patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit_backbone
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Resnet18"]


@dataclass(frozen=True)
class Resnet18:
    """What reads RGB at the test belongs to a table of its own."""

    version: ClassVar[int] = 1

    mode: Literal["thermal", "rgb", "late"] = "thermal"  #: late: RGB and thermal, a network for each
    lr: float = 1e-3  #: Adam's first rate
    pretrained: bool = False  #: whether it starts from ImageNet, torchvision's file in the folder weights of the data folder

    def solve(self, problem: FlameProblem) -> Detectors:
        return fit_backbone(problem, "resnet18", self.mode, self.lr, pretrained=self.pretrained)
