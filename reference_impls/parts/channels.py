"""Named parts of channel pruning: scores, masks, and how many channels meet an operations target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from suite.naming import UserError

if TYPE_CHECKING:
    from tasks.images.channels import ChannelGroup
    from tasks.images.problem import PrunableProblem

MacsOf = Callable[[Mapping[str, int]], int]


def target_macs(problem: PrunableProblem) -> float:
    """Multiply-adds that the Spec asks for; raises UserError where the target is of another kind."""
    share = problem.spec.targets.get("macs")
    if share is None or share > 1:
        raise UserError(f"target {problem.spec.target!r}: this method needs macs=SHARE with a share up to 1, for example macs=0.5")
    return share * problem.dense_macs


def l1_norms(weight: torch.Tensor) -> torch.Tensor:
    """Sum of absolute weights of each filter, (C, ...) to (C,)."""
    return weight.detach().abs().flatten(1).sum(1)


def largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Mask of the `count` largest scores, (C,) bool; ties go to the lowest index."""
    order = torch.sort(scores, descending=True, stable=True).indices
    mask = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    mask[order[:count]] = True
    return mask


def widths_of(keep: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Channels that each mask keeps."""
    return {name: int(mask.sum()) for name, mask in keep.items()}


def uniform_widths(groups: Sequence[ChannelGroup], macs_of: MacsOf, target: float, floor: float = 0.1) -> dict[str, int]:
    """One ratio for all layers, bisected to the operations target, at least ceil(floor C) channels each.

    Widths are whole numbers, so the ratio gives the integer parts, the largest remainders are rounded
    up while that stays under the target, and single channels then close what gap is left.
    """
    full = {g.name: g.width for g in groups if g.consumer is not None}
    least = {n: max(1, math.ceil(floor * c)) for n, c in full.items()}

    def at(ratio: float) -> dict[str, int]:
        return {n: min(c, max(least[n], int(ratio * c))) for n, c in full.items()}

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if macs_of(at(middle)) <= target else (low, middle)
    widths = at(low)
    for name in sorted(full, key=lambda n: (int(low * full[n]) - low * full[n], n)):
        more = {**widths, name: min(full[name], widths[name] + 1)}
        if macs_of(more) <= target:
            widths = more
    return close_gap(widths, full, least, macs_of, target)


def close_gap(
    widths: Mapping[str, int],
    full: Mapping[str, int],
    least: Mapping[str, int],
    macs_of: MacsOf,
    target: float,
    tries: int = 8,
) -> dict[str, int]:
    """Move single channels while that brings the count nearer to the target."""
    best = dict(widths)
    for _ in range(tries):
        moves = [{**best, n: best[n] + d} for n in best for d in (1, -1) if least[n] <= best[n] + d <= full[n]]
        nearest = min(moves, key=lambda w: abs(macs_of(w) - target), default=best)
        if abs(macs_of(nearest) - target) >= abs(macs_of(best) - target):
            break
        best = nearest
    return best


def ranked_widths(scores: Mapping[str, torch.Tensor], macs_of: MacsOf, target: float, least: Mapping[str, int]) -> dict[str, int]:
    """How many channels each layer keeps when all are ranked together and the best are kept up to a target.

    The number kept is bisected; what is then left under the target is filled, in the order of the
    ranking, with channels that still fit.  Equal scores are taken in turn from all layers.

    Args:
        scores: (C,) a layer, larger is better.
        macs_of: multiply-adds of given widths.
        target: multiply-adds to reach.
        least: channels that a layer keeps whatever its scores.
    """
    ranking = rank(scores)

    def at(count: int) -> dict[str, int]:
        widths = dict.fromkeys(scores, 0)
        for name in ranking[:count]:
            widths[name] += 1
        return {n: max(w, least[n]) for n, w in widths.items()}

    low, high = 0, len(ranking) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if macs_of(at(middle)) <= target else (low, middle)
    widths = at(low)
    counts = dict.fromkeys(scores, 0)
    for position, name in enumerate(ranking):
        counts[name] += 1
        if position >= low and counts[name] > widths[name]:
            more = {**widths, name: widths[name] + 1}
            if macs_of(more) <= target:
                widths = more
    return widths


def rank(scores: Mapping[str, torch.Tensor]) -> list[str]:
    """Layer names, one entry a channel, best channel of the network first."""
    entries: list[tuple[float, float, str]] = []
    for name, score in scores.items():
        ordered = score.detach().sort(descending=True).values.tolist()
        entries += [(-s, i / len(ordered), name) for i, s in enumerate(ordered)]
    return [name for _, _, name in sorted(entries)]
