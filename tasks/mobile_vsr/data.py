"""Frames of all tiers: clips decoded by PyAV, folders of PNG frames, VSD4K's and UVG's own layouts.

High-resolution frames are 8-bit RGB, cropped at the top left to what the grid asks for; low-resolution frames are made
from them by Pillow's bicubic filter (antialiased, a = -0.5), unless a data set brings its own (as VSD4K does).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite import folders
from suite.extras import need
from suite.naming import UserError
from tasks.common import films, pictures

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).resolve().parent / "data"
EMBEDDED = {"bigbuckbunny": HERE / "bigbuckbunny.mp4", "bottle": HERE / "bottle.mp4"}
PLAYED = {"bigbuckbunny": (132, 25.0), "bottle": (1189, 179 / 6)}  #: frames, and frames a second
PHOTOGRAPHS = {"china": HERE / "china.jpg", "flower": HERE / "flower.jpg"}
VIDEO_FILES = films.ENDINGS
VSD4K_TOPICS = ("game", "sport", "dance", "vlog", "interview", "inter", "city")
VSD4K = re.compile(rf"({'|'.join(VSD4K_TOPICS)})_(\d+)")
VSD4K_RATE = 30  #: frames a second; the first 30 x seconds frames are used (STDO's released `VSD4K.py`)
UVG = {  # name of the case: first word of the official file
    n.lower(): n for n in ("Beauty", "Bosphorus", "HoneyBee", "Jockey", "ReadySteadyGo", "ShakeNDry", "YachtRide")
}
UVG_FRAMES = {"shakendry": 300}
UVG_RATE = 120
FULL_HD = (1080, 1920)  #: height and width of all of VSD4K's and UVG's frames
IMITATED = 6  #: frames of an imitation
READER = 2  #: version of how files become pixels: raised with whatever can change one


@dataclass(frozen=True)
class Source:
    """Where a clip's frames are, and how they are stored."""

    name: str
    path: Path
    kind: str  #: video, frames (a folder of PNG), vsd4k, yuv, imitation
    count: int  #: frames of the clip
    rate: float = 30.0  #: frames a second
    notes: tuple[str, ...] = ()  #: what must be told beside every result

    def high(self) -> Iterator[Any]:
        """Every frame as something that `pixels` turns into an array, decoded in order."""
        if self.kind == "video":
            return _video(self.path, self.count)
        if self.kind == "yuv":
            return _yuv(self.path, self.count)
        if self.kind == "imitation":
            return _imitation(self.path, self.count)
        return iter(_pngs(self.high_folder)[: self.count])

    @property
    def high_folder(self) -> Path:
        return self.path / "DIV2K_train_HR" if self.kind == "vsd4k" else self.path

    def low_file(self, frame: int, scale: int) -> Path | None:
        """The low-resolution PNG of a frame (from 0) that the data set itself brings, else None."""
        if self.kind != "vsd4k":
            return None
        return self.path / "DIV2K_train_LR_bicubic" / f"X{scale}" / f"{frame + 1:05d}x{scale}.png"


def library() -> ModuleType:
    """PyAV; raises UserError where it is not installed."""
    found: ModuleType = need("av", "video")
    return found


def locate(name: str, folder: str) -> Source:
    """The frames of a clip by its case name; raises UserError that says what to put where, under which licence."""
    if path := folders.shipped(EMBEDDED, name, folder, ("", *VIDEO_FILES)):
        return Source(name, path, "video", *PLAYED[name])
    root = Path(folder) if folder else None
    if root is None:
        raise UserError(f"the clip {name!r} is not shipped: name its folder with --data DIR or WEIGHIN_DATA")
    if match := VSD4K.fullmatch(name):
        return _vsd4k(name, root / "vsd4k" / name, int(match[2]) * VSD4K_RATE)
    if name in UVG:
        return _uvg(name, root / "uvg")
    path = folders.named(root, name, ("", *VIDEO_FILES))
    if path is None:
        endings, close = ", ".join(VIDEO_FILES), folders.like(root, name, ("", *VIDEO_FILES))
        raise UserError(f"no clip {name!r} in {root}: put {name}.mp4 there ({endings}), or a folder {name} of PNG frames{close}")
    return _frames_source(name, path) if path.is_dir() else _video_source(name, path)


def imitates(name: str) -> bool:
    """Whether a clip of this name is one of VSD4K's or UVG's, whose frames' size is known without them."""
    return bool(VSD4K.fullmatch(name)) or name in UVG


def imitation(name: str) -> Source:
    """Frames of a size with VSD4K's or UVG's, for the speed division: a few of Big Buck Bunny, enlarged."""
    return Source(name, EMBEDDED["bigbuckbunny"], "imitation", IMITATED, UVG_RATE if name in UVG else VSD4K_RATE)


@lru_cache(maxsize=8)
def digest(source: Source) -> str:
    """SHA-256 of a clip's file, of a folder's frames, or of what an imitation is made by; raises UserError naming broken ones."""
    if source.kind == "imitation":
        made = f"imitation {digest(locate(source.path.stem, ''))} {source.count} {FULL_HD} 1"
        return hashlib.sha256(made.encode()).hexdigest()
    if source.path.is_file():
        (seen,) = folders.whole([source.path], source.path.parent)
        known = source.path in EMBEDDED.values()
        return seen.sha256 if known else hashlib.sha256(f"{seen.sha256} read {READER}".encode()).hexdigest()
    files = folders.visible(source.path, (".png",), deep=source.kind == "vsd4k")
    return folders.combined(files, pictures.looks(files, source.path), source.path)


def pixels(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded frame, upright, or of a PNG by its path."""
    if isinstance(frame, Path):
        return photograph(frame)
    array: np.ndarray = frame.to_ndarray(format="rgb24")
    turns = films.turns(frame)
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def photograph(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file; 16 bits are scaled to 8."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(pictures.rgb(image))
    except (OSError, *pictures.DAMAGED) as e:
        raise UserError(f"{path}: not an image that can be read ({e}); replace the file") from e


def bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, 3) to (height, width, 3), uint8, by Pillow's bicubic filter: antialiased where it shrinks, a = -0.5."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def crop(image: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """The top-left part of an image; raises UserError where the image is smaller."""
    if image.shape[0] < size[0] or image.shape[1] < size[1]:
        raise UserError(
            f"{name}: a frame is {image.shape[1]}x{image.shape[0]}, the others {size[1]}x{size[0]};"
            " all frames of a clip have one size"
        )
    return image[: size[0], : size[1]]


def low_resolution(source: Source, frame: int, high: np.ndarray, scale: int) -> np.ndarray:
    """The frame at 1/scale: the data set's own, or bicubic.  Raises UserError where sizes do not match."""
    height, width = high.shape[0] // scale, high.shape[1] // scale
    path = source.low_file(frame, scale)
    if path is None:
        return bicubic(high, height, width)
    low = photograph(path)
    if low.shape[:2] != (height, width):
        raise UserError(
            f"{path}: {low.shape[1]}x{low.shape[0]}, and the high-resolution frame over {scale} is {width}x{height};"
            " use frames of one clip and scale"
        )
    return low


# -- videos


def _video_source(name: str, path: Path) -> Source:
    found = films.film(path)
    if wrong := found.broken or (found.grows and f"{found.grows}: scale the clip to one size"):
        raise UserError(f"{path}: {wrong}")
    notes = [f"the clip has {told}" for told in found.notes]
    if found.turns:
        notes.append(f"the clip says that it lies on its side: its frames were turned by {90 * found.turns} degrees")
    if found.streams > 1:
        notes.append("the file holds several streams of pictures: the first that is no cover was taken")
    if found.short:
        notes.append(f"the file {found.short}")
    return Source(name, path, "video", found.count, found.rate, tuple(notes))


def _video(path: Path, count: int) -> Iterator[Any]:
    av = library()
    seen = 0
    try:
        with films.opened(path) as (container, stream):
            for frame in container.decode(stream):
                seen += 1
                yield frame
    except (av.error.FFmpegError, ValueError) as e:
        told = getattr(e, "strerror", None) or e
        raise UserError(f"{path}: frame {seen + 1} of {count} cannot be decoded ({told}); copy the file again") from e
    if seen < count:
        raise UserError(f"{path}: {seen} of {count} frames could be decoded; the file is truncated: copy it again")


def _yuv(path: Path, count: int) -> Iterator[Any]:
    """Planar 4:2:0, 8 bit, as UVG is handed out."""
    av = library()
    height, width = FULL_HD
    with path.open("rb") as f:
        for _ in range(count):
            planes = np.frombuffer(f.read(height * width * 3 // 2), np.uint8)
            yield av.VideoFrame.from_ndarray(planes.reshape(height * 3 // 2, width), format="yuv420p")


def _imitation(path: Path, count: int) -> Iterator[Any]:
    """Frames evenly spread over a clip, enlarged to full HD."""
    av = library()
    source = locate(path.stem, "")
    wanted = set(np.linspace(0, source.count - 1, count).round().astype(int).tolist())
    for t, frame in enumerate(source.high()):
        if t in wanted:
            yield av.VideoFrame.from_ndarray(bicubic(pixels(frame), *FULL_HD), format="rgb24")


# -- the papers' data sets


def _pngs(folder: Path) -> list[Path]:
    """Frames in the order of their numbers."""
    return folders.visible(folder, (".png",)) if folder.is_dir() else []


def _numbered(files: list[Path]) -> list[str]:
    """What is odd about the numbers of frames: some without, one twice, or a gap."""
    found = [re.findall(r"[0-9]+", f.stem) for f in files]
    if not all(found):
        return ["some frames have no number in their names"] if any(found) else []
    numbers = [int(n[-1]) for n in found]
    odd = next((k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1] + 1), None)
    steps = {b - a for a, b in pairwise(numbers)}
    if odd is None or (len(steps) == 1 and min(steps) > 0):  # every second frame is a clip too
        return []
    return [f"the numbers of its frames are not in a row: {files[odd].name} comes after {files[odd - 1].name}"]


def _frames_source(name: str, path: Path) -> Source:
    """Pictures of a folder, each of which is looked at: whole, and all of one size."""
    files = _pngs(path)
    if not files:
        raise UserError(f"{path}: no frames; put PNG files into it, numbered in the clip's order")
    facts = [look.facts.split() for look in pictures.looks(files, path)]
    for file, (_, size, *_) in zip(files, facts, strict=True):
        if size != facts[0][1]:
            raise UserError(f"{path}: {file.name} is {size}, {files[0].name} {facts[0][1]}; scale all frames of a clip to one size")
    notes = pictures.told(map(" ".join, facts)) + _numbered(files)
    if others := len(folders.visible(path)) - len(files):
        notes.append(f"{others} files beside the frames are no PNG, and were left out")
    return Source(name, path, "frames", len(files), notes=tuple(notes))


def _vsd4k(name: str, path: Path, count: int) -> Source:
    layout = f"{path}/DIV2K_train_HR/00001.png ... and {path}/DIV2K_train_LR_bicubic/X2/00001x2.png ..."
    have = len(_pngs(path / "DIV2K_train_HR"))
    if have < count:
        raise UserError(
            f"{path}: {have} of {count} frames of VSD4K's {name}: unpack its folders to {layout} (from the links in the README of"
            " github.com/Neural-video-delivery/CaFM-Pytorch-ICCV2021; no licence is stated: for research, not to hand on)"
        )
    for k, file in enumerate(_pngs(path / "DIV2K_train_HR")[:count]):
        if file.stem != f"{k + 1:05d}":
            raise UserError(f"{path}: frame {k + 1:05d}.png of DIV2K_train_HR is missing (there is {file.name}); unpack it again")
    return Source(name, path, "vsd4k", count, VSD4K_RATE)


def _uvg(name: str, folder: Path) -> Source:
    found = sorted(folder.glob(f"{UVG[name]}_1920x1080_120fps_420_8bit_YUV.*")) if folder.is_dir() else []
    count = UVG_FRAMES.get(name, 600)
    for path in found:
        if path.suffix.lower() == ".yuv":
            whole = count * FULL_HD[0] * FULL_HD[1] * 3 // 2
            if path.stat().st_size != whole:
                raise UserError(f"{path}: {path.stat().st_size:,} bytes instead of {whole:,}; unpack the archive again")
            return Source(name, path, "yuv", count, UVG_RATE)
        if path.suffix.lower() in VIDEO_FILES:
            return _video_source(name, path)
    raise UserError(
        f"no {folder}/{UVG[name]}_1920x1080_120fps_420_8bit_YUV.yuv: unpack UVG's 8-bit 1080p file from ultravideo.fi there"
        " (CC BY-NC 3.0: attribution, no commercial use)"
    )
