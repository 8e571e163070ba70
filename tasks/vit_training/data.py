"""The sets of this task: photographs of clothes and digits hidden in noise, which are shipped, and those that have files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from suite import folders
from suite.naming import UserError
from tasks.images import datasets, sources
from tasks.images.augment import Augmentation, Deit
from tasks.images.sources import ALL, Batches

HERE = Path(__file__).resolve().parent / "data"
EMBEDDED = {"clothing10": HERE / "clothing10_64_jpeg.zip", "digits": HERE / "digits.npz"}
FOLDERS = {"train": "train", "val": "validation", "test": "test"}  #: of the photographs' archive
#: shape of an image, classes and training images of the sets that the speed division knows without their files
SHAPES = {
    "imagenet": ((3, 224, 224), 1000, 1_271_167),
    "clothing10": ((3, 64, 64), 10, 3_068),
    "digits": ((3, 32, 32), 10, 1_257),
}
#: of digits on noise: pixels of the canvas, of a doubled digit, of the grid it is placed on; the noise's standard deviation
CANVAS, DIGIT, GRID, SIGMA = 32, 16, 4, 0.2
PLACES = 1 + (CANVAS - DIGIT) // GRID  #: across and down
COPIES = 3  #: of a test digit, each placed elsewhere
FIXED = {"train": 11, "val": 12, "test": 13}  #: seeds of the placements that stay the same


def locate(name: str, folder: str) -> Path:
    """The file or folder of a set; raises UserError that says what to put where, under which licence."""
    return folders.shipped(EMBEDDED, name, folder) or datasets.locate(name, folder)


def digest(name: str, folder: str) -> str:
    return datasets.digest(locate(name, folder), own=name not in EMBEDDED)


def source(name: str, folder: str, sliver: Mapping[str, int] | None = None, varied: Deit | None = None) -> sources.Source:
    """Where the batches of a set come from, by its case name.

    Args:
        sliver: so many images of each split, the first ones; None: all.
        varied: how training images are varied; None: by a crop and a flip. Digits on noise are placed anew instead.
    """
    if name == "imagenet":
        return replace(sources.imagenet(locate(name, folder)), augmentation=varied or Deit())
    if name == "digits":
        return DigitsOnNoise(read_digits(), sliver)
    images = clothing() if name == "clothing10" else datasets.load(name, folder)
    if sliver:
        images = images.take(sliver) if name in EMBEDDED else images.spread(sliver)
    return sources.InMemory(images, varied) if varied else sources.InMemory(images)


def shapes(name: str) -> sources.Source:
    """A set of the speed division, which looks at no file; raises UserError on one that it does not know."""
    if name not in SHAPES:
        raise UserError(f"the speed division knows no set {name!r}; there are: {', '.join(SHAPES)}")
    return sources.Shapes(*SHAPES[name])


@lru_cache(maxsize=1)
def clothing() -> datasets.Examples:
    """clothing10 at 64 pixels; JPEG, decoded by Pillow, whose version a bundle tells."""
    from PIL import Image

    arrays: datasets.Arrays = {}
    with zipfile.ZipFile(EMBEDDED["clothing10"]) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
        classes = sorted({n.split("/")[1] for n in names})
        for split, folder in FOLDERS.items():
            # shuffled once and for all: stored by class, the first images of a split would be of one
            own = np.random.Generator(np.random.Philox(0)).permutation([n for n in names if n.startswith(f"{folder}/")]).tolist()
            arrays[f"{split}_x"] = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in own])
            arrays[f"{split}_y"] = np.array([classes.index(n.split("/")[1]) for n in own])
    return datasets.examples(arrays | {"classes": np.array(classes)})


@lru_cache(maxsize=1)
def read_digits() -> datasets.Arrays:
    return datasets.read_npz(EMBEDDED["digits"])


class DigitsOnNoise:
    """Handwritten digits, doubled to 16x16, somewhere on 32x32 of Gaussian noise: 16 of 64 patches of 4 pixels tell the class.

    Training digits are placed and noised anew each epoch, addressed by their row, so that an epoch of chosen
    examples shows each of them as an epoch of all would; validation and test digits once, the latter three times each.
    Values are those of the canvas, neither normalised nor clipped; the three channels are alike.
    """

    augmentation: Augmentation | None = None
    group = ""
    notes: Sequence[str] = ()
    input = (3, CANVAS, CANVAS)

    def __init__(self, arrays: datasets.Arrays, sliver: Mapping[str, int] | None = None) -> None:
        self.classes = tuple(str(c) for c in arrays["classes"])
        self._digits, self._labels = {}, {}
        for split in datasets.SPLITS:
            count = (sliver or {}).get(split)
            pixels = torch.from_numpy(arrays[f"{split}_x"][:count].astype(np.float32)) / 16
            self._digits[split] = pixels.repeat_interleave(2, 1).repeat_interleave(2, 2)
            self._labels[split] = torch.from_numpy(arrays[f"{split}_y"][:count].astype(np.int64))

    @property
    def train_count(self) -> int:
        return len(self._labels["train"])

    def rows(self, order: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        yield from self._epoch(order, batch, among)[:, mine]

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Batches:
        places, noise = _draw(self.train_count, augment)
        for index in self._epoch(order, batch, among)[:, mine]:
            yield _put(self._digits["train"][index], places[index], noise[index]), self._labels["train"][index]

    def evaluate(self, split: str, batch: int) -> Batches:
        digit, (places, noise), label = self.pictures(split), _draw(len(self.pictures(split)), FIXED[split]), self._labels[split]
        for at in range(0, len(digit), batch):
            here = slice(at, at + batch)
            yield _put(self._digits[split][digit[here]], places[here], noise[here]), label[digit[here]]

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        rows = torch.randperm(self.train_count, generator=torch.Generator().manual_seed(seed))[:count]
        places, noise = _draw(self.train_count, seed)
        for index in rows.split(batch):
            yield _put(self._digits["train"][index], places[index], noise[index]), self._labels["train"][index]

    def columns(self, split: str) -> Mapping[str, np.ndarray]:
        return {}

    def pictures(self, split: str) -> torch.Tensor:
        """Of each image of a split which digit it shows, (n,) int64."""
        numbers = torch.arange(len(self._labels[split]))
        return numbers.repeat_interleave(COPIES) if split == "test" else numbers

    def informative(self, split: str, patch: int) -> torch.Tensor:
        """Of each image of a split which patches the digit touches, (n, patches) bool."""
        places, _ = _draw(len(self.pictures(split)), FIXED[split])
        edges = torch.arange(0, CANVAS, patch)
        touched = (edges < GRID * places[..., None] + DIGIT) & (edges + patch > GRID * places[..., None])  # (n, 2, across)
        return (touched[:, 0, :, None] & touched[:, 1, None, :]).flatten(1)

    def _epoch(self, order: int, batch: int, among: torch.Tensor | None) -> torch.Tensor:
        shuffled = torch.randperm(self.train_count if among is None else len(among), generator=torch.Generator().manual_seed(order))
        return sources.epoch_rows(shuffled if among is None else among[shuffled], 1, batch)[0]


def _draw(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (n, 2) int64, in steps of the grid, and noise (n, canvas, canvas)."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(PLACES, (count, 2), generator=generator)
    return places, SIGMA * torch.randn(count, CANVAS, CANVAS, generator=generator)


def _put(digits: torch.Tensor, places: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Digits (n, 16, 16) added to noise (n, 32, 32) at their places, on three channels alike."""
    canvas = noise.clone()
    down, across = (GRID * places[:, i, None] + torch.arange(DIGIT) for i in (0, 1))
    canvas[torch.arange(len(canvas))[:, None, None], down[:, :, None], across[:, None, :]] += digits
    return canvas[:, None].expand(-1, 3, -1, -1).contiguous()
