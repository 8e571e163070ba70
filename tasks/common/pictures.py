"""Pictures in users' files: 8-bit colours of every mode that they come in, and what is looked at before a run."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from suite import folders

if TYPE_CHECKING:
    from PIL import Image

#: in any case; what is stored otherwise is no picture of a set
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
OPACITY = ("LA", "La", "PA", "RGBA", "RGBa")
SIXTEEN = 65_535  #: white of 16 bits
ORIENTATION, BITS = 274, 258  #: tags of EXIF and TIFF: how a picture is turned, bits of a sample

#: what Pillow raises over files that are damaged, beside OSError
DAMAGED = (ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error)


class Unscaled(ValueError):
    """A picture of numbers whose white nobody knows."""


def rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue; opacity is dropped, a picture of 16 bits is scaled by 255 / 65535.

    Pillow's own conversion of 16 bits cuts what lies above 255, which is nearly all of it.  How a picture says that it is to be
    turned is left to its reader.

    Raises Unscaled on a picture of other numbers, which no scale is known of.
    """
    from PIL import Image

    if image.mode in EIGHT_BITS:
        return image.convert("RGB")
    if not _sixteen_bits(image):
        raise Unscaled(f"holds numbers of mode {image.mode}, whose white nobody knows: scale them to 8 bits")
    values = np.asarray(image).astype(np.int64).clip(0, SIXTEEN)
    return Image.fromarray(((values * 255 + SIXTEEN // 2) // SIXTEEN).astype(np.uint8)).convert("RGB")


def _sixteen_bits(image: Image.Image) -> bool:
    """Whether white is 65535: a TIFF of 12 bits has the same mode, and one of 32 bits that of older readers of 16."""
    if image.format == "TIFF":
        return image.mode.startswith("I;16") and image.tag_v2.get(BITS) == (16,)  # type: ignore[attr-defined]
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def look(path: Path) -> str:
    """Mode and size of a picture that can be decoded whole, as in ``RGB 192x128``, and what must be told of it.

    ``turned``: it says that it lies; ``through``: one of its colours is none; ``pages``: others follow it in the file.

    Raises ValueError with what is wrong.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            mode = image.mode
            image.load()  # before its notes are asked for, which reads a PNG to its end and keeps to itself what is wrong
            if mode not in EIGHT_BITS:
                rgb(image)
            flags = {
                "turned": _turned(image),
                "through": mode not in OPACITY and "transparency" in image.info,
                "pages": bool(getattr(image, "is_animated", False)),
            }
            return " ".join([mode, f"{image.width}x{image.height}", *(word for word, there in flags.items() if there)])
    except UnidentifiedImageError as e:
        raise ValueError("is no picture that Pillow reads, or is empty") from e
    except Image.DecompressionBombError as e:
        raise ValueError(f"is larger than Pillow opens ({e}): scale it down") from e
    except Unscaled:
        raise
    except (OSError, *DAMAGED) as e:
        raise ValueError(f"is truncated or damaged ({e})") from e


def _turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ORIENTATION, 1) not in (0, 1)
    except (OSError, *DAMAGED):  # the picture may be whole, whatever its notes are
        return False


def kind() -> str:
    """Names `look` and what it reads with, for `suite.folders.look`."""
    from PIL import __version__

    return f"picture 3, Pillow {__version__}"


def looks(files: Sequence[Path], root: Path) -> list[folders.Look]:
    """What each of a set's pictures below `root` is, remembered; raises UserError that names those that cannot be decoded."""
    return folders.whole(files, root, look, kind(), dear=True)


def told(facts: Iterable[str]) -> list[str]:
    """What must be told beside every result of pictures, by what `look` said of each."""
    modes: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for fact in facts:
        mode, _, *told = fact.split()
        modes[mode] += 1
        flags.update(told)
    deep = sum(n for mode, n in modes.items() if mode not in EIGHT_BITS)
    seen_through = sum(modes[mode] for mode in OPACITY) + flags["through"]
    notes = {
        "pictures of 16 bits that were scaled to 8": deep,
        "pictures with opacity, which was dropped": seen_through,
        "pictures that say that they lie on their side, and were not turned": flags["turned"],
        "files of several pictures, of which the first was taken": flags["pages"],
    }
    return [f"{what}: {n}" for what, n in notes.items() if n]
