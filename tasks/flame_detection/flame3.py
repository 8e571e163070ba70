"""FLAME 3: pairs of RGB pictures and radiometric TIFFs, in the layout of the official subset and in that of its sample scenes.

Official: `Fire/` and `No Fire/` with `RGB/Corrected FOV/NNNNN.JPG` and `Thermal/Celsius TIFF/NNNNN.TIFF`
(and `RGB/Raw`, `Thermal/Raw JPG`, which only tell the time here).  Sample: `SITE/RGB`, `SITE/Thermal`, `SITE/TIFF`.

Truth is the TIFF's: a pixel of 80 degrees, or of 200.  Labels are of the RGB picture (`tasks.flame_detection.annotate`), which is
resized to the TIFF's size where it has another.  Smoke fills a frame by the rule of `annotate.Smoke`; such a frame is never trained
on.  Thermal input is the TIFF scaled by its own least and largest value, unless a method asks for the degrees themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from suite.naming import UserError
from tasks.flame_detection import annotate, patches, reading, temperatures
from tasks.flame_detection.problem import Fold, Patches, PatchSet

SHIPPED = Path(__file__).resolve().parent / "data" / "flame3"  #: four scenes, whose pictures have lost their EXIF
PATCH = 64  #: pixels; 10 x 8 patches of 640x512
STRIDE = 32  #: of the windows that scenes are trained on; they are tested on patches that do not overlap
KINDS = ("Fire", "No Fire")
GAP, BUFFER = 300.0, 30.0  #: seconds without a frame that part two blocks; that frames of two splits lie apart
MOST_LIMITS = 5  #: of the cameras' ends, the most frequent, that are told
HELD = 0.15  #: of the frames, for validation and for the test each
TRAIN, VAL, TEST = "training", "validation", "test"
WANTED = (
    "Fire/ and 'No Fire/', each with RGB/Corrected FOV, Thermal/Celsius TIFF (NNNNN.JPG, NNNNN.TIFF), or scenes as SITE/RGB and"
    " SITE/TIFF"
)


@dataclass(frozen=True)
class Pair:
    """A frame by its files."""

    name: str  #: how it is told of: 'Fire/00012', 'Sycan/00006'
    group: str  #: its folder
    rgb: Path
    tiff: Path
    taken: datetime | None

    def shot(self, frame: int, scene: int, size: tuple[int, int] | None = None) -> reading.Shot:
        """The pictures; smoke is looked for.  Raises UserError on a file that cannot be used, or not of `size` (H, W)."""
        celsius = temperatures.read(self.tiff, size)
        patches.grid(*celsius.shape, PATCH)
        rgb = reading.read_rgb(self.rgb, celsius.shape)
        fire = KINDS[::-1].index(self.group) if self.group in KINDS else -1
        return reading.Shot(celsius, rgb, True, frame, scene, bool(annotate.smoke_filled(rgb[None])[0]), fire=fire)


@dataclass(frozen=True)
class Splitting:
    """Which frames are in which split: of each its split or why it is in none, and the block of time that it is of."""

    split: Sequence[str]
    block: Sequence[int]
    names: Sequence[str]  #: of the blocks


# -- files


def is_official(root: Path) -> bool:
    return bool(_kinds(root))


def _kinds(root: Path) -> dict[str, Path]:
    """Folders of frames with fire and without, `Fire` and `No Fire` in any spelling; raises UserError where one is there twice."""
    found: dict[str, Path] = {}
    for path in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
        spelt = "".join(c for c in path.name.casefold() if c.isalpha())
        kind = next((k for k in KINDS if spelt == k.replace(" ", "").casefold()), None)
        if kind in found:
            raise UserError(f"{root}: both {found[kind].name} and {path.name} are there: put the frames of {kind} into one folder")
        if kind:
            found[kind] = path
    return found


def is_sample(root: Path) -> bool:
    return root.is_dir() and any((site / "TIFF").is_dir() and (site / "RGB").is_dir() for site in root.iterdir())


def pairs(root: Path) -> tuple[list[Pair], dict[str, str]]:
    """All frames that have both an RGB picture and a TIFF, by folder and number, and why each other one is left out."""
    found, left = [], {}
    if is_official(root):
        there = _kinds(root)
        folders = [
            (k, p / "RGB/Corrected FOV", p / "Thermal/Celsius TIFF", [p / "Thermal/Raw JPG", p / "RGB/Raw"])
            for k in KINDS
            for p in (there.get(k, root / k),)
        ]
    else:
        sites = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []
        folders = [(p.name, p / "RGB", p / "TIFF", [p / "Thermal"]) for p in sites]
    for group, colour, radiometric, beside in folders:
        rgb, tiff = reading.listing(colour, reading.PICTURES), reading.listing(radiometric, reading.TIFFS)
        clocks = [reading.listing(folder, reading.PICTURES) for folder in beside]
        for number in sorted(set(rgb) | set(tiff)):
            name = f"{group}/{number}"
            if number not in tiff:
                left[name] = f"no TIFF of this number in {radiometric.relative_to(root)}"
            elif number not in rgb:
                left[name] = f"no RGB picture of this number in {colour.relative_to(root)}"
            else:
                told = [rgb[number], *(c[number] for c in clocks if number in c)]
                found.append(Pair(name, group, rgb[number], tiff[number], reading.taken(told)))
    return found, left


# -- scenes


def scenes(root: Path, name: str = "flame3_scenes", stride: int = STRIDE) -> PatchSet:
    """Scenes in the sample layout, one left out in each fold.

    Frames of a site that follow each other within 300 s show one scene, of which the one of the least number is taken; without EXIF
    times each frame is a scene.  A fold is trained on windows every `stride` pixels of the other scenes that smoke does not fill,
    and has no validation patches.  Scenes have the size that most of them have.

    Raises:
        UserError: fewer than two scenes can be used, or a fold would have nothing to be trained on.
    """
    found, left = pairs(root)
    shots: list[reading.Shot] = []
    names: list[str] = []
    size = reading.usual_size(reading.size_of(p.tiff) for p in found)
    shown: dict[int, str] = {}
    for pair, scene in zip(found, _runs(found), strict=True):
        if scene in shown:
            left[pair.name] = f"of the same scene as {shown[scene]}: taken within {GAP:g} s of it or of one between them"
            continue
        try:
            shots.append(pair.shot(len(shots), len(shots), size))
        except UserError as e:
            left[pair.name] = str(e)
            continue
        names.append(pair.name)
        shown[scene] = pair.name
    if not shots or size is None:
        raise reading.none_left(root, left, WANTED)
    clear = [i for i, s in enumerate(shots) if not s.obscured]
    if len(shots) < 2 or any(not set(clear) - {i} for i in range(len(shots))):
        raise UserError(
            f"{root}: {len(shots)} scenes, {len(clear)} of them clear of smoke ({', '.join(names)}): each is left out once, and"
            f" a clear one must be left to train on; add scenes{'; left out: ' + reading.instance(left) if left else ''}"
        )
    training = {i: shots[i].patches(PATCH, stride) for i in clear}
    tests = [s.patches(PATCH) for s in shots]
    none = reading.empty(PATCH, radiometric=True)
    folds = tuple(Fold(reading.joined([p for i, p in training.items() if i != out]), none, t) for out, t in enumerate(tests))
    return PatchSet(name, PATCH, folds, tuple(names), patches.grid(*size, PATCH), left, _told_of_scenes(root, found, shots, names))


def _told_of_scenes(root: Path, found: Sequence[Pair], shots: Sequence[reading.Shot], names: Sequence[str]) -> list[str]:
    """Where cameras end, how far labels of RGB agree with temperatures by pixels, and which frames have no time."""
    told = []
    for name, shot in zip(names, shots, strict=True):
        assert shot.rgb is not None
        labels = annotate.quality(annotate.flame_pixels(shot.rgb[None])[0], shot.thermal >= temperatures.FIRE)
        told.append(
            f"{name}: {shot.thermal.min():.1f} to {shot.thermal.max():.1f} °C, the camera's range ends"
            f" {temperatures.limits(shot.thermal)}; RGB marks {labels.marked} pixels, {labels.right} of the {labels.true} of 80 °C"
        )
    untimed = sum(p.taken is None for p in found) if root != SHIPPED else 0
    if untimed:
        told.append(f"{untimed} frames have no EXIF time: each counts as a scene of its own, also where they show the same")
    return told


# -- the official set


def split(found: Sequence[Pair]) -> Splitting:
    """Frames by blocks of time, never by their number, which is shuffled.

    Of each folder for itself: a gap of more than 300 s parts two blocks; the block whose size is nearest to 15 % of the frames is
    the test, the next nearest the validation (the earlier one on ties), the others are trained on.  Of the official fire frames
    that gives 434, 99 and 89.  Where a folder has fewer than three blocks each block is cut in time, 70, 15 and 15 %.  Then
    validation frames within 30 s of a training frame, and test frames within 30 s of either, are dropped: the folders' flights
    overlap.
    """
    splits = [""] * len(found)
    block, names = [0] * len(found), list[str]()
    for group in sorted({p.group for p in found}, key=[*KINDS, *(p.group for p in found)].index):
        rows = _by_time(found, group)
        times = np.array([_seconds(found[i]) for i in rows])
        parts = np.split(np.array(rows, np.int64), np.flatnonzero(np.diff(times) > GAP) + 1) if rows else []
        for part in parts:
            names.append(f"{group} {1 + sum(n.startswith(group + ' ') for n in names)}")
            for i in part.tolist():
                block[i] = len(names) - 1
        if len(parts) >= 3:
            nearest = sorted(range(len(parts)), key=lambda k: (abs(len(parts[k]) - HELD * len(rows)), k))
            role = {nearest[0]: TEST, nearest[1]: VAL}
            for k, part in enumerate(parts):
                for i in part.tolist():
                    splits[i] = role.get(k, TRAIN)
        else:
            for part in parts:
                ends = [round((1 - 2 * HELD) * len(part)), round((1 - HELD) * len(part))]
                for name, piece in zip((TRAIN, VAL, TEST), np.split(part, ends), strict=True):
                    for i in piece.tolist():
                        splits[i] = name
    for later, earlier in ((VAL, (TRAIN,)), (TEST, (TRAIN, VAL))):
        times = np.sort([_seconds(p) for p, s in zip(found, splits, strict=True) if s in earlier])
        for i, pair in enumerate(found):
            if splits[i] == later and len(times) and _nearest(times, _seconds(pair)) <= BUFFER:
                splits[i] = f"a {later} frame within {BUFFER:g} s of another split's"
    for i, pair in enumerate(found):
        if pair.taken is None:
            splits[i] = "no EXIF DateTime in its pictures: a frame without a time cannot be put into a block"
    return Splitting(splits, block, names)


def official(root: Path) -> PatchSet:
    """The official subset, one fold; scenes are blocks of time.

    Frames that smoke fills are tested on where their block is the test's, and left out elsewhere.

    Raises:
        UserError: no frame can be used, or none is left to train on, or to test.
    """
    found, left = pairs(root)
    by = split(found)
    rows: dict[str, list[int]] = {TRAIN: [], VAL: [], TEST: []}
    for i, (pair, name) in enumerate(zip(found, by.split, strict=True)):
        if name in rows:
            rows[name].append(i)
        else:
            left[pair.name] = name
    size = reading.usual_size(reading.size_of(p.tiff) for p in found)
    ends: Counter[str] = Counter()

    def shots(name: str) -> Iterator[Patches]:
        for i in rows[name]:
            try:
                shot = found[i].shot(i, by.block[i], size)
            except UserError as e:
                left[found[i].name] = str(e)
                continue
            if shot.obscured and name != TEST:
                left[found[i].name] = f"filled with smoke, in a {name} block"
                continue
            ends[str(temperatures.limits(shot.thermal))] += 1
            yield shot.patches(PATCH)

    none = reading.empty(PATCH, radiometric=True)
    parts = {name: reading.gathered(shots(name), len(r), none) for name, r in rows.items()}
    if size is None or not any(len(p) for p in parts.values()):
        raise reading.none_left(root, left, WANTED)
    for name in (TRAIN, TEST):
        if not len(parts[name]):
            raise UserError(
                f"{root}: no frame is left for the {name}: {len(found)} pairs in {len(by.names)} blocks of time; add frames"
            )
    told = [f"the camera's range ends {where} in {count} frames" for where, count in ends.most_common(MOST_LIMITS)]
    if lacking := [k for k in KINDS if not any(p.group == k for p in found)]:
        told.append(f"no frame of {lacking[0]}/: all of them show {'fire' if lacking[0] == KINDS[1] else 'none'}, by their folder")
    return PatchSet("flame3", PATCH, (Fold(*parts.values()),), tuple(by.names), patches.grid(*size, PATCH), left, told)


def _by_time(found: Sequence[Pair], group: str) -> list[int]:
    """Places of a folder's frames whose time is known, as they were taken."""
    rows = [i for i, p in enumerate(found) if p.group == group and p.taken is not None]
    return sorted(rows, key=lambda i: (_seconds(found[i]), found[i].name))


def _runs(found: Sequence[Pair]) -> list[int]:
    """A number for each frame, the same for those of a folder that follow each other within 300 s."""
    number = list(range(len(found)))
    for group in {p.group for p in found}:
        rows = _by_time(found, group)
        for before, row in pairwise(rows):
            if _seconds(found[row]) - _seconds(found[before]) <= GAP:
                number[row] = number[before]
    return number


def _seconds(pair: Pair) -> float:
    return (pair.taken - datetime(1970, 1, 1)).total_seconds() if pair.taken else float("nan")


def _nearest(times: np.ndarray, at: float) -> float:
    """Seconds to the nearest of rising times, at least one."""
    after = int(np.searchsorted(times, at))
    return float(min(abs(times[i] - at) for i in (after - 1, after) if 0 <= i < len(times)))
