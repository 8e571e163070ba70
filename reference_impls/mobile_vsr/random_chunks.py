"""The control of STDO: as many chunks of equal size, but of random patches.

Deviations: a control, from no paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.parts.overfitting import Overfitter, dispatched, general_start, members, overfit
from tasks.mobile_vsr.player import Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["RandomChunks"]


@dataclass(frozen=True)
class RandomChunks:
    """A network for each chunk."""

    version: ClassVar[int] = 1

    chunks: int = 2  #: K, drawn at random

    def solve(self, problem: VideoProblem) -> Stream:
        fitter = Overfitter(problem)
        count = len(problem.patches[0])
        generator = torch.Generator().manual_seed(problem.run.seed("random_chunks"))
        assign = torch.empty(count, dtype=torch.int64)
        assign[torch.randperm(count, generator=generator)] = torch.arange(count) * self.chunks // count
        models = overfit(fitter, members(assign, self.chunks), general_start(fitter))
        return dispatched(problem, models, assign)
