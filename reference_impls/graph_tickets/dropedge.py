"""Another random sample of the edges in each epoch of training; the whole graph at inference: a regulariser, not a sparsifier.

Paper: Rong, Huang, Xu, Huang. DropEdge: Towards Deep Graph Convolutional Networks on Node Classification. ICLR 2020,
arXiv 1907.10903.

Deviations: width, rates and dropout are the table's and not the paper's. Nothing is pruned, so it runs under
`--target edges=1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from reference_impls.parts.graph_masks import target_shares
from reference_impls.parts.graph_training import GraphTrainer, Retrain
from tasks.graph_tickets.graph import Graph
from tasks.graph_tickets.models import Gcn, gcn_values
from tasks.graph_tickets.task import GraphProblem, Ticket, View

__all__ = ["Dropedge"]


@dataclass(frozen=True)
class Dropedge:
    """Drawn anew in every epoch."""

    version: ClassVar[int] = 1

    keep: float = 0.4  #: share of entries that an epoch sees

    def solve(self, problem: GraphProblem) -> Ticket:
        if problem.spec.target:
            target_shares(problem, edges=False, weights=False)
        trainer = GraphTrainer(problem)
        outcome = trainer.fit("train", lambda: Sampled(self, problem))
        model = problem.model()
        model.load_state_dict(outcome["model"])
        return Ticket(problem.graph.row, problem.graph.col, model)


class Sampled(Retrain):
    """Trains on a sample, is judged on the whole graph.

    The paper multiplies by the sampled matrix as it stands: node i takes what its row names, and D holds row sums.
    """

    def __init__(self, method: Dropedge, problem: GraphProblem) -> None:
        super().__init__(problem, problem.model(), problem.graph)
        self.method = method

    def training_graph(self, epoch: int) -> Graph:
        """The sample, turned round: here a message runs from row to col."""
        state = np.random.RandomState(self.problem.run.seed("dropedge", epoch) % 2**32)
        chosen = torch.from_numpy(sample_entries(self.graph.edges, self.method.keep, state))
        keep = torch.zeros(self.graph.edges, dtype=torch.bool)
        keep[chosen] = True
        sampled = self.graph.take(keep.to(self.graph.device))
        return Graph(sampled.col, sampled.row, sampled.nodes)

    def logits(self, graph: Graph, view: View) -> torch.Tensor:
        if not isinstance(self.model, Gcn):
            return super().logits(graph, view)
        # a GCN's degrees are sums of the sample's rows, where its own would now be sums of columns
        values = torch.cat(gcn_values(Graph(graph.col, graph.row, graph.nodes)))
        operator = [(graph.looped, values)] * len(self.model.layers)
        out: torch.Tensor = self.model(self.problem.x, graph, sample=view.sample, operator=operator)
        return out


def sample_entries(count: int, keep: float, state: np.random.RandomState) -> np.ndarray:
    """Numbers of the entries that stay: the first int(count * keep) of a permutation (`randomedge_sampler`)."""
    return state.permutation(count)[: int(count * keep)]


def normalised(graph: Graph, operator: str) -> torch.Tensor:
    """The paper's operators as a sparse (n, n) matrix; D holds row sums, on both sides.

    AugNormAdj: (D+I)^-1/2 (A+I) (D+I)^-1/2; BingGeNormAdj: I + that; FirstOrderGCN: I + D^-1/2 A D^-1/2.
    """
    n = graph.nodes
    if operator == "FirstOrderGCN":
        degree = torch.bincount(graph.row, minlength=n).float()
        root = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
        entries, loops = root[graph.row] * root[graph.col], torch.ones(n)
    else:
        entries, loops = gcn_values(graph)
        loops = loops + (operator == "BingGeNormAdj")
    whole = graph.looped
    return torch.sparse_coo_tensor(torch.stack([whole.row, whole.col]), torch.cat([entries, loops]), (n, n)).coalesce()
