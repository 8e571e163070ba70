"""Small pictures in a bundle: WebP without loss, so that what is looked at is what a method put out, pixel for pixel.

They are a stranger's files like all of a bundle: the container is taken apart by hand, and no decoder sees more pixels
than a picture may have.  Nothing ranks by them and only a replay can confirm them.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}(\.original)?\.webp")
ORIGINAL = ".original"  #: ends the name of the crop that a method's is compared with
MOST = 4  #: of one bundle
MOST_PIXELS, LONGEST = 65_536, 1_024  #: of one picture, and of one of its sides; a task may bound its own tighter
MOST_BYTES = 200_000  #: of one picture; noise of that size, which nothing can pack, takes 199,200
_HEAD = 25  #: bytes of the container and of the stream's own header


def encode(pixels: np.ndarray, most: tuple[int, int] = (LONGEST, LONGEST)) -> bytes:
    """(H, W, 3) uint8 as WebP without loss; raises ValueError on anything else, and on more than `most` columns and rows."""
    import numpy as np
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"a picture is uint8 of shape (H, W, 3), not {pixels.dtype} of {pixels.shape}")
    _bounds(pixels.shape[1], pixels.shape[0], most)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "WEBP", lossless=True, quality=75, method=4)
    return out.getvalue()


def size(data: bytes, most: tuple[int, int] = (LONGEST, LONGEST)) -> tuple[int, int]:
    """Width and height of a picture that holds one stream of pixels and nothing else; raises ValueError.

    Also where it has more than `most` columns and rows, or more pixels than any picture may have.

    No metadata, colour profile, transparency or animation, nothing after the end (RFC 9649).
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes, over the {MOST_BYTES:,} allowed")
    if len(data) < _HEAD or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or data[20] != 0x2F:
        raise ValueError("is not WebP without loss")
    outer, inner = (int.from_bytes(data[at : at + 4], "little") for at in (4, 16))
    if outer + 8 != len(data) or 20 + inner + inner % 2 != len(data):
        raise ValueError("holds more, or less, than one picture")
    head = int.from_bytes(data[21:25], "little")
    width, height, rest = 1 + (head & 0x3FFF), 1 + (head >> 14 & 0x3FFF), head >> 28
    if rest:
        raise ValueError("has transparency, or is of an unknown version")
    _bounds(width, height, most)
    return width, height


def decode(data: bytes, most: tuple[int, int] = (LONGEST, LONGEST)) -> np.ndarray:
    """(H, W, 3) uint8; raises ValueError on what `size` refuses, and on what cannot be decoded."""
    import numpy as np
    from PIL import Image

    width, height = size(data, most)
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError) as e:  # what Pillow raises on torn files
        raise ValueError("cannot be decoded") from e
    if pixels.shape != (height, width, 3):
        raise ValueError("decodes to another size than it says")
    return pixels


def fingerprint(pixels: np.ndarray) -> str:
    """SHA-256 of a picture's pixels: of what is seen, however it was packed."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _bounds(width: int, height: int, most: tuple[int, int]) -> None:
    if not (0 < width <= most[0] and 0 < height <= most[1]):
        raise ValueError(f"{width}x{height} pixels, over the {most[0]}x{most[1]} allowed")
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width}x{height} pixels, over the {MOST_PIXELS:,} allowed")
