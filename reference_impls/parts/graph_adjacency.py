"""A graph's adjacency as something to train: one value an undirected edge, moved by Adam, and the rule that prunes it.

Source: the sparsifier that GEBT (You et al., AAAI 2022) took over from SGCN (Li et al., PAKDD 2020).
The original holds a matrix for each layer, masks their gradients to existing entries, symmetrises them and gives every layer
the mean; all start alike, so they stay one, and one is held here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from reference_impls.parts.graph_training import Learner
from tasks.graph_tickets.models import GraphNetwork
from tasks.graph_tickets.task import GraphProblem


class TrainAdjacency(Learner):
    """Trains the values of undirected edges, from 1, through a network; what else moves is a subclass's."""

    def __init__(self, problem: GraphProblem, model: GraphNetwork, lr: float) -> None:
        self.problem, self.model = problem, model
        graph = problem.graph
        self.lower = (graph.row > graph.col).nonzero().flatten()
        # entry -> its pair, numbered by the lower triangle in row-major order
        pair = torch.full((graph.edges,), -1, dtype=torch.long, device=graph.device)
        pair[self.lower] = torch.arange(len(self.lower), device=graph.device)
        pair[graph.reverse[self.lower]] = pair[self.lower]
        self.pair = pair
        self.adjacency = torch.ones(len(self.lower), device=graph.device, requires_grad=True)
        self.directions = 2 * len(model.operator(graph))  #: gradients that one value sums: of two entries in every layer
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam([self.adjacency], lr)]

    def step(self, epoch: int) -> float:
        problem, total = self.problem, 0.0
        self.model.train()
        for view in problem.views(problem.graph, epoch):
            logits = self.model(problem.x, problem.graph, self.adjacency[self.pair], sample=view.sample)
            loss = problem.loss(logits, view)
            for o in self.optimizers:
                o.zero_grad()
            loss.backward()
            assert self.adjacency.grad is not None
            self.adjacency.grad /= self.directions
            self.pull(self.adjacency.grad)
            for o in self.optimizers:
                o.step()
            total += float(loss.detach())
        return total

    def pull(self, gradient: torch.Tensor) -> None:
        """Add a penalty's gradient to that of the adjacency, in place."""

    def judge(self, epoch: int) -> float:
        self.model.eval()
        with torch.no_grad():
            return self.problem.accuracy(self.model(self.problem.x, self.problem.graph, self.adjacency[self.pair]))

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "adjacency": self.adjacency.detach(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            self.adjacency.copy_(state["adjacency"])
        for o, kept in zip(self.optimizers, state["optimizers"], strict=True):
            o.load_state_dict(kept)


def prune_adjacency(lower: np.ndarray, percent: float) -> np.ndarray:
    """`prune_adj`: bool of what stays among the strictly lower triangle's non-zeros, (m,) in row-major order.

    What lies under the percentile (linear) of magnitudes goes; where fewer than int(m percent / 100) went, the smallest by
    signed value go as well, ties in order.
    """
    if len(lower) == 0:
        return np.zeros(0, bool)
    magnitude = np.abs(lower)
    keep = magnitude >= np.percentile(magnitude, percent)
    missing = int(len(lower) * percent / 100) - int((~keep).sum())
    if missing > 0:
        left = np.flatnonzero(keep)
        keep[left[np.argsort(lower[left], kind="stable")[:missing]]] = False
    return np.asarray(keep)
