"""Pictures come back pixel for pixel, and nothing else comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import pictures


@settings(max_examples=20)
@given(st.integers(1, 180), st.integers(1, 64), st.integers(0, 2**32))
def test_pixels_come_back(height: int, width: int, seed: int) -> None:
    pixels = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (height, width, 3), np.uint8)
    data = pictures.encode(pixels)
    assert pictures.size(data) == (width, height)
    np.testing.assert_array_equal(pictures.decode(data), pixels)


@pytest.mark.parametrize("side", [64, 256, 1024])
def test_the_largest_picture_of_noise_is_within_the_bound(side: int) -> None:
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (side, pictures.MOST_PIXELS // side, 3), np.uint8)
    assert len(pictures.encode(noise)) < pictures.MOST_BYTES


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((181, 4, 3), np.uint8),
        np.zeros((4, 321, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_small_picture_is_not_written(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"picture|pixels"):
        pictures.encode(pixels, (320, 180))


def test_no_picture_has_more_pixels_or_a_longer_side_than_any_may_have_whatever_its_task_allows() -> None:
    for shape in ((257, 256, 3), (1, 1025, 3), (1025, 1, 3)):
        with pytest.raises(ValueError, match="pixels"):
            pictures.encode(np.zeros(shape, np.uint8))
