"""Paired patches that are rendered: flames, hot decoys and background, clear and under smoke.

The set is one and the same for every run: its seed is fixed, a run's seed only changes the training.  A frame is 12 patches of
24x24, flame, decoy and background in turn, laid out in 3 rows of 4.  Twelve patches are scaled together by their least and largest
value, so that absolute temperature is lost.

Decided here: every random number is drawn for each patch; noise that is smoothed keeps its lesser
variance; smoke hides the RGB picture by 1 - 0.1 x contrast; labels are those of `annotate.flame_pixels` on the rendered RGB (of
clear frames they agree with the truth without exception; under smoke no flame is marked); one label in twenty of training and
validation is then turned over, none of the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from suite import naming
from tasks.flame_detection import annotate, patches, reading
from tasks.flame_detection.problem import Fold, Patches, PatchSet

KINDS = ("flame", "decoy", "background")
ROWS, COLUMNS = 3, 4  #: of a frame's patches
PER_FRAME = ROWS * COLUMNS
BLOCKS = ("train", "val", "clear", "smoky")


@dataclass(frozen=True)
class Recipe:
    """Every constant of the rendering; temperatures in degrees Celsius, lengths in pixels."""

    version: int = 1  #: raised by a change of the rendering that is none of a constant
    seed: int = 20240409
    patch: int = 24
    train: int = 3000  #: patches
    val: int = 600
    clear: int = 1200
    smoky: int = 1200
    base: float = 20.0  #: background: base + U(0, warmer) + ground x noise smoothed by ground_sigma
    warmer: float = 20.0
    ground: float = 24.0
    ground_sigma: float = 2.0
    flame: tuple[float, float] = (170.0, 520.0)
    decoy: tuple[float, float] = (50.0, 370.0)
    centre: tuple[float, float] = (6.0, 18.0)  #: of a blob, down and across
    length: tuple[float, float] = (2.5, 5.5)  #: a of a blob exp(-0.6 ((u / a)^2 + (v / b)^2))
    fall: float = 0.6
    flame_slender: tuple[float, float] = (1.3, 3.0)  #: a / b
    decoy_slender: tuple[float, float] = (1.0, 2.0)
    turbulence: float = 0.7  #: flames are multiplied by 1 + turbulence x noise smoothed by turbulence_sigma, and clipped
    turbulence_sigma: float = 0.7
    clip: tuple[float, float] = (0.0, 1.4)
    blur: float = 0.8  #: smoke: of the thermal picture, then contrast about the patch's mean
    contrast: tuple[float, float] = (0.35, 0.7)
    noise: float = 4.0  #: of the sensor, clear and under smoke
    smoky_noise: float = 3.0
    label_noise: float = 0.05
    opacity: float = 0.1  #: of RGB under smoke: 1 - opacity x contrast
    grass: tuple[int, int, int] = (75, 95, 50)  #: RGB: the ground lies anywhere from grass to soil
    soil: tuple[int, int, int] = (125, 105, 75)
    stone: tuple[int, int, int] = (165, 160, 155)  #: decoys
    rim: tuple[int, int, int] = (250, 125, 30)  #: of a flame, and its hot core
    core: tuple[int, int, int] = (255, 215, 100)
    smoke: tuple[int, int, int] = (188, 190, 194)
    grain: float = 3.0  #: noise of each colour
    shade: float = 60.0  #: of the ground's noise on all colours
    visible: tuple[float, float] = (0.08, 0.2)  #: a flame is seen from this height of its blob on, fully so much higher


RECIPE = Recipe()


@dataclass(frozen=True)
class Rendered:
    """A block as it is rendered, patch by patch in raster order of its frames."""

    celsius: np.ndarray  #: (n, P, P) float32, as a radiometric sensor would read them: smoke and noise included
    peak: np.ndarray  #: (n,) float32, the warmest pixel without smoke and noise
    rgb: np.ndarray  #: (n, P, P, 3) uint8
    kind: np.ndarray  #: (n,) int64 of `KINDS`


def digest(recipe: Recipe = RECIPE) -> str:
    """SHA-256 of all that the set depends on."""
    return naming.digest({"recipe": asdict(recipe), "thresholds": asdict(annotate.FLAME)})


def render(block: str, recipe: Recipe = RECIPE) -> Rendered:
    """All patches of a block, the same to the bit on one machine; smoke lies over each patch of `smoky`."""
    r = recipe
    count = getattr(r, block) // PER_FRAME * PER_FRAME
    smoky = block == "smoky"
    kind = np.arange(count) % len(KINDS)
    flame, decoy = kind == 0, kind == 1

    def generator(purpose: str) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(naming.address("flame_detection/synthetic", r.version, r.seed, block, purpose)))

    def uniform(draws: np.random.Generator, low: Any, high: Any) -> np.ndarray:
        return np.asarray(draws.uniform(low, high, count), np.float32)[:, None, None]

    def smoothed(purpose: str, sigma: float) -> np.ndarray:
        noise = generator(purpose).standard_normal((count, r.patch, r.patch), np.float32)
        return np.asarray(ndimage.gaussian_filter(noise, (0, sigma, sigma), output=noise))

    ground_noise = smoothed("ground", r.ground_sigma)
    clear = r.ground * ground_noise + (r.base + uniform(generator("base"), 0, r.warmer))
    draws = generator("blobs")
    down, across = uniform(draws, *r.centre), uniform(draws, *r.centre)
    angle, length = uniform(draws, 0, np.pi), uniform(draws, *r.length)
    slender = uniform(draws, *(np.where(flame, f, d) for f, d in zip(r.flame_slender, r.decoy_slender, strict=True)))
    hot = uniform(draws, *(np.where(flame, f, d) for f, d in zip(r.flame, r.decoy, strict=True)))
    place = np.arange(r.patch, dtype=np.float32)
    y, x = place[:, None] - down, place - across
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    blob = np.exp(-r.fall * ((u / length) ** 2 + (v * slender / length) ** 2))
    turbulent = np.clip(blob[flame] * (1 + r.turbulence * smoothed("turbulence", r.turbulence_sigma)[flame]), *r.clip)
    above = hot - clear.mean(axis=(1, 2), keepdims=True)
    clear[flame] += above[flame] * turbulent
    clear[decoy] += above[decoy] * blob[decoy]

    contrast = uniform(generator("smoke"), *r.contrast)
    sensed = clear
    if smoky:
        sensed = ndimage.gaussian_filter(clear, (0, r.blur, r.blur))
        mean = sensed.mean(axis=(1, 2), keepdims=True)
        sensed = mean + contrast * (sensed - mean)
    sensed = sensed + (r.smoky_noise if smoky else r.noise) * generator("sensor").standard_normal(clear.shape, np.float32)
    rgb = _rgb(recipe, kind, blob, turbulent, ground_noise, generator("colour"))
    if smoky:
        rgb += (1 - r.opacity * contrast[..., None]) * (np.array(r.smoke, np.float32) - rgb)
    return Rendered(sensed, clear.max(axis=(1, 2)), np.clip(np.rint(rgb), 0, 255).astype(np.uint8), kind)


def _rgb(
    r: Recipe,
    kind: np.ndarray,
    blob: np.ndarray,
    turbulent: np.ndarray,
    ground_noise: np.ndarray,
    draws: np.random.Generator,
) -> np.ndarray:
    """Colours (n, P, P, 3) float32 without smoke: grass to soil, pale decoys, orange to yellow flames.

    Args:
        blob, ground_noise: (n, P, P).
        turbulent: of the flames alone, in their order.
    """
    grass, soil, stone, rim, core = (np.array(c, np.float32) for c in (r.grass, r.soil, r.stone, r.rim, r.core))
    rgb = r.grain * draws.standard_normal((*blob.shape, 3), np.float32)
    rgb += grass + draws.uniform(0, 1, (len(kind), 1, 1, 1)).astype(np.float32) * (soil - grass)
    rgb += r.shade * ground_noise[..., None]
    decoy, flame = kind == 1, kind == 0
    rgb[decoy] += blob[decoy][..., None] * (stone - rgb[decoy])
    seen = np.clip((blob[flame][..., None] - r.visible[0]) / r.visible[1], 0, 1)
    rgb[flame] += seen * (rim + np.minimum(turbulent[..., None], 1) * (core - rim) - rgb[flame])
    return rgb


def mosaic(values: np.ndarray) -> np.ndarray:
    """Patches (n, P, P, ...) laid out as frames (n / 12, 3 P, 4 P, ...), which cutting gives back in their order."""
    planes = torch.from_numpy(values.reshape(*values.shape[:3], -1)).permute(0, 3, 1, 2)
    frames = patches.pasted(planes, ROWS, COLUMNS).permute(0, 2, 3, 1)
    return frames.reshape(*frames.shape[:3], *values.shape[3:]).numpy()


def block(name: str, recipe: Recipe = RECIPE) -> Patches:
    """A block (`BLOCKS`) as the task knows it; frames are numbered from 0."""
    drawn = render(name, recipe)
    count = len(drawn.kind)
    scaled = patches.scale(torch.from_numpy(mosaic(drawn.celsius))[:, None])
    thermal = patches.cut(scaled, recipe.patch)
    flame = torch.from_numpy(annotate.flame_pixels(mosaic(drawn.rgb)))[:, None]
    label = patches.cut(flame, recipe.patch).flatten(1).any(dim=1).long()
    if name in ("train", "val"):
        draws = np.random.Generator(np.random.Philox(naming.address("flame_detection/synthetic", recipe.seed, name, "labels")))
        label = label ^ torch.from_numpy(draws.uniform(size=count) < recipe.label_noise).long()
    kind = torch.from_numpy(drawn.kind)
    truth = (kind == 0).long()
    limit = patches.hot_limit(scaled).repeat_interleave(PER_FRAME)
    return Patches(
        thermal,
        torch.from_numpy(drawn.rgb.transpose(0, 3, 1, 2).copy()),
        label,
        truth,
        truth * torch.from_numpy(drawn.peak >= 200).long(),
        patches.warm(thermal.amax(dim=(1, 2, 3)), label, limit),
        torch.from_numpy(drawn.celsius.max(axis=(1, 2))),
        torch.arange(count) // PER_FRAME,
        kind,
        torch.full((count,), name == "smoky"),
        torch.full((count,), -1),
        torch.from_numpy(drawn.celsius)[:, None],
    )


@lru_cache(maxsize=2)
def _whole(recipe: Recipe) -> tuple[Patches, ...]:
    return tuple(block(name, recipe) for name in BLOCKS)


def patch_set(sizes: Mapping[str, int] | None = None, recipe: Recipe = RECIPE) -> PatchSet:
    """The set: training, validation, and a test of clear frames with smoky ones behind them.

    Args:
        sizes: at most so many patches of each block (`train`, `val`, `clear`, `smoky`), the first whole frames of it.
    """
    wanted = dict.fromkeys(BLOCKS, 10**9) | dict(sizes or {})
    taken, first = {}, 0
    for name, whole in zip(BLOCKS, _whole(recipe), strict=True):
        part = whole.take(torch.arange(min(len(whole), max(1, wanted[name] // PER_FRAME) * PER_FRAME)))
        taken[name] = _numbered(part, first)
        first += len(part) // PER_FRAME
    fold = Fold(taken["train"], taken["val"], reading.joined([taken["clear"], taken["smoky"]]))
    return PatchSet("synthetic", recipe.patch, (fold,), KINDS, (ROWS, COLUMNS))


def _numbered(part: Patches, first: int) -> Patches:
    """Frames of a block numbered from `first`: those of the whole set are told apart."""
    part.frame.add_(first)  # a copy: `take` has made it
    return part
