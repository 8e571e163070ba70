"""How training images are varied, by addressed draws: the crop and flip of small images, and DeiT's augmentation.

What is drawn for an image depends on a seed and on which image it is, what is drawn for a batch on the seed and its number: it is
the same however many workers load, and no other stream of random numbers is moved.  timm is imported where its parts are used.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from suite.compat import import_torchvision
from suite.extras import need
from suite.naming import UserError, address

SMALL = 64  #: DeiT crops images under this size out of a padded one, larger ones out of a random share of the picture


@dataclass(frozen=True)
class CropFlip:
    """A random crop, and a flip in half of the cases: of padded small images, or of a random share of a larger picture."""

    repeats: int = 1  #: how often an epoch shows an image that it shows

    def training(self, size: int, mean: Any, std: Any) -> Any:
        """A picture to a normalised tensor (3, size, size), drawn."""
        t = import_torchvision().transforms
        return t.Compose([t.RandomResizedCrop(size), t.RandomHorizontalFlip(), t.ToTensor(), t.Normalize(mean, std)])

    def plain(self, size: int, resized: int, mean: Any, std: Any) -> Any:
        """The same without a draw: the shorter side to `resized`, then the centre."""
        t = import_torchvision().transforms
        return t.Compose([t.Resize(resized), t.CenterCrop(size), t.ToTensor(), t.Normalize(mean, std)])

    def mix(self, x: torch.Tensor, y: torch.Tensor, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch as it is."""
        return x, y


@dataclass(frozen=True)
class Deit:
    """DeiT's augmentation (Touvron et al., ICML 2021, table 9; its released `main.py`), by timm.

    Small images are cropped out of a frame of 4 pixels instead of being resized, as its code does for CIFAR.  Its colour jitter is
    left out: beside RandAugment timm applies none.
    """

    policy: str = "rand-m9-mstd0.5-inc1"  #: of RandAugment
    erase: float = 0.25  #: share of the images in which a random rectangle becomes noise
    mixup: float = 0.8  #: alpha of the Beta distribution that a batch is mixed by; 0: off
    cutmix: float = 1.0  #: alpha of the share that is cut and pasted; 0: off
    switch: float = 0.5  #: share of the batches that are cut where both are on
    smoothing: float = 0.1  #: label smoothing, part of the soft targets
    repeats: int = 3  #: repeated augmentation (Hoffer et al., CVPR 2020): how often an epoch shows an image that it shows

    def training(self, size: int, mean: Any, std: Any) -> Any:
        """A picture to a normalised tensor (3, size, size), drawn."""
        transform = timm("timm.data").create_transform(
            size,
            is_training=True,
            auto_augment=self.policy or None,
            color_jitter=None,
            interpolation="bicubic",
            mean=mean,
            std=std,
            re_prob=self.erase,
            re_mode="pixel",
        )
        if size < SMALL:
            transform.transforms[0] = import_torchvision().transforms.RandomCrop(size, padding=4)
        return transform

    def plain(self, size: int, resized: int, mean: Any, std: Any) -> Any:
        """The same without a draw: the shorter side to `resized`, then the centre."""
        t = import_torchvision().transforms
        resize = t.Resize(resized, interpolation=t.InterpolationMode.BICUBIC)
        return t.Compose([resize, t.CenterCrop(size), t.ToTensor(), t.Normalize(mean, std)])

    def mix(self, x: torch.Tensor, y: torch.Tensor, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch mixed with itself, back to front, and its soft targets.

        Args:
            x: (n, C, h, w), n even; left as it is.
            y: (n,) int64.
            classes: C' of them.
            seed: of this batch's draws.

        Returns images like x and targets (n, C') float, each summing to 1; the batch as it is where both mixings are off.
        """
        if not self.mixup and not self.cutmix:
            return x, y
        if len(x) % 2:
            raise UserError(f"a batch of {len(x)} cannot be mixed back to front; choose an even batch, in every process")
        mixing = timm("timm.data").Mixup(
            self.mixup, self.cutmix, switch_prob=self.switch, label_smoothing=self.smoothing, num_classes=classes
        )
        with seeded(seed):
            return mixing(x.clone(), y)  # type: ignore[no-any-return]


Augmentation = CropFlip | Deit


def timm(name: str) -> ModuleType:
    """A module of timm; raises UserError where it is not installed."""
    import_torchvision()  # which timm imports, and which does not load alone beside a CPU build of torch
    return need(name, "what is DeiT's")  # type: ignore[no-any-return]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws of torch (on the processor), numpy and Python within are addressed by a seed; after, all three streams go on."""
    plain, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numpy_state)


@dataclass
class Addressed(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images whose augmentation is drawn by a seed and their row: alike however many workers or processes share them.

    An item is asked for by its row, or by row and copy where an epoch shows it several times.
    """

    read: Any  #: a row to an image and its label
    transform: Any
    augment: int

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        row, copy = item if isinstance(item, tuple) else (item, 0)
        image, label = self.read(row)
        with seeded(address(self.augment, row, copy) if copy else address(self.augment, row)):
            return self.transform(image), label
