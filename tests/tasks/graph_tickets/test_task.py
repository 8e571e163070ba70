"""The task: multiply-adds to the unit by three conventions, scores from evidence, budgets, what a ticket must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suite import registry
from suite.naming import UserError
from suite.protocol import OverBudget, Spec
from tasks.common.intervals import newcombe, wilson
from tasks.graph_tickets import data
from tasks.graph_tickets.models import Gcn
from tasks.graph_tickets.node_task import degree_groups
from tasks.graph_tickets.problem import Recipe, Ticket
from tests.helpers import MemoryRun, graph_problem

TASK = registry.task("graph_tickets")


def weighed(problem, ticket) -> dict[str, float]:  # type: ignore[no-untyped-def]
    return {m.name: m.value for m in TASK.weigh(problem, ticket)}


def test_dense_macs_of_cora_to_the_unit() -> None:
    problem = graph_problem(case="cora/gcn512")
    found = weighed(problem, TASK.parent(problem))
    assert found["macs"] == found["macs_transform_first"] == 2_003_438_256
    assert found["macs_linear_legacy"] == 1_996_554_240
    assert found["macs_aggregate_first"] == 1_996_554_240 + 25_798_480
    assert found["macs_sparse_x"] == 49_216 * 512
    assert found["kept.edges"] == found["kept.weights"] == found["kept.macs"] == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cora", 2708 * (1433 * 16 + 16 * 7) + 2 * 5429 * 1433),  # 77.95 M
        ("citeseer", 3312 * (3703 * 16 + 16 * 6) + 2 * 4732 * 3703),  # 231.59 M
        ("pubmed", 19717 * (500 * 16 + 16 * 3) + 2 * 44338 * 500),  # 203.02 M
        ("cora-links", 2708 * (1433 * 16 + 16 * 16) + 2 * 4616 * 1433),  # 4,488 of 5,278 edges pass messages
    ],
)
def test_gebts_count_to_the_unit(name: str, expected: int) -> None:
    problem = graph_problem(case=f"{name}/gcn16", division="speed")
    assert weighed(problem, TASK.parent(problem))["macs_gebt"] == expected


@pytest.mark.parametrize(
    ("nodes", "entries", "widths", "combination", "transform", "aggregate"),
    [
        (2_708, 10_556, (1433, 512, 7), 1_996_554_240, 6_884_016, 25_798_480),
        (3_327, 9_228, (3703, 512, 6), 6_317_999_616, 6_503_490, 52_919_325),
        (19_717, 88_651, (500, 512, 3), 5_077_837_312, 55_809_520, 109_668_416),
    ],
)
def test_dense_macs_of_the_citation_graphs(
    nodes: int, entries: int, widths: tuple[int, int, int], combination: int, transform: int, aggregate: int
) -> None:
    """The table of counts worked out by hand, entries with the data's self-loops; and what UGS's profiler counts."""
    model = Gcn(*widths)
    lines = model.work(nodes, entries)
    assert sum(nodes * dict(model.named_parameters())[line["weight"]].numel() for line in lines if line["weight"]) == combination
    assert sum(line["transform"] for line in lines) == transform
    assert sum(line["aggregate"] for line in lines) == aggregate


@pytest.mark.parametrize(("name", "millions"), [("cora", 1996.55), ("citeseer", 6318.00), ("pubmed", 5077.84)])
def test_linear_layers_alone_are_the_profilers_count(name: str, millions: float) -> None:
    problem = graph_problem(case=f"{name}/gcn512", division="speed")
    assert round(weighed(problem, TASK.parent(problem))["macs_linear_legacy"] / 1e6, 2) == millions


@pytest.mark.parametrize("architecture", ["gcn", "gin", "gat", "deepergcn4"])
def test_macs_of_a_ticket_by_hand(architecture: str) -> None:
    problem = graph_problem(case=f"sbm/{architecture}")
    model = problem.model()
    own = dict(model.named_parameters())
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in model.prunable():
            own[name].mul_(torch.rand(own[name].shape, generator=draw) < 0.5)
        if architecture == "gin":
            own["eps"].fill_(0.1)
    keep = torch.rand(problem.graph.edges, generator=draw) < 0.4
    left = problem.graph.take(keep)
    found = weighed(problem, Ticket(left.row, left.col, model))
    n, e, classes = 600, int(keep.sum()), 5
    alive = {name: int(p.count_nonzero()) for name, p in own.items()}
    if architecture == "gcn":
        expected = n * (alive["layers.0.weight"] + alive["layers.1.weight"]) + (e + n) * (16 + classes)
    elif architecture == "gin":
        linear = alive["layers.0.weight"] + alive["layers.1.weight"] + alive["head.weight"]
        expected = n * linear + (e + 2 * n) * (16 + classes)
    elif architecture == "deepergcn4":
        linear = alive["encoder.weight"] + alive["head.weight"] + sum(alive[f"convs.{i}.weight"] for i in range(28))
        expected = n * linear + 28 * 2 * (e + n) * 4
        assert found["nonlinear_ops"] == 28 * (e + n) * 4
    else:
        linear = alive["fc.0"] + alive["fc.1"] + alive["attention.0"] + alive["attention.1"]
        expected = n * linear + (e + n) * (32 + 8) + (e + n) * (classes + 1)
        assert found["nonlinear_ops"] == 9 * (e + n)
    assert found["macs"] == expected
    assert found["kept.edges"] == e / problem.graph.edges
    operations = TASK.operations(problem, Ticket(left.row, left.col, model))
    assert operations.total("macs") == expected
    assert operations.total("params") == found["params"] == sum(p.numel() for p in own.values())


def test_evidence_and_scores() -> None:
    problem = graph_problem(case="cora/gcn")
    evidence = TASK.examine(problem, TASK.parent(problem))
    assert {k: str(v.dtype) for k, v in evidence.items()} == dict(TASK.columns)
    found = {(m.name, m.part): m for m in TASK.score(problem.spec, evidence)}
    hit = evidence["label"] == evidence["prediction"]
    assert found["accuracy", ""].value == pytest.approx(100 * hit.mean())
    low, high = degree_groups(evidence["degree"])
    assert low is not None
    assert high is not None
    assert found["low_degree", ""].value == pytest.approx(100 * hit[low].mean())
    assert found["degree_gap", ""].value == pytest.approx(100 * (hit[high].mean() - hit[low].mean()))
    by_class = {part: m.value for (name, part), m in found.items() if name == "class_accuracy"}
    assert found["worst_class", ""].value == min(by_class.values())
    assert "neural-networks" in by_class
    for m in found.values():
        assert m.interval is not None
        assert m.interval[0] - 1e-9 <= m.value <= m.interval[1] + 1e-9


def test_scores_of_odd_evidence() -> None:
    spec = graph_problem().spec
    rows = {"row": np.arange(4), "label": np.zeros(4), "prediction": np.zeros(4), "degree": np.full(4, 3)}
    names = {m.name for m in TASK.score(spec, rows)}
    assert "degree_gap" not in names  # all nodes are alike
    assert "accuracy" in names
    with pytest.raises(UserError, match="there must be rows"):
        TASK.score(spec, {**rows, "label": np.full(4, -1)})


def test_intervals_against_published_values() -> None:
    # Newcombe 1998, table II, (a) 56/70 and 48/80: 0.0524 to 0.3339 by method 10
    low, high = newcombe(56, 70, 48, 80)
    assert (low, high) == (pytest.approx(5.24, abs=0.01), pytest.approx(33.39, abs=0.01))
    # Newcombe 1998 (single proportions), 81/263: 0.2553 to 0.3662
    assert wilson(81, 263) == (pytest.approx(25.53, abs=0.01), pytest.approx(36.62, abs=0.01))


def test_methods_see_no_test_label() -> None:
    problem = graph_problem(case="cora/gcn")
    test = data.load("cora", "").split["test"]
    assert (problem.y[test] == -1).all()
    assert (problem.y[problem.train] >= 0).all()


def test_the_budget_ends() -> None:
    problem = graph_problem()
    for _ in range(12 * 10):
        problem.book()
    with pytest.raises(OverBudget):
        problem.book()
    assert problem.run.examples == problem.budget
    lender = graph_problem()
    lender.other("sbm/gin").book()
    assert lender.run.examples == 100


def test_the_speed_division_needs_no_data() -> None:
    problem = graph_problem(division="speed", case="citeseer/gcn", tier="paper")
    assert problem.graph.nodes == 3327
    assert problem.passes() == 0


def test_ogbn_arxiv_has_ugss_recipe_whatever_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.SHAPES, "ogbn-arxiv", (60, 100, 8, 3, 10))
    for case in ("ogbn-arxiv/deepergcn4", "ogbn-arxiv/gcn4"):
        problem = graph_problem(division="speed", case=case, tier="paper")
        assert problem.recipe == Recipe(0.01, 0.0, 1e-6, 1e-4)
        assert (problem.search_epochs, problem.epochs) == (250, 500)
    assert graph_problem().search_epochs is None


def test_a_foreign_ticket_is_told() -> None:
    problem = graph_problem()
    with pytest.raises(UserError, match="another graph"):
        TASK.examine(problem, Ticket(torch.tensor([700]), torch.tensor([1]), problem.model()))
    spec = Spec("graph_tickets", 1, "small", "closed", "cora", "", 0)
    with pytest.raises(UserError, match="data/architecture"):
        TASK.problem(spec, MemoryRun(spec))


def test_truth_is_the_datas() -> None:
    from tasks.common.truth import entries

    for (tier, name), entry in entries("graph_tickets").items():
        spec = Spec("graph_tickets", TASK.version, tier, "closed", f"{name}/gcn", "", 0)
        told = TASK.of(spec.case).truth_of(spec)
        assert told == {k: entry[k] for k in told}


def test_every_case_that_needs_no_files_has_its_truth() -> None:
    from tasks.common.truth import entries

    wanted = {(tier, case.partition("/")[0]) for tier in ("smoke", "small") for case in TASK.tiers[tier].cases}
    assert wanted <= entries("graph_tickets").keys()
