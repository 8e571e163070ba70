"""Link prediction: what is split and drawn, areas and hits beside plain loops, and tickets from training to a score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from suite import registry
from suite.naming import UserError
from tasks.graph_tickets import data, link_data
from tasks.graph_tickets.graph import Graph
from tasks.graph_tickets.link_models import Hadamard, LinkDeeperGcn, Predictor
from tasks.graph_tickets.metrics import areas, hits, hits_at, roc_auc
from tasks.graph_tickets.models import TRAINING
from tasks.graph_tickets.task import Ticket
from tests.helpers import MemoryRun, graph_problem

CARD = registry.task("graph_tickets").of("cora-links/gcn")
CASE = "sbm-links/gcn"  # a graph that is generated and small


def numbers(pairs: np.ndarray, nodes: int) -> set[int]:
    return {min(u, v) * nodes + max(u, v) for u, v in pairs.tolist()}


# -- the split


@pytest.fixture(scope="module")
def cora() -> link_data.LinkData:
    return link_data.load("cora-links", "")


def test_the_split_is_of_all_edges_and_of_nothing_else(cora: link_data.LinkData) -> None:
    whole = data.load("cora", "")
    parts = {p: numbers(e, cora.nodes) for p, e in cora.positive.items()}
    assert {p: len(e) for p, e in parts.items()} == {"test": 527, "val": 263, "train": 4488}
    assert set.union(*parts.values()) == numbers(np.stack([whole.row, whole.col], 1), cora.nodes)
    assert sum(len(e) for e in parts.values()) == 5278


def test_messages_hold_training_edges_alone_in_both_directions(cora: link_data.LinkData) -> None:
    entries = np.stack([cora.row, cora.col], 1)
    assert numbers(entries, cora.nodes) == numbers(cora.positive["train"], cora.nodes)
    assert len(entries) == 2 * 4488
    assert not numbers(entries, cora.nodes) & numbers(cora.positive["test"], cora.nodes)


def test_no_negative_is_an_edge_or_stands_twice(cora: link_data.LinkData) -> None:
    whole = data.load("cora", "")
    edges = numbers(np.stack([whole.row, whole.col], 1), cora.nodes)
    drawn = np.concatenate([cora.negative["test"], cora.negative["val"]])
    assert (drawn[:, 0] < drawn[:, 1]).all()
    assert len(numbers(drawn, cora.nodes)) == len(drawn) == 527 + 263
    assert not numbers(drawn, cora.nodes) & edges


def test_the_split_is_no_runs(cora: link_data.LinkData) -> None:
    first, second = (graph_problem(case=CASE, seed=seed) for seed in (0, 1))
    assert torch.equal(first.train, second.train)
    assert torch.equal(first.val, second.val)
    assert torch.equal(first.graph.row, second.graph.row)
    again = link_data.split_edges(data.load("cora", ""))
    np.testing.assert_array_equal(again.negative["test"], cora.negative["test"])


def test_training_negatives_are_of_the_run_and_the_epoch() -> None:
    def drawn(seed: int, epoch: int) -> np.ndarray:
        problem = graph_problem(case=CASE, seed=seed)
        (view,) = problem.views(problem.graph, epoch)
        assert view.labels.tolist() == [1.0] * len(problem.train) + [0.0] * len(problem.train)
        assert torch.equal(view.train[: len(problem.train)], problem.train)
        negative = np.asarray(view.train[len(problem.train) :])
        assert not numbers(negative, 600) & numbers(np.asarray(problem.train), 600)
        return negative

    np.testing.assert_array_equal(drawn(0, 0), drawn(0, 0))
    assert (drawn(0, 0) != drawn(0, 1)).any()
    assert (drawn(0, 0) != drawn(1, 0)).any()


def test_large_sets_are_met_in_steps_and_each_edge_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.graph_tickets import link_task

    monkeypatch.setattr(link_task, "PAIRS", 500)
    problem = graph_problem(case=CASE)
    views = list(problem.views(problem.graph, 0))
    met = torch.cat([v.train[v.labels == 1] for v in views])
    assert len(views) == math.ceil(len(problem.train) / 500)
    assert numbers(np.asarray(met), 600) == numbers(np.asarray(problem.train), 600)
    assert problem.run.examples == len(problem.train)
    # on a graph that does not fit, places are those of the sample
    problem.batch = 1
    (view, *_) = problem.views(problem.graph, 0)
    assert view.sample is not None
    model = problem.model().eval()
    scores = model(problem.x, problem.graph, sample=view.sample).scores(view.train)
    assert scores.shape == view.labels.shape
    there = view.sample.nodes[view.train[view.labels == 1]]
    assert numbers(np.asarray(there), 600) <= numbers(np.asarray(problem.train), 600)


def test_non_edges_of_a_nearly_complete_graph() -> None:
    every = np.array([(u, v) for u in range(6) for v in range(u + 1, 6)])
    taken = link_data.keys(every[2:, ::-1], 6)  # (0, 1) and (0, 2) are free
    rng = np.random.Generator(np.random.Philox(0))
    assert numbers(link_data.non_edges(6, taken, 2, rng, distinct=True), 6) == {1, 2}
    assert numbers(link_data.non_edges(6, taken, 50, rng), 6) == {1, 2}
    with pytest.raises(UserError, match="too dense"):
        link_data.non_edges(6, taken, 3, rng, distinct=True)
    with pytest.raises(UserError, match="too few to split"):
        link_data.split_edges(data.make("tiny", every, np.eye(6), np.arange(6), {p: [i] for i, p in enumerate(data.SPLITS)}))


# -- measures


def drawn_scores(seed: int = 0, edges: int = 40, others: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat([1, 0], [edges, others])
    return label, np.round(rng.normal(label * 0.8, 1.0), 1)  # rounded: many ties


def delong(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Area and its variance by the definition, pair by pair (DeLong et al. 1988)."""
    wins = np.array([[1.0 if p > n else 0.5 if p == n else 0.0 for n in negative] for p in positive])
    return wins.mean(), wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative)


def test_areas_beside_delongs_definition() -> None:
    label, score = drawn_scores()
    area, moved = areas(label[:, None].astype(float), score[:, None])
    expected, variance = delong(score[label == 1], score[label == 0])
    assert area[0] == pytest.approx(expected, rel=1e-12)
    assert (moved**2).sum() == pytest.approx(variance, rel=1e-12)
    assert roc_auc(label[:, None].astype(float), score[:, None]) == pytest.approx(expected, rel=1e-12)


def test_areas_by_hand_and_without_a_class() -> None:
    label = np.array([[1, 1], [0, 1], [1, np.nan], [0, 1.0]])
    area, moved = areas(label, np.repeat([[3.0], [2.0], [2.0], [1.0]], 2, 1))
    assert area[0] == (1 + 1 + 0.5 + 1) / 4
    assert math.isnan(area[1])
    assert not moved[:, 1].any()


def test_hits_count_ties_as_misses() -> None:
    negative = np.arange(100.0)
    positive = np.array([49.0, 50.0, 50.5, 99.0])  # the 50th largest negative is 50
    assert hits(50, positive, negative).tolist() == [False, False, True, True]
    assert hits_at(50, positive, negative) == 0.5
    assert hits_at(50, positive, np.zeros(49)) == 1.0


def evidence(card: Any = CARD, seed: int = 0) -> dict[str, np.ndarray]:
    label, score = drawn_scores(seed, 90, 120)
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, 50, (2, len(label)))
    columns = {"row": np.arange(len(label)), "source": ends[0], "target": ends[1], "label": label, "score": score}
    degree = rng.integers(0, 9, len(label))
    return {k: {**columns, "degree": degree}[k].astype(kind) for k, kind in card.columns.items()}


@pytest.mark.parametrize("case", ["cora-links/gcn", "ogbl-collab/gcn256"])
def test_scores_beside_plain_loops(case: str) -> None:
    card = registry.task("graph_tickets").of(case)
    spec = graph_problem().spec
    rows = evidence(card)
    found = {m.name: m for m in card.score(spec, rows)}
    there, other = rows["score"][rows["label"] == 1], rows["score"][rows["label"] == 0]
    degree = np.sort(rows["degree"][rows["label"] == 1])
    low, high = degree[29], degree[59]  # of 90: the thirds' ends
    groups = {"low": there[rows["degree"][rows["label"] == 1] <= low], "high": there[rows["degree"][rows["label"] == 1] >= high]}
    bar = np.sort(other)[-50]
    share = {k: 100 * np.mean([s > bar for s in g]) for k, g in {**groups, "all": there}.items()}
    area = {k: 100 * delong(g, other)[0] for k, g in {**groups, "all": there}.items()}
    assert found["roc_auc"].value == pytest.approx(area["all"])
    assert found["hits_50"].value == pytest.approx(share["all"])
    by_group = area if card.ranked == "roc_auc" else share
    assert found["low_degree"].value == pytest.approx(by_group["low"])
    assert found["degree_gap"].value == pytest.approx(by_group["high"] - by_group["low"])
    assert found[card.ranked].direction == "up"
    assert set(card.beside) <= found.keys()
    for m in found.values():
        assert m.interval is not None
        assert m.interval[0] <= m.value <= m.interval[1]


def test_evidence_that_cannot_be() -> None:
    spec, rows = graph_problem().spec, evidence()
    for changes in ({"label": np.ones(210)}, {"label": np.full(210, 2)}, {"degree": np.full(210, -1)}):
        with pytest.raises(UserError, match="run it again"):
            CARD.score(spec, {**rows, **changes})
    alike = {m.name for m in CARD.score(spec, {**rows, "degree": np.full(210, 3)})}
    assert "roc_auc" in alike
    assert "degree_gap" not in alike


# -- networks and predictors


def test_predictors_by_hand() -> None:
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    assert Predictor()(a, b).tolist() == [1.0]
    assert Predictor().macs(2) == 2
    mlp = Hadamard(2)
    w1, w2, w3 = (layer.weight for layer in mlp.layers)
    b1, b2, b3 = (layer.bias for layer in mlp.layers)
    h = ((a * b) @ w1.t() + b1).relu()
    assert mlp(a, b).item() == pytest.approx(float(((h @ w2.t() + b2).relu() @ w3.t() + b3).detach()))
    assert mlp.macs(2) == 2 + 4 + 4 + 2
    with torch.no_grad():
        w1[0, 0] = 0
    assert mlp.macs(2) == 2 + 3 + 4 + 2


@pytest.mark.parametrize("architecture", ["gcn", "gin", "gat", "deepergcn8"])
def test_gradients_reach_every_weight(architecture: str) -> None:
    problem = graph_problem(case=f"sbm-links/{architecture}")
    problem.predictor = "hadamard"
    model = problem.model()
    (view,) = problem.views(problem.graph, 0)
    problem.loss(model(problem.x, problem.graph), view).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if n != "eps")
    assert not [n for n in model.prunable() if n.startswith("predictor")]


def test_a_learned_temperature_is_the_softmax_node_by_node() -> None:
    model = LinkDeeperGcn(3, 4, 4)
    row, col = torch.tensor([0, 2, 1, 3, 0]), torch.tensor([1, 1, 2, 2, 3])
    graph, h, t = Graph(row, col, 5).looped, torch.randn(5, 4), torch.tensor(1.7)
    plain = model.aggregate(h, graph, None, TRAINING, t)
    masked = model.aggregate(h, graph, torch.ones(graph.edges), TRAINING, t)
    for node in range(5):
        sent = h[graph.row[graph.col == node]].relu() + 1e-7
        expected = ((t * sent).softmax(0) * sent).sum(0)
        torch.testing.assert_close(plain[node], expected)
        torch.testing.assert_close(masked[node], expected)


def test_pairs_are_counted_apart() -> None:
    problem = graph_problem(case=CASE)
    ticket = CARD.parent(problem)
    found = {m.name: m.value for m in CARD.weigh(problem, ticket)}
    n, entries = 600, problem.graph.edges
    assert found["macs"] == n * (32 * 16 + 16 * 16) + (entries + n) * (16 + 16)
    assert found["macs_linear_legacy"] == n * (32 * 16 + 16 * 16)
    assert found["macs_per_pair"] == 16
    # with a predictor of three layers the rest stays what it is
    problem.predictor = "hadamard"
    theirs = {m.name: m.value for m in CARD.weigh(problem, CARD.parent(problem))}
    assert theirs["macs_per_pair"] == 16 + 16 * 16 + 16 * 16 + 16
    assert {k: theirs[k] for k in ("macs", "macs_linear_legacy", "weights_total")} == {
        k: found[k] for k in ("macs", "macs_linear_legacy", "weights_total")
    }


# -- from training to a score


def solved(method: str, run: MemoryRun | None = None, **changes: Any) -> tuple[Any, Ticket]:
    problem = graph_problem(run, **{"case": CASE, **changes})
    cls = registry.load(registry.method("graph_tickets", method))
    problem.epochs = 4
    return problem, registry.configure(cls, []).solve(problem)


@pytest.mark.parametrize("method", ["dense", "ugs", "random_edges", "magnitude", "gebt", "dglt", "jaccard"])
def test_methods_serve_links_as_they_are(method: str) -> None:
    target = {"dense": "", "magnitude": "weights=0.5"}.get(method, "edges=0.5,weights=0.5")
    problem, ticket = solved(method, target=target)
    rows = CARD.examine(problem, ticket)
    assert {k: str(v.dtype) for k, v in rows.items()} == dict(CARD.columns)
    found = {m.name: m.value for m in CARD.score(problem.spec, rows)}
    assert 0 <= found["roc_auc"] <= 100
    kept = {m.name: m.value for m in CARD.weigh(problem, ticket)}
    for name, share in problem.spec.targets.items():
        assert kept[f"kept.{name}"] == pytest.approx(share, rel=0.01)
    # the ticket holds no edge that it is examined on
    messages = numbers(np.stack([ticket.row.numpy(), ticket.col.numpy()], 1), 600)
    asked = np.stack([rows["source"], rows["target"]], 1)[rows["label"] == 1]
    assert not messages & numbers(asked, 600)


@pytest.mark.parametrize("method", ["teddy", "wd_glt", "rethinking_glt"])
def test_methods_that_need_classes_say_so(method: str) -> None:
    with pytest.raises(UserError, match="here no node has one class"):
        solved(method)


def test_teddy_says_so_before_it_trains_its_teacher() -> None:
    run = MemoryRun(graph_problem(None, case=CASE).spec)
    with pytest.raises(UserError, match="here no node has one class"):
        solved("teddy", run)
    assert run.examples == 0


def test_a_stopped_run_ends_alike() -> None:
    from suite.protocol import Stopped

    problem, ticket = solved("random_edges")
    run = MemoryRun(problem.spec, stop_after=2)
    with pytest.raises(Stopped):
        solved("random_edges", run)
    _, again = solved("random_edges", MemoryRun(problem.spec, saved=run.saved))
    assert all(torch.equal(a, b) for a, b in zip(ticket.model.parameters(), again.model.parameters(), strict=True))


def test_training_learns_the_edges() -> None:
    problem = graph_problem(case=CASE, target="")
    cls = registry.load(registry.method("graph_tickets", "dense"))
    problem.epochs = 30
    ticket = registry.configure(cls, []).solve(problem)
    found, start = (
        {m.name: m.value for m in CARD.score(problem.spec, CARD.examine(problem, t))} for t in (ticket, CARD.parent(problem))
    )
    assert found["roc_auc"] > max(60, start["roc_auc"])


def test_no_ticket_comes_from_a_graph_that_may_hold_the_answers() -> None:
    problem = graph_problem(case="cora-links/gcn")
    with pytest.raises(UserError, match="no ticket moves from cora to cora-links"):
        problem.other("cora/gcn")
    assert problem.other("cora-links/gin").name == "cora-links"


def test_a_network_of_nodes_is_told() -> None:
    nodes, links = graph_problem(case="sbm/gcn"), graph_problem(case=CASE)
    with pytest.raises(UserError, match="predictor"):
        CARD.examine(links, Ticket(links.graph.row, links.graph.col, nodes.model()))


def test_the_card_follows_the_case() -> None:
    task = registry.task("graph_tickets")
    assert task.of("cora/gcn") is task
    assert [task.of(c).ranked for c in ("cora-links/gcn", "ogbl-collab/gcn256", "anything", "")] == [
        "roc_auc", "hits_50", "accuracy", "accuracy",
    ]  # fmt: skip
    assert task.of("ogbl-collab/gcn256").version == task.version


def test_the_speed_division_needs_no_data() -> None:
    problem = graph_problem(division="speed", case="citeseer-links/gcn", tier="paper")
    assert problem.graph.nodes == 3327
    assert problem.passes() == 0
