"""BiFP and BiP: masks, scores and penalties as the authors' functions and the paper's equations give them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.fair_pruning.bifp import Bifp
from reference_impls.fair_pruning.bip import Bip
from reference_impls.parts.bilevel import score_gradient, top_filters, top_weights
from reference_impls.parts.fairness import (
    BOUNDS,
    SURROGATES,
    Constraint,
    accuracy_penalty,
    constrained,
    covariance_penalty,
    margins,
    odds_penalty,
    parity_penalty,
    signed_gap,
)
from reference_impls.parts.training import Trainer
from suite.naming import UserError
from suite.protocol import Stopped
from tests.helpers import MemoryRun, golden_tensors
from tests.tasks.fair_pruning.helpers import problem


def test_masks_of_single_weights_are_bips_bit_for_bit() -> None:
    z = golden_tensors("bifp_mask")
    for share, mask in zip(z["uns_k"].tolist(), z["uns_mask"], strict=True):
        assert torch.equal(top_weights(z["uns_scores"], share).float(), mask.float()), share


@pytest.mark.parametrize(("name", "dim"), [("filter_mask_p2", 0), ("channel_mask_p2", 1)])
def test_masks_of_filters_and_channels_are_bips_bit_for_bit(name: str, dim: int) -> None:
    z = golden_tensors("bifp_mask")
    for share, mask in zip(z["str_k"].tolist(), z[name], strict=True):
        kept = top_filters(z["str_scores"], share, dim)
        shape = [1, 1, 1, 1]
        shape[dim] = -1
        assert torch.equal(kept.view(shape).expand_as(mask).float(), mask.float()), share


def test_of_equal_scores_the_first_go_as_in_a_stable_ascending_sort() -> None:
    generator = torch.Generator().manual_seed(3)
    for size in (1, 2, 7, 40, 501):
        scores = torch.randint(0, 4, (size,), generator=generator).float()
        for share in (0.01, 0.2, 0.5, 0.8, 0.999, 1.0):
            expected = torch.ones(size, dtype=torch.bool)
            expected[torch.sort(scores, stable=True).indices[: int((1 - share) * size)]] = False
            assert torch.equal(top_weights(scores, share), expected), (size, share)


@pytest.mark.parametrize("tag", ["asrun", "lr2zero", "lr2big"])
def test_one_iteration_of_bips_trainer_is_reproduced(tag: str) -> None:
    """As its code runs: `implicit=bip_code`, and what its optimizers do to the frozen parameters beside."""
    z = golden_tensors("bifp_bip_step")
    lr2 = {"asrun": z["hp_lr2"], "lr2zero": 0.0, "lr2big": 10.0}[tag]
    net = Net(z)
    scores = net.scores
    masks = {n: net.mask(scores[n], z["k"]) for n in net.convs}
    # lower: weights under the mask, weight decay on masked ones too
    net.load()
    loss = F.cross_entropy(net(z["x_lower"], masks), z["y_lower"].long())
    assert loss.item() == pytest.approx(float(z["loss_lower_before"]), abs=1e-6)
    gradients = torch.autograd.grad(loss, net.parameters())
    theta = {n: p - z["hp_lr"] * (g + z["hp_wd"] * p) for (n, p), g in zip(net.named(), gradients, strict=True)}
    # upper: scores under the weights after that step
    covered = {n: (theta[n] * masks[n] if n in masks else theta[n]).detach().requires_grad_() for n in theta}
    loss = F.cross_entropy(net.forward_of(covered, z["x_upper"]), z["y_upper"].long())
    g = dict(zip(covered, torch.autograd.grad(loss, list(covered.values())), strict=True))
    for n in net.convs:
        step = score_gradient(scores[n], theta[n].detach(), masks[n], g[n], g[n], lr2, "bip_code")
        found = scores[n] - z["hp_mask_lr"] * (step + z["hp_wd"] * scores[n])
        torch.testing.assert_close(found, z[f"{tag}_after_{n.replace('weight', 'popup_scores')}"], atol=1e-6, rtol=0)
    for n, p in theta.items():
        shrunk = p - z["hp_mask_lr"] * z["hp_wd"] * p
        torch.testing.assert_close(shrunk.detach(), z[f"{tag}_after_{n}"], atol=1e-6, rtol=0)


def test_the_papers_form_of_the_scores_gradient_is_that_of_the_equations() -> None:
    z = golden_tensors("bifp_bip_step")
    net = Net(z)
    for i, n in enumerate(net.convs, 1):
        c = f"conv{i}"
        mask = z[f"eq_mask_{c}"]
        g, theta, scores = z[f"eq_gradz_{c}"], z[f"eq_theta_{c}"], net.scores[n]
        found = score_gradient(scores, theta, mask, g, g, z["hp_lr2"], "paper")
        torch.testing.assert_close(found, z[f"eq_scoregrad_paper_{c}"], atol=1e-6, rtol=0)
        found = score_gradient(scores, theta, mask, g, g, z["hp_lr2"], "bip_code")
        torch.testing.assert_close(found, z[f"eq_scoregrad_code_{c}"], atol=1e-6, rtol=0)


class Net:
    """The golden net: two masked convolutions, a mean, a linear layer; its parameters by their golden names."""

    def __init__(self, z: dict[str, Any]) -> None:
        self.z = z
        self.names = [k.removeprefix("init_") for k in z if k.startswith("init_") and "score" not in k]
        self.convs = [n for n in self.names if n.startswith("conv")]
        self.scores = {n: z["init_" + n.replace("weight", "popup_scores")] for n in self.convs}
        self.load()

    def load(self) -> None:
        self.values = {n: self.z[f"init_{n}"].clone().requires_grad_() for n in self.names}

    def parameters(self) -> list[torch.Tensor]:
        return list(self.values.values())

    def named(self) -> list[tuple[str, torch.Tensor]]:
        return list(self.values.items())

    @staticmethod
    def mask(scores: torch.Tensor, share: float) -> torch.Tensor:
        return top_filters(scores.abs(), share).view(-1, 1, 1, 1).expand_as(scores).float()

    def __call__(self, x: torch.Tensor, masks: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.forward_of({n: v * masks[n] if n in masks else v for n, v in self.values.items()}, x)

    def forward_of(self, v: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        for n in self.convs:
            x = F.relu(F.conv2d(x, v[n], padding=1))
        return F.linear(x.mean((2, 3)), v["linear.weight"], v["linear.bias"])


def test_the_surrogates_and_their_gradients_are_those_of_the_equations() -> None:
    z = golden_tensors("bifp_fair_surrogate")
    for u in SURROGATES:
        f = z["f"].clone().requires_grad_()
        found = signed_gap(z["y"] * f, z["s"], u, z["P_s"])
        assert found.item() == pytest.approx(z[f"Fsigned_{u}"], abs=1e-12)
        (gradient,) = torch.autograd.grad(found, f)
        torch.testing.assert_close(gradient, z[f"dFsigned_df_{u}"], atol=1e-12, rtol=0)
        # frequencies of the batch are the same here
        assert signed_gap(z["y"] * z["f"], z["s"], u).item() == pytest.approx(z[f"Fsigned_{u}"], abs=1e-9)


def test_with_the_sigmoid_the_surrogate_is_the_difference_of_mean_true_class_probabilities() -> None:
    logits, label, group = batch(200, 2)
    true = logits.softmax(1).gather(1, label[:, None])[:, 0]
    gap = true[group == 1].mean() - true[group == 0].mean()
    sign = torch.where(group == 1, 1.0, -1.0).double()
    assert signed_gap(margins(logits, label), sign).item() == pytest.approx(gap.item(), abs=1e-12)
    assert accuracy_penalty(logits, label, group).item() == pytest.approx(abs(gap.item()), abs=1e-12)
    assert accuracy_penalty(logits, label, group, tolerance=0.01).item() == pytest.approx(max(0, abs(gap.item()) - 0.01), abs=1e-12)
    assert accuracy_penalty(logits, label, group, penalty="signed").item() == pytest.approx(gap.item(), abs=1e-12)


#: as autograd takes them
GRAPHS = {
    "sigmoid": torch.sigmoid,
    "logistic": lambda z: F.softplus(z) / torch.log(torch.tensor(2.0, dtype=z.dtype)),
    "hinge": lambda z: F.relu(1 + z),
    "tanh01": lambda z: (1 + torch.tanh(z)) / 2,
}


@pytest.mark.parametrize("u", list(SURROGATES))
@pytest.mark.parametrize("classes", [2, 4])
def test_the_penaltys_gradient_in_closed_form_is_autograds(u: Any, classes: int) -> None:
    for seed in range(12):
        logits, label, group = batch(50, classes, seed)
        group %= 2
        logits.requires_grad_()
        sign = (2 * group - 1).double()
        shares = (0.3, 0.7) if seed % 2 else ()
        of = torch.tensor(shares or ((group == 0).double().mean(), (group == 1).double().mean()), dtype=torch.float64)[group]
        gaps = [(GRAPHS[u](s * margins(logits, label)) / of).mean() - 1 for s in (sign, -sign)]
        assert signed_gap(margins(logits, label), sign, u, of).item() == pytest.approx(gaps[0].item(), abs=1e-9)
        for penalty, tolerance in (("absolute", 0.0), ("absolute", 0.05), ("absolute", 9.0), ("signed", 0.0)):
            over = torch.stack(gaps).amax() if u in BOUNDS else gaps[0].abs()
            expected = gaps[0] if penalty == "signed" else torch.relu(over - tolerance)
            how: Any = {"surrogate": u, "penalty": penalty, "tolerance": tolerance, "shares": shares}
            found = accuracy_penalty(logits, label, group, **how)
            assert found.item() == pytest.approx(expected.item(), abs=1e-9)
            ours, theirs = (torch.autograd.grad(v, logits, retain_graph=True)[0] for v in (found, expected))
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("u", BOUNDS)
def test_a_bound_from_above_bounds_the_gap_of_either_sign(u: Any) -> None:
    for seed in range(20):
        logits, label, group = batch(60, 2, seed)
        hit = logits.argmax(1) == label
        gap = hit[group == 1].double().mean() - hit[group == 0].double().mean()
        assert accuracy_penalty(logits, label, group, surrogate=u).item() >= abs(gap.item()) - 1e-9
        flipped = accuracy_penalty(logits, label, 1 - group, surrogate=u)
        assert accuracy_penalty(logits, label, group, surrogate=u).item() == pytest.approx(flipped.item())


def test_a_batch_of_one_group_gives_no_penalty_and_no_gradient() -> None:
    logits, label, _ = batch(30, 2)
    logits.requires_grad_()
    for group in (torch.zeros(30, dtype=torch.long), torch.ones(30, dtype=torch.long)):
        for found in (
            accuracy_penalty(logits, label, group),
            accuracy_penalty(logits, label, group, shares=(0.3, 0.7)),
            accuracy_penalty(logits, label, group, surrogate="hinge"),
            parity_penalty(logits, group),
            odds_penalty(logits, label, group),
            covariance_penalty(logits, group),
        ):
            assert found.item() == 0.0
            (gradient,) = torch.autograd.grad(found, logits)
            assert gradient.abs().max().item() == 0.0


def test_of_several_groups_distances_from_the_whole_are_summed_and_absent_groups_add_nothing() -> None:
    logits, label, _ = batch(90, 3)
    group = torch.arange(90) % 4
    group[group == 2] = 0
    true = logits.softmax(1).gather(1, label[:, None])[:, 0]
    expected = sum((true[group == g].mean() - true.mean()).abs() for g in (0, 1, 3))
    assert accuracy_penalty(logits, label, group).item() == pytest.approx(float(expected))


def test_the_regularisers_are_what_their_names_say() -> None:
    logits, label, group = batch(300, 2)
    p = logits.softmax(1)[:, 1]
    assert parity_penalty(logits, group).item() == pytest.approx((p[group == 1].mean() - p[group == 0].mean()).abs().item())
    within = [(p[(group == 1) & (label == y)].mean() - p[(group == 0) & (label == y)].mean()).abs() for y in (0, 1)]
    assert odds_penalty(logits, label, group).item() == pytest.approx(float(sum(within)))
    f, s = logits[:, 1] - logits[:, 0], 2.0 * group - 1
    expected = torch.cov(torch.stack([s, f]), correction=0)[0, 1].abs()
    assert covariance_penalty(logits, group).item() == pytest.approx(expected.item())
    with pytest.raises(UserError, match="two classes and two groups"):
        Constraint(1.0, "covariance").of(*batch(30, 3))


def test_margins_are_against_the_best_of_the_other_classes() -> None:
    logits, label, _ = batch(50, 4)
    by_hand = [row[y] - max(v for k, v in enumerate(row.tolist()) if k != y) for row, y in zip(logits, label.tolist(), strict=True)]
    torch.testing.assert_close(margins(logits, label), torch.stack(by_hand))


def test_a_constraint_of_no_weight_is_the_recipes_loss_and_one_forward_pass_serves_both() -> None:
    p = problem()
    model, calls = p.model(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    x, y = next(iter(p.batches(p.pretrain_epochs)))
    plain = p.tune.loss(model, x, y)
    assert constrained(p.tune, Constraint(0.0))(model, x, y).item() == plain.item()
    calls.clear()
    value = constrained(p.tune, Constraint(2.0))(model, x, y)
    assert len(calls) == 1
    penalty = accuracy_penalty(model(x), y[:, 0], y[:, 1])
    assert value.item() == pytest.approx((plain + 2 * penalty).item())


def test_without_penalties_bifp_is_bip_step_for_step() -> None:
    ours, theirs = Bifp(fairness=0.0).solve(problem()), Bip().solve(problem())
    assert all(torch.equal(a, b) for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True))
    fair = Bifp().solve(problem())
    assert any(not torch.equal(a, b) for a, b in zip(ours.model.parameters(), fair.model.parameters(), strict=True))


def test_with_all_weights_kept_it_is_dense_training_on_the_lower_batches() -> None:
    p = problem(target="nonzero=1")
    model = Bip().solve(p).model
    other = problem(target="nonzero=1")
    trainer = Trainer(other)
    dense = trainer.fit("dense", other.model(), other.recipe, epochs=other.pretrain_epochs)
    trainer.fit("tune", dense, other.tune, epochs=other.tune_epochs)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), dense.parameters(), strict=True))


def test_ablations_move_what_they_are_to_move() -> None:
    whole, no_mask, no_weight = (Bifp(**c).solve(problem()).model for c in ({}, {"fair_masks": 0.0}, {"fair_weights": 0.0}))
    first = next(w.weight for w in whole.modules() if isinstance(w, nn.Linear))
    for other in (no_mask, no_weight):
        assert not torch.equal(first, next(w.weight for w in other.modules() if isinstance(w, nn.Linear)))
    # with weights of its own for each level a second backward pass gives the lower loss's gradient: equal weights, equal result
    split = Bifp(fair_masks=1.0, fair_weights=1.0).solve(problem()).model
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), split.parameters(), strict=True))


@pytest.mark.parametrize("target", ["nonzero=0.2", "filters=0.5"])
def test_a_stopped_run_ends_as_if_it_had_never_been_stopped(target: str) -> None:
    case = "digits/cnn-16-32" if target.startswith("filters") else "adult/mlp-128-64"
    whole = Bifp().solve(problem(case=case, target=target)).model
    first = problem(case=case, target=target)
    steps = first.pretrain_epochs * (len(first.pretraining) // first.batch) + 3 * first.steps_per_epoch
    run = MemoryRun(first.spec, stop_after=steps)
    with pytest.raises(Stopped):
        Bifp().solve(problem(run, case=case, target=target))
    again = MemoryRun(first.spec, saved=copy.deepcopy(run.saved))
    resumed = Bifp().solve(problem(again, case=case, target=target)).model
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_filters_are_cut_out_and_the_small_network_answers_like_the_masked_one() -> None:
    p = problem(case="digits/cnn-16-32", target="filters=0.25")
    small = Bifp().solve(p).model
    assert [m.weight.shape[0] for m in small.modules() if isinstance(m, nn.Conv2d)] == [4, 8]
    x, _ = next(iter(p.batches(0)))
    assert small(x).isfinite().all()


def test_the_upper_level_leaves_running_statistics_alone() -> None:
    p = problem(case="digits/cnn-8-bn", target="filters=0.5")
    q = problem(case="digits/cnn-8-bn", target="filters=0.5")
    seen: dict[str, int] = {}
    for name, mine in (("bilevel", p), ("dense", q)):
        trainer = Trainer(mine)
        model = (
            Bip().cut(mine, trainer).model
            if name == "bilevel"
            else trainer.fit("dense", mine.model(), mine.recipe, epochs=mine.pretrain_epochs)
        )
        norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
        assert norm.momentum == 0.1
        seen[name] = int(norm.num_batches_tracked)
    assert seen["bilevel"] == seen["dense"] + max(1, p.tune_epochs // 2) * p.steps_per_epoch


def batch(n: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels and groups, both groups there."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    group = torch.randint(2 if classes == 2 else 3, (n,), generator=generator)
    group[:2] = torch.tensor([0, 1])
    return logits, torch.randint(classes, (n,), generator=generator), group
