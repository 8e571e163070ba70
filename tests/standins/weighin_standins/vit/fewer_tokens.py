"""Less of the image, and less still."""

from __future__ import annotations

from dataclasses import dataclass

from weighin_standins.common import VisionProblem, seeded
from weighin_standins.vit.task import TinyViT, Trained


@dataclass(frozen=True)
class FewerTokens:
    def solve(self, problem: VisionProblem) -> Trained:
        problem.run.spend(48)
        return Trained(seeded(problem, TinyViT), (0.75, 0.5, 0.25))
