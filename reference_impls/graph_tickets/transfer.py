"""A ticket found on one graph or network, used on another: its edges by another network, its weights on another graph.

Paper: Hui, Yan, Ma, Ku. Rethinking Graph Lottery Tickets: Graph Sparsity Matters. ICLR 2023, arXiv 2305.02190.

Deviations: a reconstruction of its transfer experiment. Weights move between graphs whose features were
projected to the same width (`cora-128`, `sbm-128`, ...) and onto the whole target graph; a last layer of another width is new and
unmasked, and the others are pruned so much the more. Edges move between networks of the same graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from reference_impls.graph_tickets.rethinking_glt import Auxiliary, Perturb, RethinkingGlt
from reference_impls.parts.graph_masks import Found, Search, climb, rungs, target_shares, ticket
from reference_impls.parts.graph_training import GraphTrainer, Masks, Retrain, apply_masks, train
from reference_impls.parts.sparse import shuffled
from suite.naming import UserError
from tasks.graph_tickets.task import GraphProblem, Ticket, kept_weights

__all__ = ["Transfer"]


@dataclass(frozen=True)
class Transfer:
    """Arms of a transfer of weights:

    `ticket`: masks and the source's trained weights; `scratch`: masks and the source's initial weights; `dense`: the source's
    trained dense weights; `dense_scratch`: neither; `random`: random masks of the same density and the source's dense weights.
    """

    version: ClassVar[int] = 1

    source: str = "cora/gin"  #: case that the ticket is found on
    finder: Literal["ugs", "wd", "minmax_perturb"] = "ugs"  #: what finds it
    arm: Literal["ticket", "scratch", "dense", "dense_scratch", "random"] = "ticket"  #: what is carried over, or a control

    def solve(self, problem: GraphProblem) -> Ticket:
        source = problem.other(self.source)
        edges, weights = target_shares(problem)
        trainer = GraphTrainer(problem)
        there = trainer.on(source, "source")
        if source.name == problem.name:
            if weights < 1 or self.arm != "ticket":
                raise UserError("between networks of one graph edges alone move: ask for --target edges=0.5, arm=ticket")
            found = self.find(there, edges, 1.0, source.model().prunable())
            return ticket(trainer, found.edges, {}, {"source": self.source, "rounds": found.notes})
        if edges < 1 or source.architecture != problem.architecture or source.inputs != problem.inputs:
            raise UserError(
                f"from {self.source} to {problem.spec.case}: between graphs weights alone move, within one architecture and one"
                " width of features; take a source such as cora-128/gcn for sbm-128/gcn, and --target weights=0.5"
            )
        return self.move_weights(trainer, there, weights)

    def find(self, trainer: GraphTrainer, edges: float, weights: float, names: list[str]) -> Found:
        """The ladder on the source; masks cover the weights of these names."""
        source = trainer.problem
        if self.finder != "ugs":
            source.need_classes()
        total = sum(p.numel() for n, p in source.model().named_parameters() if n in names)
        ladder = rungs(source, edges, weights, source.graph.edges, total)
        if self.finder == "ugs":
            s1, s2 = (0.0 if share == 1 else s for share, s in ((edges, source.recipe.s1), (weights, source.recipe.s2)))
            return climb(trainer, lambda m, e, w, r: Search(source, m, e, w, r, s1=s1, s2=s2), ladder, names)
        kind, method = (Auxiliary, RethinkingGlt(mode="wd")) if self.finder == "wd" else (Perturb, RethinkingGlt())
        return climb(trainer, lambda m, e, w, r: kind(method, source, m, e, w, r), ladder, names)

    def move_weights(self, trainer: GraphTrainer, there: GraphTrainer, weights: float) -> Ticket:
        problem, source = trainer.problem, there.problem
        fresh = problem.model()
        shapes = {n: p.shape for n, p in fresh.named_parameters()}
        masks: Masks = {}
        if self.arm in ("ticket", "scratch", "random"):
            names = [n for n, p in source.model().named_parameters() if n in fresh.prunable() and p.shape == shapes[n]]
            moved, total = sum(shapes[n].numel() for n in names), kept_weights(fresh)[1]
            share = (weights * total - (total - moved)) / moved if moved else 0.0
            if share <= 0:
                raise UserError(f"target {problem.spec.target!r}: the layers that do not move hold {1 - moved / total:.0%} already")
            found = self.find(there, 1.0, share, names)
            masks = found.weights
        if self.arm == "random":
            generator = torch.Generator().manual_seed(problem.run.seed("transfer masks"))
            masks = {n: shuffled(m, generator) for n, m in masks.items()}
        brought: dict[str, Any] = {}
        if self.arm == "scratch":
            # the target's own draw is another one, also of layers of the same shape, where class counts differ
            brought = source.model().state_dict()
        elif self.arm in ("ticket", "dense", "random"):
            brought = train(there, source.graph, masks if self.arm == "ticket" else None).state_dict()

        def begin() -> Retrain:
            model = problem.model()
            state = model.state_dict()
            state.update({n: p for n, p in brought.items() if p.shape == shapes.get(n)})
            model.load_state_dict(state)
            return Retrain(problem, model, problem.graph, masks)

        outcome = trainer.fit("fine-tune", begin)
        model = problem.model()
        model.load_state_dict(outcome["model"])
        apply_masks(model, masks)
        return Ticket(problem.graph.row, problem.graph.col, model, {"source": self.source})
