"""Soft masks on every edge and weight, trained with L1 penalties; the lowest go, the weights are rewound, in rounds (UGS).

Paper: Chen, Sui, Chen, Zhang, Wang. A Unified Lottery Ticket Hypothesis for Graph Neural Networks. ICML 2021, arXiv 2102.06790.

Deviations: a round's rate is such that the last one meets the target (the paper's fixed 5 % and 20 % meet none); a pruned edge
leaves the softmax of GAT and the mean of GIN (`algebra=legacy` searches as the released code does, where it stays in both);
dropout acts in every epoch of GIN and GAT, where the released code loses it after the first; self-loops are never pruned, by
`algebra=legacy` neither, where the released GAT has its own among the edges. The released schedule of ogbn-proteins, all at once
to a cumulated rate in each part of the graph, and data that keep self-loops are left out. Masks that tie with the last that
goes go too, as there: up to half a point more than asked, in GAT and where edges alone are pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.graph_masks import Search, climb, rungs, target_shares, ticket
from reference_impls.parts.graph_training import GraphTrainer
from tasks.graph_tickets.task import GraphProblem, Ticket, kept_weights

__all__ = ["Ugs"]


@dataclass(frozen=True)
class Ugs:
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    s1: float | None = None  #: L1 penalty of the edges' mask; None: the published one of graph and model
    s2: float | None = None  #: of the weights' masks; None: likewise
    symmetric_mask: bool = False  #: whether both directions of an edge go together
    #: removed edges are gone, or (legacy) stay with value 0 as in the released code
    algebra: Literal["remove", "legacy"] = "remove"
    weights: Literal["rewound", "redrawn"] = "rewound"  #: redrawn: the same masks on other initial weights, the control

    def solve(self, problem: GraphProblem) -> Ticket:
        edges, weights = target_shares(problem)
        ladder = rungs(problem, edges, weights, problem.graph.edges, kept_weights(problem.model())[1])
        s1 = 0.0 if edges == 1 else problem.recipe.s1 if self.s1 is None else self.s1
        s2 = 0.0 if weights == 1 else problem.recipe.s2 if self.s2 is None else self.s2
        trainer = GraphTrainer(problem)
        found = climb(
            trainer,
            lambda model, e, w, rung: Search(
                problem, model, e, w, rung, s1=s1, s2=s2, symmetric=self.symmetric_mask, algebra=self.algebra
            ),
            ladder,
        )
        redrawn = problem.run.seed("ugs weights") if self.weights == "redrawn" else None
        return ticket(trainer, found.edges, found.weights, {"rounds": found.notes}, redrawn)
