"""UGS against the authors' own functions (ugs_*.npz), and what the sheet asks to be tested beside them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from reference_impls.graph_tickets.dense import Dense
from reference_impls.graph_tickets.magnitude import Magnitude
from reference_impls.graph_tickets.random_edges import RandomEdges
from reference_impls.graph_tickets.ugs import Ugs
from reference_impls.parts.graph_masks import (
    Rung,
    Search,
    add_subgradient,
    prune,
    prune_lowest,
    removed_index,
    rungs,
    soft_mask,
)
from suite.naming import UserError
from suite.protocol import Stopped
from tasks.graph_tickets.graph import Graph
from tasks.graph_tickets.models import Gcn
from tests.helpers import MemoryRun, golden_tensors, graph_problem


def test_masks_of_the_authors() -> None:
    z = golden_tensors("ugs_mask_select")
    assert int(z["adj_mask_train"].count_nonzero()) == z["n_adj_nonzero"]
    (edges,) = prune([z["adj_mask_train"]], z["adj_percent"])
    first, second = prune([z["w1_mask_train"], z["w2_mask_train"]], z["wei_percent"])
    for found, name in ((edges, "adj"), (first, "w1"), (second, "w2")):
        torch.testing.assert_close(found.float(), z[f"{name}_mask_out"])


def test_counts_over_twenty_rounds() -> None:
    z = golden_tensors("ugs_mask_select")
    for trace, p in ((z["cora_edge_trace"], 0.05), (z["cora_weight_trace"], 0.2)):
        left = [int(trace[0])]
        for _ in range(20):
            left.append(left[-1] - removed_index(left[-1], p) - 1)
        assert left == trace.tolist()
    scores = torch.rand(10556, generator=torch.Generator().manual_seed(0)) + 0.1
    for kept in golden_tensors("ugs_mask_select")["cora_edge_trace"][1:4].tolist():
        (mask,) = prune([scores], 0.05)
        scores = scores * mask
        assert int(mask.sum()) == kept


def test_ties_with_the_threshold_all_go() -> None:
    scores = torch.tensor([0.0, 0.5, 0.5, 0.5, -2.0, 1.0])
    assert prune_lowest([scores], 1)[0].tolist() == [False, False, False, False, True, True]
    assert prune_lowest([scores], -1)[0].tolist() == [False, True, True, True, True, True]
    assert not prune_lowest([scores], 5)[0].any()


def test_one_step_of_the_authors() -> None:
    z = golden_tensors("ugs_gcn_step")
    row, col = z["adj"].nonzero().t()
    graph = Graph(row, col, len(z["adj"]))
    model = Gcn(9, 6, 3).eval()
    m_g = z["adj_mask_train"][row, col].clone().requires_grad_()
    names = ["layers.0.weight", "layers.1.weight"]
    own = {n: z[f"w{i}"].clone().requires_grad_() for i, n in enumerate(names, 1)}
    masks = {n: z[f"w{i}_mask_train"].clone().requires_grad_() for i, n in enumerate(names, 1)}
    optimizer = torch.optim.Adam([*own.values(), *masks.values(), m_g], z["lr"], weight_decay=z["weight_decay"])
    effective = {n: own[n] * masks[n] * z[f"w{i}_mask_fixed"] for i, n in enumerate(names, 1)}
    logits = torch.func.functional_call(model, effective, (z["x"], graph, m_g * z["adj_mask_fixed"][row, col]))
    F.cross_entropy(logits[z["idx_train"]], z["y"][z["idx_train"]]).backward()
    add_subgradient(m_g, z["s1"])
    for m in masks.values():
        add_subgradient(m, z["s2"])
    torch.testing.assert_close(m_g.grad, z["gradl1_adj"][row, col], rtol=1e-5, atol=1e-6)
    for i, n in enumerate(names, 1):
        torch.testing.assert_close(masks[n].grad, z[f"gradl1_w{i}m"], rtol=1e-5, atol=1e-6)
    optimizer.step()
    torch.testing.assert_close(m_g.detach(), z["after_adj"][row, col], rtol=0, atol=3e-4)
    for i, n in enumerate(names, 1):
        torch.testing.assert_close(masks[n].detach(), z[f"after_w{i}m"], rtol=0, atol=3e-4)
        torch.testing.assert_close(own[n].detach(), z[f"after_w{i}"], rtol=0, atol=3e-4)


def search(problem: Any, keep: torch.Tensor | None = None, **settings: Any) -> Search:
    model = problem.model()
    own = dict(model.named_parameters())
    edges = torch.ones(problem.graph.edges, dtype=torch.bool) if keep is None else keep
    weights = {n: torch.ones_like(own[n], dtype=torch.bool) for n in model.prunable()}
    total = sum(w.numel() for w in weights.values())
    return Search(problem, model, edges, weights, Rung(int(edges.sum()) // 2, total // 2), **settings)


def test_noise_leaves_zeros_alone() -> None:
    hard = torch.tensor([1.0, 0.0, 1.0, 0.0])
    soft = soft_mask(hard, torch.tensor([0.0, 0.1, 1.0, 0.9]))
    assert soft[[1, 3]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(soft[[0, 2]], torch.tensor([1 - 1e-5, 1 + 1e-5]))


def test_noise_of_an_edge_is_the_same_in_every_round() -> None:
    problem = graph_problem()
    keep = torch.arange(problem.graph.edges) % 3 > 0
    torch.testing.assert_close(search(problem, keep).m_g, search(problem).m_g[keep])


def test_masks_are_of_the_best_validation_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = graph_problem()
    one = search(problem, s1=0.01, s2=0.01)
    told = iter([0.3, 0.6, 0.6, 0.5])
    monkeypatch.setattr(type(problem), "accuracy", lambda *_: next(told))
    kept = []
    for epoch in range(4):
        torch.manual_seed(epoch)
        one.step(epoch)
        one.judge(epoch)
        assert one.kept is not None
        kept.append(one.kept["edges"])
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(kept[1], kept[2])  # equal is not better
    assert torch.equal(one.outcome()["edges"], kept[1])
    assert one.outcome()["val"] == 0.6


def test_the_penalty_acts_on_a_soft_mask_whose_hard_mask_is_zero() -> None:
    problem = graph_problem()
    one = search(problem, s2=0.01)
    name = one.model.prunable()[0]
    one.hard[name][0] = False
    with torch.no_grad():
        one.m_theta[name][0] = 0.5
        one.m_theta[name][0, 0] = -0.5
    (view,) = problem.views(one.graph, 0)
    one.objective(one.logits(one.m_g, view), view, 0).backward()
    one.penalise()
    assert one.m_theta[name].grad is not None
    expected = torch.full_like(one.m_theta[name][0], 0.01).detach()
    expected[0] = -0.01
    torch.testing.assert_close(one.m_theta[name].grad[0], expected)


def test_a_negative_row_sum_is_counted() -> None:
    one = search(graph_problem())
    one.judge(0)
    assert one.outcome()["notes"]["clamped_degrees"] == 0
    with torch.no_grad():
        one.m_g[one.graph.row == one.graph.row[0]] = -3.0
    one.judge(1)
    assert one.outcome()["notes"]["clamped_degrees"] == 1


def test_noted_zeros_are_of_the_masks_that_were_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    one = search(graph_problem())
    told = iter([0.6, 0.5])
    monkeypatch.setattr(type(one.problem), "accuracy", lambda *_: next(told))
    for epoch, zeros in enumerate((2, 7)):
        with torch.no_grad():
            one.m_g[:zeros] = 0
        one.judge(epoch)
    assert one.outcome()["notes"]["zeros"] == 2


def test_a_search_may_be_shorter_than_a_training() -> None:
    problem = graph_problem()
    problem.search_epochs = 3
    Ugs().solve(problem)
    assert problem.run.examples == 100 * (3 + 3 + 10)  # two rounds and the last training
    problem = graph_problem(target="weights=0.5")
    problem.search_epochs = 3
    Magnitude().solve(problem)  # whose rounds are no searches
    assert problem.run.examples == 100 * 10 * 3


def test_removed_edges_get_no_score_and_pruned_weights_stay_zero() -> None:
    problem = graph_problem()
    one = search(problem, s1=0.01, s2=0.01)
    name = one.model.prunable()[0]
    one.hard[name][0] = False
    with torch.no_grad():
        one.m_theta[name][0] = 0
    for epoch in range(3):
        one.step(epoch)
    assert (one.m_theta[name][0] == 0).all()
    assert (one.m_theta[name][1] != 1).any()


@pytest.mark.parametrize("architecture", ["gcn", "gin", "gat"])
def test_legacy_differs_from_remove_where_the_original_does(architecture: str) -> None:
    problem = graph_problem(case=f"sbm/{architecture}")
    keep = torch.arange(problem.graph.edges) % 2 > 0
    logits = {}
    for algebra in ("remove", "legacy"):
        one = search(problem, keep, algebra=algebra)
        one.model.eval()
        logits[algebra] = one.logits(one.m_g).detach()
    assert torch.allclose(logits["remove"], logits["legacy"], atol=1e-5) == (architecture == "gcn")


def test_symmetric_masks_lose_both_directions() -> None:
    problem = graph_problem()
    one = search(problem, symmetric=True, s1=0.01)
    for epoch in range(3):
        one.step(epoch)
    kept = one.masks()["edges"]
    assert torch.equal(kept, kept[problem.graph.reverse])
    assert int(kept.sum()) == pytest.approx(problem.graph.edges / 2, rel=0.02)


def test_ladder_meets_the_target() -> None:
    problem = graph_problem(tier="small", case="cora/gcn", target="edges=0.1,weights=0.25")
    ladder = rungs(problem, 0.1, 0.25, 10556, 92160)
    assert len(ladder) == 10
    assert ladder[-1] == Rung(1056, 23040)
    left = [10556, *(r.edges for r in ladder)]
    assert all(0.19 < 1 - b / a < 0.22 for a, b in itertools.pairwise(left))


def test_every_round_starts_from_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    made = Search.__init__

    def spy(self: Search, problem: Any, model: Any, *rest: Any, **settings: Any) -> None:
        seen.append(model.state_dict()["layers.0.weight"].clone())
        made(self, problem, model, *rest, **settings)

    monkeypatch.setattr(Search, "__init__", spy)
    Ugs().solve(graph_problem(target="edges=0.3,weights=0.3"))
    assert len(seen) > 2
    assert all(torch.equal(seen[0], s) for s in seen)


def kept(problem: Any, solution: Any) -> tuple[float, float]:
    from tasks.graph_tickets.task import kept_weights

    alive, total = kept_weights(solution.model)
    return len(solution.row) / problem.graph.edges, alive / total


@pytest.mark.parametrize(
    ("method", "target", "edges", "weights"),
    [
        (Ugs(), "edges=0.5,weights=0.5", 0.5, 0.5),
        (Ugs(), "edges=0.5", 0.5, 1.0),
        (Ugs(), "weights=0.5", 1.0, 0.5),
        (Ugs(weights="redrawn"), "edges=0.5", 0.5, 1.0),
        (RandomEdges(), "edges=0.5,weights=0.2", 0.5, 0.2),
        (Magnitude(), "weights=0.3", 1.0, 0.3),
        (Dense(), "", 1.0, 1.0),
    ],
)
def test_targets_are_met(method: Any, target: str, edges: float, weights: float) -> None:
    problem = graph_problem(target=target)
    assert kept(problem, method.solve(problem)) == (pytest.approx(edges, rel=0.01), pytest.approx(weights, rel=0.01))


@pytest.mark.parametrize(
    ("method", "target"),
    [(Ugs(), ""), (Ugs(), "macs=0.5"), (Ugs(), "edges=1.5"), (Magnitude(), "edges=0.5"), (Magnitude(), "edges=0.5,weights=0.5")],
)
def test_targets_that_cannot_be_met_are_told(method: Any, target: str) -> None:
    with pytest.raises(UserError, match="target"):
        method.solve(graph_problem(target=target))


@pytest.mark.parametrize("method", [Ugs(), Magnitude()])
def test_a_stopped_run_ends_alike(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_impls.parts.graph_training.EVERY", 4)
    target = "weights=0.4" if isinstance(method, Magnitude) else "edges=0.4,weights=0.4"
    whole = method.solve(graph_problem(target=target))
    run = MemoryRun(graph_problem(target=target).spec, stop_after=17)
    with pytest.raises(Stopped):
        method.solve(graph_problem(run, target=target))
    again = MemoryRun(run.spec, saved=run.saved)
    resumed = method.solve(graph_problem(again, target=target))
    assert torch.equal(whole.row, resumed.row)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_speed_division_yields_the_shapes() -> None:
    problem = graph_problem(division="speed")
    assert kept(problem, Ugs().solve(problem)) == (pytest.approx(0.5, rel=0.02), pytest.approx(0.5, rel=0.02))
    assert problem.run.examples == 0


def test_sampled_training_meets_every_labelled_node_once_an_epoch() -> None:
    problem = graph_problem()
    problem.batch = 30
    found = Ugs().solve(problem)
    assert kept(problem, found) == (pytest.approx(0.5, rel=0.01), pytest.approx(0.5, rel=0.01))
    assert problem.run.examples == 100 * 10 * 3
    assert problem.run.batches == 4 * 10 * 3
