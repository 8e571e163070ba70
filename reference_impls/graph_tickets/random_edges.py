"""Random edges removed before training, and random weights of each layer where the target names weights: the control of all.

Deviations: nothing; masks are drawn anew for each target, at once and not along a ladder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.parts.graph_masks import target_shares, ticket
from reference_impls.parts.graph_training import GraphTrainer, Masks
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["RandomEdges"]


@dataclass(frozen=True)
class RandomEdges:
    """No setting."""

    version: ClassVar[int] = 1

    def solve(self, problem: GraphProblem) -> Ticket:
        keep, masks = random_masks(problem, "random_edges")
        return ticket(GraphTrainer(problem), keep, masks, {})


def random_masks(problem: GraphProblem, method: str) -> tuple[torch.Tensor, Masks]:
    """Masks of the target's shares: entries of the graph (E,), and the weights of each prunable layer."""
    edges, weights = target_shares(problem)
    generator = torch.Generator().manual_seed(problem.run.seed(f"{method} {problem.spec.target}"))
    model = problem.model()
    own = dict(model.named_parameters())
    keep = random_mask(problem.graph.edges, 1 - edges, generator).to(problem.device)
    masks = {n: random_mask(own[n].numel(), 1 - weights, generator).view(own[n].shape).to(problem.device) for n in model.prunable()}
    return keep, masks


def random_mask(count: int, rate: float, generator: torch.Generator) -> torch.Tensor:
    """Bool (count,) without int(count * rate) entries drawn without replacement."""
    mask = torch.ones(count, dtype=torch.bool)
    mask[torch.randperm(count, generator=generator)[: int(count * rate)]] = False
    return mask
