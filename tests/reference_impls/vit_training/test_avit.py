"""A-ViT against the authors' functions: the halting recursion, the prior over blocks; what stops, and what it costs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from reference_impls.vit_training.avit import (
    Avit,
    Gate,
    Halting,
    Objective,
    blocks_of,
    macs_of,
    masked_step,
    prior_target,
    prior_term,
    still_going,
    with_halting,
)
from suite.naming import UserError
from tasks.images.recipes import AdamW
from tasks.images.workloads import training_steps
from tasks.vit_training.problem import BEFORE, Constant
from tests.helpers import golden_tensors
from tests.reference_impls.vit_training import thinning
from tests.reference_impls.vit_training.thinning import BATCH, DEPTH, EPOCHS, SHAPE, TRAIN, images, network, problem, solved

NEVER = Gate(1.0, 1e4)  #: halting scores of 0
SOME = Gate(2.0, 1.0)  #: under which tokens of `network` stop in all blocks


def recursion(outputs: torch.Tensor, gate: Gate) -> tuple[Halting, torch.Tensor, torch.Tensor]:
    """Prescribed block outputs (depth, B, n, C) to what the recursion knows at its end, the sum of all tokens, who had stopped."""
    halting = Halting(gate, outputs[0])
    answer, masked = torch.zeros_like(outputs[0]), []
    for number, out in enumerate(outputs):
        masked.append(~halting.going)
        answer = answer + halting.step(out, last=number + 1 == len(outputs)).unsqueeze(-1) * out
    return halting, answer, torch.stack(masked)


# the authors' functions


def test_the_recursion_equals_the_authors() -> None:
    saved = golden_tensors("vit_baselines_avit")
    gate = Gate(saved["gate_scale"], saved["gate_center"], saved["eps"])
    halting, answer, masked = recursion(saved["block_outputs"], gate)
    assert torch.equal(masked.float(), saved["masked_before_layer"])
    assert torch.equal(halting.taken, saved["counter"])
    assert (halting.rho - saved["rho"]).abs().max() <= 1e-5
    assert (answer - saved["weighted_output"]).abs().max() <= 1e-5
    # the released code slices the batch, not the tokens
    means = torch.stack([score[1:].mean() for score in halting.scores])
    assert (means - saved["layer_halting_mean"]).abs().max() <= 1e-6


def test_the_prior_equals_the_authors() -> None:
    saved = golden_tensors("vit_baselines_avit")
    assert torch.allclose(prior_target(12), saved["prior_target_depth8"], rtol=1e-9, atol=0)
    assert float(prior_target(12).sum()) == pytest.approx(3.26, abs=0.01)


def test_another_depth_has_its_centre_at_two_thirds() -> None:
    for depth, center in ((4, 3), (6, 4), (9, 6)):
        target = prior_target(depth)
        assert int(target.argmax()) == center
        assert float(target[:center].sum()) == pytest.approx(0.98)


# the recursion


@pytest.mark.parametrize("seed", range(3))
def test_the_recursion_equals_a_plain_loop_over_tokens(seed) -> None:
    outputs = torch.randn(5, 2, 7, 3, generator=torch.Generator().manual_seed(seed))
    gate = Gate(3.0, 1.0, 0.05)
    halting, answer, _ = recursion(outputs, gate)
    for b in range(2):
        for t in range(7):
            total, taken, remainder, expected = 0.0, 1, 1.0, torch.zeros(3)
            for block in range(5):
                out = outputs[block, b, t]
                h = 1.0 if block == 4 else 1 / (1 + math.exp(-(gate.scale * float(out[0]) - gate.center)))
                total += h
                if total > 1 - gate.eps:
                    expected = expected + remainder * out
                    break
                expected, remainder, taken = expected + h * out, remainder - h, taken + 1
            torch.testing.assert_close(answer[b, t], expected)
            assert float(halting.taken[b, t]) == taken
            assert float(halting.rho[b, t]) == pytest.approx(taken + remainder, abs=1e-5)


def test_weights_of_a_tokens_blocks_sum_to_one() -> None:
    outputs = torch.randn(6, 3, 9, 4, generator=torch.Generator().manual_seed(5))
    halting = Halting(Gate(4.0, 2.0), outputs[0])
    weights = [halting.step(out, last=i == 5) for i, out in enumerate(outputs)]
    torch.testing.assert_close(sum(weights), torch.ones(3, 9))
    assert not halting.going.any()


def test_the_prior_draws_the_scores_towards_it_and_is_never_negative() -> None:
    """By hand: t (log t - log q) over the number of blocks, q normalised and cut."""
    means = torch.tensor([0.2, 0.1, 0.3, 0.0, 0.4, 0.0], requires_grad=True)
    q = (means.detach() / means.detach().sum()).clamp(0.01, 0.99)
    t = prior_target(6).float()
    found = prior_term(means, 0.5)
    assert found.item() == pytest.approx(0.5 * float((t * (t.log() - q.log())).sum()) / 6, rel=1e-5)
    found.backward()
    assert means.grad is not None
    assert means.grad[4] < 0  # more of it at the centre
    flat = torch.zeros(12)
    flat[8] = 1  # all of it at the centre: below what the prior says, which sums to more than 1
    assert float(prior_term(flat, 1.0)) >= 0


# the network


def test_where_no_token_stops_it_is_dense() -> None:
    thinning.assert_dense(with_halting(network(), NEVER), images())


def test_stopped_tokens_are_zero_and_no_keys() -> None:
    model, block, x = network(), network().blocks[1], torch.randn(2, 65, 24)
    going = torch.rand(2, 65, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        found = masked_step(block, x, going)
        moved = x + 9 * (~going).unsqueeze(-1)  # what stopped tokens are does not matter
        torch.testing.assert_close(masked_step(block, moved, going), found)
        for i in range(2):  # those that go on are as in a network without the others
            alone = model.blocks[1](x[i : i + 1, going[i]])
            torch.testing.assert_close(found[i : i + 1, going[i]], alone, rtol=1e-4, atol=1e-4)


def test_tokens_stop_in_different_blocks_and_the_class_tokens_sum_answers() -> None:
    model, x, outputs = with_halting(network(), SOME), images(), []
    step = Halting.step

    def noted(self, out, *, last):
        outputs.append(out)
        return step(self, out, last=last)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(Halting, "step", noted)
        logits = model(x)
    halting, answer, _ = recursion(torch.stack(outputs), SOME)
    assert set(halting.taken.unique().tolist()) == {1.0, 2.0, 3.0, 4.0}
    torch.testing.assert_close(logits, model.head(model.norm(answer)[:, 0]))
    seen = blocks_of(model).seen
    assert seen is not None
    assert torch.equal(seen.taken, halting.taken)


def test_a_training_step_is_no_cheaper_than_dense() -> None:
    """Stopped tokens are masked, not gone: however many stop, all tokens are computed in every block."""
    schedule = Constant(SHAPE.full)
    model = with_halting(network(), SOME)
    assert thinning.step_macs(model, schedule, 0.5) == thinning.tested_macs(model) == SHAPE.macs(schedule.tokens(0.5))


def test_the_loss_adds_the_blocks_taken_and_the_prior_of_patches_of_all_images() -> None:
    model, x, y = with_halting(network(), SOME).train(), images(), torch.arange(6) % 3
    logits = model(x)
    seen = blocks_of(model).seen
    assert seen is not None
    means = torch.stack([s[:, 1:].mean() for s in seen.scores])
    expected = F.cross_entropy(logits, y) + 0.5 * seen.rho.mean() + prior_term(means, 2.0)
    found = Objective(AdamW(), ponder=0.5, prior=2.0)(model, x, y)
    torch.testing.assert_close(found, expected)
    assert blocks_of(model).seen is None  # no graph outlives the step


def test_pondering_costs_blocks() -> None:
    y, x, taken = torch.arange(6) % 3, images(), []
    for ponder in (0.0, 1.0):
        model = with_halting(network(), SOME).train()
        objective, optimizer = Objective(AdamW(), ponder, prior=0.0), AdamW(lr=6e-3).optimizer(model)
        for _ in range(12):
            optimizer.zero_grad()
            objective(model, x, y).backward()
            optimizer.step()
        with torch.no_grad():
            model(x)
        seen = blocks_of(model).seen
        assert seen is not None
        taken.append(float(seen.taken.mean()))
    assert taken[1] < 0.8 * taken[0]


def test_networks_are_copied_and_saved() -> None:
    thinning.assert_copies(with_halting(network(), SOME), images())


def test_a_step_is_taken_in_bf16() -> None:
    thinning.assert_steps_in_bf16(with_halting(network(), SOME), Objective(AdamW()))


# solved


@pytest.mark.slow
def test_it_starts_from_dense_weights_which_are_counted_apart() -> None:
    asked, found = solved(Avit(), epochs=3)
    (dense,) = found.before
    assert (dense.name, dense.batches, dense.batch) == ("dense", 3 * TRAIN // BATCH, BATCH)
    assert asked.run.spent[BEFORE] == 3 * TRAIN
    assert found.training.epochs == 1  # type: ignore[union-attr]
    assert asked.run.batches == (3 + 1) * TRAIN // BATCH  # type: ignore[attr-defined]
    assert found.schedule.tokens(0.9) == asked.vit.full  # type: ignore[union-attr]
    assert 1 <= found.notes["blocks_taken"] <= DEPTH
    again, x = thinning.loaded(found), torch.randn(BATCH, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.model.eval()(x), found.model.eval()(x))
    (step,) = training_steps(again.model, again.training, again.points, lambda: [(x, torch.arange(BATCH) % 3)])
    step.prepare()()


def test_from_scratch_it_trains_for_all_epochs_and_nothing_runs_before() -> None:
    asked, found = solved(Avit(start="scratch"))
    assert found.before == ()
    assert found.training.epochs == EPOCHS  # type: ignore[union-attr]
    assert asked.run.spent.get(BEFORE, 0) == 0


def test_the_gates_centre_follows_the_width_unless_it_is_given() -> None:
    assert blocks_of(solved(Avit(start="scratch"), epochs=1)[1].model).gate == Gate(10.0, 30.0, 0.01)
    given = Avit(start="scratch", gate_scale=5.0, gate_center=1.5, eps=0.05)
    assert blocks_of(solved(given, epochs=1)[1].model).gate == Gate(5.0, 1.5, 0.05)


def test_what_still_goes_is_counted_on_the_validation_images() -> None:
    asked = problem()
    model = with_halting(asked.network(), NEVER)
    going = still_going(asked, model)
    assert going is not None
    assert (going == 1).all()
    assert macs_of(SHAPE, going) == SHAPE.macs(SHAPE.full)
    blocks_of(model).gate = Gate(1.0, -1e4)
    going = still_going(asked, model)
    assert going is not None
    assert going.shape[1] == DEPTH
    assert going.mean(0).tolist() == [1.0, *[0.0] * (DEPTH - 1)]  # all of them stop behind the first block
    assert macs_of(SHAPE, going) == SHAPE.macs([SHAPE.full[0], *[(0, 0)] * (DEPTH - 1)])
    assert model.training


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="target"):
        Avit().solve(problem(target="tokens=0.5"))
    for changes in ({"start": "warm"}, {"share": 0.0}, {"eps": 0.0}):
        with pytest.raises(UserError):
            Avit(**changes)


def test_a_stopped_run_ends_bit_for_bit_the_same() -> None:
    thinning.assert_resumes(Avit(share=1.0, gate_scale=2.0, gate_center=1.0), (4, 5, 4))  # dense, and both epochs behind it
