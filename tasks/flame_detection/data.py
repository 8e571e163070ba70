"""The sets of this task by their case's name: rendered patches and four real scenes, which are shipped, and those that have files.

Licences: FLAME 3's sample scenes CC BY-NC 4.0 (Marinaccio and Afghah), its public subset as IEEE DataPort states; FLAME 1 and 2
CC BY 4.0.  Everything is decoded by Pillow.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from suite.naming import UserError
from tasks.flame_detection import flame1, flame2, flame3, synthetic
from tasks.flame_detection.problem import PatchSet
from tasks.images import datasets

HERE = Path(__file__).resolve().parent / "data"
SCENES = HERE / "flame3"
EMBEDDED = ("synthetic", "flame3_scenes")
NAMES = (*EMBEDDED, "flame3", "flame2", "flame1")
WHERE = {
    "flame3": f"{flame3.WANTED} (the public subset, IEEE DataPort doi 10.21227/w0mz-aq48, under the terms stated there)",
    "flame2": flame2.WANTED,
    "flame1": flame1.WANTED,
}
#: what `sizes` of `source` may hold
SIZES = {
    "synthetic": ("train", "val", "clear", "smoky"),
    "flame3_scenes": ("stride",),
    "flame3": ("stride",),
    "flame2": ("every", "patch"),
    "flame1": ("every", "patch"),
}


def locate(name: str, folder: str) -> Path:
    """The folder of a set: DIR/NAME, or DIR itself where it has the set's layout; raises UserError that says what to put where.

    The rendered set has none: it is where it is rendered.
    """
    if name == "synthetic":
        return Path(synthetic.__file__)
    if name == "flame3_scenes":
        return SCENES
    if name not in WHERE:
        raise UserError(f"no set {name!r}; there are: {', '.join(NAMES)}")
    if not folder:
        raise UserError(
            f"the set {name!r} is not shipped: name its folder with --data DIR or WEIGHIN_DATA; put there {WHERE[name]}"
        )
    for path in (Path(folder) / name, Path(folder)):
        if _has_layout(name, path):
            return path
    path = Path(folder) / name
    raise UserError(f"no {name} in {path if path.is_dir() else folder}: put into {path} {WHERE[name]}")


def digest(name: str, folder: str) -> str:
    """SHA-256 of what a set is made of: of the rendered one its recipe, of the scenes their files, of others names and sizes."""
    if name == "synthetic":
        return synthetic.digest()
    path = locate(name, folder)
    if name != "flame3_scenes":
        return datasets.digest(path)
    lines = [
        f"{p.relative_to(path).as_posix()} {datasets.digest(p)}" for p in sorted(path.rglob("*")) if p.suffix in (".JPG", ".TIFF")
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def source(name: str, folder: str, sizes: Mapping[str, int] | None = None) -> PatchSet:
    """A set by its name; which files were left out is told, and in `PatchSet.left_out`.

    Args:
        sizes: of the rendered set patches of each block (`train`, `val`, `clear`, `smoky`); of FLAME 3 `stride` of the windows that
            scenes are trained on (64: no overlap); of FLAME 1 and 2 `every` (30: each 30th frame) and `patch`.

    Raises:
        UserError: the set is not there, or cannot be used.
        ValueError: `sizes` holds what the set does not know.
    """
    if name not in NAMES:
        raise UserError(f"no set {name!r}; there are: {', '.join(NAMES)}")
    asked = dict(sizes or {})
    if unknown := set(asked) - set(SIZES[name]):
        raise ValueError(f"{name} has no size {', '.join(sorted(unknown))}; there are: {', '.join(SIZES[name])}")
    if name in EMBEDDED:
        return _embedded(name, tuple(sorted(asked.items())))
    found = _read(name, locate(name, folder), asked)
    if found.left_out:
        first, why = next(iter(found.left_out.items()))
        print(f"{name}: {len(found.left_out)} left out, such as {first}: {why}", file=sys.stderr)
    return found


@lru_cache(maxsize=4)
def _embedded(name: str, sizes: tuple[tuple[str, int], ...]) -> PatchSet:
    if name == "synthetic":
        return synthetic.patch_set(dict(sizes))
    return _read(name, SCENES, dict(sizes))


def _read(name: str, path: Path, sizes: Mapping[str, int]) -> PatchSet:
    if name in ("flame2", "flame1"):
        make = flame2.patch_set if name == "flame2" else flame1.patch_set
        return make(path, sizes.get("every", 1), sizes.get("patch", flame2.PATCH))
    if name == "flame3" and flame3.is_official(path):
        return flame3.official(path)
    return flame3.scenes(path, name, sizes.get("stride", flame3.STRIDE))


def _has_layout(name: str, path: Path) -> bool:
    if not path.is_dir():
        return False
    if name == "flame3":
        return flame3.is_official(path) or flame3.is_sample(path)
    if name == "flame2":
        return any(next(path.glob(pattern), None) is not None for pattern in ("254p * Images", "*/254p * Images"))
    return all((path / part).is_dir() for part in flame1.PARTS)
