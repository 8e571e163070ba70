"""Fewer units, trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from weighin_standins.common import Network, VisionProblem


@dataclass(frozen=True)
class Thin:
    epochs: int = 2

    def solve(self, problem: VisionProblem) -> Network:
        whole = sum(p.numel() for n, p in problem.model().named_parameters() if "weight" in n)
        wanted = problem.spec.targets["macs"] * whole
        width = min(range(1, 17), key=lambda w: abs(8 * w + w * w + 3 * w - wanted))
        model = problem.model(width)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        for epoch in range(self.epochs):
            for x, y in problem.batches(epoch):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            problem.run.progress(epoch + 1, self.epochs)
        return Network(model)
