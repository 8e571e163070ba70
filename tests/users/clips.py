"""Small odd clips that real users have: `make(KIND, DIR)` writes DIR/clip.<ending>, or a folder DIR/clip of PNG."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import numpy as np
from PIL import Image

HEIGHT, WIDTH, COUNT = 128, 192, 12


def frames(count=COUNT, height=HEIGHT, width=WIDTH, seed=0):
    """Smooth shapes that move, under a little noise; a white block counts the frame in binary at the top."""
    draw = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[0:height, 0:width]
    for t in range(count):
        image = np.empty((height, width, 3))
        for c in range(3):
            image[..., c] = 128 + 90 * np.sin((x + 6 * t) / (9 + 4 * c)) * np.cos((y - 4 * t) / (7 + 3 * c))
        image = (image + draw.normal(0, 2, image.shape)).clip(0, 255)
        for bit in range(5):
            image[:16, 16 * bit : 16 * bit + 16] = 235 if t >> bit & 1 else 16
        yield image.astype(np.uint8)


def encode(path, images, codec="libx264", fmt="yuv420p", rate=25, options=None, times=None, container=None, tweak=None, base=None):
    with av.open(str(path), "w", options=container or {}) as out:
        stream = None
        for t, image in enumerate(images):
            if stream is None:
                stream = out.add_stream(codec, rate=rate)
                stream.height, stream.width, stream.pix_fmt = image.shape[0], image.shape[1], fmt
                stream.options = (
                    {"threads": "1"} | ({"crf": "8", "preset": "ultrafast"} if codec == "libx264" else {}) | (options or {})
                )
                if base:
                    stream.time_base = stream.codec_context.time_base = base
                if tweak:
                    tweak(stream)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[t], base
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return path


def boxes(data):
    at = 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        yield name, data[at : at + size]
        at += size


def cover_first(folder):
    """What tag editors write: a picture of the film in the file's tags, in front of its tracks."""
    file = encode(folder / "clip.mp4", frames(), container={"movflags": "faststart"})
    stream = io.BytesIO()
    Image.new("RGB", (600, 600), (200, 20, 20)).save(stream, "JPEG")
    jpeg = stream.getvalue()
    box = lambda name, body: struct.pack(">I4s", 8 + len(body), name) + body  # noqa: E731
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    covr = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + jpeg))
    udta = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", covr)))
    data = file.read_bytes()
    parts = list(boxes(data))
    old = next(body for name, body in parts if name == b"moov")
    inner = [body for name, body in boxes(old[8:]) if name != b"udta"]
    new = box(b"moov", inner[0] + udta + b"".join(inner[1:]))
    # sample offsets move by as much as the box grows
    shift, at = len(new) - len(old), new.index(b"stco") + 8
    number = struct.unpack(">I", new[at : at + 4])[0]
    places = struct.unpack(f">{number}I", new[at + 4 : at + 4 + 4 * number])
    new = new[: at + 4] + struct.pack(f">{number}I", *(p + shift for p in places)) + new[at + 4 + 4 * number :]
    file.write_bytes(b"".join(new if name == b"moov" else body for name, body in parts))


def grows(folder):
    """What a call over the network records: small pictures first, larger ones when the line allows (each half starts at a key)."""
    halves = []
    for size in ((HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH)):
        part = folder / f".half{size[0]}.webm"
        encode(
            part, frames(6, *size), codec="libvpx", options={"deadline": "realtime", "lag-in-frames": "0", "crf": "4", "b:v": "4M"}
        )
        halves.append(part)
    with av.open(str(folder / "clip.webm"), "w") as out:
        stream = None
        for k, half in enumerate(halves):
            with av.open(str(half)) as source:
                track = source.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(track)
                for packet in source.demux(track):
                    if packet.size:
                        packet.pts += k * 6 * 40
                        packet.dts = packet.pts
                        packet.stream = stream
                        out.mux(packet)
    for half in halves:
        half.unlink()


def vp8_altref(folder):
    """Packets that are decoded and never shown, as VP8's alternate references are: every eighth, here by its bit."""
    options = {"deadline": "realtime", "lag-in-frames": "0", "crf": "6", "b:v": "2M"}
    whole = encode(folder / ".whole.webm", frames(16), codec="libvpx", options=options)
    with av.open(str(whole)) as source, av.open(str(folder / "clip.webm"), "w") as out:
        track = source.streams.video[0]
        stream = out.add_stream_from_template(track)
        for k, packet in enumerate(p for p in source.demux(track) if p.size):
            data = bytearray(bytes(packet))
            if k % 8 == 7:
                data[0] &= 0xEF  # show_frame
            fresh = av.Packet(bytes(data))
            fresh.pts, fresh.dts, fresh.time_base, fresh.is_keyframe = packet.pts, packet.dts, packet.time_base, packet.is_keyframe
            fresh.stream = stream
            out.mux(fresh)
    whole.unlink()


def avi_drops(folder):
    """A capture that could not keep up: some pictures are empty chunks, which say `the same again`."""
    base = Fraction(1, 25)
    times = [t if t < 6 else t + 3 for t in range(COUNT)]
    encode(folder / "clip.avi", frames(), codec="mpeg4", options={"qscale": "3"}, times=times, base=base)


def rotated(folder):
    """A phone held upright: pictures lie on their side, the track's matrix says by how much."""
    file = encode(folder / "clip.mp4", frames())
    data = bytearray(file.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)


def flagged(folder, matrix, full, fmt="yuv420p", depth=8):
    """Planes made by a stated matrix and range, and marked so; `clip.npy` holds what they stand for."""
    kr, kb = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114), "bt2020": (0.2627, 0.0593)}[matrix]
    spaces = {"bt709": 1, "bt601": 6, "bt2020": 9}
    true = []
    with av.open(str(folder / "clip.mkv"), "w") as out:
        stream = out.add_stream("libx264" if depth == 8 else "libx265", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, fmt
        stream.options = (
            {"crf": "1", "preset": "ultrafast", "threads": "1"}
            if depth == 8
            else {"x265-params": "crf=1:pools=none:log-level=none"}
        )
        context = stream.codec_context
        context.colorspace, context.color_range = spaces[matrix], 2 if full else 1
        context.color_primaries = context.color_trc = {"bt709": 1, "bt601": 6, "bt2020": 9}[matrix] if matrix != "bt2020" else 1
        for t in range(COUNT):
            rgb = np.zeros((HEIGHT, WIDTH, 3))
            for k, colour in enumerate(
                ((200, 40, 40), (40, 180, 60), (50, 60, 200), (128, 128, 128), (230, 220, 40), (250, 250, 250))
            ):
                rgb[:, 32 * k : 32 * k + 32] = colour
            rgb = (rgb + t).clip(0, 255)
            r, g, b = (rgb[..., c] / 255 for c in range(3))
            y = kr * r + (1 - kr - kb) * g + kb * b
            u, v = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
            top = 2**depth - 1
            k = 2 ** (depth - 8)
            if full:
                y, u, v = top * y, top * u + 128 * k, top * v + 128 * k
            else:
                y, u, v = (16 + 219 * y) * k, (128 + 224 * u) * k, (128 + 224 * v) * k
            kind = np.uint8 if depth == 8 else np.dtype("<u2")
            planes = [x.round().clip(0, top).astype(kind) for x in (y, u[::2, ::2], v[::2, ::2])]
            flat = np.concatenate([p.reshape(-1, WIDTH) for p in planes])
            if depth == 8:
                frame = av.VideoFrame.from_ndarray(flat, format=fmt)
            else:
                frame = av.VideoFrame(WIDTH, HEIGHT, fmt)
                for plane, values in zip(frame.planes, planes, strict=True):
                    rows = np.zeros((values.shape[0], plane.line_size), np.uint8)
                    rows[:, : 2 * values.shape[1]] = values.view(np.uint8)
                    plane.update(rows.tobytes())
            frame.colorspace, frame.color_range = spaces[matrix], 2 if full else 1
            true.append(rgb.round().astype(np.uint8))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    np.save(folder / "clip.npy", np.stack(true))


def remuxed(folder, name, drop=0, container=None):
    """A cut without encoding again: the first `drop` packets are gone."""
    whole = encode(
        folder / ".whole.mp4", frames(24), options={"g": "12", "bf": "2", "preset": "veryfast", "x264-params": "open-gop=1"}
    )
    with av.open(str(whole)) as source, av.open(str(folder / name), "w", options=container or {}) as out:
        track = source.streams.video[0]
        stream = out.add_stream_from_template(track)
        for k, packet in enumerate(source.demux(track)):
            if packet.size and k >= drop:
                packet.stream = stream
                out.mux(packet)
    whole.unlink()


def edit_list(folder):
    """Starts four frames into its first group: the players are told to hide them (an edit list)."""
    file = encode(folder / "clip.mp4", frames(24), options={"g": "12", "bf": "0"}, container={"movflags": "faststart"})
    data = bytearray(file.read_bytes())
    at = data.index(b"elst") + 8
    length, _ = struct.unpack(">II", data[at + 4 : at + 12])
    scale = struct.unpack(">I", data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20])[0]
    data[at + 4 : at + 12] = struct.pack(">II", length - 160, 4 * scale // 25)
    file.write_bytes(data)


def folder_of(folder, kind):
    place = folder / "clip"
    place.mkdir()
    for t, image in enumerate(frames(seed=1 if kind == "png_stored_b" else 0)):
        file = place / f"{t + 1:05d}.png"
        if kind == "png_unpadded":
            Image.fromarray(image).save(place / f"frame_{t + 1}.png")
        elif kind == "png_grey16":
            Image.fromarray(image[..., 1].astype(np.uint16) * 257).save(file)
        elif kind == "png_alpha":
            Image.fromarray(np.dstack([image, np.full(image.shape[:2], 128, np.uint8)])).save(file)
        elif kind == "png_grows" and t >= 6:
            Image.fromarray(image).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC).save(file)
        elif kind == "png_upper" and t >= 6:
            Image.fromarray(image).save(file.with_suffix(".PNG"))
        elif kind.startswith("png_stored"):
            Image.fromarray(image).save(file, compress_level=0)
        else:
            Image.fromarray(image).save(file)
        if kind == "png_appledouble":
            (place / f"._{file.name}").write_bytes(b"\0\5\x16\7" + bytes(100))


def make(kind, folder):
    folder.mkdir(parents=True, exist_ok=True)
    if kind.startswith("png"):
        folder_of(folder, kind)
    elif kind in ("cover_first", "grows", "avi_drops", "rotated", "edit_list"):
        globals()[kind](folder)
    elif kind == "plain":
        encode(folder / "clip.mp4", frames())
    elif kind == "one_frame":
        encode(folder / "clip.mp4", frames(1))
    elif kind == "vp8_altref":
        vp8_altref(folder)
    elif kind == "vfr":
        base = Fraction(1, 1000)
        times, now = [], 0
        for t in range(COUNT):
            times.append(now)
            now += 33 if t < 6 else 400
        encode(folder / "clip.mkv", frames(), times=times, base=base)
    elif kind == "full_range":
        flagged(folder, "bt601", full=True, fmt="yuv420p")
    elif kind == "full_709":
        flagged(folder, "bt709", full=True)
    elif kind == "bt709":
        flagged(folder, "bt709", full=False)
    elif kind == "ten_bit":
        flagged(folder, "bt2020", full=False, fmt="yuv420p10le", depth=10)
    elif kind == "no_first_key":
        remuxed(folder, "clip.mkv", drop=4)
    else:
        raise ValueError(f"no kind {kind!r}")
