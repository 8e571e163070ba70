"""ImageNet's layout: `train/` and `val/`, each a folder of pictures a class.

One numbering of classes serves both, that of the visible folders of `train/`: `val/` is matched by name, so that a class which it
lacks, or a folder that an editor left, moves no label.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from suite import folders
from suite.naming import UserError
from tasks.common import pictures

SPLITS = ("train", "val")
HELD_OUT = 10  #: training images a class that are kept for validation
NAMED = 5  #: names that a message lists


@dataclass(frozen=True)
class ClassFolders:
    """Pictures by class, those of `train/` before those of `val/`."""

    files: Sequence[Path]
    labels: np.ndarray  #: (files,) int64, places in `classes`
    trained: int  #: how many of them lie in `train/`
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()  #: what must be told beside every result


@lru_cache(maxsize=2)
def read(root: Path) -> ClassFolders:
    """What lies in the folders; no picture is opened.

    Raises UserError where a class has no training picture, where `val/` has a class that `train/` lacks, or no classes at all.
    """
    there = {split: _classes(root, split) for split in SPLITS}
    classes = tuple(sorted(there["train"]))
    if strange := sorted(set(there["val"]) - set(classes)):
        plain = {" ".join(c.split()).casefold() for c in classes}
        near = " (case or blanks alone differ)" if any(" ".join(c.split()).casefold() in plain for c in strange) else ""
        raise UserError(f"{root}/val has {_list(strange)}, which train lacks{near}: give both the same folders of classes")
    files: list[Path] = []
    labels: list[int] = []
    counts: dict[str, list[int]] = {}
    others = 0
    for split in SPLITS:
        loose = folders.visible(root / split)
        if lost := [p.name for p in loose if not p.exists()]:
            raise UserError(f"{root}/{split}: {_list(lost)} leads to what is not there: mount it, or take the link away")
        others += len(loose)
        for k, name in enumerate(classes):
            folder = there[split].get(name)
            every = folders.visible(folder, deep=True) if folder else []
            found = sorted((p for p in every if p.suffix.lower() in pictures.ENDINGS), key=lambda p: (str(p.parent), p.name))
            others += len(every) - len(found)
            files += found
            labels += [k] * len(found)
            counts.setdefault(split, []).append(len(found))
    if empty := [name for name, n in zip(classes, counts["train"], strict=True) if not n]:
        raise UserError(f"{root}/train has no picture in {_list(empty)}: put some there, or take the folder away")
    if not sum(counts["val"]):
        raise UserError(f"{root}/val has no picture in its folders of classes: there is nothing to be scored on")
    missing = [name for name, n in zip(classes, counts["val"], strict=True) if not n]
    notes = [f"val has no picture of {_list(missing)}: nothing is said of such a class"] if missing else []
    notes += [f"{others} files have no ending of a picture, or lie in no class, and were left out"] if others else []
    return ClassFolders(files, np.array(labels, np.int64), sum(counts["train"]), classes, tuple(notes))


def looked(root: Path) -> ClassFolders:
    """The same after every picture has been decoded, once; raises UserError that names broken ones."""
    found = read(root)
    return replace(found, notes=(*found.notes, *pictures.told(look.facts for look in _looks(root))))


def parts(found: ClassFolders) -> dict[str, np.ndarray]:
    """Which files each split holds: `val/` is the test split, validation is held out of `train/` by a fixed seed."""
    labels = found.labels[: found.trained]
    order = np.random.Generator(np.random.Philox(0)).permutation(len(labels))
    held = [m[: min(HELD_OUT, len(m) // 2)] for k in range(len(found.classes)) for m in [order[labels[order] == k]]]
    val = np.sort(np.concatenate(held))
    if not len(val):
        raise UserError("each class has a single picture in train, and validation is held out of them: put more there")
    return {
        "train": np.setdiff1d(np.arange(len(labels)), val),
        "val": val,
        "test": np.arange(found.trained, len(found.labels)),
    }


@lru_cache(maxsize=2)
def digest(root: Path) -> str:
    """SHA-256 of the names of classes and of all pictures, each decoded once; raises UserError that names broken ones."""
    found = read(root)
    whole = folders.combined(found.files, _looks(root), root)
    return hashlib.sha256("\n".join((*found.classes, whole)).encode()).hexdigest()


@lru_cache(maxsize=2)
def _looks(root: Path) -> list[folders.Look]:
    return pictures.looks(read(root).files, root)


def _classes(root: Path, split: str) -> dict[str, Path]:
    """Folders by the names of their classes: composed characters, as a Mac may not store them."""
    names = folders.below(root / split)
    if not names:
        raise UserError(f"{root}/{split} has no folders of classes: sort the pictures into one folder a class, as in train")
    found: dict[str, Path] = {}
    for name in names:
        if not name.isprintable():  # bytes that are no UTF-8 among them
            raise UserError(f"{root}/{split}: a folder of a class is called {name!r}: rename it, names are shown on pages")
        if (plain := unicodedata.normalize("NFC", name)) in found:
            raise UserError(
                f"{root}/{split} has two folders {plain}, of composed and of other characters: put their pictures into one"
            )
        found[plain] = root / split / name
    return found


def _list(names: Sequence[str]) -> str:
    shown = [n if n.isascii() and n.strip() == n else repr(n) for n in names[:NAMED]]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
