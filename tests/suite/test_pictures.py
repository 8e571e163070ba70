"""Pictures come back pixel for pixel, and nothing else comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import pictures


@settings(max_examples=20, deadline=None)
@given(st.integers(1, pictures.TALLEST), st.integers(1, 64), st.integers(0, 2**32))
def test_pixels_come_back(height: int, width: int, seed: int) -> None:
    pixels = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (height, width, 3), np.uint8)
    data = pictures.encode(pixels)
    assert pictures.size(data) == (width, height)
    np.testing.assert_array_equal(pictures.decode(data), pixels)


def test_the_largest_picture_of_noise_is_within_the_bound() -> None:
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (pictures.TALLEST, pictures.WIDEST, 3), np.uint8)
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
        pictures.encode(pixels)
