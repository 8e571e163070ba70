"""The sample's embedding in a plane: two principal components of one fold, with the centres, by evidence alone."""

from __future__ import annotations

import numpy as np

from suite.protocol import Table
from tasks.flame_detection.measures import NOBODY, Answers

COLOURS = ("no fire", "fire")
SHAPES = ("not called flame", "called flame")
LANDMARKS = ("centre of no flame", "centre of flame")


def points(evidence: Table) -> dict[str, np.ndarray]:
    """The sample of the first fold that holds patches under smoke, else of the first: a line a patch, then a line a centre.

    Columns x and y; colour: the truth (-1: nobody knows); shape: what the method answers; landmark: which centre, -1: a patch.
    Raises UserError where the evidence cannot be what it says.
    """
    a = Answers.read(evidence)
    smoky = a.fold[a.sampled & a.obscured]
    fold = int(smoky[0] if len(smoky) else a.fold[0])
    rows = a.sampled & (a.fold == fold)
    z, centres = a.z[rows], a.centres(fold)
    middle, axes = components(z)
    every = z if centres is None else np.concatenate([z, centres])
    place = (every - middle) @ axes.T
    count, there = int(rows.sum()), 0 if centres is None else 2
    return {
        "x": place[:, 0],
        "y": place[:, 1],
        "colour": np.concatenate([np.where(a.truth[rows] == NOBODY, -1, a.truth[rows]), np.arange(there)]),
        "shape": np.concatenate([np.where(a.centred, a.near, a.head)[rows].astype(np.int64), np.zeros(there, np.int64)]),
        "landmark": np.concatenate([np.full(count, -1), np.arange(there)]),
    }


def components(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and the two directions (2, D) of most variance of points z (k, D); the largest entry of each is positive."""
    middle = z.mean(0) if len(z) else np.zeros(z.shape[1])
    _, _, rows = np.linalg.svd(z - middle, full_matrices=False)
    axes = np.zeros((2, z.shape[1]))
    axes[: min(2, len(rows))] = rows[:2]
    return middle, upright(axes)


def upright(axes: np.ndarray) -> np.ndarray:
    """Directions (k, D) whose largest entry is positive: a decomposition leaves their signs open."""
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(1)]
    found: np.ndarray = axes * np.where(largest < 0, -1.0, 1.0)[:, None]
    return found
