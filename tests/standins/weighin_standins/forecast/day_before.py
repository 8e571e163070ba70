"""All of the day before."""

from __future__ import annotations

from dataclasses import dataclass

from weighin_standins.forecast.fit import fitted
from weighin_standins.forecast.task import HOURS, Forecaster, Load


@dataclass(frozen=True)
class DayBefore:
    def solve(self, problem: Load) -> Forecaster:
        return fitted(problem, HOURS)
