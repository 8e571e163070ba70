"""Lottery tickets made structural: the mask found by iterative pruning becomes whole channels, or a few dense blocks.

Paper: Chen, Chen, Ma, Wang, Wang. Coarsening the Granularity: Towards Structurally Sparse Lottery Tickets.
ICML 2022, arXiv 2202.04736.

Deviations: all trainings share one budget, each under the table's whole schedule, and how many weights the last mask keeps is
bisected, so that the network that is deployed meets the target; its last epoch is deployed, without a choice by validation. The
other channels tied at refill's threshold lose their partial masks, scores come from the weights that the mask was cut from,
dead channels hold their batch norm at 0, and their rows are not computed. Regroup partitions by Mt-KaHyPar in place of hMETIS,
into fewer parts where a layer has under 256 rows. A layer is executed by blocks only where that pays, and counted as it is
executed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.blocks import Block, batch_norms, mask_of, pays, with_blocks
from reference_impls.parts.channels import l1_norms
from reference_impls.parts.partition import partition
from reference_impls.parts.rewinding import rounds, tickets, train_ticket
from reference_impls.parts.sparse import Masked, Masks, alive, magnitudes, maskable, places
from reference_impls.parts.training import Trainer
from suite.extras import need
from suite.naming import UserError
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["StructureLth"]

Criterion = Literal["l1", "remain", "feature_l1", "feature_l2", "saliency"]
Partition = Callable[[torch.Tensor], torch.Tensor]  #: mask (C, n) to a part for each row that has a one
Width = Callable[[torch.Tensor, torch.Tensor, float], int]
#: Where an output joins a residual sum, dead rows are left out of the work if a filter has this many weights: below,
#: scattering the others into their places takes longer than it saves.
JOINS = 512


@dataclass(frozen=True)
class StructureLth:
    """Symbols as in the paper and the released code; `extra` above 0 is refill+."""

    version: ClassVar[int] = 1

    mode: Literal["refill", "regroup"] = "refill"  #: whole channels, or dense blocks
    rate: float = 0.2  #: share of the weights left that goes in a round, where every training has the whole budget
    rounds: int = 5  #: of train, prune and rewind, at most, where all trainings share one budget
    rewind: float = 0.05  #: where weights go back to, as a share of a training
    weights: Literal["rewound", "redrawn"] = "rewound"  #: redrawn: the same masks on other initial weights, the control
    extra: float = 0.0  #: share of the channels to be dropped that refill+ keeps
    criterion: Criterion = "l1"  #: how channels are ranked for refilling
    #: how wide a block is: as the released code finds it, as it means to, or as the paper writes
    rule: Literal["released", "intended", "paper"] = "released"
    t1: float = 1.5  #: how few ones of a row may stay outside of a block, against its width
    nn: int = 32  #: rows of a block, where a cluster has more
    B2: int = 16  #: a block has more rows than this
    cn: int = 0  #: parts of the rows; 0: C / 32, at least 2 and at most the paper's 8
    parity: bool = False  #: tied channels that refill does not choose keep their partial masks, as released

    def solve(self, problem: ImageProblem) -> Network:
        if self.mode == "regroup":
            need("mtkahypar", "mode=regroup")  # said before the trainings
        model = problem.model()
        layers = maskable(model, classifier=False)
        structure = Structure(self, problem, model, layers)
        guess = structure.aim(magnitudes(layers), {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()})
        size = sum(m.weight.numel() for m in layers.values())
        scoring = self.criterion not in ("l1", "remain")
        counts, spread = rounds(
            problem, size, guess, self.rate, self.rounds, self.rewind, spared=int(scoring), fresh=True, whole=round
        )
        trainer, recipe = Trainer(problem), Recipe.of(problem)
        found, rewound = tickets(trainer, model, layers, counts, recipe, spread, structure.aim)
        signals = (
            channel_signals(model, layers, problem.sample(problem.batch, "structure_lth"), self.criterion) if scoring else None
        )
        masks, blocks = structure.of(found, magnitudes(layers), signals)
        hooks = Masked(layers, masks) if self.mode == "regroup" else Held(model, layers, masks)
        redrawn = problem.run.seed("structure_lth weights") if self.weights == "redrawn" else None
        train_ticket(trainer, model, rewound, recipe, spread, hooks, redrawn)
        kept, regular = alive(masks), alive({n: masks[n] for n in (blocks if self.mode == "regroup" else masks)})
        notes = {
            "levels": len(counts),
            "found": alive(found) / size,  # density of the ticket, of the weights that could go
            "density": kept / size,  # after the post-processing
            "structured": regular / size,
            "unstructured": (kept - regular) / size,
            "rows": {n: int(channels_of(m).sum()) for n, m in masks.items()},
            "blocks": {n: [[len(b.rows), len(b.columns)] for b in layer] for n, layer in blocks.items()},
        }
        return Network(structure.deploy(model, masks, blocks), notes)


class Structure:
    """What comes of a mask: the post-processed one, its blocks, and what the network then costs in the target's unit."""

    def __init__(
        self, method: StructureLth, problem: ImageProblem, model: nn.Module, layers: Mapping[str, nn.Conv2d | nn.Linear]
    ) -> None:
        self.method, self.problem = method, problem
        targets = problem.spec.targets
        self.unit = next((k for k in ("macs", "nonzero") if k in targets), "")
        share = targets.get(self.unit, 0.0)
        if not 0 < share <= 1:
            raise UserError(f"target {problem.spec.target!r}: this method needs macs=SHARE or nonzero=SHARE, for example macs=0.5")
        modules = dict(model.named_modules())
        counted = [layer for layer in problem.count(model).layers if layer["macs"]]
        self.dense = {e["name"]: float(e["macs"] if self.unit == "macs" else modules[e["name"]].weight.numel()) for e in counted}
        self.goal = share * sum(self.dense.values())
        self.groups = [g for g in problem.groups(model) if g.consumer is not None and g.name in layers]
        self.feeds = {g.names.consumer: g.name for g in self.groups}
        inner = {g.name for g in self.groups}
        self.thin = {n for n, m in layers.items() if n in inner or m.weight[0].numel() >= JOINS}
        # with more than B2 rows a layer may have a block, else it stays as it is
        fixed = sum(c for n, c in self.dense.items() if n not in layers or modules[n].weight.shape[0] <= method.B2)
        if method.mode == "regroup" and self.unit == "macs" and fixed > self.goal:
            least = fixed / sum(self.dense.values())
            raise UserError(
                f"target {problem.spec.target!r}: layers of up to {method.B2} channels form no blocks, and they alone are"
                f" macs={least:.2f} of this network; ask for more, set B2 lower, or ask for nonzero=SHARE"
            )

    def of(
        self, masks: Masks, scores: Mapping[str, torch.Tensor], signals: Mapping[str, torch.Tensor] | None = None
    ) -> tuple[Masks, dict[str, list[Block]]]:
        """Post-processed masks, and by layer the blocks of those that have some.

        Args:
            masks: the unstructured ones.
            scores: absolute weights that they were cut from.
            signals: (C,) a layer, what channels are ranked by; None: by these masks and weights.
        """
        method = self.method
        if method.mode == "refill":
            ranked = signals or {n: rank_by(m, scores[n], method.criterion) for n, m in masks.items()}
            return {n: refill(m, ranked[n], method.extra, partial=method.parity) for n, m in masks.items()}, {}
        blocks = {n: self.blocks_of(m.flatten(1).cpu()) for n, m in masks.items()}
        blocks = {n: found for n, found in blocks.items() if found}
        return {n: mask_of(blocks[n], m.shape).to(m.device) if n in blocks else m for n, m in masks.items()}, blocks

    def blocks_of(self, mask: torch.Tensor) -> list[Block]:
        method = self.method
        if len(mask) <= method.B2:
            return []
        parts = method.cn or min(8, max(2, len(mask) // 32))

        def split(m: torch.Tensor) -> torch.Tensor:
            return partition(m, parts)

        if method.rule == "paper":
            return regroup_by_columns(mask, split, method.B2)
        width = released_width if method.rule == "released" else intended_width
        return regroup(mask, split, width, method.t1, method.nn, method.B2)

    def cost(self, masks: Masks, blocks: Mapping[str, list[Block]]) -> float:
        """Of the deployed network, in the target's unit."""
        if self.method.mode == "refill":
            thin = masks if self.unit == "nonzero" else self.thin
            rows = {n: float(channels_of(masks[n]).double().mean()) for n in thin}
            return sum(c * rows.get(n, 1.0) * rows.get(self.feeds.get(n, ""), 1.0) for n, c in self.dense.items())
        if self.unit == "nonzero":
            return sum(c if n not in masks else int(masks[n].sum()) for n, c in self.dense.items())
        shares = {n: sum(b.size for b in found) / masks[n].numel() for n, found in blocks.items() if pays(found, masks[n])}
        return sum(c * shares.get(n, 1.0) for n, c in self.dense.items())

    def aim(self, scores: Mapping[str, torch.Tensor], masks: Masks, planned: int = 0, last: bool = True) -> int:
        """Weights that the target needs by these magnitudes; before the last level the number planned, if that is more."""
        place = places(scores, among=masks)

        def cost(count: int) -> float:
            return self.cost(*self.of({n: p < count for n, p in place.items()}, scores))

        if not last and cost(planned) >= self.goal:
            return planned
        return max(0 if last else planned, nearest(cost, alive(masks), self.goal))

    def deploy(self, model: nn.Module, masks: Masks, blocks: Mapping[str, list[Block]]) -> nn.Module:
        """The network that executes only what is counted; logits as the masked one's in eval mode."""
        if self.method.mode == "regroup":
            return with_blocks(model, {n: found for n, found in blocks.items() if pays(found, masks[n])})
        rows = {n: channels_of(masks[n]) for n in self.thin}
        keep = {g.name: rows.pop(g.name) for g in self.groups}
        small = self.problem.compact(model, keep)
        # an output that joins a residual sum keeps its width: its living rows are computed, the others get zeros
        columns = {n: torch.arange(small.get_submodule(n).weight[0].numel()) for n in rows}  # type: ignore[union-attr, index]
        return with_blocks(small, {n: [Block(r.nonzero().flatten(), columns[n])] for n, r in rows.items() if not r.all()})


class Held(Masked):
    """Masks of whole channels; scale, shift and bias of the dead ones are 0 as well, so that slicing is exact (2.2)."""

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Conv2d | nn.Linear], masks: Masks) -> None:
        self.norms = {n: model.get_submodule(bn) for n, bn in batch_norms(model).items() if n in masks}
        super().__init__(layers, masks)

    @torch.no_grad()
    def after_step(self) -> None:
        super().after_step()
        for name, bn in self.norms.items():
            kept = channels_of(self.masks[name])
            for parameter in (bn.weight, bn.bias, self.layers[name].bias):
                if parameter is not None:
                    parameter.mul_(kept)


def channels_of(mask: torch.Tensor) -> torch.Tensor:
    """Channels that have a weight left, (C, ...) to (C,) bool."""
    return mask.flatten(1).any(1)


def rank_by(mask: torch.Tensor, weight: torch.Tensor, criterion: Criterion) -> torch.Tensor:
    """2.2: scores of the channels, (C,): L1 norm of the remaining weights, or their number."""
    return mask.flatten(1).sum(1) if criterion == "remain" else l1_norms(weight * mask)


def channel_signals(
    model: nn.Module,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    batch: tuple[torch.Tensor, torch.Tensor],
    criterion: Criterion,
) -> dict[str, torch.Tensor]:
    """2.2, the ablated scores: L1 or L2 norm of each channel's feature map, or sum of |activation x gradient|, (C,) a layer."""
    maps: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Any:
        return layers[name].register_forward_hook(lambda _, __, output: maps.__setitem__(name, output))

    handles = [hook(n) for n in layers]
    model.eval()
    loss = F.cross_entropy(model(batch[0]), batch[1])
    for handle in handles:
        handle.remove()
    if criterion == "saliency":
        gradients = torch.autograd.grad(loss, list(maps.values()))
        return {n: (y * g).abs().sum((0, 2, 3)).detach() for (n, y), g in zip(maps.items(), gradients, strict=True)}
    order = 1 if criterion == "feature_l1" else 2
    return {n: torch.linalg.vector_norm(y, order, (0, 2, 3)).detach() for n, y in maps.items()}


def refill(mask: torch.Tensor, scores: torch.Tensor, extra: float = 0.0, *, partial: bool = False) -> torch.Tensor:
    """2.2: the strongest channels become dense, the others empty; bool, (C, ...) as the mask.

    Args:
        mask: (C, ...) bool.
        scores: (C,), larger is stronger.
        extra: refill+ rate.
        partial: channels tied at the threshold, of which one is chosen, keep the mask they had.
    """
    channels = len(mask)
    even = int(mask.sum()) / mask[0].numel()  # n_eq
    weaker = channels - int(even + (channels - even) * extra)  # C - I
    threshold = scores.sort().values[max(weaker, 1) - 1]
    dense = scores > threshold if weaker else torch.ones_like(scores, dtype=torch.bool)
    tied = scores == threshold
    dense[tied.nonzero()[0]] = True
    kept = [len(mask)] + [1] * (mask.dim() - 1)
    out = dense.view(kept).expand_as(mask).clone()
    return out | (mask & tied.view(kept)) if partial else out


def clusters(mask: torch.Tensor, split: Partition) -> list[torch.Tensor]:
    """Rows of each part, largest part first; rows without a one are in none."""
    rows, labels = channels_of(mask).nonzero().flatten(), split(mask)
    return sorted((rows[labels == k] for k in labels.unique()), key=len, reverse=True)


def regroup(mask: torch.Tensor, split: Partition, width: Width, t1: float = 1.5, nn: int = 32, B2: int = 16) -> list[Block]:
    """2.3: the dense blocks that take a mask's place; none if it stays as it is.

    Args:
        mask: (C, n) bool.
        split: the partitioner.
        width: how many of a cluster's columns, by falling count, its block takes: `released_width` or `intended_width`.
        t1: how few ones may stay outside, against the block's width.
        nn: a cluster with more rows is cut after the last multiple.
        B2: a block has more rows than that.
    """
    blocks = []
    for rows in clusters(mask, split):
        order = mask[rows].sum(0).sort(descending=True, stable=True).indices
        columns = order[: width(mask[rows], order, t1)]
        if len(columns) and len(rows) > B2:
            whole = len(rows) // nn * nn
            blocks += [Block(part, columns) for part in (rows[:whole], rows[whole:]) if len(part)]
    return blocks


def released_width(rows: torch.Tensor, order: torch.Tensor, t1: float) -> int:
    """2.3 step 2 as released: a row's ones are counted by column number, and only once all rows before it pass.

    A row that passes at column i passes at all later ones, so the scan moves on from row to row.  0: no block.
    """
    i, n = 1, rows.shape[1]
    for row in rows.long():
        left = row.sum() - row[i:].cumsum(0)
        passed = (torch.arange(i, n) > t1 * left).nonzero()
        if not len(passed):
            return 0
        i += int(passed[0])
    return i


def intended_width(rows: torch.Tensor, order: torch.Tensor, t1: float) -> int:
    """2.3 as meant: the fewest columns i of the order with i > t1 x (ones left outside) in every row.  0: no block."""
    left = rows.sum(1, keepdim=True) - rows[:, order].cumsum(1)
    width = torch.arange(1, rows.shape[1])  # fewer than all of them
    passed = (width > t1 * left[:, :-1]).all(0).nonzero()
    return int(width[passed[0]]) if len(passed) else 0


def regroup_by_columns(mask: torch.Tensor, split: Partition, B2: int = 16) -> list[Block]:
    """2.3, the paper's Algorithm 3: columns that half of a cluster's rows have, again and again on what is left.

    b1 = B2 + 1 rows and b2 = B2 columns make a block.  Blocks may overlap.
    """
    left, blocks = mask.clone(), []
    while True:
        found = []
        for rows in clusters(left, split):
            columns = (left[rows].sum(0) >= math.ceil(len(rows) / 2)).nonzero().flatten()
            if len(rows) > B2 and len(columns) >= B2:
                found.append(Block(rows, columns))
        if not found:
            return blocks
        for b in found:
            left[b.rows[:, None], b.columns] = False
        blocks += found


def nearest(cost: Callable[[int], float], most: int, goal: float, tolerance: float = 0.005, scan: int = 16) -> int:
    """The count up to `most` whose cost is nearest to the goal, or the first that is near enough.

    Found by bisection.  Blocks come and go with the count, so the cost may jump over the goal there: then up to `scan`
    counts on either side, a 256th of `most` apart, are tried as well.
    """
    low, high = 0, most
    seen = {most: abs(cost(most) - goal)}

    def near() -> bool:
        return min(seen.values()) <= tolerance * goal

    while high - low > 1 and not near():
        middle = (low + high) // 2
        found = cost(middle)
        seen[middle] = abs(found - goal)
        low, high = (middle, high) if found <= goal else (low, middle)
    step = max(1, most // 256)
    for count in (low + sign * k * step for k in range(1, scan + 1) for sign in (1, -1)):
        if near():
            break
        if 0 < count < most and count not in seen:
            seen[count] = abs(cost(count) - goal)
    return min(seen, key=lambda n: (seen[n], -n))
