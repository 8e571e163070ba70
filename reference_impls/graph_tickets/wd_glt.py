"""Graph tickets by the auxiliary Wasserstein loss alone: the part of Rethinking-GLT that a public re-implementation has.

Paper: Hui, Yan, Ma, Ku. Rethinking Graph Lottery Tickets: Graph Sparsity Matters. ICLR 2023, arXiv 2305.02190.

Departs: a reconstruction, as `rethinking_glt` is, whose mode `wd` this is.
"""

from __future__ import annotations

from dataclasses import dataclass

from reference_impls.graph_tickets.rethinking_glt import RethinkingGlt
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["WdGlt"]


@dataclass(frozen=True)
class WdGlt:
    """lam is lambda, eps and iterations are Sinkhorn's, most the nodes a side and class."""

    lam: float = 0.1
    eps: float = 1e-2
    iterations: int = 10
    most: int = 128

    def solve(self, problem: GraphProblem) -> Ticket:
        return RethinkingGlt("wd", lam=self.lam, eps=self.eps, iterations=self.iterations, most=self.most).solve(problem)
