"""A 2-block ViT trained on parts of its images: the trainer is part of the Solution, training steps are workloads with counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from suite.protocol import Measure, Spec, Workload
from suite.show import Show
from weighin_standins.common import Base, VisionProblem, accuracy, seeded, sizes


@dataclass(frozen=True)
class Trained:
    model: nn.Module
    keep: tuple[float, float, float]  #: share of tokens kept at the start, the middle, the end of the schedule


class TinyViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(2))
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, keep: float = 1.0) -> torch.Tensor:
        h = self.embed(x)[:, : max(1, round(keep * x.shape[1]))]
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean(1))


class ViTraining(Base):
    """A 2-block ViT trained on parts of its images."""

    name, question, ranked, speed = "vit", "Trained on less?", "top1", "train_step@0.5"
    tiers = sizes("noise/vit", "step_macs=0.5")
    parent_method = "all_tokens"
    jobs = {"training": ("train_step@",)}
    show = Show(words={"step_macs": "work of a step"}, families={"train_step": "Step at", "infer": "Forward"})
    columns = {"row": "int32", "label": "uint8", "all": "uint8", "pruned": "uint8"}

    def problem(self, spec: Spec, run: Any) -> VisionProblem:
        x = torch.randn(64, 8, 4, generator=torch.Generator().manual_seed(2))
        return VisionProblem(spec, run, x, (x[:, 0, 0] > 0).long())

    def parent(self, problem: VisionProblem) -> Trained:
        return Trained(seeded(problem, TinyViT), (1.0, 1.0, 1.0))

    def examine(self, problem: VisionProblem, solution: Trained) -> dict[str, np.ndarray]:
        model = solution.model.eval()
        with torch.inference_mode():
            full, pruned = (model(problem.x[48:], keep).argmax(1) for keep in (1.0, solution.keep[2]))
        columns = {"row": torch.arange(16), "label": problem.y[48:], "all": full, "pruned": pruned}
        return {k: v.numpy().astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        return [
            accuracy({**evidence, "prediction": evidence[mode]}, "top1", part) for mode, part in (("pruned", ""), ("all", "all"))
        ]

    def workloads(self, problem: VisionProblem, solution: Trained) -> list[Workload]:
        def step(keep: float) -> Any:
            optimizer = torch.optim.SGD(solution.model.train().parameters(), 0.0)
            x, y = problem.x[:8], problem.y[:8]

            def call() -> None:
                optimizer.zero_grad()
                F.cross_entropy(solution.model(x, keep), y).backward()
                optimizer.step()

            return call

        steps = [
            Workload(f"train_step@{p}", lambda k=k: step(k), 8, count=20)
            for p, k in zip(("0", "0.5", "1"), solution.keep, strict=True)
        ]
        return [*steps, Workload("infer@64", lambda: lambda: solution.model.eval()(problem.x, solution.keep[2]), 64)]

    def weigh(self, problem: VisionProblem, solution: Trained) -> list[Measure]:
        return [Measure("kept.step_macs", math.fsum(solution.keep) / 3, source="meter")]
