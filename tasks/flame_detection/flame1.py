"""FLAME 1: RGB frames for classification, `Training/{Fire,No_Fire}` and `Test/{Fire,No_Fire}`.

Beside pictures, or in their place, the folders may hold videos.  There is no thermal picture: brightness takes its place.  Labels
of patches are of the RGB picture; the folder, which tells whether a frame shows fire at all, is its scene.  The training folders
are numbered in time: their last tenth is the validation, 50 frames apart from what is trained on.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite import folders
from suite.naming import UserError
from tasks.flame_detection import patches, reading
from tasks.flame_detection.problem import Fold, Patches, PatchSet

PATCH = 32
SCENES = ("No_Fire", "Fire")
PARTS = ("Training", "Test")
ENDINGS = (*reading.PICTURES, ".png", *reading.VIDEOS)
HELD, GAP = 0.1, 50  #: of a training folder's frames, for validation; frames between the two
WANTED = (
    "Training/ and Test/, each with Fire/ and No_Fire/ of pictures or videos (FLAME, IEEE DataPort doi 10.21227/qad6-r683, the"
    " classification archives; CC BY 4.0)"
)


@dataclass(frozen=True)
class Picture:
    """One of RGB."""

    path: Path
    frame: int | None = None  #: of a video, counted from 0

    def told(self, root: Path) -> str:
        """How it is told of."""
        name = self.path.relative_to(root).as_posix()
        return name if self.frame is None else f"{name}, frame {self.frame + 1}"


def files(root: Path, part: str, step: int, left: dict[str, str]) -> list[list[Picture]]:
    """Pictures of `No_Fire` and of `Fire` by their number, frames of a video where it stands, every step-th.

    Args:
        left: what cannot be used is entered, and why.

    Raises UserError where a folder is not there, or holds nothing that could be used.
    """
    found = []
    for scene in SCENES:
        pictures: list[Picture] = []
        folder = root / part / scene
        if not folder.is_dir():
            raise UserError(f"{root}: no folder {part}/{scene}; put there {WANTED}")
        shown = folders.visible(folder, ENDINGS)
        for path in _numbered(shown):
            name = path.relative_to(root).as_posix()
            if path.suffix.lower() not in reading.VIDEOS:
                pictures.append(Picture(path))
                continue
            try:
                count, broken = reading.frames_in(path)
                pictures += [Picture(path, i) for i in range(count)]
                if broken:
                    left[f"{name}, behind frame {count}"] = broken
            except UserError as e:
                left[name] = str(e)
        if others := len(folders.visible(folder, deep=True)) - len(shown):
            left[f"{others} files of {part}/{scene}"] = (
                "in a folder of their own, or with another ending than pictures and videos have"
            )
        if not pictures and not any(name.startswith(f"{part}/{scene}/") for name in left):
            raise UserError(f"{folder}: holds no picture and no video ({', '.join(ENDINGS)}); put there {WANTED}")
        found.append(pictures[::step])
    return found


def patch_set(root: Path, step: int = 1, patch: int = PATCH) -> PatchSet:
    """The set, one fold; scenes are `No_Fire` and `Fire`.

    Args:
        step: every step-th picture.

    Raises:
        UserError: no frame can be used, or none is left to train on or to test.
    """
    left: dict[str, str] = {}
    told: list[str] = []
    rows: dict[str, list[tuple[Picture, int]]] = {"train": [], "val": [], "test": []}
    gap = -(-GAP // step)
    for scene, paths in enumerate(files(root, "Training", step, left)):
        at = len(paths) - int(HELD * len(paths))
        end = at if at == len(paths) else max(min(1, at), at - gap)
        rows["train"] += [(p, scene) for p in paths[:end]]
        rows["val"] += [(p, scene) for p in paths[at:]]
        if at - end:
            told.append(f"Training/{SCENES[scene]}: {at - end} pictures between training and validation are not used")
    for scene, paths in enumerate(files(root, "Test", step, left)):
        rows["test"] += [(p, scene) for p in paths]
    size = reading.usual_size(_sizes(rows))
    numbered = iter(range(sum(map(len, rows.values()))))
    footage = reading.Footage()

    def shots(pictures: list[tuple[Picture, int]]) -> Iterator[Patches]:
        for picture, scene in pictures:
            number, path = next(numbered), picture.path
            try:
                rgb = reading.read_rgb(path) if picture.frame is None else footage.rgb(path, picture.frame)
                reading.check_size(path, rgb.shape, size, patch)
            except UserError as e:
                left[picture.told(root)] = str(e)
                continue
            yield reading.Shot(reading.luma(rgb), rgb, False, number, scene, fire=scene).patches(patch)

    none = reading.empty(patch)
    parts = {name: reading.gathered(shots(r), len(r), none) for name, r in rows.items()}
    if size is None or not any(len(p) for p in parts.values()):
        raise reading.none_left(root, left, WANTED)
    for name, folder in (("train", "Training"), ("test", "Test")):
        if not len(parts[name]):
            why = f"; left out: {reading.instance(left)}" if left else ""
            raise UserError(f"{root}: no picture of {folder}/Fire and {folder}/No_Fire can be used; put there {WANTED}{why}")
    return PatchSet("flame1", patch, (Fold(*parts.values()),), SCENES, patches.grid(*size, patch), left, told)


def _sizes(rows: Mapping[str, Sequence[tuple[Picture, int]]]) -> Iterator[tuple[int, int] | None]:
    """(H, W) of each picture; frames of a video have that of its first."""
    first: dict[Path, tuple[int, int] | None] = {}
    for pictures in rows.values():
        for picture, _ in pictures:
            if picture.frame is None:
                yield reading.size_of(picture.path)
                continue
            if picture.path not in first:
                first[picture.path] = None
                with contextlib.suppress(UserError):
                    height, width = reading.Footage().rgb(picture.path, 0).shape[:2]
                    first[picture.path] = (height, width)
            yield first[picture.path]


def _numbered(files: Sequence[Path]) -> list[Path]:
    """Files by the last number in their names, which is the frame's; where that is one and the same, as people count."""
    digits = [re.findall(r"\d+", path.stem) for path in files]
    last = [int(d[-1]) if d else -1 for d in digits]
    if len(set(last)) == 1:  # the size of all, or a version
        return list(files)
    return [path for _, _, path in sorted(zip(last, [p.name for p in files], files, strict=True))]
