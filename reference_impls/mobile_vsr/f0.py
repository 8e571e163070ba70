"""The general model: the same network, trained on other content and not overfitted to the clip.

Deviations: trained here on a few shipped images (DIV2K on the paper tier), since the authors' general model is not handed out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.overfitting import Overfitter, general_model, single
from tasks.mobile_vsr.player import Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["F0"]


@dataclass(frozen=True)
class F0:
    """No setting."""

    version: ClassVar[int] = 1

    def solve(self, problem: VideoProblem) -> Stream:
        return single(problem, general_model(Overfitter(problem)))
