"""One network overfitted to the whole clip (M0): the parent that all others are compared with.

Paper: Yeo, Jung, Kim, Shin, Han. Neural Adaptive Content-aware Internet Video Delivery. OSDI 2018; as M0 in Liu et al., ICCV 2021.

Deviations: the network, its patches and its recipe are the table's, so that methods differ by their partition alone;
the quality levels and early exits of NAS are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.parts.overfitting import Overfitter, general_start, overfit, single
from tasks.mobile_vsr.player import Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["Awdnn"]


@dataclass(frozen=True)
class Awdnn:
    """No setting: patches, network and recipe are the table's."""

    version: ClassVar[int] = 1

    def solve(self, problem: VideoProblem) -> Stream:
        fitter = Overfitter(problem)
        (model,) = overfit(fitter, [torch.arange(len(problem.patches[0]))], general_start(fitter))
        assert model is not None
        return single(problem, model)
