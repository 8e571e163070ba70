"""Graph tickets by an auxiliary Wasserstein loss over all nodes and a min-max game with the graph's mask (a reconstruction).

Paper: Hui, Yan, Ma, Ku. Rethinking Graph Lottery Tickets: Graph Sparsity Matters. ICLR 2023, arXiv 2305.02190.

Deviations: neither the paper's body nor its code could be had. The loss follows a public re-implementation, the min-max part is
our reading of the abstract, in four modes of which none can be called the paper's. Distances are over at most 128 nodes a side
and class, with eps 1e-2. Rounds, rewinding, rates, learning rate and decay are UGS's, without its L1 terms. An edge whose mask the
clamp has brought to 0 goes in every mode but `minmax_flip`, also where the target keeps all edges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from reference_impls.parts.graph_masks import Search, climb, rungs, target_shares, ticket
from reference_impls.parts.graph_training import GraphTrainer
from reference_impls.parts.wasserstein import wd_loss
from tasks.graph_tickets.task import GraphProblem, Ticket, View, kept_weights

__all__ = ["RethinkingGlt"]

Mode = Literal["wd", "minmax_perturb", "minmax_literal", "minmax_flip"]
#: under the root of a distance while training: points that coincide would have an infinite gradient
FLOOR = 1e-12


@dataclass(frozen=True)
class RethinkingGlt:
    """`lam=0` is the min-max part alone, or with `mode=wd` neither.  Modes:

    `wd`: the graph's mask descends with the rest; `minmax_perturb`: weights are trained at the worst mask within rho;
    `minmax_literal`: the mask climbs by eta1 and the lowest go, alpha = 1 for the total derivative; `minmax_flip`: it climbs, and
    the highest go.
    """

    version: ClassVar[int] = 1

    mode: Mode = "minmax_perturb"  #: our readings of the abstract's min-max
    lam: float = 0.1  #: lambda, the auxiliary loss's weight; 0: without it
    rho: float = 0.1  #: minmax_perturb: how far the worst mask may lie
    eta1: float = 0.01  #: the other min-max modes: step of the mask's ascent
    alpha: Literal[0, 1] = 0  #: minmax_literal: 1 for the total derivative
    eps: float = 1e-2  #: Sinkhorn's regularisation
    iterations: int = 10  #: Sinkhorn's
    most: int = 128  #: nodes a side and class that the distance is taken over
    weights: Literal["rewound", "redrawn"] = "rewound"  #: redrawn: the same masks on other initial weights, the control

    def solve(self, problem: GraphProblem) -> Ticket:
        if self.lam:
            problem.need_classes()
        edges, weights = target_shares(problem)
        ladder = rungs(problem, edges, weights, problem.graph.edges, kept_weights(problem.model())[1])
        kind = {"wd": Auxiliary, "minmax_perturb": Perturb, "minmax_literal": Literally, "minmax_flip": Flip}[self.mode]
        trainer = GraphTrainer(problem)
        found = climb(trainer, lambda model, e, w, rung: kind(self, problem, model, e, w, rung), ladder)
        redrawn = problem.run.seed("rethinking_glt weights") if self.weights == "redrawn" else None
        return ticket(trainer, found.edges, found.weights, {"rounds": found.notes}, redrawn)

    def auxiliary(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """L1 of the logits of what is looked at; `generator` draws the nodes."""
        return wd_loss(logits, self.eps, self.iterations, self.most, generator, FLOOR)


class Auxiliary(Search):
    """`wd`: one Adam over everything on L0 + lambda L1, then the graph's mask into [0, 1]."""

    project = True

    def __init__(self, method: RethinkingGlt, problem: GraphProblem, *rest: Any) -> None:
        self.method = method
        super().__init__(problem, *rest)

    def objective(self, logits: torch.Tensor, view: View, epoch: int) -> torch.Tensor:
        loss = super().objective(logits, view, epoch)
        m = self.method
        if not m.lam:
            return loss
        generator = torch.Generator().manual_seed(self.problem.run.seed("wasserstein", epoch))
        return loss + m.lam * m.auxiliary(logits, generator)


class Perturb(Auxiliary):
    """`minmax_perturb`: the gradient is taken at the mask moved against the loss, and passed straight through to the mask."""

    passes = 2

    def move(self, view: View, epoch: int) -> float:
        first = self.objective(self.logits(self.m_g, view), view, epoch)
        (gradient,) = torch.autograd.grad(first, self.m_g)
        adversary = perturbed(self.m_g.detach(), gradient, self.method.rho).requires_grad_()
        loss = self.objective(self.logits(adversary, view), view, epoch)
        self.optimizer.zero_grad()
        loss.backward()
        self.m_g.grad = adversary.grad
        self.optimizer.step()
        self.clamp()
        return float(loss.detach())


def perturbed(m_g: torch.Tensor, gradient: torch.Tensor, rho: float) -> torch.Tensor:
    """m_adv = P(m_g + rho g / max|g|), of the entries that are left; m_g where the gradient is zero everywhere."""
    most = gradient.abs().max() if len(gradient) else gradient.sum()
    return m_g if most == 0 else (m_g + rho * gradient / most).clamp(0, 1)


class Literally(Auxiliary):
    """`minmax_literal`: the mask climbs by plain steps, the rest descends at the mask that was climbed to."""

    decays = False
    passes = 2

    def move(self, view: View, epoch: int) -> float:
        theta = [p for group in self.optimizer.param_groups for p in group["params"]]

        def loss(m_g: torch.Tensor, _: Sequence[torch.Tensor]) -> torch.Tensor:
            return self.objective(self.logits(m_g, view), view, epoch)

        value, climbed, gradients, ascent = minmax_gradient(loss, self.m_g.detach(), theta, self.method.eta1, self.method.alpha)
        for p, gradient in zip(theta, gradients, strict=True):
            p.grad = gradient
        self.optimizer.step()
        with torch.no_grad():
            self.m_g.copy_(climbed)
        self.climbed(ascent)
        return value

    def climbed(self, ascent: torch.Tensor) -> None:
        """The mask has moved by eta1 times this, before the clamp."""


def minmax_gradient(
    loss: Callable[[torch.Tensor, Sequence[torch.Tensor]], torch.Tensor],
    m_g: torch.Tensor,
    theta: Sequence[torch.Tensor],
    eta1: float,
    alpha: int,
) -> tuple[float, torch.Tensor, list[torch.Tensor | None], torch.Tensor]:
    """One step of the literal game of the abstract: masks of the graph maximise what weights minimise.

    Args:
        loss: L(m_g, theta), a scalar.
        m_g: (E,), in [0, 1]; theta: tensors that require gradients.
        alpha: 1 for the total derivative of L(m_g'(theta), theta), 0 without the part through m_g'.

    Returns:
        L at m_g', m_g' = P(m_g + eta1 grad L), the gradient for each theta, and grad L in m_g.
    """
    start = m_g.detach().requires_grad_()
    # one graph serves the ascent and its second derivative
    (ascent,) = torch.autograd.grad(loss(start, theta), start, create_graph=bool(alpha))
    raw = start.detach() + eta1 * ascent.detach()
    climbed = raw.clamp(0, 1).requires_grad_()
    value = loss(climbed, theta)
    at_climbed, *gradients = torch.autograd.grad(value, [climbed, *theta], allow_unused=True)
    out: list[torch.Tensor | None] = list(gradients)
    if alpha:
        inside = ((raw > 0) & (raw < 1)).to(raw.dtype)
        extra = torch.autograd.grad(ascent, theta, inside * at_climbed.detach(), allow_unused=True)
        out = [_plus(g, None if e is None else eta1 * e) for g, e in zip(out, extra, strict=True)]
    return float(value.detach()), climbed.detach(), out, ascent.detach()


def _plus(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    return b if a is None else a if b is None else a + b


class Flip(Literally):
    """`minmax_flip`: what the adversary wants to keep goes.  Ties at the clamp are broken by the way climbed without it."""

    def __init__(self, *rest: Any) -> None:
        super().__init__(*rest)
        self.way = self.m_g.detach().clone()

    def climbed(self, ascent: torch.Tensor) -> None:
        self.way += self.method.eta1 * ascent

    def kept_edges(self) -> torch.Tensor:
        return without_highest(self.m_g.detach(), self.way, len(self.way) - self.rung.edges)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "way": self.way}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.way = state["way"]


def without_highest(m_g: torch.Tensor, way: torch.Tensor, count: int) -> torch.Tensor:
    """Bool without exactly `count` entries of highest m_g, ties by highest `way`, then by place."""
    keep = torch.ones_like(m_g, dtype=torch.bool)
    by_way = torch.sort(way, descending=True, stable=True).indices
    order = by_way[torch.sort(m_g[by_way], descending=True, stable=True).indices]
    keep[order[: max(0, count)]] = False
    return keep
