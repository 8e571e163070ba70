"""The latest hours alone."""

from __future__ import annotations

from dataclasses import dataclass

from weighin_standins.forecast.fit import fitted
from weighin_standins.forecast.task import HOURS, Forecaster, Load


@dataclass(frozen=True)
class Latest:
    ridge: float = 1e-3  #: penalty on the squares of the weights

    def solve(self, problem: Load) -> Forecaster:
        return fitted(problem, round(HOURS * problem.spec.targets["lags"]), self.ridge)
