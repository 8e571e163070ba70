"""CaFM: one network for all time chunks, and for each chunk a thin modulation of its feature maps.

Paper: Liu, Lu, Wu, Zhang, Zhang, Cui, Zou, Zhang. Overfitting the Data: Compact Neural Video Delivery via Content-aware Feature
Modulation. ICCV 2021, arXiv 2108.08202.

Deviations: network, patches and recipe are the table's instead of the authors' (random crops, lr 1e-4, 500 epochs);
for WDSR, which they do not use, modulations stand where EDSR has them; chunks are equal parts of the clip.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from reference_impls.parts.overfitting import Overfitter, Pool, by_time, clip_pool, general_start, l1, starting_network, time_chunks
from tasks.mobile_vsr.models import modulate, of_chunk, switch
from tasks.mobile_vsr.player import Sent, Stream
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["Cafm"]


@dataclass(frozen=True)
class Cafm:
    """One network, modulated for each chunk."""

    version: ClassVar[int] = 1

    chunks: int = 2  #: n, of time; the code's segnum

    def solve(self, problem: VideoProblem) -> Stream:
        fitter = Overfitter(problem)
        model = modulated(problem, starting_network(problem, general_start(fitter)), self.chunks)
        chunk = torch.empty(len(problem.patches[0]), dtype=torch.int64)
        for k, index in enumerate(time_chunks(problem, self.chunks)):
            chunk[index] = k

        def loss(model: nn.Module, pool: Pool, index: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return chunk_loss(model, chunk[index], pool, index, x, y)

        fitter.fit("chunk 0", model, [clip_pool(problem)], steps=problem.steps_each(1), loss=loss)
        name = f"{problem.case.backbone}+cafm"
        first = Sent(name, of_chunk(model, 0))
        return by_time(problem, [first, *(Sent(name, of_chunk(model, k), "own", 0) for k in range(1, self.chunks))])


def modulated(problem: VideoProblem, model: nn.Module, chunks: int) -> nn.Module:
    """A copy with `chunks` modulations at every position, on the device; gamma = 0: it gives what `model` gives."""
    with torch.random.fork_rng():
        torch.manual_seed(problem.run.seed("cafm"))
        return modulate(copy.deepcopy(model), problem.case.backbone, chunks).to(problem.device)


def chunk_loss(
    model: nn.Module, chunk: torch.Tensor, pool: Pool, index: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Each chunk's part of a batch goes through its own modulation: sum of |part| L1 over |batch|."""
    total = torch.zeros((), device=x.device)
    for k in chunk.unique().tolist():
        part = (chunk == k).to(x.device)
        switch(model, k)
        total = total + l1(model, pool, index, x[part], y[part]) * (part.sum() / len(x))
    return total


def chunk_of_frame(frame: int, frames: int, chunks: int) -> int:
    """Chunk of a training frame, both from 1 and 0: (f - 1) // (n / segnum)."""
    return int((frame - 1) // (frames / chunks))


def chunk_of_test_frame(frame: int, frames: int, chunks: int) -> int:
    """Chunk of any frame of VSD4K: frames above n are a tenth as many test frames, in the order of their chunks (3.1)."""
    if frame <= frames:
        return chunk_of_frame(frame, frames, chunks)
    return chunk_of_frame(frame - frames, frames // 10, chunks)
