"""DynamicViT against the authors' functions: predictor, policy softmax, loss; what is hidden, what is dropped, what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.vit_training import Draws
from reference_impls.vit_training.dynamicvit import (
    DynamicVit,
    Kept,
    Objective,
    Predictor,
    Seen,
    Teacher,
    TwoRates,
    blocks_of,
    hard_choice,
    left,
    logit_term,
    policy_softmax,
    ratio_term,
    stage_ratios,
    thinned,
    token_term,
    with_thinning,
)
from suite.naming import UserError
from tasks.images.recipes import AdamW
from tasks.images.workloads import training_steps
from tasks.vit_training.problem import BEFORE, Constant
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

RATIOS = (0.7, 0.49, 0.343)
PREDICTOR = SHAPE.width**2 + SHAPE.width**2 // 2 + SHAPE.width**2 // 8 + SHAPE.width // 2  #: multiply-adds of a patch


def predicting(keep: float = 0.7, spread: float = 0.5) -> nn.Module:
    """A network whose predictors tell patches apart."""
    model = with_thinning(network(), stage_ratios(keep), seed=0)
    torch.manual_seed(7)
    for name, w in model.named_parameters():
        if ".predictor." in name and w.dim() > 1:
            nn.init.normal_(w, std=spread)
    return model


# the authors' functions


def test_the_predictor_equals_the_authors() -> None:
    saved = golden_tensors("vit_baselines_dynamicvit")
    predictor = Predictor(16)
    predictor.load_state_dict({k[2:]: v for k, v in saved.items() if k.startswith("w.")})
    assert (predictor(saved["x"], saved["policy"]) - saved["log_score"]).abs().max() <= 1e-5


def test_the_policy_softmax_equals_the_authors() -> None:
    saved = golden_tensors("vit_baselines_dynamicvit")
    logits = saved["attn_logits"]
    keys = torch.eye(17).expand(2, 2, -1, -1)
    found = policy_softmax(logits * 17**0.5, keys, saved["policy_with_cls"])
    assert (found - saved["attn_policy_softmax"]).abs().max() <= 1e-6


def test_the_loss_equals_the_authors() -> None:
    saved = golden_tensors("vit_baselines_dynamicvit")
    decisions = [saved[f"decision{i}"] for i in (1, 2, 3)]
    ratios = saved["keep_ratios"].tolist()
    parts = {
        "loss_cls": F.cross_entropy(saved["logits"], saved["labels"]),
        "loss_ratio_sum": ratio_term(decisions, ratios),
        "loss_cls_kl": logit_term(saved["logits"], saved["teacher_logits"]),
        "loss_token": token_term(saved["token_pred"], saved["token_teacher"], decisions[-1]),
    }
    for name, value in parts.items():
        assert float(value) == pytest.approx(saved[name], rel=1e-5), name

    class Told(nn.Module):
        """Answers and features as they were saved."""

        norm = nn.Identity()

        def __init__(self) -> None:
            super().__init__()
            self.blocks = blocks_of(predicting())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.blocks.seen = Seen(decisions, F.pad(saved["token_pred"], (0, 0, 1, 0)))
            return saved["logits"]

    class Known(Teacher):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return saved["teacher_logits"], F.pad(saved["token_teacher"], (0, 0, 1, 0), value=5.0)

    objective = Objective(AdamW(), ratios, saved["ratio_weight"], saved["distill_weight"], Known(nn.Identity()))
    assert float(objective(Told(), torch.zeros(2, 1), saved["labels"])) == pytest.approx(saved["loss"], rel=1e-5)


def test_a_last_stage_that_keeps_nobody_has_no_token_term() -> None:
    tokens = torch.randn(2, 4, 3, requires_grad=True)
    term = token_term(tokens, torch.zeros(2, 4, 3), torch.zeros(2, 4))
    term.backward()
    assert float(term.detach()) == 0
    assert Predictor(16)(torch.randn(2, 5, 16), torch.zeros(2, 5, 1)).isfinite().all()


def test_shares_and_counts_are_the_authors() -> None:
    assert stage_ratios(0.7) == pytest.approx(RATIOS)
    assert [left(196, r) for r in stage_ratios(0.7)] == [137, 96, 67]
    assert left(100, 0.7**2) == 48  # the plain double product lies below 49
    assert left(3, 0.1) == 1


# in training


def test_choices_are_drawn_by_their_scores_with_the_soft_choices_gradient() -> None:
    probability = torch.tensor([0.1, 0.5, 0.8])
    scores = torch.stack([probability, 1 - probability], -1).log().expand(20_000, -1, -1).clone().requires_grad_()
    choice = hard_choice(scores, torch.Generator().manual_seed(0))
    assert set(choice.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    assert (choice.detach().mean(0).flatten() - probability).abs().max() < 0.02
    choice.sum().backward()
    assert scores.grad is not None
    assert (scores.grad != 0).float().mean() > 0.99  # of those that were not chosen too
    # torch's own, given the same noise
    torch.manual_seed(3)
    expected = F.gumbel_softmax(scores.detach()[:50], tau=1.0, hard=True)[..., :1]
    generator = torch.Generator().manual_seed(3)
    torch.testing.assert_close(hard_choice(scores.detach()[:50], generator), expected)


def test_who_is_hidden_stays_hidden_and_is_not_seen_by_others() -> None:
    model, x = predicting().train(), images()
    blocks = blocks_of(model)
    model(x)
    assert blocks.seen is not None
    first, second, third = (d.detach().round() for d in blocks.seen.decisions)
    assert 0 < third.mean() < second.mean() < first.mean() < 1
    assert ((second <= first) & (third <= second)).all()
    q, k = torch.randn(2, 2, 2, 5, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    policy = torch.tensor([1.0, 1, 0, 1, 0]).view(1, 5, 1).expand(2, -1, -1)
    weights = policy_softmax(q, k, policy)
    assert weights[:, :, [0, 1, 3]][..., [2, 4]].max() < 1e-5
    assert weights[:, :, 2, 2].min() > 1e-3  # itself it sees
    assert weights[:, :, 2, 4].max() < 1e-5
    assert (weights.sum(-1) - 1).abs().max() < 1e-5


def test_the_first_stage_sees_all_patches_and_later_ones_who_is_left() -> None:
    model, x, seen = predicting().train(), images(), []
    for block in blocks_of(model):
        if hasattr(block, "predictor"):
            block.predictor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].detach().round()))
    model(x)
    found = blocks_of(model).seen
    assert found is not None
    assert (seen[0] == 1).all()
    assert torch.equal(seen[1][..., 0], found.decisions[0].detach().round())
    assert torch.equal(seen[2][..., 0], found.decisions[1].detach().round())


def test_a_training_step_is_no_cheaper_than_dense() -> None:
    """Masks save nothing: all tokens in every block, and the predictors on top."""
    schedule = Constant(SHAPE.full)
    assert thinning.step_macs(predicting(), schedule, 0.5) == SHAPE.macs(schedule.tokens(0.5)) + 3 * PATCHES * PREDICTOR


def test_draws_are_addressed_and_move_no_other_stream() -> None:
    asked, model, x = problem(), predicting().train(), images()
    blocks = blocks_of(model)
    draws, before = Draws(asked.run, "dynamicvit decisions", blocks), torch.get_rng_state()

    def step(epoch: int, steps: int) -> torch.Tensor:
        draws.before_epoch(epoch)
        for _ in range(steps):
            draws.before_step(torch.arange(6))
        model(x)
        assert blocks.seen is not None
        return blocks.seen.decisions[0].detach()

    first = step(0, 1)
    assert torch.equal(step(0, 1), first)
    assert not torch.equal(step(0, 2), first)
    assert not torch.equal(step(1, 1), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.9])
def test_predictors_learn_to_keep_the_share_that_should_stay(keep) -> None:
    model, x, y = predicting(keep, spread=0.1).train(), images(), torch.arange(6) % 3
    objective, blocks = Objective(AdamW(), stage_ratios(keep), ratio_weight=50.0), blocks_of(model)
    optimizer, shares = AdamW(lr=3e-3).optimizer(model), []
    for _ in range(45):
        blocks.seed += 1
        optimizer.zero_grad()
        objective(model, x, y).backward()
        optimizer.step()
    with torch.no_grad():
        for _ in range(5):
            blocks.seed += 1
            model(x)
            assert blocks.seen is not None
            shares.append(torch.stack([d.mean() for d in blocks.seen.decisions]))
    assert torch.stack(shares).mean(0).tolist() == pytest.approx(stage_ratios(keep), abs=0.06)


# at test


def test_at_test_the_best_patches_stay_and_the_others_are_gone() -> None:
    model, x, seen = predicting(), images(), []
    for block in blocks_of(model):
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(x)
        stages = [i for i, block in enumerate(blocks_of(model)) if hasattr(block, "predictor")]
        before = blocks_of(model)[stages[0] - 1](seen[stages[0] - 1])  # computed again
        score = blocks_of(model)[stages[0]].predictor(before[:, 1:], torch.ones(6, PATCHES, 1))[..., 0]
    counts = [s.shape[1] - 1 for s in seen[:DEPTH]]
    assert stages == [1, 2, 3]
    assert counts == [64, *(left(64, r) for r in stage_ratios(0.7))] == [64, 44, 31, 21]
    for i in range(6):
        best = score[i].argsort(descending=True)[:44]
        torch.testing.assert_close(seen[1][i, 1:], before[i, 1:][best])


def test_it_tells_which_patches_it_keeps() -> None:
    model, x, scores = predicting(), images(), []
    for block in blocks_of(model):
        if hasattr(block, "predictor"):
            block.predictor.register_forward_hook(lambda _, __, output: scores.append(output[..., 0]))
    index = Kept(model).eval()(x)
    for i in range(6):
        patches = list(range(64))
        for score, ratio in zip(scores, stage_ratios(0.7), strict=True):
            order = score[i].argsort(descending=True).tolist()
            patches = [patches[j] for j in order[: left(64, ratio)]]
        assert index[i].tolist() == patches
    assert blocks_of(model).kept is None
    assert torch.equal(Kept(predicting(keep=1.0)).eval()(x), torch.arange(64).expand(6, -1))


def test_what_is_tested_costs_what_its_patches_do() -> None:
    tokens = thinned(SHAPE, stage_ratios(0.7))
    entering = 64 + 44 + 31
    assert thinning.tested_macs(predicting()) == SHAPE.macs(tokens) + entering * PREDICTOR < SHAPE.macs(SHAPE.full)


def test_at_a_keep_ratio_of_one_it_is_dense() -> None:
    thinning.assert_dense(predicting(keep=1.0), images())


def test_networks_are_copied_and_saved() -> None:
    thinning.assert_copies(predicting(), images())


# solved


def test_predictors_leave_the_initial_weights_as_every_method_has_them() -> None:
    asked = problem()
    plain = asked.network().state_dict()
    found = with_thinning(asked.network(), RATIOS, seed=1).state_dict()
    assert all(torch.equal(found[k], v) for k, v in plain.items())
    assert {k.split(".predictor.")[0] for k in found.keys() - plain.keys()} == {"blocks.1", "blocks.2", "blocks.3"}
    assert found["blocks.1.predictor.in_conv.1.weight"].std() == pytest.approx(0.02, rel=0.2)
    assert not found["blocks.1.predictor.out_conv.4.bias"].any()


def test_from_scratch_nothing_teaches_and_nothing_runs_before() -> None:
    asked, found = solved(DynamicVit())
    assert found.before == ()
    assert found.frozen is None
    assert found.training.loss.teacher is None  # type: ignore[union-attr]
    assert found.training.recipe == asked.recipe  # type: ignore[union-attr]
    assert asked.run.spent.get(BEFORE, 0) == 0
    assert found.schedule.tokens(0.9) == asked.vit.full  # type: ignore[union-attr]


def test_from_dense_weights_the_dense_training_is_counted_apart() -> None:
    asked, found = solved(DynamicVit(start="dense", share=0.5))
    (dense,) = found.before
    assert (dense.name, dense.batches, dense.batch) == ("dense", EPOCHS * TRAIN // BATCH, BATCH)
    assert asked.run.spent[BEFORE] == EPOCHS * TRAIN
    assert found.training.epochs == EPOCHS // 2  # type: ignore[union-attr]
    assert found.frozen is not None
    assert found.frozen(0.5) == asked.vit.macs(asked.vit.full)
    assert found.training.loss.teacher.network is dense.model  # type: ignore[union-attr]
    again, x = thinning.loaded(found), torch.randn(BATCH, 3, 32, 32)
    assert not again.training.loss.teacher.training
    with torch.no_grad():
        assert torch.equal(again.model.eval()(x), found.model.eval()(x))
    (step,) = training_steps(again.model, again.training, again.points, lambda: [(x, torch.arange(BATCH) % 3)])
    step.prepare()()


def test_the_backbone_learns_at_a_hundredth_and_not_at_first() -> None:
    asked = problem()
    model = with_thinning(asked.network(), RATIOS, seed=1)
    recipe = TwoRates.of(asked, lr=1e-3, least=1e-6, warmup=5, held=5)
    optimizer = recipe.optimizer(model)
    named = {id(p): n for n, p in model.named_parameters()}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(named)
    for epoch in (0, 4, 5, 29):
        recipe.set_rate(optimizer, epoch, 30)
        rate = recipe.rate(epoch, 30)
        for group in optimizer.param_groups:
            own = {".predictor." in named[id(p)] for p in group["params"]}
            assert own == {group["predictors"]}
            assert group["lr"] == pytest.approx(rate if group["predictors"] else rate / 100 * (epoch >= 5))
    plain = {id(p) for p in replace(asked.recipe).optimizer(model).param_groups[1]["params"]}
    assert {id(p) for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]} == plain


def test_a_held_backbone_does_not_move() -> None:
    model, recipe = predicting().train(), TwoRates(lr=1e-3, warmup=0, held=2)
    objective, optimizer = Objective(recipe, stage_ratios(0.7)), recipe.optimizer(model)
    for epoch, moves in ((0, {True}), (1, {True}), (2, {True, False})):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        recipe.set_rate(optimizer, epoch, 10)
        optimizer.zero_grad()
        objective(model, images(), torch.arange(6) % 3).backward()
        optimizer.step()
        assert {".predictor." in n for n, p in model.named_parameters() if not torch.equal(p, before[n])} == moves


@pytest.mark.parametrize("teacher", [None, Teacher(network())], ids=["alone", "taught"])
def test_a_step_is_taken_in_bf16(teacher) -> None:
    thinning.assert_steps_in_bf16(predicting(), Objective(AdamW(), stage_ratios(0.7), teacher=teacher))


def test_what_cannot_be_is_refused() -> None:
    asked = problem(target="tokens=0.5")
    with pytest.raises(UserError, match="target"):
        DynamicVit().solve(asked)
    for changes in ({"keep": 0.0}, {"keep": 1.1}, {"start": "warm"}, {"share": 0.0}):
        with pytest.raises(UserError):
            DynamicVit(**changes)


@pytest.mark.parametrize("method", [DynamicVit(), DynamicVit(start="dense", share=1.0)], ids=str)
def test_a_stopped_run_ends_bit_for_bit_the_same(method) -> None:
    thinning.assert_resumes(method, (4, 5, 4) if method.start == "dense" else (4,))
