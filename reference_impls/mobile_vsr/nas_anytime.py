"""NAS as its authors' code has it: a network with early exits, all trained together; a client plays as deep as what has arrived.

Paper: Yeo, Jung, Kim, Shin, Han. Neural Adaptive Content-aware Internet Video Delivery. OSDI 2018, and its repository.

Deviations: one network for the case's scale instead of four for a stream of many resolutions; patches, learning rate, start and
steps are the table's, so that methods can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from reference_impls.parts.overfitting import Overfitter, Pool, clip_pool, general_model, shuffled_batches, single
from tasks.mobile_vsr.models import NAS, NAS_UNITS, exits, need_exit, shallow
from tasks.mobile_vsr.player import Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["NasAnytime"]

BLOCKS = 8


@dataclass(frozen=True)
class NasAnytime:
    """One network that can be left early."""

    version: ClassVar[int] = 1

    quality: Literal["low", "medium", "high", "ultra"] = "low"  #: sets the width
    depth: int = BLOCKS  #: the exit that is sent and played: 0, 2, 4, 6 or 8 blocks

    def solve(self, problem: VideoProblem) -> Stream:
        need_exit(BLOCKS, self.depth)
        fitter, units = Overfitter(problem), NAS_UNITS[self.quality][problem.scale]
        name = f"nas{BLOCKS}_n{units}"
        start = general_model(fitter, name) if problem.starts_from_general else problem.network(name)
        assert isinstance(start, NAS)
        fitter.fit("anytime", start, [], steps=problem.steps_each(1), batches=lambda epoch: drawn(problem, start, epoch))
        return single(problem, shallow(start, self.depth), name=f"nas{self.depth}_n{units}")


def drawn(problem: VideoProblem, model: NAS, epoch: int) -> Iterator[tuple[Pool, torch.Tensor]]:
    """An epoch over the clip's patches; before each batch the model is set to an exit, drawn anew."""
    pool, choices = clip_pool(problem), draws(len(model.body))
    generator = torch.Generator().manual_seed(problem.run.seed("order anytime", epoch))
    batches = shuffled_batches([len(pool)], generator)
    picks = torch.randint(len(choices), (len(batches),), generator=generator).tolist()
    for (_, index), pick in zip(batches, picks, strict=True):
        model.depth = choices[pick]
        yield pool, index


def draws(blocks: int) -> list[int]:
    """What an exit is drawn from: each of the early ones once, the last as often as they together (NAS's released `model.py`)."""
    *early, last = exits(blocks)
    return [*early, *[last] * max(1, len(early))]
