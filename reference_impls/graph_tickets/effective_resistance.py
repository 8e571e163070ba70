"""The edges of highest effective resistance kept: bridges first, edges with many ways around last.

Paper: Spielman, Srivastava. Graph Sparsification by Effective Resistances. SIAM Journal on Computing 40(6), 2011, arXiv 0803.0929.

Deviations: edges are ranked and not drawn (`spectral` draws them); exact up to 5,000 nodes a component.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_sparsifiers import Pairs, budget, draws, effective_resistance, keep_highest
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["EffectiveResistance"]


@dataclass(frozen=True)
class EffectiveResistance:
    """Exact in components that are not large."""

    version: ClassVar[int] = 1

    eps: float = 0.3  #: error of the random projections that large components need

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        pairs = Pairs.of(problem.graph)
        scores = effective_resistance(pairs, self.eps, problem.run.seed("effective_resistance projections"))
        keep = keep_highest(scores.round(9), budget(problem, pairs, share), draws(problem, "effective_resistance"))
        return static(problem, pairs.entries(keep))
