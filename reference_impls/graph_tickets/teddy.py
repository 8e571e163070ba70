"""Edges of low degree-based score removed at once; the network learns from its dense self and is projected onto few weights.

Paper: Seo, Yun, Yang. TEDDY: Trimming Edges with Degree-based Discrimination Strategy. ICLR 2024, arXiv 2402.01261.

Deviations: learning rate and decay are the table's; the weights that the projection may zero are the prunable ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from reference_impls.parts.graph_masks import target_shares
from reference_impls.parts.graph_training import GraphTrainer, Retrain, train
from tasks.graph_tickets.graph import Graph
from tasks.graph_tickets.models import GraphNetwork
from tasks.graph_tickets.task import GraphProblem, Ticket, View

__all__ = ["Teddy"]


@dataclass(frozen=True)
class Teddy:
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    lam: float = 0.1  #: lambda, the weight of the divergence from the dense teacher's outputs

    def solve(self, problem: GraphProblem) -> Ticket:
        problem.need_classes()
        edges, weights = target_shares(problem)
        keep = keep_scored(problem.graph, edge_scores(problem.graph), 1 - edges)
        trainer = GraphTrainer(problem)
        teacher = train(trainer, problem.graph, stage="teacher").eval()
        with torch.no_grad():
            taught = teacher(problem.x, problem.graph).softmax(1)
        graph = problem.graph.take(keep)
        outcome = trainer.fit("ticket", lambda: Projected(problem, problem.model(), graph, taught, self.lam, 1 - weights))
        model = problem.model()
        model.load_state_dict(outcome["model"])
        project(model, 1 - weights)
        return Ticket(graph.row, graph.col, model)


def edge_scores(graph: Graph) -> torch.Tensor:
    """g_i / d_i * g_j / d_j of every entry, with g_i = 1/d_i sum_j A_ij d_j^-1/2; 0 for a node without neighbours."""
    degree = torch.bincount(graph.row, minlength=graph.nodes).double()
    inverse = torch.where(degree > 0, 1 / degree, torch.zeros_like(degree))
    g = inverse * torch.zeros_like(degree).index_add(0, graph.row, inverse[graph.col].sqrt())
    return (g * inverse)[graph.row] * (g * inverse)[graph.col]


def keep_scored(graph: Graph, scores: torch.Tensor, rate: float) -> torch.Tensor:
    """Bool without the int(E rate) lowest entries; self-loops count as the highest, of ties the earlier entry goes."""
    lifted = torch.where(graph.row == graph.col, scores.max() if len(scores) else scores.new_zeros(()), scores)
    # the two directions of an edge differ by rounding alone: they are to tie
    order = torch.sort(lifted.float(), stable=True).indices
    keep = torch.ones(graph.edges, dtype=torch.bool, device=graph.device)
    keep[order[: int(graph.edges * rate)]] = False
    return keep


@torch.no_grad()
def project(model: GraphNetwork, rate: float) -> None:
    """Onto the l0 ball, in place: the ceil(total rate) smallest prunable weights of all layers together become 0.

    Of ties the earlier goes, as among the edges: by layer, then by place.
    """
    own = dict(model.named_parameters())
    chosen = [own[n] for n in model.prunable()]
    flat = torch.cat([w.abs().flatten() for w in chosen])
    count = math.ceil(len(flat) * rate)
    if count == 0:
        return
    # a stable sort gives the same; this is called after every step, and the threshold alone is found in a fraction of the time
    threshold = torch.kthvalue(flat, count).values
    gone, tied = flat < threshold, flat == threshold
    gone |= tied & (tied.cumsum(0) <= count - gone.sum())
    for w, mask in zip(chosen, gone.split([w.numel() for w in chosen]), strict=True):
        w.masked_fill_(mask.view(w.shape), 0.0)


class Projected(Retrain):
    """Cross-entropy and divergence from the teacher; projection after every step; of equal epochs the later stays."""

    ties_to_later = True

    def __init__(
        self, problem: GraphProblem, model: GraphNetwork, graph: Graph, taught: torch.Tensor, lam: float, rate: float
    ) -> None:
        super().__init__(problem, model, graph)
        self.taught, self.lam, self.rate = taught, lam, rate

    def loss(self, logits: torch.Tensor, view: View) -> torch.Tensor:
        taught = self.taught if view.sample is None else self.taught[view.sample.nodes]
        return super().loss(logits, view) + self.lam * F.kl_div(logits.log_softmax(1), taught, reduction="batchmean")

    def after_step(self) -> None:
        project(self.model, self.rate)
