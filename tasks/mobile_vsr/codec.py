"""What is sent, as bytes: low-resolution video by H.264 and H.265, weights, chunk and split maps."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from suite import folders
from suite.extras import install
from suite.files import atomic
from suite.naming import UserError
from tasks.mobile_vsr import data

#: x264's AVX-512 code encodes frames whose width is no multiple of 16 to other bytes from call to call; its AVX2 code gives the
#: same at every call, and the bytes of both agree at the other widths.
_STEADY = {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else {}
#: One thread each: the number of threads changes the bytes by several per cent, and machines differ in it.
CODECS = {
    "h264": ("libx264", {"threads": "1", **_STEADY}),
    "h265": ("libx265", {"x265-params": "pools=none:frame-threads=1:log-level=none"}),
}
FORMATS = {"h264": "h264", "h265": "hevc"}
PRESET, CRF = "medium", "23"
PRECISIONS = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}


@dataclass(frozen=True)
class Video:
    """An encoded stream: its bytes, and how many of them each frame takes, in display order."""

    stream: bytes
    sizes: np.ndarray  #: (frames,) int64


def check_encoders() -> None:
    """Raise UserError where PyAV or one of its encoders is missing."""
    av = data.library()
    for name, (encoder, _) in CODECS.items():
        if encoder not in av.codecs_available:
            raise UserError(
                f"this PyAV has no {encoder} to encode {name}: install the wheel, which holds it"
                f" ({install('av')} --force-reinstall)"
            )


class Encoder:
    """One stream in the making; frames are (h, w, 3) uint8 RGB, h and w even."""

    def __init__(self, codec: str, height: int, width: int, rate: float, crf: str = CRF) -> None:
        av = data.library()
        check_encoders()
        if height % 2 or width % 2:
            raise UserError(f"a frame of {width}x{height}: 4:2:0 video needs even sizes; crop the clip")
        encoder, options = CODECS[codec]
        self._buffer = io.BytesIO()
        self._container = av.open(self._buffer, "w", format=FORMATS[codec])
        self._stream = self._container.add_stream(encoder, rate=Fraction(rate).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"preset": PRESET, "crf": crf, **options}
        self._packets: list[tuple[int, int]] = []
        self._frames = 0

    def add(self, image: np.ndarray) -> None:
        frame = data.library().VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self._frames
        self._frames += 1
        self._write(frame)

    def finish(self) -> Video:
        self._write(None)
        self._container.close()
        self._packets.sort()
        return Video(self._buffer.getvalue(), np.array([size for _, size in self._packets], np.int64))

    def _write(self, frame: object) -> None:
        for packet in self._stream.encode(frame):
            self._packets.append((packet.pts, packet.size))
            self._container.mux(packet)


def encode(frames: Iterable[np.ndarray], codec: str, rate: float = 30.0) -> Video:
    """Encode frames (h, w, 3) uint8: preset medium, CRF 23, yuv420p, the codec's own group of pictures."""
    encoder: Encoder | None = None
    for image in frames:
        encoder = encoder or Encoder(codec, image.shape[0], image.shape[1], rate)
        encoder.add(image)
    if encoder is None:
        raise UserError("no frames to encode; give at least one")
    return encoder.finish()


def decode(stream: bytes, codec: str, wanted: Collection[int] | None = None) -> Iterator[np.ndarray]:
    """Frames of an encoded stream, (h, w, 3) uint8 RGB, in display order; only those whose numbers are wanted, if any are named."""
    with data.library().open(io.BytesIO(stream), format=FORMATS[codec]) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for t, frame in enumerate(container.decode(video=0)):
            if wanted is None or t in wanted:
                yield data.pixels(frame)


def low_streams(source: data.Source, scale: int, size: tuple[int, int]) -> dict[str, Video]:
    """The whole clip at 1/scale, encoded once by each codec; kept in a cache folder, since every run sends the same.

    Args:
        size: height and width that high-resolution frames are cropped to.

    The folder is WEIGHIN_CACHE, else weighin in XDG_CACHE_HOME or ~/.cache; what is read from it is held to its digest.
    """
    check_encoders()
    versions = [f"{n} {v}" for n, v in sorted(data.library().library_versions.items())]
    asked = [data.READER, data.digest(source), source.rate, scale, size, CODECS, PRESET, CRF, versions]
    key = hashlib.sha256(repr(asked).encode()).hexdigest()[:24]
    file = folders.cache() / f"{source.name}-x{scale}-{key}.npz"
    found = _read(file)
    if found is None:
        encoders = {c: Encoder(c, size[0] // scale, size[1] // scale, source.rate) for c in CODECS}
        for t, frame in enumerate(source.high()):
            high = data.crop(data.pixels(frame), size, source.name)
            low = data.low_resolution(source, t, high, scale)
            for encoder in encoders.values():
                encoder.add(low)
        found = {c: e.finish() for c, e in encoders.items()}
        _write(file, found)
    return found


def _read(file: Path) -> dict[str, Video] | None:
    """Streams of a cache file; None where it is absent or not whole."""
    try:
        with np.load(file, allow_pickle=False) as z:
            arrays = dict(z)
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile):
        return None
    if str(arrays.pop("digest", "")) != _digest(arrays):
        return None
    return {c: Video(arrays[f"{c}_stream"].tobytes(), arrays[f"{c}_sizes"]) for c in CODECS}


def _write(file: Path, videos: dict[str, Video]) -> None:
    arrays = {}
    for codec, video in videos.items():
        arrays |= {f"{codec}_stream": np.frombuffer(video.stream, np.uint8), f"{codec}_sizes": video.sizes}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file) as scratch, scratch.open("wb") as f:
            np.savez(f, digest=np.array(_digest(arrays)), **arrays)
    except OSError as e:
        raise UserError(f"cannot write {file}: {e.strerror}; set WEIGHIN_CACHE to a folder that can be written") from e


def _digest(arrays: dict[str, np.ndarray]) -> str:
    sums = [f"{k} {hashlib.sha256(v.tobytes()).hexdigest()}" for k, v in sorted(arrays.items())]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


# -- weights


def pack_weights(tensors: Iterable[torch.Tensor], precision: str) -> bytes:
    """Values one after the other, little-endian, 4 bytes (fp32) or 2 (fp16) each."""
    kind = PRECISIONS[precision]
    return b"".join(t.detach().cpu().numpy().astype(kind).tobytes() for t in tensors)


def unpack_weights(content: bytes, like: Sequence[torch.Tensor], precision: str) -> list[torch.Tensor]:
    """Tensors of the shapes of `like`, fp32; raises UserError where the bytes are too few or too many."""
    kind = PRECISIONS[precision]
    sizes = [t.numel() for t in like]
    if len(content) != sum(sizes) * kind.itemsize:
        raise UserError(f"a model file of {len(content)} bytes, {sum(sizes) * kind.itemsize} expected; the stream is damaged")
    values = torch.from_numpy(np.frombuffer(content, kind).astype(np.float32))
    return [v.view(t.shape) for v, t in zip(values.split(sizes), like, strict=True)]


def pack_bits(values: np.ndarray, width: int) -> bytes:
    """Whole numbers from 0, `width` bits each, highest bit first, the last byte filled with zeros."""
    if not width:
        return b""
    bits = (values.astype(np.int64).ravel()[:, None] >> np.arange(width - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def unpack_bits(content: bytes, count: int, width: int) -> np.ndarray:
    """What `pack_bits` packed: (count,) int64."""
    if not width:
        return np.zeros(count, np.int64)
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=count * width).reshape(count, width)
    return np.asarray(bits.astype(np.int64) @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64)))


def bits_for(kinds: int) -> int:
    """Bits that tell `kinds` things apart."""
    return max(0, kinds - 1).bit_length()


def pack_delta(index: torch.Tensor, values: torch.Tensor, total: int, precision: str) -> bytes:
    """Some of `total` weights: their indices in ceil(log2 total) bits each, then their values (EMT)."""
    return pack_bits(index.cpu().numpy(), bits_for(total)) + pack_weights([values], precision)


def unpack_delta(content: bytes, total: int, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and values that `pack_delta` packed; how many follows from the length."""
    width, size = bits_for(total), PRECISIONS[precision].itemsize
    count = len(content) * 8 // (width + 8 * size)
    while (count * width + 7) // 8 + count * size > len(content):
        count -= 1
    packed = (count * width + 7) // 8
    if packed + count * size != len(content):
        raise UserError(f"a weight update of {len(content)} bytes has no whole number of weights; the stream is damaged")
    index = torch.from_numpy(unpack_bits(content[:packed], count, width))
    return index, torch.from_numpy(np.frombuffer(content[packed:], PRECISIONS[precision]).astype(np.float32))


# -- maps


def pack_map(values: np.ndarray, kinds: int) -> tuple[bytes, str]:
    """A map (frames, cells) of numbers below `kinds`, the shorter of two codings, and which.

    ``raw``: ceil(log2 kinds) bits a cell.  ``zlib``: level 9 over one byte a cell, the difference to the same cell of the
    frame before, modulo `kinds`, the first frame against 0.
    """
    raw = pack_bits(values, bits_for(kinds))
    before = np.concatenate([np.zeros_like(values[:1]), values[:-1]])
    squeezed = zlib.compress(((values.astype(np.int64) - before) % kinds).astype(np.uint8).tobytes(), 9)
    return (raw, "raw") if len(raw) <= len(squeezed) else (squeezed, "zlib")


def unpack_map(content: bytes, coding: str, shape: tuple[int, int], kinds: int) -> np.ndarray:
    """What `pack_map` packed: (frames, cells) int64."""
    if coding == "raw":
        return unpack_bits(content, shape[0] * shape[1], bits_for(kinds)).reshape(shape)
    steps = np.frombuffer(zlib.decompress(content), np.uint8).reshape(shape).astype(np.int64)
    return np.asarray(steps.cumsum(0) % kinds)
