"""Dy-DCA against the authors' own functions (dy_dca_*.npz), and what follows from a split."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.mobile_vsr.dy_dca import SHAVE, DyDca, DynamicNetwork, quadrants
from reference_impls.mobile_vsr.dy_dca_3path import DyDca3path
from reference_impls.parts.overfitting import patch_errors
from suite.naming import UserError
from tasks.mobile_vsr import quality
from tasks.mobile_vsr.models import build
from tasks.mobile_vsr.patches import cells, paired
from tasks.mobile_vsr.player import Player, Routing
from tests.helpers import golden
from tests.reference_impls.mobile_vsr.test_stdo import wdsr
from tests.tasks.mobile_vsr.helpers import problem


class Repeat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_routing_by_height() -> None:
    z = golden("dy_dca_route")
    scale, units, limit = (int(z[k]) for k in ("scale", "num_residual_units", "global_size"))
    branches = [wdsr(z, f"w__network{i}.", scale, b, units, 2) for i, b in ((1, 4), (2, 2))]
    model = DynamicNetwork(branches, [limit])
    for i in range(4):
        x = torch.from_numpy(z[f"x{i}"])
        assert model.branch(x.shape[2]) + 1 == int(z[f"branch{i}"])
        np.testing.assert_allclose(model(x).detach(), z[f"out{i}"], atol=1e-5)


def test_splits_scores_and_order() -> None:
    z = golden("dy_dca_split")
    low, high = (torch.from_numpy(z[k]).permute(0, 3, 1, 2) for k in ("lr_frames", "hr_frames"))
    rows, columns = int(z["size_h"]) // 2, int(z["size_w"]) // 2
    x, y = paired(low, high, rows, columns, int(z["scale"]))
    fake: Any = SimpleNamespace(device=torch.device("cpu"))
    psnr = quality.psnr(patch_errors(fake, Repeat(), x, y, SHAVE))
    np.testing.assert_allclose(psnr, z["coarse_psnr"], atol=1e-4)
    split = (psnr <= float(z["psnr_threshold"])).view(len(low), -1)
    player = Player(2, len(low), Routing("split", rows, columns, splits=(split.numpy(),), networks=(1, 0)), (), [])
    lows, highs = [], []
    for t in range(len(low)):
        for r, c, _, row, column in player.sequence(t):
            lows.append(cells(low[t], r, c)[row, column].permute(1, 2, 0))
            highs.append(cells(high[t], r, c)[row, column])
    np.testing.assert_array_equal([p.shape[:2] for p in lows], z["patch_sizes"])
    np.testing.assert_array_equal(torch.cat([p.flatten() for p in lows]), z["lr_patches_flat"])
    np.testing.assert_array_equal([int(p.long().sum()) for p in highs], z["hr_patch_sums"])
    assert len(lows) == split.numel() + 3 * int(split.sum())


@pytest.mark.parametrize(
    ("name", "scale", "params"),
    [
        *(("wdsr4_n32_w2", s, p) for s, p in ((2, 153_116), (3, 158_591), (4, 166_256))),
        *(("wdsr2_n32_w2", s, p) for s, p in ((2, 79_196), (3, 84_671), (4, 92_336))),
    ],
)
def test_branches_have_the_papers_parameters(name: str, scale: int, params: int) -> None:
    assert sum(p.numel() for p in build(name, scale, normed=False).parameters()) == params


def test_quadrants_are_in_reading_order() -> None:
    whole = torch.arange(16.0).view(1, 1, 4, 4)
    assert quadrants(whole)[:, 0, 0, 0].tolist() == [0, 2, 8, 10]


@pytest.mark.parametrize("method", [DyDca(), DyDca(ablation="random_split"), DyDca3path()], ids=["full", "random", "three"])
def test_the_player_pastes_every_pixel_once(method: DyDca) -> None:
    p = problem(division="speed")
    stream = method.solve(p)
    low = p.frames[0]
    for t in range(len(low)):
        covered = torch.zeros(3, *low.shape[2:])
        for g in stream.player.groups(t):
            cells(covered, g.rows, g.columns)[g.row, g.column] += 1
        assert (covered == 1).all()
        assert len(stream.player.sequence(t)) == sum(len(g.row) for g in stream.player.groups(t))
    one_by_one = stream.player.play(1, low[1], lambda x, k: stream.player.models[k](x))
    assert (one_by_one.int() - stream.player.play(1, low[1]).int()).abs().max() <= 1  # of 255: a batch rounds otherwise


def test_a_step_moves_one_branch_alone() -> None:
    model = DynamicNetwork([build("wdsr1_n8_w2", 2), build("wdsr1_n8_w2", 2)], [20])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for height in (24, 12):  # the second step must not move the branch of the first by its momentum
        before = [p.clone() for p in model.networks[1].parameters()]
        optimizer.zero_grad(set_to_none=True)
        model(torch.rand(2, 3, height, 12)).mean().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.networks[1].parameters(), strict=True))


def test_an_odd_fine_grid_is_refused() -> None:
    p = problem()
    object.__setattr__(p.setting, "rows", 3)
    with pytest.raises(UserError, match="both must be even"):
        DyDca().solve(p)
