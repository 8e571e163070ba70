"""A random ticket; what lies outside it is faded out by a growing penalty before it is cut (a surrogate of DGLT).

Paper: Wang, Liang, Wang, Wang, Huang, Zhang. Searching Lottery Tickets in Graph Neural Networks: A Dual Perspective. ICLR 2023.

Deviations: no code and no numbers of it could be had. This is a surrogate by its idea alone, that what is to go hands on what it
knows: an L2 penalty on edges and weights outside a random target mask grows with every epoch; the rest goes on from its weights.
The fade is as long as a search of the other methods and what it leaves is cut: about a tenth of a mask after 100 epochs on Cora.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from reference_impls.graph_tickets.random_edges import random_masks
from reference_impls.parts.graph_masks import Rung, Search
from reference_impls.parts.graph_training import GraphTrainer, Masks, Retrain, apply_masks
from tasks.graph_tickets.task import GraphProblem, Ticket, View

__all__ = ["Dglt"]


@dataclass(frozen=True)
class Dglt:
    """One network, and a penalty that grows."""

    version: ClassVar[int] = 1

    delta: float = 0.02  #: what the penalty's factor grows by in an epoch

    def solve(self, problem: GraphProblem) -> Ticket:
        keep, masks = random_masks(problem, "dglt")
        trainer = GraphTrainer(problem)
        faded = trainer.fit("fade", lambda: Fade(self, problem, keep, masks))
        graph = problem.graph.take(keep)

        def inherit() -> Retrain:
            started = problem.model()
            started.load_state_dict(faded["model"])
            return Retrain(problem, started, graph, masks)

        model = problem.model()
        model.load_state_dict(trainer.fit("ticket", inherit)["model"])
        apply_masks(model, masks)
        return Ticket(graph.row, graph.col, model)


class Fade(Search):
    """Weights and the graph's mask are trained under the penalty; which of them stay is settled from the start."""

    def __init__(self, method: Dglt, problem: GraphProblem, keep: torch.Tensor, masks: Masks) -> None:
        self.method, self.keep, self.target = method, keep, masks
        ones = {n: torch.ones_like(m) for n, m in masks.items()}
        super().__init__(problem, problem.model(), torch.ones_like(keep), ones, Rung(0, 0), noise=0.0)

    def make_optimizer(self) -> torch.optim.Optimizer:
        recipe = self.problem.recipe
        # Adam makes a whole step of any decay, however small: what is to stay would fade as well
        parts = [{"params": self.model.parameters(), "weight_decay": recipe.weight_decay}, {"params": [self.m_g]}]
        return torch.optim.Adam(parts, recipe.lr)

    def objective(self, logits: torch.Tensor, view: View, epoch: int) -> torch.Tensor:
        own = dict(self.model.named_parameters())
        outside = (self.m_g[~self.keep] ** 2).sum() + sum((own[n][~m] ** 2).sum() for n, m in self.target.items())
        return super().objective(logits, view, epoch) + self.method.delta * (epoch + 1) / 2 * outside

    def masks(self) -> dict[str, Any]:
        return {"edges": self.keep, "weights": self.target}

    def outcome(self) -> dict[str, Any]:
        return {**super().outcome(), "model": self.model.state_dict(), "left": self.left()}

    @torch.no_grad()
    def left(self) -> float:
        """Largest magnitude outside the target mask: what the cut still changes."""
        own = dict(self.model.named_parameters())
        parts = [self.m_g[~self.keep], *(own[n][~m] for n, m in self.target.items())]
        return max((float(p.abs().max()) for p in parts if p.numel()), default=0.0)
