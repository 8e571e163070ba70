"""What plain video does with the same bytes: the high-resolution clip itself, encoded whole.

``python -m tasks.mobile_vsr.reference`` encodes each embedded clip by all of `codec.CODECS`, at the constant rate factors of
`CRFS`, and writes ``reference.toml``; H.265 takes most of its half hour.  A row's bytes are looked up on that curve, linear
between its points in the logarithm of bytes, where others bisect the rate factor anew for each row: the curve is drawn once
and every row of a clip shares it.
"""

from __future__ import annotations

import math
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tasks.mobile_vsr.content import Setting
    from tasks.mobile_vsr.data import Source

FILE = Path(__file__).with_name("reference.toml")
CRFS = (16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46, 49)


@dataclass(frozen=True)
class Curve:
    """Bytes of a whole clip, rising, and the PSNR of its sampled frames at each."""

    clip: str
    size: tuple[int, int]  #: height and width that frames are cropped to
    codec: str
    bytes: tuple[int, ...]
    psnr: tuple[float, ...]

    def at(self, count: float) -> float | None:
        """PSNR at that many bytes; None off the curve's ends."""
        if not self.bytes[0] <= count <= self.bytes[-1]:
            return None
        return float(np.interp(math.log(count), np.log(self.bytes), self.psnr))


@cache
def curves() -> tuple[Curve, ...]:
    """All that ``reference.toml`` holds."""
    if not FILE.is_file():
        return ()
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["curve"]
    return tuple(Curve(c["clip"], (c["size"][0], c["size"][1]), c["codec"], tuple(c["bytes"]), tuple(c["psnr"])) for c in found)


def curve_of(clip: str, pixels: int, codec: str) -> Curve | None:
    """The curve of a clip whose frames have so many pixels; None where none was drawn."""
    return next((c for c in curves() if (c.clip, math.prod(c.size), c.codec) == (clip, pixels, codec)), None)


def draw(source: Source, setting: Setting, size: tuple[int, int], codec: str) -> Curve:
    """Encode the whole clip at each rate factor, decode the sampled frames, and compare them with the originals."""
    from tasks.mobile_vsr import data
    from tasks.mobile_vsr.codec import Encoder, decode
    from tasks.mobile_vsr.quality import decibels

    points = []
    for crf in CRFS:
        encoder = Encoder(codec, *size, source.rate, crf=str(crf))
        originals: list[np.ndarray] = []
        for t, frame in enumerate(source.high()):
            image = data.crop(data.pixels(frame), size, source.name)
            encoder.add(image)
            if t % setting.stride == 0:
                originals.append(image)
        video = encoder.finish()
        wanted = range(0, setting.stride * len(originals), setting.stride)
        played = decode(video.stream, codec, wanted)
        errors = [np.square(a.astype(np.float64) - b).mean() / 255**2 for a, b in zip(played, originals, strict=True)]
        points.append((int(video.sizes.sum()), round(decibels(float(np.mean(errors))), 3)))
    count, psnr = zip(*sorted(points), strict=True)
    return Curve(source.name, size, codec, count, psnr)


def main() -> None:
    """Draw the curves of all embedded clips, in every size that a case of the small tier plays."""
    from suite import registry
    from suite.protocol import Spec
    from tasks.mobile_vsr import data
    from tasks.mobile_vsr.codec import CODECS
    from tasks.mobile_vsr.content import read_case, setting_of

    task = registry.task("mobile_vsr")
    tables, done = [], set()
    for case in task.tiers["small"].cases:
        spec = Spec(task.name, task.version, "small", "closed", case, "", 0)
        parts = read_case(spec)
        source = data.locate(parts.clip, "")
        setting = setting_of(spec, parts, source)
        height, width = data.pixels(next(source.high())).shape[:2]
        size = setting.crop or (height, width)
        if (parts.clip, size) in done:
            continue
        done.add((parts.clip, size))
        for codec in CODECS:
            found = draw(source, setting, size, codec)
            print(f"{found.clip} {size[1]}x{size[0]} {codec}: {found.psnr[0]:.1f} to {found.psnr[-1]:.1f} dB", file=sys.stderr)
            tables.append(
                f'[[curve]]\nclip = "{found.clip}"\nsize = {list(found.size)}\ncodec = "{codec}"\n'
                f"bytes = {list(found.bytes)}\npsnr = {list(found.psnr)}\n"
            )
    head = "# Written by `python -m tasks.mobile_vsr.reference`: the clips themselves, encoded whole, preset medium.\n\n"
    FILE.write_text(head + "\n".join(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
