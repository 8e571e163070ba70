"""CaFM and EMT against their authors' own functions (vsr_baselines_*.npz), NAS's exits, and the backbones' sizes."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.mobile_vsr.cafm import Cafm, chunk_loss, chunk_of_frame, chunk_of_test_frame, modulated
from reference_impls.mobile_vsr.emt import Emt, gradient_mask, psnr_map, rank, weights_of
from reference_impls.mobile_vsr.nas_anytime import NasAnytime, drawn, draws
from reference_impls.parts.overfitting import Overfitter, Pool, general_model
from suite.naming import UserError
from tasks.mobile_vsr import quality
from tasks.mobile_vsr.models import EDSR, NAS, NAS_UNITS, ContentAwareFM, build, exits, fold, modulate, shallow, switch
from tasks.mobile_vsr.player import flat_conv_weights
from tests.helpers import golden
from tests.reference_impls.mobile_vsr.test_stdo import short
from tests.tasks.mobile_vsr.helpers import problem


def test_psnr_of_cafm() -> None:
    z = golden("vsr_baselines_cafm")
    sr, hr = (torch.from_numpy(z[k]) / 255 for k in ("psnr_sr_raw", "psnr_hr"))
    np.testing.assert_array_equal((quality.quantise(sr) * 255).round(), z["psnr_sr_q"])
    assert quality.psnr_cafm(sr, hr, int(z["scale"])) == pytest.approx(float(z["psnr"]), abs=1e-5)


def test_a_perfect_frame_has_cafms_thousand_decibels() -> None:
    hr = (torch.rand(2, 3, 24, 24) * 255).round() / 255
    sr = hr.clone()
    sr[1] = (sr[1] + 0.1).clamp(0, 1)
    alone = quality.psnr_cafm(sr[1:], hr[1:], 2)
    assert quality.psnr_cafm(hr, hr, 2) == 1000
    assert quality.psnr_cafm(sr, hr, 2) == pytest.approx((1000 + alone) / 2)


def test_edsr_with_a_modulation_per_chunk() -> None:
    z = golden("vsr_baselines_cafm")
    blocks, units, chunks = (int(z[k]) for k in ("n_resblocks", "n_feats", "segnum"))
    model = modulate(EDSR(2, blocks, units, peak=255.0), f"edsr{blocks}_n{units}", chunks)
    names = {"head": "head.0", "last": f"body.{blocks}", "upsample.0": "tail.0.0", "tail": "tail.1"}
    for i in range(blocks):
        for j in (1, 2):
            names[f"body.{i}.conv{j}.inner"] = f"body.{i}.conv{j}"
            for k in range(chunks):
                names[f"body.{i}.conv{j}.fms.{k}.transformer"] = f"body.{i}.cafms{j}.{k}.transformer"
    state = {f"{a}.{p}": torch.from_numpy(z[f"edsr_w__{b}.{p}"]) for a, b in names.items() for p in ("weight", "bias")}
    for i in range(blocks):
        for j in (1, 2):
            for k in range(chunks):
                gamma = z[f"edsr_w__body.{i}.cafms{j}.{k}.gamma"]
                state[f"body.{i}.conv{j}.fms.{k}.gamma"] = torch.from_numpy(gamma)
    model.load_state_dict(state)
    for k in range(chunks):
        switch(model, k)
        np.testing.assert_allclose(model(torch.from_numpy(z["edsr_x"])).detach(), z[f"edsr_out_chunk{k}"], atol=1e-3)


def test_pairwise_modulation_and_chunks_of_frames() -> None:
    z = golden("vsr_baselines_cafm")
    fm = ContentAwareFM(8, 4)
    with torch.no_grad():
        fm.transformer.weight.copy_(torch.from_numpy(z["fm2_w"]))
        fm.transformer.bias.copy_(torch.from_numpy(z["fm2_b"]))
        fm.gamma.fill_(float(z["fm2_gamma"]))
    np.testing.assert_allclose(fm(torch.from_numpy(z["fm2_x"])).detach(), z["fm2_out"], atol=1e-5)
    assert [chunk_of_frame(int(f), 450, 3) for f in z["chunk_frame_ids"]] == z["chunk_of_frame"].tolist()
    assert [chunk_of_test_frame(int(f), 450, 3) for f in z["test_frame_ids"]] == z["test_chunk_of_frame"].tolist()


def test_the_map_of_psnrs_and_its_ranking() -> None:
    z = golden("vsr_baselines_emt")
    found = psnr_map(torch.from_numpy(z["sr"]), torch.from_numpy(z["hr"]), int(z["scale"]), int(z["hr_patch_size"]))
    np.testing.assert_allclose(found, z["psnr_map"], atol=1e-4)
    np.testing.assert_array_equal(rank(found)[:, :2], z["sorted_index"][:, :2])


def test_the_gradient_mask() -> None:
    z = golden("vsr_baselines_gradmask")
    names = [k.removeprefix("mask__") for k in z if k.startswith("mask__") and k.endswith("weight")]
    before, after = ({n: torch.from_numpy(z[f"{w}__model.{n}"]) for n in names} for w in ("before", "after"))
    mask = gradient_mask(before, after, float(z["p_mask"]))
    for n in names:
        np.testing.assert_array_equal(mask[n], z[f"mask__{n}"])


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("edsr16", (1_369_859, 1_554_499, 1_517_571)),
        ("edsr32", (2_551_555, 2_736_195, 2_699_267)),
        ("wdsr16_n32", (1_187_484, 1_192_959, 1_200_624)),
        ("espcn", (60_652, 64_987, 71_056)),
        ("srcnn", (69_251,) * 3),
        ("vdsr20_n64", (668_227,) * 3),
        ("vdsr16", (520_515,) * 3),
        ("vdsr20_n8", (10_955,) * 3),
    ],
)
def test_backbones_have_the_sheets_parameters(name: str, params: tuple[int, ...]) -> None:
    with torch.device("meta"):
        found = [build(name, s) for s in (2, 3, 4)]
    folded = [sum(p.numel() for n, p in m.named_parameters() if not n.endswith("original0")) for m in found]
    assert tuple(folded) == params
    assert build("wdsr16_n16", 4, normed=False).head.out_channels == 16
    assert sum(p.numel() for p in build("wdsr16_n16", 4, normed=False).parameters()) == 307_248  # STDO's released `models/wdsr.py`


@pytest.mark.parametrize(("quality", "params"), [("low", 38_133), ("medium", 195_913), ("high", 502_559), ("ultra", 1_087_930)])
def test_nas_has_the_sheets_parameters_in_its_four_networks(quality: str, params: int) -> None:
    with torch.device("meta"):
        found = [build(f"nas{8 if scale > 1 else 1}_n{n}", scale) for scale, n in NAS_UNITS[quality].items()]
    assert sum(p.numel() for m in found for p in m.parameters()) == params


def test_exits_of_nas_share_what_follows_them() -> None:
    model = build("nas8_n4", 2)
    x, outputs = torch.rand(1, 3, 7, 9), []
    for depth in exits(8):
        alone = shallow(model, depth)
        model.depth = depth
        assert torch.equal(alone(x), model(x))
        assert sum(p.numel() for p in alone.parameters()) == sum(p.numel() for p in build(f"nas{depth}_n4", 2).parameters())
        outputs.append(alone(x))
    assert len(outputs) == 5
    assert not any(torch.equal(a, b) for a, b in pairwise(outputs))
    assert len(model.body) == 8
    with pytest.raises(UserError, match="no exit after 3"):
        shallow(model, 3)


def test_half_of_the_draws_take_the_full_depth() -> None:
    assert draws(8) == [0, 2, 4, 6, 8, 8, 8, 8]
    assert draws(1) == [0, 1]
    p, model = problem(), build("nas8_n4", 2)
    seen = [model.depth for epoch in range(20) for _ in drawn(p, model, epoch)]
    assert set(seen) == {0, 2, 4, 6, 8}
    assert seen.count(8) / len(seen) == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_an_exit_of_nas_is_what_is_sent_and_played() -> None:
    deep, early = (NasAnytime(depth=d).solve(short()) for d in (8, 2))
    assert early.size("model") < deep.size("model") / 2
    (whole,), (part,) = deep.player.models, early.player.models
    assert isinstance(whole, NAS)
    assert len(part.body) == 2
    # one training serves all exits
    x = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(shallow(whole, 2)(x), part(x))
    with pytest.raises(UserError, match="no exit after 5"):
        NasAnytime(depth=5).solve(short())


@pytest.mark.parametrize(("name", "params"), [("edsr16", 4_128), ("vdsr20_n64", 2_322), ("espcn", 483), ("srcnn", 290)])
def test_a_chunk_of_cafm_costs_little(name: str, params: int) -> None:
    model = build(name, 2)
    whole = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in modulate(model, name, 1).parameters()) - whole == params


@pytest.mark.parametrize("name", ["wdsr1_n8_w2", "espcn", "edsr2_n16", "nas2_n4", "srcnn", "vdsr4_n8"])
def test_cafm_starts_as_the_plain_network(name: str) -> None:
    p = problem(case=f"bigbuckbunny/x2-{name}")
    plain = p.network()
    x = torch.rand(2, 3, 9, 11)
    assert torch.equal(modulated(p, plain, 3)(x), plain(x))
    assert plain(x).shape == (2, 3, 18, 22)


def test_cafm_sends_the_backbone_once() -> None:
    p = problem(division="speed")
    stream = Cafm(chunks=3).solve(p)
    backbone = 4 * sum(q.numel() for q in build(p.case.backbone, 2, normed=False).parameters())
    own = 4 * (16 + 16 + 1 + 8 + 8 + 1)
    assert stream.size("model") == backbone + 3 * own
    assert stream.size("map") == 0


def test_a_batch_of_cafm_goes_through_each_chunks_own_modulation() -> None:
    p = problem()
    model = modulated(p, p.network(), 2)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, ContentAwareFM):
                m.gamma.normal_()
    x, y, chunk = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 1, 0, 1])
    errors = []
    for i, k in enumerate(chunk.tolist()):
        switch(model, k)
        errors.append((model(x[i : i + 1]) - y[i : i + 1]).abs().mean())
    found = chunk_loss(model, chunk, Pool(x, y), torch.arange(5), x, y)
    torch.testing.assert_close(found, torch.stack(errors).mean())


@pytest.mark.slow
def test_a_patch_of_cafm_belongs_to_its_frames_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    p = short()
    cells, seen = p.grid[0] * p.grid[1], []

    def spy(model: nn.Module, chunk: torch.Tensor, pool: Pool, index: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen.append((chunk, index))
        return chunk_loss(model, chunk, pool, index, *rest)

    monkeypatch.setattr("reference_impls.mobile_vsr.cafm.chunk_loss", spy)
    stream = Cafm(chunks=2).solve(p)
    chunk, index = (torch.cat(x) for x in zip(*seen, strict=True))
    assert torch.equal(chunk, index // cells * 2 // len(p.numbers))
    assert set(chunk.tolist()) == {0, 1}
    assert [stream.player.groups(t)[0].network for t in range(len(p.numbers))] == [0, 0, 1, 1]


def test_emts_patches_have_their_corner_at_column_a_and_row_b() -> None:
    height, width = 40, 72  # low-resolution; the ranking's indices are column and row
    row, column = torch.meshgrid(torch.arange(2 * height), torch.arange(2 * width), indexing="ij")
    high = torch.stack([column, row, torch.zeros_like(row)]).byte().expand(2, -1, -1, -1)
    low = (high[..., ::2, ::2] // 2).contiguous()  # red is a pixel's column, green its row
    wrong = high[:1].float() / 255
    wrong[..., 20, 100] += 0.5  # what the general model gives: one bad pixel
    seeds = SimpleNamespace(seed=lambda *_: 0)
    fake: Any = SimpleNamespace(frames=(low, high), device=torch.device("cpu"), scale=2, run=seeds)
    batches = Emt(hardest=0.34).windows(fake, lambda x: wrong, [0, 1], 1.0, "emt 0")  # type: ignore[arg-type]
    pool, _ = next(batches(0))
    a, b = pool.x[:, 0, 0, 0].long(), pool.x[:, 1, 0, 0].long()
    assert pool.x.shape[1:] == (3, 32, 32)
    assert torch.equal(pool.y[:, 0, 0, 0].long(), 2 * a)
    assert torch.equal(pool.y[:, 1, 0, 0].long(), 2 * b)
    # the window of (a, b) reaches over columns 2 a + 8 to 2 a + 55 and rows 2 b + 8 to 2 b + 55: 126 of 369 see the pixel
    assert (a.min(), a.max()) == (23, 40)
    assert (b.min(), b.max()) == (0, 6)


@pytest.mark.slow
def test_emt_moves_no_weight_outside_its_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[dict[str, torch.Tensor]] = []

    def spy(*arguments: Any) -> dict[str, torch.Tensor]:
        masks.append(gradient_mask(*arguments))
        return masks[-1]

    monkeypatch.setattr("reference_impls.mobile_vsr.emt.gradient_mask", spy)
    p = short()
    stream = Emt(steps=3).solve(p)
    networks = [fold(general_model(Overfitter(short()))), *stream.player.models]
    for mask, (before, after) in zip(masks, pairwise(weights_of(m) for m in networks), strict=True):
        for name in mask:
            assert torch.equal(before[name][mask[name] == 0], after[name][mask[name] == 0])
        assert any((before[name] != after[name]).any() for name in mask)


@pytest.mark.slow
def test_emt_changes_few_weights_and_sends_only_those() -> None:
    p = short()
    stream = Emt(steps=3).solve(p)
    first, second = stream.player.models
    total = sum(w.numel() for w in weights_of(first).values())
    changed = sum(int((a != b).sum()) for a, b in zip(weights_of(first).values(), weights_of(second).values(), strict=True))
    # without ties at most floor(P p_mask) + 1; after so few steps of Adam many weights moved alike
    assert 0 < changed <= 2 * (math.floor(0.01 * total) + 1)
    biases = [[m.bias for m in x.modules() if isinstance(m, nn.Conv2d)] for x in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(*biases, strict=True))
    width = (total - 1).bit_length()
    assert len(stream.files["model.1"]) == math.ceil(changed * width / 8) + 4 * changed


def test_a_mask_without_ties_has_one_weight_more_than_its_share() -> None:
    before = {"a": torch.zeros(40, 5), "b": torch.zeros(100)}
    moved = torch.randperm(300).float()
    mask = gradient_mask(before, {"a": moved[:200].view(40, 5), "b": -moved[200:]}, 0.2)
    assert sum(int(m.sum()) for m in mask.values()) == 61


@pytest.mark.slow
def test_emt_ranks_every_chunk_by_the_general_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    windows = Emt.windows

    def spy(self: Emt, problem: object, general: nn.Module, *rest: object) -> object:
        seen.append(flat_conv_weights(general).clone())
        return windows(self, problem, general, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Emt, "windows", spy)
    p = short()
    stream = Emt(steps=3).solve(p)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], flat_conv_weights(fold(general_model(Overfitter(short())))))
    assert not torch.equal(seen[1], flat_conv_weights(stream.player.models[0]))


@pytest.mark.slow
def test_both_stages_of_a_chunk_of_emt_are_its_networks_steps() -> None:
    p = short(case="bigbuckbunny/x2-per_model")
    Emt(steps=1000).solve(p)
    assert p.steps == 12
    assert {k: v for k, v in p.run.spent.items() if k.startswith("steps")} == {"steps chunk 0": 12, "steps chunk 1": 12}
