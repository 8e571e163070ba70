"""STDO against the authors' own functions (stdo_*.npz), and its partitions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reference_impls.mobile_vsr.jstdo import Jstdo, default_shares, sample
from reference_impls.mobile_vsr.nas_chunks import NasChunks
from reference_impls.mobile_vsr.random_chunks import RandomChunks
from reference_impls.mobile_vsr.stdo import Stdo, assign_chunks, thresholds
from reference_impls.parts.overfitting import (
    Overfitter,
    Pool,
    bicubic_psnr,
    clip_pool,
    cosine,
    l1,
    members,
    ranking_model,
    shuffled_batches,
)
from suite import registry
from suite.naming import UserError
from suite.protocol import Stopped
from tasks.mobile_vsr import quality
from tasks.mobile_vsr.models import WDSR, fold
from tasks.mobile_vsr.patches import paired
from tests.helpers import MemoryRun, golden
from tests.tasks.mobile_vsr.helpers import frames, problem, spec


def wdsr(z: dict[str, np.ndarray], prefix: str, scale: int, blocks: int, units: int, width: int) -> WDSR:
    """Our network with the authors' weights; their layers are numbered: head, blocks, tail, skip."""
    model = WDSR(scale, blocks, units, width)
    ours = {"head": "body.0", "tail": f"body.{blocks + 1}", "skip": "skip.0"}
    ours |= {f"body.{i}.{j}": f"body.{i + 1}.body.{j}" for i in range(blocks) for j in (0, 2)}
    state = {}
    for mine, theirs in ours.items():
        parts = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v", "bias": "bias"}
        state |= {f"{mine}.{a}": torch.from_numpy(z[f"{prefix}{theirs}.{b}"]) for a, b in parts.items()}
    model.load_state_dict(state)
    return model


def test_errors_and_psnr() -> None:
    z = golden("stdo_psnr")
    sr, hr, scale = torch.from_numpy(z["sr"]), torch.from_numpy(z["hr"]), int(z["scale"])
    assert scale + 4 == int(z["shave"])
    np.testing.assert_allclose(quality.mse(sr, hr, scale + 4), z["mse"], rtol=1e-6)
    np.testing.assert_allclose(quality.patch_psnr(sr, hr, scale), z["psnr"], atol=1e-5)
    np.testing.assert_allclose(quality.psnr(quality.mse(sr, hr, 4)), z["psnr_shave4"], atol=1e-5)
    assert quality.aggregate_psnr(quality.mse(sr, hr, scale + 4)) == pytest.approx(float(z["aggregate_psnr"]), abs=1e-5)


def test_the_network_a_step_of_adam_and_the_learning_rate() -> None:
    z = golden("stdo_wdsr")
    model = wdsr(z, "w__", *(int(z[k]) for k in ("scale", "num_blocks", "num_residual_units", "width_multiplier")))
    x, y = torch.from_numpy(z["x"]), torch.from_numpy(z["y"])
    before = x.clone()
    out = model(x)
    assert torch.equal(x, before)
    np.testing.assert_allclose(out.detach(), z["out"], atol=1e-5)
    np.testing.assert_allclose(fold(model)(x).detach(), z["out"], atol=1e-5)
    loss = (out - y).abs().mean()
    assert loss.item() == pytest.approx(float(z["l1"]), abs=1e-6)
    optimizer = torch.optim.Adam(model.parameters(), float(z["learning_rate"]))
    loss.backward()
    optimizer.step()
    np.testing.assert_allclose(model(x).detach(), z["out_after_step"], atol=1e-5)
    np.testing.assert_allclose([cosine(e / 50) for e in range(51)], z["lr_per_epoch"], atol=1e-9)


def test_the_training_loop_takes_the_golden_step() -> None:
    z = golden("stdo_wdsr")
    model = wdsr(z, "w__", *(int(z[k]) for k in ("scale", "num_blocks", "num_residual_units", "width_multiplier")))
    x, y = torch.from_numpy(z["x"]), torch.from_numpy(z["y"])
    p = problem()
    Overfitter(p).fit("chunk 0", model, [Pool(255 * x, 255 * y)], steps=1, rate=float(z["learning_rate"]))
    assert p.run.examples == len(x)
    np.testing.assert_allclose(model(x).detach(), z["out_after_step"], atol=1e-5)


def test_patches_thresholds_and_chunks() -> None:
    z = golden("stdo_cluster")
    low, high = (torch.from_numpy(z[k]).permute(0, 3, 1, 2) for k in ("lr_frames", "hr_frames"))
    x, y = paired(low, high, int(z["size_h"]), int(z["size_w"]), int(z["scale"]))
    np.testing.assert_array_equal(x.permute(0, 2, 3, 1), z["lr_patches"])
    np.testing.assert_array_equal(y.permute(0, 2, 3, 1), z["hr_patches"])
    labels, k = torch.from_numpy(z["labels"]), int(z["k"])
    np.testing.assert_array_equal(thresholds(labels, k, lowest=0.0), z["thresholds"])
    np.testing.assert_array_equal(assign_chunks(labels, k), z["assign"])


def test_ties_infinities_and_too_many_chunks() -> None:
    tied = torch.tensor([5.0, 5.0, 5.0, 5.0, math.inf, math.inf])
    assert assign_chunks(tied, 3).tolist() == [0, 0, 0, 0, 2, 2]
    assert [len(m) for m in members(assign_chunks(tied, 3), 3)] == [4, 0, 2]
    assert assign_chunks(torch.tensor([-3.0, 1.0]), 2).tolist() == [0, 1]
    with pytest.raises(UserError, match="at most 2"):
        thresholds(torch.zeros(2), 3)


def test_jstdo_keeps_all_of_the_hardest_and_none_of_the_easiest() -> None:
    assert default_shares(4) == pytest.approx((1, 2 / 3, 1 / 3, 0))
    chunks = list(torch.arange(36).split(9))
    chosen = sample(chunks, default_shares(4), torch.Generator().manual_seed(226))
    counts = [int(torch.isin(chosen, c).sum()) for c in chunks]
    assert counts == [9, 6, 3, 0]
    assert len(chosen.unique()) == len(chosen)


def test_one_pool_drops_the_rest_and_a_small_one_is_a_batch() -> None:
    draw = torch.Generator().manual_seed(0)
    assert [len(i) for _, i in shuffled_batches([40], draw)] == [16, 16]
    assert [len(i) for _, i in shuffled_batches([5], draw)] == [5]


def test_one_pool_may_keep_its_rest() -> None:
    whole, rest = (shuffled_batches([40], torch.Generator().manual_seed(0), keep_rest=k) for k in (False, True))
    assert [len(i) for _, i in rest] == [16, 16, 8]
    assert torch.cat([i for _, i in rest]).sort().values.tolist() == list(range(40))
    for (_, a), (_, b) in zip(whole, rest, strict=False):
        assert torch.equal(a, b)


def test_two_pools_fill_their_buffers_in_order_of_arrival() -> None:
    batches = shuffled_batches([40, 20], torch.Generator().manual_seed(1))
    assert [len(i) for _, i in batches][-2:] == [8, 4]
    assert sorted(len(i) for _, i in batches) == [4, 8, 16, 16, 16]
    for pool, size in ((0, 40), (1, 20)):
        assert torch.cat([i for p, i in batches if p == pool]).sort().values.tolist() == list(range(size))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stdo", "nas_chunks", "nas_anytime"])
def test_a_stopped_run_ends_as_if_it_had_not_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_impls.parts.overfitting.SAVE_STEPS", 1)
    method = registry.load(registry.method("mobile_vsr", name))()
    whole = method.solve(short())
    run = MemoryRun(spec(), stop_after=20)
    with pytest.raises(Stopped):
        method.solve(short(run))
    again = MemoryRun(spec(), saved=run.saved)
    stopped = method.solve(short(again))
    assert stopped.files == whole.files
    assert again.examples == 2 * 12 * 16


def short(run: MemoryRun | None = None, **changes: Any) -> Any:
    """A problem of twelve steps, after as many on other content."""
    p = problem(run, **changes)
    p.setting = replace(p.setting, steps=12, general_steps=12)
    return p


def test_the_general_model_is_held_against_bicubic_before_it_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    for t, image in enumerate(frames(2, 160, 160)):
        Image.fromarray(image).save(tmp_path / "mine" / f"{t}.png")
    p = problem(tier="small", case="mine/x2", data=str(tmp_path))
    fitter = Overfitter(p)
    good, poor = (torch.nn.Upsample(scale_factor=2, mode=m) for m in ("bicubic", "nearest"))
    bicubic = bicubic_psnr(p)
    errors = []
    for low, high in zip(*p.frames, strict=True):
        image = Image.fromarray(low.permute(1, 2, 0).numpy()).resize((160, 160), Image.Resampling.BICUBIC)
        d = (np.asarray(image).transpose(2, 0, 1) / 255 - high.numpy() / 255) ** 2
        rows, columns = p.grid
        h, w = 160 // rows, 160 // columns
        errors += [
            d[:, i * h + 6 : (i + 1) * h - 6, j * w + 6 : (j + 1) * w - 6].mean() for i in range(rows) for j in range(columns)
        ]
    assert bicubic == pytest.approx(-10 * math.log10(np.mean(errors)), abs=1e-4)
    monkeypatch.setattr("reference_impls.parts.overfitting.general_model", lambda fitter: good)
    _, labels = ranking_model(fitter)
    found = -10 * math.log10(np.mean(10 ** (-labels.numpy() / 10)))
    assert fitter.notes == {"general_psnr": pytest.approx(found, abs=1e-3), "bicubic_psnr": bicubic}
    monkeypatch.setattr("reference_impls.parts.overfitting.general_model", lambda fitter: poor)
    with pytest.raises(UserError, match="too poor to rank"):
        ranking_model(fitter)
    for changes in ({"tier": "smoke"}, {"tier": "small", "division": "speed"}):
        ranking_model(Overfitter(problem(case="mine/x2", data=str(tmp_path), **changes)))


@pytest.mark.parametrize("name", ["stdo", "jstdo", "d0_only", "dy_dca", "emt"])
def test_no_method_ranks_by_a_poor_general_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    Image.fromarray(frames(1, 160, 160)[0]).save(tmp_path / "mine" / "0.png")
    monkeypatch.setattr("reference_impls.parts.overfitting.general_model", lambda fitter: torch.nn.Upsample(scale_factor=2))
    with pytest.raises(UserError, match="too poor to rank"):
        registry.load(registry.method("mobile_vsr", name))().solve(problem(tier="small", case="mine/x2", data=str(tmp_path)))


@pytest.mark.slow
def test_networks_of_all_chunks_start_alike_and_cost_as_many_times_one() -> None:
    p = problem(division="speed")  # no step is taken
    one = Jstdo(chunks=4).solve(p)
    for method in (Stdo(chunks=4), NasChunks(chunks=4), RandomChunks(chunks=4)):
        stream = method.solve(p)
        assert stream.size("model") == 4 * one.size("model")
        assert len({stream.files[f"model.{k}"] for k in range(4)} | {one.files["model.0"]}) == 1


def test_a_closed_run_cannot_overdraw() -> None:
    from suite.protocol import OverBudget

    p = problem()
    p.book("chunk 0", p.budget)
    with pytest.raises(OverBudget, match="granted"):
        p.book("chunk 1", 1)
    each = problem(case="bigbuckbunny/x2-per_model")
    for k in range(3):
        for _ in range(each.steps):
            each.book(f"chunk {k}", 64)
    with pytest.raises(OverBudget):
        each.book("chunk 0", 16)


def test_the_speed_division_takes_no_step() -> None:
    p = problem(division="speed")
    Overfitter(p).fit("chunk 0", p.network(), [], steps=3)
    assert p.run.examples == 0


def test_the_papers_recipe_starts_from_scratch_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for t, image in enumerate(frames(2, 320, 640)):
        Image.fromarray(image).save(tmp_path / "mine" / f"{t}.png")
    p = problem(tier="paper", case="mine/x2-wdsr1_n8_w2", data=str(tmp_path))
    p.setting = replace(p.setting, rows=4, columns=8, epochs=3)
    assert (p.schedule, p.select, p.starts_from_general) == ("epoch", "best", False)
    fitter = Overfitter(p)
    rates, seen = [], []

    def loss(model: torch.nn.Module, *batch: Any) -> torch.Tensor:
        seen.append(model.head.bias.detach().clone())
        return l1(model, *batch)

    class Spy(torch.optim.Adam):
        def step(self, *arguments: Any) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Spy)
        fitter.fit("chunk 0", p.network(), [clip_pool(p)], steps=p.steps, loss=loss)
    assert p.steps == len(rates) == 3 * 4  # 64 patches, 3 epochs
    np.testing.assert_allclose(rates[::4], [cosine(e / 3) for e in range(3)])
    assert len(set(rates)) == 3
    assert torch.equal(seen[0], torch.zeros(8))
    with pytest.raises(UserError, match=r"DIV2K.*academic research only"):
        p.general_patches()
