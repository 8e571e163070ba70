"""EViT, and the scores that it is compared with: the block against the authors' own, counts against the networks themselves."""

from __future__ import annotations

import pytest
import torch

from reference_impls.parts.vit_blocks import Flow, TokenBlock, class_attention, complement, connect, flow_of, heads
from reference_impls.parts.vit_schedule import Ramp, kept, mean_macs, prune_blocks
from reference_impls.parts.vit_training import Draws
from reference_impls.vit_training.evit import Current, Evit, ramp_for
from reference_impls.vit_training.token_selection import PixelVariance, ScoredBlock, Scoring, TokenSelection
from suite.naming import UserError
from tasks.vit_training.patches import gather_patches
from tests.helpers import golden_tensors
from tests.reference_impls.vit_training import thinning
from tests.reference_impls.vit_training.thinning import PATCHES, SHAPE, images, network, problem, solved

SCORES = ("class", "inverted", "random", "variance")


def golden_block(saved: dict, *, fuse: bool) -> TokenBlock:
    block = TokenBlock(12, saved["num_heads"], mlp_ratio=2, qkv_bias=True)
    block.load_state_dict({k[2:]: v for k, v in saved.items() if k.startswith("w.")})
    block.flow, block.prunes, block.first = Flow(target=saved["keep_rate"], fuse=fuse, record=True), True, True
    return block.eval()


@pytest.mark.parametrize("fuse", [False, True])
def test_a_block_equals_the_authors(fuse) -> None:
    saved = golden_tensors("data_level_lth_evit_block")
    block = golden_block(saved, fuse=fuse)
    with torch.no_grad():
        q, k, _ = heads(block.attn, block.norm1(saved["x"]))
        out = block(saved["x"])
    assert (class_attention(q, k) - saved["cls_attn"]).abs().max() <= 1e-6
    (index,) = block.flow.kept
    assert torch.equal(index, saved["topk_idx"])
    assert torch.equal(complement(index, 20), saved["complement"])
    expected, count = (saved["x_out_fused"], saved["n_tokens_fused"]) if fuse else (saved["x_out"], saved["n_tokens"])
    assert out.shape[1] == count + 1
    assert (out - expected).abs().max() <= 2e-4


def selecting(method: Evit | TokenSelection, keep: float) -> torch.nn.Module:
    """The network of a method, not trained, as it is tested."""
    if isinstance(method, Evit):
        return connect(network(TokenBlock), Flow(keep, keep, method.fuse))
    scoring = Scoring(keep, keep, by=method.score, record=True)
    model = network(ScoredBlock)
    model.patch_embed.register_forward_pre_hook(PixelVariance(scoring, 4))
    return connect(model, scoring)


METHODS = [Evit(), Evit(fuse=False), *(TokenSelection(score=s) for s in SCORES)]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_at_a_keep_ratio_of_one_it_is_dense(method) -> None:
    thinning.assert_dense(selecting(method, 1.0), images())


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_networks_are_copied_and_saved(method) -> None:
    thinning.assert_copies(selecting(method, 0.7), images())


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_step_is_taken_in_bf16(method) -> None:
    thinning.assert_steps_in_bf16(selecting(method, 0.7))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_step_computes_with_the_tokens_that_the_schedule_tells(method) -> None:
    """Beside what the formula counts, one row of attention where class attention is asked for."""
    ramp = Ramp(0.6, epochs=30, per_epoch=6)
    schedule = Current(ramp, SHAPE, getattr(method, "fuse", False))
    model = selecting(method, 1.0)
    found = []
    for point in (0.0, 0.1, 0.2, 0.9):
        tokens = schedule.tokens(point)
        pruning = [n for n, m in tokens if m < n]
        rows = sum(n * SHAPE.width for n in pruning) if getattr(method, "score", "class") in ("class", "inverted") else 0
        assert thinning.step_macs(model, schedule, point) == SHAPE.macs(tokens) + rows
        found.append(SHAPE.macs(tokens))
    assert found[0] == SHAPE.macs(SHAPE.full) > found[1] > found[2] > found[3]


def test_a_fused_patch_counts_in_the_next_prune_and_lies_last() -> None:
    model = selecting(Evit(), 0.5)
    flow_of(model).record = True
    with torch.no_grad():
        model(images())
    counts = [index.shape[1] for index in flow_of(model).kept]
    assert counts == [32, kept(33, 0.5), kept(18, 0.5)] == [32, 17, 9]
    tokens = Current(Ramp(0.5, 3, 6, constant=True), SHAPE, fused=True).tokens(0)
    assert [m - 1 for n, m in tokens if m < n] == [33, 18, 10]


def test_it_is_looked_at_with_the_ratio_of_the_time_and_tested_with_the_last() -> None:
    asked, seen = problem(target="train_macs=0.9", epochs=3), []
    asked.validate = lambda model: seen.append(flow_of(model).target) or 0.0  # type: ignore[method-assign]
    found = Evit().solve(asked)
    base = found.schedule.ramp.base  # type: ignore[union-attr]
    assert seen[0] == 1.0
    assert 1.0 > seen[len(seen) // 2] > seen[-1] == flow_of(found.model).target == base
    assert found.points == (0.0, 0.2, 0.4)


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("way", ["cosine", "constant"])
@pytest.mark.parametrize("wanted", [0.75, 0.9])
def test_the_ratio_makes_the_whole_training_cost_what_is_asked(fuse, way, wanted) -> None:
    asked = problem(target=f"train_macs={wanted}", epochs=30, architecture="vit-24-4-2-p4")
    ramp = ramp_for(asked, None, way, fused=fuse)
    shape = asked.vit
    share = mean_macs(shape, Current(ramp, shape, fuse).tokens, 180) / shape.macs(shape.full)
    assert share == pytest.approx(wanted, rel=0.01)
    constant = ramp_for(asked, 0.5, way, fused=fuse)
    assert constant.base == 0.5


@pytest.mark.parametrize("method", [Evit(), TokenSelection()])
def test_other_targets_and_those_out_of_reach_are_refused_before_any_training(method) -> None:
    for target in ("tokens=0.5", "train_macs=0.2", "train_macs=1.5"):
        asked = problem(target=target)
        with pytest.raises(UserError, match="target"):
            method.solve(asked)
        assert asked.run.batches == 0  # type: ignore[attr-defined]
    for keep in (0.0, 1.5):
        with pytest.raises(UserError, match="keep"):
            type(method)(keep=keep)


@pytest.mark.parametrize("method", [Evit(), Evit(fuse=False), TokenSelection()], ids=str)
def test_it_tells_which_patches_it_keeps(method) -> None:
    asked, found = solved(method, target="train_macs=0.9", epochs=3)
    index = thinning.loaded(found).keeps.eval()(images(4))
    n, m = found.schedule.tokens(1.0)[-1]  # type: ignore[union-attr]
    assert m < n  # the last block prunes, and what it fuses is none of the patches that it keeps
    assert index.shape == (4, m - 1 - getattr(method, "fuse", False))
    for row in index.tolist():
        patches = [i for i in row if i >= 0]  # -1 is one that was fused before
        assert len({*patches}) == len(patches)
        assert max(patches) < asked.vit.patches


def kept_patches(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Which patches are there after the last prune, in rising order."""
    with torch.no_grad():
        model(x)
    ticket, *rest = flow_of(model).kept
    for index in rest:
        ticket = ticket.gather(1, index)
    return ticket.sort(1).values


def test_the_controls_keep_equally_many_by_other_scores() -> None:
    x = images()
    found = {s: kept_patches(selecting(TokenSelection(score=s), 0.5), x) for s in SCORES}
    assert {v.shape for v in found.values()} == {(6, 8)}
    evit = selecting(Evit(fuse=False), 0.5)
    flow_of(evit).record = True
    assert torch.equal(found["class"], kept_patches(evit, x))
    assert not any(torch.equal(found[a], found[b]) for a in SCORES for b in SCORES if a < b)


def test_inverted_keeps_the_least_attended_of_the_first_prune() -> None:
    x = images()
    first = {}
    for score in ("class", "inverted"):
        model = selecting(TokenSelection(score=score), 0.5)
        with torch.no_grad():
            model(x)
        first[score] = flow_of(model).kept[0]
    both = torch.cat([first["class"], first["inverted"]], 1)
    assert torch.equal(both.sort(1).values, torch.arange(PATCHES).expand(6, -1))


def test_variance_keeps_the_patches_whose_pixels_vary_most() -> None:
    x = 0.1 * images()
    loud = torch.tensor([3, 12, 17, 20, 33, 40, 41, 63])  # raster order, 8 patches a row
    for patch in loud.tolist():
        row, column = 4 * (patch // 8), 4 * (patch % 8)
        x[:, :, row : row + 4, column : column + 4] *= 10
    assert torch.equal(kept_patches(selecting(TokenSelection(score="variance"), 0.5), x), loud.expand(6, -1))


def test_random_scores_are_addressed_by_step_in_training_and_fixed_at_test() -> None:
    asked, x = problem(), images()
    model = selecting(TokenSelection(), 0.5)
    draws = Draws(asked.run, "token_selection scores", flow_of(model))

    def step(epoch: int, steps: int) -> torch.Tensor:
        draws.before_epoch(epoch)
        for _ in range(steps):
            draws.before_step(torch.arange(6))
        model.train()
        return kept_patches(model, x)

    before = torch.get_rng_state()
    first, second, other = step(0, 1), step(0, 2), step(1, 1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(step(0, 1), first)
    assert torch.equal(torch.get_rng_state(), before)  # no other stream moved
    model.eval()
    tested = kept_patches(model, x)
    step(0, 2)
    model.eval()
    assert torch.equal(kept_patches(model, x), tested)
    # images and prunes draw apart
    assert not torch.equal(first[0], first[1])
    assert prune_blocks(4) == (1, 2, 3)
    lists = flow_of(model).kept
    assert len(lists) == 3
    assert not torch.equal(lists[0][:, :8].argsort(1), lists[1][:, :8].argsort(1))


@pytest.mark.parametrize("method", [Evit(), TokenSelection(score="variance"), TokenSelection()], ids=str)
def test_a_stopped_run_ends_bit_for_bit_the_same(method) -> None:
    thinning.assert_resumes(method, (2, 4), target="train_macs=0.95")


def test_solutions_are_saved_whole_and_leave_nothing_of_the_last_pass() -> None:
    _, found = solved(TokenSelection(score="variance"), target="train_macs=0.95")
    assert flow_of(found.model).variance is None
    assert flow_of(found.model).kept == []
    again, x = thinning.loaded(found), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.model.eval()(x), found.model.eval()(x))
    assert again.schedule == found.schedule


def test_fusing_weighs_the_dropped_by_class_attention() -> None:
    """Re-derived without the block: what the fused patch holds before the MLP."""
    block = golden_block(golden_tensors("data_level_lth_evit_block"), fuse=True)
    x = torch.randn(2, 21, 12, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        fused = block.attention_step(x)
        q, k, _ = heads(block.attn, block.norm1(x))
        patches = (x + block.attn(block.norm1(x)))[:, 1:]
        score = class_attention(q, k)
        order = score.argsort(1, descending=True)
        rest = order[:, 12:]
        expected = (score.gather(1, rest).unsqueeze(-1) * gather_patches(patches, rest)).sum(1)
    torch.testing.assert_close(fused[:, -1], expected)
