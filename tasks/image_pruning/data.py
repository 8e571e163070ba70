"""The sets of this task: two that are shipped with it, and those that have files (`tasks.images`)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from suite import folders
from suite.naming import UserError
from tasks.images import datasets, sources
from tasks.images.datasets import Examples

HERE = Path(__file__).resolve().parent / "data"
EMBEDDED = {"fashion": HERE / "fashion_small.npz", "clothing10": HERE / "clothing10_32.npz"}
FASHION_CLASSES = [
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
]
#: shape of an image, classes and training images of the sets that the speed division knows without their files
SHAPES = {
    "imagenet": ((3, 224, 224), 1000, 1_271_167),
    "cifar10": ((3, 32, 32), 10, 45_000),
    "cifar100": ((3, 32, 32), 100, 45_000),
    "fashion": ((3, 16, 16), 10, 12_000),
    "clothing10": ((3, 32, 32), 10, 3_068),
}


def locate(name: str, folder: str) -> Path:
    """The file or folder of a set; raises UserError that says what to put where, under which licence."""
    return folders.shipped(EMBEDDED, name, folder) or datasets.locate(name, folder)


@lru_cache(maxsize=2)
def load(name: str, folder: str) -> Examples:
    """A set that fits in memory, by its case name."""
    if name not in EMBEDDED:
        return datasets.load(name, folder)
    arrays = datasets.read_npz(EMBEDDED[name])
    if name == "fashion":
        arrays |= {"classes": np.array(FASHION_CLASSES)}
        arrays |= {f"{s}_x": _sixteen(arrays[f"{s}_x"]) for s in datasets.SPLITS}
    return datasets.examples(arrays)


def source(name: str, folder: str, sliver: dict[str, int] | None) -> sources.Source:
    """Where the batches of a set come from, by its case name."""
    if name == "imagenet":
        return sources.imagenet(locate(name, folder))
    images = load(name, folder)
    if sliver:
        images = images.take(sliver) if name in EMBEDDED else images.spread(sliver)
    return sources.InMemory(images)


def shapes(name: str) -> sources.Source:
    """A set of the speed division, which looks at no file; raises UserError on one that it does not know."""
    if name not in SHAPES:
        raise UserError(f"the speed division knows no set {name!r}; there are: {', '.join(SHAPES)}")
    return sources.Shapes(*SHAPES[name])


def _sixteen(images: np.ndarray) -> np.ndarray:
    """(n, 28, 28) to (n, 16, 16): means of 2x2 pixels, a black frame of one.

    A third of the operations: two cores then afford sixteen passes over the images instead of five.
    """
    n, size, _ = images.shape
    sums = images.reshape(n, size // 2, 2, size // 2, 2).sum((2, 4), dtype=np.uint16)
    return np.pad(((sums + 2) // 4).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))
