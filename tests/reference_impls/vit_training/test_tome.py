"""ToMe against the authors' functions, and its counts against the networks themselves."""

from __future__ import annotations

import math

import pytest
import torch

from reference_impls.vit_training.tome import (
    Matching,
    Tome,
    match,
    merge_tokens,
    merged,
    merges_for,
    most_merges,
    parse_r,
    with_merging,
)
from suite.naming import UserError
from tasks.vit_training.networks import Shape
from tasks.vit_training.problem import Constant
from tests.helpers import golden_tensors
from tests.reference_impls.vit_training import thinning
from tests.reference_impls.vit_training.thinning import (
    BATCH,
    DEPTH,
    EPOCHS,
    PATCHES,
    SHAPE,
    TRAIN,
    images,
    network,
    problem,
    solved,
)

DEIT_S = Shape(384, 12, 6, 16, 224, 1000)


def test_matching_and_merging_equal_the_authors() -> None:
    saved = golden_tensors("vit_baselines_tome")
    matching = match(saved["metric"], saved["r"])
    x, size = merge_tokens(saved["x"], saved["size"], matching)
    assert (x - saved["x_out"]).abs().max() <= 1e-5
    assert torch.equal(size, saved["size_out"])
    assert torch.equal(matching.sums(torch.eye(17).expand(2, -1, -1)), saved["source"])


def test_schedules_equal_the_authors() -> None:
    saved = golden_tensors("vit_baselines_tome")
    assert parse_r(12, 13) == tuple(saved["schedule_13"].tolist())
    assert parse_r(12, 13, -1) == tuple(saved["schedule_13_dec"].tolist())
    assert parse_r(12, 8, 1) == tuple(saved["schedule_8_inc"].tolist())


def naive(x: torch.Tensor, size: torch.Tensor, metric: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One image, one token after the other, in the sheet's words."""
    metric = metric / metric.norm(dim=-1, keepdim=True)
    even, odd = range(0, len(x), 2), range(1, len(x), 2)
    best = {}
    for a in even:
        scores = [float(metric[a] @ metric[b]) for b in odd]
        best[a] = (max(scores) if a else -math.inf, 2 * scores.index(max(scores)) + 1)
    gone = sorted(best, key=lambda a: -best[a][0])[:r]
    into = {b: [b, *(a for a in gone if best[a][1] == b)] for b in odd}
    groups = [[a] for a in even if a not in gone] + [into[b] for b in odd]
    sizes = torch.stack([sum(size[i] for i in g) for g in groups])
    return torch.stack([sum(x[i] * size[i] for i in g) for g in groups]) / sizes, sizes


@pytest.mark.parametrize("tokens", [16, 17, 5, 4])
def test_merging_equals_a_plain_loop(tokens) -> None:
    draw = torch.Generator().manual_seed(tokens)
    x, metric = torch.randn(3, tokens, 8, generator=draw), torch.randn(3, tokens, 6, generator=draw)
    size = torch.randint(1, 5, (3, tokens, 1), generator=draw).float()
    for r in range(most_merges(tokens, 99) + 1):
        found = merge_tokens(x, size, match(metric, r))
        for i in range(3):
            for got, expected in zip(found, naive(x[i], size[i], metric[i], r), strict=True):
                torch.testing.assert_close(got[i], expected)


def test_the_class_token_stays_first_and_alone_however_many_merge() -> None:
    x = torch.randn(2, 9, 4)
    x[:, 0] = x[:, 1]  # nothing is more alike to it than the patch behind it
    matching = match(x, most_merges(9, 99))
    assert matching.stay.tolist() == [[0], [0]]
    merged_x, size = merge_tokens(x, None, matching)
    assert torch.equal(merged_x[:, 0], x[:, 0])
    assert (size[:, 0] == 1).all()
    assert [most_merges(n, 99) for n in (9, 8, 3, 2, 1)] == [4, 3, 1, 0, 0]


@pytest.mark.parametrize("proportional", [True, False])
def test_without_merges_it_is_dense(proportional) -> None:
    thinning.assert_dense(with_merging(network(), (0,) * DEPTH, proportional=proportional), images())


def test_sizes_sum_to_the_number_of_tokens_in_every_block() -> None:
    model, sizes = with_merging(network(), (9, 0, 20, 30)), []
    step = model.blocks.step

    def noted(block, x, size, r):
        x, size = step(block, x, size, r)
        sizes.append(size)
        return x, size

    model.blocks.step = noted
    model(images())
    assert all((s.sum(1) == PATCHES + 1).all() for s in sizes)
    assert [s.shape[1] for s in sizes] == [56, 56, 36, 19]  # of 36 tokens no more than 17 can merge


def test_a_merged_token_draws_the_attention_of_all_it_stands_for() -> None:
    """Merging equal tokens changes nothing where attention is proportional, and does where it is not."""
    x = images(2)
    model = network()
    with torch.no_grad():
        tokens = model.patch_drop(model._pos_embed(model.patch_embed(x)))
        tokens[:, 1::2] = tokens[:, 2::2]  # pairs that are alike
        expected = model.blocks(tokens)[:, 0]
        found = [with_merging(network(), (32, 0, 0, 0), proportional=p).blocks(tokens)[:, 0] for p in (True, False)]
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-3)
    assert (found[1] - expected).abs().max() > 0.05


@pytest.mark.parametrize("merges", [(4, 4, 4, 4), (0, 3, 0, 7), (32, 16, 8, 4), (40, 40, 40, 40)])
def test_a_step_computes_with_the_tokens_that_the_schedule_tells(merges) -> None:
    """Beside what the formula counts, the match: even positions by odd ones, over the channels of a head."""
    model, tokens = with_merging(network(), merges), merged(SHAPE, merges)
    pairs = sum(((n + 1) // 2) * (n // 2) for n, m in tokens if m < n)
    expected = SHAPE.macs(tokens) + pairs * SHAPE.width // SHAPE.heads
    assert thinning.step_macs(model, Constant(tokens), 0.5) == thinning.tested_macs(model) == expected


WANTED = (0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("shape", [SHAPE, Shape(48, 6, 3, 8, 64, 10), Shape(24, 4, 2, 8, 32, 3), DEIT_S], ids=str)
def test_merges_are_spread_so_finely_that_the_target_is_met(shape, wanted) -> None:
    merges = merges_for(shape, wanted)
    assert shape.macs(merged(shape, merges)) / shape.macs(shape.full) == pytest.approx(wanted, rel=0.01)
    assert max(merges) - min(merges) <= 1
    assert (sum(merges) == 0) == (wanted == 1)


@pytest.mark.parametrize("wanted", WANTED[:-1])
@pytest.mark.parametrize("inflection", [-1.0, 1.0, 0.5])
@pytest.mark.parametrize("shape", [SHAPE, DEIT_S], ids=str)
def test_so_are_those_of_a_rising_or_falling_schedule(shape, inflection, wanted) -> None:
    merges = merges_for(shape, wanted, inflection)
    assert shape.macs(merged(shape, merges)) / shape.macs(shape.full) == pytest.approx(wanted, rel=0.01)
    assert (merges[0] < merges[-1]) == (inflection > 0)


def test_thirteen_merges_in_each_block_of_deit_s_cost_what_is_known_of_them() -> None:
    """2.7 G of 4.6 G: the paper's count at r = 13, of the blocks' matrix products."""
    assert 1e-9 * DEIT_S.macs(merged(DEIT_S, parse_r(12, 13))) == pytest.approx(2.7, abs=0.05)


def test_networks_are_copied_and_saved() -> None:
    thinning.assert_copies(with_merging(network(), (9, 8, 7, 6)), images())


def test_a_step_is_taken_in_bf16() -> None:
    thinning.assert_steps_in_bf16(with_merging(network(), (9, 8, 7, 6)))


def test_merging_has_gradients_but_matching_has_none() -> None:
    x = torch.randn(2, 9, 4, requires_grad=True)
    matching = match(x, 3)
    assert isinstance(matching, Matching)
    merge_tokens(x, None, matching)[0].square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_it_is_solved_counted_and_saved() -> None:
    asked, found = solved(Tome())
    assert asked.run.batches == EPOCHS * TRAIN // BATCH  # type: ignore[attr-defined]
    cost = asked.vit.macs(found.schedule.tokens(0.5)) / asked.vit.macs(asked.vit.full)  # type: ignore[union-attr]
    assert cost == pytest.approx(0.8, rel=0.01)
    again, x = thinning.loaded(found), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.model.eval()(x), found.model.eval()(x))
    _, given = solved(Tome(r=2, inflection=-1))
    assert given.model.blocks.merges == (4, 2, 1, 0)  # type: ignore[union-attr]


def test_what_cannot_be_is_refused_before_any_training() -> None:
    for target in ("tokens=0.5", "train_macs=0.1"):
        asked = problem(target=target)
        with pytest.raises(UserError, match="target"):
            Tome().solve(asked)
        assert asked.run.batches == 0  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="r=-1"):
        Tome(r=-1)
    with pytest.raises(UserError, match="inflection"):
        Tome(inflection=2)


def test_a_stopped_run_ends_bit_for_bit_the_same() -> None:
    thinning.assert_resumes(Tome(), (4,))
