"""EMT: each time chunk changes a few weights of the network before it, found on the patches that are restored worst.

Paper: Li, Liu, Wang, Lu, Wu, Chen, Zhang, et al. Efficient Meta-Tuning for Content-aware Neural Video Delivery. ECCV 2022,
arXiv 2207.09691.

Deviations: without meta-training, which needs other videos: the general model ranks patches, and the first chunk starts from it
(paper tier: from fresh weights); key frames are the first of each chunk, not the encoder's; 200 free and 200 masked steps a chunk
instead of 2,000 and 200 batches, on low-resolution patches of 32 instead of high-resolution ones of 144;
biases are frozen, since the released code trains and does not send them; PatchNet is left out; the first chunk's network is sent
whole.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.overfitting import Overfitter, Pool, by_time, ranking_model, starting_network
from tasks.mobile_vsr.models import fold
from tasks.mobile_vsr.player import Sent, Stream
from tasks.mobile_vsr.quality import quantise
from tasks.mobile_vsr.task import BATCH, VideoProblem

__all__ = ["Emt"]

EPSILON = 1e-9
GATHERED = 50  #: batches whose patches are cut at a time


@dataclass(frozen=True)
class Emt:
    """Symbols as in the released code."""

    version: ClassVar[int] = 1

    chunks: int = 2  #: n, the time chunks
    steps: int = 200  #: free ones, and as many masked ones, for each chunk; fewer where the budget ends
    rate: float = 1e-4  #: learning rate of a chunk's steps
    hardest: float = 0.2  #: share of positions that patches are drawn from
    first: float = 0.2  #: p_mask of the first chunk: share of weights that may change
    later: float = 0.01  #: p_mask of the others
    patch: int = 32  #: low-resolution height and width

    def solve(self, problem: VideoProblem) -> Stream:
        fitter = Overfitter(problem)
        general, _ = ranking_model(fitter)
        model, general = fold(starting_network(problem, general)), fold(general)
        frames = len(problem.numbers)
        worth = self.patch**2 / (problem.patches[0].shape[2] * problem.patches[0].shape[3])
        batch_worth = math.ceil(BATCH * worth)
        # a chunk's free and its masked steps are both its network's
        afforded = problem.steps // 2 if problem.case.per_model else problem.budget // (2 * self.chunks * batch_worth)
        steps = max(1, min(self.steps, afforded))
        sent: list[Sent] = []
        for k in range(self.chunks):
            members = [t for t in range(frames) if t * self.chunks // frames == k]
            source = self.windows(problem, general, members, worth, f"emt {k}")
            free = self.tune(fitter, f"chunk {k}", model, source, steps, None)
            mask = gradient_mask(weights_of(model), weights_of(free), self.first if k == 0 else self.later)
            model = self.tune(fitter, f"chunk {k}", model, source, steps, mask)
            sent.append(Sent(problem.case.backbone, model, "delta" if k else "whole", k - 1))
        return by_time(problem, sent, fitter.notes)

    def windows(
        self, problem: VideoProblem, general: nn.Module, members: list[int], worth: float, purpose: str
    ) -> Callable[[int], Iterator[tuple[Pool, torch.Tensor]]]:
        """Batches from the positions of a chunk's key frame that the general model restores worst, in all of its frames."""
        low, high = (x[members] for x in problem.frames)
        with torch.inference_mode():
            sr = quantise(general(low[:1].to(problem.device).float() / 255)).cpu() * 255
        scale, size = problem.scale, self.patch
        ranking = rank(psnr_map(sr, high[:1].float(), scale, scale * size))
        chosen = ranking[: math.floor(self.hardest * len(ranking)) + 1, :2].long()
        xs = low.unfold(2, size, 1).unfold(3, size, 1)
        ys = high.unfold(2, scale * size, scale).unfold(3, scale * size, scale)

        def batches(epoch: int) -> Iterator[tuple[Pool, torch.Tensor]]:
            generator = torch.Generator().manual_seed(problem.run.seed(purpose, epoch))
            count = GATHERED * BATCH
            t = torch.randint(len(low), (count,), generator=generator)
            column, row = chosen[torch.randint(len(chosen), (count,), generator=generator)].T
            pool = Pool(xs[t, :, row, column], ys[t, :, row, column], worth)
            for index in torch.arange(count).split(BATCH):
                yield pool, index

        return batches

    def tune(
        self,
        fitter: Overfitter,
        network: str,
        start: nn.Module,
        batches: Callable[[int], Iterator[tuple[Pool, torch.Tensor]]],
        steps: int,
        mask: Mapping[str, torch.Tensor] | None,
    ) -> nn.Module:
        """A trained copy; only weights under the mask move, biases never."""
        model = copy.deepcopy(start)
        for name, p in model.named_parameters():
            p.requires_grad_(name.endswith("weight"))

        def hold() -> None:
            if mask is not None:
                for name, p in model.named_parameters():
                    if p.grad is not None:
                        p.grad.mul_(mask[name])

        fitter.fit(
            f"{network} free" if mask is None else network,
            model,
            [],
            steps=steps,
            rate=self.rate,
            batches=batches,
            after_backward=hold,
            constant=True,
            network=network,
        )
        return model.requires_grad_(True)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Convolution weights by name, without biases."""
    return {f"{n}.weight": m.weight.detach() for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def gradient_mask(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], p_mask: float) -> dict[str, torch.Tensor]:
    """Ones where a weight moved most: |after - before| at least the value at index floor(P p_mask) of the descending order.

    Weights alone are given; a bias has the mask 0 (EMT's released `trainer_gradmask.py`).
    """
    moved = {n: (after[n] - before[n]).abs() for n in before}
    every = torch.cat([m.flatten() for m in moved.values()]).sort(descending=True).values
    pivot = every[min(len(every) - 1, math.floor(len(every) * p_mask))]
    return {n: (m >= pivot).to(m.dtype) for n, m in moved.items()}


def psnr_map(sr: torch.Tensor, hr: torch.Tensor, scale: int, hr_patch: int) -> torch.Tensor:
    """PSNR of every inner window of a frame, dB (EMT's released `generate_mask.py`).

    Args:
        sr, hr: (1, 3, H, W), whole numbers in 0..255 as floats.
        hr_patch: size of a training patch; a window is smaller by scale + 6 on every side.

    Returns:
        (A, B): entry (a, b) is of the patch whose corner is at column scale a and row scale b.
    """
    shave = scale + 6
    inner = hr_patch - 2 * shave
    d = ((sr - hr).double() / 255)[..., shave:-shave, shave:-shave]
    error = F.avg_pool2d(d.square().mean(1, keepdim=True), inner, stride=1)[0, 0, ::scale, ::scale]
    return -10 * torch.log10(error + EPSILON).T


def rank(values: torch.Tensor) -> torch.Tensor:
    """(M, 3): first index, second index, PSNR, from the hardest to the easiest."""
    order = values.flatten().sort(stable=True)
    width = values.shape[1]
    return torch.stack([order.indices // width, order.indices % width, order.values], 1)
