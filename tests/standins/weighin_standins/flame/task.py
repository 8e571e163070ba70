"""A two-stream patch net with an embedding: no target, a sampled embedding as evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from suite.protocol import Measure, Spec, Workload
from suite.show import Show
from weighin_standins.common import Base, Network, VisionProblem, seeded, sizes


class TwoStream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.thermal, self.head = nn.Linear(12, 4), nn.Linear(4, 4), nn.Linear(8, 1)

    def forward(self, rgb: torch.Tensor, thermal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.cat([self.rgb(rgb), self.thermal(thermal)], 1)
        return self.head(z).squeeze(1), z


class Flame(Base):
    """A two-stream patch net with an embedding."""

    name, question, ranked, speed, parent_method = "flame", "Fire behind smoke?", "balanced_accuracy", "frame", "bce"
    tiers = sizes("patches/two_stream", "")
    truth = ("row", "label", "obscured")
    libraries = ("pillow",)
    show = Show(part="scene")
    columns = {
        "row": "int32",
        "label": "uint8",
        "obscured": "uint8",
        "score": "float16",
        **{f"z{i}": "float16" for i in range(8)},
    }

    def problem(self, spec: Spec, run: Any) -> VisionProblem:
        x = torch.randn(40, 16, generator=torch.Generator().manual_seed(3))
        return VisionProblem(spec, run, x, (x[:, 12] > 0).long())

    def parent(self, problem: VisionProblem) -> Network:
        return Network(seeded(problem, TwoStream))

    def examine(self, problem: VisionProblem, solution: Network) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            score, z = solution.model(problem.x[:, :12], problem.x[:, 12:])
        z = torch.where((torch.arange(40) % 2 == 0)[:, None], z, torch.tensor(0.0))  # a fixed sample of rows carries it
        columns = {
            "row": torch.arange(40),
            "label": problem.y,
            "obscured": torch.arange(40) % 2,
            "score": score.sigmoid(),
        }
        columns |= {f"z{i}": z[:, i] for i in range(8)}
        return {k: v.numpy().astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        out = []
        for part, rows in (("clear", evidence["obscured"] == 0), ("obscured", evidence["obscured"] == 1)):
            hit = (evidence["score"] > 0.5) == (evidence["label"] == 1)
            recalls = [hit[rows & (evidence["label"] == k)].mean() for k in (0, 1)]
            out.append(Measure("balanced_accuracy", 100 * float(np.mean(recalls)), "%", "up", "" if part == "clear" else part))
        return out

    def workloads(self, problem: VisionProblem, solution: Network) -> list[Workload]:
        return [Workload("frame", lambda: lambda: solution.model(problem.x[:, :12], problem.x[:, 12:]), items=1)]
