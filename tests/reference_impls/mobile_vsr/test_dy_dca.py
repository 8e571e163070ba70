"""Dy-DCA against the authors' own functions (dy_dca_*.npz), and what follows from a split."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.mobile_vsr.dy_dca import SHAVE, DyDca, DynamicNetwork, quadrants
from reference_impls.mobile_vsr.dy_dca_3path import DyDca3path
from reference_impls.parts.overfitting import Overfitter, Pool, general_model, l1, patch_errors, shuffled_batches
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
    p = problem()
    model = DynamicNetwork([build("wdsr1_n8_w2", 2), build("wdsr1_n8_w2", 2)], [20])
    shapes = ((24, 12, 4.0), (12, 12, 1.0))
    pools = [Pool(*(torch.randint(256, (16, 3, s * h, s * w), dtype=torch.uint8) for s in (1, 2)), worth) for h, w, worth in shapes]
    seen: list[list[torch.Tensor]] = []

    def loss(model: nn.Module, *batch: Any) -> torch.Tensor:
        seen.append([q.detach().clone() for q in model.networks[1].parameters()])  # type: ignore[index, union-attr]
        return l1(model, *batch)

    # the second and third step must not move the branch of the first by its momentum
    one_each = [(pools[0], torch.arange(16)), (pools[1], torch.arange(16)), (pools[1], torch.arange(16))]
    Overfitter(p).fit("dynamic", model, pools, steps=3, loss=loss, batches=lambda epoch: iter(one_each))
    start, after, *_ = seen
    assert not all(torch.equal(x, y) for x, y in zip(start, after, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(after, model.networks[1].parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("ablation", "sizes"), [("coarse_only", {16, 8}), ("none", None)])
def test_what_fills_no_batch_is_trained_on_too(ablation: Any, sizes: set[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem()
    p.setting = replace(p.setting, stride=50, steps=12, general_steps=12)
    assert len(p.numbers) * 8 == 24  # coarse patches
    found: list[list[tuple[int, torch.Tensor]]] = []

    def spy(*arguments: Any, keep_rest: bool) -> list[tuple[int, torch.Tensor]]:
        epoch = shuffled_batches(*arguments, keep_rest=keep_rest)
        if keep_rest:
            found.append(epoch)
        return epoch

    monkeypatch.setattr("reference_impls.parts.overfitting.shuffled_batches", spy)
    DyDca(ablation=ablation).solve(p)
    for epoch in found:
        assert sizes is None or {len(index) for _, index in epoch} == sizes
        worth = sum(len(index) for _, index in epoch)
        assert worth == 24 if ablation == "coarse_only" else worth > 24
    assert found


@pytest.fixture
def golden_fitter(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, np.ndarray]]:
    """What `DyDca.splits` asks of a fitter, on the golden frames, scored by the golden model."""
    z = golden("dy_dca_split")
    low, high = (torch.from_numpy(z[k]).permute(0, 3, 1, 2) for k in ("lr_frames", "hr_frames"))
    fake = SimpleNamespace(
        device=torch.device("cpu"),
        coarse_grid=(int(z["size_h"]) // 2, int(z["size_w"]) // 2),
        numbers=range(len(low)),
        spec=SimpleNamespace(tier="small", division="closed"),
        cut=lambda rows, columns: paired(low, high, rows, columns, int(z["scale"])),
    )
    monkeypatch.setattr("reference_impls.mobile_vsr.dy_dca.ranking_model", lambda fitter: (Repeat(), None))
    return SimpleNamespace(problem=fake), z


def test_the_methods_own_split(golden_fitter: tuple[Any, dict[str, np.ndarray]]) -> None:
    fitter, z = golden_fitter
    scores = z["coarse_psnr"].ravel()
    (given,) = DyDca(threshold=float(z["psnr_threshold"])).splits(fitter)
    np.testing.assert_array_equal(given.ravel(), scores <= float(z["psnr_threshold"]))
    assert len(scores) + 3 * given.sum() == len(z["patch_sizes"])
    (half,) = DyDca().splits(fitter)  # elsewhere than on the paper tier: the median, itself split
    assert half.sum() == (len(scores) + 1) // 2
    assert scores[half.ravel()].max() <= scores[~half.ravel()].min()
    fitter.problem.spec.tier = "paper"
    (paper,) = DyDca().splits(fitter)
    np.testing.assert_array_equal(paper.ravel(), scores <= 40)
    fitter.problem.spec.division = "speed"  # an untrained general model restores nothing at 40 dB
    (untrained,) = DyDca().splits(fitter)
    np.testing.assert_array_equal(untrained, half)


def test_a_patch_at_the_threshold_is_split(golden_fitter: tuple[Any, dict[str, np.ndarray]]) -> None:
    fitter, _ = golden_fitter
    x, y = fitter.problem.cut(*fitter.problem.coarse_grid)
    exact = sorted(quality.psnr(patch_errors(fitter.problem, Repeat(), x, y, SHAVE)).tolist())
    (at,) = DyDca(threshold=exact[2]).splits(fitter)
    assert at.sum() == 3


def test_random_splits_cut_as_many() -> None:
    p = problem(division="speed")
    (by_score,), (random,) = (DyDca(ablation=a).splits(Overfitter(p)) for a in ("none", "random_split"))  # type: ignore[arg-type]
    assert by_score.sum() == random.sum() > 0
    assert (by_score != random).any()


@pytest.mark.slow
def test_three_paths_have_limits_half_way_and_a_map_a_level() -> None:
    p, method = problem(division="speed"), DyDca3path()
    assert method.heights(p) == [18, 36, 72]
    network = method.network(Overfitter(p), method.names(p), range(3))
    assert network.limits == [27, 54]
    assert [network.branch(h) for h in (18, 26, 27, 36, 53, 54, 72)] == [0, 0, 1, 1, 1, 2, 2]
    first, second = method.splits(Overfitter(p))
    assert first.shape == (len(p.numbers), 8)
    assert second.shape == (4 * first.sum(),)
    x, y = p.cut(*p.coarse_grid)
    cut = torch.from_numpy(first).flatten()
    scores = quality.psnr(patch_errors(p, general_model(Overfitter(p)), quadrants(x[cut]), quadrants(y[cut]), SHAVE))
    np.testing.assert_array_equal(second, scores <= scores.median())
    stream = method.solve(p)
    assert {"map.0", "map.1"} <= set(stream.files)
    for sent, drawn in zip(stream.player.routing.splits, (first, second), strict=True):
        np.testing.assert_array_equal(sent, drawn)
    wanted = {72: int((~first).sum()), 36: int((~second).sum()), 18: 4 * int(second.sum())}
    assert {h: n for (_, h, _), n in stream.player.sizes(*p.frames[0].shape[2:]).items()} == wanted


def test_an_odd_fine_grid_is_refused() -> None:
    p = problem()
    p.setting = replace(p.setting, rows=3)  # the tier's own is shared with every test behind this one
    with pytest.raises(UserError, match="both must be even"):
        DyDca().solve(p)
