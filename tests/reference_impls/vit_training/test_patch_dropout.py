"""PatchDropout: who enters, how many, and what that costs."""

from __future__ import annotations

import pytest
import torch

from reference_impls.parts.vit_training import Draws
from reference_impls.vit_training.patch_dropout import Dropping, PatchDropout, RandomPatches, kept_patches
from suite.naming import UserError
from tasks.images.workloads import Training, training_steps
from tasks.vit_training.networks import Shape
from tasks.vit_training.patches import choose
from tests.reference_impls.vit_training import thinning
from tests.reference_impls.vit_training.thinning import BATCH, PATCHES, SHAPE, images, network, problem, solved


def dropping(keep: int | None = 24, seed: int = 1) -> torch.nn.Module:
    model = network()
    model.patch_drop = RandomPatches()
    model.patch_drop.keep, model.patch_drop.seed = keep, seed
    return model.eval()


def entered(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(B, T) which patches reach the first block, rising; the class token is among them, as -1."""
    whole = model._pos_embed(model.patch_embed(x))  # type: ignore[operator]
    some = model.patch_drop(whole)  # type: ignore[operator]
    same = (some[:, :, None] == whole[:, None]).all(-1)
    assert (same.sum(-1) == 1).all()
    return same.int().argmax(-1).sort(1).values - 1


def test_each_image_has_its_own_patches_and_the_class_token_anew_every_step() -> None:
    model, x = dropping().train(), images()
    first = entered(model, x)
    assert first.shape == (6, 25)
    assert (first[:, 0] == -1).all()
    assert all((row.diff() > 0).all() for row in first)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(entered(model, x), first)  # the same draw is the same
    model.patch_drop.seed = 2
    assert not torch.equal(entered(model, x), first)


def test_every_patch_enters_equally_often() -> None:
    drop, counts = dropping(16).train().patch_drop, torch.zeros(PATCHES)
    numbered = torch.arange(-1, PATCHES).view(1, -1, 1).expand(200, -1, -1)  # each token says which it is
    for seed in range(20):
        drop.seed = seed
        some = drop(numbered)[..., 0]  # type: ignore[operator]
        assert all(len(set(row)) == 17 for row in some.tolist())
        assert (some == -1).any(1).all()
        counts += some[some >= 0].bincount(minlength=PATCHES)
    assert counts.sum() == 20 * 200 * 16
    assert (counts / 4000 - 0.25).abs().max() < 4.5 * (0.25 * 0.75 / 4000) ** 0.5


def test_all_enter_at_test_and_where_none_are_left_out() -> None:
    x = images()
    thinning.assert_dense(dropping(), x)
    model, dense = dropping(None).train(), network().train()
    with torch.no_grad():
        assert torch.equal(model(x), dense(x))
        assert torch.equal(dropping(PATCHES).train()(x), dense(x))


def test_chosen_patches_enter_at_test_as_in_every_network() -> None:
    model, dense, x = dropping(), network(), images()
    index = torch.arange(8).expand(6, -1)
    with torch.no_grad():
        for m in (model, dense):
            choose(m, index)
        assert torch.equal(model(x), dense(x))


def test_the_count_is_the_floor_of_the_plain_product() -> None:
    assert [kept_patches(64, p) for p in (0, 0.25, 0.5, 0.75, 0.99)] == [64, 48, 32, 16, 1]
    assert kept_patches(196, 0.1) == 176
    assert kept_patches(50, 0.9) == 4  # 1 - 0.9 is a little less than 0.1


@pytest.mark.parametrize("keep", [1, 24, 63, 64])
def test_a_step_computes_with_the_tokens_that_the_schedule_tells(keep) -> None:
    schedule = Dropping(SHAPE, keep, begin=9, steps=10)
    for point, count in ((0.0, keep), (0.8, keep), (0.9, PATCHES), (0.95, PATCHES)):
        assert schedule.tokens(point) == ((count + 1, count + 1),) * 4
        assert thinning.step_macs(dropping(), schedule, point) == SHAPE.macs(schedule.tokens(point))


@pytest.mark.parametrize("target", ["tokens=0.75", "tokens=0.625", "train_macs=0.9", "train_macs=0.8", "train_macs=0.7"])
@pytest.mark.parametrize("unmasked", [0.0, 0.1])
def test_the_whole_training_comes_nearest_to_what_is_asked(target, unmasked) -> None:
    asked = problem(target=target, epochs=10, architecture="vit-24-4-2-p4", train=48)
    schedule, shape, steps = PatchDropout(unmasked=unmasked).schedule(asked), asked.vit, 60

    def share(s: Dropping) -> float:
        if target.startswith("tokens"):
            return sum((s.tokens(i / steps)[0][0] - 1) / shape.patches for i in range(steps)) / steps
        return sum(shape.macs(s.tokens(i / steps)) for i in range(steps)) / steps / shape.macs(shape.full)

    wanted, found = float(target.partition("=")[2]), share(schedule)
    assert found == pytest.approx(wanted, rel=0.0125)  # half a patch of 64
    others = [Dropping(shape, schedule.keep + d, schedule.begin, steps) for d in (-1, 1)]
    assert all(abs(found - wanted) <= abs(share(o) - wanted) for o in others)
    if not unmasked and target.startswith("tokens"):
        assert found == wanted


def test_p_overrides_the_target_and_the_last_steps_see_all() -> None:
    schedule = PatchDropout(p=0.5, unmasked=0.25).schedule(problem(epochs=2, train=48))
    assert (schedule.keep, schedule.begin, schedule.steps) == (8, 9, 12)
    assert [schedule.at(i / 12) for i in range(12)] == [8] * 9 + [None] * 3


@pytest.mark.parametrize("begin", [0, 3, 6, 9, 12])
def test_steps_are_timed_on_each_side_and_count_as_often_as_they_are_taken(begin) -> None:
    schedule = Dropping(Shape(24, 4, 2, 8, 32, 3), 4, begin, 12)
    points = schedule.points
    assert [schedule.at(p) for p in points] == [4, None][: len(points)] if begin else [schedule.at(0.5)] == [None]
    if begin in (0, 12):
        return
    asked = problem()
    steps = training_steps(asked.network(), Training(asked.recipe, 2, 12, BATCH), points, list)
    assert [w.count for w in steps] == pytest.approx([begin, 12 - begin])


def test_a_step_is_timed_with_few_patches() -> None:
    """Timed steps go through no hooks: the schedule alone sets what enters."""
    asked, found = solved(PatchDropout(), target="tokens=0.25")
    model = thinning.loaded(found).model.train()
    found.schedule.set(model, 0.5)  # type: ignore[union-attr]
    x = next(iter(asked.source.sample(BATCH, 0, BATCH)))[0]
    assert entered(model, x).shape == (BATCH, 5)


def test_it_is_looked_at_on_all_patches_and_left_so() -> None:
    asked, found = solved(PatchDropout(), target="tokens=0.5")
    assert [name for name, _ in asked.run.values].count("val_top1") > 0  # type: ignore[attr-defined]
    drop = found.model.patch_drop
    assert drop.keep is None  # type: ignore[union-attr]
    assert drop.index is None  # type: ignore[union-attr]
    thinning.assert_copies(found.model, torch.randn(4, 3, 32, 32))


def test_draws_are_addressed_by_epoch_and_step_and_move_no_other_stream() -> None:
    asked, drop = problem(), RandomPatches()
    draws, seen = Draws(asked.run, "patch_dropout patches", drop), []
    before = torch.get_rng_state()
    for epoch in (0, 1):
        draws.before_epoch(epoch)
        for _ in range(3):
            draws.before_step(torch.arange(BATCH))
            seen.append(drop.seed)
    drop.keep = 2
    drop.train()(torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0)))
    assert len(set(seen)) == 6
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_is_refused_before_any_training() -> None:
    for target in ("examples=0.5", "train_macs=0.02", "tokens=0.01"):
        asked = problem(target=target)
        with pytest.raises(UserError, match="target"):
            PatchDropout().solve(asked)
        assert asked.run.batches == 0  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="p=1"):
        PatchDropout(p=1)
    with pytest.raises(UserError, match="unmasked"):
        PatchDropout(unmasked=1)


def test_a_stopped_run_ends_bit_for_bit_the_same() -> None:
    thinning.assert_resumes(PatchDropout(unmasked=0.2), (2, 5))
