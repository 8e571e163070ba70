"""Edges drawn with probabilities proportional to their effective resistance: the spectral sparsifier.

Paper: Spielman, Srivastava. Graph Sparsification by Effective Resistances. SIAM Journal on Computing 40(6), 2011, arXiv 0803.0929.

Departs: draws go on until as many distinct edges were met as the target asks for, and a kept edge weighs 1 like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_sparsifiers import Pairs, budget, draws, effective_resistance
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Spectral"]


@dataclass(frozen=True)
class Spectral:
    """`eps` is the error of the random projections that large components need."""

    eps: float = 0.3

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        pairs = Pairs.of(problem.graph)
        scores = effective_resistance(pairs, self.eps, problem.run.seed("effective_resistance projections"))
        keep = first_distinct(scores / scores.sum(), budget(problem, pairs, share), draws(problem, "spectral"))
        return static(problem, pairs.entries(keep))


def first_distinct(probability: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Bool (m,): the first `count` distinct outcomes of draws with replacement.

    The order of first meetings is that of exponential clocks with these rates, so one sort takes the place of the draws.
    """
    clock = rng.exponential(size=len(probability)) / np.maximum(probability, np.finfo(float).tiny)
    keep = np.zeros(len(probability), bool)
    keep[np.argsort(clock, kind="stable")[:count]] = True
    return keep
