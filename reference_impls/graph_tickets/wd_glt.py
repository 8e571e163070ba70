"""Graph tickets by the auxiliary Wasserstein loss alone: the part of Rethinking-GLT that a public re-implementation has.

Paper: Hui, Yan, Ma, Ku. Rethinking Graph Lottery Tickets: Graph Sparsity Matters. ICLR 2023, arXiv 2305.02190.

Deviations: a reconstruction, as `rethinking_glt` is, whose mode `wd` this is. `auxiliary` puts another loss in the distance's
place, of which names alone are known. Ours are: classes those that are predicted, as for the distance, means of softmax outputs,
the divergence over ordered pairs of classes and the squared distance over unordered ones, both subtracted, so that descent drives
classes apart; the entropy is the nodes' mean and is added, so that outputs grow certain. lambda is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from reference_impls.graph_tickets.rethinking_glt import RethinkingGlt
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["WdGlt"]

Loss = Literal["wd", "kl", "entropy", "means"]
LEAST = 1e-12  #: of a share under a logarithm


@dataclass(frozen=True)
class WdGlt:
    """The method is `auxiliary=wd`; ablations are `kl` between the classes' mean outputs, `entropy` of all nodes, and `means`, the
    squared distance of the classes' means.
    """

    version: ClassVar[int] = 1

    lam: float = 0.1  #: lambda, the auxiliary loss's weight
    eps: float = 1e-2  #: Sinkhorn's regularisation
    iterations: int = 10  #: Sinkhorn's
    most: int = 128  #: nodes a side and class that the distance is taken over
    auxiliary: Loss = "wd"  #: wd, or an ablation in its place

    def solve(self, problem: GraphProblem) -> Ticket:
        return Replaced("wd", lam=self.lam, eps=self.eps, iterations=self.iterations, most=self.most, loss=self.auxiliary).solve(
            problem
        )


@dataclass(frozen=True)
class Replaced(RethinkingGlt):
    """The same search by another auxiliary loss."""

    loss: Loss = "wd"

    def auxiliary(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.loss == "wd":
            return super().auxiliary(logits, generator)
        return {"kl": divergence_loss, "entropy": entropy_loss, "means": means_loss}[self.loss](logits)


def class_means(logits: torch.Tensor) -> torch.Tensor:
    """Mean softmax output of each class that is predicted for a node, (k, classes) of logits (n, classes).

    No gradient goes through who is predicted in what.
    """
    predicted = logits.detach().argmax(1)
    count = torch.bincount(predicted, minlength=logits.shape[1])
    total = logits.new_zeros(logits.shape[1], logits.shape[1]).index_add(0, predicted, logits.softmax(1))
    there = count > 0
    return total[there] / count[there, None]


def divergence_loss(logits: torch.Tensor) -> torch.Tensor:
    """-sum over ordered pairs of predicted classes of KL(p_c || p_d), p the classes' mean outputs."""
    p = class_means(logits)
    log = p.clamp_min(LEAST).log()
    return -(p[:, None] * (log[:, None] - log[None])).sum()


def entropy_loss(logits: torch.Tensor) -> torch.Tensor:
    """Mean entropy of the nodes' outputs, in nats."""
    log = logits.log_softmax(1)
    return -(log.exp() * log).sum(1).mean()


def means_loss(logits: torch.Tensor) -> torch.Tensor:
    """-sum over unordered pairs of predicted classes of |p_c - p_d|^2, p the classes' mean outputs."""
    p = class_means(logits)
    return -((p[:, None] - p[None]) ** 2).sum() / 2
