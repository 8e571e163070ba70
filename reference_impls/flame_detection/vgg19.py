"""VGG19 on thermal patches, trained by cross-entropy: one of the networks that FlameFinder is compared with.

Paper: Simonyan, Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015, arXiv 1409.1556.

Deviations: torchvision's network; patches under 32 pixels are enlarged to 32, and the pooling before the dense layers shrinks in
proportion; one logit; from scratch unless `pretrained`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit_backbone
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Vgg19"]


@dataclass(frozen=True)
class Vgg19:
    """What reads RGB at the test belongs to a table of its own."""

    version: ClassVar[int] = 1

    mode: Literal["thermal", "rgb", "late"] = "thermal"  #: late: RGB and thermal, a network for each
    lr: float = 1e-4  #: Adam's first rate
    pretrained: bool = False  #: whether it starts from ImageNet, torchvision's file in the folder weights of the data folder

    def solve(self, problem: FlameProblem) -> Detectors:
        return fit_backbone(problem, "vgg19", self.mode, self.lr, pretrained=self.pretrained)
