"""Bicubic enlargement of whole frames: no network is sent, only the video.

Deviations: a baseline, from no paper; Pillow's filter (a = -0.5), as the low-resolution frames were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tasks.mobile_vsr.player import Routing, Stream, pack
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["Bicubic"]


@dataclass(frozen=True)
class Bicubic:
    """No setting, and no seed that could matter."""

    version: ClassVar[int] = 1

    seedless: ClassVar[bool] = True

    def solve(self, problem: VideoProblem) -> Stream:
        return pack(problem.scale, len(problem.numbers), Routing("whole"), [])
