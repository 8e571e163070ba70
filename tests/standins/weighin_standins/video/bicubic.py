"""Interpolation: nothing but the video is sent, and no seed matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from weighin_standins.video.task import Stream, Video, VideoProblem


@dataclass(frozen=True)
class Bicubic:
    seedless: ClassVar[bool] = True

    def solve(self, problem: VideoProblem) -> Stream:
        return Video().parent(problem)
