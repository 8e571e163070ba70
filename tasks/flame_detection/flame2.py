"""FLAME 2: 254x254 pairs of RGB and colour-mapped thermal pictures, labels by runs of frames.

`254p RGB Images/254p RGB Frame (i).jpg`, `254p Thermal Images/254p Thermal Frame (i).jpg`, i = 1 .. 53,451 along the time axis, and
`#10) Frame Pair Labels.txt`.  Thermal pictures are palettes scaled each by itself: their brightness (luma) is the thermal input
and no temperature is known, so that the truth of a patch is -1, but 0 in NN frames, which show no fire.  Labels of NN and YN frames
are of their RGB picture; YY frames (fire, and half of the picture is smoke) are the obscured ones, have no label (-1) and are only
tested on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from suite.naming import UserError
from tasks.flame_detection import patches, reading
from tasks.flame_detection.problem import Fold, Patches, PatchSet

PATCH = 32  #: pixels; 7 x 7 patches of the middle 224x224
COUNT = 53_451
NN, YY, YN = 0, 1, 2
SCENES = ("NN", "YY", "YN")  #: fire, then smoke; by class
#: of the authors' `dataset.py`: first and last frame of fire with smoke, and the last frame without fire; all others are YN
LAST_NN = 13_700
SMOKE_RUNS = (
    *((13_701, 14_699), (15_981, 19_802), (19_900, 27_183), (27_515, 31_294), (31_510, 33_597)),
    *((33_930, 36_550), (38_031, 38_153), (41_642, 45_279), (51_207, 52_286)),
)
MOST = 10_000_000  #: frames
GAP, SHORT = 50, 600  #: frames that are dropped at the borders of splits; of a run that is too short to be parted
TRAIN, VAL, TEST, DROPPED = 0, 1, 2, -1
WANTED = (
    "'254p RGB Images', '254p Thermal Images' and '#10) Frame Pair Labels.txt' (items 9 and 10 of FLAME 2, IEEE DataPort"
    " doi 10.21227/swyw-6j78, CC BY 4.0)"
)
_NUMBER = re.compile(r"\((\d+)\)$")


def classes(count: int = COUNT) -> np.ndarray:
    """Class of each frame by the authors' table, (count,) int8; entry i - 1 is of frame i."""
    found = np.full(count, YN, np.int8)
    found[:LAST_NN] = NN
    for first, last in SMOKE_RUNS:
        found[first - 1 : last] = YY
    return found


def read_labels(path: Path) -> np.ndarray:
    """Class of each frame by a labels file, int8; entry i - 1 is of frame i, -1 where the file does not tell.

    Lines `first last XY` parted by tabs (or blanks), X fire, Y smoke, each Y or N; `first last X Y` is read as well.  What stands
    above the first such line is the header.

    Raises:
        UserError: a line that is none of these, smoke without fire, a frame that two lines tell of.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: no text that can be read ({e})") from e
    told: list[tuple[int, int, int]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d+)\s+(\d+)\s+([YN])\s*([YN])\s*", line, re.IGNORECASE)
        if match is None:
            if told:
                raise UserError(f"{path}: line {number} is {line.strip()[:60]!r}; first, last and two of Y or N are expected")
            continue
        first, last = int(match[1]), int(match[2])
        kind = (match[3] + match[4]).upper()
        if kind not in SCENES:
            raise UserError(f"{path}: line {number} tells of {kind}: smoke without fire does not occur in this set")
        if not 1 <= first <= last:
            raise UserError(f"{path}: line {number} goes from frame {first} to {last}; frames are counted from 1, rising")
        if last > MOST:
            raise UserError(f"{path}: line {number} goes to frame {last}; {MOST:,} are the most that can be")
        told.append((first, last, SCENES.index(kind)))
    if not told:
        raise UserError(f"{path}: no line of labels; first, last and two of Y or N are expected, parted by tabs")
    found = np.full(max(last for _, last, _ in told), -1, np.int8)
    for first, last, kind_ in told:
        here = found[first - 1 : last]
        if (here >= 0).any():
            raise UserError(f"{path}: frame {first + int(np.argmax(here >= 0))} is told of twice")
        here[:] = kind_
    return found


def runs(found: np.ndarray) -> list[tuple[int, int]]:
    """Runs of one class, first and behind the last place; classes (n,).  The official set has 19."""
    ends = [0, *(np.flatnonzero(np.diff(found)) + 1).tolist(), len(found)] if len(found) else []
    return list(pairwise(ends))


def split(found: np.ndarray, gap: int = GAP, short: int = SHORT) -> np.ndarray:
    """Split of each frame by blocks of time, (n,) int8 of `TRAIN`, `VAL`, `TEST`, `DROPPED`.

    In each run of n frames of one class the first int(0.7 n) are for training, the next int(0.1 n) for validation, the rest is the
    test.  The first `gap` frames of validation and of the test are dropped, and the last ones of the test, which border the next
    run's training frames.  A run of fewer than `short` frames is for training, without `gap` at each end where that leaves any.

    Args:
        found: (n,) classes; frames of class -1 are dropped.
    """
    out = np.full(len(found), DROPPED, np.int8)
    for first, end in runs(found):
        if found[first] < 0:
            continue
        n = end - first
        if n < short:
            trim = gap if n > 2 * gap else 0
            out[first + trim : end - trim] = TRAIN
            continue
        # to the letter, in floating point: int(0.7 * 90) is 62
        val = first + int(0.7 * n)
        test = val + int(0.1 * n)
        out[first:val], out[val + gap : test], out[test + gap : end - gap] = TRAIN, VAL, TEST
    return out


def every(found: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of every step-th frame (1, 1 + step, ...) and their splits by the rule on the sub-sampled list.

    The gap is then ceil(50 / step) and a short run is under ceil(600 / step): for a step of 30 these are 2 and 20.
    """
    numbers = np.arange(1, len(found) + 1, step)
    return numbers, split(found[::step], -(-GAP // step), -(-SHORT // step))


def patch_set(root: Path, step: int = 1, patch: int = PATCH, *, official: bool = True) -> PatchSet:
    """The set, one fold; scenes are the classes NN, YY and YN.

    A frame takes 0.35 MB: of all 53,451 the set keeps some 31,000, which is 11 GB; of every 30th, 0.4 GB.

    Args:
        step: every step-th frame.
        patch: side of the patches.
        official: whether these are the authors' frames, which their table tells of where the labels file is absent.

    Raises:
        UserError: there are no labels, or no frame can be used.
    """
    rgb, thermal = (_pictures(root, kind) for kind in ("RGB", "Thermal"))
    left: dict[str, str] = {}
    if not rgb and not thermal:
        raise reading.none_left(root, left, WANTED)
    found = _labels(root, max([*rgb, *thermal]), official)
    numbers, splits = every(found, step)
    rows: dict[int, list[int]] = {TRAIN: [], VAL: [], TEST: []}
    for number, where in zip(numbers.tolist(), splits.tolist(), strict=True):
        if where == DROPPED:
            continue
        if number not in rgb or number not in thermal:
            if number in rgb or number in thermal:
                left[f"frame {number}"] = f"no {'thermal' if number in rgb else 'RGB'} picture of this number"
            continue
        if found[number - 1] == YY and where != TEST:
            continue
        rows[where].append(number)
    _told_of_runs(left, found, numbers, splits)
    size = reading.usual_size(reading.size_of(thermal[n]) for r in rows.values() for n in r)

    def shots(numbers: list[int]) -> Iterator[Patches]:
        for number in numbers:
            try:
                yield _shot(number, int(found[number - 1]), thermal[number], rgb[number], size, patch).patches(patch)
            except UserError as e:
                left[f"frame {number}"] = str(e)

    none = reading.empty(patch)
    parts = {where: reading.gathered(shots(r), len(r), none) for where, r in rows.items()}
    if size is None or not any(len(p) for p in parts.values()):
        raise reading.none_left(root, left, WANTED)
    for where, word in ((TRAIN, "train on"), (TEST, "test")):
        if not len(parts[where]):
            raise UserError(
                f"{root}: no frame is left to {word}: of {len(numbers)} frames in {len(runs(found))} runs of one class; runs under"
                f" {SHORT} frames are for training alone, add longer ones"
            )
    return PatchSet("flame2", patch, (Fold(*parts.values()),), SCENES, patches.grid(*size, patch), left)


def _shot(number: int, kind: int, thermal: Path, rgb: Path, size: tuple[int, int] | None, patch: int) -> reading.Shot:
    """A pair of the size that most have."""
    bright = reading.read_luma(thermal)
    reading.check_size(thermal, bright.shape, size, patch)
    colours = reading.read_rgb(rgb, bright.shape)
    smoky = kind == YY
    return reading.Shot(bright, colours, False, number - 1, kind, obscured=smoky, labelled=not smoky, fire=int(kind != NN))


def _told_of_runs(left: dict[str, str], found: np.ndarray, numbers: np.ndarray, splits: np.ndarray) -> None:
    """Frames that no split takes, a line a stretch instead of one a file."""
    smoky = (found[numbers - 1] == YY) & (splits != TEST) & (splits != DROPPED)
    unknown = found[numbers - 1] < 0
    for mask, why in (
        (unknown, "the labels do not tell of it"),
        ((splits == DROPPED) & ~unknown, "at the border of two splits"),
        (smoky, "filled with smoke (YY), in a training or validation block"),
    ):
        places = np.flatnonzero(mask)
        for part in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []:
            first, last = int(numbers[part[0]]), int(numbers[part[-1]])
            left[f"frames {first} to {last}"] = why


def _pictures(root: Path, kind: str) -> Mapping[int, Path]:
    """Pictures of a kind by their frame's number."""
    folder = next((p for p in (root / f"254p {kind} Images", *sorted(root.glob(f"*/254p {kind} Images"))) if p.is_dir()), None)
    if folder is None:
        return {}
    found = {}
    for stem, path in reading.listing(folder, reading.PICTURES).items():
        # '254p RGB Frame (12)': the number stands in the brackets, 254 is the size
        if match := _NUMBER.search(stem):
            found[int(match[1])] = path
    return found


def labels_file(root: Path) -> Path | None:
    """The labels file, wherever archives of the set put it: beside the folders of pictures, or one folder further in."""
    texts = [p for pattern in ("*.txt", "*/*.txt") for p in sorted(root.glob(pattern)) if not p.name.startswith(".")]
    return next((p for p in texts if "frame pair labels" in re.sub(r"[^a-z]+", " ", p.stem.lower())), None)


def _labels(root: Path, last: int, official: bool = True) -> np.ndarray:
    """Classes by the labels file, or by the authors' table where that file of theirs is absent; as far as there are pictures."""
    path = labels_file(root)
    if path is None and (last > COUNT or not official):
        there = ", ".join(p.name for p in sorted(root.glob("*.txt"))[:3])
        near = f" (there is {there}: is it that, under another name?)" if there else ""
        whose = f"frame {last} is none of FLAME 2's" if official else "nothing else tells of these frames"
        raise UserError(f"no '#10) Frame Pair Labels.txt' in {root}, and {whose}: put the file there{near}")
    found = classes() if path is None else read_labels(path)
    if len(found) < last:
        found = np.concatenate([found, np.full(last - len(found), -1, np.int8)])
    return found
