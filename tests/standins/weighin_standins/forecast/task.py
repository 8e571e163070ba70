"""A load forecast from fewer past hours: no picture, no class, no share of right answers, and less is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from suite.protocol import Measure, Operations, Problem, Spec, Workload
from suite.show import Against, Curve, Show
from weighin_standins.common import Base, seeded, sizes

HOURS = 24  #: that a forecast may look back


@dataclass
class Load(Problem):
    series: torch.Tensor  #: (200,) kWh of an hour each

    @property
    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The past hours of each hour to forecast, the latest last, and what came."""
        past = self.series.unfold(0, HOURS, 1)[:-1]
        return past, self.series[HOURS:]


@dataclass(frozen=True)
class Forecaster:
    lags: int
    model: nn.Linear

    def __call__(self, past: torch.Tensor) -> torch.Tensor:
        return self.model(past[:, -self.lags :])[:, 0]


class Forecast(Base):
    """Fewer hours looked back on."""

    name, question, ranked, speed = "forecast", "How far back?", "rmse", "horizon@176"
    parent_method, promised = "day_before", "kept.lags"
    tiers = sizes("substation/ar", "lags=0.5")
    columns = {"row": "int32", "actual": "float64", "forecast": "float64"}
    truth = ("row", "actual")
    amounts = ("lags",)
    show = Show(
        curve=Curve(
            "error", along="row", of=lambda evidence: np.abs(evidence["forecast"] - evidence["actual"]), unit="kWh", up=False
        ),
        against=(Against("lags", "hours looked back on"),),
        words={"rmse": "certainty", "lags": "past hours"},
        families={"horizon": "Hours"},
        pays=False,
    )

    def problem(self, spec: Spec, run: Any) -> Load:
        noise = torch.randn(200, generator=torch.Generator().manual_seed(5)) / 8
        return Load(spec, run, 5 + torch.sin(torch.arange(200) * 6.2832 / 24) + noise)

    def parent(self, problem: Load) -> Forecaster:
        return Forecaster(HOURS, seeded(problem, lambda: nn.Linear(HOURS, 1)))

    def examine(self, problem: Load, solution: Forecaster) -> dict[str, np.ndarray]:
        past, actual = problem.rows
        with torch.inference_mode():
            forecast = solution(past)
        columns = {"row": torch.arange(len(actual)), "actual": actual, "forecast": forecast}
        return {k: v.numpy().astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        error = np.square(evidence["forecast"] - evidence["actual"])
        return [Measure("rmse", float(np.sqrt(error.mean())), "kWh", "down")]

    def workloads(self, problem: Load, solution: Forecaster) -> list[Workload]:
        past, _ = problem.rows
        return [Workload(f"horizon@{n}", lambda n=n: lambda: solution(past[:n]), n) for n in (1, 176)]

    def operations(self, problem: Load, solution: Forecaster) -> Operations:
        line = {
            "name": "regression",
            "kind": "Linear",
            "macs": float(solution.lags),
            "params": solution.lags,
            "nonzero": solution.lags,
        }
        return Operations((line,))

    def weigh(self, problem: Load, solution: Forecaster) -> list[Measure]:
        told = {"lags": float(solution.lags), "kept.lags": solution.lags / HOURS}
        return [Measure(name, value, source="meter") for name, value in told.items()]
