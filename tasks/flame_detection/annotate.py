"""Flame pixels of an RGB picture by colour, and how good labels of that kind are where temperatures are known.

After summaries of algorithm III-A.  The thresholds are ours: only the filters are named.  Labels mean "a flame is visible",
not "it is hot": `quality` says how far the two lie apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

#: neighbours within a frame, corners included, none in the next frame
_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True


@dataclass(frozen=True)
class Thresholds:
    """Of the three masks, on colours of 0..255, and of what is cleaned away behind them."""

    red_over_mean: float = 40  #: M1: red above the frame's mean red by more than this, and above green and blue
    green_below: float = 220  #: M2: green below this, or red above the next
    red_above: float = 240
    red_least: float = 150  #: M2: red at least this
    red_over_blue: float = 60  #: M3: red above blue by more than this
    green_over_blue: float = -10  #: M3: green above blue by more than this
    red_over_green: float = 15  #: M3: red above green by more than this; a white core is dropped, its orange rim labels the patch
    median: int = 3  #: side of the median filter
    least: int = 5  #: pixels of an 8-connected region that is kept


@dataclass(frozen=True)
class Smoke:
    """Which pixels are smoke, and when a frame is full of it: a rule of ours, for sets that do not say.

    Grey or bluish, not dark: the channels lie within `spread`, the largest is at least `least`, and blue is not below red by more
    than `warmth`.  Pale sky counts as well.  Of the four FLAME 3 scenes that are shipped the rule finds the one that is
    filled with smoke (0.41 of the frame; the others 0.14 to 0.21).
    """

    spread: int = 40
    least: int = 90
    warmth: int = 5
    share: float = 1 / 3  #: of a frame's pixels, from which on it is filled


FLAME, SMOKE = Thresholds(), Smoke()


@dataclass(frozen=True)
class Quality:
    """Labels against the truth: counts, and what follows from them; NaN where nothing was marked, or nothing is true."""

    marked: int
    right: int
    true: int

    @property
    def precision(self) -> float:
        return self.right / self.marked if self.marked else float("nan")

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else float("nan")


def flame_pixels(rgb: np.ndarray, thresholds: Thresholds = FLAME) -> np.ndarray:
    """Where a flame is visible, bool (F, H, W): M1, M2 and M3 together, a median filter, then small regions are dropped.

    Args:
        rgb: (F, H, W, 3) uint8.
    """
    t = thresholds
    # wider than a byte: differences of bytes wrap around
    red, green, blue = (rgb[..., c].astype(np.int16) for c in range(3))
    mean = red.mean(axis=(1, 2), dtype=np.float64, keepdims=True)
    found: np.ndarray = (red > mean + t.red_over_mean) & (red > green) & (red > blue)
    found &= ((green < t.green_below) | (red > t.red_above)) & (red >= t.red_least)
    found &= (red - blue > t.red_over_blue) & (green - blue > t.green_over_blue) & (red - green > t.red_over_green)
    if not found.any():
        return found
    smooth = ndimage.median_filter(found.astype(np.uint8), size=(1, t.median, t.median))
    regions, _ = ndimage.label(smooth, structure=_NEIGHBOURS)
    large = np.bincount(regions.ravel()) >= t.least
    large[0] = False
    return np.asarray(large[regions])


def smoke_share(rgb: np.ndarray, smoke: Smoke = SMOKE) -> np.ndarray:
    """Share of each frame's pixels that are smoke by `Smoke`, (F,); rgb (F, H, W, 3) uint8."""
    red, green, blue = (rgb[..., c].astype(np.int16) for c in range(3))
    largest, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    grey = (largest - least <= smoke.spread) & (largest >= smoke.least) & (blue >= red - smoke.warmth)
    return np.asarray(grey.mean(axis=(1, 2)))


def smoke_filled(rgb: np.ndarray, smoke: Smoke = SMOKE) -> np.ndarray:
    """Which frames smoke fills, bool (F,)."""
    return np.asarray(smoke_share(rgb, smoke) >= smoke.share)


def quality(marked: np.ndarray, true: np.ndarray) -> Quality:
    """Marks against the truth, arrays of bool of one shape: pixels, or patches."""
    if marked.shape != true.shape:
        raise ValueError(f"marks are {marked.shape}, the truth is {true.shape}")
    return Quality(int(marked.sum()), int((marked & true).sum()), int(true.sum()))
