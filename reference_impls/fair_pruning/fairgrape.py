"""Weights chosen so that every group keeps its share of the importance that it had in each layer (FairGRAPE).

Paper: Lin, Kim, Joo. FairGRAPE: Fairness-Aware GRAdient Pruning mEthod for Face Attribute Classification. ECCV 2022,
arXiv 2207.10888.

Deviations: importance as the paper defines it, where the authors' code accumulates gradients and trains while it estimates
(`as_run`); the group is chosen anew before every pick (the code: every second, `rechoose_every=2`). Masks are tightened while one
training goes on, the iterations being as many as it has steps for; how long it and the training after it are is what all have
together.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from reference_impls.parts.fair import Cut, Early, Pruner, Together, asked, dense, kept_count
from reference_impls.parts.fairness import Loss
from reference_impls.parts.sparse import Exploring, Masks, keep_top, uniform_counts, weighted
from reference_impls.parts.training import Trainer
from suite.naming import UserError
from tasks.fair_pruning.problem import FairProblem

__all__ = ["FairGrape"]

Layers = Mapping[str, nn.Conv2d | nn.Linear]
Importances = dict[str, torch.Tensor]  #: by layer, (groups, *shape of the weight)
Batch = tuple[torch.Tensor, torch.Tensor]  #: examples and (n, 2) labels and groups
Ranking = Literal[0, 1, 2]  #: delta_p: by I_g, by its share I_g / sum I, by I_g x share


@dataclass(frozen=True)
class FairGrape(Pruner):
    """Symbols as in the released `prune.py`."""

    version: ClassVar[int] = 1

    keep_per_iter: float = 0.9  #: share of the weights left that an iteration keeps
    batches: int = 20  #: that importance is taken over, at most
    end: float = 0.5  #: share of the training in which iterations lie; the rest is the last retraining
    delta_p: Ranking = 0  #: what a group ranks weights by
    rechoose_every: int = 1  #: picks between two choices of the group that picks
    as_run: bool = False  #: importance and rankings as the authors' code has them, quirks included

    def __post_init__(self) -> None:
        if not 0 < self.keep_per_iter < 1:
            raise UserError(f"keep_per_iter={self.keep_per_iter:g} must lie between 0 and 1, for example 0.9")
        if not 0 <= self.end <= 1 or self.batches < 1 or self.rechoose_every < 1:
            raise UserError("end must be a share from 0 to 1, batches and rechoose_every 1 or more")

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        """Retraining between the iterations is part of it, the last one is left."""
        share = asked(problem, "nonzero")
        model = dense(problem, trainer, loss)
        whole = copy.deepcopy(model)
        watch = problem.watch(whole)
        epochs = round(self.end * problem.tune_epochs)
        tightening = Tightening(self, problem, model, 1 - share, epochs * problem.steps_per_epoch)
        hooks = Together(tightening, Early(watch, model, problem.tune_epochs * problem.steps_per_epoch))
        trainer.fit("prune", model, problem.tune, epochs=epochs, hooks=hooks)
        tightening.finish()
        return Cut(model, tightening.masks, problem.tune_epochs - epochs, whole, watch)


class Tightening(Exploring):
    """The iterations, evenly over a training of so many steps; the first before its first step."""

    def __init__(self, method: FairGrape, problem: FairProblem, model: nn.Module, p: float, steps: int) -> None:
        self.method, self.problem, self.model, self.done = method, problem, model, 0
        layers = weighted(model)
        self.rates = rates(p, method.keep_per_iter, max(1, steps))
        super().__init__(
            layers, {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()}, max(1, steps // len(self.rates))
        )
        shapes = {n: tuple(m.weight.shape) for n, m in layers.items()}
        self.last = uniform_counts(shapes, kept_count(problem, sum(m.weight.numel() for m in layers.values())))
        # a closed run may see each of the pruning rows this often besides its training
        spare = (problem.tune_epochs + 1) * problem.steps_per_epoch
        self.batches = max(1, min(method.batches, spare // len(self.rates)))

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        if self.done == 0:
            self.explore()
        super().begin(optimizer)

    def explore(self) -> bool:
        if self.done == len(self.rates):
            return True
        p = self.rates[self.done]
        method, batches = self.method, self.problem.scoring(f"fairgrape {self.done}", self.batches)
        if method.as_run:
            scores, _ = importance_as_run(self.model, batches, self.problem.group_count)
        else:
            scores = importance(self.model, self.layers, batches, self.problem.group_count)
        # the last share exactly, of all layers together; an earlier one is not cut below it
        counts = {n: k if p == self.rates[-1] else max(k, left(self.masks[n].numel(), p)) for n, k in self.last.items()}
        weights = {n: m.weight for n, m in self.layers.items()}
        self.masks = select(scores, counts, self.masks, weights, method.delta_p, method.rechoose_every, method.as_run)
        self.done += 1
        return True

    def finish(self) -> None:
        """The speed division has no step: its one cut is made by size."""
        while self.done < len(self.rates):
            self.explore()
        self.after_step()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.done = int(state["done"])


def importance(model: nn.Module, layers: Layers, batches: Iterable[Batch], groups: int) -> Importances:
    """Mean over batches of (weight x gradient of a group's mean cross-entropy)^2 (Lin et al. 2022, and the released `prune.py`).

    A group is averaged over the batches that have it; one that no batch has is all zeros.  In eval mode, so that batch-norm
    statistics stay; the model is left as it was.
    """
    weights = [m.weight for m in layers.values()]
    sums = {n: m.weight.new_zeros(groups, *m.weight.shape) for n, m in layers.items()}
    seen = [0] * groups
    was = model.training
    model.eval()
    try:
        for x, y in batches:
            for g, members in _members(y, groups):
                seen[g] += 1
                loss = F.cross_entropy(model(x[members]), y[members, 0])
                for total, w, gradient in zip(sums.values(), weights, torch.autograd.grad(loss, weights), strict=True):
                    total[g] += (w.detach() * gradient) ** 2
    finally:
        model.train(was)
    for total in sums.values():
        for g, count in enumerate(seen):
            total[g] /= max(1, count)
    return sums


def importance_as_run(model: nn.Module, batches: Iterable[Batch], groups: int, lr: float = 1e-4) -> tuple[Importances, nn.Module]:
    """What the authors' code computes in its place: the importances of all layers, and the network that this leaves behind.

    Gradients are never zeroed; after every group Adam moves all parameters and the masks, which start at ones; the importance is
    of the weights and masks after that step; only the last group's sum is divided by the number of batches.  In training mode;
    the model itself is left as it was.
    """
    after = copy.deepcopy(model).train()
    layers = weighted(after)
    masks = {n: nn.Parameter(torch.ones_like(m.weight)) for n, m in layers.items()}
    sums = {n: m.weight.new_zeros(groups, *m.weight.shape) for n, m in layers.items()}
    adam = torch.optim.Adam([*after.parameters(), *masks.values()], lr=lr)
    adam.zero_grad()
    count = 0
    for x, y in batches:
        count += 1
        for g, members in _members(y, groups):
            logits = functional_call(after, {f"{n}.weight": m.weight * masks[n] for n, m in layers.items()}, (x,))
            F.cross_entropy(logits[members], y[members, 0]).backward()
            adam.step()
            for n, m in layers.items():
                assert m.weight.grad is not None
                sums[n][g] += (m.weight.detach() * masks[n].detach() * m.weight.grad) ** 2
    for total in sums.values():
        total[groups - 1] /= max(1, count)
    return sums, after


def select(
    importances: Importances,
    counts: Mapping[str, int],
    among: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    delta_p: Ranking = 0,
    rechoose_every: int = 1,
    as_run: bool = False,
) -> Masks:
    """Masks of `counts` weights a layer, chosen `among` those of these masks by `greedy`.

    A layer without any importance keeps its largest |weights|.
    """
    masks = {}
    for name, scores in importances.items():
        candidates = among[name].flatten().cpu().numpy().nonzero()[0]
        table = scores.detach().flatten(1).T.cpu().numpy()[candidates]
        count = min(counts[name], len(candidates))
        if not table.any():
            masks[name] = keep_top({name: weights[name].detach().abs()}, count, among={name: among[name]})[name]
            continue
        mask = np.zeros(among[name].numel(), dtype=bool)
        mask[candidates[greedy(table, count, delta_p, rechoose_every, as_run)]] = True
        masks[name] = torch.from_numpy(mask).view(among[name].shape).to(among[name].device)
    return masks


def greedy(table: np.ndarray, count: int, delta_p: Ranking = 0, rechoose_every: int = 1, as_run: bool = False) -> np.ndarray:
    """Rows that keep each group's share of the importance near what all rows give it (the paper's greedy selection).

    The group that lacks most picks the next row of its own ranking, whose whole line counts for all groups; a row picked
    already is passed over.  Ties: the lowest group, the lowest row.  Until something was gained all shares are 1 / groups.

    Sorting takes O(groups n log n), the picks, each of which depends on the one before, O(count groups) steps of Python and at
    most groups x n more to pass over rows: about a microsecond each.

    Args:
        table: (n, groups), importances of a layer's candidates, none negative, not all zero.
        count: rows to pick, at most n, so that no ranking is used up before (a used-up one has no row that is not picked).
        delta_p: what a group ranks by: 0 its importance I_g, 1 its share I_g / sum of I, 2 I_g times that.
        rechoose_every: picks between two choices of the group, a pick of a picked row being one; the authors' `para_batch` + 1.
        as_run: as the authors' code with delta_p: the rankings' values take the importances' place, group after group,
            in those lists too whose rows the shares add up.

    Returns:
        (count,) rows in the order of picking.
    """
    groups = table.shape[1]
    original = table.astype(np.float64)
    target = (original.sum(0) / original.sum()).tolist()
    rankings, gains = _rankings(table, delta_p, as_run)
    # plain numbers: the loop would spend its time on making numpy's
    lists = {id(g): g.tolist() for g in gains}
    gain, order = [lists[id(g)] for g in gains], [r.tolist() for r in rankings]

    picked = bytearray(len(table))
    rows: list[int] = []
    totals, shares = [0.0] * groups, [1 / groups] * groups
    at, picks, g = [0] * groups, 0, 0
    every_group = range(groups)
    while len(rows) < count:
        if picks % rechoose_every == 0:
            lack = [p - t for p, t in zip(shares, target, strict=True)]
            g = lack.index(min(lack))
        picks += 1
        row = order[g][at[g]]
        at[g] += 1
        if picked[row]:
            continue
        picked[row] = 1
        rows.append(row)
        line = gain[g][row]
        for h in every_group:
            totals[h] += line[h]
        whole = sum(totals)
        if whole:
            shares = [t / whole for t in totals]
    return np.array(rows, dtype=np.int64)


def _rankings(table: np.ndarray, delta_p: Ranking, as_run: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For every group the rows from its first choice on, and the (n, groups) table of what a pick adds to the totals.

    A row without any importance has no share: it ranks as 0.
    """
    # the code's own precision decides its ties; the clean ranking is of exact shares
    values = table.copy() if as_run else table.astype(np.float64)
    whole = values.sum(1)
    whole[whole == 0] = 1
    original, rankings, gains = values.copy(), [], []
    for g in range(values.shape[1]):
        rank = values[:, g] if delta_p == 0 else values[:, g] / whole
        if delta_p == 2:
            rank = values[:, g] * rank
        rankings.append(np.argsort(-rank, kind="stable"))
        if as_run and delta_p:
            values[:, g] = rank
            gains.append(values.astype(np.float64))  # a copy: groups to come overwrite their columns later
        else:
            gains.append(original)
    return rankings, gains


def left(size: int, p: float) -> int:
    """How many of a layer's weights a pruning rate p leaves."""
    return int(size * (1 - p))


def rates(p: float, keep_per_iter: float = 0.9, most: int | None = None) -> list[float]:
    """Pruning rates of the iterations: 1 - keep_per_iter^i, the last p itself.

    Args:
        most: iterations at most, which then keep less each.
    """
    iterations = math.ceil(math.log(1 - p) / math.log(keep_per_iter))
    if most is not None and iterations > most:
        iterations, keep_per_iter = most, (1 - p) ** (1 / most)
    return [min(p, 1 - keep_per_iter**i) for i in range(1, iterations)] + [p]


def _members(y: torch.Tensor, groups: int) -> Iterable[tuple[int, torch.Tensor]]:
    """The groups that a batch has, with the places of their examples."""
    for g in range(groups):
        members = (y[:, 1] == g).nonzero().flatten()
        if len(members):
            yield g, members
