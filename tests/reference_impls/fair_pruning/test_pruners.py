"""Blind pruners and what fairness is combined with them: targets, masks of the authors' functions, stages, reductions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.fair_pruning._pruners import PRUNERS
from reference_impls.fair_pruning.bifp import Bifp
from reference_impls.fair_pruning.exponentiated_gradient import ExponentiatedGradient
from reference_impls.fair_pruning.f_and_p import FandP
from reference_impls.fair_pruning.fairgrape import FairGrape
from reference_impls.fair_pruning.fairprune import FairPrune
from reference_impls.fair_pruning.fpgm import Fpgm
from reference_impls.fair_pruning.grasp import Grasp
from reference_impls.fair_pruning.grid_search import GridSearch
from reference_impls.fair_pruning.imp import Imp
from reference_impls.fair_pruning.magnitude import Magnitude
from reference_impls.fair_pruning.p_and_f import PandF
from reference_impls.fair_pruning.snip import Snip
from reference_impls.image_pruning.fpgm import median_mask
from reference_impls.parts import saliency
from reference_impls.parts.fair import removed
from reference_impls.parts.sparse import keep_top, weighted
from suite import registry
from suite.naming import UserError
from suite.protocol import Stopped
from tasks.fair_pruning.mixture import Mixture, answers
from tests.helpers import MemoryRun, golden_tensors
from tests.tasks.fair_pruning.helpers import problem

FILTERS = {"case": "digits/cnn-16-32", "target": "filters=0.5"}
WEIGHTS = {"case": "adult/mlp-128-64", "target": "nonzero=0.2"}
TOTAL = 107 * 128 + 128 * 64 + 64 * 2


def nonzero(model: nn.Module) -> int:
    return sum(int(m.weight.count_nonzero()) for m in weighted(model).values())


def test_weights_that_go_are_counted_in_floating_point_as_bips_code_counts_them() -> None:
    assert removed(0.8, 10) == 1, "(1 - 0.8) 10 is a little less than 2"
    assert removed(0.2, TOTAL) == int((1 - 0.2) * TOTAL)
    assert removed(1.0, TOTAL) == 0


@pytest.mark.parametrize("method", [Magnitude(), Imp(), Imp(rewind="dense"), Snip(), Grasp(), PandF(), FandP()])
def test_a_method_keeps_what_it_is_asked_to_keep(method: Any) -> None:
    p = problem(**WEIGHTS)
    found = method.solve(p)
    # SNIP's own code counts what stays
    assert nonzero(found.model) == (int(0.2 * TOTAL) if isinstance(method, Snip) else TOTAL - removed(0.2, TOTAL))
    assert p.run.examples <= p.budget
    from_scratch = isinstance(method, Snip | Grasp)
    assert (found.dense is None) == from_scratch
    if not from_scratch:
        assert nonzero(found.dense) > 0.99 * TOTAL


def test_one_share_for_each_layer_where_it_is_asked_for() -> None:
    model = Magnitude(layerwise=True).solve(problem(**WEIGHTS)).model
    for m in weighted(model).values():
        n = m.weight.numel()
        assert int(m.weight.count_nonzero()) == n - removed(0.2, n)


@pytest.mark.parametrize("method", [Magnitude(), Fpgm(), PandF(pruner="fpgm"), FandP(pruner="magnitude")])
def test_filters_are_cut_out(method: Any) -> None:
    p = problem(**FILTERS)
    model = method.solve(p).model
    assert [m.weight.shape[0] for m in model.modules() if isinstance(m, nn.Conv2d)] == [8, 16]
    assert p.run.examples <= p.budget


@pytest.mark.parametrize("method", [Snip(), Grasp(), Imp(), PandF(pruner="snip")])
def test_the_wrong_kind_of_target_is_told_before_any_training(method: Any) -> None:
    p = problem(**FILTERS)
    with pytest.raises(UserError, match=r"needs nonzero=SHARE"):
        method.solve(p)
    assert p.run.examples == 0
    other = problem(**WEIGHTS)
    with pytest.raises(UserError, match=r"needs filters=SHARE"):
        Fpgm().solve(other)
    assert other.run.examples == 0


def test_a_network_without_convolutions_has_no_filters_to_lose() -> None:
    with pytest.raises(UserError, match="no convolution"):
        Magnitude().solve(problem(case="adult/mlp-128-64", target="filters=0.5"))


def test_every_dense_network_of_a_seed_is_the_same() -> None:
    found = [m.solve(problem(**WEIGHTS)).dense for m in (Magnitude(), Imp(), PandF())]
    states = [list(d.state_dict().values()) for d in found]
    assert all(torch.equal(a, b) for other in states[1:] for a, b in zip(states[0], other, strict=True))


def test_saliencies_and_masks_are_snips_own() -> None:
    z = golden_tensors("fair_pruning_baselines_snip")
    net = Golden(z)
    layers = {"conv": net.conv, "fc1": net.fc1, "fc2": net.fc2}
    scores = saliency.snip(net, layers, [(z["x"], z["y"].long())])
    for name, score in scores.items():
        expected = z[f"saliency_{name}"]
        assert (score - expected).abs().max() <= 1e-6 * expected.max()
    size = sum(s.numel() for s in scores.values())
    for i, share in enumerate(z["keep_ratios"].tolist()):
        masks = keep_top(scores, max(1, int(size * share)))
        assert all(torch.equal(masks[n].float(), z[f"mask{i}_{n}"].float()) for n in layers), share


class Golden(nn.Module):
    """conv 3x3, ReLU, mean, fc1, ReLU, fc2, with a file's weights."""

    def __init__(self, z: dict[str, Any]) -> None:
        super().__init__()
        c, i, *_ = z["w_conv.weight"].shape
        self.conv = nn.Conv2d(i, c, 3, padding=1)
        self.fc1 = nn.Linear(*z["w_fc1.weight"].shape[::-1])
        self.fc2 = nn.Linear(*z["w_fc2.weight"].shape[::-1])
        self.load_state_dict({k.removeprefix("w_"): v for k, v in z.items() if k.startswith("w_")})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv(x).relu().mean((2, 3))
        return self.fc2(self.fc1(h).relu())  # type: ignore[no-any-return]


def test_the_filters_nearest_to_the_median_are_the_authors() -> None:
    z = golden_tensors("fair_pruning_baselines_fpgm")
    n = len(z["weight"])
    for norm, rate, keep in zip(z["rate_norm"].tolist(), z["rate_dist"].tolist(), z["filter_keep"], strict=True):
        found = median_mask(z["weight"], int(n * (1 - norm)), int(n * rate))
        assert torch.equal(found.float(), keep.float()), (norm, rate)


@pytest.mark.parametrize("method", [Magnitude(), Imp(), Snip(), Fpgm(), PandF(pruner="bip"), FandP()])
def test_a_stopped_run_ends_as_if_it_had_never_been_stopped(method: Any) -> None:
    asked = FILTERS if isinstance(method, Fpgm) else WEIGHTS
    whole = method.solve(problem(**asked))
    for stop in (3, 25, 37):
        run = MemoryRun(problem(**asked).spec, stop_after=stop)
        try:
            found = method.solve(problem(run, **asked))
        except Stopped:
            again = MemoryRun(run.spec, saved=copy.deepcopy(run.saved))
            found = method.solve(problem(again, **asked))
        states = (m.model.state_dict().values() for m in (whole, found))
        assert all(torch.equal(a, b) for a, b in zip(*states, strict=True)), stop


@pytest.mark.parametrize("name", [n for n in PRUNERS if n != "fpgm"])
def test_every_pruner_of_weights_can_be_made_fair_afterwards(name: Any) -> None:
    p = problem(**WEIGHTS)
    found = PandF(pruner=name).solve(p)
    assert nonzero(found.model) in (int(0.2 * TOTAL), TOTAL - removed(0.2, TOTAL))
    assert p.run.examples <= p.budget


def test_a_penalty_changes_what_it_is_added_to() -> None:
    blind, fair = (PandF(fairness=f).solve(problem(**WEIGHTS)).model for f in (0.0, 1.0))
    plain = Magnitude().solve(problem(**WEIGHTS)).model
    assert all(torch.equal(a, b) for a, b in zip(blind.parameters(), plain.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(fair.parameters(), plain.parameters(), strict=True))
    others = [PandF(constraint=c).solve(problem(**WEIGHTS)).model for c in ("parity", "odds", "covariance")]
    first = [next(m.parameters()) for m in (fair, *others)]
    assert all(not torch.equal(a, b) for i, a in enumerate(first) for b in first[i + 1 :])


def test_a_randomised_classifier_tells_the_chance_of_each_answer() -> None:
    pytest.importorskip("fairlearn")
    p = problem(**WEIGHTS)
    found = ExponentiatedGradient(max_iter=3, steps=4).solve(p)
    assert p.run.examples <= p.budget
    assert isinstance(found.model, Mixture)
    assert found.model.chances.sum().item() == pytest.approx(1.0)
    assert all(nonzero(m) <= TOTAL - removed(0.2, TOTAL) for m in found.model.members)
    label, prediction, chance, confidence = answers(p, found.model)
    votes = sum(
        c * np.asarray(p.predict(m, "test")[1] == 1) for m, c in zip(found.model.members, found.model.chances.tolist(), strict=True)
    )
    np.testing.assert_allclose(np.where(prediction == 1, chance, 1 - chance), votes, atol=1e-9)
    assert chance.min() >= 0.5
    assert ((confidence >= 0) & (confidence <= 1)).all()
    evidence = registry.task("fair_pruning").examine(p, found)
    told = {m.name: m.value for m in registry.task("fair_pruning").score(p.spec, evidence) if not m.part}
    right = np.where(prediction == label, chance, 1 - chance)
    assert told["accuracy"] == pytest.approx(100 * right.mean(), abs=1e-4)


def test_a_grid_gives_one_network() -> None:
    pytest.importorskip("fairlearn")
    p = problem(**WEIGHTS)
    found = GridSearch(grid_size=3).solve(p)
    assert nonzero(found.model) <= TOTAL - removed(0.2, TOTAL)
    assert p.run.examples <= p.budget


def test_a_reduction_of_several_classes_is_refused() -> None:
    pytest.importorskip("fairlearn")
    for method in (GridSearch(), ExponentiatedGradient()):
        p = problem(tier="smoke", case="clothing_kids/cnn-8", target="nonzero=0.2")
        with pytest.raises(UserError, match="10 classes"):
            method.solve(p)
        assert p.run.examples == 0


@pytest.mark.parametrize("pruner", ["imp", "bip", "snip"])
def test_a_reduction_has_what_its_pruner_left_of_the_budget(pruner: Any) -> None:
    pytest.importorskip("fairlearn")
    p = problem(**WEIGHTS)
    GridSearch(pruner=pruner, grid_size=3).solve(p)
    assert p.run.examples <= p.budget


@pytest.mark.parametrize(
    ("method", "case", "target", "words"),
    [
        (FairPrune(), "adult/mlp-128-64", "filters=0.5", "needs nonzero"),
        (FairPrune(privileged=7), "adult/mlp-128-64", "nonzero=0.2", "0 Female, 1 Male"),
        (FairPrune(), "adult-race/mlp-128-64", "nonzero=0.2", "privileged=N"),
        (Bifp(surrogate="hinge"), "adult-race/mlp-128-64", "nonzero=0.2", "more than two groups"),
        (PandF(constraint="covariance"), "adult-race/mlp-128-64", "nonzero=0.2", "two classes and two groups"),
        (PandF(fairness=-1.0), "adult/mlp-128-64", "nonzero=0.2", "0 or more"),
        (Bifp(), "adult/mlp-128-64", "filters=0.5", "no convolution"),
        (Magnitude(), "adult/mlp-128-64", "filters=0.5,nonzero=0.2", "needs filters=SHARE"),
    ],
)
def test_a_mistake_is_one_clear_line_before_anything_is_trained(method: Any, case: str, target: str, words: str) -> None:
    p = problem(case=case, target=target)
    with pytest.raises(UserError, match=words):
        method.solve(p)
    assert p.run.examples <= (p.pretrain_epochs + 1) * len(p.pretraining), "at most the dense stage"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Snip(batches=0),
        lambda: Grasp(per_class=0),
        lambda: Fpgm(soft=-1),
        lambda: Fpgm(rate_norm=2),
        lambda: ExponentiatedGradient(eps=0),
        lambda: ExponentiatedGradient(max_iter=0),
        lambda: GridSearch(grid_size=1),
        lambda: GridSearch(constraint_weight=2),
        lambda: FairGrape(rechoose_every=0),
        lambda: FairGrape(end=2),
    ],
)
def test_a_setting_that_cannot_be_is_a_mistake_of_the_user(make: Any) -> None:
    with pytest.raises(UserError):
        make()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [Bifp(tolerance=0.02), PandF(constraint="parity"), PandF(constraint="odds"), FairGrape(), Magnitude()]
)
def test_methods_take_more_than_two_groups(method: Any) -> None:
    p = problem(case="adult-race/mlp-128-64", target="nonzero=0.2")
    assert p.group_count == 5
    found = method.solve(p)
    told = registry.task("fair_pruning").score(p.spec, registry.task("fair_pruning").examine(p, found))
    assert sum(m.name == "group_accuracy" for m in told) == 5
