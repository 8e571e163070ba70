"""Weights removed that matter little to the unprivileged group and much to the privileged one (FairPrune).

Paper: Wu, Zeng, Xu, Shi, Hu. FairPrune: Achieving Fairness Through Pruning for Dermatological Disease Diagnosis. MICCAI 2022,
arXiv 2203.02110.

Deviations: prunes to the share that is asked for, at once, by a ranking of the weights alone, so that biases use up no places;
fine-tunes afterwards, since at these shares a network without would be useless (the paper, which removes a third at most, does
not).  Of more than two groups all but the privileged one are taken together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional as F

from reference_impls.parts.fair import Cut, Pruner, asked, cut_of, dense, kept_count
from reference_impls.parts.fairness import Loss
from reference_impls.parts.sparse import Masks, alive, apply_masks, keep_top, magnitudes, weighted
from reference_impls.parts.training import Hooks, Trainer
from suite.naming import UserError
from tasks.fair_pruning.problem import FairProblem

__all__ = ["FairPrune"]

Batch = tuple[torch.Tensor, torch.Tensor]  #: examples and (n, 2) labels and groups
Diagonals = dict[str, torch.Tensor]  #: by parameter, (groups, *its shape)
EXACT = 100_000  #: parameters up to which the diagonal is taken exactly and not by drawn labels
PIECE = 2**24  #: squared derivatives held at once


@dataclass(frozen=True)
class FairPrune(Pruner):
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    beta: float = 0.33  #: how much the privileged group's Hessian counts against a weight
    privileged: int = 1  #: number of the privileged group
    batches: int = 0  #: of the pruning rows, that score; 0: all

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        asked(problem, "nonzero")
        if not 0 <= self.privileged < problem.group_count:
            raise UserError(f"privileged={self.privileged}: number one of the groups, {_numbered(problem)}")
        if problem.group_count > 2 and self.privileged == 1:
            raise UserError(f"which of several groups is privileged nobody knows: --set privileged=N, {_numbered(problem)}")
        model = dense(problem, trainer, loss)
        count = kept_count(problem, sum(m.weight.numel() for m in weighted(model).values()))
        found = Scored(lambda: self.masks(problem, model, count))
        trainer.fit("cut", model, problem.tune, epochs=0, hooks=found)  # no training: a stage, so that a stop forgets no score
        cut = cut_of(problem, model, found.masks)
        apply_masks(weighted(model), found.masks)
        return cut

    def masks(self, problem: FairProblem, model: nn.Module, count: int) -> Masks:
        layers = weighted(model)
        batches = problem.scoring("fairprune", self.batches or problem.steps_per_epoch)
        two = ((x, torch.stack([y[:, 0], (y[:, 1] == self.privileged).long()], 1)) for x, y in batches)
        unprivileged, privileged = apart(hessian_diagonals(model, two, 2, seed=problem.run.seed("fairprune labels")))
        scores = saliency(dict(model.named_parameters()), unprivileged, privileged, self.beta)
        of_weights = {n: scores[f"{n}.weight"] for n in layers}
        if not any(s.any() for s in of_weights.values()):  # the speed division has no batch to score by
            of_weights = magnitudes(layers)
        return keep_top(of_weights, count)


def _numbered(problem: FairProblem) -> str:
    return ", ".join(f"{i} {name}" for i, name in enumerate(problem.groups_named))


class Scored(Hooks):
    """Masks that are found before any step, and are kept from then on."""

    def __init__(self, score: Callable[[], Masks]) -> None:
        self.score = score
        self.masks: Masks = {}

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.masks:
            self.masks = self.score()

    def state(self) -> dict[str, Any]:
        return {"masks": self.masks}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.masks = dict(state["masks"])


def hessian_diagonals(
    model: nn.Module, batches: Iterable[Batch], groups: int, *, exact: bool | None = None, seed: int = 0
) -> Diagonals:
    """Diagonal Gauss-Newton Hessians of each group's mean cross-entropy; zeros of a group that no batch has.

    Exact: the sum over classes of squared Jacobian rows weighted by diag(p) - p p^T, for every example by itself.  Otherwise
    squared gradients at labels drawn from p, whose mean is the same.  In eval mode; the model is left as it was.

    The cost is that of C gradients an example, or of one.

    Args:
        exact: None: up to `EXACT` parameters.
        seed: of the drawn labels.
    """
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    buffers = dict(model.named_buffers())
    size = sum(p.numel() for p in parameters.values())
    exact = size <= EXACT if exact is None else exact
    draw = torch.Generator().manual_seed(seed)

    def logits(parameters: Diagonals, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = functional_call(model, {**parameters, **buffers}, (x[None],))
        return found[0]

    def summed(x: torch.Tensor) -> Diagonals:
        z, pull = vjp(lambda parameters: logits(parameters, x), parameters)
        p = z.softmax(0)
        # diag(p) - p p^T = R R^T, and the squares of J^T R have no differences that cancel
        root = torch.diag(p.sqrt()) - torch.outer(p, p.sqrt())
        (rows,) = vmap(pull)(root.T)
        return {n: r.square().sum(0) for n, r in rows.items()}

    def drawn(x: torch.Tensor, label: torch.Tensor) -> Diagonals:
        found = grad(lambda parameters: F.cross_entropy(logits(parameters, x), label))(parameters)
        return {n: g.square() for n, g in found.items()}

    sums = {n: torch.zeros(groups, p.numel(), dtype=torch.float64, device=p.device) for n, p in parameters.items()}
    counts = torch.zeros(groups, dtype=torch.float64)
    was = model.training
    model.eval()
    try:
        for x, y in batches:
            # what an example's maps and, of every class, gradients take
            piece = max(1, PIECE // ((len(model(x[:1])[0]) if exact else 1) * (size + x[0].numel())))
            for part, group in zip(x.split(piece), y[:, 1].split(piece), strict=True):
                if exact:
                    squares = vmap(summed)(part)
                else:
                    label = torch.multinomial(model(part).detach().softmax(1).cpu(), 1, generator=draw)[:, 0]
                    squares = vmap(drawn)(part, label.to(part.device))
                members = F.one_hot(group, groups).to(part.dtype)
                for n, s in squares.items():
                    sums[n] += members.T @ s.flatten(1)
                counts += members.sum(0).cpu()
    finally:
        model.train(was)
    return {
        n: (sums[n] / counts.clamp_min(1)[:, None].to(p.device)).to(p.dtype).view(groups, *p.shape) for n, p in parameters.items()
    }


def apart(diagonals: Diagonals) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Those of groups 0 and 1, by parameter."""
    return {n: d[0] for n, d in diagonals.items()}, {n: d[1] for n, d in diagonals.items()}


def saliency(
    parameters: Mapping[str, torch.Tensor],
    unprivileged: Mapping[str, torch.Tensor],
    privileged: Mapping[str, torch.Tensor],
    beta: float,
) -> dict[str, torch.Tensor]:
    """S = theta^2 (H_0 - beta H_1) / 2, by parameter; the smallest goes, what is negative first."""
    return {n: 0.5 * p.detach() ** 2 * (unprivileged[n] - beta * privileged[n]) for n, p in parameters.items()}


def without_smallest(
    scores: Mapping[str, torch.Tensor], rate: float, weights: Collection[str], among: Mapping[str, torch.Tensor] | None = None
) -> Masks:
    """Masks of all parameters after the int(rate N) smallest of those left were struck, of which only `weights` go.

    A bias that ranks among them stays and uses up its place, as in the ports.  Of equal ones the first go.

    Args:
        scores: of all parameters, N of them, in their order.
        among: masks of what is left; None: all.  N stays that of all.
    """
    flat = torch.cat([s.detach().flatten() for s in scores.values()])
    left = torch.cat([among[n].flatten() for n in scores]) if among else torch.ones_like(flat, dtype=torch.bool)
    # what went before comes last, whatever its score
    order = torch.sort(flat, stable=True).indices
    order = order[torch.sort((~left)[order].int(), stable=True).indices]
    kept = left.clone()
    kept[order[: min(int(rate * len(flat)), int(left.sum()))]] = False
    pieces = kept.split([s.numel() for s in scores.values()])
    masks = {n: piece.view(s.shape) for (n, s), piece in zip(scores.items(), pieces, strict=True)}
    return {n: m if n in weights else torch.ones_like(m) for n, m in masks.items()}


def prune_while_fairer(
    model: nn.Module,
    score: Callable[[], Mapping[str, torch.Tensor]],
    unfairness: Callable[[], float],
    rate: float,
    patience: int = 5,
) -> Masks:
    """The paper's own procedure, in place: strike, measure, strike again, until `patience` times in a row nothing got fairer, or no
    weight goes.

    Ends with the fairest network met on the way, and returns its masks of all parameters.

    Args:
        score: saliencies of all parameters as the network is.
        unfairness: what shall fall, of the network as it is.
        rate: share of all parameters that goes each time.
    """
    parameters = dict(model.named_parameters())
    weights = {f"{n}.weight" for n in weighted(model)}
    masks: Masks = {n: torch.ones_like(p, dtype=torch.bool) for n, p in parameters.items()}
    best, fairest, waited = masks, unfairness(), 0
    values = {n: p.detach().clone() for n, p in parameters.items()}
    while waited < patience:
        smaller = without_smallest(score(), rate, weights, among=masks)
        if alive(smaller) == alive(masks):
            break
        masks = smaller
        _write(parameters, values, masks)
        found = unfairness()
        if found < fairest:
            best, fairest, waited = masks, found, 0
        else:
            waited += 1
    _write(parameters, values, best)
    return best


@torch.no_grad()
def _write(parameters: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor], masks: Masks) -> None:
    for n, p in parameters.items():
        p.copy_(values[n] * masks[n])
