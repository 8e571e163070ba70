"""Masks of edges and weights as graph lottery tickets share them: the pruning rule, the ladder of rounds, the soft masks' search.

Source of the rules: Chen et al., A Unified Lottery Ticket Hypothesis for Graph Neural Networks, ICML 2021, and its released code.
Masks live on edges: those that are left at a round, never on pairs of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.func import functional_call

from reference_impls.parts.graph_training import GraphTrainer, Learner, Masks, Retrain, train
from suite.naming import UserError
from tasks.graph_tickets.graph import Graph, row_sum
from tasks.graph_tickets.models import LEAST_DEGREE, Gcn, GraphNetwork
from tasks.graph_tickets.task import GraphProblem, Ticket, View, kept_weights

NOISE = 1e-5  #: c of the soft masks' tie-breaking


# -- the pruning rule


def removed_index(count: int, p: float) -> int:
    """Position of the threshold among `count` ascending magnitudes at rate p: one more than it is removed (UGS's code)."""
    return int(count * p)


def prune_lowest(scores: Sequence[torch.Tensor], index: int) -> list[torch.Tensor]:
    """Masks, bool, of what stays: |score| strictly above that at `index` of all non-zero ones in ascending order.

    All tensors are pooled under one threshold.  Entries of 0 are gone already and stay so; ties with the threshold all go.
    With `index` below 0 nothing but the zeros is removed.
    """
    magnitudes = [s.detach().abs() for s in scores]
    if index < 0:
        return [m > 0 for m in magnitudes]
    pool = torch.cat([m[m > 0].flatten() for m in magnitudes])
    if index >= len(pool):
        return [torch.zeros_like(m, dtype=torch.bool) for m in magnitudes]
    threshold = torch.kthvalue(pool, index + 1).values
    return [m > threshold for m in magnitudes]


def prune(scores: Sequence[torch.Tensor], p: float) -> list[torch.Tensor]:
    """UGS's rule at rate p of what is non-zero (`get_each_mask`); p = 0 removes nothing."""
    count = sum(int(s.count_nonzero()) for s in scores)
    return prune_lowest(scores, removed_index(count, p) if p > 0 else -1)


def keep_largest(scores: Sequence[torch.Tensor], count: int) -> list[torch.Tensor]:
    """Masks of the `count` largest non-zero magnitudes of all tensors together; fewer where some tie with the threshold."""
    return prune_lowest(scores, sum(int(s.count_nonzero()) for s in scores) - count - 1)


def soft_mask(hard: torch.Tensor, uniform: torch.Tensor, noise: float = NOISE) -> torch.Tensor:
    """m + m (2u - 1) c: a soft mask of the hard one, ties broken; zeros stay exactly zero (`add_trainable_mask_noise`)."""
    m = hard.to(uniform.dtype)
    return m + m * (2 * uniform - 1) * noise


def add_subgradient(mask: torch.Tensor, s: float) -> None:
    """Add s sign(m) to the mask's gradient, in place (`subgradient_update_mask`)."""
    if s and mask.grad is not None:
        mask.grad.add_(mask.detach().sign(), alpha=s)


# -- the ladder


@dataclass(frozen=True)
class Rung:
    """What one round comes down to: numbers of edges (entries) and weights that stay."""

    edges: int
    weights: int


def target_shares(problem: GraphProblem, *, edges: bool = True, weights: bool = True) -> tuple[float, float]:
    """Shares of edges and weights that the target names, 1 where it does not.

    Raises UserError where it names none, one over 1, or one that the method does not prune.
    """
    asked = problem.spec.targets
    unknown = sorted(asked.keys() - {"edges", "weights"})
    if unknown or not asked:
        raise UserError(f"target {problem.spec.target!r}: ask for edges, weights or both, as in edges=0.5,weights=0.2")
    for name, able in (("edges", edges), ("weights", weights)):
        if asked.get(name, 1.0) > 1:
            raise UserError(f"target {problem.spec.target!r}: a share of {name} is at most 1")
        if not able and asked.get(name, 1.0) < 1:
            raise UserError(f"target {problem.spec.target!r}: this method does not prune {name}; leave {name} out of the target")
    return asked.get("edges", 1.0), asked.get("weights", 1.0)


def rungs(problem: GraphProblem, edges: float, weights: float, total_edges: int, total_weights: int) -> list[Rung]:
    """Rounds at about the tier's rates, each removing the same share of what is left, the last meeting both shares."""
    shares = zip((edges, weights), problem.rates, strict=True)
    count = max(1, *(round(math.log(share) / math.log(1 - rate)) for share, rate in shares))

    def left(total: int, share: float, k: int) -> int:
        return max(1, round(total * share ** (k / count)))

    return [Rung(left(total_edges, edges, k), left(total_weights, weights, k)) for k in range(1, count + 1)]


@dataclass(frozen=True)
class Found:
    """What a ladder ends with: the entries (bool, of the whole graph) and weights that stay, and what it noted a round."""

    edges: torch.Tensor
    weights: Masks
    notes: list[dict[str, Any]] = field(default_factory=list)


Make = Callable[[GraphNetwork, torch.Tensor, Masks, Rung], Learner]


def climb(
    trainer: GraphTrainer,
    make: Make,
    ladder: Sequence[Rung],
    names: Sequence[str] | None = None,
    epochs: int | None = None,
) -> Found:
    """All rounds: each starts from the same initial weights and from the masks of the last (rewinding).

    `make` gives a round's learner from the initial network, the entries that are left (bool, of the whole graph), the
    weights' masks and the rung; its outcome holds `edges`, of the same shape, and `weights`.  `names` are the parameters
    that masks cover, all prunable ones where None; `epochs` those of a round, a search's where None.
    """
    problem = trainer.problem
    model = problem.model()
    own = dict(model.named_parameters())
    edges = torch.ones(problem.graph.edges, dtype=torch.bool, device=problem.device)
    weights = {n: torch.ones_like(own[n], dtype=torch.bool) for n in (model.prunable() if names is None else names)}
    notes = []
    for k, rung in enumerate(ladder, 1):
        found = trainer.fit(
            f"masks {k}",
            lambda e=edges, w=weights, r=rung: make(problem.model(), e, w, r),  # type: ignore[misc]
            problem.search_epochs if epochs is None else epochs,
        )
        edges, weights = found["edges"], found["weights"]
        alive = sum(int(w.sum()) for w in weights.values())
        notes.append({"edges": int(edges.sum()), "weights": alive, "val": found["val"], **found.get("notes", {})})
    return Found(edges, weights, notes)


def ticket(trainer: GraphTrainer, edges: torch.Tensor, weights: Masks, notes: Mapping[str, Any], seed: int | None = None) -> Ticket:
    """The last training, of what was found, and the Solution: pruned entries are gone from its graph."""
    return _trained(trainer, trainer.problem.graph.take(edges), weights, notes, seed)


def _trained(trainer: GraphTrainer, graph: Graph, weights: Masks, notes: Mapping[str, Any], seed: int | None = None) -> Ticket:
    return Ticket(graph.row, graph.col, train(trainer, graph, weights, seed=seed), dict(notes), graph.values)


# -- the search


class Search(Learner):
    """Stage 1 of a round: weights and soft masks of edges and weights are trained together; kept are the masks of the epoch of best
    validation accuracy, measured with the soft masks in place."""

    project = False  #: whether the graph's mask is held in [0, 1] from the start
    decays = True  #: whether Adam moves the graph's mask

    def __init__(
        self,
        problem: GraphProblem,
        model: GraphNetwork,
        edges: torch.Tensor,
        weights: Masks,
        rung: Rung,
        *,
        s1: float = 0.0,
        s2: float = 0.0,
        symmetric: bool = False,
        algebra: Literal["remove", "legacy"] = "remove",
        noise: float = NOISE,
    ) -> None:
        """Many arguments, of which those with defaults are what papers change in this search."""
        self.problem, self.model, self.edges, self.hard, self.rung = problem, model, edges, weights, rung
        self.s1, self.s2, self.symmetric, self.algebra = s1, s2, symmetric, algebra
        self.graph = problem.graph.take(edges)
        generator = torch.Generator().manual_seed(problem.run.seed("mask noise"))
        # drawn for every entry of the whole graph: an edge has the same noise in every round
        drawn = torch.rand(problem.graph.edges, generator=generator).to(problem.device)[edges]
        self.m_g = soft_mask(torch.ones_like(drawn), drawn, noise).requires_grad_()
        self.m_theta = {
            n: soft_mask(b, torch.rand(b.shape, generator=generator).to(problem.device), noise).requires_grad_()
            for n, b in weights.items()
        }
        if self.project:
            self.clamp()
        self.optimizer = self.make_optimizer()
        self.best = 0.0
        self.kept: dict[str, Any] | None = None
        self.clamped = 0

    # -- what variants change

    def make_optimizer(self) -> torch.optim.Optimizer:
        """One Adam over everything, masks included, which so decay too."""
        recipe = self.problem.recipe
        own = [*self.model.parameters(), *self.m_theta.values(), *([self.m_g] if self.decays else [])]
        return torch.optim.Adam(own, recipe.lr, weight_decay=recipe.weight_decay)

    def objective(self, logits: torch.Tensor, view: View, epoch: int) -> torch.Tensor:
        """Of the logits of what is looked at, without the L1 terms."""
        return self.problem.loss(logits, view)

    passes = 1  #: over the graph, that a step takes

    def step(self, epoch: int) -> float:
        self.model.train()
        return sum(self.move(view, epoch) for view in self.problem.views(self.graph, epoch, self.passes))

    def move(self, view: View, epoch: int) -> float:
        """One step of the optimizer; returns the loss."""
        loss = self.objective(self.logits(self.m_g, view), view, epoch)
        self.optimizer.zero_grad()
        loss.backward()
        self.penalise()
        self.optimizer.step()
        if self.project:
            self.clamp()
        return float(loss.detach())

    def edge_scores(self) -> torch.Tensor:
        """Of the entries that are left, (E,): the lowest go."""
        return self.m_g.detach().abs()

    # -- the rest

    def penalise(self) -> None:
        """The L1 terms, as subgradients after the backward pass."""
        add_subgradient(self.m_g, self.s1)
        for m in self.m_theta.values():
            add_subgradient(m, self.s2)

    @torch.no_grad()
    def clamp(self) -> None:
        """P: the graph's mask into [0, 1]."""
        self.m_g.clamp_(0, 1)

    def logits(self, m_g: torch.Tensor, view: View | None = None) -> torch.Tensor:
        """f(A * m_g * b_g, X; Theta * m_theta * b_theta), of all nodes or of a view's."""
        own = dict(self.model.named_parameters())
        effective = {n: own[n] * m * self.hard[n] for n, m in self.m_theta.items()}
        sample = None if view is None else view.sample
        out: torch.Tensor = functional_call(self.model, effective, (self.problem.x, *self.masked_graph(m_g), sample))
        return out

    def masked_graph(self, m_g: torch.Tensor) -> tuple[Graph, torch.Tensor, torch.Tensor | None]:
        """Graph, values and in-degrees of a forward pass: pruned entries are gone, or (legacy) stay with value 0."""
        if self.algebra == "remove":
            return self.graph, m_g, None
        whole = self.problem.graph
        values = m_g.new_zeros(whole.edges).masked_scatter(self.edges, m_g)
        return whole, values, whole.in_degree

    def judge(self, epoch: int) -> float:
        self.model.eval()
        with torch.no_grad():
            accuracy = self.problem.accuracy(self.logits(self.m_g))
            if isinstance(self.model, Gcn):
                self.clamped += int((1 + row_sum(self.graph, self.m_g) < LEAST_DEGREE).sum())
        if accuracy > self.best:
            self.best, self.kept = accuracy, self.masks()
        return accuracy

    def masks(self) -> dict[str, Any]:
        """The round's masks by the soft masks as they are now, and how many edges' were at 0 then."""
        names = list(self.m_theta)
        pooled = keep_largest(list(self.m_theta.values()), self.rung.weights)
        return {
            "edges": self.edges.masked_scatter(self.edges, self.kept_edges()),
            "weights": dict(zip(names, pooled, strict=True)),
            "notes": {"zeros": int((self.m_g == 0).sum())},
        }

    def kept_edges(self) -> torch.Tensor:
        """Bool over the entries that were left."""
        scores = self.edge_scores()
        if not self.symmetric:
            return keep_largest([scores], self.rung.edges)[0]
        other = self.graph.reverse
        pair = (scores + scores[other]) / 2
        first = torch.arange(len(other), device=other.device) <= other
        stays = keep_largest([pair[first]], self.rung.edges // 2)[0]
        out = torch.zeros_like(first)
        out[first] = stays
        return out | out[other]

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "m_g": self.m_g.detach(),
            "m_theta": {n: m.detach() for n, m in self.m_theta.items()},
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "kept": self.kept,
            "clamped": self.clamped,
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.m_g.copy_(state["m_g"])
        for n, m in self.m_theta.items():
            m.copy_(state["m_theta"][n])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.kept, self.clamped = state["best"], state["kept"], state["clamped"]

    def outcome(self) -> dict[str, Any]:
        found = self.kept or self.masks()
        return {**found, "val": self.best, "notes": {**found.get("notes", {}), "clamped_degrees": self.clamped}}


# -- weights by magnitude


class ByMagnitude(Retrain):
    """A round of magnitude pruning: trained weights, one threshold for all layers."""

    def __init__(
        self, problem: GraphProblem, model: GraphNetwork, graph: Graph, edges: torch.Tensor, weights: Masks, rung: Rung
    ) -> None:
        super().__init__(problem, model, graph, weights)
        self.edges, self.rung = edges, rung

    def outcome(self) -> dict[str, Any]:
        trained = super().outcome()
        names = list(self.masks)
        kept = keep_largest([trained["model"][n] * self.masks[n] for n in names], self.rung.weights)
        return {"edges": self.edges, "weights": dict(zip(names, kept, strict=True)), "val": trained["val"]}


def static(
    problem: GraphProblem,
    keep: torch.Tensor,
    notes: Mapping[str, Any] | None = None,
    *,
    values: torch.Tensor | None = None,
    trainer: GraphTrainer | None = None,
) -> Ticket:
    """The ticket of a graph whose edges were chosen before the weights: `keep` is bool over its entries.

    Trained once from the initial weights; where the target names weights, these are pruned by iterated magnitude first.

    Args:
        values: weights of the entries that stay, 1 each where None.
        trainer: that of the solve, where the choice took trainings too.
    """
    _, share = target_shares(problem)
    trainer = trainer or GraphTrainer(problem)
    graph = problem.graph.weighted(keep, values)
    weights: Masks = {}
    if share < 1:
        ladder = rungs(problem, 1.0, share, problem.graph.edges, kept_weights(problem.model())[1])
        # a round is a whole training here, not a search
        weights = climb(
            trainer, lambda m, _, w, r: ByMagnitude(problem, m, graph, keep, w, r), ladder, epochs=problem.epochs
        ).weights
    return _trained(trainer, graph, weights, notes or {})
