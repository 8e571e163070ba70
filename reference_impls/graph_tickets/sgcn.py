"""The adjacency optimised under a penalty that draws it to a pruned copy of itself (ADMM), then pruned; weights stay as they were.

Paper: Li, Zhang, Tian, Jin, Fardad, Zafarani. SGCN: A Graph Sparsifier Based on Graph Convolutional Networks. PAKDD 2020.
UGS (Chen et al., ICML 2021) compares with it under the name ADMM.

Deviations: the schedule was not to be read and is the table's: a training, then as many epochs of the adjacency in four steps,
then another training from the initial weights.  The pruned copy starts as the whole graph: at the start all edges are equal, and
a copy pruned then would draw by their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from reference_impls.parts.graph_adjacency import TrainAdjacency, prune_adjacency
from reference_impls.parts.graph_masks import static, target_shares
from reference_impls.parts.graph_training import GraphTrainer, train
from tasks.graph_tickets.models import GraphNetwork
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Sgcn"]


@dataclass(frozen=True)
class Sgcn:
    """ADMM over the edges' values."""

    version: ClassVar[int] = 1

    rho: float = 1e-3  #: strength of the penalty
    lr: float = 0.001  #: learning rate of the edges' values
    steps: int = 4  #: of pruning the copy and moving the dual variable
    weighted: bool = True  #: whether edges that stay keep the values they were given

    def solve(self, problem: GraphProblem) -> Ticket:
        share, _ = target_shares(problem)
        if self.weighted:
            problem.need_weighted_edges()
        trainer = GraphTrainer(problem)
        model = train(trainer, problem.graph, stage="whole graph")
        found = trainer.fit("adjacency", lambda: Admm(self, problem, model, 100 * (1 - share)))
        values = found["values"] if self.weighted else None
        return static(problem, found["edges"], {"kept_apart": found["apart"]}, values=values, trainer=trainer)


class Admm(TrainAdjacency):
    """min over A of loss(A) + rho / 2 |A - I - Z + U|^2, Z = prune(A - I + U) and U += A - I - Z after each of the steps.

    The self-loops I are the network's own here, and no value stands for them.
    """

    def __init__(self, method: Sgcn, problem: GraphProblem, model: GraphNetwork, percent: float) -> None:
        super().__init__(problem, model, method.lr)
        model.requires_grad_(False)
        self.method, self.percent = method, percent
        self.every = max(1, problem.passes() // method.steps)
        self.z = self.adjacency.detach().clone()
        self.u = torch.zeros_like(self.z)

    def pull(self, gradient: torch.Tensor) -> None:
        gradient.add_(self.adjacency.detach() - self.z + self.u, alpha=self.method.rho)

    def step(self, epoch: int) -> float:
        loss = super().step(epoch)
        if (epoch + 1) % self.every == 0:
            self.turn()
        return loss

    def turn(self) -> None:
        """Prune the copy, move the dual variable."""
        drawn = self.adjacency.detach() + self.u
        self.z = drawn * self.kept(drawn)
        self.u = drawn - self.z

    def kept(self, values: torch.Tensor) -> torch.Tensor:
        """Bool (m,) of the pairs that `prune_adjacency` leaves."""
        return torch.from_numpy(prune_adjacency(values.cpu().numpy(), self.percent)).to(values.device)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "z": self.z, "u": self.u}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.z, self.u = state["z"], state["u"]

    def outcome(self) -> dict[str, Any]:
        values = self.adjacency.detach()
        keep = self.kept(values)
        edges = keep[self.pair]
        # how much of what stays the copy had dropped: 0 where the penalty has brought the two together
        apart = float((keep & (self.z == 0)).sum() / max(1, int(keep.sum())))
        return {"edges": edges, "values": values[self.pair][edges], "apart": apart}
