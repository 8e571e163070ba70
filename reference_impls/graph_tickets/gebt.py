"""Weights and adjacency trained together until their masks stop changing, pruned early, and trained on (early-bird tickets).

Paper: You, Lu, Zhou, Fu, Lin. Early-Bird GCNs: Graph-Network Co-Optimization Towards More Efficient GCN Training and Inference via
Drawing Early-Bird Lottery Tickets. AAAI 2022, arXiv 2103.00794.

Deviations: width, rate and decay of the weights are the table's; the adjacency follows its gradient without the ADMM penalty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from reference_impls.parts.graph_adjacency import TrainAdjacency, prune_adjacency
from reference_impls.parts.graph_masks import prune_lowest, target_shares
from reference_impls.parts.graph_training import GraphTrainer, Masks, Retrain, apply_masks
from tasks.graph_tickets.task import GraphProblem, Ticket, kept_weights

__all__ = ["Gebt"]

MOST_EPOCHS = 100  #: after which the masks are taken as they are


@dataclass(frozen=True)
class Gebt:
    """The search ends when masks have settled."""

    version: ClassVar[int] = 1

    adjacency_lr: float = 0.001  #: learning rate of the edges' values
    window: int = 3  #: epochs over which masks must have settled
    tolerance: float = 0.1  #: what masks of an epoch may differ by from the last one's: share of edges plus share of weights

    def solve(self, problem: GraphProblem) -> Ticket:
        edges, weights = target_shares(problem)
        trainer = GraphTrainer(problem)
        most = min(MOST_EPOCHS, problem.passes())
        early = trainer.fit("early bird", lambda: CoTrain(self, problem, edges, weights), most)
        graph = problem.graph.take(early["edges"])

        def inherit() -> Retrain:
            model = problem.model()
            model.load_state_dict(early["model"])
            return Retrain(problem, model, graph, early["weights"])

        outcome = trainer.fit("ticket", inherit)
        model = problem.model()
        model.load_state_dict(outcome["model"])
        apply_masks(model, early["weights"])
        return Ticket(graph.row, graph.col, model, {"epochs": early["epochs"]})


class CoTrain(TrainAdjacency):
    """Weights by Adam, values of the adjacency by another; its two directions move together."""

    def __init__(self, method: Gebt, problem: GraphProblem, edges: float, weights: float) -> None:
        super().__init__(problem, problem.model(), method.adjacency_lr)
        self.method, self.shares = method, (edges, weights)
        recipe = problem.recipe
        self.optimizers.append(torch.optim.Adam(self.model.parameters(), recipe.lr, weight_decay=recipe.weight_decay))
        self.masks: tuple[torch.Tensor, Masks] = self.derive()
        self.distances: list[float] = []
        self.epochs = 0

    def step(self, epoch: int) -> float:
        loss = super().step(epoch)
        before, self.masks = self.masks, self.derive()
        self.distances = [*self.distances, mask_distance(before, self.masks)][-self.method.window :]
        self.epochs = epoch + 1
        return loss

    def derive(self) -> tuple[torch.Tensor, Masks]:
        """Masks at the target's rates: pairs that stay, and weights."""
        share_e, share_w = self.shares
        pairs = prune_adjacency(self.adjacency.detach().cpu().numpy(), 100 * (1 - share_e))
        own = dict(self.model.named_parameters())
        names = self.model.prunable()
        index = round((1 - share_w) * kept_weights(self.model)[1]) - 1
        weights = prune_lowest([own[n] for n in names], index)
        return torch.from_numpy(pairs).to(self.adjacency.device), dict(zip(names, weights, strict=True))

    def done(self) -> bool:
        return len(self.distances) == self.method.window and max(self.distances) < self.method.tolerance

    def state(self) -> dict[str, Any]:
        return {**super().state(), "masks": self.masks, "distances": self.distances, "epochs": self.epochs}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.masks, self.distances, self.epochs = state["masks"], list(state["distances"]), int(state["epochs"])

    def outcome(self) -> dict[str, Any]:
        pairs, weights = self.masks
        return {"edges": pairs[self.pair], "weights": weights, "model": self.model.state_dict(), "epochs": self.epochs}


def mask_distance(before: tuple[torch.Tensor, Masks], after: tuple[torch.Tensor, Masks]) -> float:
    """Share of edges plus share of weights in which two pairs of masks differ."""
    edges = float((before[0] != after[0]).float().mean()) if len(after[0]) else 0.0
    changed = sum(int((before[1][n] != m).sum()) for n, m in after[1].items())
    return edges + changed / sum(m.numel() for m in after[1].values())
