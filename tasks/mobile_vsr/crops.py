"""Crops to look at: two a clip, cut where the original has most detail, which no method's output decides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tasks.mobile_vsr.player import Stream
    from tasks.mobile_vsr.problem import VideoProblem

SIZE = (180, 320)  #: height and width
#: clips whose licences let crops be shown, and how they are to be named
CREDITS = {
    "bigbuckbunny": "Big Buck Bunny, © 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0; cropped",
    "bottle": "bottle-detection of the Intel IoT Developer Kit’s sample videos, CC BY 4.0; cropped",
}


def pictures(problem: VideoProblem, solution: Stream | None) -> dict[str, np.ndarray]:
    """What a Solution plays there, or the originals; uint8 (180, 320, 3), named by frame and by column and row of the corner."""
    import torch

    low, high = problem.frames
    found = {}
    for t, top, left in windows(high.numpy()):
        frame = high[t]
        if solution is not None:
            with torch.no_grad():
                frame = solution.player.play(t, low[t].to(problem.device)).cpu()
        part = frame[:, top : top + SIZE[0], left : left + SIZE[1]]
        found[f"frame-{problem.numbers[t]}-x-{left}-y-{top}"] = part.permute(1, 2, 0).contiguous().numpy()
    return found


def psnr(seen: np.ndarray, original: np.ndarray) -> float:
    """PSNR of a crop against the original's, uint8 of one shape, in dB; infinite where they are equal."""
    error = float(np.square(seen.astype(np.float64) - original).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def windows(frames: np.ndarray) -> list[tuple[int, int, int]]:
    """Frame, top and left of a window in each half of a clip: the frame of most detail, and there the window of most.

    Detail is the squared difference of the grey values of neighbours, summed.

    Args:
        frames: uint8 (T, 3, H, W).
    """
    halves = [half for half in np.array_split(np.arange(len(frames)), 2) if len(half)]
    chosen = (max(half, key=lambda t: detail(frames[t]).sum()) for half in halves)
    return [(int(t), *window(detail(frames[t]))) for t in chosen]


def detail(frame: np.ndarray) -> np.ndarray:
    """(H - 1, W - 1) squared gradient of a frame (3, H, W), exact in whole numbers: the mean of three colours, times three."""
    grey = frame.astype(np.int64).sum(0)
    down, across = np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1]
    return np.asarray(down**2 + across**2)


def window(energy: np.ndarray) -> tuple[int, int]:
    """Top and left of the window of `SIZE` with the largest sum; the first of several, the corner where a frame is smaller."""
    height, width = (min(n, m) for n, m in zip(SIZE, energy.shape, strict=True))
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(top), int(left)
