"""A random spanning forest first, then random edges: what keeping the graph connected is worth.

Deviations: a baseline; a target below the forest's size keeps a random part of it, which is noted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_sparsifiers import Pairs, budget, draws, keep_highest, spanning_forest
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Backbone"]


@dataclass(frozen=True)
class Backbone:
    """No setting."""

    version: ClassVar[int] = 1

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        pairs = Pairs.of(problem.graph)
        rng = draws(problem, "backbone")
        keys = 1 + rng.random(len(pairs))
        forest = spanning_forest(pairs, keys)
        count = budget(problem, pairs, share)
        keep = keep_highest(forest.astype(float), count, rng)
        return static(problem, pairs.entries(keep), {"connected": bool(forest.sum() <= count)})
