"""All edges."""

from __future__ import annotations

from dataclasses import dataclass

from weighin_standins.graph.task import Graph, GraphProblem, Ticket


@dataclass(frozen=True)
class Whole:
    def solve(self, problem: GraphProblem) -> Ticket:
        return Graph().parent(problem)
