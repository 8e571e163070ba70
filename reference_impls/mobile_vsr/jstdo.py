"""JSTDO: one network for the whole clip, trained on the hardest chunk, none of the easiest, and shares of those between.

Paper: Li, Ji, Qin, Niu, Ren, Afghah, Guo, Ma. Towards High-Quality and Efficient Video Super-Resolution via Spatial-Temporal
Data Overfitting. CVPR 2023, arXiv 2303.08331.

Deviations: no code of it is released and its shares are not known: chunk k of K keeps 1 - k / (K - 1) of its patches, drawn once
by the run's seed instead of 226; as stdo otherwise, the order of patches and the general model included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.mobile_vsr.stdo import assign_chunks
from reference_impls.parts.overfitting import Overfitter, members, overfit, ranking_model, single
from suite.naming import UserError
from tasks.mobile_vsr.player import Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["Jstdo"]


@dataclass(frozen=True)
class Jstdo:
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    chunks: int = 4  #: K, by how well patches are restored
    shares: tuple[float, ...] = ()  #: r_0 to r_{K-1}, of each chunk's patches that are trained on; empty: 1 - k / (K - 1)

    def solve(self, problem: VideoProblem) -> Stream:
        shares = self.shares or default_shares(self.chunks)
        if len(shares) != self.chunks or not all(0 <= r <= 1 for r in shares) or not any(shares):
            raise UserError(f"shares={self.shares}: give {self.chunks} numbers in 0..1, one a chunk, not all of them 0")
        fitter = Overfitter(problem)
        general, labels = ranking_model(fitter)
        chunks = members(assign_chunks(labels, self.chunks), self.chunks)
        generator = torch.Generator().manual_seed(problem.run.seed("jstdo"))
        chosen = sample(chunks, shares, generator)
        (model,) = overfit(fitter, [chosen], general)
        assert model is not None
        return single(problem, model, {**fitter.notes, "patches": len(chosen)})


def default_shares(k: int) -> tuple[float, ...]:
    """r_k = 1 - k / (K - 1): all of the hardest chunk, none of the easiest."""
    return tuple(1 - i / (k - 1) for i in range(k)) if k > 1 else (1.0,)


def sample(chunks: Sequence[torch.Tensor], shares: Sequence[float], generator: torch.Generator) -> torch.Tensor:
    """round(r_k |D_k|) patches of each chunk without replacement, chunk by chunk; indices in ascending order."""
    drawn = [c[torch.randperm(len(c), generator=generator)[: round(r * len(c))]] for c, r in zip(chunks, shares, strict=True)]
    return torch.cat(drawn).sort().values
