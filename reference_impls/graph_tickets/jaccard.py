"""Edges kept by how many neighbours their ends share, or how alike their features are: over the graph, or a node's own edges.

Deviations: a baseline. By `rule=local` each node keeps its ceil(d^e) best, with the largest e that stays
within the target; what is then missing comes by the global rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import sparse

from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_sparsifiers import Pairs, budget, draws, jaccard, keep_highest, local_rank, row_products
from tasks.graph_tickets.graph import Input, SparseFeatures
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Jaccard"]


@dataclass(frozen=True)
class Jaccard:
    """Edges ranked by how much their ends are alike."""

    version: ClassVar[int] = 1

    rule: Literal["global", "local"] = "global"  #: edges ranked over the graph or at each node
    score: Literal["jaccard", "cosine"] = "jaccard"  #: compares the ends' neighbours, or by cosine their features

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        pairs = Pairs.of(problem.graph)
        rng = draws(problem, "jaccard")
        scores = jaccard(pairs) if self.score == "jaccard" else cosine(pairs, problem.x)
        count = budget(problem, pairs, share)
        if self.rule == "local":
            scores = scores + 3.0 * local_keep(pairs, scores, count, rng)  # they come first: a cosine may be -1
        return static(problem, pairs.entries(keep_highest(scores, count, rng)))


def cosine(pairs: Pairs, x: Input) -> np.ndarray:
    """Cosine of the features (n, f) of both ends of every pair (m,); 0 where an end has none."""
    if isinstance(x, SparseFeatures):
        parts = (x.forward.values(), x.forward.col_indices(), x.forward.crow_indices())
        table = sparse.csr_matrix(tuple(p.cpu().numpy() for p in parts), x.shape, dtype=np.float64)
    else:
        table = sparse.csr_matrix(x.cpu().numpy(), dtype=np.float64)
    length = np.sqrt(np.asarray(table.multiply(table).sum(1)).ravel())
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    # rounded: pairs that are equally alike are to tie
    return np.asarray(row_products(pairs, (sparse.diags(scale) @ table).tocsr()).round(9))


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
