"""One network a time chunk (S1 to Sn), as NAS is used in the later papers.

Paper: Yeo, Jung, Kim, Shin, Han. Neural Adaptive Content-aware Internet Video Delivery. OSDI 2018; as S1 to Sn in Liu et al.,
ICCV 2021.

Deviations: as awdnn; chunks are equal parts of the clip instead of five seconds each, as many as the compared methods have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.overfitting import Overfitter, by_time, general_start, overfit, time_chunks
from tasks.mobile_vsr.player import Sent, Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["NasChunks"]


@dataclass(frozen=True)
class NasChunks:
    """A network for each chunk."""

    version: ClassVar[int] = 1

    chunks: int = 2  #: n, of time

    def solve(self, problem: VideoProblem) -> Stream:
        fitter = Overfitter(problem)
        chunks = time_chunks(problem, self.chunks)
        models = overfit(fitter, chunks, general_start(fitter))
        return by_time(problem, [Sent(problem.case.backbone, m) for m in models if m is not None])
