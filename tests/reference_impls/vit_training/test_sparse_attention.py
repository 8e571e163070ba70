"""Masks of attention: how many connections stay, which ones, and that they save nothing but on paper."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from reference_impls.parts.vit_blocks import heads
from reference_impls.parts.vit_schedule import kept
from reference_impls.vit_training.sparse_attention import Pattern, SparseAttention, connections, left_share, with_masks
from suite.naming import UserError
from tasks.vit_training.problem import Constant
from tests.reference_impls.vit_training import thinning
from tests.reference_impls.vit_training.thinning import DEPTH, PATCHES, SHAPE, images, network, problem, solved

PATTERNS = get_args(Pattern)
FIXED = ("window", "bigbird", "random")


def masked(pattern: Pattern, count: int, seed: int = 0) -> nn.Module:
    return with_masks(network(), pattern, PATCHES, count, seed)


def weights_of(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The weights of attention of each block (B, H, n, n), read off by values that are unit vectors."""
    found, blocks = [], model.blocks  # type: ignore[union-attr]

    def attend(q, k, v, mask=None):
        unit = torch.eye(k.shape[2]).expand(*k.shape[:2], -1, -1)
        found.append(nn.functional.scaled_dot_product_attention(q, k, unit, attn_mask=mask))
        return found[-1] @ v

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("reference_impls.vit_training.sparse_attention.attend", attend)
        model(x)
    assert len(found) == len(blocks)
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("count", [3, 20, 40])
def test_every_pattern_leaves_as_many_connections_and_the_class_token_all(pattern, count) -> None:
    share = left_share(PATCHES, count)
    for weights in weights_of(masked(pattern, count), images(3)):
        for image in weights:
            is_open = image > 0
            assert (is_open == is_open[:1]).all()  # all heads share a mask
            assert is_open[0, 0].all()
            assert is_open[0, :, 0].all()
            assert int(is_open[0].sum()) == PATCHES * count + 2 * PATCHES + 1 == round(share * 65**2)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 65))  # renormalised


def test_the_strongest_of_each_patch_stay_by_the_mean_over_heads() -> None:
    model, x = masked("topk", 5), images(3)
    first = weights_of(model, x)[0]
    plain = network()
    with torch.no_grad():
        tokens = plain._pos_embed(plain.patch_embed(x))
        q, k, _ = heads(plain.blocks[0].attn, plain.blocks[0].norm1(tokens))
        strength = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1).mean(1)[:, 1:, 1:]
    for image in range(3):
        for patch in range(PATCHES):
            expected = set(strength[image, patch].argsort(descending=True)[:5].tolist())
            assert set(first[image, 0, patch + 1, 1:].nonzero().flatten().tolist()) == expected
    assert not torch.equal(first[0] > 0, first[1] > 0)  # each image has its own


def grid_distance(side: int = 8) -> torch.Tensor:
    place = torch.tensor([(p // side, p % side) for p in range(side * side)])
    return (place[:, None] - place[None]).abs().amax(-1)


@pytest.mark.parametrize("count", [1, 8, 20, 40, 63])
def test_a_window_holds_the_nearest_pairs(count) -> None:
    found, distance = connections("window", PATCHES, count, 3), grid_distance()
    radius = int(distance[found].max())
    assert found[distance < radius].all()  # whole rings, and a part of the last
    assert int(found.sum()) == count * PATCHES


def test_a_window_of_whole_rings_is_drawn_alike_whatever_the_seed() -> None:
    """Of 9 patches in 3 x 3 the pairs up to distance 1 are 49: 5 a row are 45, 6 are 54."""
    distance = grid_distance(3)
    assert int((distance <= 1).sum()) == 49
    for seed in range(3):
        few, many = (connections("window", 9, count, seed) for count in (5, 6))
        assert not few[distance > 1].any()
        assert many[distance <= 1].all()
    assert not torch.equal(connections("window", 9, 5, 0), connections("window", 9, 5, 1))


def test_bigbird_is_half_a_window_and_half_drawn() -> None:
    distance = grid_distance()
    found = torch.stack([connections("bigbird", PATCHES, 20, seed) for seed in range(30)])
    assert (found.sum((1, 2)) == 20 * PATCHES).all()
    inner, ring = distance <= 1, distance == 2
    assert int(inner.sum()) == 22**2 < 640  # half of the connections fill this much
    assert found[:, inner].all()
    # of the next ring the half takes 640 - 484; the other half is drawn evenly among what is left
    drawn = 640 / (64 * 64 - 640)
    assert float(found[:, distance > 2].float().mean()) == pytest.approx(drawn, abs=0.005)
    taken = (640 - 22**2) / int(ring.sum())
    assert float(found[:, ring].float().mean()) == pytest.approx(taken + (1 - taken) * drawn, abs=0.02)


def test_random_connections_are_even_and_each_blocks_own() -> None:
    found = torch.stack([connections("random", PATCHES, 20, seed) for seed in range(50)]).float().mean(0)
    assert found.mean() == pytest.approx(20 / 64)
    assert (found - 20 / 64).abs().max() < 5 * (20 / 64 * 44 / 64 / 50) ** 0.5
    model = masked("random", 20)
    masks = model.blocks.masks  # type: ignore[union-attr]
    assert not any(torch.equal(masks[a], masks[b]) for a in range(DEPTH) for b in range(a))
    assert torch.equal(masks, masked("random", 20).blocks.masks)  # type: ignore[union-attr]
    assert not torch.equal(masks, masked("random", 20, seed=1).blocks.masks)  # type: ignore[union-attr]


@pytest.mark.parametrize("pattern", FIXED)
def test_fixed_masks_stay_the_same_in_training_and_at_test(pattern) -> None:
    model = masked(pattern, 20)
    first, second = (torch.stack(weights_of(m, images(2, seed))) > 0 for m, seed in ((model.train(), 1), (model.eval(), 2)))
    assert torch.equal(first, second)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_where_all_connections_stay_it_is_dense(pattern) -> None:
    thinning.assert_dense(masked(pattern, PATCHES), images())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_save_no_arithmetic(pattern) -> None:
    """All products are computed; the strongest cost those of the patches' scores once more."""
    again = DEPTH * PATCHES * (PATCHES + 1) * SHAPE.width if pattern == "topk" else 0
    schedule, model = Constant(SHAPE.full), masked(pattern, 20)
    assert thinning.step_macs(model, schedule, 0.5) == thinning.tested_macs(model) == SHAPE.macs(schedule.tokens(0.5)) + again


@pytest.mark.parametrize("pattern", PATTERNS)
def test_networks_are_copied_and_saved(pattern) -> None:
    thinning.assert_copies(masked(pattern, 20), images())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_step_is_taken_in_bf16(pattern) -> None:
    thinning.assert_steps_in_bf16(masked(pattern, 20))


def test_masks_are_no_part_of_a_checkpoint() -> None:
    assert masked("random", 20).state_dict().keys() == network().state_dict().keys()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_is_solved_and_tells_what_masks_leave(pattern) -> None:
    asked, found = solved(SparseAttention(pattern=pattern), epochs=1)
    count = kept(16, 0.3)
    assert count == 5
    assert found.schedule.tokens(0.1) == asked.vit.full  # type: ignore[union-attr]
    again = thinning.loaded(found)
    assert left_share(16, 5) == (16 * 5 + 33) / 17**2
    # of each block's 2 n^2 C products so many are left: 17 tokens of width 24
    hidden = 2 * (17**2 - (16 * 5 + 33)) * 24 * DEPTH
    assert again.ideal(0.7) == pytest.approx(asked.vit.macs(asked.vit.full) - hidden)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.model.eval()(x), found.model.eval()(x))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="target"):
        SparseAttention().solve(problem(target="tokens=0.5"))
    with pytest.raises(UserError, match="pattern"):
        SparseAttention(pattern="stripes")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="keep"):
        SparseAttention(keep=0)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["topk", "random"])
def test_a_stopped_run_ends_bit_for_bit_the_same(pattern) -> None:
    thinning.assert_resumes(SparseAttention(pattern=pattern), (4,))
