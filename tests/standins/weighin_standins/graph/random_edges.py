"""Edges drawn at random, small weights set to zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from weighin_standins.common import generator
from weighin_standins.graph.task import Graph, GraphProblem, Ticket


@dataclass(frozen=True)
class RandomEdges:
    def solve(self, problem: GraphProblem) -> Ticket:
        keep = torch.randperm(100, generator=generator(problem, "random_edges"))[: round(100 * problem.spec.targets["edges"])]
        ticket = Graph().parent(problem)
        with torch.no_grad():
            flat = ticket.model.weight.view(-1)
            flat[flat.abs().argsort()[: round(len(flat) * (1 - problem.spec.targets["weights"]))]] = 0
        return Ticket(problem.edges[:, keep.sort().values], ticket.model)
