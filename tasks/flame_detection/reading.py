"""Pictures read from files by one decoder (Pillow, whose version a bundle tells), and a shot made into the task's patches.

What is wrong with a file is one line; the loaders of sets leave such a file out and keep the line.
"""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from suite import extras
from suite.naming import UserError
from tasks.common import films
from tasks.flame_detection import annotate, patches, temperatures
from tasks.flame_detection.problem import Patches

TAKEN, ORIENTATION = 306, 274  #: EXIF tags: DateTime, and how a picture is turned
FIRST_TAKEN, WITHIN = 36867, 0x8769  #: DateTimeOriginal, and the directory that it is in
PICTURES, TIFFS = (".jpg", ".jpeg"), (".tif", ".tiff")
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  #: of the others Pillow cuts what lies above 255
VIDEOS = films.ENDINGS
WIDEST = 640  #: frames of videos that are wider are reduced to it, the width of a thermal camera's
ASPECT = 0.02  #: how far the shapes of two pictures of one view may differ: 640x512 is not 4000x3000

#: of a JPEG: start of the picture's data; application segments and comments, of which those that decoding needs are kept
_SCAN, _APPLICATION, _COMMENT, _NEEDED = 0xDA, range(0xE0, 0xF0), 0xFE, (0xE0, 0xEE)
_END, _MARKER = b"\xff\xd9", re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def read_rgb(path: Path, like: tuple[int, int] | None = None) -> np.ndarray:
    """The colours of a picture, (H, W, 3) uint8.

    Args:
        like: (H, W) of the thermal picture beside it, which this one is resized to (bilinear over the area of a new pixel) where it
            has another size.

    A picture that says how it is turned is turned.

    Raises:
        UserError: no picture, a truncated one, one of more than 8 bits, or one of another shape than `like`, which is not of the
            same view.
    """
    from PIL import Image, ImageOps

    with _opened(path) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
        if like is not None and picture.size != like[::-1]:
            width, height = picture.size
            if abs(width / height * like[0] / like[1] - 1) > ASPECT:
                raise UserError(
                    f"{path}: {width}x{height} pixels beside a thermal picture of {like[1]}x{like[0]}: another field of view;"
                    " take the RGB picture that was cut to the thermal one"
                )
            picture = picture.resize(like[::-1], Image.Resampling.BILINEAR)
        return np.asarray(picture)


def read_luma(path: Path) -> np.ndarray:
    """The brightness of a colour-mapped thermal picture, (H, W) float32 in 0..255.

    Of a JPEG it is the stored brightness plane: decoders agree on it within 1, while they differ by dozens of levels on false
    colours (findings/pyav_jpeg_colours_lie_far_from_pillows.sh).  One that says how it is turned is turned, as `read_rgb` does.

    Raises UserError like `read_rgb`.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        image.draft("L", None)
        return np.asarray(ImageOps.exif_transpose(image).convert("L"), np.float32)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture, to be decoded within; what goes wrong is one line."""
    from PIL import Image, UnidentifiedImageError

    try:
        # what is wrong is told once, below
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.mode not in EIGHT_BITS:
                raise UserError(f"{path}: holds more than 8 bits a pixel (mode {image.mode}); scale it to 8 bits")
            yield image
    except FileNotFoundError as e:
        raise UserError(f"no {path}: a picture is expected") from e
    except UnidentifiedImageError as e:
        raise UserError(f"{path}: no picture that Pillow reads, or it is empty; get it again") from e
    except temperatures.DAMAGED as e:
        raise UserError(f"{path}: truncated or damaged ({' '.join(str(e).split())}); get it again") from e


class Footage:
    """Frames of videos by their number, asked for in rising order: what lies between two is decoded and dropped.

    Of several streams the film's is read, not a cover; a film that says how it is turned is turned.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._at = -1
        self._frames: Iterator[Any] = iter(())

    def rgb(self, path: Path, number: int) -> np.ndarray:
        """The colours of a frame, counted from 0, (H, W, 3) uint8, at most `WIDEST` wide.  Raises UserError where there is none."""
        if path != self._path or number <= self._at:
            self._path, self._at, self._frames = path, -1, _decoded(path)
        frame = None
        while self._at < number:
            frame = next(self._frames, None)
            if frame is None:
                raise UserError(
                    f"{path}: has no frame {number + 1}, it ends behind {self._at + 1}; it may be truncated: copy it again"
                )
            self._at += 1
        from PIL import Image

        upright = np.rot90(frame.to_ndarray(format="rgb24"), films.turns(frame))
        picture = Image.fromarray(np.ascontiguousarray(upright))
        if picture.width > WIDEST:
            height = round(picture.height * WIDEST / picture.width)
            picture = picture.resize((WIDEST, height), Image.Resampling.BILINEAR)
        return np.asarray(picture)


def frames_in(path: Path) -> tuple[int, str]:
    """How many pictures a video shows, and what is wrong behind the last of them; empty: nothing.

    Raises UserError where there are none that can be read.
    """
    found = films.film(path, f"{path}: reading a video")
    return found.count, found.broken or found.short


def _decoded(path: Path) -> Iterator[Any]:
    """Frames in their order, in a video that may break off: what goes wrong is one line."""
    av = extras.need("av", f"{path}: reading a video")
    try:
        with films.opened(path) as (container, stream):
            yield from container.decode(stream)
    except (av.error.FFmpegError, ValueError) as e:
        raise UserError(f"{path}: no video that can be decoded ({getattr(e, 'strerror', None) or e}); copy it again") from e


def luma(rgb: np.ndarray) -> np.ndarray:
    """Brightness of colours (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B), (..., 3) uint8 to (...) float32."""
    return np.asarray(rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))


def taken(paths: Iterable[Path]) -> datetime | None:
    """When a shot was taken: EXIF DateTime, or DateTimeOriginal, of the first of its pictures that tells; None where none does."""
    from PIL import Image

    for path in paths:
        with (
            contextlib.suppress(*temperatures.DAMAGED),
            warnings.catch_warnings(action="ignore"),
            Image.open(path) as image,
        ):
            exif = image.getexif()
            told = exif.get(TAKEN) or exif.get_ifd(WITHIN).get(FIRST_TAKEN, "")
            return datetime.strptime(str(told).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    return None


def stripped(jpeg: bytes) -> bytes:
    """A JPEG without EXIF (positions, a preview), XMP and comments; the picture's own data are the same to the byte.

    Raises:
        UserError: it is no JPEG, or it is truncated.
    """
    if jpeg[:2] != b"\xff\xd8":
        raise UserError("not a JPEG: it does not begin with FF D8")
    kept, at = [jpeg[:2]], 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, (length,) = jpeg[at + 1], struct.unpack(">H", jpeg[at + 2 : at + 4])
        end = at + 2 + length
        if marker == _SCAN:
            # a scan lasts until the next marker; within it FF is followed by 0, or by the number of a restart
            found = _MARKER.search(jpeg, end)
            if found is None:
                break
            end = found.start()
        if marker in _NEEDED or (marker not in _APPLICATION and marker != _COMMENT):
            kept.append(jpeg[at:end])
        at = end
        if jpeg[at : at + 2] == _END:
            # what follows the end, such as a second picture, is dropped
            return b"".join([*kept, _END])
    raise UserError("a truncated JPEG: it has no picture's data, or no end")


@dataclass(frozen=True)
class Shot:
    """A picture of one moment, as the cameras took it."""

    thermal: np.ndarray  #: (H, W) float32: degrees Celsius, or the brightness of a colour-mapped picture
    rgb: np.ndarray | None  #: (H, W, 3) uint8
    radiometric: bool  #: whether `thermal` are degrees
    frame: int  #: counted over the whole set
    scene: int = 0
    obscured: bool = False  #: smoke hides it
    labelled: bool = True  #: whether its RGB picture labels it; otherwise its labels are -1
    fire: int = -1  #: what the set says of it: 1: it shows fire, 0: none

    def patches(self, patch: int, stride: int | None = None) -> Patches:
        """Patches in raster order.

        Args:
            stride: None: patches do not overlap.
        """
        stride = stride or patch
        whole = torch.from_numpy(np.ascontiguousarray(self.thermal, np.float32))[None, None]
        scaled = patches.scale(whole)
        thermal = patches.windows(scaled, patch, stride)
        count = len(thermal)
        unknown = torch.full((count,), -1)
        label, rgb = unknown, None
        if self.rgb is not None:
            rgb = patches.windows(torch.from_numpy(self.rgb.transpose(2, 0, 1).copy())[None], patch, stride)
            if self.labelled:
                flame = torch.from_numpy(annotate.flame_pixels(self.rgb[None]))[None]
                label = patches.windows(flame, patch, stride).flatten(1).any(dim=1).long()
        truth, truth_200, celsius, degrees = unknown, unknown, torch.full((count,), float("nan")), None
        if self.radiometric:
            degrees = patches.windows(whole, patch, stride)
            celsius = degrees.amax(dim=(1, 2, 3))
            limit = temperatures.limits(self.thermal).high
            truth, truth_200 = (
                torch.from_numpy(temperatures.truth(celsius.numpy(), at, limit)) for at in (temperatures.FIRE, temperatures.FLAMING)
            )
        elif not self.fire:  # a frame without fire has no patch with fire
            truth, truth_200 = torch.zeros_like(unknown), torch.zeros_like(unknown)
        return Patches(
            thermal,
            rgb,
            label,
            truth,
            truth_200,
            patches.warm(thermal.amax(dim=(1, 2, 3)), label, patches.hot_limit(scaled).expand(count)),
            celsius,
            torch.full((count,), self.frame),
            torch.full((count,), self.scene),
            torch.full((count,), self.obscured),
            torch.full((count,), self.fire),
            degrees,
        )


def empty(patch: int, colour: bool = True, radiometric: bool = False) -> Patches:
    """No patch at all."""
    whole, no = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    thermal = torch.zeros(0, 1, patch, patch)
    rgb, degrees = torch.zeros(0, 3, patch, patch, dtype=torch.uint8) if colour else None, thermal if radiometric else None
    return Patches(thermal, rgb, whole, whole, whole, no, torch.zeros(0), whole, whole, no, whole, degrees)


def joined(parts: Sequence[Patches]) -> Patches:
    """Patches of several shots one after the other; at least one part."""
    columns: dict[str, Any] = {}
    for field in fields(Patches):
        values = [getattr(p, field.name) for p in parts]
        columns[field.name] = None if any(v is None for v in values) else torch.cat(values)
    return Patches(**columns)


def gathered(parts: Iterator[Patches], count: int, none: Patches) -> Patches:
    """The same of many shots with equally many patches each: memory is taken once, for at most `count` parts.

    Args:
        none: what there is where there is no part.
    """
    whole: Patches | None = None
    at = 0
    for part in parts:
        if whole is None:
            columns: dict[str, Any] = {}
            for name, v in part.__dict__.items():
                columns[name] = None if v is None else v.new_empty(count * len(v), *v.shape[1:])
            whole = Patches(**columns)
        for name, value in part.__dict__.items():
            if value is not None:
                getattr(whole, name)[at : at + len(value)] = value
        at += len(part)
    return none if whole is None else replace(whole, **{n: v[:at] for n, v in whole.__dict__.items() if v is not None})


def check_size(path: Path, shape: tuple[int, ...], usual: tuple[int, int] | None, patch: int) -> None:
    """Raises UserError where a picture of (H, W, ...) has another size than most, or holds no patch."""
    height, width = shape[:2]
    if usual is not None and (height, width) != usual:
        raise UserError(f"{path}: {width}x{height} pixels, most have {usual[1]}x{usual[0]}")
    patches.grid(height, width, patch)


def usual_size(sizes: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    """(H, W) that most pictures have, of equally frequent ones the first; None where none can be read.

    Args:
        sizes: of each picture, None where it cannot be read.
    """
    return next(iter(Counter(s for s in sizes if s is not None).most_common(1)), (None, 0))[0]


def size_of(path: Path) -> tuple[int, int] | None:
    """(H, W) of a picture by its header, as it is to be shown; None where it cannot be read."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5 and path.suffix.lower() not in TIFFS
            return image.size if turned else image.size[::-1]
    except temperatures.DAMAGED:
        return None


def listing(folder: Path, endings: Sequence[str]) -> Mapping[str, Path]:
    """Files of a folder with one of these endings by their stem; of two with one stem the first by name."""
    found: dict[str, Path] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in endings and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return found


def none_left(place: Path, left_out: Mapping[str, str], wanted: str) -> UserError:
    """What to raise where no shot of a set can be used."""
    if not left_out:
        return UserError(f"no pictures in {place}: put there {wanted}")
    return UserError(f"{place}: none of its {len(left_out)} frames can be used, such as {instance(left_out)}")


def instance(left_out: Mapping[str, str]) -> str:
    """The first of the files that were left out, and why; empty where there is none."""
    return next((f"{name}: {why}" for name, why in left_out.items()), "")
