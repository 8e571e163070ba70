"""The terms of FlameFinder's loss that read centres, and the reconstruction's, as functions of a batch.

Sources: center loss, Wen et al. ECCV 2016, without its 1/2 as pytorch-center-loss has it; triplet-center loss, He et al. CVPR 2018,
and its cosine form, as public implementations have them.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

EPS = 1e-12  #: least norm that a vector is divided by


def centre_loss(x: torch.Tensor, y: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """CL: mean over the batch of the squared distance to the own centre.

    Args:
        x: features (B, D).
        y: classes (B,) int64.
        centres: (C, D).
    """
    return (x - centres[y]).square().sum(1).mean()


def triplet_centre_loss(x: torch.Tensor, y: torch.Tensor, centres: torch.Tensor, margin: float) -> torch.Tensor:
    """TCL: mean of max(0, d_own + margin - d_other), d half the squared distance, of the other centres the nearest one alone."""
    return _hinge(0.5 * (x[:, None] - centres).square().sum(2), y, margin)


def triplet_cosine_centre_loss(x: torch.Tensor, y: torch.Tensor, centres: torch.Tensor, margin: float) -> torch.Tensor:
    """TCCL: the same with d = 1 - cosine; a zero vector is at distance 1 from all centres."""
    # a product of elements and a sum, not a matrix product, which autocast would take in half precision
    cosine = (F.normalize(x, dim=1, eps=EPS)[:, None] * F.normalize(centres, dim=1, eps=EPS)).sum(2)
    return _hinge(1 - cosine, y, margin)


def reconstruction_loss(image: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
    """Mean squared error over all pixels of a batch (B, 1, P, P)."""
    return F.mse_loss(image.float(), patch.float())


def _hinge(distance: torch.Tensor, y: torch.Tensor, margin: float) -> torch.Tensor:
    """Mean of max(0, own + margin - least other) of distances (B, C)."""
    own = distance.gather(1, y[:, None])[:, 0]
    hidden = F.one_hot(y, distance.shape[1]).bool()
    other = distance.masked_fill(hidden, torch.inf).min(1).values
    return (own + margin - other).clamp_min(0).mean()
