"""Small sets in the official formats of FLAME 1, 2 and 3, written into a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

START = datetime(2022, 10, 25, 16, 0, 0)
FOREST, FLAME, SMOKE = (60, 90, 50), (250, 140, 30), (190, 190, 195)


def colours(height: int = 128, width: int = 160, flame: bool = False, smoke: bool = False, seed: int = 0) -> np.ndarray:
    """A picture of forest, with a flame of 20x20 pixels at (10, 10), or filled with smoke; uint8."""
    rng = np.random.default_rng(seed)
    rgb = np.full((height, width, 3), SMOKE if smoke else FOREST, np.int16) + rng.integers(-5, 6, (height, width, 1))
    if flame:
        rgb[10:30, 10:30] = FLAME
    return rgb.astype(np.uint8)


def celsius(height: int = 128, width: int = 160, hot: float = 300.0, seed: int = 0) -> np.ndarray:
    """Degrees around 20, with a hot spot of 20x20 pixels at (10, 10); float32."""
    rng = np.random.default_rng(seed)
    t = rng.normal(20, 3, (height, width))
    t[10:30, 10:30] = hot + rng.normal(0, 2, t[10:30, 10:30].shape)
    return t.astype(np.float32)


def jpeg(path: Path, rgb: np.ndarray, taken: datetime | None = None, positions: bool = False) -> None:
    """A JPEG, with the time that it was taken and a position in its EXIF."""
    exif = Image.Exif()
    if taken:
        exif[306] = taken.strftime("%Y:%m:%d %H:%M:%S")
    if positions:
        exif[34853] = {1: "N", 2: (42.0, 49.0, 12.0), 3: "W", 4: (121.0, 7.0, 3.0)}
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, "JPEG", quality=95, subsampling=0, exif=exif)


def tiff(path: Path, degrees: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(degrees).save(path, "TIFF")


def flame3(root: Path, frames: Iterable[Mapping[str, Any]], shape: tuple[int, int] = (128, 160)) -> Path:
    """The official layout.

    A frame: `number`, `at` (seconds from the start; None: no EXIF), and perhaps `fire` (True), `flame`, `smoke`, `hot`.
    """
    for f in frames:
        fire = f.get("fire", True)
        kind, number = root / ("Fire" if fire else "No Fire"), f"{f['number']:05}"
        taken = None if f["at"] is None else START + timedelta(seconds=f["at"])
        rgb = colours(*shape, flame=f.get("flame", fire), smoke=f.get("smoke", False), seed=f["number"])
        jpeg(kind / "RGB/Corrected FOV" / f"{number}.JPG", rgb, taken)
        tiff(kind / "Thermal/Celsius TIFF" / f"{number}.TIFF", celsius(*shape, f.get("hot", 300.0 if fire else 40.0), f["number"]))
    return root


def flame2(root: Path, lines: Iterable[str], count: int, kinds: Mapping[int, str], side: int = 64) -> Path:
    """The official layout with pictures of `side` pixels; `kinds` XY by frame, YN where it does not tell."""
    (root / "254p RGB Images").mkdir(parents=True)
    (root / "254p Thermal Images").mkdir()
    for i in range(1, count + 1):
        kind = kinds.get(i, "YN")
        jpeg(root / "254p RGB Images" / f"254p RGB Frame ({i}).jpg", colours(side, side, kind == "YN", kind == "YY", i))
        hot = celsius(side, side, 300.0 if kind[0] == "Y" else 60.0, i)
        grey = np.clip((hot - hot.min()) / np.ptp(hot) * 255, 0, 255).astype(np.uint8)
        palette = np.stack([grey, grey // 2, 255 - grey], -1)
        jpeg(root / "254p Thermal Images" / f"254p Thermal Frame ({i}).jpg", palette)
    (root / "#10) Frame Pair Labels.txt").write_text("\n".join(["First\tLast\tFire/Smoke", "frame\tframe\t(Y/N)", *lines, ""]))
    return root


def flame1(root: Path, training: int = 120, test: int = 4, side: int = 64) -> Path:
    """The official layout, so many pictures in each folder."""
    for part, count in (("Training", training), ("Test", test)):
        for kind in ("Fire", "No_Fire"):
            for i in range(count):
                jpeg(root / part / kind / f"resized_frame{i}.jpg", colours(side, side, kind == "Fire", seed=i))
    return root
