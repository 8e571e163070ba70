"""Small synthetic patches, and a problem on them with a run in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from suite.protocol import Spec
from tasks.flame_detection.problem import FlameProblem, Fold, Patches, PatchSet
from tasks.flame_detection.recipes import Adam
from tests.helpers import MemoryRun

FRAME = 12  #: patches of a frame


def patches(count: int, seed: int, *, patch: int = 24, smoke: bool = False, first_frame: int = 0, noise: float = 0.05) -> Patches:
    """`count` patches in frames of 12: flames, decoys and background in turn, with temperatures and RGB."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    y, x = np.mgrid[:patch, :patch].astype(float)
    plain = 20 + rng.uniform(0, 20, (count, 1, 1)) + 24 * _smooth(rng.standard_normal((count, patch, patch)), 2)
    centre = rng.uniform(0.25, 0.75, (2, count, 1, 1)) * patch
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    u, v = ((x - centre[0]) * np.cos(angle + t) + (y - centre[1]) * np.sin(angle + t) for t in (0, np.pi / 2))
    a = rng.uniform(2.5, 5.5, (count, 1, 1)) * patch / 24
    b = a / np.where(kind == 0, rng.uniform(1.3, 3, count), rng.uniform(1, 2, count))[:, None, None]
    blob = np.exp(-0.6 * ((u / a) ** 2 + (v / b) ** 2))
    texture = np.clip(1 + 0.7 * _smooth(rng.standard_normal(blob.shape), 0.7), 0, 1.4)
    blob = np.where(kind[:, None, None] == 0, blob * texture, blob)
    hottest = np.where(kind == 0, rng.uniform(170, 520, count), rng.uniform(50, 370, count))[:, None, None]
    celsius = plain + np.where(kind[:, None, None] < 2, (hottest - plain.mean((1, 2), keepdims=True)) * blob, 0)
    seen = celsius
    if smoke:
        seen = gaussian_filter(seen, (0, 0.8, 0.8))
        mean = seen.mean((1, 2), keepdims=True)
        seen = mean + (seen - mean) * rng.uniform(0.35, 0.7, (count, 1, 1))
    seen = seen + rng.standard_normal(seen.shape) * (3 if smoke else 4)
    frames = seen.reshape(-1, FRAME * patch * patch)
    low, high = frames.min(1, keepdims=True), frames.max(1, keepdims=True)
    thermal = ((frames - low) / (high - low)).reshape(count, 1, patch, patch)
    flame = kind == 0
    rgb = 0.3 + 0.05 * rng.standard_normal((count, 3, patch, patch))
    if not smoke:
        rgb[:, 0] += 0.6 * (blob * flame[:, None, None]).clip(0, 1)
    label = flame ^ (rng.random(count) < noise)
    return Patches(
        thermal=_tensor(thermal),
        rgb=(255 * _tensor(rgb.clip(0, 1))).round().byte(),
        label=torch.from_numpy(label.astype(np.int64)),
        truth=torch.from_numpy(flame.astype(np.int64)),
        truth_200=torch.from_numpy((celsius.max((1, 2)) > 200).astype(np.int64)),
        warm=torch.from_numpy((kind == 1) & ~label),
        celsius=_tensor(celsius.max((1, 2))),
        frame=torch.arange(count) // FRAME + first_frame,
        scene=torch.from_numpy(kind.astype(np.int64)),
        obscured=torch.full((count,), smoke),
        fire=torch.full((count,), -1),
        degrees=_tensor(celsius[:, None]),
    )


def fold(seed: int, train: int, val: int = 0, test: int = 24, patch: int = 24) -> Fold:
    parts = (patches(n or FRAME, 100 * seed + i, patch=patch, first_frame=1000 * i) for i, n in enumerate((train, val, test)))
    return Fold(*(part.take(torch.arange(n)) for part, n in zip(parts, (train, val, test), strict=True)))


def problem(
    run: MemoryRun | None = None,
    *,
    folds: Sequence[Fold] | None = None,
    train: int = 144,
    val: int = 0,
    epochs: int = 3,
    batch: int = 48,
    patch: int = 24,
    **changes: Any,
) -> FlameProblem:
    """A problem of one small fold."""
    asked = spec(**changes)
    found = list(folds) if folds else [fold(1, train, val, patch=patch)]
    data = PatchSet("synthetic", patch, found, ("flame", "decoy", "background"), (3, 4))
    return FlameProblem(asked, run or MemoryRun(asked), data, epochs, batch, "fp32", torch.device("cpu"), Adam())


def spec(**changes: Any) -> Spec:
    fields = {"tier": "smoke", "division": "closed", "case": "synthetic/lfe", "target": "", "seed": 0}
    return Spec("flame_detection", 1, **{**fields, **changes})


def _smooth(noise: np.ndarray, sigma: float) -> np.ndarray:
    found: np.ndarray = gaussian_filter(noise, (0, sigma, sigma))
    return found / found.std()


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
