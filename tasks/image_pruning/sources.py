"""Where batches come from: tensors in memory, or ImageNet's folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from suite.naming import UserError, address
from tasks.image_pruning import data
from tasks.image_pruning.data import Images

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_HELD_OUT = 10  #: training images a class that are kept for validation
#: size, classes and training images of the sets that the speed division knows without their files
SHAPES = {
    "imagenet": (224, 1000, 1_271_167),
    "cifar10": (32, 10, 45_000),
    "cifar100": (32, 100, 45_000),
    "fashion": (16, 10, 12_000),
    "clothing10": (32, 10, 3_068),
}

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]
ALL = slice(None)


class Source(Protocol):
    """Normalised float images (n, 3, size, size) and int64 labels (n,)."""

    classes: tuple[str, ...]
    size: int

    @property
    def train_count(self) -> int: ...

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL) -> Batches:
        """One epoch, shuffled and augmented by two seeds, only whole batches; of each batch the items `mine`."""

    def evaluate(self, split: str, batch: int) -> Batches:
        """A split (val or test) in stored order, not augmented."""

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        """Training images by a seed, not augmented, as many as there are at most."""


def open_source(name: str, folder: str, sliver: dict[str, int] | None) -> Source:
    """The source of a set by its case name."""
    if name == "imagenet":
        return ImageFolders(data.locate(name, folder))
    images = data.load(name, folder)
    return InMemory(images.take(sliver) if sliver else images)


class Shapes:
    """A set's shapes without its images, for the speed division: loaders are empty, samples are noise."""

    def __init__(self, name: str) -> None:
        if name not in SHAPES:
            raise UserError(f"the speed division knows no set {name!r}; there are: {', '.join(SHAPES)}")
        self.size, count, self._train_count = SHAPES[name]
        self.classes = tuple(f"class {i}" for i in range(count))

    @property
    def train_count(self) -> int:
        return self._train_count

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL) -> Batches:
        yield from ()

    def evaluate(self, split: str, batch: int) -> Batches:
        yield from ()

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, count, batch):
            n = min(batch, count - first)
            x = torch.randn(n, 3, self.size, self.size, generator=generator)
            yield x, torch.randint(len(self.classes), (n,), generator=generator)


@dataclass
class InMemory:
    """A set that fits in memory: crop, flip and normalisation are tensor operations over a batch."""

    images: Images

    def __post_init__(self) -> None:
        self.classes, self.size = self.images.classes, self.images.size
        self._mean, self._std = self.images.mean.view(3, 1, 1), self.images.std.view(3, 1, 1)
        pad = self.images.pad
        # normalised black, as the recipe pads after normalising: zeros
        self._padded = F.pad(self._normalise(self.images.x["train"]), (pad,) * 4)

    @property
    def train_count(self) -> int:
        return len(self.images.y["train"])

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL) -> Batches:
        y = self.images.y["train"]
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(order))
        draw = torch.Generator().manual_seed(augment)
        reach = 2 * self.images.pad + 1
        steps = torch.arange(self.size)
        for index in rows[: len(rows) // batch * batch].split(batch):
            top, left = torch.randint(reach, (2, batch), generator=draw)
            flip = torch.randint(2, (batch, 1), generator=draw).bool()
            index, top, left, flip = index[mine], top[mine], left[mine], flip[mine]
            across = left[:, None] + torch.where(flip, steps.flip(0), steps)
            down = top[:, None] + steps
            # one gather does shuffle, crop and flip: (batch, size, size, 3), which is channels last already
            yield (
                self._padded[index[:, None, None], :, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2),
                y[index],
            )

    def evaluate(self, split: str, batch: int) -> Batches:
        x, y = self.images.x[split], self.images.y[split]
        for i in range(0, len(y), batch):
            yield self._normalise(x[i : i + batch]), y[i : i + batch]

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        rows = torch.randperm(self.train_count, generator=torch.Generator().manual_seed(seed))[:count]
        for index in rows.split(batch):
            yield self._normalise(self.images.x["train"][index]), self.images.y["train"][index]

    def _normalise(self, x: torch.Tensor) -> torch.Tensor:
        return (x.float() / 255 - self._mean) / self._std


class ImageFolders:
    """ImageNet's folders: random resized crop and flip for training; 256, centre 224 for the rest (chex.md 3).

    `val/` is the test split; validation is held out of `train/` by a fixed seed.
    """

    size = 224

    def __init__(self, root: Any, workers: int | None = None) -> None:
        from suite.compat import import_torchvision

        vision = import_torchvision()
        t = vision.transforms
        finish = [t.ToTensor(), t.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        self._augmented = t.Compose([t.RandomResizedCrop(224), t.RandomHorizontalFlip(), *finish])
        self._plain = t.Compose([t.Resize(256), t.CenterCrop(224), *finish])
        self._folder = vision.datasets.ImageFolder
        self._root = root
        train = self._folder(str(root / "train"))
        self.classes = tuple(train.classes)
        labels = np.array(train.targets)
        order = np.random.Generator(np.random.Philox(0)).permutation(len(labels))
        held = [m[: min(IMAGENET_HELD_OUT, len(m) // 2)] for k in range(len(self.classes)) for m in [order[labels[order] == k]]]
        self._val = np.sort(np.concatenate(held))
        self._train = np.setdiff1d(np.arange(len(labels)), self._val)
        self._workers = (os.cpu_count() or 1) if workers is None else workers

    @property
    def train_count(self) -> int:
        return len(self._train)

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL) -> Batches:
        rows = self._train[np.random.Generator(np.random.Philox(order)).permutation(len(self._train))]
        batches = rows[: len(rows) // batch * batch].reshape(-1, batch)[:, mine]
        yield from self._load("train", self._augmented, batches.ravel(), batches.shape[1], augment)

    def evaluate(self, split: str, batch: int) -> Batches:
        if split == "test":
            yield from self._load("val", self._plain, None, batch)
        else:
            yield from self._load("train", self._plain, self._val, batch)

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        rows = self._train[np.random.Generator(np.random.Philox(seed)).permutation(len(self._train))[:count]]
        yield from self._load("train", self._plain, rows, batch)

    def _load(self, part: str, transform: Any, rows: np.ndarray | None, batch: int, augment: int = 0) -> Batches:
        images = Addressed(self._folder(str(self._root / part), transform=transform), augment)
        chosen = images if rows is None else torch.utils.data.Subset(images, rows.tolist())
        yield from torch.utils.data.DataLoader(
            chosen,
            batch,
            num_workers=self._workers,
            generator=torch.Generator(),  # torch's own stream is the method's
            pin_memory=torch.cuda.is_available(),
        )


@dataclass
class Addressed(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images whose augmentation is drawn by a seed and their row: alike however many workers or processes share them."""

    images: Any
    augment: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(address(self.augment, row))
            return self.images[row]  # type: ignore[no-any-return]
