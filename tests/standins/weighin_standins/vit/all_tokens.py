"""All of the image at every step."""

from __future__ import annotations

from dataclasses import dataclass

from weighin_standins.common import VisionProblem
from weighin_standins.vit.task import Trained, ViTraining


@dataclass(frozen=True)
class AllTokens:
    def solve(self, problem: VisionProblem) -> Trained:
        problem.run.spend(48)
        return ViTraining().parent(problem)
