"""Frames of all tiers: clips decoded by PyAV, folders of PNG frames, VSD4K's and UVG's own layouts.

High-resolution frames are 8-bit RGB, cropped at the top left to what the grid asks for; low-resolution frames are made
from them by Pillow's bicubic filter (antialiased, a = -0.5), unless a data set brings its own (vsr_baselines.md 2.1, 3.1).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.extras import need
from suite.naming import UserError

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).resolve().parent / "data"
EMBEDDED = {"bigbuckbunny": HERE / "bigbuckbunny.mp4", "bottle": HERE / "bottle.mp4"}
PHOTOGRAPHS = {"china": HERE / "china.jpg", "flower": HERE / "flower.jpg"}
VIDEO_FILES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".y4m")
VSD4K_TOPICS = ("game", "sport", "dance", "vlog", "interview", "inter", "city")
VSD4K = re.compile(rf"({'|'.join(VSD4K_TOPICS)})_(\d+)")
VSD4K_RATE = 30  #: frames a second; the first 30 x seconds frames are used (stdo.md 2.1)
UVG = {  # name of the case: first word of the official file
    n.lower(): n for n in ("Beauty", "Bosphorus", "HoneyBee", "Jockey", "ReadySteadyGo", "ShakeNDry", "YachtRide")
}
UVG_FRAMES = {"shakendry": 300}
UVG_RATE = 120
FULL_HD = (1080, 1920)  #: height and width of all of VSD4K's and UVG's frames
IMITATED = 6  #: frames of an imitation


@dataclass(frozen=True)
class Source:
    """Where a clip's frames are, and how they are stored."""

    name: str
    path: Path
    kind: str  #: video, frames (a folder of PNG), vsd4k, yuv, imitation
    count: int  #: frames of the clip
    rate: float = 30.0  #: frames a second

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
    if name in EMBEDDED:
        return _video_source(name, EMBEDDED[name])
    root = Path(folder) if folder else None
    if root is None:
        raise UserError(f"the clip {name!r} is not shipped: name its folder with --data DIR or WEIGHIN_DATA")
    if match := VSD4K.fullmatch(name):
        return _vsd4k(name, root / "vsd4k" / name, int(match[2]) * VSD4K_RATE)
    if name in UVG:
        return _uvg(name, root / "uvg")
    if (root / name).is_dir():
        count = len(_pngs(root / name))
        if not count:
            raise UserError(f"{root / name}: no frames; put PNG files into it, named so that their order is the clip's")
        return Source(name, root / name, "frames", count)
    for path in (root / f"{name}{ending}" for ending in VIDEO_FILES):
        if path.is_file():
            return _video_source(name, path)
    endings = ", ".join(VIDEO_FILES)
    raise UserError(f"no clip {name!r} in {root}: put {name}.mp4 there ({endings}), or a folder {name} of PNG frames")


def imitates(name: str) -> bool:
    """Whether a clip of this name is one of VSD4K's or UVG's, whose frames' size is known without them."""
    return bool(VSD4K.fullmatch(name)) or name in UVG


def imitation(name: str) -> Source:
    """Frames of a size with VSD4K's or UVG's, for the speed division: a few of Big Buck Bunny, enlarged."""
    return Source(name, EMBEDDED["bigbuckbunny"], "imitation", IMITATED, UVG_RATE if name in UVG else VSD4K_RATE)


@lru_cache(maxsize=8)
def digest(source: Source) -> str:
    """SHA-256 of a clip's file, of a folder's listing of names and sizes, or of what an imitation is made by."""
    if source.kind == "imitation":
        made = f"imitation {digest(locate(source.path.stem, ''))} {source.count} {FULL_HD} 1"
        return hashlib.sha256(made.encode()).hexdigest()
    if source.path.is_file():
        with source.path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    lines = sorted(f"{p.relative_to(source.path).as_posix()} {p.stat().st_size}" for p in source.path.rglob("*.png"))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def pixels(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded frame, or of a PNG by its path."""
    if isinstance(frame, Path):
        return photograph(frame)
    array: np.ndarray = frame.to_ndarray(format="rgb24")
    return array


def photograph(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as e:
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
    av = library()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: no frames; it holds no video stream")
            stream = container.streams.video[0]
            packets = [packet.is_discard for packet in container.demux(stream) if packet.size]
            declared, rate = stream.frames, float(stream.average_rate or 30)
    except av.error.FFmpegError as e:
        raise UserError(f"{path}: not a whole video ({e.strerror}); it may be truncated: copy it again") from e
    if len(packets) < declared:
        raise UserError(f"{path}: {len(packets)} of {declared} frames are there; the file is truncated: copy it again")
    count = packets.count(False)
    if not count:
        raise UserError(f"{path}: no frames; give a video with at least one")
    return Source(name, path, "video", count, rate)


def _video(path: Path, count: int) -> Iterator[Any]:
    av = library()
    seen = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UserError(f"{path}: this build of PyAV has no decoder for it; convert the clip to H.264")
            stream.codec_context.thread_count = 1  # decoding threads can deadlock where a clip is not read to its end
            for frame in container.decode(stream):
                seen += 1
                yield frame
    except av.error.FFmpegError as e:
        raise UserError(f"{path}: frame {seen + 1} of {count} cannot be decoded ({e.strerror}); copy the file again") from e
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
    source = _video_source(path.stem, path)
    wanted = set(np.linspace(0, source.count - 1, count).round().astype(int).tolist())
    for t, frame in enumerate(source.high()):
        if t in wanted:
            yield av.VideoFrame.from_ndarray(bicubic(pixels(frame), *FULL_HD), format="rgb24")


# -- the papers' data sets


def _pngs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def _vsd4k(name: str, path: Path, count: int) -> Source:
    layout = f"{path}/DIV2K_train_HR/00001.png ... and {path}/DIV2K_train_LR_bicubic/X2/00001x2.png ..."
    have = len(_pngs(path / "DIV2K_train_HR"))
    if have < count:
        raise UserError(
            f"{path}: {have} of {count} frames of VSD4K's {name}: unpack its folders to {layout} (from the links in the README of"
            " github.com/Neural-video-delivery/CaFM-Pytorch-ICCV2021; no licence is stated: for research, not to hand on)"
        )
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
