"""The parent, as it is."""

from __future__ import annotations

from dataclasses import dataclass

from weighin_standins.common import Network, VisionProblem


@dataclass(frozen=True)
class Dense:
    def solve(self, problem: VisionProblem) -> Network:
        problem.run.spend(1)
        return Network(problem.model())
