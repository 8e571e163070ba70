"""Which kernels a deployed ticket takes, and its time as a share of the dense parent's in the same run.

`pytest tests/benchmarks/test_graph_kernels.py --benchmark-enable -s` times Cora's networks with random edges and weights pruned;
without it the same code runs on the smallest of them and nothing is judged.
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from tasks.graph_tickets.deploy import deploy
from tests.benchmarks.timing import seconds
from tests.helpers import graph_problem

ROUNDS = 9


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1, 0.02])
@pytest.mark.parametrize("architecture", ["gcn64", "gcn512", "gin64", "gat8"])
def test_ticket_against_its_parent(architecture: str, share: float, benchmark: BenchmarkFixture, prepared: None) -> None:
    judged = bool(benchmark.enabled)
    problem = graph_problem(case=f"cora/{architecture if judged else 'gcn8'}")
    draw = torch.Generator().manual_seed(0)
    parent, ticket = problem.model(), problem.model()
    own = dict(ticket.named_parameters())
    with torch.no_grad():
        for name in ticket.prunable():
            own[name].mul_(torch.rand(own[name].shape, generator=draw) < share)
    left = problem.graph.take(torch.rand(problem.graph.edges, generator=draw) < share)
    dense, _ = deploy(parent, problem.graph, problem.x)
    sparse, kernels = deploy(ticket, left, problem.x)
    ratios = []
    for _ in range(ROUNDS if judged else 1):
        before = seconds(dense) if judged else 1.0
        ratios.append((seconds(sparse) if judged else 1.0) / before)
    benchmark.pedantic(sparse, rounds=1, iterations=1)
    ratio = sorted(ratios)[len(ratios) // 2]
    assert ratio > 0
    torch.testing.assert_close(sparse(), ticket.eval()(problem.x, left), rtol=1e-4, atol=1e-5)
    if judged:
        names = ", ".join(dict.fromkeys(kernels.names))
        print(f"\n{architecture}, {share:.0%} of edges and weights: {ratio:.2f} of the time, by {names}")
