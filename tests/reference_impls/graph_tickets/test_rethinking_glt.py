"""The reconstruction against the public code's loss (rethinking_glt_*.npz), and the sheet's other checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reference_impls.graph_tickets.rethinking_glt import (
    Auxiliary,
    Flip,
    RethinkingGlt,
    minmax_gradient,
    perturbed,
    without_highest,
)
from reference_impls.graph_tickets.wd_glt import Replaced, WdGlt, class_means, divergence_loss, entropy_loss, means_loss
from reference_impls.parts.graph_masks import NOISE, Rung
from reference_impls.parts.wasserstein import class_distances, sinkhorn, wd_loss
from suite.protocol import Stopped
from tasks.graph_tickets.graph import Graph
from tasks.graph_tickets.models import Gcn, gcn_values
from tests.helpers import MemoryRun, golden, graph_problem


def test_sinkhorn_of_the_public_code() -> None:
    z = golden("rethinking_glt_sinkhorn")
    for i, (eps, iterations, p) in enumerate(z["cfg_eps_iters_p"]):
        x, y = (torch.from_numpy(z[k]).double().requires_grad_() for k in ("x", "y"))
        distance = sinkhorn(x, y, float(eps), int(iterations), int(p))
        distance.backward()
        assert distance.item() == pytest.approx(float(z["distance"][i]), abs=2e-4)
        np.testing.assert_allclose(x.grad, z["grad_x"][i], atol=2e-4)
        np.testing.assert_allclose(y.grad, z["grad_y"][i], atol=2e-4)


def test_sinkhorn_converges_to_the_exact_distance() -> None:
    z = golden("rethinking_glt_sinkhorn")
    x, y = (torch.from_numpy(z[k]).double() for k in ("x", "y"))
    assert sinkhorn(x, y, 1e-3, 5000).item() == pytest.approx(float(z["exact_w1_euclid"]), abs=2e-3)


def test_loss_of_the_public_code() -> None:
    z = golden("rethinking_glt_wdloss")
    logits = torch.from_numpy(z["logits"]).double().requires_grad_()
    found = class_distances(logits, float(z["eps"]), int(z["max_iters"]))
    for mine, theirs in zip(found, z["per_class_distance"], strict=True):
        assert (mine is None) == bool(np.isnan(theirs))
        if mine is not None:
            assert mine.item() == pytest.approx(float(theirs), abs=5e-5)
    loss = wd_loss(logits, float(z["eps"]), int(z["max_iters"]))
    assert loss.item() == pytest.approx(float(z["wd_loss"]), abs=5e-5)
    loss.backward()
    np.testing.assert_allclose(logits.grad, z["grad_logits"], atol=2e-4)


def test_classes_predicted_for_nobody_or_everybody() -> None:
    logits = torch.zeros(5, 3, requires_grad=True)
    everybody = logits + torch.tensor([1.0, 0.0, 0.0])
    assert class_distances(everybody) == [None, None, None]
    loss = wd_loss(everybody)
    loss.backward()
    assert loss.item() == 0
    some = torch.zeros(5, 3)
    some[0, 0] = some[1:, 1] = 1.0
    assert [d is None for d in class_distances(some)] == [False, False, True]


def test_identical_points_have_a_finite_gradient_while_training() -> None:
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    wd_loss(logits, floor=1e-12).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("detached", "expected"), [(False, 7778), (True, 3834)])
def test_the_supervised_loss_reaches_a_part_of_the_graph(detached: bool, expected: int) -> None:
    """Entries of Cora's adjacency with a gradient of L0 (the sheet's coverage table, to the unit)."""
    torch.manual_seed(0)
    problem = graph_problem(case="cora/gcn")
    values, logits = _covered(problem, detached)
    train = problem.train
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits[train], problem.y[train]), values)
    assert int(gradient.count_nonzero()) == expected


@pytest.mark.slow
def test_the_auxiliary_loss_reaches_all_of_it() -> None:
    torch.manual_seed(0)
    values, logits = _covered(graph_problem(case="cora/gcn"), False)
    (gradient,) = torch.autograd.grad((logits.softmax(1) ** 2).sum(), values)
    assert int((gradient != 0).sum()) == 10_556
    values, logits = _covered(graph_problem(case="cora/gcn"), False)
    (gradient,) = torch.autograd.grad(wd_loss(logits, 1e-2, 2, floor=1e-12), values)
    assert int((gradient != 0).sum()) == 10_556


def _covered(problem: Any, detached: bool) -> tuple[torch.Tensor, torch.Tensor]:
    graph = problem.graph
    model = Gcn(problem.inputs, 64, problem.classes).double().eval()
    x = problem.x.forward.to_dense().double()
    values = torch.ones(graph.edges, dtype=torch.float64, requires_grad=True)
    entries, loops = gcn_values(graph, values, detached=detached)
    operator = [(graph.looped, torch.cat([entries, loops]))] * 2
    from tasks.graph_tickets.models import TRAINING

    return values, model.apply_operator(x, operator, TRAINING)  # type: ignore[arg-type]


def six_nodes() -> tuple[Any, torch.Tensor, list[torch.Tensor]]:
    """A smooth loss on six nodes, a mask of which the clamp holds some entries, and weights."""
    draw = torch.Generator().manual_seed(0)
    row, col = (torch.rand(6, 6, generator=draw) < 0.5).fill_diagonal_(False).nonzero().t()
    graph = Graph(row, col, 6)
    x = torch.randn(6, 4, generator=draw, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    theta = [torch.randn(s, generator=draw, dtype=torch.float64).requires_grad_() for s in ((5, 4), (3, 5))]
    m_g = 0.2 + 0.6 * torch.rand(graph.edges, generator=draw, dtype=torch.float64)

    def loss(m: torch.Tensor, weights: Any) -> torch.Tensor:
        entries, loops = gcn_values(graph, m)
        whole = torch.cat([entries, loops])
        from tasks.graph_tickets.graph import propagate

        h = torch.tanh(propagate(graph.looped, whole, x @ weights[0].t()))
        return F.cross_entropy(propagate(graph.looped, whole, h @ weights[1].t()), y)

    start = m_g.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(start, theta), start)
    # the ascent pushes these further out, and the clamp holds them
    m_g[slope.topk(2, largest=False).indices], m_g[slope.topk(2).indices] = 0.0, 1.0
    return loss, m_g, theta


def test_total_derivative_of_the_literal_game() -> None:
    loss, m_g, theta = six_nodes()
    eta1 = 0.5

    def through(weights: list[torch.Tensor]) -> float:
        _, climbed, _, _ = minmax_gradient(loss, m_g, weights, eta1, 0)
        return float(loss(climbed, weights).detach())

    _, climbed, exact, ascent = minmax_gradient(loss, m_g, theta, eta1, 1)
    _, _, first_order, _ = minmax_gradient(loss, m_g, theta, eta1, 0)
    torch.testing.assert_close(climbed, (m_g + eta1 * ascent).clamp(0, 1))
    assert (climbed == 0).any()
    assert (climbed == 1).any()
    step, largest = 1e-5, 0.0
    for k, t in enumerate(theta):
        for i in range(t.numel()):
            moved = []
            for sign in (1, -1):
                other = [u.detach().clone() for u in theta]
                other[k].view(-1)[i] += sign * step
                moved.append(through([u.requires_grad_() for u in other]))
            by_difference = (moved[0] - moved[1]) / (2 * step)
            assert exact[k] is not None
            assert exact[k].view(-1)[i].item() == pytest.approx(by_difference, abs=1e-6)  # type: ignore[union-attr]
            largest = max(largest, abs(first_order[k].view(-1)[i].item() - by_difference))  # type: ignore[union-attr]
    assert largest > 1e-3


def test_perturbation_is_the_worst_within_reach() -> None:
    m_g = torch.tensor([0.5, 1.0, 0.0, 0.5])
    found = perturbed(m_g, torch.tensor([2.0, 1.0, -2.0, -1.0]), 0.1)
    torch.testing.assert_close(found, torch.tensor([0.6, 1.0, 0.0, 0.45]))
    assert torch.equal(perturbed(m_g, torch.zeros(4), 0.1), m_g)


def test_highest_go_exactly_and_ties_by_the_way_climbed() -> None:
    m_g = torch.tensor([1.0, 1.0, 0.2, 1.0, 0.0])
    way = torch.tensor([1.1, 1.3, 0.2, 1.2, -0.4])
    assert without_highest(m_g, way, 2).tolist() == [True, False, True, False, True]


MODES = ["wd", "minmax_perturb", "minmax_literal", "minmax_flip"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_masks_stay_in_the_unit_interval_and_targets_are_met(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from reference_impls.parts.graph_masks import Search

    bounds, rounds = [], []
    judge, outcome = Search.judge, Search.outcome

    def spy(self: Search, epoch: int) -> float:
        bounds.append((float(self.m_g.detach().min()), float(self.m_g.detach().max())))
        return judge(self, epoch)

    def noted(self: Search) -> dict[str, Any]:
        rounds.append(outcome(self))
        return rounds[-1]

    monkeypatch.setattr(Search, "judge", spy)
    monkeypatch.setattr(Search, "outcome", noted)
    problem = graph_problem()
    ticket = RethinkingGlt(mode=mode, alpha=1, most=8).solve(problem)
    assert all(low >= 0 and high <= 1 for low, high in bounds)
    assert len(ticket.row) == pytest.approx(problem.graph.edges / 2, rel=0.02)
    passes = 2 if mode != "wd" else 1
    assert problem.run.examples == 100 * 10 * (2 * passes + 1)  # two rounds and the last training
    first, second = (r["edges"] for r in rounds)
    assert not (second & ~first).any()  # what was removed stays so
    assert second.sum() < first.sum() < problem.graph.edges


def test_what_the_adversary_pushed_to_zero_is_kept_and_starts_again() -> None:
    problem = graph_problem()
    model = problem.model()
    weights = {n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters()}
    edges = problem.graph.edges
    total = sum(w.numel() for w in weights.values())
    method = RethinkingGlt(mode="minmax_flip")
    one = Flip(method, problem, model, torch.ones(edges, dtype=torch.bool), weights, Rung(edges // 2, total))
    with torch.no_grad():
        one.m_g[::10] = 0
    kept = one.masks()["edges"]
    assert kept[::10].all()
    assert int(kept.sum()) == edges // 2
    after = Flip(method, problem, problem.model(), kept, weights, Rung(edges // 4, total))
    assert len(after.m_g) == edges // 2
    assert (after.m_g > 1 - 2 * NOISE).all()


@pytest.mark.slow
def test_the_two_parts_alone() -> None:
    methods = (RethinkingGlt(most=8), RethinkingGlt(lam=0.0), WdGlt(most=8), RethinkingGlt(mode="wd", most=8))
    both, adversary_alone, auxiliary_alone, named = (m.solve(graph_problem()).row for m in methods)
    assert not torch.equal(both, adversary_alone)
    assert not torch.equal(both, auxiliary_alone)
    assert torch.equal(auxiliary_alone, named)


def test_ablations_by_hand() -> None:
    share = torch.tensor([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], dtype=torch.float64)
    logits = share.log()  # the third class is predicted for nobody
    p, q = [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]
    torch.testing.assert_close(class_means(logits), torch.tensor([p, q], dtype=torch.float64))
    both_ways = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert divergence_loss(logits).item() == pytest.approx(-both_ways)
    assert means_loss(logits).item() == pytest.approx(-sum((a - b) ** 2 for a, b in zip(p, q, strict=True)))
    assert entropy_loss(logits).item() == pytest.approx(-sum(s * math.log(s) for s in share.flatten().tolist()) / 3)


@pytest.mark.parametrize("loss", [divergence_loss, entropy_loss, means_loss])
def test_ablations_of_sure_or_like_outputs_are_finite(loss: Any) -> None:
    for logits in (torch.tensor([[500.0, 0.0], [0.0, 500.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])):
        logits.requires_grad_()
        value = loss(logits)
        value.backward()
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["wd", "kl", "entropy", "means"])
def test_an_ablation_takes_the_distances_place(name: Any) -> None:
    problem = graph_problem()
    model = problem.model()
    weights = {n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters()}
    edges = torch.ones(problem.graph.edges, dtype=torch.bool)
    one = Auxiliary(Replaced("wd", lam=0.5, most=8, loss=name), problem, model, edges, weights, Rung(1, 1))
    (view,) = problem.views(one.graph, 0)
    logits = one.logits(one.m_g, view).detach()
    draw = torch.Generator().manual_seed(problem.run.seed("wasserstein", 0))
    losses = {"kl": divergence_loss, "entropy": entropy_loss, "means": means_loss}
    part = losses[name](logits) if name in losses else wd_loss(logits, 1e-2, 10, 8, draw, 1e-12)
    torch.testing.assert_close(one.objective(logits, view, 0), problem.loss(logits, view) + 0.5 * part)
    assert WdGlt(auxiliary=name).auxiliary == name


def test_an_ablation_is_solved() -> None:
    ablated, whole = (WdGlt(auxiliary=name, most=8).solve(graph_problem()).row for name in ("kl", "wd"))
    assert not torch.equal(ablated, whole)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["minmax_perturb", "minmax_flip"])
def test_a_stopped_run_ends_alike(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_impls.parts.graph_training.EVERY", 4)
    method = RethinkingGlt(mode=mode, most=8)
    whole = method.solve(graph_problem())
    run = MemoryRun(graph_problem().spec, stop_after=31)
    with pytest.raises(Stopped):
        method.solve(graph_problem(run))
    resumed = method.solve(graph_problem(MemoryRun(run.spec, saved=run.saved)))
    assert torch.equal(whole.row, resumed.row)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
