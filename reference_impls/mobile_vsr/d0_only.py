"""The control of JSTDO: one network, trained on the hardest chunk alone and used for all patches.

Deviations: a control, from no paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.mobile_vsr.stdo import assign_chunks
from reference_impls.parts.overfitting import Overfitter, members, overfit, ranking_model, single
from tasks.mobile_vsr.player import Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["D0Only"]


@dataclass(frozen=True)
class D0Only:
    """Trained on the hardest chunk alone."""

    version: ClassVar[int] = 1

    chunks: int = 4  #: K, by how well patches are restored

    def solve(self, problem: VideoProblem) -> Stream:
        fitter = Overfitter(problem)
        general, labels = ranking_model(fitter)
        hardest = members(assign_chunks(labels, self.chunks), self.chunks)[0]
        (model,) = overfit(fitter, [hardest], general)
        assert model is not None
        return single(problem, model, {**fitter.notes, "patches": len(hardest)})
