"""Images of all tiers, as one type: uint8 tensors for sets that fit in memory, folders for ImageNet.

Embedded sets and a third party's come through the same npz keys; CIFAR and ImageNet come from their
official files through torchvision, which never downloads here.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from suite.naming import UserError

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
SPLITS = ("train", "val", "test")
HELD_OUT = 5_000  #: training images of CIFAR kept for validation (pruning_baselines.md 2.2 b)
CIFAR = {"cifar10": ("CIFAR10", "cifar-10-batches-py"), "cifar100": ("CIFAR100", "cifar-100-python")}


@dataclass(frozen=True)
class Images:
    """A labelled image set: x uint8 (n, 3, size, size), y int64 (n,), for train, val and test."""

    x: dict[str, torch.Tensor]
    y: dict[str, torch.Tensor]
    classes: tuple[str, ...]
    mean: torch.Tensor  #: (3,) of the training pixels, on 0..1
    std: torch.Tensor
    pad: int = 4  #: of the random crop

    @property
    def size(self) -> int:
        return int(self.x["train"].shape[-1])

    def take(self, counts: dict[str, int]) -> Images:
        """The first images of each split, in stored order: a sliver for the smoke tier."""
        x, y = ({k: v[: counts[k]] for k, v in part.items()} for part in (self.x, self.y))
        return Images(x, y, self.classes, self.mean, self.std, self.pad)


def locate(name: str, folder: str) -> Path:
    """The file or folder of a set; raises UserError that says what to put where, under which licence."""
    if name in EMBEDDED:
        return EMBEDDED[name]
    root = Path(folder) if folder else None
    if root is None:
        raise UserError(f"the set {name!r} is not shipped: name its folder with --data DIR or WEIGHIN_DATA")
    if name in CIFAR:
        path = root / CIFAR[name][1]
        if not path.is_dir():
            raise UserError(
                f"no {path}: unpack the official archive of www.cs.toronto.edu/~kriz/cifar.html (python version)"
                f" into {root} (no licence is stated: for research, not to hand on)"
            )
        return path
    if name == "imagenet":
        path = root / "imagenet"
        if not all((path / split).is_dir() for split in ("train", "val")):
            raise UserError(
                f"no {path}/train and {path}/val: ImageNet-1k (ILSVRC2012) as folders of classes, from image-net.org after"
                " accepting its terms (non-commercial research)"
            )
        return path
    path = root / f"{name}.npz"
    if not path.is_file():
        raise UserError(f"no {path}: an npz with uint8 images train_x, test_x (n, h, w[, 3]), labels train_y, test_y, and classes")
    return path


@lru_cache(maxsize=8)
def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's listing of names and sizes (a checksum of 150 GB would take an hour)."""
    if path.is_file():
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    lines = sorted(f"{p.relative_to(path).as_posix()} {p.stat().st_size}" for p in path.rglob("*") if p.is_file())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@lru_cache(maxsize=2)
def load(name: str, folder: str) -> Images:
    """A set that fits in memory, by its case name."""
    path = locate(name, folder)
    arrays = _cifar(name, path) if name in CIFAR else _npz(path)
    if name == "fashion":
        arrays |= {"classes": np.array(FASHION_CLASSES)} | {f"{s}_x": _sixteen(arrays[f"{s}_x"]) for s in SPLITS}
    classes = tuple(str(c) for c in arrays.pop("classes"))
    x = {s: _pixels(arrays[f"{s}_x"]) for s in SPLITS}
    y = {s: torch.from_numpy(arrays[f"{s}_y"].astype(np.int64)) for s in SPLITS}
    flat = x["train"].transpose(0, 1).reshape(3, -1)
    # in integers: exact, and the same on every machine
    total, squares = flat.long().sum(1).double(), (flat.long() ** 2).sum(1).double()
    mean = total / flat.shape[1]
    std = (squares / flat.shape[1] - mean**2).sqrt().clamp_min(1.0)
    size = x["train"].shape[-1]
    return Images(x, y, classes, (mean / 255).float(), (std / 255).float(), pad=max(2, round(size / 8)))


def _sixteen(images: np.ndarray) -> np.ndarray:
    """(n, 28, 28) to (n, 16, 16): means of 2x2 pixels, a black frame of one.

    A third of the operations: two cores then afford sixteen passes over the images instead of five
    (pruning_baselines.md 6 allows for 16x16).
    """
    n, size, _ = images.shape
    sums = images.reshape(n, size // 2, 2, size // 2, 2).sum((2, 4), dtype=np.uint16)
    return np.pad(((sums + 2) // 4).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))


def _pixels(images: np.ndarray) -> torch.Tensor:
    """(n, h, w) or (n, h, w, 3) uint8 to (n, 3, h, w): grey is repeated, so that one network serves all sets."""
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files if k.partition("_")[2] in ("x", "y") or k == "classes"}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as e:
        raise UserError(f"{path}: not an npz of plain arrays ({e}); store it with numpy.savez and no objects") from e
    if "train_x" in arrays and "train_y" in arrays and not {"val_x", "val_y"} & set(arrays):
        arrays = _split_validation(arrays)
    for split in SPLITS:
        _validate(path, split, arrays)
    most = max(int(arrays[f"{s}_y"].max()) for s in SPLITS)
    arrays.setdefault("classes", np.array([f"class {i}" for i in range(most + 1)]))
    if most >= len(arrays["classes"]):
        raise UserError(f"{path}: a label {most}, but only {len(arrays['classes'])} names in classes; add the names")
    return arrays


def _validate(path: Path, split: str, arrays: dict[str, np.ndarray]) -> None:
    for key in (f"{split}_x", f"{split}_y"):
        if key not in arrays:
            raise UserError(
                f"{path}: no array {key!r}; it needs train_x, train_y, test_x, test_y and may have val_x, val_y, classes"
            )
    x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] != 3) or x.shape[1] != x.shape[2]:
        raise UserError(
            f"{path}: {split}_x is {x.dtype} {x.shape}; it must be uint8 of shape (n, size, size) or (n, size, size, 3)"
        )
    if x.shape[1:3] != arrays["train_x"].shape[1:3] or x.ndim != arrays["train_x"].ndim:
        raise UserError(f"{path}: {split}_x is {x.shape[1:]}, train_x is {arrays['train_x'].shape[1:]}; one size for all splits")
    if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),) or len(x) == 0:
        raise UserError(
            f"{path}: {split}_y is {y.dtype} {y.shape} for {len(x)} images; it must hold one whole number an image, at least one"
        )
    if y.min() < 0 or y.max() > 255:
        raise UserError(f"{path}: {split}_y has labels {y.min()}..{y.max()}; number the classes from 0 to 255")


def _split_validation(arrays: dict[str, np.ndarray], share: float = 0.1) -> dict[str, np.ndarray]:
    """Set a tenth of each class's training images aside for choices, by a fixed seed; the test set never selects."""
    y = arrays["train_y"]
    order = np.random.Generator(np.random.Philox(0)).permutation(len(y))
    held = np.zeros(len(y), bool)
    for k in np.unique(y):
        members = order[y[order] == k]
        held[members[: max(1, round(share * len(members)))]] = True
    parts = {
        "val_x": arrays["train_x"][held],
        "val_y": y[held],
        "train_x": arrays["train_x"][~held],
        "train_y": y[~held],
    }
    return {**arrays, **parts}


def _cifar(name: str, path: Path) -> dict[str, np.ndarray]:
    """The official Python batches, through torchvision, which verifies their checksums."""
    from suite.compat import import_torchvision

    maker: Callable[..., object] = getattr(import_torchvision().datasets, CIFAR[name][0])
    try:
        parts = {split: maker(str(path.parent), train=split == "train", download=False) for split in ("train", "test")}
    except RuntimeError as e:
        raise UserError(f"{path}: a file is missing or not the official one (checksums differ): unpack the archive again") from e
    x, y = parts["train"].data, np.array(parts["train"].targets)
    order = np.random.Generator(np.random.Philox(0)).permutation(len(y))
    held = min(HELD_OUT, len(y) // 10)
    val, train = np.sort(order[:held]), np.sort(order[held:])
    return {
        "train_x": x[train],
        "train_y": y[train],
        "val_x": x[val],
        "val_y": y[val],
        "test_x": parts["test"].data,
        "test_y": np.array(parts["test"].targets),
        "classes": np.array(parts["train"].classes),
    }
