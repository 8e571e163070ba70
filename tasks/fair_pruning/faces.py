"""Faces in files: CelebA, LFW with attributes, UTKFace and FairFace in the layouts in which they are distributed.

What a person is said to be here is what annotators, or a classifier (LFW), saw in a picture; nobody was asked.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from suite import folders
from suite.naming import UserError
from tasks.common import pictures
from tasks.fair_pruning.sets import FAIRFACE_RACES, GENDERS, UTKFACE_RACES

#: of the two texts that say what is in the pictures and which split they belong to
CELEBA_MD5 = {
    "list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
    "list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
}
LFW_FOLDERS = ("lfw_funneled", "lfw-deepfunneled", "lfw")  #: as the three archives unpack
#: what to put under --data DIR, where it comes from and on what terms
WHERE = {
    "celeba": "celeba/ with img_align_celeba/000001.jpg and so on, list_attr_celeba.txt and list_eval_partition.txt, from"
    " mmlab.ie.cuhk.edu.hk/projects/CelebA.html (non-commercial research only)",
    "lfw": "lfw/ with lfw_funneled/, lfw-deepfunneled/ or lfw/ as the archives of vis-www.cs.umass.edu/lfw unpack, and"
    " lfw_attributes.txt of Kumar et al., from www.cs.columbia.edu/CAVE/databases/pubfig (no licence is stated: for research,"
    " not to hand on)",
    "utkface": "utkface/ with the aligned and cropped pictures named [age]_[gender]_[race]_[datetime].jpg.chip.jpg, from"
    " susanqq.github.io/UTKFace (non-commercial research only)",
    "fairface": "fairface/ with train/, val/, fairface_label_train.csv and fairface_label_val.csv, from github.com/joojs/fairface"
    " (CC BY 4.0)",
}
#: of a case's task the column that is to be told, by set
TASKS = {
    "celeba": {"blond": "Blond_Hair", "bags": "Bags_Under_Eyes"},
    "lfw": {"wavy": "Wavy Hair", "nose": "Big Nose"},
    "utkface": {"gender": "gender", "race": "race"},
    "fairface": {"gender": "gender", "race": "race"},
}
_UTKFACE_NAME = re.compile(r"([0-9]{1,3})_([0-9]{1,2})_([0-9]{1,2})_[0-9]+\.jpg(?:\.chip)?(?:\.jpg)?", re.IGNORECASE)


@dataclass(frozen=True)
class Faces:
    """Pictures with what is said of each."""

    files: Sequence[str]
    labels: np.ndarray  #: (files,) int64
    attributes: Mapping[str, np.ndarray]  #: columns (files,) int64 by name
    train: np.ndarray  #: places in files, int64, ascending
    test: np.ndarray
    pruning: np.ndarray | None = None  #: bool (train,), which of them are for pruning; None: no partition says so
    notes: tuple[str, ...] = ()  #: what must be told beside every result


def read(base: str, task: str, root: Path) -> Faces:
    """A set by its name.

    Args:
        task: what is to be told, a key of ``TASKS[base]``.
        root: the set's folder.

    Raises:
        UserError: a file is not there, or is not what its origin distributes.
    """
    faces = READERS[base](root, TASKS[base][task])
    _validate_pictures(faces.files)
    if base == "utkface":  # its pictures are their own labels
        return faces
    beside = len(folders.visible(root, pictures.ENDINGS, deep=True)) - len(faces.files)
    told = f"{beside} of the pictures that are there are in no label, and were left out"
    return replace(faces, notes=(*faces.notes, told)) if beside > 0 else faces


def label_files(base: str, root: Path) -> list[Path]:
    """The texts whose contents decide labels, groups and splits."""
    names = {"celeba": tuple(CELEBA_MD5), "lfw": ("lfw_attributes.txt",)}
    names["fairface"] = ("fairface_label_train.csv", "fairface_label_val.csv")
    return [_there(root / n, base) for n in names.get(base, ())]


def _celeba(root: Path, task: str) -> Faces:
    attributes, partition = label_files("celeba", root)
    for path in (attributes, partition):
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if md5 != CELEBA_MD5[path.name]:
            raise UserError(f"{path} isn't the official file (md5 {md5}, not {CELEBA_MD5[path.name]}): get it again")
    count, header, *lines = _lines(attributes)
    if count.strip() != str(len(lines)):
        raise UserError(f"{attributes}: {len(lines)} lines, but the first says {count.strip()}: the file is truncated")
    wanted = {n: _place(attributes, header.split(), n) for n in (task, "Male", "Young")}
    rows = _fields(attributes, [line.split() for line in lines], 1 + len(header.split()), 3)
    columns = {}
    for name, place in wanted.items():
        values = [row[1 + place] for row in rows]
        if set(values) - {"-1", "1"}:
            raise UserError(f"{attributes}: {name} has values other than -1 and 1: {sorted(set(values) - {'-1', '1'})[:3]}")
        columns[name] = np.array([v == "1" for v in values], np.int64)
    parts = _fields(partition, [line.split() for line in _lines(partition)], 2, 1)
    if [p[0] for p in parts] != [r[0] for r in rows]:
        raise UserError(f"{partition}: its pictures are not those of {attributes.name}; take both from one origin")
    part = np.array([p[1] for p in parts])
    if set(part.tolist()) != {"0", "1", "2"}:
        raise UserError(f"{partition}: the partitions are {sorted(set(part.tolist()))}; they must be 0, 1 and 2")
    files = [os.path.join(root, "img_align_celeba", r[0]) for r in rows]
    # the paper's protocol: the official validation pictures are those that pruning sees
    train = np.flatnonzero(part != "2")
    attributes_ = {"male": columns["Male"], "young": columns["Young"]}
    return Faces(files, columns[task], attributes_, train, np.flatnonzero(part == "2"), part[train] == "1")


def _lfw(root: Path, task: str) -> Faces:
    (path,) = label_files("lfw", root)
    folder = next((root / n for n in LFW_FOLDERS if (root / n).is_dir()), None)
    if folder is None:
        raise UserError(f"no pictures in {root}: put there {WHERE['lfw']}")
    _, header, *lines = _lines(path)
    names = header.split("\t")[1:]  # the line begins with a comment's sign of its own
    wanted = {n: _place(path, names, n) for n in ("person", "imagenum", task, "Male")}
    rows = _fields(path, [line.split("\t") for line in lines], len(names), 3)
    scores = {}
    for name in (task, "Male"):
        try:
            values = np.array([float(r[wanted[name]]) for r in rows])
        except ValueError as e:
            raise UserError(f"{path}: {name} has a score that is no number ({e})") from e
        if not np.isfinite(values).all():
            raise UserError(f"{path}: {name} has a score that is not finite in line {3 + int(np.argmin(np.isfinite(values)))}")
        scores[name] = (values > 0).astype(np.int64)
    people = [r[wanted["person"]].replace(" ", "_") for r in rows]
    numbers = [r[wanted["imagenum"]] for r in rows]
    if not all(n.isdigit() for n in numbers):
        raise UserError(f"{path}: imagenum has a value that is no number: {next(n for n in numbers if not n.isdigit())!r}")
    files = [os.path.join(folder, p, f"{p}_{int(n):04}.jpg") for p, n in zip(people, numbers, strict=True)]
    return Faces(files, scores[task], {"male": scores["Male"]}, *_sixty_twenty_twenty(people))


def _utkface(root: Path, task: str) -> Faces:
    every = sorted(folders.visible(root, pictures.ENDINGS, deep=True))
    if not every:
        raise UserError(f"no pictures in {root}: put there {WHERE['utkface']}")
    matches = [_UTKFACE_NAME.fullmatch(p.name) for p in every]
    skipped = [p.name for p, m in zip(every, matches, strict=True) if m is None]
    found = [(str(p), m) for p, m in zip(every, matches, strict=True) if m]
    if not found:
        raise UserError(f"{root}: no picture is named [age]_[gender]_[race]_[datetime].jpg.chip.jpg, such as {skipped[0]}")
    name, times = Counter(os.path.basename(f) for f, _ in found).most_common(1)[0]
    if times > 1:
        raise UserError(f"{root}: {name} is there {times} times, in folders of their own: keep one copy of the pictures")
    codes = np.array([[int(g) for g in m.groups()] for _, m in found], np.int64)
    for name, place, most in (("gender", 1, 1), ("race", 2, len(UTKFACE_RACES) - 1)):
        wrong = codes[:, place] > most
        if wrong.any():
            raise UserError(f"{found[int(wrong.argmax())][0]}: the {name} in its name is not in 0..{most}")
    # the files count males from 0; here 1 is male in every set
    columns = {"gender": 1 - codes[:, 1], "race": codes[:, 2], "age": codes[:, 0]}
    files = [f for f, _ in found]
    told = (
        f"{len(skipped)} pictures are left out, their names lack a field or end otherwise, such as {skipped[0]}" if skipped else ""
    )
    parts = _sixty_twenty_twenty([os.path.basename(f) for f in files])
    return Faces(files, columns[task], columns, *parts, notes=(told,) if told else ())


def _fairface(root: Path, task: str) -> Faces:
    import pandas as pd

    values = {"gender": GENDERS, "race": FAIRFACE_RACES}
    files: list[str] = []
    columns: dict[str, list[int]] = {n: [] for n in values}
    counts = []
    for path in label_files("fairface", root):
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (ValueError, UnicodeDecodeError) as e:
            raise UserError(f"{path}: not a table in commas ({e})") from e
        for name in ("file", *values):
            _place(path, list(table.columns), name)
        if not isinstance(table.index, pd.RangeIndex):  # made of the first column
            raise UserError(f"{path}: its lines have more fields than its header, as by a comma at their end: take that away")
        if not len(table):
            raise UserError(f"{path}: has no line of a picture: get the file again")
        for name, known in values.items():
            wrong = ~table[name].isin(known)
            if wrong.any():
                line = 2 + int(wrong.to_numpy().argmax())
                raise UserError(f"{path}: {name} is {table[name][line - 2]!r} in line {line}; there are: {', '.join(known)}")
            columns[name] += [known.index(v) for v in table[name]]
        files += [os.path.join(root, f) for f in table["file"]]
        counts.append(len(table))
    attributes = {n: np.array(v, np.int64) for n, v in columns.items()}
    return Faces(files, attributes[task], attributes, np.arange(counts[0]), counts[0] + np.arange(counts[1]))


READERS: Mapping[str, Callable[[Path, str], Faces]] = {
    "celeba": _celeba,
    "lfw": _lfw,
    "utkface": _utkface,
    "fairface": _fairface,
}


def _sixty_twenty_twenty(owners: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pre-training, pruning and test by seed 0 where no partition is official: no owner (a person) is in two of them.

    Returns train and test, places of pictures, and which of train are for pruning.
    """
    people = sorted(set(owners))
    order = np.random.Generator(np.random.Philox(0)).permutation(len(people))
    part = np.searchsorted([round(0.6 * len(people)), round(0.8 * len(people))], np.argsort(order), side="right")
    of = dict(zip(people, part.tolist(), strict=True))
    parts = np.array([of[o] for o in owners])
    train = np.flatnonzero(parts < 2)
    return train, np.flatnonzero(parts == 2), parts[train] == 1


def _there(path: Path, base: str) -> Path:
    if not path.is_file():
        raise UserError(f"no {path}: put under the data folder {WHERE[base]}")
    return path


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.rstrip() for line in path.read_text().splitlines()]
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not a text ({e})") from e
    lines = [line for line in lines if line]
    if len(lines) < 3:
        raise UserError(f"{path}: {len(lines)} lines: the file is truncated")
    return lines


def _fields(path: Path, rows: list[list[str]], count: int, first: int) -> list[list[str]]:
    """The rows, each of as many fields; `first` is the number of the first one's line."""
    for line, row in enumerate(rows, first):
        if len(row) != count:
            raise UserError(
                f"{path}: line {line} has {len(row)} fields, not {count}: the file is truncated or not the official one"
            )
    return rows


def _place(path: Path, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise UserError(f"{path}: no column {name!r}; there are: {', '.join(header[:50])}")
    return list(header).index(name)


def _validate_pictures(files: Sequence[str]) -> None:
    """Every picture is there and named once; folders are listed, which is quicker than to ask for each."""
    listings: dict[str, set[str]] = {}
    missing = []
    for file in files:
        folder, name = os.path.split(file)
        if folder not in listings:
            listings[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in listings[folder]:
            missing.append(file)
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} pictures are not there, such as {missing[0]}: unpack the archive again")
    name, times = Counter(files).most_common(1)[0]
    if times > 1:
        raise UserError(f"the picture {name} is listed {times} times")
