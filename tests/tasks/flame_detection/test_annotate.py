"""Flame pixels by colour: each mask by hand, the scenes' figures as the sheet measured them, smoke."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.flame_detection import annotate, flame3, temperatures
from tasks.flame_detection.annotate import flame_pixels
from tasks.flame_detection.data import SCENES
from tests.tasks.flame_detection import sets


@pytest.fixture(scope="module")
def shots() -> list[flame3.reading.Shot]:
    return [p.shot(i, i) for i, p in enumerate(flame3.pairs(SCENES)[0])]


def block(colour: tuple[int, int, int], ground: tuple[int, int, int] = (60, 90, 50)) -> int:
    """Flame pixels of a frame of 40x40 with a block of 6x6 of this colour in it."""
    rgb = np.full((1, 40, 40, 3), ground, np.uint8)
    rgb[0, 10:16, 10:16] = colour
    return int(flame_pixels(rgb).sum())


@pytest.mark.parametrize(
    ("colour", "why"),
    [
        ((149, 100, 40), "M2: red is under 150"),
        ((200, 225, 100), "M1: red is not above green"),
        ((238, 221, 100), "M2: green is not below 220 and red not above 240"),
        ((200, 150, 140), "M3: red is above blue by 60, not more"),
        ((230, 100, 110), "M3: green is above blue by -10, not more"),
        ((215, 200, 90), "M3: red is above green by 15, not more"),
        ((255, 250, 245), "a white core"),
        ((190, 190, 195), "smoke"),
    ],
)
def test_a_colour_that_misses_one_filter_is_no_flame(colour: tuple[int, int, int], why: str) -> None:
    assert block(colour) == 0, why


@pytest.mark.parametrize(
    "colour", [(150, 100, 40), (216, 200, 90), (241, 221, 100), (201, 150, 140), (230, 101, 110), (250, 140, 30)]
)
def test_a_colour_at_the_edge_of_all_filters_is_a_flame(colour: tuple[int, int, int]) -> None:
    assert block(colour) == 32  # 36 pixels, of which the median takes the corners


def test_red_is_held_to_the_mean_of_its_own_frame() -> None:
    # 200 in a reddish frame lies no 40 above its mean; a mean over both frames would let it pass
    rgb = np.stack([sets.colours(40, 40), np.full((40, 40, 3), (170, 90, 50), np.uint8)])
    rgb[:, 10:16, 10:16] = (200, 120, 40)
    found = flame_pixels(rgb)
    assert found.sum((1, 2)).tolist() == [32, 0]


def test_differences_do_not_wrap_around_a_byte() -> None:
    # in bytes 30 - 90 is 196: above every threshold
    assert block((30, 20, 90)) == 0
    assert block((160, 100, 200)) == 0


def test_few_pixels_are_dropped_and_corners_join_regions() -> None:
    rgb = sets.colours(40, 40)[None].repeat(3, 0)
    rgb[0, 10:12, 10:12] = sets.FLAME  # the median leaves nothing of 2x2 pixels
    rgb[1, 10:13, 10:13] = sets.FLAME  # a cross of 5 of 3x3
    for i in range(3):  # three of 3x3 along a diagonal, whose crosses touch at corners
        rgb[2, 10 + 3 * i : 13 + 3 * i, 10 + 3 * i : 13 + 3 * i] = sets.FLAME
    assert flame_pixels(rgb).sum((1, 2)).tolist() == [0, 5, 19]
    assert flame_pixels(rgb, annotate.Thresholds(least=6)).sum((1, 2)).tolist() == [0, 0, 19]


def test_regions_do_not_grow_from_frame_to_frame() -> None:
    rgb = sets.colours(40, 40)[None].repeat(4, 0)
    rgb[:, 10:13, 10:12] = sets.FLAME
    alone = flame_pixels(rgb[:1])
    assert np.array_equal(flame_pixels(rgb), alone.repeat(4, 0))


def test_labels_of_the_scenes_are_as_the_sheet_measured_them(shots: list[flame3.reading.Shot]) -> None:
    """Four real scenes: 23 patches marked, 13 right, 62 hot; pixel recall 0 to 0.5 %; the smoke-filled scene 2, both wrong."""
    flame = flame_pixels(np.stack([s.rgb for s in shots]))  # type: ignore[arg-type]
    hot = np.stack([s.thermal for s in shots]) >= temperatures.FIRE

    def per_patch(mask: np.ndarray) -> np.ndarray:
        return mask.reshape(4, 8, 64, 10, 64).any(axis=(2, 4))

    whole = annotate.quality(per_patch(flame), per_patch(hot))
    assert (whole.marked, whole.right, whole.true) == (23, 13, 62)
    assert whole.precision == pytest.approx(0.57, abs=0.005)
    assert whole.recall == pytest.approx(0.21, abs=0.005)
    each = [
        annotate.quality(per_patch(f[None].repeat(4, 0))[0], per_patch(h[None].repeat(4, 0))[0])
        for f, h in zip(flame, hot, strict=True)
    ]
    assert [(q.marked, q.right, q.true) for q in each] == [(9, 4, 10), (2, 0, 30), (2, 2, 10), (10, 7, 12)]
    pixels = [annotate.quality(f, h).recall for f, h in zip(flame, hot, strict=True)]
    assert max(pixels) == pytest.approx(0.005, abs=0.0002)
    assert min(pixels) == 0


def test_patches_are_labelled_by_these_pixels(shots: list[flame3.reading.Shot]) -> None:
    for shot, marked in zip(shots, (9, 2, 2, 10), strict=True):
        found = shot.patches(64)
        flame = flame_pixels(shot.rgb[None])[0]  # type: ignore[index]
        assert found.label.numpy().reshape(8, 10).tolist() == flame.reshape(8, 64, 10, 64).any((1, 3)).astype(int).tolist()
        assert found.label.sum() == marked


def test_quality_is_undefined_where_nothing_is_marked_or_true() -> None:
    none, some = np.zeros(4, bool), np.array([True, False, True, False])
    assert math.isnan(annotate.quality(none, some).precision)
    assert annotate.quality(none, some).recall == 0
    assert math.isnan(annotate.quality(some, none).recall)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        annotate.quality(np.zeros(3, bool), some)


def test_the_scene_that_smoke_fills_is_found(shots: list[flame3.reading.Shot]) -> None:
    share = annotate.smoke_share(np.stack([s.rgb for s in shots]))  # type: ignore[arg-type]
    assert share == pytest.approx([0.174, 0.405, 0.209, 0.137], abs=0.01)
    assert [s.obscured for s in shots] == [False, True, False, False]


def test_smoke_is_grey_or_bluish_and_not_dark() -> None:
    frames = np.stack(
        [np.full((8, 8, 3), c, np.uint8) for c in ((190, 190, 195), (95, 100, 130), (200, 190, 170), (60, 60, 65), (60, 90, 50))]
    )
    assert annotate.smoke_share(frames).tolist() == [1, 1, 0, 0, 0]
    assert annotate.smoke_filled(frames).tolist() == [True, True, False, False, False]
    white = np.full((1, 8, 8, 3), 255, np.uint8)  # a byte would wrap
    assert annotate.smoke_share(white)[0] == 1
