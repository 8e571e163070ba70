"""Training of detectors: parity of rows, centres, terms, folds, selection, and stopping that changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from reference_impls.flame_detection.bce import Bce
from reference_impls.flame_detection.flame import Flame
from reference_impls.flame_detection.flamefinder import WEIGHTS, Flamefinder
from reference_impls.flame_detection.logistic import Logistic
from reference_impls.parts.flame_training import LOOKS, Best, MetricLearning, Terms, fit_metric
from suite import registry
from suite.naming import UserError
from suite.protocol import Diverged, OverBudget, Stopped
from tasks.flame_detection.networks import Gate, Learner, learner
from tasks.flame_detection.problem import Detectors, FlameProblem, Fold, embeddings, scores
from tasks.flame_detection.recipes import Adam, binary_cross_entropy
from tests.helpers import MemoryRun
from tests.reference_impls.flame_detection.helpers import fold, patches, problem, spec

FOLDS = [fold(1, 96, 48), fold(2, 144, 48)]
NONE = {f"lambda_{term}": 0.0 for term in WEIGHTS["default"]}


def same(a: Detectors, b: Detectors) -> bool:
    """Whether networks and centres are equal bit for bit."""
    for one, other in zip(a.folds, b.folds, strict=True):
        left, right = one.model.state_dict(), other.model.state_dict()
        if left.keys() != right.keys() or not all(torch.equal(left[k], right[k]) for k in left):
            return False
        if (one.centres is None) != (other.centres is None):
            return False
        if one.centres is not None and other.centres is not None and not torch.equal(one.centres, other.centres):
            return False
    return len(a.folds) == len(b.folds)


@pytest.fixture(scope="module")
def whole() -> tuple[Detectors, MemoryRun]:
    """FlameFinder with a gate a loss, on two folds, never stopped."""
    run = MemoryRun(spec())
    return Flamefinder(attention="each").solve(problem(run, folds=FOLDS)), run


# -- parity


@pytest.mark.parametrize("losses", ["rec", "rec+cl+tcl+tccl"])
def test_with_every_lambda_0_it_is_bce_bit_for_bit(losses: Any) -> None:
    given = {k: v for k, v in NONE.items() if k.removeprefix("lambda_") in losses.split("+")}
    found = Flamefinder(losses=losses, attention="none", **given).solve(problem())
    assert same(found, Bce().solve(problem()))
    assert found.folds[0].centres is None
    assert not found.terms


def test_attention_that_stays_1_is_the_row_without_attention_bit_for_bit() -> None:
    def frozen(own: FlameProblem) -> Learner:
        net = learner(24, "shared", own.seed)
        assert isinstance(net.lfe.gate, Gate)
        net.lfe.gate.requires_grad_(False)
        return net

    found = fit_metric(problem(), frozen, Terms())
    plain = Flamefinder(attention="none").solve(problem())
    one, other = found.folds[0], plain.folds[0]
    theirs = one.model.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in other.model.state_dict().items())
    assert one.centres is not None
    assert other.centres is not None
    assert torch.equal(one.centres, other.centres)
    x = patches(24, 7)
    assert np.array_equal(scores(one.model, x, torch.device("cpu")), scores(other.model, x, torch.device("cpu")))
    learnt = Flamefinder().solve(problem()).folds[0].model
    assert not np.array_equal(scores(learnt, x, torch.device("cpu")), scores(other.model, x, torch.device("cpu")))


def test_weights_and_margins_are_those_of_the_sheet() -> None:
    assert Flamefinder().terms() == Terms(1.0, 0.01, 0.05, 0.5, 5.0, 0.5, 0.5)
    assert Flamefinder(weights="strong", losses="rec+cl+tcl").terms() == Terms(1.0, 0.1, 0.2, 0.0)
    assert Flamefinder(weights="strong", lambda_cl=0.3, lambda_rec=0.0).terms() == Terms(0.0, 0.3, 0.2, 1.0)
    with pytest.raises(UserError, match="no tccl"):
        Flamefinder(losses="rec+cl", lambda_tccl=1.0)
    with pytest.raises(UserError, match="0 or more"):
        Flamefinder(lambda_cl=-0.1)
    cls = registry.load(registry.method("flame_detection", "flamefinder"))
    assert registry.configure(cls, ["losses=rec+cl", "attention=each", "lambda_cl=0.2"]) == Flamefinder(
        "rec+cl", "each", lambda_cl=0.2
    )


def test_every_method_of_the_family_is_found_and_says_what_it_is() -> None:
    known = registry.methods("flame_detection")
    networks = {"bce", "flamefinder", "vgg19", "resnet18", "flame", "lenet5", "firenet", "mobilenetv2", "logistic"}
    assert set(known) == networks | {"max_temperature", "luma", "otsu", "hysteresis"}
    for name, ref in known.items():
        assert registry.configure(registry.load(ref), []), name
        assert ref.departs, name
        assert ".md" not in ref.departs + ref.paper, name
    for name in ("bce", "flamefinder"):
        assert "FlameFinder, reconstructed" in known[name].departs


# -- centres and terms


def one_step(terms: Terms, seed: int = 0) -> tuple[MetricLearning, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hooks after a step of one batch; its features, labels and the centres before it."""
    p = problem(seed=seed)
    net = learner(24, "none", p.seed)
    hooks = MetricLearning(p, net, terms)
    hooks.before_epoch(0)
    before = hooks.centres.clone()
    x, y = next(iter(p.batches(0)))
    state = net.state_dict()
    hooks.loss(net, x, y).backward()
    net.load_state_dict(state)
    z = net.read(x).z.detach()
    hooks.after_step()
    return hooks, z, y, before


def test_centres_follow_the_unweighted_sum_of_the_terms_that_count() -> None:
    hooks, z, y, before = one_step(Terms(cl=0.01, tcl=0.0, tccl=0.0))
    gradient = torch.stack([2 * (before[k] - z[y == k]).sum(0) / len(y) for k in (0, 1)])
    torch.testing.assert_close(hooks.centres, before - 0.5 * gradient, atol=1e-5, rtol=1e-5)
    stronger = one_step(Terms(cl=10.0, tcl=0.0, tccl=0.0))[0]
    assert torch.equal(stronger.centres, hooks.centres), "a weight slows no centre"
    moved = {}
    for name in ("cl", "tcl", "tccl"):
        alone = {n: 0.3 if n == name else 0.0 for n in ("cl", "tcl", "tccl")}
        moved[name] = one_step(Terms(**alone))[0].centres - before
    together = one_step(Terms(rec=3.0, cl=0.01, tcl=0.05, tccl=0.5))[0].centres - before
    torch.testing.assert_close(together, sum(moved.values()), atol=1e-5, rtol=1e-5)
    assert torch.equal(one_step(Terms(cl=0.0, tcl=0.0, tccl=0.0))[0].centres, before), "with none they stay"


def test_the_networks_gradient_is_that_of_the_weighted_sum() -> None:
    p = problem()
    net = learner(24, "shared", p.seed)
    terms = Terms(rec=0.7, cl=0.2, tcl=0.1, tccl=0.9)
    hooks = MetricLearning(p, net, terms)
    hooks.before_epoch(0)
    x, y = next(iter(p.batches(0)))
    state = {k: v.clone() for k, v in net.state_dict().items()}
    hooks.loss(net, x, y).backward()
    found = [q.grad.clone() for q in net.parameters() if q.grad is not None]
    net.zero_grad()
    net.load_state_dict(state)
    read = net.read(x)
    assert read.image is not None
    c = hooks.centres
    gated = read.gated["cl"]
    d = 0.5 * (gated[:, None] - c).square().sum(2)
    cosine = torch.nn.functional.cosine_similarity(gated[:, None], c[None], dim=2)
    own, other = torch.arange(len(y)), 1 - y
    total = (
        binary_cross_entropy(read.logits, y)
        + 0.7 * (read.image - x).square().mean()
        + 0.2 * (gated - c[y]).square().sum(1).mean()
        + 0.1 * (d[own, y] + 5 - d[own, other]).clamp(0).mean()
        + 0.9 * (0.5 - cosine[own, y] + cosine[own, other]).clamp(0).mean()
    )
    for one, p2 in zip(found, torch.autograd.grad(total, list(net.parameters()), allow_unused=True), strict=True):
        torch.testing.assert_close(one, p2, atol=1e-5, rtol=1e-4)


def test_each_terms_share_is_told_once_an_epoch_and_shares_add_up_to_1(whole: tuple[Detectors, MemoryRun]) -> None:
    rows = whole[0].terms
    assert [(r["fold"], r["epoch"]) for r in rows] == [(f, e) for f in (0, 1) for e in range(3)]
    names = ("bce", "rec", "cl", "tcl", "tccl")
    for row in rows:
        for kind in ("", "z_"):
            shares = [row[f"share_{kind}{n}"] for n in names]
            assert sum(shares) == pytest.approx(1, abs=1e-9)
            norms = [row[f"gradient_{kind}{n}"] for n in names]
            assert shares == pytest.approx([v / sum(norms) for v in norms])
        assert row["centre_distance"] > 0
        assert row["gradient_rec"] == row["gradient_z_rec"], "the decoder reads z, which no gate is before"
    told = [v for k, v in whole[1].values if k == "share.cl"]
    assert told == [r["share_z_cl"] for r in rows if r["fold"] == 0], "the curve is of one fold"
    kept = whole[0].notes["share_z"]
    last = whole[0].notes["share_of_centres"][-1]
    assert sum(last.values()) == pytest.approx(1)
    assert last["cl"] == pytest.approx(kept[-1]["cl"] / sum(kept[-1][n] for n in ("cl", "tcl", "tccl")))
    assert [s["tccl"] for s in kept] == pytest.approx(
        [(a["share_z_tccl"] + b["share_z_tccl"]) / 2 for a, b in zip(rows[:3], rows[3:], strict=True)]
    )
    assert all(r["gradient_cl"] != r["gradient_z_cl"] for r in rows[1:3]), "a gate that has learnt lies between"
    assert not Bce().solve(problem(epochs=1)).terms
    assert set(Flamefinder(losses="rec").solve(problem(epochs=1)).terms[0]) == {
        *("fold", "epoch"),
        *(f"{what}_{n}" for what in ("loss", "weight", "gradient", "gradient_z", "share", "share_z") for n in ("bce", "rec")),
    }


def test_a_gradient_is_the_weighted_terms_of_a_batch() -> None:
    hooks, z, y, before = one_step(Terms(rec=0.0, cl=0.01, tcl=0.0, tccl=0.0))
    expected = 0.01 * 2 * (z - before[y]) / len(y)
    assert float(hooks._sums["gradient_cl"]) == pytest.approx(float(expected.norm()), rel=1e-4)
    assert float(hooks._sums["loss_cl"]) == pytest.approx(float((z - before[y]).square().sum(1).mean()), rel=1e-4)


def test_measuring_gradients_changes_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Flamefinder().solve(problem())
    looked: list[int] = []
    monkeypatch.setattr(MetricLearning, "_look", lambda self, *_: looked.append(self.steps))
    monkeypatch.setattr(MetricLearning, "_row", lambda self: {"epoch": 0.0, "centre_distance": 1.0})
    assert same(Flamefinder().solve(problem()), plain)
    assert looked == [0, 1, 2] * 3
    looked.clear()
    Flamefinder().solve(problem(epochs=1, train=480, batch=20))
    assert len(looked) == LOOKS


def test_centres_that_collapse_or_run_apart_are_told() -> None:
    calm = Flamefinder().solve(problem()).notes
    assert calm["centres_collapsed"] == calm["centres_diverged"] == 0
    (distance,) = calm["centre_distances"]
    assert 0.5 < distance < 100
    # nearer than a tenth of the margin
    near = Flamefinder(losses="rec+cl+tcl", lambda_tcl=0.0, margin=10_000.0).solve(problem()).notes
    assert near["centres_collapsed"] == 1
    # center loss alone pulls a centre to its class's mean by a factor 1 - 2 x rate x share: beyond 1 it overshoots ever more
    far = Flamefinder(losses="rec+cl", centre_rate=3.2).solve(problem(epochs=4)).notes
    assert far["centres_diverged"] == 1
    assert far["centre_distances"][0] > 100
    with pytest.raises(Diverged):
        Flamefinder(losses="rec+cl", centre_rate=1e12).solve(problem())


def test_batches_without_a_patch_of_flame_train() -> None:
    own = patches(96, 3)
    none = replace(own, label=torch.zeros_like(own.label), warm=torch.zeros_like(own.warm))
    p = problem(folds=[Fold(none, none, own)])
    assert all(not y.any() for _, y in p.batches(0))
    p = problem(folds=[Fold(none, none, own)])
    found = Flamefinder().solve(p)
    assert all(math.isfinite(v) for row in found.terms for v in row.values())
    assert "epochs_chosen" not in found.notes, "one class of validation patches chooses nothing"
    assert "val_balanced_accuracy" not in dict(p.run.values)


# -- folds, budget, stopping


@pytest.mark.parametrize("moment", [1, 5, 7, 14])
def test_a_stopped_solve_ends_as_if_it_had_not_been(whole: tuple[Detectors, MemoryRun], moment: int) -> None:
    run = MemoryRun(spec(), stop_after=moment)
    method = Flamefinder(attention="each")
    with pytest.raises(Stopped):
        method.solve(problem(run, folds=FOLDS))
    again = MemoryRun(spec(), saved=run.saved)
    found = method.solve(problem(again, folds=FOLDS))
    assert same(found, whole[0])
    assert found.terms == whole[0].terms
    assert found.notes == whole[0].notes
    assert again.examples == whole[1].examples


@pytest.mark.slow
@pytest.mark.parametrize("method", [Bce(), Flame(mode="late"), Logistic(mode="early")], ids=["bce", "late", "early"])
def test_a_stopped_solve_of_a_classifier_does_too(method: Any) -> None:
    expected = method.solve(problem(folds=FOLDS))
    for moment in (1, 8):
        run = MemoryRun(spec(), stop_after=moment)
        with pytest.raises(Stopped):
            method.solve(problem(run, folds=FOLDS))
        assert same(method.solve(problem(MemoryRun(spec(), saved=run.saved), folds=FOLDS)), expected)


def test_every_fold_is_trained_with_draws_of_its_own_within_the_budget(whole: tuple[Detectors, MemoryRun]) -> None:
    p = problem(folds=FOLDS)
    assert whole[1].examples == p.budget == 48 * 3 * (2 + 3)
    twins = problem(folds=[FOLDS[0], FOLDS[0]])
    found = Bce().solve(twins)
    one, other = (d.model.state_dict() for d in found.folds)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    alone = Bce().solve(problem(folds=[FOLDS[0]]))
    assert all(torch.equal(v, one[k]) for k, v in alone.folds[0].model.state_dict().items()), "a fold knows of no other"
    greedy = problem()
    Bce().solve(greedy)
    with pytest.raises(OverBudget):
        next(greedy.batches(0))


def test_progress_is_counted_over_all_folds_and_undefined_scores_are_left_out() -> None:
    seen: list[tuple[float, float]] = []
    run = MemoryRun(spec())
    run.progress = lambda done, total, **values: seen.append((done, total))  # type: ignore[method-assign]
    Bce().solve(problem(run, folds=FOLDS))
    assert seen == [(e, 6) for e in (1, 2, 3, 4, 5, 6)]
    run = MemoryRun(spec())
    Bce().solve(problem(run))
    assert {name for name, _ in run.values} == {"train_loss"}


def test_a_fold_that_has_no_batch_is_refused() -> None:
    with pytest.raises(UserError, match="fold 0 has 24 training patches, no batch of 48"):
        Bce().solve(problem(train=24))


def test_the_speed_division_trains_nothing() -> None:
    for method in (Bce(), Flamefinder(), Flame(mode="early")):
        run = MemoryRun(spec(division="speed"))
        found = method.solve(problem(run, folds=FOLDS, division="speed"))
        assert len(found.folds) == 2
        assert run.examples == 0


# -- selection


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> Callable[[], int]:
    """Validation scores as they are wanted, asked for once an epoch by what selects."""
    asked = iter(values)
    count = [0]

    def after_epoch(self: Best) -> None:
        count[0] += 1
        score = next(asked)
        self.problem.validate = lambda _: score  # type: ignore[method-assign]
        real(self)

    real = Best.after_epoch
    monkeypatch.setattr(Best, "after_epoch", after_epoch)
    return lambda: count[0]


@pytest.mark.parametrize(("values", "chosen"), [([60, 90, 70, 80], 2), ([60, 90, 90, 80], 3), ([50, 60, 70, 80], 4)])
def test_the_best_epoch_of_a_validation_block_stays_with_its_centres(
    monkeypatch: pytest.MonkeyPatch, values: list[float], chosen: int
) -> None:
    with monkeypatch.context() as m:
        calls = scripted(m, values)
        found = Flamefinder().solve(problem(val=24, epochs=4))
        assert calls() == 4
    assert found.notes["epochs_chosen"] == [chosen]
    states: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []

    def keep(self: MetricLearning) -> None:
        states.append(({k: v.clone() for k, v in self.learner.lfe.state_dict().items()}, self.centres.clone()))

    monkeypatch.setattr(MetricLearning, "after_epoch", keep)
    Flamefinder().solve(problem(val=24, epochs=4))
    weights, centres = states[chosen - 1]
    assert all(torch.equal(v, weights[k]) for k, v in found.folds[0].model.state_dict().items())
    assert found.folds[0].centres is not None
    assert torch.equal(found.folds[0].centres, centres)


def test_without_a_validation_block_the_last_epoch_stays() -> None:
    p = problem()
    assert math.isnan(p.validate(Bce().solve(p).folds[0].model))
    assert "epochs_chosen" not in Bce().solve(problem()).notes


def test_validation_is_balanced_accuracy_of_the_head_on_labels_that_there_are() -> None:
    own = patches(48, 5)
    own = replace(own, label=torch.where(torch.arange(48) % 4 == 3, -1, own.label))
    p = problem(folds=[Fold(own, own, own)])
    model = Bce().solve(problem()).folds[0].model
    called = scores(model, own, p.device) > 0
    label = own.label.numpy()
    expected = 50 * (called[label == 1].mean() + (~called[label == 0]).mean())
    model.train()
    assert p.validate(model) == pytest.approx(expected)
    assert model.training


# -- batches


def test_thermal_batches_do_not_depend_on_whether_colour_comes_along() -> None:
    plain, coloured = list(problem().batches(1)), list(problem().in_colour().batches(1))
    assert [x.shape for x, _ in plain] == [(48, 1, 24, 24)] * 3
    assert [x.shape for x, _ in coloured] == [(48, 4, 24, 24)] * 3
    for (x, y), (x4, y4) in zip(plain, coloured, strict=True):
        assert torch.equal(x, x4[:, :1])
        assert torch.equal(y, y4)
    assert not torch.equal(plain[0][0], next(iter(problem().batches(0)))[0])
    assert torch.equal(plain[0][0], next(iter(problem().batches(1)))[0])
    p = problem()
    bare = replace(p.train, rgb=None)
    blind = replace(p, patches=replace(p.patches, folds=[Fold(bare, bare, bare)]))
    with pytest.raises(UserError, match="mode=thermal"):
        Flame(mode="late").solve(blind)


def test_a_method_that_asks_for_temperatures_is_given_them_over_600() -> None:
    p = problem(epochs=1)
    scaled, hot = next(iter(p.batches(0)))[0], next(iter(p.in_degrees().batches(0)))[0]
    assert hot.shape == scaled.shape
    assert p.train.degrees is not None
    warmest = float(p.train.degrees.max()) / 600
    assert 0.7 * warmest < hot.max() <= 1.1 * warmest + 0.1, "the frame's own scale is gone, gain and offset are there"
    x = patches(24, 9)
    for method in (Bce(thermal="celsius"), Flamefinder(thermal="celsius")):
        model = method.solve(problem(epochs=1)).folds[0].model
        assert x.degrees is not None
        expected = model.eval()(x.degrees / 600).detach()
        assert np.allclose(scores(model, x, torch.device("cpu")), expected.numpy(), atol=1e-5)
    bare = replace(p.train, degrees=None)
    unknown = replace(p, patches=replace(p.patches, folds=[Fold(bare, bare, bare)]))
    with pytest.raises(UserError, match="thermal=scaled"):
        Bce(thermal="celsius").solve(unknown)


def test_labels_of_a_batch_are_those_of_its_patches_a_third_of_each_kind() -> None:
    p = problem()
    own = replace(p.train, thermal=(10.0 * p.train.label + 3 * p.train.warm)[:, None, None, None].expand(-1, 1, 24, 24))
    for x, y in replace(p, patches=replace(p.patches, folds=[Fold(own, p.val, p.val)])).batches(0):
        level = x.mean((1, 2, 3))  # gain and offset lie within a tenth
        assert torch.equal(level > 8, y == 1)
        assert [int(y.sum()), int(((level > 2) & (level < 4)).sum())] == [16, 16]


def test_embeddings_and_scores_come_in_stored_order_and_leave_the_mode_of_a_network() -> None:
    model = Bce().solve(problem(epochs=1)).folds[0].model.train()
    x = patches(24, 9)
    device = torch.device("cpu")
    found, z = scores(model, x, device), embeddings(model, x, device)
    assert found.dtype == z.dtype == np.float32
    assert z.shape == (24, 32)
    backwards = torch.arange(24).flip(0)
    np.testing.assert_allclose(scores(model, x.take(backwards), device), found[::-1], atol=1e-6)
    assert model.training
    assert scores(model, x.take(torch.arange(0)), device).shape == (0,)


def test_label_smoothing_is_that_of_two_classes() -> None:
    logits, y = torch.tensor([2.0, -1.0]), torch.tensor([1, 0])
    two = torch.stack([torch.zeros(2), logits], 1)
    expected = torch.nn.functional.cross_entropy(two, y, label_smoothing=0.2)
    assert binary_cross_entropy(logits, y, 0.2).item() == pytest.approx(expected.item())
    assert Adam().summary(64) == "Adam 0.001, weight decay 0, batch 64, cosine"
    optimizer = Adam().optimizer(learner(24, "none", lambda p: 0))
    assert isinstance(optimizer, torch.optim.Adam)
