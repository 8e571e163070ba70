"""Random edges removed before training, and random weights of each layer where the target names weights: the control of all.

Departs: nothing; masks are drawn anew for each target, at once and not along a ladder (graph_baselines.md 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reference_impls.parts.graph_masks import target_shares, ticket
from reference_impls.parts.graph_training import GraphTrainer
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["RandomEdges"]


@dataclass(frozen=True)
class RandomEdges:
    """No setting."""

    def solve(self, problem: GraphProblem) -> Ticket:
        edges, weights = target_shares(problem)
        generator = torch.Generator().manual_seed(problem.run.seed(f"random_edges {problem.spec.target}"))
        keep = random_mask(problem.graph.edges, 1 - edges, generator).to(problem.device)
        own = dict(problem.model().named_parameters())
        masks = {
            n: random_mask(own[n].numel(), 1 - weights, generator).view(own[n].shape).to(problem.device)
            for n in problem.model().prunable()
        }
        return ticket(GraphTrainer(problem), keep, masks, {})


def random_mask(count: int, rate: float, generator: torch.Generator) -> torch.Tensor:
    """Bool (count,) without int(count * rate) entries drawn without replacement."""
    mask = torch.ones(count, dtype=torch.bool)
    mask[torch.randperm(count, generator=generator)[: int(count * rate)]] = False
    return mask
