"""Tickets built again from their shapes are the same programs: entries, weights and so the operands of each kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reference_impls.shapes import graph_tickets
from suite import deployed, registry
from suite.protocol import NoShape, Shape, Spec
from tasks.graph_tickets.deploy import compact
from tests.helpers import MemoryRun
from tests.reference_impls.shapes.programs import again, assert_same_program, assert_same_zeros, solved

pytestmark = pytest.mark.usefixtures("prepared")


def spec(**changes: Any) -> Spec:
    fields = {"tier": "smoke", "division": "closed", "case": "cora/gcn", "target": "edges=0.5,weights=0.5", "seed": 0}
    return Spec("graph_tickets", registry.task("graph_tickets").version, **{**fields, **changes})


def ticket(asked: Spec, edges: float, weights: float, *, weighted: bool = False) -> tuple[Any, Any]:
    """A ticket drawn at random: what methods leave is what they leave, whoever chose it."""
    from tasks.graph_tickets.problem import Ticket

    task = registry.task_of(asked)
    problem = task.problem(asked, MemoryRun(asked))
    generator = torch.Generator().manual_seed(1)
    left = torch.rand(problem.graph.edges, generator=generator) < edges
    model = problem.model()
    with torch.no_grad():
        for name in model.prunable():
            parameter = model.get_parameter(name)
            parameter.mul_(torch.rand(parameter.shape, generator=generator) < weights)
    values = torch.rand(int(left.sum()), generator=generator) if weighted else None
    return problem, Ticket(problem.graph.row[left], problem.graph.col[left], model, values=values)


@pytest.mark.parametrize("case", ["cora/gcn", "cora/gin", "cora/gat", "cora-128/gcn", "sbm/gcn", "cora-links/gcn"])
def test_what_is_built_again_is_the_same_program(case: str) -> None:
    asked = spec(case=case)
    problem, solution = ticket(asked, 0.4, 0.3)
    assert_same_program(asked, problem, solution)
    _, built, _ = again(asked, problem, solution)
    assert_same_zeros(built.model, solution.model)
    assert torch.equal(built.row, solution.row)
    assert torch.equal(built.col, solution.col)


def test_what_a_method_leaves_is_built_again() -> None:
    asked = spec(division="speed")
    problem, solution = solved(asked, "ugs")
    assert_same_program(asked, problem, solution)


def test_weighted_entries_are_weighted_again_and_dead_units_are_dead() -> None:
    asked = spec()
    problem, solution = ticket(asked, 0.5, 0.01, weighted=True)
    _, built, _ = again(asked, problem, solution)
    assert built.values.shape == solution.values.shape
    widths = [compact(t.model).layers[0].weight.shape for t in (built, solution)]
    assert widths[0] == widths[1]
    assert widths[0][0] < problem.hidden


def test_the_deepest_network_is_built_again() -> None:
    asked = spec(tier="paper", division="speed", case="cora/deepergcn")
    problem, solution = ticket(asked, 0.5, 0.5)
    shape = graph_tickets.describe(problem, solution)
    built = graph_tickets.rebuild(problem, shape)
    told = registry.task_of(asked).operations(problem, solution).layers
    assert registry.task_of(asked).operations(problem, built).layers == told
    assert deployed.differences(graph_tickets.layers(asked, shape), told) == []


def test_more_or_fewer_entries_than_the_operations_say_are_seen() -> None:
    asked = spec()
    problem, solution = ticket(asked, 0.5, 0.5)
    shape = graph_tickets.describe(problem, solution)
    told = registry.task_of(asked).operations(problem, solution).layers
    mask = deployed.mask_of(shape.tensors["edges"], 0)
    for there in (True, False):
        other = mask.copy()
        other[(other != there).argmax()] = there
        forged = Shape(shape.facts, {**shape.tensors, "edges": deployed.tensor(other)})
        assert "macs of layers.0.aggregate are" in deployed.differences(graph_tickets.layers(asked, forged), told)[0]


def test_a_graph_that_is_not_shipped_and_entries_of_another_have_no_shape() -> None:
    asked = spec()
    problem, solution = ticket(asked, 0.5, 0.5)
    turned = type(solution)(solution.row.flip(0), solution.col.flip(0), solution.model)
    with pytest.raises(NoShape, match="in their order"):
        graph_tickets.describe(problem, turned)
    with pytest.raises(NoShape, match="not shipped"):
        graph_tickets.layers(spec(case="pubmed/gcn"), graph_tickets.describe(problem, solution))
    with pytest.raises(NoShape, match="decides the kernels"):
        graph_tickets.of_operations(asked, [])
