"""Sparsifiers against the originals' functions (graph_baselines_*.npz), independent libraries and what must hold of any."""

from __future__ import annotations

from typing import Any

import networkx
import numpy as np
import pytest
import torch
from scipy import sparse

from reference_impls.graph_tickets.backbone import Backbone
from reference_impls.graph_tickets.degree import Degree, degree_scores
from reference_impls.graph_tickets.dglt import Dglt, Fade
from reference_impls.graph_tickets.dropedge import Dropedge, Sampled, normalised, sample_entries
from reference_impls.graph_tickets.effective_resistance import EffectiveResistance
from reference_impls.graph_tickets.gebt import CoTrain, Gebt, mask_distance
from reference_impls.graph_tickets.jaccard import Jaccard, cosine, local_keep
from reference_impls.graph_tickets.random_edges import RandomEdges
from reference_impls.graph_tickets.sgcn import Admm, Sgcn
from reference_impls.graph_tickets.spectral import Spectral, first_distinct, first_meetings, weights_of_draws
from reference_impls.graph_tickets.teddy import Teddy, edge_scores, keep_scored, project
from reference_impls.graph_tickets.transfer import Transfer
from reference_impls.parts.graph_adjacency import prune_adjacency
from reference_impls.parts.graph_sparsifiers import (
    Pairs,
    _projected,
    effective_resistance,
    jaccard,
    keep_highest,
    local_rank,
    spanning_forest,
)
from suite import registry
from suite.naming import UserError
from suite.protocol import Stopped
from tasks.graph_tickets import data
from tasks.graph_tickets.deploy import deploy
from tasks.graph_tickets.graph import Graph, features
from tasks.graph_tickets.sampling import sample
from tasks.graph_tickets.task import View, kept_weights
from tests.helpers import MemoryRun, golden, graph_problem


def graph_of(edges: np.ndarray, nodes: int) -> Graph:
    row, col = data.simple(edges, nodes)
    return Graph(torch.from_numpy(row), torch.from_numpy(col), nodes)


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(0))


def test_teddy_of_the_authors() -> None:
    z = golden("graph_baselines_teddy")
    graph = Graph(torch.from_numpy(z["row"]), torch.from_numpy(z["col"]), int(z["n"]))
    scores = edge_scores(graph)
    np.testing.assert_allclose(scores, z["edge_score"], rtol=1e-5, atol=1e-6)
    keep = keep_scored(graph, scores, float(z["adj_percent"]))
    np.testing.assert_array_equal(keep.numpy(), z["mask"].astype(bool))


def test_teddy_lifts_self_loops_for_the_ranking_alone() -> None:
    graph = Graph(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 0, 2, 1]), 4)
    scores = edge_scores(graph)
    assert scores[0] < scores.max()
    keep = keep_scored(graph, scores, 0.4)
    assert keep[0]
    assert int(keep.sum()) == 3


def test_teddy_projects_exactly() -> None:
    model = graph_problem().model()
    project(model, 0.7)
    alive, total = kept_weights(model)
    assert total - alive == int(np.ceil(total * 0.7))


def test_adjacency_pruning_of_the_authors() -> None:
    z = golden("graph_baselines_gebt_prune_adj")
    lower = np.tril(z["adj"], -1)
    row, col = np.nonzero(lower)
    keep = prune_adjacency(lower[row, col], float(z["percent"]))
    found = np.zeros_like(lower)
    found[row[keep], col[keep]] = lower[row[keep], col[keep]]
    np.testing.assert_allclose(found + found.T + np.eye(len(found)), z["pruned"])


def test_adjacency_pruning_of_equal_values_takes_the_first() -> None:
    assert prune_adjacency(np.ones(5), 40).tolist() == [False, False, True, True, True]
    assert prune_adjacency(np.array([1.0, -1.0, 1.0, 1.0, 1.0]), 20).tolist() == [True, False, True, True, True]


def test_early_bird_stops_when_masks_settle() -> None:
    problem = graph_problem()
    one = CoTrain(Gebt(), problem, 0.5, 0.5)
    one.distances = [0.05, 0.05]
    assert not one.done()
    one.distances = [0.05, 0.05, 0.2]
    assert not one.done()
    one.distances = [0.05, 0.05, 0.05]
    assert one.done()
    masks = one.masks
    flipped = (~masks[0], {n: ~m for n, m in masks[1].items()})
    assert mask_distance(masks, masks) == 0
    assert mask_distance(masks, flipped) == 2


def test_the_penalty_draws_the_adjacency_to_its_pruned_copy() -> None:
    problem = graph_problem()
    one = Admm(Sgcn(rho=10.0), problem, problem.model(), 50)
    with torch.no_grad():
        one.adjacency.copy_(torch.linspace(0.5, 1.5, len(one.adjacency)))
    values = one.adjacency.detach().clone()
    assert torch.equal(one.z, torch.ones_like(values))  # the whole graph, before the first turn
    one.turn()
    kept = torch.from_numpy(prune_adjacency(values.numpy(), 50))
    assert torch.equal(one.z, values * kept)
    assert torch.equal(one.u, values * ~kept)  # A - I - Z, from zero
    gradient = torch.zeros_like(values)
    one.pull(gradient)
    torch.testing.assert_close(gradient, 10 * (values - one.z + one.u))
    before = {n: p.detach().clone() for n, p in one.model.named_parameters()}
    for epoch in range(5):
        one.step(epoch)
    assert (one.adjacency[~kept] < values[~kept]).all()  # on its way to zero
    assert all(torch.equal(p, before[n]) for n, p in one.model.named_parameters())


def test_a_value_of_the_adjacency_gets_the_mean_gradient_of_its_entries() -> None:
    problem = graph_problem()
    one = Admm(Sgcn(), problem, problem.model(), 50)
    one.model.eval()
    graph = problem.graph
    entries = torch.ones(2, graph.edges, requires_grad=True)
    operator = [one.model.operator(graph, e)[i] for i, e in enumerate(entries)]  # a matrix for each layer
    view = View(problem.train, problem.y[problem.train])
    (g,) = torch.autograd.grad(problem.loss(one.model(problem.x, graph, operator=operator), view), entries)
    mean = (g + g[:, graph.reverse]).sum(0) / 4
    one.model.train = lambda *_: one.model  # type: ignore[method-assign, assignment]  # no dropout in this comparison
    one.pull = lambda gradient: None  # type: ignore[method-assign]
    one.step(0)
    torch.testing.assert_close(one.adjacency.grad[one.pair], mean, rtol=1e-4, atol=1e-9)  # type: ignore[index]


@pytest.mark.slow
def test_edges_keep_their_values_to_the_end() -> None:
    problem = graph_problem(target="edges=0.4")
    for method in (Sgcn(), Spectral(weighted=True)):
        found = method.solve(problem)
        assert found.values is not None
        assert found.values.unique().numel() > 10
        graph = Graph(found.row, found.col, 600, found.values)
        assert torch.equal(found.values, found.values[graph.reverse])
        model = found.model.eval()
        table = graph_table(graph) + torch.eye(600)
        root = table.sum(1).rsqrt()
        operator = root[:, None] * table * root
        first, second = (layer.weight for layer in model.layers)  # type: ignore[union-attr]
        expected = operator @ ((operator @ (problem.x @ first.t())).relu() @ second.t())
        call, _ = deploy(model, graph, problem.x)
        torch.testing.assert_close(call(), expected, rtol=1e-3, atol=1e-4)
        test = data.load("sbm", "").split["test"]
        evidence = registry.task("graph_tickets").examine(problem, found)
        assert (evidence["prediction"] == expected.argmax(1).numpy()[test]).mean() > 0.99  # but for ties by rounding
    with pytest.raises(UserError, match="weighted=false"):
        Sgcn().solve(graph_problem(target="edges=0.4", case="sbm/gat"))
    assert Sgcn(weighted=False).solve(graph_problem(target="edges=0.4", case="sbm/gat")).values is None


def graph_table(graph: Graph) -> torch.Tensor:
    """Dense, (n, n)."""
    values = torch.ones(graph.edges) if graph.values is None else graph.values
    return torch.zeros(graph.nodes, graph.nodes).index_put((graph.row, graph.col), values)


@pytest.mark.parametrize("operator", ["AugNormAdj", "BingGeNormAdj", "FirstOrderGCN"])
def test_dropedge_of_the_authors(operator: str) -> None:
    z = golden("graph_baselines_dropedge")
    state = np.random.RandomState(int(z["numpy_legacy_seed"]))
    chosen = sample_entries(len(z["row"]), float(z["keep_percent"]), state)
    row, col = (torch.from_numpy(z[k][chosen]).long() for k in ("row", "col"))
    found = normalised(Graph(row, col, int(z["n"])), operator).to_dense()
    np.testing.assert_allclose(found, z[operator], rtol=1e-5, atol=1e-6)


def test_resistance_and_jaccard_of_networkx() -> None:
    z = golden("graph_baselines_effective_resistance")
    pairs = Pairs.of(graph_of(z["edges"], int(z["n"])))
    order = np.lexsort((z["edges"][:, 1], z["edges"][:, 0]))
    found = effective_resistance(pairs)
    np.testing.assert_allclose(found, z["effective_resistance"][order], rtol=1e-9)
    assert found.sum() == pytest.approx(int(z["n"]) - int(z["n_components"]), rel=1e-9)
    np.testing.assert_allclose(jaccard(pairs), z["jaccard"][order], rtol=1e-9)
    np.testing.assert_array_equal(pairs.degree(), z["degree"])


def test_cosine_of_tables_sparse_rows_and_nothing() -> None:
    pairs = Pairs.of(graph_of(np.array([[0, 1], [0, 2], [1, 2], [2, 3]]), 4))
    table = np.array([[3, 4, 0], [6, 8, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    for x in (table, sparse.csr_matrix(table)):
        np.testing.assert_allclose(cosine(pairs, features(x)), [1.0, 0.8, 0.8, 0.0], rtol=1e-9)
    np.testing.assert_allclose(cosine(pairs, features(table * [[1], [-1], [1], [1]])), [-1.0, 0.8, -0.8, 0.0], rtol=1e-9)


def test_foster_over_components_and_isolated_nodes() -> None:
    drawn = networkx.gnm_random_graph(60, 55, seed=1)
    pairs = Pairs.of(graph_of(np.array(drawn.edges), 60))
    found = effective_resistance(pairs)
    assert found.sum() == pytest.approx(60 - networkx.number_connected_components(drawn), rel=1e-9)
    bridges = {tuple(sorted(b)) for b in networkx.bridges(drawn)}
    is_bridge = np.array([(u, v) in bridges for u, v in zip(pairs.u.tolist(), pairs.v.tolist(), strict=True)])
    np.testing.assert_allclose(found[is_bridge], 1.0, rtol=1e-9)
    assert (found[~is_bridge] < 1 - 1e-6).all()


def test_projected_resistances_are_near_the_exact_ones() -> None:
    pairs = Pairs.of(graph_of(np.array(networkx.connected_watts_strogatz_graph(80, 6, 0.3, seed=0).edges), 80))
    near = _projected(pairs.u, pairs.v, 80, eps=0.3, seed=0)
    exact = effective_resistance(pairs)
    assert np.abs(near / exact - 1).max() < 0.3


def test_degree_scores_by_hand() -> None:
    # a star of four leaves with one edge between two of them
    pairs = Pairs.of(graph_of(np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2]]), 5))
    assert degree_scores(pairs, "product", rng()).tolist() == [8, 8, 4, 4, 4]
    assert degree_scores(pairs, "inverse", rng()).tolist() == [0.75, 0.75, 1.25, 1.25, 1.0]
    # each leaf's best neighbour is the hub; 1-2 is second at both ends
    local = degree_scores(pairs, "local", rng())
    assert local.tolist() == [0, 0, 0, 0, -1]
    kept = keep_highest(local, 2, rng())
    assert kept.sum() == 2
    assert not kept[4]


def test_local_ranks_are_complete() -> None:
    pairs = Pairs.of(graph_problem().graph)
    ranks = local_rank(pairs, np.stack([pairs.degree()[pairs.v], pairs.degree()[pairs.u]]), rng())
    for node in range(0, 600, 37):
        own = np.r_[ranks[0][pairs.u == node], ranks[1][pairs.v == node]]
        assert sorted(own) == list(range(len(own)))


def test_local_similarity_stays_within_the_budget_and_serves_every_node() -> None:
    pairs = Pairs.of(graph_problem().graph)
    scores = jaccard(pairs)
    kept = local_keep(pairs, scores, int(0.7 * len(pairs)), rng())
    assert kept.sum() <= 0.7 * len(pairs)
    reached = np.zeros(600, bool)
    reached[pairs.u[kept]] = reached[pairs.v[kept]] = True
    assert reached[pairs.degree() > 0].all()


def test_forest_spans() -> None:
    pairs = Pairs.of(graph_problem().graph)
    forest = spanning_forest(pairs, 1 + rng().random(len(pairs)))
    whole, tree = networkx.Graph(), networkx.Graph()
    whole.add_nodes_from(range(600))
    tree.add_nodes_from(range(600))
    whole.add_edges_from(zip(pairs.u, pairs.v, strict=True))
    tree.add_edges_from(zip(pairs.u[forest], pairs.v[forest], strict=True))
    assert networkx.is_forest(tree)
    assert networkx.number_connected_components(tree) == networkx.number_connected_components(whole)


def test_first_distinct_outcomes_have_the_draws_probabilities() -> None:
    probability = np.array([0.5, 0.3, 0.2])
    stream = rng()
    first = np.mean([first_distinct(first_meetings(probability, stream), 1) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(first, probability, atol=0.03)
    assert first_distinct(first_meetings(probability, stream), 2).sum() == 2


def test_weights_of_draws_are_those_of_drawing_one_by_one() -> None:
    probability = np.array([0.5, 0.3, 0.15, 0.05])
    stream = rng()

    def at_once() -> np.ndarray:
        clock = first_meetings(probability, stream)
        return weights_of_draws(probability, clock, first_distinct(clock, 3), stream)

    def one_by_one() -> np.ndarray:
        times = np.zeros(4)
        while (times > 0).sum() < 3:
            times[stream.choice(4, p=probability)] += 1
        return times / (times.sum() * probability)

    drawn = at_once()
    assert (drawn > 0).sum() == 3
    assert (drawn * probability).sum() == pytest.approx(1)  # the shares of all draws
    means = [np.mean([draw() for _ in range(4000)], axis=0) for draw in (at_once, one_by_one)]
    np.testing.assert_allclose(*means, rtol=0.08)


ALL = [
    RandomEdges(),
    Degree(),
    Degree("product"),
    Degree("local"),
    Jaccard(),
    Jaccard("local"),
    Jaccard(score="cosine"),
    Jaccard("local", "cosine"),
    EffectiveResistance(),
    Spectral(),
    Spectral(weighted=True),
    Backbone(),
    Teddy(),
    Gebt(),
    Sgcn(),
    Sgcn(weighted=False),
    Dglt(),
]


@pytest.mark.parametrize("method", ALL, ids=str)
def test_targets_are_met(method: Any) -> None:
    problem = graph_problem(target="edges=0.4,weights=0.6")
    found = method.solve(problem)
    alive, total = kept_weights(found.model)
    assert len(found.row) / problem.graph.edges == pytest.approx(0.4, rel=0.01)
    assert alive / total == pytest.approx(0.6, rel=0.01)
    if not isinstance(method, RandomEdges | Teddy | Dglt):
        assert (Graph(found.row, found.col, 600).reverse != torch.arange(len(found.row))).all()  # both directions left together


def test_similarity_keeps_noise_less_often_than_edges_within_blocks() -> None:
    problem = graph_problem(target="edges=0.5")
    found = Jaccard().solve(problem)
    y = data.load("sbm", "").y
    kept = set(zip(found.row.tolist(), found.col.tolist(), strict=True))
    of_noise = np.mean([(u, v) in kept for u, v in data.noise_edges().tolist()])
    listed = zip(problem.graph.row.tolist(), problem.graph.col.tolist(), strict=True)
    of_blocks = np.mean([(u, v) in kept for u, v in listed if y[u] == y[v]])
    assert 0 < of_noise < of_blocks < 1


def test_the_penalty_fades_what_lies_outside_the_ticket() -> None:
    problem = graph_problem()
    keep = torch.arange(problem.graph.edges) % 2 > 0
    masks = {n: torch.arange(p.numel()).view(p.shape) % 2 > 0 for n, p in problem.model().named_parameters()}
    one = Fade(Dglt(delta=1.0), problem, keep, masks)
    before = one.left()
    for epoch in range(100):
        one.step(epoch % 10)
    assert one.left() < 0.5 * before


def test_dropedge_trains_on_samples_and_deploys_the_whole_graph() -> None:
    problem = graph_problem(target="edges=1")
    found = Dropedge().solve(problem)
    assert len(found.row) == problem.graph.edges
    dense = registry.load(registry.method("graph_tickets", "dense"))().solve(graph_problem(target=""))
    assert not torch.equal(found.model.layers[0].weight, dense.model.layers[0].weight)
    with pytest.raises(UserError, match="does not prune edges"):
        Dropedge().solve(graph_problem(target="edges=0.5"))


def test_dropedge_multiplies_by_the_sampled_matrix_as_it_stands() -> None:
    problem = graph_problem(target="edges=1")
    one = Sampled(Dropedge(), problem)
    one.model.eval()
    graph = one.training_graph(0)  # a message runs from row to col, so this is the sample turned round
    operator = normalised(Graph(graph.col, graph.row, graph.nodes), "AugNormAdj")
    assert not torch.equal(operator.to_dense(), operator.to_dense().t())
    first, second = (layer.weight for layer in one.model.layers)  # type: ignore[union-attr]
    expected = operator @ ((operator @ (problem.x @ first.t())).relu() @ second.t())
    torch.testing.assert_close(one.logits(graph, View(problem.train, problem.y)), expected, rtol=1e-4, atol=1e-5)
    seeds = torch.arange(0, 600, 50)
    drawn = sample(graph, seeds, torch.Generator().manual_seed(0), fanout=(1000, 1000))
    found = one.logits(graph, View(problem.train, problem.y, drawn))[: len(seeds)]
    torch.testing.assert_close(found, expected[seeds], rtol=1e-4, atol=1e-5)


def test_dropedge_of_links_keeps_the_predictor() -> None:
    problem = graph_problem(case="sbm-links/gcn", target="edges=1")
    one = Sampled(Dropedge(), problem)
    graph = one.training_graph(0)
    (view,) = problem.views(graph, 0)
    assert problem.loss(one.logits(graph, view), view).isfinite()


def test_edges_move_between_networks() -> None:
    problem = graph_problem(target="edges=0.5", case="sbm/gcn")
    found = Transfer(source="sbm/gin").solve(problem)
    assert len(found.row) == pytest.approx(problem.graph.edges / 2, rel=0.01)
    own = registry.load(registry.method("graph_tickets", "ugs"))().solve(graph_problem(target="edges=0.5"))
    assert not torch.equal(found.row, own.row)


@pytest.mark.parametrize("arm", ["ticket", "scratch", "dense", "dense_scratch", "random"])
def test_weights_move_between_graphs(arm: Any) -> None:
    problem = graph_problem(target="weights=0.5", case="sbm-128/gcn")
    found = Transfer(source="cora-128/gcn", arm=arm).solve(problem)
    alive, total = kept_weights(found.model)
    assert alive / total == pytest.approx(1 if arm.startswith("dense") else 0.5, rel=0.01)
    assert (found.model.layers[1].weight != 0).all()  # five classes, not seven: a new layer


def test_a_ticket_from_scratch_starts_from_the_sources_initial_weights() -> None:
    problem = graph_problem(target="weights=0.5", case="sbm-128/gat", division="speed")  # nothing is trained
    own = dict(Transfer(source="cora-128/gat", arm="scratch").solve(problem).model.named_parameters())
    source, fresh = (dict(p.model().named_parameters()) for p in (problem.other("cora-128/gat"), problem))
    for name in ("fc.0", "attention.0"):
        kept = own[name] != 0
        assert torch.equal(own[name][kept], source[name][kept])
    assert not torch.equal(source["attention.0"], fresh["attention.0"])  # drawn after a layer that is as wide as there are classes
    assert torch.equal(own["fc.1"], fresh["fc.1"])


def test_transfers_that_cannot_be_are_told() -> None:
    with pytest.raises(UserError, match="edges alone move"):
        Transfer(source="sbm/gin").solve(graph_problem())
    with pytest.raises(UserError, match="width of features"):
        Transfer(source="cora/gcn").solve(graph_problem(target="weights=0.5"))
    with pytest.raises(UserError, match="layers that do not move"):
        Transfer(source="cora-128/gcn").solve(graph_problem(target="weights=0.01", case="sbm-128/gcn"))


@pytest.mark.parametrize("method", [Gebt(), Sgcn(), Teddy(), Dglt(), Transfer(source="sbm/gin"), Dropedge()], ids=str)
def test_a_stopped_run_ends_alike(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_impls.parts.graph_training.EVERY", 4)
    target = {Transfer: "edges=0.5", Dropedge: "edges=1"}.get(type(method), "edges=0.5,weights=0.5")
    whole = method.solve(graph_problem(target=target))
    run = MemoryRun(graph_problem(target=target).spec, stop_after=7)
    with pytest.raises(Stopped):
        method.solve(graph_problem(run, target=target))
    resumed = method.solve(graph_problem(MemoryRun(run.spec, saved=run.saved), target=target))
    assert torch.equal(whole.row, resumed.row)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
