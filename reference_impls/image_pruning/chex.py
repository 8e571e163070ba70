"""CHEX: a network trains from scratch while its channels are pruned and regrown, less and less, until they stand.

Paper: Hou, Qin, Sun, Ma, Yuan, Xu, Chen, Jin, Xie, Kung. CHEX: CHannel EXploration for CNN Model Compression.
CVPR 2022, arXiv 2203.15794.

Deviations: the paper fixes a share S of channels; here S is found at each update by bisection over the present BN
scales, so that the network that is kept meets the operations target (`share` fixes it as in the paper). Counts are
exact integers, the residual is solved in float64, one channel a layer always stays, and BN parameters do not decay;
`parity` brings the released code's ways back. Deployment slices the channels away, the released networks keep zeros. The last
epoch is deployed as of the table's other methods, without a choice by validation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from reference_impls.parts.channels import (
    close_gap,
    l1_norms,
    largest,
    rank,
    ranked_widths,
    target_macs,
    uniform_widths,
    widths_of,
)
from reference_impls.parts.training import Hooks, Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.channels import ChannelGroup, mask_
from tasks.images.recipes import Recipe, Sgd

__all__ = ["Chex"]

Masks = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Chex:
    """Symbols as in the released code's options: S `channel_sparsity`, delta_0 `init_channel_ratio`, Delta T `delta_T`, T_max."""

    version: ClassVar[int] = 1

    share: float | None = None  #: S, final share of channels pruned; None: whatever meets the operations target
    delta0: float | None = None  #: initial regrow share of all channels; None: half of S; 0: no regrowing
    interval: int = 0  #: Delta T, epochs between updates; 0: two as in the paper, one where a run is too short for that
    last: float = 0.72  #: T_max, the last update, as a share of the epochs
    score: Literal["css", "l1"] = "css"  #: who stays in a layer: column subset selection, or the filters' L1 norms
    sampling: Literal["importance", "uniform"] = "importance"  #: who regrows: those that the kept ones explain least, or any
    restore: Literal["mru", "zero"] = "mru"  #: what a regrown channel starts from: its most recent weights, or zero
    ratios: Literal["bn", "uniform"] = "bn"  #: how many each layer keeps: by one ranking of all BN scales, or the same share
    residual_power: int = 1  #: the released code takes the norm, the paper its square
    min_channels: int = 1  #: of a layer, that always stay
    parity: bool = False  #: the released code's truncation, no channel floor, and BN parameters that decay in shortcuts

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 0.5)
        explorer = Exploration(self, problem, model)
        recipe = (Released if self.parity else Recipe).of(problem)
        Trainer(problem).fit("train", model, recipe, epochs=problem.epochs, hooks=explorer)
        small = problem.compact(model, explorer.masks)
        return Network(small, {"widths": widths_of(explorer.masks), "history": explorer.history})


class Released(Sgd):
    """The released code's weight decay: none for what has "bn" in its name, so that batch norms of shortcuts do decay (2.4)."""

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        free = {id(p) for n, p in model.named_parameters() if "bn" in n}
        parts = [
            {
                "params": [p for p in model.parameters() if (id(p) in free) == spared],
                "weight_decay": 0.0 if spared else self.weight_decay,
            }
            for spared in (False, True)
        ]
        return torch.optim.SGD([p for p in parts if p["params"]], self.lr, self.momentum, nesterov=self.nesterov)


class Exploration(Hooks):
    """As in the released `training.py` and `prune_utils.py`: masks, memory, and the update at the start of an epoch."""

    def __init__(self, method: Chex, problem: ImageProblem, model: nn.Module) -> None:
        self.method, self.problem, self.model = method, problem, model
        self.groups = problem.groups(model)
        self.floor = 0 if method.parity else method.min_channels
        self.interval = method.interval or (2 if problem.epochs >= 100 else 1)
        self.t_max = max(1, round(method.last * problem.epochs / self.interval)) * self.interval
        self.history: list[dict[str, Any]] = []
        self.even: dict[str, int] = {}
        if method.share is None:
            # the share that would meet the target if it were spread evenly: sets the scale of delta_0
            self.even = uniform_widths(self.groups, problem.macs_of, target_macs(problem), floor=0.0)
            sliced = sum(g.width for g in self.groups if g.name in self.even)
            self.initial_share = 1 - sum(self.even.values()) / sliced
        else:
            self.initial_share = method.share
        self.delta0 = 0.5 * self.initial_share if method.delta0 is None else method.delta0
        # step 0: masks by L1 on the random weights; the memory is a copy of the model before masking
        self.memory = copy.deepcopy(model.state_dict())
        self.masks = self.first_masks()
        mask_(self.groups, self.masks)

    def first_masks(self) -> Masks:
        """Step 0 at the ratio S - delta_0; where S follows from a target, exactly that share above the even widths that meet it."""
        if not self.even:
            return initial_masks(self.groups, self.initial_share - self.delta0, self.floor)
        counts = {
            g.name: self.even.get(g.name, int(g.width * (1 - self.initial_share))) + int(self.delta0 * g.width) for g in self.groups
        }
        return {g.name: largest(l1_norms(g.layer.weight), counts[g.name]) for g in self.groups}

    def before_epoch(self, epoch: int) -> None:
        if is_update(epoch, self.t_max, self.interval):
            self.update(epoch)

    def after_step(self) -> None:
        mask_(self.groups, self.masks)

    def state(self) -> dict[str, Any]:
        return {"masks": self.masks, "memory": self.memory, "history": self.history}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.masks, self.memory, self.history = dict(state["masks"]), dict(state["memory"]), list(state["history"])

    @torch.no_grad()
    def update(self, epoch: int) -> None:
        """Step 1: layer counts, keep by CSS, restore the pruned from memory, regrow some, mask again."""
        delta = regrow_share(epoch, self.t_max, self.delta0)
        kept, total = self.counts(delta)
        generator = torch.Generator().manual_seed(self.problem.run.seed("chex", epoch))
        rows = self.method.restore == "mru"
        keep = explore(
            self.groups,
            self.memory,
            kept,
            total,
            self.scores,
            self.probabilities,
            lambda p, n: draw(p, n, generator),
            rows=rows,
        )
        self.memory = copy.deepcopy(self.model.state_dict())
        self.masks = keep
        mask_(self.groups, keep)
        self.history.append({"epoch": epoch, "delta": delta, "widths": widths_of(keep)})

    def counts(self, delta: float) -> tuple[dict[str, int], dict[str, int]]:
        """Channels that each layer keeps (share S), and keeps with its regrown ones (share S - delta)."""
        method, floor = self.method, self.floor
        if method.ratios == "uniform":
            share = self.initial_share
            kept, total = ({g.name: max(floor, int(g.width * (1 - s))) for g in self.groups} for s in (share, share - delta))
            kept |= self.even
            return kept, {n: max(total[n], k) for n, k in kept.items()}
        scales = {g.name: g.bn.weight.abs() for g in self.groups}
        if method.share is not None:
            ratios = [layer_ratios(scales, s) for s in (method.share, method.share - delta)]
            return tuple(kept_counts(self.groups, r, floor, truncate=method.parity) for r in ratios)  # type: ignore[return-value]
        # a dead channel cannot be kept, only regrown
        living = {n: s[self.masks[n].to(s.device)] for n, s in scales.items()}
        kept = self.kept_to_target(living)
        return kept, widen(kept, scales, int(delta * sum(g.width for g in self.groups)))

    def kept_to_target(self, living: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Channels of each layer among the living whose BN scales rank highest, up to the target of operations.

        Outputs of shortcuts cost nothing once the network is sliced: they stay where their scale reaches that of the weakest
        channel that the others keep.
        """
        sliced = {g.name: living[g.name] for g in self.groups if g.consumer is not None}
        least = {n: min(self.floor, len(s)) for n, s in sliced.items()}
        goal, macs_of = target_macs(self.problem), self.problem.macs_of
        ranked = ranked_widths(sliced, macs_of, goal, least)
        kept = close_gap(ranked, {n: len(s) for n, s in sliced.items()}, least, macs_of, goal)
        pooled = torch.cat(list(sliced.values())).detach().sort(descending=True).values
        count = min(len(pooled), sum(kept.values()))
        weakest = float(pooled[count - 1]) if count else math.inf
        for name, s in living.items():
            if name not in kept:
                kept[name] = max(min(self.floor, len(s)), int((s >= weakest).sum()))
        return kept

    def scores(self, g: ChannelGroup, kept: int) -> torch.Tensor:
        return l1_norms(g.layer.weight) if self.method.score == "l1" else css_scores(g.layer.weight, kept)

    def probabilities(self, g: ChannelGroup, keep: torch.Tensor) -> torch.Tensor:
        if self.method.sampling == "uniform":
            free = (~keep).double()
            return free / free.sum().clamp_min(1)
        return regrow_probabilities(g.layer.weight, keep, self.method.residual_power)


def widen(widths: Mapping[str, int], scores: Mapping[str, torch.Tensor], count: int) -> dict[str, int]:
    """Widths with the next `count` channels of the ranking added to them."""
    out, seen = dict(widths), dict.fromkeys(scores, 0)
    for name in rank(scores):
        if count <= 0:
            break
        seen[name] += 1
        if seen[name] > out[name]:
            out[name] += 1
            count -= 1
    return out


def is_update(epoch: int, t_max: int, interval: int) -> bool:
    """Epochs 1 .. T_max that are multiples of Delta T."""
    return 1 <= epoch <= t_max and epoch % interval == 0


def regrow_share(epoch: int, t_max: int, delta0: float) -> float:
    """delta_0 (1 + cos(pi e / T_max)) / 2."""
    return delta0 * (1 + math.cos(math.pi * epoch / t_max)) / 2


def initial_masks(groups: Sequence[ChannelGroup], ratio: float, floor: int) -> Masks:
    """In every layer the int(C (1 - ratio)) filters of largest L1 norm."""
    counts = {g.name: max(floor, int(g.width * (1 - ratio))) for g in groups}
    return {g.name: largest(l1_norms(g.layer.weight), counts[g.name]) for g in groups}


def layer_ratios(scales: Mapping[str, torch.Tensor], share: float) -> dict[str, float]:
    """Each layer's share of BN scales at or under the network's `share`-quantile.

    The threshold is sort(g)[int(N share)], counted from 0, over all scales.
    """
    ordered = torch.cat([s.detach().abs().flatten() for s in scales.values()]).sort().values
    threshold = ordered[min(len(ordered) - 1, max(0, int(len(ordered) * share)))]
    return {name: float((s.detach().abs() <= threshold).double().mean()) for name, s in scales.items()}


def kept_counts(groups: Sequence[ChannelGroup], ratios: Mapping[str, float], floor: int, *, truncate: bool) -> dict[str, int]:
    """Channels kept at these ratios: exact integers, or int(C (1 - ratio)) in floating point as released."""
    whole: Callable[[float], int] = int if truncate else round
    return {g.name: max(floor, whole(g.width * (1 - ratios[g.name]))) for g in groups}


def css_scores(weight: torch.Tensor, kept: int) -> torch.Tensor:
    """Column subset selection scores of the filters, (C, C_in, k, k) to (C,) float64.

    With X the (d, C) filter matrix and V its right singular vectors, the score of filter j is the norm of
    row j of the first `kept` columns of V: the root of its leverage score.  Where d < C: its L1 norm.
    A zero filter scores zero.
    """
    filters = weight.detach().flatten(1).double()
    norms = filters.abs().sum(1)
    count, d = filters.shape
    if d < count:
        return norms
    # the left singular vectors of X^T are the right ones of X
    vectors = torch.linalg.svd(filters, full_matrices=False).U[:, :kept]
    return torch.where(norms > 0, vectors.norm(dim=1), 0.0)


def regrow_probabilities(weight: torch.Tensor, keep: torch.Tensor, power: int = 1) -> torch.Tensor:
    """Softmax of the residuals of the not-kept filters after projection on the kept, (C,) float64.

    Zero for kept channels.  The projection is exact in float64, by the singular vectors of the kept
    filters that carry weight: with K >= d every residual is 0 and the draw is uniform.
    """
    columns = weight.detach().flatten(1).double().T
    basis, free = columns[:, keep], columns[:, ~keep]
    if basis.shape[1] > 0:
        u, s, _ = torch.linalg.svd(basis, full_matrices=False)
        u = u[:, s > s.max() * max(basis.shape) * torch.finfo(torch.float64).eps]
        residual = (free - u @ (u.T @ free)).norm(dim=0)
        # what is left of a vector in the span is rounding
        residual = torch.where(residual > 1e-12 * columns.norm(), residual, 0.0)
    else:
        residual = free.norm(dim=0)
    out = torch.zeros(columns.shape[1], dtype=torch.float64, device=weight.device)
    out[~keep] = torch.softmax(residual**power, 0)
    return out


@torch.no_grad()
def explore(
    groups: Sequence[ChannelGroup],
    memory: Mapping[str, torch.Tensor],
    kept: Mapping[str, int],
    total: Mapping[str, int],
    scores: Callable[[ChannelGroup, int], torch.Tensor],
    probabilities: Callable[[ChannelGroup, torch.Tensor], torch.Tensor],
    pick: Callable[[torch.Tensor, int], torch.Tensor],
    *,
    rows: bool = True,
) -> Masks:
    """Keep by score on the masked weights, restore the dead, regrow up to `total`.

    Leaves the network restored and unmasked, as the memory needs it; returns the new masks.
    """
    keep = {g.name: largest(scores(g, kept[g.name]), kept[g.name]) for g in groups}
    restore_pruned(groups, memory, rows=rows)
    for g in groups:
        missing = total[g.name] - kept[g.name]
        if missing > 0:
            grown = pick(probabilities(g, keep[g.name]), missing)
            keep[g.name][grown.to(keep[g.name].device)] = True
    return keep


def draw(probabilities: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` indices without replacement, one after the other, by renormalised probabilities."""
    count = min(count, int((probabilities > 0).sum()))
    if count <= 0:
        return torch.empty(0, dtype=torch.long)
    return torch.multinomial(probabilities.cpu(), count, replacement=False, generator=generator)


@torch.no_grad()
def restore_pruned(groups: Sequence[ChannelGroup], memory: Mapping[str, torch.Tensor], *, rows: bool = True) -> Masks:
    """Give zero filters their most recently used values back; returns who was dead.

    The dead are found in all layers before anything is copied, since copied input columns would hide
    dead filters of the next layer.  `rows=False` leaves the filters themselves at zero.
    """
    dead = {g.name: l1_norms(g.layer.weight) == 0 for g in groups}
    for g in groups:
        d = dead[g.name]
        if rows:
            g.layer.weight[d] = memory[f"{g.name}.weight"][d]
    for g in groups:
        d = dead[g.name]
        if g.consumer is not None:
            g.consumer.weight[:, d] = memory[f"{g.names.consumer}.weight"][:, d]
        for part in ("weight", "bias", "running_mean", "running_var"):
            getattr(g.bn, part)[d] = memory[f"{g.names.norm}.{part}"][d]
    return dead
