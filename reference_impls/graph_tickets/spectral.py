"""Edges drawn with probabilities proportional to their effective resistance: the spectral sparsifier.

Paper: Spielman, Srivastava. Graph Sparsification by Effective Resistances. SIAM Journal on Computing 40(6), 2011, arXiv 0803.0929.

Deviations: draws go on until as many distinct edges were met as the target asks for; a kept edge weighs 1 like any other unless
`weighted`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_sparsifiers import Pairs, budget, draws, effective_resistance
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Spectral"]


@dataclass(frozen=True)
class Spectral:
    """With `weighted` the Laplacian is kept on average: each of q draws of an edge weighs 1 / (q p)."""

    version: ClassVar[int] = 1

    eps: float = 0.3  #: error of the random projections that large components need
    weighted: bool = False  #: whether an edge weighs what its draws add up to

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        if self.weighted:
            problem.need_weighted_edges()
        pairs = Pairs.of(problem.graph)
        scores = effective_resistance(pairs, self.eps, problem.run.seed("effective_resistance projections"))
        probability, rng = scores / scores.sum(), draws(problem, "spectral")
        clock = first_meetings(probability, rng)
        keep = first_distinct(clock, budget(problem, pairs, share))
        if not self.weighted:
            return static(problem, pairs.entries(keep))
        weights = weights_of_draws(probability, clock, keep, rng)
        entries, values = pairs.entries(keep), pairs.values(weights)
        return static(problem, entries, values=values[entries])


def first_meetings(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """When each outcome is first met, (m,), in draws with replacement that come at the times of a Poisson process of rate 1.

    Each outcome then has a clock of its own, at its own rate, so one drawing of m numbers takes the place of the draws.
    """
    return rng.exponential(size=len(probability)) / np.maximum(probability, np.finfo(float).tiny)


def first_distinct(clock: np.ndarray, count: int) -> np.ndarray:
    """Bool (m,): the first `count` outcomes to be met."""
    keep = np.zeros(len(clock), bool)
    keep[np.argsort(clock, kind="stable")[:count]] = True
    return keep


def weights_of_draws(probability: np.ndarray, clock: np.ndarray, keep: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """n_e / (q p_e) of every outcome, (m,), 0 where it was not met: of q draws until the last of `keep`, n_e gave e."""
    last = clock[keep].max(initial=0.0)
    again = rng.poisson(probability * np.maximum(0.0, last - clock))
    times = np.where(keep, 1 + again, 0)
    return np.divide(times, times.sum() * probability, out=np.zeros(len(times)), where=keep)
