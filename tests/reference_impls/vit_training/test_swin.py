"""Tri-Level on a Swin: tokens that stand still, the authors' numbers, and a whole training."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from reference_impls.parts.vit_examples import SwappedExamples
from reference_impls.parts.vit_swin import (
    STAGE,
    Standing,
    StandingBlock,
    connect_stage,
    connect_standing,
    policy_softmax,
    stays,
)
from reference_impls.vit_training.tri_level_evit import TriLevelEvit
from suite.naming import UserError
from tasks.vit_training import costs, networks
from tasks.vit_training.networks import build
from tasks.vit_training.patches import timm
from tasks.vit_training.swin import swin, window
from tests.helpers import golden_tensors
from tests.reference_impls.vit_training import thinning

DEPTHS = (1, 1, 4, 1)
tiny = partial(thinning.problem, architecture="swin-t", epochs=10)


@pytest.fixture
def small_swin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A swin-t of fewer blocks and a quarter of the width: what a test's time allows."""
    swins = timm("timm.models.swin_transformer").SwinTransformer
    make, narrow = swins.__init__, {"embed_dim": 24, "num_heads": (1, 2, 4, 8)}
    monkeypatch.setattr(swins, "__init__", lambda self, **settings: make(self, **settings | narrow))
    monkeypatch.setitem(networks.SWIN, "swin-t", DEPTHS)


def stage(depth: int = 6, *, ratio: float = 0.9, corrected: bool = False) -> tuple[Any, Standing]:
    """A stage of 14x14 tokens in windows of 7, of 8 channels."""
    models = timm("timm.models.swin_transformer")
    torch.manual_seed(0)
    made = models.SwinTransformerStage(8, 8, (14, 14), depth, downsample=False, num_heads=2, window_size=7, mlp_ratio=2).eval()
    for block in made.blocks:
        block.__class__ = StandingBlock
    flow = Standing(ratio, corrected, record=True)
    return connect_stage(made, flow), flow


def tokens(seed: int = 0, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 14, 14, 8, generator=torch.Generator().manual_seed(seed))


# --- the authors' numbers


@torch.no_grad()
def test_a_stage_is_the_authors_to_rounding() -> None:
    z = golden_tensors("tri_level_evit_swin")
    made, flow = stage(z["depth"], ratio=z["prune_ratio"])
    missing, unexpected = made.load_state_dict({k[2:]: v for k, v in z.items() if k.startswith("w.")}, strict=False)
    assert (missing, unexpected) == ([], [])
    found = made(z["x"].unflatten(1, (14, 14))).flatten(1, 2)
    torch.testing.assert_close(found, z["y"], atol=4e-6, rtol=0)  # 2.9e-6 with the least of instructions, 1e-6 with the vectors'
    assert torch.equal(torch.stack(flow.masks).float(), z["masks_in"].float())
    torch.testing.assert_close(torch.stack(flow.scores), z["token_scores"], atol=3e-6, rtol=0)
    assert [block.shift_size for block in made.blocks] == [(0, 0), (3, 3)] * 3


def test_the_softmax_of_a_policy_is_the_authors() -> None:
    z = golden_tensors("tri_level_evit_swin")
    torch.testing.assert_close(policy_softmax(z["policy_logits"], z["policy"][..., 0]), z["policy_softmax"], atol=1e-7, rtol=0)
    everything = torch.ones(z["policy"].shape[:2])
    logits = z["policy_logits"]
    torch.testing.assert_close(policy_softmax(logits, None), policy_softmax(logits, everything))
    torch.testing.assert_close(policy_softmax(logits, None), logits.softmax(-1), atol=2e-6, rtol=0)


def test_a_query_always_counts_itself_and_the_eps_count_where_nothing_else_does() -> None:
    weights = policy_softmax(torch.zeros(1, 1, 3, 3), torch.zeros(1, 3))
    torch.testing.assert_close(weights[0, 0], torch.eye(3), atol=1e-6, rtol=0)


# --- who stands still


@torch.no_grad()
def test_one_token_fewer_than_the_ratio_says_moves_on_unless_corrected() -> None:
    for corrected, expected in ((False, [196, 196, 175, 157, 141, 141]), (True, [196, 196, 176, 158, 142, 142])):
        made, flow = stage(corrected=corrected)
        made(tokens())
        assert [m.sum(1).tolist() for m in flow.masks] == [[n, n] for n in expected]


def test_as_released_a_token_that_stands_may_move_again_corrected_it_may_not() -> None:
    score = torch.tensor([[0.9, 0.8, 0.1, 0.2]])
    moving = torch.tensor([[False, True, True, True]])
    assert stays(score, moving, 2, corrected=False).tolist() == [[True, True, False, False]]
    assert stays(score, moving, 2, corrected=True).tolist() == [[False, True, False, True]]
    same = torch.ones(1, 4)
    assert stays(same, None, 2, corrected=False).sum() == 0  # equal ones all stand
    assert stays(same, None, 2, corrected=True).sum() == 4
    made, flow = stage(8, ratio=0.5, corrected=True)
    with torch.no_grad():
        made(tokens())
    assert all((after <= before).all() for before, after in zip(flow.masks, flow.masks[1:], strict=False))


@torch.no_grad()
def test_tokens_that_stand_leave_a_block_as_they_came_and_are_not_seen() -> None:
    made, flow = stage()
    x = tokens()
    moving = torch.rand(2, 14, 14, 1, generator=torch.Generator().manual_seed(1)) < 0.7
    block = made.blocks[5]  # shifted, and it updates nothing
    flow.moving = moving
    found = block(x)
    standing = ~moving.expand_as(x)
    assert torch.equal(found[standing], x[standing])
    assert not torch.equal(found[~standing], x[~standing])
    flow.moving = moving
    other = block(torch.where(standing, x + 5, x))
    torch.testing.assert_close(other[~standing], found[~standing], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_score_is_the_attention_that_a_token_gets_in_its_window() -> None:
    made, flow = stage(1)
    made(tokens())
    torch.testing.assert_close(flow.scores[0].sum(1), torch.full((2,), 196.0), atol=1e-3, rtol=0)  # every query gives 1


def test_it_counts_to_the_same_three_places_in_a_deeper_stage() -> None:
    made, flow = stage(18)
    with torch.no_grad():
        made(tokens())
    assert [int(m[0].sum()) for m in flow.masks] == [196, 196, 175, 157] + [141] * 14
    assert flow.moving is None  # nothing is held between passes


# --- networks


def test_windows_tile_every_stage() -> None:
    for size in (32, 64, 96, 128, 160, 192, 224, 256, 384):
        with torch.device("meta"):
            model: Any = swin((1, 2, 1, 1), 3, size, 0.2)
        for number, layer in enumerate(model.layers):
            across = size // (4 * 2**number)
            for block in layer.blocks:
                assert block.input_resolution == (across, across)
                assert block.window_size == (min(window(size), across),) * 2
                assert across % block.window_size[0] == 0
        shift = model.layers[1].blocks[1].shift_size[0]
        assert shift == (window(size) // 2 if size > 32 else 0)  # one window is not shifted
    with pytest.raises(UserError, match="multiple of 32 pixels"):
        window(28)


def test_drop_path_rises_over_all_blocks() -> None:
    with torch.device("meta"):
        model: Any = swin((2, 2, 6, 2), 3, 64, 0.2)
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for layer in model.layers for b in layer.blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])


def test_initial_weights_do_not_depend_on_the_blocks_and_until_connected_they_are_timms(small_swin: None) -> None:
    models = []
    for block in (None, StandingBlock):
        torch.manual_seed(3)
        models.append(build("swin-t", 3, (3, 64, 64), block=block).eval())
    plain, ours = models
    left, right = plain.state_dict(), ours.state_dict()
    assert all(torch.equal(left[k], right[k]) for k in left)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = plain(x)
        assert torch.equal(ours(x), expected)
        flow = Standing(0.5)
        connect_standing(ours, flow)
        assert not torch.equal(ours(x), expected)
    layers: Any = ours.layers
    connected = [[b.flow is flow for b in layer.blocks] for layer in layers]
    assert connected == [[i == STAGE] * n for i, n in enumerate(DEPTHS)]


def test_networks_are_copied_saved_and_trained_in_bf16(small_swin: None) -> None:
    torch.manual_seed(0)
    model: Any = connect_standing(build("swin-t", 3, (3, 32, 32), block=StandingBlock), Standing(0.9))
    model.head.fc.weight.data.normal_(std=0.3)
    for module in model.modules():  # no draw beside the bf16 step's
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    thinning.assert_copies(model, thinning.images())
    thinning.assert_steps_in_bf16(model)


# --- a whole training


def test_the_examples_alone_make_up_what_is_asked_for(small_swin: None) -> None:
    """Tokens that stand still cost what they cost: 2 of 3 steps where 0.7 is asked for."""
    problem = tiny(target="train_macs=0.7", epochs=2)
    solution = TriLevelEvit().solve(problem)
    found = {m.name: m.value for m in costs.weigh(problem, solution)}
    assert found["examples_share"] == pytest.approx(2 / 3)
    assert found["kept.train_macs"] == pytest.approx(2 / 3, rel=0.01)
    assert "train_macs_ideal" not in found
    assert solution.notes["token_ratio"] == 0.9
    assert problem.run.spent == {"": 2 * 2 * thinning.BATCH}
    flow = solution.model.layers[STAGE].blocks[0].flow  # type: ignore[index, union-attr]
    assert (flow.ratio, flow.corrected) == (0.9, False)
    thinning.loaded(solution)


def test_levels_are_switched_off_by_one(small_swin: None) -> None:
    problem = tiny(target="train_macs=0.7", epochs=1)
    solution = TriLevelEvit(examples=1.0, tokens=1.0).solve(problem)
    dense: Any = networks.build("swin-t", 3, problem.input)
    dense.load_state_dict(solution.model.state_dict())
    x = thinning.images(2)
    with torch.no_grad():
        assert torch.equal(solution.model.eval()(x), dense.eval()(x))
    assert problem.run.spent == {"": thinning.TRAIN}


def test_there_is_no_class_token_to_break_ties_with() -> None:
    with pytest.raises(UserError, match="a Swin has none"):
        TriLevelEvit(criterion="forgetting+cls").solve(tiny())


@pytest.mark.slow
def test_a_stopped_run_ends_as_if_it_had_never_been_stopped(small_swin: None) -> None:
    method = TriLevelEvit(examples=0.5, corrected=True)
    thinning.assert_resumes(method, (3,), architecture="swin-t", epochs=3, train=4 * thinning.BATCH)  # in the second epoch


def test_swaps_are_those_of_the_other_architectures(small_swin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float]] = []
    first = SwappedExamples.__init__

    def spy(self: SwappedExamples, problem: Any, epochs: int, removed: float, **settings: Any) -> None:
        asked.append((epochs, removed))
        first(self, problem, epochs, removed, **settings)

    monkeypatch.setattr(SwappedExamples, "__init__", spy)
    TriLevelEvit(examples=0.75).solve(tiny(epochs=1))
    assert asked == [(1, 0.25)]
