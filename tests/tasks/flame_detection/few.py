"""Few patches, and evidence made up for them: what tests of scoring, examining and timing need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.flame_detection.measures import DIMENSIONS, sample
from tasks.flame_detection.problem import Fold, Patches, PatchSet


def patches(
    count: int, side: int = 8, *, seed: int = 0, scene: int = 0, first: int = 0, per_frame: int = 4, smoky: int = 0
) -> Patches:
    """Patches of which every third is flame, the next one warm; frames of `per_frame`, from number `first`.

    Args:
        smoky: how many of the last ones are obscured.
    """
    generator = torch.Generator().manual_seed(seed)
    row = torch.arange(count)
    label = (row % 3 == 0).long()
    thermal = torch.rand(count, 1, side, side, generator=generator) * (0.3 + 0.7 * label.view(-1, 1, 1, 1))
    hot = (row % 3 < 2).long()
    return Patches(
        thermal=thermal,
        rgb=torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8),
        label=label,
        truth=label.clone(),
        truth_200=label * (row % 2),
        warm=(hot - label) == 1,
        celsius=50 + 300 * thermal.amax((1, 2, 3)),
        frame=first + row // per_frame,
        scene=torch.full((count,), scene),
        obscured=row >= count - smoky,
        fire=torch.full((count,), -1),
        degrees=50 + 300 * thermal,
    )


def patch_set(folds: int = 1, count: int = 48, side: int = 8, name: str = "few", smoky: int = 12) -> PatchSet:
    """A set of so many folds, each of a scene of its own."""
    made = [
        Fold(
            patches(24, side, seed=100 + f, scene=f, first=1000 * f),
            patches(12, side, seed=200 + f, scene=f, first=1000 * f + 300),
            patches(count, side, seed=f, scene=f, first=1000 * f + 600, smoky=smoky),
        )
        for f in range(folds)
    ]
    return PatchSet(name, side, made, [f"scene {f}" for f in range(folds)], (2, 2))


class Small(nn.Module):
    """A detector of two linear layers; its head reads what it embeds."""

    colour = False

    def __init__(self, side: int = 8, features: int = 5, seed: int = 0, colour: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body, self.head = nn.Linear((4 if colour else 1) * side * side, features), nn.Linear(features, 1)
        self.colour = colour

    def embed(self, thermal: torch.Tensor, rgb: torch.Tensor | None = None) -> torch.Tensor:
        x = thermal if rgb is None else torch.cat([thermal, rgb], 1)
        found: torch.Tensor = self.body(x.flatten(1))
        return found

    def forward(self, thermal: torch.Tensor, rgb: torch.Tensor | None = None) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.embed(thermal, rgb))
        return logits.squeeze(-1)


def evidence(
    count: int = 240, *, columns: Mapping[str, Any] | None = None, centres: bool = True, folds: int = 1, smoky: bool = True
) -> dict[str, np.ndarray]:
    """Evidence of frames of 12, of each fold the later half under smoke: four of five answers of the head are right.

    The embedding parts the kinds but for some.
    """
    draw = np.random.Generator(np.random.Philox(7))
    row = np.arange(count)
    fold = row * folds // count
    truth = (row % 3 == 0).astype(int)
    obscured = smoky & ((row % (count // folds)) >= count // folds // 2)
    flips = draw.random((2, count)) < 0.2
    score = np.where(truth ^ flips[0], 1.0, -1.0) * draw.uniform(0.5, 2, count)
    z = draw.normal(0, 1, (count, DIMENSIONS)) + 2.0 * truth[:, None]
    middle = np.stack([np.zeros(DIMENSIONS), np.full(DIMENSIONS, 2.0)])
    away = np.linalg.norm(z[:, None] - middle, axis=2) if centres else np.full((count, 2), -1.0)
    sampled = sample(fold, obscured)
    out: dict[str, Any] = {
        "row": row, "fold": fold, "frame": row // 12, "scene": row % 3, "obscured": obscured, "label": truth, "truth": truth,
        "truth_200": truth * (row % 2), "score": score, "distance_0": away[:, 0], "distance_1": away[:, 1], "sampled": sampled,
        "kept": np.ones(count), "fire": np.full(count, -1),
    }  # fmt: skip
    for k in (0, 1):
        column = np.zeros(count)
        for f in range(folds):
            first = int(np.flatnonzero(fold == f)[0])
            column[first : first + DIMENSIONS] = middle[k] if centres else 0
        out[f"centre_{k}"] = column
    out |= {f"z{i}": np.where(sampled, z[:, i], 0) for i in range(DIMENSIONS)}
    out |= dict(columns or {})
    return {k: np.asarray(v) for k, v in out.items()}
