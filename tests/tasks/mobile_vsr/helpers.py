"""A problem of the smoke tier with a run in memory, and clips made for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from suite import registry
from suite.protocol import Spec
from tests.helpers import MemoryRun

TASK = registry.task("mobile_vsr")


def spec(**changes: Any) -> Spec:
    """A Spec of the smoke tier."""
    fields = {"tier": "smoke", "division": "closed", "case": "bigbuckbunny/x2", "target": "", "seed": 0}
    return Spec("mobile_vsr", TASK.version, **{**fields, **changes})


def problem(run: MemoryRun | None = None, **changes: Any) -> Any:
    asked = spec(**changes)
    return TASK.problem(asked, run or MemoryRun(asked))


def frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8: smooth shapes that move, under a little noise."""
    draw = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[0:height, 0:width]
    out = np.empty((count, height, width, 3))
    for t in range(count):
        for c in range(3):
            out[t, ..., c] = 128 + 80 * np.sin((x + 3 * t) / (9 + c)) * np.cos((y - 2 * t) / (7 + c))
    return (out + draw.normal(0, 4, out.shape)).clip(0, 255).astype(np.uint8)


def write_clip(path: Path, images: np.ndarray) -> Path:
    """An H.264 file of these frames, its index in front of them."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "10", "threads": "1"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path
