"""Token labelling of a ViT that is given some patches: its loss, and mix-token's boxes (LV-ViT as released in `lvvit/tlt`).

Paper: Jiang et al., All Tokens Matter: Token Labeling for Training Better Vision Transformers, NeurIPS 2021.  The network that has
the two heads is `tasks.vit_training.lvvit`.
"""

from __future__ import annotations

import math

import torch

FIRST_PATCH = 2  #: of a target's last axis: before it stand the ground truth, which is not used, and the class target


def token_label_loss(
    of_class: torch.Tensor,
    of_patches: torch.Tensor,
    target: torch.Tensor,
    index: torch.Tensor | None = None,
    *,
    inside: torch.Tensor | None = None,
    class_weight: float = 1.0,
    dense_weight: float = 0.5,
) -> torch.Tensor:
    """Cross-entropy of the class head, and of the dense head on the patches that entered, mean over images and patches.

    Args:
        of_class: logits (B, classes).
        of_patches: logits (B, T, classes) of the patches of `index`, in its order; with mix-token as `unmixed` returns them.
        target: (B, classes, 2 + N): along the last axis the ground truth, the class target and each patch's soft label in raster
            order; or (B, classes), the label of all.
        index: (B, T) int64, the patches that entered; None: all, in raster order.
        inside: mix-token's box (N,) bool, by whose area the class target is mixed with that of the batch back to front; None: none.
    """
    if target.dim() == 2:
        of_all = target
        labels = target[:, None].expand(-1, of_patches.shape[1], -1)
    else:
        of_all = target[..., 1]
        labels = target[..., FIRST_PATCH:].transpose(1, 2)
        if index is not None:
            labels = labels.gather(1, index.unsqueeze(-1).expand(-1, -1, labels.shape[-1]))
    if inside is not None:
        share = inside.float().mean()
        of_all = (1 - share) * of_all + share * of_all.flip(0)
    return class_weight * _cross_entropy(of_class, of_all) + dense_weight * _cross_entropy(of_patches, labels)


def box(side: int, generator: torch.Generator) -> torch.Tensor:
    """Mix-token's box on a grid of `side` x `side` patches as (N,) bool in raster order; its area is drawn, and may be none.

    The share outside is uniform, Beta(1, 1); the box has its centre in a uniform patch and is clipped at the border, as CutMix's.
    """
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    length = int(side * math.sqrt(1 - share))
    row, column = (int(torch.randint(side, (), generator=generator)) for _ in range(2))
    inside = torch.zeros(side, side, dtype=torch.bool)
    (top, bottom), (left, right) = ((max(0, at - length // 2), min(side, at + length // 2)) for at in (row, column))
    inside[top:bottom, left:right] = True
    return inside.flatten()


def unmixed(of_patches: torch.Tensor, inside: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
    """Dense outputs given back to the images whose patches they are of: (B, T, classes), like the ones that came in.

    An output inside the box is of a patch of the batch back to front.  It changes places with the other image's output of the same
    patch, where both images kept it; where only one did, there is no place to go to and it stays.  Tokens are found by which patch
    they are, not by where they stand in a list: a ticket is in the order of its scores.

    Args:
        inside: the box (N,) bool.
        index: (B, T) int64, the patches that entered; None: all, in raster order.
    """
    count, patches = of_patches.shape[:2], len(inside)
    if index is None:
        index = torch.arange(patches, device=of_patches.device).expand(count[0], -1)
    place = index.new_full((count[0], patches), -1)
    place.scatter_(1, index, torch.arange(count[1], device=index.device).expand(count[0], -1))
    theirs = place.flip(0).gather(1, index)  # where the other image has the same patch in its list; -1: it has not
    moves = inside[index] & (theirs >= 0)
    swapped = of_patches.flip(0).gather(1, theirs.clamp_min(0).unsqueeze(-1).expand_as(of_patches))
    return torch.where(moves.unsqueeze(-1), swapped, of_patches)


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of soft targets, over the last axis, mean over the others."""
    return -(target * logits.log_softmax(-1)).sum(-1).mean()
