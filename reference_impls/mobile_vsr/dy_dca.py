"""Dy-DCA: patches that a general model restores badly are cut into four, and one network with a branch a patch size plays all.

Paper: Li, Shu, Ji, Qin, Afghah, Niu, Ma. Data Overfitting for On-Device Super-Resolution with Dynamic Algorithm and Compiler
Co-Design. ECCV 2024, arXiv 2407.02813.

Deviations: two patch sizes and two branches, as the released code has (dy_dca_3path has the three of the paper's figure); the
released trainer does not run, so its intent is followed: a stream of batches for each size, one optimizer. On the paper tier 50
epochs instead of 80, as all methods have; the general model has the case's backbone instead of always 16 blocks of WDSR; the
paper's grid at x4, 5 x 10, has no coarse one and is refused. On the small tier branches are thin like the table's network (2 and 1
blocks of its units), start from other content, and the threshold is the median of the coarse patches' PSNRs, since 40 dB means
nothing on another clip. The authors' compiler is not released: see the workloads' runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from reference_impls.parts.overfitting import Overfitter, Pool, general_model, patch_errors, ranking_model
from suite.naming import UserError
from tasks.mobile_vsr import quality
from tasks.mobile_vsr.models import NAME
from tasks.mobile_vsr.patches import cut
from tasks.mobile_vsr.player import Routing, Sent, Stream, pack
from tasks.mobile_vsr.task import VideoProblem

__all__ = ["DyDca"]

SHAVE = 4  #: of the PSNR that decides a split; the evaluation's is scale + 4
Ablation = Literal["none", "fine_only", "coarse_only", "shared_deep", "shared_shallow", "random_split"]


@dataclass(frozen=True)
class DyDca:
    """Ablations: (a) ``fine_only``, fixed fine patches and network1; (b) ``coarse_only``, fixed coarse ones and network2; (c)
    ``shared_deep`` or ``shared_shallow``, dynamic patches and one branch; (e) ``random_split``, as many patches cut, but random
    ones.
    """

    version: ClassVar[int] = 1

    threshold: float = 0.0  #: tau, dB; 0: 40 on the paper tier, the median elsewhere and in the speed division
    ablation: Ablation = "none"  #: one part fixed, shared or random

    blocks: ClassVar[tuple[int, ...]] = (4, 2)  #: of the branches from fine to coarse, on the paper tier
    small_blocks: ClassVar[tuple[int, ...]] = (2, 1)
    fixed: ClassVar[tuple[float, ...]] = (40.0,)  #: thresholds of the paper tier, dB, level by level

    def solve(self, problem: VideoProblem) -> Stream:
        rows, columns = problem.coarse_grid
        fitter = Overfitter(problem)
        splits = self.splits(fitter)
        names = self.names(problem)
        levels = len(splits)
        used = {"fine_only": [0], "shared_deep": [0], "coarse_only": [levels], "shared_shallow": [levels]}.get(
            self.ablation, list(range(levels + 1))
        )
        network = self.network(fitter, [names[i] for i in used], used)
        pools = [p for p in pools_of(problem, splits) if len(p)]
        amount: dict[str, Any] = {"steps": problem.steps} if problem.case.per_model else {"budget": problem.budget}
        fitter.fit("dynamic", network, pools, keep_rest=True, **amount)
        sent = [Sent(names[i], m) for i, m in zip(used, network.networks, strict=True)]
        share = float(splits[0].mean())
        if self.ablation in ("fine_only", "coarse_only"):
            grid = (rows, columns) if self.ablation == "coarse_only" else (rows << levels, columns << levels)
            routing = Routing("one", *grid)
        else:
            by_level = tuple(used.index(levels - i) if len(used) > 1 else 0 for i in range(levels + 1))
            routing = Routing("split", rows, columns, splits=splits, networks=by_level)
        return pack(problem.scale, len(problem.numbers), routing, sent, notes={**fitter.notes, "split": share})

    def names(self, problem: VideoProblem) -> list[str]:
        """The branches' backbones, from fine to coarse."""
        match = NAME.fullmatch(problem.case.backbone)
        if match is None or match[1] != "wdsr":
            raise UserError(f"Dy-DCA's branches are WDSR, and the case asks for {problem.case.backbone}; name a wdsr backbone")
        blocks = self.blocks if problem.spec.tier == "paper" else self.small_blocks
        return [f"wdsr{b}_n{match[3] or 32}_w2" for b in blocks]

    def splits(self, fitter: Overfitter) -> tuple[np.ndarray, ...]:
        """Which patches are cut, level by level: (T, cells) bool, then (quadrants that arose,) bool."""
        problem = fitter.problem
        rows, columns = problem.coarse_grid
        frames = len(problem.numbers)
        levels = len(self.fixed)
        if self.ablation in ("fine_only", "coarse_only"):
            every = self.ablation == "fine_only"
            sizes = [(frames, rows * columns), *((frames * rows * columns * 4**i,) for i in range(1, levels))]
            return tuple(np.full(s, every) for s in (sizes if every else [sizes[0], *((0,) for _ in sizes[1:])]))
        general, _ = ranking_model(fitter)
        found: list[np.ndarray] = []
        x, y = problem.cut(rows, columns)
        for level, fixed in enumerate(self.fixed):
            psnr = quality.psnr(patch_errors(problem, general, x, y, SHAVE))
            given = self.threshold if level == 0 else 0.0
            # in the speed division the general model is untrained, and restores nothing at 40 dB
            known = problem.spec.tier == "paper" and problem.spec.division != "speed"
            tau = given or (fixed if known else float(psnr.median()))
            flags = psnr <= tau
            if self.ablation == "random_split":
                generator = torch.Generator().manual_seed(problem.run.seed("dy_dca random", level))
                flags = flags[torch.randperm(len(flags), generator=generator)]
            found.append(flags.view(frames, -1).numpy() if level == 0 else flags.numpy())
            if x.shape[2] % 2 or x.shape[3] % 2:
                raise UserError(f"patches of {x.shape[3]}x{x.shape[2]} cannot be cut into four; use a grid of even patches")
            x, y = (quadrants(p[flags]) for p in (x, y))
        return tuple(found)

    def network(self, fitter: Overfitter, names: Sequence[str], used: Sequence[int]) -> DynamicNetwork:
        """The branches that are used, each trained on other content first where the table starts so."""
        problem = fitter.problem
        heights = self.heights(problem)
        networks = []
        for name, i in zip(names, used, strict=True):
            stage = f"general network{i + 1}"
            if problem.starts_from_general:
                # a coarse branch sees coarse patches of the other content, the others fine ones
                coarse = heights[i] >= 2 * problem.size[0] // problem.scale // problem.grid[0]
                networks.append(general_model(fitter, name, coarse=coarse, stage=stage))
            else:
                networks.append(problem.network(name, f"init {stage}"))
        limits = [(3 * a) // 2 for a in heights[:-1]] if len(networks) > 1 else []
        return DynamicNetwork(networks, limits)

    def heights(self, problem: VideoProblem) -> list[int]:
        """Low-resolution heights of the patches, from fine to coarse."""
        coarse = problem.size[0] // problem.scale // problem.coarse_grid[0]
        return [coarse >> i for i in range(len(self.fixed), -1, -1)]


class DynamicNetwork(nn.Module):
    """Whole networks that share no weights; the patch's height says which one is used (the released `models/dyna_wdsr.py`).

    Args:
        networks: from the one for the lowest patches to the one for the highest.
        limits: ascending; a patch as high as a limit goes to the next network.  Two networks: `global_size`.
    """

    def __init__(self, networks: Sequence[nn.Module], limits: Sequence[int]) -> None:
        super().__init__()
        self.networks, self.limits = nn.ModuleList(networks), list(limits)

    def branch(self, height: int) -> int:
        return sum(height >= limit for limit in self.limits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.networks[self.branch(x.shape[2])](x)
        return out


def quadrants(patches: torch.Tensor) -> torch.Tensor:
    """(n, C, h, w) to (4 n, C, h // 2, w // 2): top left, top right, bottom left, bottom right of each."""
    return cut(patches, 2, 2)


def pools_of(problem: VideoProblem, splits: Sequence[np.ndarray]) -> list[Pool]:
    """The patches that arise, a pool a size, from coarse to fine."""
    x, y = problem.cut(*problem.coarse_grid)
    worth, pools = 4.0, []
    for flags in (torch.from_numpy(s).flatten() for s in splits):
        pools.append(Pool(x[~flags], y[~flags], worth))
        x, y, worth = quadrants(x[flags]), quadrants(y[flags]), worth / 4
    return [*pools, Pool(x, y, worth)]
