"""The sets of this task: small ones that are shipped, those that have files, and one's own; and how their rows are parted.

A network is trained on some of the training rows (*pre-training*) and pruned on the others (*pruning*), which it has not seen;
the test rows are only scored.  The `train` split of a source holds both parts and `parts` says which is which.  `val` is a tenth
of the training rows by a fixed seed: it is watched, to draw a curve, and nothing is ever selected by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from suite import folders
from suite.naming import UserError
from tasks.common import pictures
from tasks.fair_pruning import faces, tables
from tasks.fair_pruning.sets import CASES
from tasks.images import datasets, sources
from tasks.images.datasets import Arrays, Examples

HERE = Path(__file__).resolve().parent / "data"
WATCHED = 5_000  #: examples of val at most

Rows = np.ndarray  #: int64 (k,), rows of the train split in ascending order


_BASES = {f.base for f in CASES.values()}
EMBEDDED = {n: HERE / f"{n}.npz" for n in ("adult", "compas", "german", "digits", "clothing_kids")}


@dataclass
class PartedMemory(sources.InMemory):
    """A set in memory whose files may say which training rows are for pruning."""

    pruning: np.ndarray | None = None  #: bool (train,); None: drawn by the run's seed


@dataclass
class PartedFiles(sources.ImageFiles):
    """Pictures in files whose official partition may say which training rows are for pruning."""

    pruning: np.ndarray | None = None  #: bool (train,); None: drawn by the run's seed


@dataclass(frozen=True)
class FairSet:
    """A set in memory with its parting."""

    examples: Examples
    pruning: np.ndarray | None  #: bool (train,); None: drawn by the run's seed
    augmented: bool = True  #: whether training images are cropped and flipped


def locate(name: str, folder: str) -> Path:
    """The file or folder of a set; raises UserError that says what to put where, under which licence."""
    base = CASES[name].base if name in CASES else name
    if path := folders.shipped(EMBEDDED, base, folder):
        return path
    if name not in CASES and (stem := name.partition("-")[0]) in _BASES:
        raise UserError(f"no case {name!r}; of this set there are: {', '.join(n for n, f in CASES.items() if f.base == stem)}")
    if base in _BASES and folder:
        path = Path(folder) / base
        if base == "acsincome":
            return tables.locate_acsincome(path)
        if not path.is_dir():
            raise UserError(f"no {path}: put into {folder} {faces.WHERE[base]}")
        return path
    return datasets.locate(base, folder)


def digest(name: str, folder: str) -> str:
    """SHA-256 of a set's file; of faces, of the pictures, each decoded once, and the texts with labels.

    Raises UserError that names pictures that cannot be decoded.
    """
    path = locate(name, folder)
    if path.is_file() or name not in CASES:
        return datasets.digest(path, own=name not in CASES)
    files = [Path(f) for f in _read_faces(name, folder).files]
    texts = [datasets.digest(p) for p in faces.label_files(CASES[name].base, path)]
    return hashlib.sha256("\n".join([folders.combined(files, _looks(name, folder), path), *texts]).encode()).hexdigest()


@lru_cache(maxsize=2)
def _looks(name: str, folder: str) -> list[folders.Look]:
    """What each picture of faces is; raises UserError that names those that cannot be decoded."""
    return pictures.looks([Path(f) for f in _read_faces(name, folder).files], locate(name, folder))


@lru_cache(maxsize=2)
def load(name: str, folder: str) -> FairSet:
    """A set that fits in memory, by its case name."""
    path = locate(name, folder)
    facts = CASES.get(name)
    if facts is None:
        return _own(path)
    if facts.base == "acsincome":
        arrays = tables.expand(tables.acsincome(path))
    else:
        with np.load(path) as file:
            arrays = {k: file[k] for k in file.files}
        if "numbers" in arrays:
            arrays = tables.expand(arrays)
        for key in [k for k in arrays if k.endswith("_residuals")]:
            arrays[key.replace("residuals", "x")] = tables.images(arrays.pop(key))
    pruning = arrays.pop("train_pruning", None)
    arrays["group"] = np.array(facts.group)
    examples = datasets.examples(_watch(arrays))
    return FairSet(examples, None if pruning is None else pruning == 1, augmented=facts.base != "digits")


def _own(path: Path) -> FairSet:
    """A set of one's own in the form of `tasks.images.datasets.read_npz`.

    `train_pruning` (n,), 0 or 1, may say which training rows are for pruning.  Without a val split all rows stay in train, and
    val is a tenth of them, as in the shipped sets.
    """
    arrays = datasets.read_npz(path)
    with np.load(path) as file:
        # as they are stored: read_npz has set a tenth of them aside
        stored = {k: file[k] for k in file.files if k.startswith("train_") and k in arrays}
        watched = "val_x" in file.files
        pruning = file["train_pruning"] if "train_pruning" in file.files else None
    if not watched:
        arrays = _watch(arrays | stored)
    if pruning is not None:
        if pruning.shape != stored["train_y"].shape or not np.isin(pruning, (0, 1)).all() or len(np.unique(pruning)) != 2:
            raise UserError(f"{path}: train_pruning must be 0 or 1 for each training row, and both must occur")
        pruning = pruning == 1
    return FairSet(datasets.examples(arrays), pruning)


@lru_cache(maxsize=2)
def _read_faces(name: str, folder: str) -> faces.Faces:
    return faces.read(CASES[name].base, name.partition("-")[2], locate(name, folder))


def source(name: str, folder: str, sliver: Mapping[str, int] | None) -> sources.Source:
    """Where the batches of a set come from, by its case name.

    Args:
        sliver: how many examples of each split are taken, evenly over its rows; None: all.
    """
    found: PartedMemory | PartedFiles
    if name in CASES and CASES[name].base in faces.WHERE:
        told = pictures.told(look.facts for look in _looks(name, folder))
        found = _files(name, _read_faces(name, folder), sliver, told)
    else:
        found = _memory(load(name, folder), sliver)
    _validate_groups(name, found)
    return found


def _files(name: str, faces_: faces.Faces, sliver: Mapping[str, int] | None, told: Sequence[str]) -> PartedFiles:
    facts = CASES[name]
    parts = {"train": faces_.train, "val": faces_.train[_watched(len(faces_.train))], "test": faces_.test}
    pruning = faces_.pruning
    if sliver:
        rows = {s: datasets.evenly(len(v), sliver[s]) for s, v in parts.items()}
        parts = {s: v[rows[s]] for s, v in parts.items()}
        pruning = None if pruning is None else pruning[rows["train"]]
    rest = {"attributes": faces_.attributes, "group": facts.group, "notes": (*faces_.notes, *told)}
    return PartedFiles(faces_.files, faces_.labels, parts, facts.classes, pruning=pruning, **rest)  # type: ignore[arg-type]


def _memory(found: FairSet, sliver: Mapping[str, int] | None) -> PartedMemory:
    examples, pruning = found.examples, found.pruning
    if sliver:
        rows = {s: datasets.evenly(len(examples.y[s]), sliver[s]) for s in datasets.SPLITS}
        examples = examples.rows(rows)
        pruning = None if pruning is None else pruning[rows["train"]]
    if found.augmented:
        return PartedMemory(examples, pruning=pruning)
    return PartedMemory(examples, None, pruning=pruning)


def parts(name: str, folder: str, source: sources.Source, seed: int) -> tuple[Rows, Rows]:
    """Training rows for pre-training and for pruning: by the set's own partition where it has one, else drawn by the seed.

    Raises:
        UserError: one of the parts would be empty.
    """
    fixed = getattr(source, "pruning", None)
    if fixed is None:
        facts = CASES.get(name)
        share, stratified = (facts.share, facts.stratified) if facts else (1 / 3, True)
        fixed = _draw(source.train_count, share, seed, _strata(source) if stratified else None)
    if fixed.all() or not fixed.any():
        raise UserError(f"the set {name!r}: {len(fixed)} training rows are too few to part into pre-training and pruning")
    return np.flatnonzero(~fixed), np.flatnonzero(fixed)


def is_binary(name: str) -> bool:
    """Whether a case has two classes; of a set of one's own that is not known without its file, and False."""
    return name in CASES and len(CASES[name].classes) == 2


def favourable(name: str) -> int | None:
    """The label that is good to be given: 1 (an income, a credit), 0 (no new arrest), or None where no label is."""
    return CASES[name].favourable if name in CASES else None


def names(name: str) -> tuple[str, ...]:
    """Names of a case's groups by value; empty for a set of one's own."""
    return CASES[name].names if name in CASES else ()


def caution(name: str) -> str:
    """What is known to be wrong with a set, in one line; empty for a set of one's own."""
    return CASES[name].caution if name in CASES else ""


def shapes(name: str) -> sources.Source:
    """A set of the speed division, which looks at no file; raises UserError on one that it does not know."""
    if name not in CASES:
        raise UserError(f"the speed division knows no set {name!r}; there are: {', '.join(CASES)}")
    facts = CASES[name]
    return sources.Shapes(facts.shape, len(facts.classes), facts.train_count)


def _watch(arrays: Arrays) -> Arrays:
    """With a val split that is a tenth of the training rows, which stay in train."""
    count, train = len(arrays["train_y"]), {k: v for k, v in arrays.items() if k.startswith("train_")}
    return arrays | {"val_" + k.removeprefix("train_"): v[_watched(count)] for k, v in train.items()}


def _watched(count: int) -> np.ndarray:
    return np.sort(_order(count, 0)[: min(WATCHED, max(1, count // 10))])


def _order(count: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).permutation(count)


def _draw(count: int, share: float, seed: int, strata: np.ndarray | None) -> np.ndarray:
    """Which rows are for pruning, bool (count,): a share of all, or of each stratum (count,) int."""
    order = _order(count, seed)
    members = [order] if strata is None else [order[strata[order] == v] for v in np.unique(strata)]
    pruning = np.zeros(count, bool)
    for m in members:
        pruning[m[: round(share * len(m))]] = True
    return pruning


def _strata(source: sources.Source) -> np.ndarray | None:
    """A number for each class and group of the training rows, (n,) int64; None where the source has no rows."""
    groups = source.columns("train").get(source.group)
    return None if groups is None else _labels(source, "train") * (int(groups.max()) + 1) + groups


def _labels(source: sources.Source, split: str) -> np.ndarray:
    if isinstance(source, sources.ImageFiles):
        return np.asarray(source.labels[source.parts[split]])
    assert isinstance(source, sources.InMemory)
    return np.asarray(source.examples.y[split])


def _validate_groups(name: str, source: sources.Source) -> None:
    """There are groups to compare and classes to tell apart."""
    if not source.group:
        raise UserError(f"the set {name!r} names no group: store the name of one of its columns as `group`")
    for split in ("train", "test"):
        found = np.unique(source.columns(split)[source.group])
        if not len(found):
            raise UserError(f"the set {name!r}: {split} has no example: there is nothing to compare")
        if len(found) < 2:
            raise UserError(f"the set {name!r}: {source.group} of {split} is always {found[0]}; there are no groups to compare")
        if len(np.unique(_labels(source, split))) < 2:
            raise UserError(f"the set {name!r}: all labels of {split} are the same; there is nothing to learn")
