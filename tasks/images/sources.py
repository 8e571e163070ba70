"""Where batches come from: tensors in memory, files of pictures, or shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from suite import parallel
from suite.naming import UserError
from suite.processors import cores
from tasks.common import pictures
from tasks.images import folders
from tasks.images.augment import Addressed, Augmentation, CropFlip
from tasks.images.datasets import Examples

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]
ALL = slice(None)


class Source(Protocol):
    """Normalised float examples (n, *input) and int64 labels (n,), with what else is known of each."""

    classes: tuple[str, ...]
    group: str  #: the column whose groups are compared; empty: there is none
    notes: Sequence[str]  #: what must be told of the examples beside every result

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of an example: (3, size, size) of an image, (features,) of a table's row."""

    @property
    def augmentation(self) -> Augmentation | None:
        """What varies the training examples; None: nothing does."""

    @property
    def train_count(self) -> int: ...

    def rows(self, order: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Of the batches that `train` yields for the same arguments: which training rows they hold, (batch,) int64."""

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Batches:
        """One epoch, shuffled and augmented by two seeds, only whole batches.

        Args:
            mine: of each batch the items that are yielded.
            among: the training rows (k,) that the epoch consists of; None: all.
        """

    def evaluate(self, split: str, batch: int) -> Batches:
        """A split (val or test) in stored order, not augmented."""

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        """Training examples by a seed, not augmented, as many as there are at most."""

    def columns(self, split: str) -> Mapping[str, np.ndarray]:
        """The attributes of a split by name, (n,) int64 from 0 in stored order; the group is among them."""


def epoch_rows(rows: torch.Tensor, repeats: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An epoch over shuffled rows (n,) in whole batches: rows and the number of each one's copy, (steps, batch) int64.

    With repeats each row comes so often in a row, and the epoch stays as long: it shows fewer rows.
    """
    whole = len(rows) // batch * batch
    copies = torch.zeros_like(rows)
    if repeats > 1:
        rows, copies = rows.repeat_interleave(repeats), torch.arange(repeats).repeat(len(rows))
    return rows[:whole].view(-1, batch), copies[:whole].view(-1, batch)


class Shapes:
    """A set's shapes without its examples, for the speed division: loaders are empty, samples are noise."""

    augmentation = None
    group = ""
    notes: Sequence[str] = ()

    def __init__(self, shape: tuple[int, ...], classes: int, train_count: int) -> None:
        self.input, self._train_count = shape, train_count
        self.classes = tuple(f"class {i}" for i in range(classes))

    @property
    def train_count(self) -> int:
        return self._train_count

    def rows(self, order: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        yield from ()

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Batches:
        yield from ()

    def evaluate(self, split: str, batch: int) -> Batches:
        yield from ()

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, count, batch):
            n = min(batch, count - first)
            x = torch.randn(n, *self.input, generator=generator)
            yield x, torch.randint(len(self.classes), (n,), generator=generator)

    def columns(self, split: str) -> Mapping[str, np.ndarray]:
        return {}


@dataclass
class InMemory:
    """A set that fits in memory: crop, flip and normalisation are tensor operations over a batch; tables stay as they are."""

    examples: Examples
    augmentation: Augmentation | None = field(default_factory=CropFlip)  #: of images; tables have none
    workers: int = 0  #: processes that augment images one by one, as DeiT's augmentation does
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        e = self.examples
        self.classes, self.input, self.group = e.classes, e.input, e.group
        if e.mean is None or e.std is None:
            self.augmentation = None
            return
        self._mean, self._std = e.mean.view(3, 1, 1), e.std.view(3, 1, 1)
        if isinstance(self.augmentation, CropFlip):
            # normalised black, as the recipe pads after normalising: zeros
            self._padded = F.pad(self._normalise(e.x["train"]), (e.pad,) * 4)

    @property
    def train_count(self) -> int:
        return len(self.examples.y["train"])

    def rows(self, order: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        yield from self._epoch_rows(order, batch, among)[0][:, mine]

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Batches:
        x, y = self.examples.x["train"], self.examples.y["train"]
        rows, copies = self._epoch_rows(order, batch, among)
        if self.augmentation is None:
            for index in rows[:, mine]:
                yield self._normalise(x[index]), y[index]
        elif isinstance(self.augmentation, CropFlip):
            draw = torch.Generator().manual_seed(augment)
            for index in rows:
                yield self._cropped(index, mine, draw), y[index[mine]]
        else:
            yield from self._one_by_one(rows[:, mine], copies[:, mine], augment)

    def evaluate(self, split: str, batch: int) -> Batches:
        x, y = self.examples.x[split], self.examples.y[split]
        for i in range(0, len(y), batch):
            yield self._normalise(x[i : i + batch]), y[i : i + batch]

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        rows = torch.randperm(self.train_count, generator=torch.Generator().manual_seed(seed))[:count]
        for index in rows.split(batch):
            yield self._normalise(self.examples.x["train"][index]), self.examples.y["train"][index]

    def columns(self, split: str) -> Mapping[str, np.ndarray]:
        return {k: v.numpy() for k, v in self.examples.columns.get(split, {}).items()}

    def _epoch_rows(self, order: int, batch: int, among: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        shuffled = torch.randperm(self.train_count if among is None else len(among), generator=torch.Generator().manual_seed(order))
        repeats = self.augmentation.repeats if self.augmentation else 1
        return epoch_rows(shuffled if among is None else among[shuffled], repeats, batch)

    def _cropped(self, index: torch.Tensor, mine: slice, draw: torch.Generator) -> torch.Tensor:
        """A crop of each image, half of them flipped, (batch, 3, size, size); drawn for the whole batch, made for `mine`."""
        steps, batch = torch.arange(self.input[-1]), len(index)
        top, left = torch.randint(2 * self.examples.pad + 1, (2, batch), generator=draw)
        flip = torch.randint(2, (batch, 1), generator=draw).bool()
        index, top, left, flip = index[mine], top[mine], left[mine], flip[mine]
        across = left[:, None] + torch.where(flip, steps.flip(0), steps)
        down = top[:, None] + steps
        # one gather does shuffle, crop and flip: (batch, size, size, 3), which is channels last already
        return self._padded[index[:, None, None], :, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)

    def _one_by_one(self, rows: torch.Tensor, copies: torch.Tensor, augment: int) -> Batches:
        assert self.augmentation is not None
        pixels = (tuple(v.flatten().tolist()) for v in (self._mean, self._std))
        transform = self.augmentation.training(self.input[-1], *pixels)
        yield from _load(Addressed(self._read, transform, augment), _items(rows, copies), rows.shape[1], self.workers)

    def _read(self, row: int) -> tuple[Any, int]:
        from PIL import Image

        return Image.fromarray(self.examples.x["train"][row].permute(1, 2, 0).numpy()), int(self.examples.y["train"][row])

    def _normalise(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.examples.mean is None else (x.float() / 255 - self._mean) / self._std


@dataclass
class ImageFiles:
    """Pictures in files, with a label and perhaps attributes each; loaded, cropped and resized by several processes.

    Of an image the shorter side is resized to 256 per 224 of its size, then the centre is cut; training images are augmented.
    """

    files: Sequence[Path | str]
    labels: np.ndarray  #: (files,) int
    parts: Mapping[str, np.ndarray]  #: of train, val and test which files they hold, in stored order
    classes: tuple[str, ...]
    size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    augmentation: Augmentation = field(default_factory=CropFlip)
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)  #: columns (files,) by name
    group: str = ""
    workers: int = field(default_factory=lambda: max(1, cores() // parallel.world()))
    notes: Sequence[str] = ()

    @property
    def input(self) -> tuple[int, ...]:
        return 3, self.size, self.size

    @property
    def train_count(self) -> int:
        return len(self.parts["train"])

    def rows(self, order: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        yield from self._epoch_rows(order, batch, among)[0][:, mine]

    def train(self, order: int, augment: int, batch: int, mine: slice = ALL, among: torch.Tensor | None = None) -> Batches:
        rows, copies = (part[:, mine] for part in self._epoch_rows(order, batch, among))
        transform = self.augmentation.training(self.size, self.mean, self.std)
        items = _items(torch.from_numpy(self.parts["train"])[rows], copies)
        yield from _load(Addressed(self._read, transform, augment), items, rows.shape[1], self.workers)

    def evaluate(self, split: str, batch: int) -> Batches:
        yield from self._plain(self.parts[split], batch)

    def sample(self, count: int, seed: int, batch: int) -> Batches:
        yield from self._plain(self.parts["train"][_shuffled(self.train_count, seed)[:count]], batch)

    def columns(self, split: str) -> Mapping[str, np.ndarray]:
        return {k: v[self.parts[split]] for k, v in self.attributes.items()}

    def _epoch_rows(self, order: int, batch: int, among: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        shuffled = torch.from_numpy(_shuffled(self.train_count if among is None else len(among), order))
        return epoch_rows(shuffled if among is None else among[shuffled], self.augmentation.repeats, batch)

    def _plain(self, files: np.ndarray, batch: int) -> Batches:
        transform = self.augmentation.plain(self.size, round(self.size * 256 / 224), self.mean, self.std)
        yield from _load(Addressed(self._read, transform, 0), files.tolist(), batch, self.workers)

    def _read(self, row: int) -> tuple[Any, int]:
        from PIL import Image

        try:
            with Image.open(self.files[row]) as image:
                return pictures.rgb(image), int(self.labels[row])
        except (OSError, *pictures.DAMAGED) as e:
            raise UserError(f"{self.files[row]}: cannot be decoded ({e}); get the file again") from e


def imagenet(root: Path) -> ImageFiles:
    """ImageNet's folders of classes (`tasks.images.folders`)."""
    found = folders.looked(root)
    return ImageFiles(found.files, found.labels, folders.parts(found), found.classes, notes=found.notes)


def _shuffled(count: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).permutation(count)


def _items(rows: torch.Tensor, copies: torch.Tensor) -> list[Any]:
    """What `Addressed` is asked for, one after the other."""
    return list(zip(rows.flatten().tolist(), copies.flatten().tolist(), strict=True))


def _load(images: Addressed, items: Iterable[Any], batch: int, workers: int) -> Batches:
    yield from torch.utils.data.DataLoader(
        images,
        batch,
        sampler=items,
        num_workers=workers,
        generator=torch.Generator(),  # torch's own stream is the method's
        pin_memory=torch.cuda.is_available(),
    )
