"""Nothing left out."""

from __future__ import annotations

from dataclasses import dataclass

from weighin_standins.common import Network, VisionProblem


@dataclass(frozen=True)
class Full:
    def solve(self, problem: VisionProblem) -> Network:
        return Network(problem.model())
