"""Which patches of an image a ViT is given: trained, cheap and random selectors, and how a training step uses them.

Source: Shen et al. 2023.  A ticket is (B, T) int64, patches in raster order counted from 0, in the selector's order: the place of
a patch was added to it before, so a network does not mind the order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.training import Loss
from reference_impls.parts.vit_blocks import attend, compose, heads, merge, strongest
from reference_impls.parts.vit_schedule import Ramp, kept, prune_blocks, pruned
from reference_impls.parts.vit_training import VitHooks
from suite import parallel
from suite.naming import UserError, address
from tasks.vit_training.networks import Shape, Tokens
from tasks.vit_training.patches import ChosenPatches, entering, take_patches

PRUNES = 3  #: of a selector of four blocks or more
FIXED_SEED = 62  #: of the masks that stay the same in every step, as the authors' code has it

#: images (B, C, h, w) and a keep ratio to a ticket
Pick = Callable[[torch.Tensor, float], torch.Tensor]


# counts


def nested(patches: int, ratio: float, prunes: int = PRUNES) -> tuple[int, ...]:
    """How many patches are left after each prune: at a keep ratio of 0.9, 177, 160 and 144 of 196."""
    counts = []
    for _ in range(prunes):
        patches = kept(patches, ratio)
        counts.append(patches)
    return tuple(counts)


def ticket_size(patches: int, ratio: float, prunes: int = PRUNES) -> int:
    """Patches of a ticket."""
    return nested(patches, ratio, prunes)[-1]


def ratio_leaving(patches: int, wanted: int, prunes: int = PRUNES) -> float:
    """The keep ratio of fewest decimals whose nested ceilings leave this many patches, or come nearest to it where none does."""

    def left(i: int) -> int:
        return ticket_size(patches, i / unit, prunes)

    unit = 1
    for _ in range(6):
        unit *= 10
        first = bisect_left(range(1, unit + 1), wanted, key=left) + 1
        if first <= unit and left(first) == wanted:
            return first / unit
    return min((max(1, first - 1), min(first, unit)), key=lambda i: abs(left(i) - wanted)) / unit


def prunes_of(depth: int) -> int:
    """How often a selector of this depth prunes: in a shallow one places coincide."""
    return len(set(prune_blocks(depth)))


def selector_macs(shape: Shape, ratio: float) -> int:
    """Multiply-adds of an image's way through a selector, which ends where its last prune has ranked the patches."""
    last = max(prune_blocks(shape.depth))
    tokens = pruned(shape, ratio)
    # of the last block queries, keys and values alone; no block behind it and no head
    return shape.macs(tokens[:last]) - shape.width * shape.classes + 3 * tokens[last][0] * shape.width**2


# selectors


class Selector(nn.Module):
    """Maps images (B, C, h, w) to the patches (B, T) that a network is given of each; nothing of it learns.

    Args:
        patches: N of an image.
        ratio: whose `prunes` nested ceilings T is, unless another is asked for.
    """

    def __init__(self, patches: int, ratio: float, prunes: int = PRUNES) -> None:
        super().__init__()
        self.patches, self.ratio, self.prunes = patches, ratio, prunes
        self.train(False)

    def train(self, mode: bool = True) -> Selector:
        """It stays in evaluation mode: no drop path, and its own target ratio."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor, ratio: float | None = None) -> torch.Tensor:
        """The ticket; where all patches stay, 0..N-1 in order."""
        ratio = self.ratio if ratio is None else ratio
        count = ticket_size(self.patches, ratio, self.prunes)
        if count >= self.patches:
            return torch.arange(self.patches, device=images.device).expand(len(images), -1)
        return self.select(images, ratio, count)

    def select(self, images: torch.Tensor, ratio: float, count: int) -> torch.Tensor:
        """`count` patches, fewer than there are."""
        raise NotImplementedError


class TicketSelector(Selector):
    """The patches that a network of `TokenBlock`s has left after its last prune (EViT's rule, as released).

    Args:
        network: connected, without fusion (`reference_impls.parts.vit_blocks.connect`).
    """

    def __init__(self, network: nn.Module, patches: int, ratio: float) -> None:
        super().__init__(patches, ratio, prunes_of(len(network.blocks)))  # type: ignore[arg-type]
        self.network = network.eval()

    def select(self, images: torch.Tensor, ratio: float, count: int) -> torch.Tensor:
        return compose(kept_lists(rankings(self.network, images, ratio), nested(self.patches, ratio, self.prunes)))


class InvertedSelector(TicketSelector):
    """As many patches from the other end: what is dropped first, lowest score first (a control of ours)."""

    def select(self, images: torch.Tensor, ratio: float, count: int) -> torch.Tensor:
        return inverted(rankings(self.network, images, ratio), nested(self.patches, ratio, self.prunes))


def rankings(network: Any, images: torch.Tensor, ratio: float) -> list[torch.Tensor]:
    """Of each prune of a selector all patches that entered it, numbered among these, by falling class attention.

    The network's own forward pass up to its last prune; behind it nothing is computed, since no ticket depends on it.
    """
    x = network._pos_embed(network.patch_embed(images))
    last = max(prune_blocks(len(network.blocks)))
    orders: list[torch.Tensor] = []
    for number, block in enumerate(network.blocks[: last + 1]):
        if not block.prunes:
            x = block(x)
            continue
        count = x.shape[1] - 1
        stay = kept(count, ratio)
        q, k, v = heads(block.attn, block.norm1(x))
        orders.append(strongest(block.score(q, k), count))
        if number == last:
            break
        x = x + block.drop_path1(block.ls1(merge(block.attn, attend(q, k, v))))
        if stay < count:
            x = take_patches(x, orders[-1][:, :stay])
        x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
    return orders


def kept_lists(orders: Sequence[torch.Tensor], counts: Sequence[int]) -> list[torch.Tensor]:
    """What each prune keeps, by falling score; where it keeps all, 0..n-1: patches that are not dropped are not moved.

    Args:
        orders: of each prune all patches that entered it, by falling score, as `rankings` gives them.
        counts: how many of them it keeps.
    """
    return [o[:, :n] if n < o.shape[1] else _all(o) for o, n in zip(orders, counts, strict=True)]


def inverted(orders: Sequence[torch.Tensor], counts: Sequence[int]) -> torch.Tensor:
    """What is dropped at the first prune by rising score, then at the second and so on, then what is kept (B, counts[-1]).

    Args: as of `kept_lists`.
    """
    entered, parts = _all(orders[0]), []
    for order, count, index in zip(orders, counts, kept_lists(orders, counts), strict=True):
        parts.append(entered.gather(1, order[:, count:].flip(1)))
        last = entered.gather(1, order[:, :count].flip(1))
        entered = entered.gather(1, index)
    return torch.cat([*parts, last], 1)[:, : counts[-1]]


def _all(order: torch.Tensor) -> torch.Tensor:
    return torch.arange(order.shape[1], device=order.device).expand(len(order), -1)


class VarianceSelector(Selector):
    """The patches whose pixels vary most, over positions and channels: a control of ours, without a network."""

    def __init__(self, patches: int, ratio: float, patch: int, prunes: int = PRUNES) -> None:
        super().__init__(patches, ratio, prunes)
        self.patch = patch

    def select(self, images: torch.Tensor, ratio: float, count: int) -> torch.Tensor:
        return strongest(self.score(images), count)

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Of each patch (B, N), in raster order."""
        return cut(images, self.patch).var(-1)


class EdgeSelector(VarianceSelector):
    """The patches of most edges: squared differences of neighbouring pixels, down and across (a control of ours)."""

    def score(self, images: torch.Tensor) -> torch.Tensor:
        # a difference belongs to the patch of its upper or left pixel; the frame's last row and column have none
        down = F.pad(images.diff(dim=2) ** 2, (0, 0, 0, 1))
        across = F.pad(images.diff(dim=3) ** 2, (0, 1))
        return cut(down + across, self.patch).sum(-1)


class RandomPatches:
    """As many patches as a ticket has, drawn anew for every image and step (the released `deit/engine.py`).

    Three nested uniform draws come to one: it is made at once.  Drawn by seed, epoch and step, so that no other stream moves and a
    stopped run draws the same again.
    """

    def __init__(self, patches: int, seed: int, prunes: int = PRUNES) -> None:
        self.patches, self.seed, self.prunes = patches, seed, prunes
        self.epoch, self.step = 0, 0

    def begin(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0

    def __call__(self, images: torch.Tensor, ratio: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(address(self.seed, self.epoch, self.step))
        self.step += 1
        whole = len(images) * parallel.world()  # a batch that processes share, of which this one has its own part
        return self._largest(torch.rand(whole, self.patches, generator=generator), images, ratio)

    def _largest(self, noise: torch.Tensor, images: torch.Tensor, ratio: float) -> torch.Tensor:
        """Of each image the patches of the largest numbers, which are uniform over all draws of so many."""
        count = ticket_size(self.patches, ratio, self.prunes)
        mine = noise[parallel.rank() :: parallel.world()][: len(images)]
        return mine.to(images.device, non_blocking=True).topk(count, dim=1).indices


class FixedPatches(RandomPatches):
    """One draw for each place in a batch, the same in every step: `--random-fixed` of the authors' code.

    Args:
        batch: places; a smaller batch has the first ones.
    """

    def __init__(self, patches: int, batch: int, prunes: int = PRUNES) -> None:
        super().__init__(patches, FIXED_SEED, prunes)
        self.noise = torch.rand(batch, patches, generator=torch.Generator().manual_seed(FIXED_SEED))

    def __call__(self, images: torch.Tensor, ratio: float) -> torch.Tensor:
        return self._largest(self.noise, images, ratio)


# a step of a network that is given some patches


class Entry(ChosenPatches):
    """The place where patches enter a network, which knows the keep ratio that its schedule has now.

    The ratio is the network's, not the loss's: where steps of several points are timed in turns, each has a network of its own.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep


def bare(model: Any) -> Any:
    """The network inside its wrapper that averages gradients over processes."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


@dataclass
class OnPatches:
    """A loss whose network is given the patches that are picked of the very images it is called with: augmented and mixed.

    It can be pickled.  Where all patches stay nothing is picked: a network sees them in order.
    """

    pick: Pick
    patches: int
    loss: Loss
    prunes: int = PRUNES

    def __call__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        network = bare(model)
        keep = network.patch_drop.keep

        def student(images: torch.Tensor) -> torch.Tensor:
            if ticket_size(self.patches, keep, self.prunes) >= self.patches:
                return model(images)  # type: ignore[no-any-return]
            with torch.no_grad():
                index = self.pick(images, keep)
            with entering(network, index):
                return model(images)  # type: ignore[no-any-return]

        return self.loss(student, x, y)  # type: ignore[arg-type]


class Drawing(VitHooks):
    """Tells random patches which epoch it is."""

    def __init__(self, patches: RandomPatches) -> None:
        self.patches = patches

    def before_epoch(self, epoch: int) -> None:
        self.patches.begin(epoch)


@dataclass(frozen=True)
class EnteringPatches:
    """A schedule (`tasks.vit_training.problem.Schedule`) by which as many patches as a ticket has enter a network's first block."""

    ramp: Ramp
    shape: Shape
    prunes: int = PRUNES

    def set(self, model: nn.Module, point: float) -> None:
        entry: Any = bare(model).patch_drop
        entry.keep = self.ramp.at(point)

    def tokens(self, point: float) -> Tokens:
        count = 1 + ticket_size(self.shape.patches, self.ramp.at(point), self.prunes)
        return ((count, count),) * self.shape.depth


@dataclass(frozen=True)
class Selecting:
    """Multiply-adds that a selector takes for an image in a step, by point: none where all patches stay."""

    entering: EnteringPatches
    selector: Shape

    def __call__(self, point: float) -> float:
        ratio, patches = self.entering.ramp.at(point), self.entering.shape.patches
        return 0 if ticket_size(patches, ratio, self.entering.prunes) >= patches else selector_macs(self.selector, ratio)


# tickets in pixels, for networks that cannot leave patches out


def cut(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, C, h, w) into patches (B, N, C * patch * patch) in raster order."""
    b, c, h, w = images.shape
    if h % patch or w % patch:
        raise UserError(f"images of {h} x {w} pixels cannot be cut into patches of {patch}; choose a patch that divides them")
    grid = images.reshape(b, c, h // patch, patch, w // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def join(patches: torch.Tensor, patch: int) -> torch.Tensor:
    """Patches (B, n * n, C * patch * patch) in raster order to images (B, C, n * patch, n * patch)."""
    b, count, values = patches.shape
    side = round(count**0.5)
    if side * side != count:
        raise UserError(f"{count} patches fill no square image; choose a keep ratio that leaves a square, as 0.9 leaves 144 of 196")
    grid = patches.view(b, side, side, values // patch**2, patch, patch)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(b, -1, side * patch, side * patch)


def zeroed(images: torch.Tensor, index: torch.Tensor, patch: int) -> torch.Tensor:
    """Images whose patches outside `index` (B, T) are 0, which is the mean colour of normalised ones (the released `swin/main.py`).

    The patches may be a selector's or drawn: the released code never zeroes random ones in training, against its intention.
    """
    b, _, h, w = images.shape
    inside = torch.zeros(b, h // patch * (w // patch), dtype=torch.bool, device=images.device).scatter_(1, index, True)
    mask = inside.view(b, 1, h // patch, w // patch).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return torch.where(mask, images, images.new_zeros(()))


def packed(images: torch.Tensor, index: torch.Tensor, patch: int) -> torch.Tensor:
    """The patches of `index` (B, T) in raster order as a smaller square image (the released `swin/main.py`, small dense).

    Raises UserError where they fill no square.
    """
    patches = cut(images, patch)
    chosen = index.sort(1).values.unsqueeze(-1).expand(-1, -1, patches.shape[-1])
    return join(patches.gather(1, chosen), patch)
