"""Films in users' files: which stream is the film, and how many pictures of what size it holds.

Pictures are counted, not packets: some of these are decoded and never shown (VP8's alternate references), others only say that
nothing has changed (a capture that could not keep up), and what a cut hides is in none of the numbers that a file tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suite import extras, folders
from suite.naming import UserError

ENDINGS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".y4m", ".m4v", ".ts", ".mts", ".mpg", ".wmv")
HDR = (16, 18)  #: transfer characteristics of ITU-T H.273: SMPTE ST 2084 and ARIB STD-B67
SLACK = 0.02  #: of a film's length by which the moments of its pictures may miss it
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
KEYLESS = (
    "begins without a key frame, so that its first pictures cannot be decoded; cut it at a key frame, or encode it again from"
    " the whole"
)


@dataclass(frozen=True)
class Film:
    """What was seen of a film whose every picture was decoded once."""

    count: int  #: pictures that are shown
    rate: float  #: pictures a second
    size: tuple[int, int]  #: width and height of the first, as it is stored
    turns: int = 0  #: quarter turns against the clock that make it upright
    streams: int = 1  #: of pictures in the file, covers among them
    grows: str = ""  #: which picture is the first of another size; empty: none
    broken: str = ""  #: what is wrong behind the last picture, and what to do; empty: nothing
    short: str = ""  #: how long the file says that it is, where its pictures end long before; empty: they do not
    notes: tuple[str, ...] = ()  #: what is lost where its pictures are made into 8 bits of red, green and blue


def film(path: Path, what: str = "video") -> Film:
    """A film, looked at once and remembered.

    Args:
        what: for what PyAV is needed, where it is missing.

    Raises UserError where not one picture can be decoded, or PyAV is not installed.
    """
    av = extras.need("av", what)
    seen = folders.look([path], look, f"film 2, PyAV {av.__version__}", dear=True)[0]
    if seen.problem:
        raise UserError(f"{path}: {seen.problem}")
    facts = json.loads(seen.facts)
    return Film(**{**facts, "size": tuple(facts["size"]), "notes": tuple(facts["notes"])})


def look(path: Path) -> str:
    """A `Film` as JSON; raises ValueError with what is wrong where it has no picture."""
    import av

    count, packets, said, streams, turned = 0, 0, 0, 1, 0
    lasts, rate, moments = 0.0, 30.0, list[float | None]()
    size: tuple[int, int] | None = None
    first: bool | None = None  # whether the first packet is a key frame
    grows = broken = damaged = ""
    notes: tuple[str, ...] = ()
    try:
        with opened(path) as (container, stream):
            said, rate, streams = _said(container, stream), float(stream.average_rate or 30), len(container.streams.video)
            lasts = _length(container, stream)
            for packet in container.demux(stream):
                packets += packet.size > 0
                # AVI's table counts empty chunks too, which say `the same again` and are not handed out
                if container.format.name == "avi" and packet.dts is not None:
                    packets = packet.dts + 1
                if packet.size and first is None:
                    first = packet.is_keyframe
                for frame in packet.decode():
                    count += 1
                    moments.append(frame.time)
                    if frame.is_corrupt and not damaged:
                        damaged = f"picture {count} is damaged; copy the file again"
                    new = (frame.width, frame.height)
                    if size is None:
                        size, turned, notes = new, turns(frame), _lost(frame)
                    if new != size and not grows:
                        grows = f"picture {count} is {new[0]}x{new[1]}, those before are {size[0]}x{size[1]}"
    except av.error.FFmpegError as e:
        what = f"picture {count + 1} cannot be decoded" if packets else "not a whole video"
        broken = f"{what} ({e.strerror}); it may be truncated: copy it again"
    if packets < said and not broken:
        broken = f"{packets} of {said} frames are there; the file is truncated: copy it again"
    broken = KEYLESS if first is False else broken or damaged
    if size is None:
        raise ValueError(broken or "no frames; give a video with at least one")
    known = [m for m in moments if m is not None]
    shown = max(known) - min(known) if len(known) == count else count / rate
    # a table of its pictures says better than a length whether any is missing
    short = (
        f"says that it lasts {lasts:.2f} s, and its pictures last {shown:.2f} s"
        if not said and lasts > shown + SLACK * lasts + 2 / rate
        else ""
    )
    return json.dumps(asdict(Film(count, rate, size, turned, streams, grows, broken, short, notes)))


def _lost(frame: Any) -> tuple[str, ...]:
    """What is lost where such a frame is made into 8 bits of red, green and blue."""
    bits = max(c.bits for c in frame.format.components)
    told = {
        f"pictures of {bits} bits, which were made into 8": bits > 8,
        "interlaced pictures, whose two moments were left in one": bool(frame.interlaced_frame),
        "pictures of high dynamic range, which were taken for those of the standard one": getattr(frame, "color_trc", 0) in HDR,
    }
    return tuple(what for what, there in told.items() if there)


def _said(container: Any, stream: Any) -> int:
    """Packets that the file has by its own table; 0 where it has none.  MP4's header counts what an edit list hides for good."""
    listed = len(stream.index_entries) if "mp4" in container.format.name else 0
    return listed or int(stream.frames)


def _length(container: Any, stream: Any) -> float:
    """Seconds that a film lasts by the file's own word; 0 where it has none.  Sound may last longer than the pictures."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # what follows is told from a clock's zero, where a camera may begin hours later
    begins = float((stream.start_time or 0) * stream.time_base)
    if told := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # as Matroska's writers put it
        hours, minutes, seconds = map(float, told.groups())
        return 3600 * hours + 60 * minutes + seconds - begins
    return container.duration / 1e6 if container.duration and len(container.streams) == 1 else 0.0


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file with its film, to be decoded within by one thread; raises ValueError where it has none that can be decoded."""
    import av
    from av.stream import Disposition

    with av.open(str(path)) as container:
        stream = next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)
        if stream is None:
            raise ValueError("no frames; it holds no video stream")
        if stream.codec_context is None:
            raise ValueError("this build of PyAV has no decoder for it; convert the clip to H.264")
        stream.codec_context.thread_count = 1  # decoding threads can deadlock where a clip is not read to its end
        yield container, stream


def turns(frame: Any) -> int:
    """Quarter turns against the clock that make a decoded frame upright."""
    return round(frame.rotation / 90) % 4
