"""STDO: patches of all frames are ranked by how well a general model restores them, and each part of the ranking gets a network.

Paper: Li, Ji, Qin, Niu, Ren, Afghah, Guo, Ma. Towards High-Quality and Efficient Video Super-Resolution via Spatial-Temporal
Data Overfitting. CVPR 2023, arXiv 2303.08331.

Deviations: the map of chunks is sent and counted, which the released code leaves out; the lowest threshold is minus infinity; K is
2; on the small tier networks start from the general model instead of from scratch, and the last weights are sent.  The order of
patches is drawn for each chunk's network by the run's seed, instead of by 226 for all; the general model has the case's backbone
instead of always 16 blocks of WDSR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from reference_impls.parts.overfitting import Overfitter, dispatched, members, overfit, ranking_model
from suite.naming import UserError
from tasks.mobile_vsr.player import Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["Stdo"]


@dataclass(frozen=True)
class Stdo:
    """A network for each chunk."""

    version: ClassVar[int] = 1

    chunks: int = 2  #: K, by how well patches are restored

    def solve(self, problem: VideoProblem) -> Stream:
        fitter = Overfitter(problem)
        general, labels = ranking_model(fitter)
        assign = assign_chunks(labels, self.chunks)
        models = overfit(fitter, members(assign, self.chunks), general)
        sizes = torch.bincount(assign, minlength=self.chunks).tolist()
        return dispatched(problem, models, assign, {**fitter.notes, "chunk_sizes": sizes})


def thresholds(labels: torch.Tensor, k: int, lowest: float = -np.inf) -> torch.Tensor:
    """(K + 1,) bounds of the chunks: th_0 = `lowest` (the code has 0), th_i = b[int(i N / K) - 1], b the sorted labels (2.3).

    Raises UserError where there are more chunks than patches.
    """
    count = len(labels)
    if not 1 <= k <= count:
        raise UserError(f"{k} chunks of {count} patches; set chunks to 1 or more, and at most {count}")
    b = labels.sort().values
    return torch.cat([b.new_tensor([lowest]), b[[int((i + 1) * count / k) - 1 for i in range(k)]]])


def assign_chunks(labels: torch.Tensor, k: int) -> torch.Tensor:
    """(N,) chunk of each patch: j where th_j < label <= th_{j+1}; 0 is the hardest.  A tie goes wholly to the lower chunk."""
    return torch.searchsorted(thresholds(labels, k)[1:-1].contiguous(), labels.contiguous(), right=False)
