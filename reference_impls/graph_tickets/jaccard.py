"""Edges kept by how many neighbours their ends share, over the whole graph or within each node's own edges.

Departs: a baseline (graph_baselines.md 5). By `rule=local` each node keeps its ceil(d^e) best, with the largest e that stays
within the target; what is then missing comes by the global rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_sparsifiers import Pairs, budget, draws, jaccard, keep_highest, local_rank
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Jaccard"]


@dataclass(frozen=True)
class Jaccard:
    """`rule` is over what edges are ranked."""

    rule: Literal["global", "local"] = "global"

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        pairs = Pairs.of(problem.graph)
        rng = draws(problem, "jaccard")
        scores, count = jaccard(pairs), budget(problem, pairs, share)
        if self.rule == "local":
            scores = scores + 2.0 * local_keep(pairs, scores, count, rng)  # they come first
        return static(problem, pairs.entries(keep_highest(scores, count, rng)))


def local_keep(pairs: Pairs, scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Bool (m,): the union of every node's ceil(d^e) best, for the largest e that keeps at most `count` pairs."""
    ranks = np.stack(local_rank(pairs, np.stack([scores, scores]), rng))
    degree = pairs.degree()[np.stack([pairs.u, pairs.v])].astype(float)

    def kept(e: float) -> np.ndarray:
        return np.asarray((ranks < np.ceil(degree**e)).any(0))

    low, high = 0.0, 1.0
    if kept(low).sum() > count:
        return np.zeros(len(pairs), bool)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle).sum() <= count else (low, middle)
    return kept(low)
