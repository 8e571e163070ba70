"""What is measured on frames and patches: squared errors as the papers take them, PSNR and SSIM.

Images are RGB floats in [0, 1], (N, 3, H, W); errors are float64.  A checker scores with it: torch is imported where it is used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

#: a frame without any error counts as 100 dB: CaFM's 1000 (`psnr_cafm`) would let one perfect frame decide a mean
LEAST_ERROR = 1e-10


def quantise(x: torch.Tensor) -> torch.Tensor:
    """To the 8 bits a screen has: clip(round(255 x), 0, 255) / 255 (STDO's released `common/metrics.py`)."""
    return (x * 255).round().clamp(0, 255) / 255


def mse(sr: torch.Tensor, hr: torch.Tensor, shave: int = 0) -> torch.Tensor:
    """(N,) mean squared error of the quantised output, `shave` pixels cut on every side."""
    d = (quantise(sr) - hr).double().square()
    if shave:
        d = d[..., shave:-shave, shave:-shave]
    return d.mean((1, 2, 3))


def psnr(error: torch.Tensor) -> torch.Tensor:
    """-10 log10 of a mean squared error, dB; infinite where it is zero."""
    import torch

    return -10 * torch.log10(error)


def decibels(error: float) -> float:
    """PSNR of a mean squared error; 100 dB where there is none."""
    return -10 * math.log10(max(float(error), LEAST_ERROR))


def psnr_frames(errors: np.ndarray) -> np.ndarray:
    """PSNR of every frame by its mean squared error, dB."""
    return np.array([decibels(error) for error in errors])


def patch_psnr(sr: torch.Tensor, hr: torch.Tensor, scale: int) -> torch.Tensor:
    """(N,) PSNR of each patch, scale + 4 pixels shaved: the label that STDO ranks by (STDO's released `common/metrics.py`)."""
    return psnr(mse(sr, hr, scale + 4))


def aggregate_psnr(error: torch.Tensor) -> float:
    """PSNR of the mean of errors, not the mean of PSNRs."""
    mean = float(error.double().mean())
    return math.inf if mean == 0 else -10 * math.log10(mean)


def psnr_cafm(sr: torch.Tensor, hr: torch.Tensor, scale: int) -> float:
    """Mean of the frames' PSNRs, scale + 6 pixels cut on every side; 1000 dB for a perfect frame (CaFM's released `utility.py`)."""
    error = mse(sr, hr, scale + 6)
    return float(psnr(error).where(error > 0, 1000.0).mean())


def ssim(x: torch.Tensor, y: torch.Tensor, window: int = 11, sigma: float = 1.5) -> torch.Tensor:
    """(N,) mean structural similarity over the channels (Wang et al. 2004), Gaussian window, no padding."""
    import torch
    from torch.nn import functional as F

    where = torch.arange(window, dtype=torch.float32) - (window - 1) / 2
    line = torch.exp(-(where**2) / (2 * sigma**2))
    line = (line / line.sum()).to(x.device)
    channels = x.shape[1]
    down, across = (
        line.view(shape).expand(channels, 1, -1, -1).reshape(channels, 1, *shape[2:])
        for shape in ((1, 1, window, 1), (1, 1, 1, window))
    )

    def blur(z: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(z, down, groups=channels), across, groups=channels)

    mx, my = blur(x), blur(y)
    vx, vy, covariance = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return similarity.double().mean((1, 2, 3))
