"""Frames cut into patches, scaled, drawn into balanced batches and varied: tensors in, tensors out, no loop over pixels or patches.

Sizes, balance and the ranges of flips, gain and offset are ours: the paper's could not be read.  Every draw is addressed by a seed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from suite.naming import UserError

HOT_PERCENTILE = 95.0  #: of a frame's pixels, above which a patch without flame counts as warm
KINDS = ("flame", "warm", "background")
GAIN, OFFSET = 0.1, 0.1  #: thermal values are multiplied by U(1 - gain, 1 + gain), then moved by U(-offset, offset)


def grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Whole patches down and across; raises UserError where not one fits."""
    if patch < 1 or height < patch or width < patch:
        raise UserError(f"a frame of {width}x{height} pixels holds no patch of {patch}x{patch}; give larger pictures")
    return height // patch, width // patch


def windows(frames: torch.Tensor, patch: int, stride: int) -> torch.Tensor:
    """Windows of patch x patch pixels every `stride` pixels, frame by frame in raster order.

    What does not fit is cropped alike on both sides (an odd pixel more at the bottom and right).

    Args:
        frames: (F, C, H, W).

    Returns (F * down * across, C, patch, patch), a copy.
    """
    height, width = frames.shape[-2:]
    grid(height, width, patch)
    top, left = (((side - patch) % stride) // 2 for side in (height, width))
    down, across = ((side - patch) // stride * stride + patch for side in (height, width))
    inner = frames[..., top : top + down, left : left + across]
    cut = inner.unfold(2, patch, stride).unfold(3, patch, stride)  # (F, C, down, across, patch, patch)
    return cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, frames.shape[1], patch, patch)


def cut(frames: torch.Tensor, patch: int) -> torch.Tensor:
    """Patches that do not overlap: 254x254 is cropped to its middle 224x224 for patches of 32.  See `windows`."""
    return windows(frames, patch, patch)


def pasted(x: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """Patches (F * down * across, C, H, W) in raster order put together again, (F, C, down * H, across * W): `cut` undone."""
    _, channels, height, width = x.shape
    laid = x.reshape(-1, down, across, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return laid.reshape(-1, channels, down * height, across * width)


def scale(frames: torch.Tensor) -> torch.Tensor:
    """Each frame (F, C, H, W) by its own least and largest value to 0..1; a constant frame becomes zeros.

    This is what is left of a thermal picture that is not radiometric: absolute temperature is lost.
    """
    flat = frames.flatten(1).float()
    least, largest = flat.amin(1), flat.amax(1)
    span = largest - least
    span = torch.where(span > 0, span, torch.ones_like(span))
    shape = (-1, *[1] * (frames.ndim - 1))
    return (frames.float() - least.view(shape)) / span.view(shape)


def hot_limit(frames: torch.Tensor) -> torch.Tensor:
    """The 95th percentile (linear between values) of each frame's pixels, (F, ...) to (F,)."""
    # numpy: torch.quantile refuses more than 16 million values
    return torch.from_numpy(np.percentile(frames.flatten(1).numpy(), HOT_PERCENTILE, axis=1).astype(np.float32))


def warm(highest: torch.Tensor, label: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Which patches are hot but show no flame, bool (n,): their warmest pixel lies above the limit of their frame, the label is 0.

    Args:
        highest: (n,) warmest pixel of each patch, on the scale of `limit`.
        label: (n,) int64, 1: flame.
        limit: (n,) of each patch's frame (`hot_limit`).
    """
    return (highest > limit) & (label == 0)


def shares(batch: int) -> tuple[int, int, int]:
    """How many of a batch are flame, warm and background: thirds, what is over goes to the first ones (64: 22, 21, 21)."""
    flame, warm_ = -(-batch // 3), -(-(batch - 1) // 3)
    return flame, warm_, batch - flame - warm_


def kinds(label: torch.Tensor, warm: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Rows (int64, rising) of each kind of patch: label 1 is flame, of label 0 those that are warm, and the rest."""
    rest = label == 0
    masks = {"flame": label == 1, "warm": rest & warm, "background": rest & ~warm}
    return {k: m.nonzero()[:, 0] for k, m in masks.items()}


def balanced(label: torch.Tensor, warm: torch.Tensor, batch: int, steps: int, seed: int) -> torch.Tensor:
    """Rows of an epoch's batches, (steps, batch) int64: flame, warm and background as in `shares`, each drawn with replacement.

    A kind that is missing is filled from background; where that is missing too, from what there is.  A pure function of its
    arguments.

    Args:
        label: (n,) int64, 1: flame, 0: none; rows of another label are never drawn.
        warm: (n,) bool.

    Raises:
        ValueError: there is no row to draw.
    """
    rows = kinds(label, warm)
    spare = next((r for r in (rows["background"], rows["warm"], rows["flame"]) if len(r)), None)
    if spare is None:
        raise ValueError("there is no patch of label 0 or 1 to draw a batch from")
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for kind, count in zip(KINDS, shares(batch), strict=True):
        pool = rows[kind] if len(rows[kind]) else spare
        drawn.append(pool[torch.randint(len(pool), (steps, count), generator=generator)])
    return torch.cat(drawn, dim=1)


def jitter(x: torch.Tensor, seed: int) -> torch.Tensor:
    """Patches varied, each by draws of its own: flips of all channels alike, then gain and offset of channel 0, the thermal one.

    Each flip (across, down) has probability 1/2, gain is U(0.9, 1.1), offset U(-0.1, 0.1); nothing is clipped, and what is returned
    is also what a decoder is to reconstruct.

    Args:
        x: (n, C, P, P), thermal first, RGB behind it where C is 4; left as it is.
    """
    draws = torch.rand(4, len(x), 1, 1, 1, generator=torch.Generator().manual_seed(seed)).to(x.device)
    x = torch.where(draws[0] < 0.5, x.flip(-1), x)
    x = torch.where(draws[1] < 0.5, x.flip(-2), x)
    thermal = x[:, :1] * (1 - GAIN + 2 * GAIN * draws[2]) + (2 * OFFSET * draws[3] - OFFSET)
    return torch.cat([thermal, x[:, 1:]], dim=1)
