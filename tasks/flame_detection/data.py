"""The sets of this task by their case's name: rendered patches and four real scenes, which are shipped, and those that have files.

A name that is none of these is a folder of the user's own in the layout of FLAME 1, 2 or 3; pictures of FLAME 1's may be videos.

Licences: FLAME 3's sample scenes CC BY-NC 4.0 (Marinaccio and Afghah), its public subset as IEEE DataPort states; FLAME 1 and 2
CC BY 4.0.  Everything is decoded by Pillow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from suite import folders
from suite.naming import UserError
from tasks.flame_detection import flame1, flame2, flame3, synthetic
from tasks.flame_detection.names import EMBEDDED, parted
from tasks.flame_detection.problem import PatchSet
from tasks.images import datasets

SCENES = flame3.SHIPPED
SHIPPED = {"synthetic": Path(synthetic.__file__), "flame3_scenes": SCENES}  #: the rendered set is where it is rendered
WHERE = {
    "flame3": f"{flame3.WANTED} (the public subset, IEEE DataPort doi 10.21227/w0mz-aq48, under the terms stated there)",
    "flame2": flame2.WANTED,
    "flame1": flame1.WANTED,
}
OWN = f"{flame3.WANTED}; or {flame2.WANTED}; or {flame1.WANTED}"
#: what `sizes` of `source` may hold
SIZES = {
    "synthetic": ("train", "val", "clear", "smoky"),
    "flame3": ("stride",),
    "flame2": ("patch",),
    "flame1": ("patch",),
}


def locate(name: str, folder: str) -> Path:
    """The folder of a set: DIR/NAME, or for those of papers DIR itself where it has the set's layout.

    Raises UserError that says what to put where.
    """
    if path := folders.shipped(SHIPPED, name, folder, ("",)):
        return path
    name, every = parted(name)
    if name in EMBEDDED and every > 1:
        raise UserError(f"{name} is taken whole; leave _every{every} out")
    wanted = WHERE.get(name, OWN)
    if not folder:
        raise UserError(f"the set {name!r} is not shipped: name its folder with --data DIR or WEIGHIN_DATA; put there {wanted}")
    path = folders.named(Path(folder), name, ("",)) or Path(folder) / name
    for place in (path, Path(folder)) if name in WHERE else (path,):
        if layout(place) == name or (name not in WHERE and layout(place)):
            return place
    raise UserError(f"no {name} in {path if path.is_dir() else folder}: put into {path} {wanted}")


def layout(path: Path) -> str:
    """Whose layout a folder has: flame1, flame2 or flame3; nothing where it has none."""
    if not path.is_dir():
        return ""
    if flame3.is_official(path) or flame3.is_sample(path):
        return "flame3"
    if any(next(path.glob(pattern), None) is not None for pattern in ("254p * Images", "*/254p * Images")):
        return "flame2"
    return "flame1" if all((path / part).is_dir() for part in flame1.PARTS) else ""


def digest(name: str, folder: str) -> str:
    """SHA-256 of what a set is made of: of the rendered one its recipe, of others their files."""
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
        sizes: of the rendered set patches of each block (`train`, `val`, `clear`, `smoky`); of scenes `stride` of the windows that
            they are trained on (64: no overlap); of the layouts of FLAME 1 and 2 `patch`.

    Raises:
        UserError: the set is not there, or cannot be used.
        ValueError: `sizes` holds what the set does not know.
    """
    asked = dict(sizes or {})
    path = locate(name, folder)
    kind = name if name == "synthetic" else layout(path)
    if unknown := set(asked) - set(SIZES[kind]):
        raise ValueError(f"{name} has no size {', '.join(sorted(unknown))}; there are: {', '.join(SIZES[kind])}")
    if name in EMBEDDED:
        return _embedded(name, tuple(sorted(asked.items())))
    found = _read(name, path, asked)
    # paths of this machine do not belong into what is published
    return replace(found, left_out={k: v.replace(f"{path}/", "") for k, v in found.left_out.items()})


@lru_cache(maxsize=4)
def _embedded(name: str, sizes: tuple[tuple[str, int], ...]) -> PatchSet:
    if name == "synthetic":
        return synthetic.patch_set(dict(sizes))
    return _read(name, SCENES, dict(sizes))


def _read(name: str, path: Path, sizes: Mapping[str, int]) -> PatchSet:
    kind, (_, every) = layout(path), parted(name)
    if kind != "flame3":
        patch = sizes.get("patch", flame2.PATCH)
        if kind == "flame1":
            return replace(flame1.patch_set(path, every, patch), name=name)
        return replace(flame2.patch_set(path, every, patch, official=parted(name)[0] == kind), name=name)
    if every > 1:
        raise UserError(f"{name}: FLAME 3, and scenes in its layout, are read whole; leave _every{every} out")
    if flame3.is_official(path):
        if "stride" in sizes:
            raise ValueError(f"{name}: a stride is of scenes; the official set is cut without overlap")
        return replace(flame3.official(path), name=name)
    return flame3.scenes(path, name, sizes.get("stride", flame3.STRIDE))
