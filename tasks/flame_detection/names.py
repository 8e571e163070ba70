"""Names of the sets as cases say them, and the shapes that the speed division knows without their files."""

from __future__ import annotations

import re

EMBEDDED = ("synthetic", "flame3_scenes")  #: shipped, and of the small tier
NAMES = (*EMBEDDED, "flame3", "flame2", "flame1")  #: others are sets of one's own
#: pixels of a patch's side, patches of a frame down and across
SHAPES = {
    "synthetic": (24, (3, 4)),
    "flame3_scenes": (64, (8, 10)),
    "flame3": (64, (8, 10)),
    "flame2": (32, (7, 7)),
    "flame1": (32, (7, 7)),
}
_EVERY = re.compile(r"(.+)_every([1-9]\d*)")


def parted(name: str) -> tuple[str, int]:
    """A set's name, and which of its frames are taken: ``flame2_every30`` is every 30th of flame2."""
    match = _EVERY.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 1)
