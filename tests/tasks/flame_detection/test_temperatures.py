"""Degrees: what is read and refused, where a camera's range ends, masks against the golden vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from suite.naming import UserError
from tasks.flame_detection import temperatures
from tasks.flame_detection.data import SCENES
from tasks.flame_detection.temperatures import Limits
from tests.helpers import golden
from tests.tasks.flame_detection import sets


def test_degrees_are_read_as_they_are(tmp_path: Path) -> None:
    degrees = sets.celsius(40, 60, 608.7)
    for name, more in (("raw", {}), ("deflated", {"compression": "tiff_adobe_deflate"}), ("lzw", {"compression": "tiff_lzw"})):
        Image.fromarray(degrees).save(tmp_path / f"{name}.tiff", **more)
        found = temperatures.read(tmp_path / f"{name}.tiff", (40, 60))
        assert found.dtype == np.float32
        assert np.array_equal(found, degrees)
    # Pillow's way to 8 bits would have cut these
    assert found.max() > 600
    assert np.asarray(Image.open(tmp_path / "raw.tiff").convert("L")).max() == 255


def refused(path: Path, size: tuple[int, int] | None = None) -> str:
    with pytest.raises(UserError) as e:
        temperatures.read(path, size)
    text = str(e.value)
    assert text.startswith((f"{path}: ", f"no {path}: "))
    assert "\n" not in text
    return text


def test_a_tiff_of_integers_is_refused(tmp_path: Path) -> None:
    kinds = {"16-bit integers": np.uint16, "32-bit integers": np.int32, "8-bit grey": np.uint8}
    for words, kind in kinds.items():
        Image.fromarray(sets.celsius(8, 8).clip(0).astype(kind)).save(tmp_path / "t.tiff")
        assert f"holds {words}, not temperatures; float32 degrees Celsius in one channel are expected" in refused(
            tmp_path / "t.tiff"
        )
    Image.fromarray(sets.colours(8, 8)).save(tmp_path / "t.tiff")
    assert "8-bit colours" in refused(tmp_path / "t.tiff")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.tiff"
    assert "TIFF" in refused(path)
    path.write_bytes(b"")
    assert "no TIFF that Pillow reads (float64 is none), or it is empty" in refused(path)
    path.write_bytes(b"not a picture at all")
    refused(path)
    Image.fromarray(sets.colours(8, 8)).save(path, "JPEG")
    assert "a JPEG, not a TIFF" in refused(path)
    first = Image.fromarray(sets.celsius(8, 8))
    first.save(path, save_all=True, append_images=[first])
    assert "holds 2 pictures" in refused(path)


@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate"])
def test_a_truncated_tiff_is_refused(tmp_path: Path, compression: str) -> None:
    whole, path = tmp_path / "whole.tiff", tmp_path / "t.tiff"
    Image.fromarray(sets.celsius(80, 80)).save(whole, compression=compression)
    content = whole.read_bytes()
    for kept in (len(content) // 2, len(content) - 200):
        path.write_bytes(content[:kept])
        assert "get it again" in refused(path) or "no TIFF that Pillow reads" in refused(path)


def test_another_size_and_values_that_are_no_degrees_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.tiff"
    degrees = sets.celsius(40, 60)
    sets.tiff(path, degrees)
    assert refused(path, (512, 640)).endswith("60x40 pixels, 640x512 are expected")
    for value, words in ((np.nan, "1 of 2400 pixels"), (np.inf, "1 of 2400"), (-300, "no degrees Celsius"), (30_000, "raw counts")):
        wrong = degrees.copy()
        wrong[3, 4] = value
        sets.tiff(path, wrong)
        assert words in refused(path)


def test_a_range_ends_where_pixels_pile_up() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.normal(100, 50, (64, 64)).astype(np.float32)
    assert temperatures.limits(smooth) == Limits(None, None)
    assert temperatures.limits(smooth.clip(max=150)) == Limits(None, 150)
    assert temperatures.limits(smooth.clip(40, 150)) == Limits(40, 150)
    # whole degrees: many pixels at each value, the fewest at the ends
    assert temperatures.limits(np.round(smooth)) == Limits(None, None)
    assert temperatures.limits(np.full((4, 4), 20, np.float32)) == Limits(None, None)  # nothing to compare with
    assert str(Limits(None, 500)) == "above at 500.0"
    assert str(Limits(-40.6, 187.4)) == "below at -40.6 and above at 187.4"
    assert str(Limits(None, None)) == "nowhere"


@pytest.mark.parametrize(
    ("scene", "least", "largest", "low", "high"),
    [
        ("Sycan/TIFF/00006", -40.559, 187.424, -40.559, 187.424),
        ("Sycan/TIFF/00007", -22.789, 475.902, -22.789, None),
        ("Sycan/TIFF/00008", -22.789, 595.882, None, None),
        ("Wilamette/TIFF/00001", 14.301, 500.0, None, 500.0),
    ],
)
def test_the_scenes_ranges(scene: str, least: float, largest: float, low: float | None, high: float | None) -> None:
    degrees = temperatures.read(SCENES / f"{scene}.TIFF", (512, 640))
    assert [degrees.min(), degrees.max()] == pytest.approx([least, largest], abs=1e-3)
    found = temperatures.limits(degrees)
    for limit, expected in ((found.low, low), (found.high, high)):
        assert limit == (None if expected is None else pytest.approx(expected, abs=1e-3))


@pytest.mark.parametrize("change", [lambda t: t + 273.15, lambda t: (t - t.min()) / np.ptp(t), lambda t: 0 * t + 21])
def test_kelvins_scaled_pictures_and_constant_ones_are_no_degrees(tmp_path: Path, change: Any) -> None:
    degrees = temperatures.read(SCENES / "Sycan/TIFF/00007.TIFF")
    Image.fromarray(change(degrees).astype(np.float32)).save(tmp_path / "t.tiff")
    assert "t.tiff: " in refused(tmp_path / "t.tiff")


def test_nobody_knows_what_is_hotter_than_the_camera_can_tell() -> None:
    highest = np.array([20, 100, 187.2, 187.4, 187.4], np.float32)
    limit = float(highest[-1])
    assert temperatures.truth(highest, 80, limit).tolist() == [0, 1, 1, 1, 1]
    assert temperatures.truth(highest, 200, limit).tolist() == [0, 0, 0, -1, -1]
    assert temperatures.truth(highest, 200, None).tolist() == [0] * 5
    assert temperatures.truth(np.array([500.0]), 200, 500.0).tolist() == [1]


def test_otsu_is_the_originals() -> None:
    """Golden vectors: threshold and mask of the FLAME 3 utilities, exact."""
    z = golden("flame_baselines_flame3_otsu")
    found = [temperatures.otsu(t) for t in z["tiff"]]
    assert found == z["threshold"].tolist()
    masks = np.stack([t > at for t, at in zip(z["tiff"], found, strict=True)])
    assert np.array_equal(np.packbits(masks), z["mask"])
    assert tuple(z["shape"]) == masks.shape


def test_otsus_edges() -> None:
    # the lowest threshold on ties: every one from 10 to 99 parts them alike
    assert temperatures.otsu(np.array([[10.0, 100.0]])) == 10
    # pixels outside 0 .. 256 do not move it, though the mask is of all pixels
    assert temperatures.otsu(np.array([[10.0, 100.0, -40.0, 600.0, 257.0]])) == 10
    # 255.6 rounds to 256, which the last bin holds
    assert temperatures.otsu(np.array([[10.0, 255.6]])) == 10
    # rounded half to even: 10.5 is 10
    assert temperatures.otsu(np.array([[10.5, 100.0]])) == 10
    assert temperatures.otsu(np.array([[20.0, 20.0]])) == 0
    assert temperatures.otsu(np.array([[-5.0, 600.0]])) == 0


def test_hysteresis_keeps_regions_with_a_hot_pixel() -> None:
    degrees = np.full((9, 9), 20.0, np.float32)
    degrees[1, 1:4] = 60
    degrees[2, 4] = 150  # touches them at a corner
    degrees[6, 1:4] = 149.9  # never hot enough
    degrees[8, 8] = 400
    found = temperatures.hysteresis(degrees)
    assert sorted(map(tuple, np.argwhere(found).tolist())) == [(1, 1), (1, 2), (1, 3), (2, 4), (8, 8)]
    assert not temperatures.hysteresis(np.full((4, 4), 20.0, np.float32)).any()
    assert temperatures.hysteresis(degrees, 20, 20).all()
    # against a slow way on a real scene
    real = temperatures.read(SCENES / "Sycan/TIFF/00008.TIFF")
    regions, count = ndimage.label(real >= 50, np.ones((3, 3)))
    slow = np.isin(regions, [k for k in range(1, count + 1) if real[regions == k].max() >= 150])
    assert np.array_equal(temperatures.hysteresis(real), slow)
