"""A 50-node graph losing edges and weights: two targets, and the task counts its own operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from suite.protocol import Measure, Operations, Problem, Spec, Workload
from suite.show import Show
from weighin_standins.common import Base, accuracy, seeded, sizes


@dataclass(frozen=True)
class Ticket:
    edges: torch.Tensor  #: (2, E), pruned edges are gone, not masked
    model: nn.Linear


@dataclass
class GraphProblem(Problem):
    edges: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor

    def propagate(self, edges: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return h.index_add(0, edges[1], h[edges[0]])


class Graph(Base):
    """A 50-node graph losing edges and weights."""

    name, question, ranked, speed = "graph", "Sparser?", "accuracy", "infer@graph"
    tiers = sizes("ring/gcn", "edges=0.5,weights=0.25")
    parent_method = "whole"
    show = Show(part="degree")
    columns = {"row": "int32", "label": "uint8", "prediction": "uint8", "degree": "int32"}

    def problem(self, spec: Spec, run: Any) -> GraphProblem:
        here = torch.arange(50)
        edges = torch.cat([torch.stack([here, (here + d) % 50]) for d in (1, 2)], 1)
        x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
        return GraphProblem(spec, run, edges, x, (x[:, 0] > 0).long())

    def parent(self, problem: GraphProblem) -> Ticket:
        return Ticket(problem.edges, seeded(problem, lambda: nn.Linear(6, 2)))

    def examine(self, problem: GraphProblem, solution: Ticket) -> dict[str, np.ndarray]:
        out = solution.model(problem.propagate(solution.edges, problem.x)).argmax(1)
        degree = torch.bincount(problem.edges[1], minlength=50)  # of the whole graph: who was poorly connected
        columns = {"row": torch.arange(50), "label": problem.y, "prediction": out, "degree": degree}
        return {k: v.numpy().astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        low = evidence["degree"] <= np.median(evidence["degree"])
        return [accuracy(evidence), accuracy({k: v[low] for k, v in evidence.items()}, part="few_neighbours")]

    def workloads(self, problem: GraphProblem, solution: Ticket) -> list[Workload]:
        return [Workload("infer@graph", lambda: lambda: solution.model(problem.propagate(solution.edges, problem.x)), items=50)]

    def operations(self, problem: GraphProblem, solution: Ticket) -> Operations:
        w = solution.model.weight
        linear = {
            "name": "linear",
            "kind": "Linear",
            "macs": 50.0 * int(w.count_nonzero()),
            "params": w.numel(),
            "nonzero": int(w.count_nonzero()),
        }
        return Operations(
            (
                {
                    "name": "aggregate",
                    "kind": "edges",
                    "macs": 6.0 * solution.edges.shape[1],
                    "params": 0,
                    "nonzero": 0,
                },
                linear,
            )
        )

    def weigh(self, problem: GraphProblem, solution: Ticket) -> list[Measure]:
        w = solution.model.weight
        return [
            Measure("kept.edges", solution.edges.shape[1] / problem.edges.shape[1], source="meter"),
            Measure("kept.weights", int(w.count_nonzero()) / w.numel(), source="meter"),
        ]
