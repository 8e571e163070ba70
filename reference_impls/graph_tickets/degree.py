"""Edges kept by the degrees of their ends, without training: hubs, the poorly connected, or each node's best neighbours.

Deviations: a baseline in three forms. `product` keeps edges between hubs, `inverse` those of nodes with few,
`local` of each node the neighbours of highest degree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_sparsifiers import Pairs, budget, draws, keep_highest, local_rank
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Degree"]


@dataclass(frozen=True)
class Degree:
    """Edges ranked by the degrees of their ends."""

    version: ClassVar[int] = 1

    #: of an edge: product of the ends' degrees or its inverse over the graph, or a rank at each node
    score: Literal["product", "inverse", "local"] = "inverse"

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        pairs = Pairs.of(problem.graph)
        rng = draws(problem, "degree")
        keep = keep_highest(degree_scores(pairs, self.score, rng), budget(problem, pairs, share), rng)
        return static(problem, pairs.entries(keep))


def degree_scores(pairs: Pairs, score: str, rng: np.random.Generator) -> np.ndarray:
    """Higher stays, (m,): d_u d_v, 1/d_u + 1/d_v, or minus the better of the two ranks that an edge has at its ends.

    By `local`, the first `count` are the union of all nodes' k best for the smallest k that reaches the count, its surplus
    dropped by the draw that breaks ties.
    """
    d = pairs.degree().astype(float)
    if score == "local":
        ranks = local_rank(pairs, np.stack([d[pairs.v], d[pairs.u]]), rng)
        return -np.minimum(*ranks).astype(float)
    return d[pairs.u] * d[pairs.v] if score == "product" else 1 / d[pairs.u] + 1 / d[pairs.v]
