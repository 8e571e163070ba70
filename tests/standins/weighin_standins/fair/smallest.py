"""The smallest set to zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from weighin_standins.common import Network, VisionProblem


@dataclass(frozen=True)
class Smallest:
    def solve(self, problem: VisionProblem) -> Network:
        model = problem.model()
        weights = [p for n, p in model.named_parameters() if "weight" in n]
        cut = torch.cat([w.detach().abs().flatten() for w in weights]).quantile(1 - problem.spec.targets["nonzero"])
        with torch.no_grad():
            for w in weights:
                w.mul_(w.abs() > cut)
        return Network(model)
