"""Embeddings that lie apart: here a network of other initial weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from weighin_standins.common import Network, VisionProblem
from weighin_standins.flame.task import TwoStream


@dataclass(frozen=True)
class Contrastive:
    temperature: float = 0.1  #: by which likeness is divided

    def solve(self, problem: VisionProblem) -> Network:
        with torch.random.fork_rng():
            torch.manual_seed(problem.run.seed("contrastive"))
            model = TwoStream()
        with torch.no_grad():
            model.head.weight.div_(self.temperature)
        return Network(model)
