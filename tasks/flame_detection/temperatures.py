"""Radiometric pictures: degrees Celsius read from a TIFF, where the camera's range ends, and fire masks made of them.

Nothing is scaled by a scene's maximum and nothing is brought to 8 bits: Pillow's conversion cuts at 255.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from suite.naming import UserError

FIRE, BURNING, FLAMING = 80.0, 150.0, 200.0  #: degrees: fire is screened for, the rule of thumb, flaming combustion
COLDEST, HOTTEST = -273.15, 3000.0  #: what a picture of degrees can hold at all
USUAL = (-60.0, 150.0)  #: where the median of a picture from the air lies; kelvins do not
#: A limit of the camera: at least so many pixels have the very largest (or least) value, and so many times as many as hold one of
#: the next `LEVELS` values.
PILED, TIMES, LEVELS = 4, 2.0, 10
BINS = 256  #: of Otsu's histogram, a degree each
_EVERYWHERE = np.ones((3, 3), bool)
#: what Pillow raises on files that are damaged, or whose header says that they are enormous
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, Image.DecompressionBombError)

_KINDS = {
    "I;16": "16-bit integers",
    "I;16B": "16-bit integers",
    "I": "32-bit integers",
    "L": "8-bit grey",
    "P": "8-bit colours",
    "1": "black and white",
    "RGB": "8-bit colours",
    "RGBA": "8-bit colours",
}


@dataclass(frozen=True)
class Limits:
    """Ends of a camera's range that a picture runs into, in degrees; None: it does not."""

    low: float | None
    high: float | None

    def __str__(self) -> str:
        words = [f"{word} {v:.1f}" for word, v in (("below at", self.low), ("above at", self.high)) if v is not None]
        return " and ".join(words) or "nowhere"


def read(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Degrees Celsius of a TIFF of one channel of float32, (H, W) float32, as they are stored.

    Args:
        size: (H, W) that it must have; None: any.

    Raises:
        UserError: integers, another kind of file, another size, values that are no temperatures, a truncated file.
    """
    from PIL import UnidentifiedImageError

    wanted = "float32 degrees Celsius in one channel are expected"
    try:
        # what is wrong is told once, below
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.format != "TIFF":
                raise UserError(f"{path}: a {image.format}, not a TIFF; {wanted}")
            if image.mode != "F":
                raise UserError(f"{path}: holds {_KINDS.get(image.mode, 'mode ' + image.mode)}, not temperatures; {wanted}")
            if getattr(image, "n_frames", 1) != 1:
                raise UserError(f"{path}: holds {image.n_frames} pictures; write one a file")  # type: ignore[attr-defined]
            celsius = np.array(image, dtype=np.float32)
    except FileNotFoundError as e:
        raise UserError(f"no {path}: a TIFF; {wanted}") from e
    except UnidentifiedImageError as e:
        raise UserError(f"{path}: no TIFF that Pillow reads (float64 is none), or it is empty; {wanted}") from e
    except DAMAGED as e:
        raise UserError(f"{path}: truncated or damaged ({' '.join(str(e).split())}); get it again") from e
    if size is not None and celsius.shape != size:
        raise UserError(f"{path}: {celsius.shape[1]}x{celsius.shape[0]} pixels, {size[1]}x{size[0]} are expected")
    check(celsius, str(path))
    return celsius


def check(celsius: np.ndarray, name: str) -> None:
    """Raises UserError where a picture (H, W) holds what cannot be degrees Celsius."""
    finite = np.isfinite(celsius)
    if not finite.all():
        raise UserError(f"{name}: {(~finite).sum()} of {celsius.size} pixels are not a number or infinite; leave the file out")
    least, largest = float(celsius.min()), float(celsius.max())
    if least < COLDEST or largest > HOTTEST:
        raise UserError(f"{name}: values from {least:g} to {largest:g} are no degrees Celsius; raw counts must be converted first")
    if least == largest:
        raise UserError(f"{name}: every pixel is {least:g}; leave the file out")
    middle = float(np.median(celsius))
    if not USUAL[0] <= middle <= USUAL[1] or (least >= 0 and largest <= 1.5):
        raise UserError(
            f"{name}: half of it lies above {middle:.4g}, all from {least:.4g} to {largest:.4g}: not degrees Celsius of ground and"
            " fire; kelvins and scaled pictures must be converted first"
        )


def limits(celsius: np.ndarray) -> Limits:
    """Where pixels pile up at the largest or the least value of a picture (H, W): there the camera's range ends.

    Of the scenes that are shipped: 187.4 and 500 degrees above; -40.6 and -22.8 below.
    """
    values, counts = np.unique(celsius, return_counts=True)

    def piled(counts: np.ndarray) -> bool:
        next_ones = counts[1 : 1 + LEVELS]
        return len(next_ones) > 0 and counts[0] >= max(PILED, TIMES * next_ones.mean())

    low = float(values[0]) if piled(counts) else None
    high = float(values[-1]) if piled(counts[::-1]) else None
    return Limits(low, high)


def truth(highest: np.ndarray, at: float, limit: float | None) -> np.ndarray:
    """Whether the warmest pixel of each patch reaches `at` degrees, (n,) int64: 1, 0, or -1 where nobody knows.

    That is where it stands at a limit of the camera below `at`: it may have been hotter.

    Args:
        highest: (n,) degrees.
        limit: `Limits.high` of the frame.
    """
    known = (highest >= at).astype(np.int64)
    if limit is not None and limit < at:
        known[highest >= limit] = -1
    return known


def otsu(celsius: np.ndarray) -> int:
    """Otsu's threshold in whole degrees: of the values {<= t} against {> t} of the rounded picture the variance between is largest.

    Histogram of 256 bins over 0..256, the last one closed (256 counts as 255); what lies outside does not enter it.  The lowest
    such t; 0 where there are not two values to part.  The mask is `celsius > t`, of all pixels as they are.
    """
    count, _ = np.histogram(np.round(celsius), bins=BINS, range=(0, BINS))
    below, total = np.cumsum(count), int(count.sum())
    parted = (below > 0) & (below < total)
    if not parted.any():
        return 0
    share = below / total
    mean = np.cumsum(count * np.arange(BINS)) / total
    between = np.zeros(BINS)
    # empty bins leave both sums as they are, so ties are ties to the bit and the first one is taken
    np.divide((mean[-1] * share - mean) ** 2, share * (1 - share), out=between, where=parted)
    return int(np.argmax(between))


def hysteresis(celsius: np.ndarray, low: float = 50.0, high: float = 150.0) -> np.ndarray:
    """Fire by two thresholds, bool (H, W): regions of at least `low` degrees (8-connected) that hold a pixel of at least `high`."""
    regions, count = ndimage.label(celsius >= low, structure=_EVERYWHERE)
    kept = np.zeros(count + 1, bool)
    kept[regions[celsius >= high]] = True
    kept[0] = False
    return np.asarray(kept[regions])
