"""Labelled sets that fit in memory, as one type: images or rows of a table, with attributes and a group where they have some.

A third party's come through the npz keys of `read_npz`; CIFAR comes from its official files through torchvision, which never
downloads here.  ImageNet and other sets of files are a source of their own (`tasks.images.sources`).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from suite import folders
from suite.naming import UserError
from tasks.images import folders as class_folders

SPLITS = ("train", "val", "test")
MOST_VALUES = 65_535  #: of a column, so that examples can be counted by value
HELD_OUT = 5_000  #: training images of CIFAR kept for validation
CIFAR = {"cifar10": ("CIFAR10", "cifar-10-batches-py"), "cifar100": ("CIFAR100", "cifar-100-python")}

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Examples:
    """A labelled set: x and y int64 (n,) of train, val and test.

    x is uint8 (n, 3, size, size), images whose pixels a source normalises, or float32 (n, features), a table whose values are
    used as they are.
    """

    x: Mapping[str, torch.Tensor]
    y: Mapping[str, torch.Tensor]
    classes: tuple[str, ...]
    mean: torch.Tensor | None = None  #: (3,) of the training pixels, on 0..1; of images
    std: torch.Tensor | None = None
    pad: int = 4  #: of the random crop
    #: of each split the attributes by name, int64 (n,) from 0: what no network sees and scores may ask for
    columns: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: of the values of a column
    group: str = ""  #: the column whose groups are compared; empty: there is none

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of an example: (3, size, size) or (features,)."""
        return tuple(self.x["train"].shape[1:])

    def take(self, counts: Mapping[str, int]) -> Examples:
        """The first examples of each split, in stored order: a sliver for the smoke tier of a set that is mixed."""
        return self.rows({k: np.arange(min(counts[k], len(y))) for k, y in self.y.items()})

    def spread(self, counts: Mapping[str, int]) -> Examples:
        """Examples from the whole length of each split: a sliver of a set whose order nobody knows, it may be by class."""
        return self.rows({k: evenly(len(y), counts[k]) for k, y in self.y.items()})

    def rows(self, rows: Mapping[str, np.ndarray]) -> Examples:
        """Some examples of each split, by their places, int64 (k,)."""
        index = {k: torch.from_numpy(r) for k, r in rows.items()}
        x, y = ({k: v[index[k]] for k, v in part.items()} for part in (self.x, self.y))
        columns = {k: {n: v[index[k]] for n, v in part.items()} for k, part in self.columns.items()}
        return replace(self, x=x, y=y, columns=columns)


def evenly(count: int, wanted: int) -> np.ndarray:
    """Places spread over `count`, int64: where parts lie one after the other each is met."""
    return np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64)


def locate(name: str, folder: str) -> Path:
    """The file or folder of a set; raises UserError that says what to put where, under which licence."""
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
    path = folders.named(root, name, (".npz",)) or root / f"{name}.npz"
    if not path.is_file():
        close = folders.like(root, name, (".npz",))
        raise UserError(
            f"no {path}: an npz with uint8 images train_x, test_x (n, h, w[, 3]), labels train_y, test_y, and classes{close}"
        )
    return path


@lru_cache(maxsize=8)
def digest(path: Path, *, own: bool = False) -> str:
    """SHA-256 of a file, or of all visible files of a folder; many bytes are read once (`suite.folders.look`).

    Of folders of classes the pictures are decoded too: raises UserError that names those that cannot be.

    Args:
        own: a file is a set of one's own, in the form of `read_npz`: what is wrong with it is said here, before a run.
    """
    if path.is_file():
        if own:
            read_npz(path)
        return folders.whole([path], path.parent)[0].sha256
    if all((path / split).is_dir() for split in class_folders.SPLITS):
        return class_folders.digest(path)
    files = folders.visible(path, deep=True)
    return folders.combined(files, folders.whole(files, path), path)


def load(name: str, folder: str) -> Examples:
    """A set that fits in memory, by its case name; read anew at each call."""
    path = locate(name, folder)
    return examples(read_cifar(name, path) if name in CIFAR else read_npz(path))


def examples(arrays: Mapping[str, np.ndarray]) -> Examples:
    """The set that such arrays as `read_npz` returns are."""
    classes = tuple(str(c) for c in arrays["classes"])
    names = [str(n) for n in arrays.get("columns", ())]
    columns = {s: {n: torch.from_numpy(arrays[f"{s}_{n}"].astype(np.int64)) for n in names} for s in SPLITS if names}
    value_names = {n: tuple(str(v) for v in arrays[f"{n}_names"]) for n in names if f"{n}_names" in arrays}
    y = {s: torch.from_numpy(arrays[f"{s}_y"].astype(np.int64)) for s in SPLITS}
    more = {"columns": columns, "names": value_names, "group": str(arrays.get("group", ""))}
    if arrays["train_x"].ndim == 2:
        x = {s: torch.from_numpy(arrays[f"{s}_x"].astype(np.float32)) for s in SPLITS}
        return Examples(x, y, classes, **more)  # type: ignore[arg-type]
    x = {s: _pixels(arrays[f"{s}_x"]) for s in SPLITS}
    flat = x["train"].transpose(0, 1).reshape(3, -1)
    # in integers: exact, and the same on every machine
    total, squares = flat.long().sum(1).double(), (flat.long() ** 2).sum(1).double()
    mean = total / flat.shape[1]
    std = (squares / flat.shape[1] - mean**2).sqrt().clamp_min(1.0)
    size = x["train"].shape[-1]
    pad = max(2, round(size / 8))
    return Examples(x, y, classes, (mean / 255).float(), (std / 255).float(), pad, **more)  # type: ignore[arg-type]


def _pixels(images: np.ndarray) -> torch.Tensor:
    """(n, h, w) or (n, h, w, 3) uint8 to (n, 3, h, w): grey is repeated, so that one network serves all sets."""
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def read_npz(path: Path) -> Arrays:
    """The arrays of a set in a file: ``{split}_x`` and ``{split}_y`` of train, val and test, and what goes with them.

    x is uint8 (n, size, size) or (n, size, size, 3), or float (n, features); y whole numbers (n,) from 0 to 255.  Without a val
    split a tenth of each class's training examples is set aside.  Optional: ``classes``, the classes' names; ``columns``, the
    names of attributes, each with whole numbers from 0 in ``{split}_{name}`` (n,) and perhaps names of them in ``{name}_names``;
    ``group``, which of these the groups are.  Other arrays are left alone.

    Raises UserError that says what is wrong.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = [str(n) for n in np.atleast_1d(file["columns"])] if "columns" in file.files else []
            known = {"x", "y", *columns}
            alone = {"classes", "columns", "group", *(f"{n}_names" for n in columns)}
            arrays = {k: file[k] for k in file.files if k.partition("_")[2] in known or k in alone}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, zlib.error, TypeError, AttributeError) as e:
        raise UserError(f"{path}: not an npz of plain arrays ({e}); store it with numpy.savez and no objects") from e
    _validate_names(path, columns, arrays)
    if {"train_x", "train_y"} <= set(arrays) and not {"val_x", "val_y"} & set(arrays):
        _validate(path, "train", arrays)
        arrays = _split_validation(arrays)
    for split in SPLITS:
        _validate(path, split, arrays)
        for name in columns:
            _validate_column(path, split, name, arrays)
    if "group" in arrays and str(arrays["group"]) not in columns:
        raise UserError(f"{path}: the group {str(arrays['group'])!r} is no column; there are: {', '.join(columns) or 'none'}")
    most = max(int(arrays[f"{s}_y"].max()) for s in SPLITS)
    arrays.setdefault("classes", np.array([f"class {i}" for i in range(most + 1)]))
    if most >= len(arrays["classes"]):
        raise UserError(f"{path}: a label {most}, but only {len(arrays['classes'])} names in classes; add the names")
    unseen = np.setdiff1d(np.concatenate([arrays[f"{s}_y"] for s in SPLITS]), arrays["train_y"])
    if len(unseen):
        raise UserError(f"{path}: no training example is labelled {unseen[0]}, and others are: give the splits the same classes")
    return arrays


def _validate_names(path: Path, columns: list[str], arrays: Arrays) -> None:
    """Names are told apart, and what is to have a line an example has lines."""
    if len({*columns}) != len(columns) or not all(n and n not in ("x", "y") for n in columns):
        raise UserError(f"{path}: columns are {columns}; give each a name of its own, other than x and y")
    for name, array in arrays.items():
        if array.ndim == 0 and name != "group":
            raise UserError(f"{path}: {name} is a single value; it must be an array")
    if "group" in arrays and arrays["group"].ndim:
        raise UserError(f"{path}: group is {arrays['group'].shape}; it must be the name of one column")


def _validate(path: Path, split: str, arrays: Arrays) -> None:
    for key in (f"{split}_x", f"{split}_y"):
        if key not in arrays:
            raise UserError(
                f"{path}: no array {key!r}; it needs train_x, train_y, test_x, test_y and may have val_x, val_y, classes"
            )
    x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
    image = x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[-1] == 3)) and x.shape[1] == x.shape[2]
    table = np.issubdtype(x.dtype, np.floating) and x.ndim == 2
    if not image and not table:
        raise UserError(
            f"{path}: {split}_x is {x.dtype} {x.shape}; it must be uint8 of shape (n, size, size) or (n, size, size, 3),"
            " or for a table float of shape (n, features)"
        )
    if x.shape[1:3] != arrays["train_x"].shape[1:3] or x.ndim != arrays["train_x"].ndim:
        raise UserError(f"{path}: {split}_x is {x.shape[1:]}, train_x is {arrays['train_x'].shape[1:]}; one size for all splits")
    if 0 in x.shape[1:]:
        raise UserError(f"{path}: {split}_x is {x.shape}: an example has no values")
    # float32 is what networks are given: beyond its range a value is infinite
    if table and not (np.isfinite(x).all() and np.abs(x).max(initial=0) <= np.finfo(np.float32).max):
        raise UserError(f"{path}: {split}_x holds values that are not finite in float32; fill in what is missing, scale the rest")
    if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),) or len(x) == 0:
        raise UserError(
            f"{path}: {split}_y is {y.dtype} {y.shape} for {len(x)} images; it must hold one whole number an image, at least one"
        )
    if y.min() < 0 or y.max() > 255:
        raise UserError(f"{path}: {split}_y has labels {y.min()}..{y.max()}; number the classes from 0 to 255")


def _validate_column(path: Path, split: str, name: str, arrays: Arrays) -> None:
    column = arrays.get(f"{split}_{name}")
    count = len(arrays[f"{split}_x"])
    if column is None or not np.issubdtype(column.dtype, np.integer) or column.shape != (count,):
        state = "missing" if column is None else f"{column.dtype} {column.shape}"
        raise UserError(f"{path}: column {split}_{name} is {state}; it must hold {count} whole numbers from 0, one an example")
    if column.min() < 0 or column.max() > MOST_VALUES:
        raise UserError(f"{path}: {split}_{name} has values {column.min()}..{column.max()}; number them from 0 to {MOST_VALUES:,}")
    names = arrays.get(f"{name}_names")
    if names is not None and column.max() >= len(names):
        raise UserError(f"{path}: {split}_{name} has a {column.max()}, but there are only {len(names)} {name}_names; add the names")


def _split_validation(arrays: Arrays, share: float = 0.1) -> Arrays:
    """Set a tenth of each class's training examples aside for choices, by a fixed seed; the test set never selects."""
    y = arrays["train_y"]
    order = np.random.Generator(np.random.Philox(0)).permutation(len(y))
    held = np.zeros(len(y), bool)
    for k in np.unique(y):
        members = order[y[order] == k]
        # of a single example nothing can be set aside
        held[members[: max(1, round(share * len(members))) if len(members) > 1 else 0]] = True
    whole = {k: v for k, v in arrays.items() if k.startswith("train_") and len(v) == len(y)}
    parts = {"val_" + k.removeprefix("train_"): v[held] for k, v in whole.items()}
    return {**arrays, **parts, **{k: v[~held] for k, v in whole.items()}}


def read_cifar(name: str, path: Path) -> Arrays:
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
