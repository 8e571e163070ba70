"""Crops to look at: the place is the original's, what is shown is the player's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.mobile_vsr import crops, task
from tasks.mobile_vsr.player import Routing, pack
from tests.tasks.mobile_vsr import helpers


def clip(frames: int = 4, height: int = 260, width: int = 420) -> np.ndarray:
    return np.full((frames, 3, height, width), 90, np.uint8)


def test_a_window_stands_where_the_detail_is_in_each_half() -> None:
    frames = clip()
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (3, 180, 320), np.uint8)
    frames[1, :, 31:211, 57:377] = noise
    frames[2, :, :20, :20] = 255  # some detail, but less
    frames[3, :, 80:260, 100:420] = noise
    (first, top, left), (second, low, far) = crops.windows(frames)
    assert (first, second) == (1, 3)
    assert abs(top - 31) <= 1
    assert abs(left - 57) <= 1
    assert (low, far) == (79, 99)  # the last row and column have no neighbour


def test_small_frames_and_short_clips_give_what_they_have() -> None:
    assert crops.windows(clip(1)) == [(0, 0, 0)]
    assert crops.windows(clip(2, 60, 500))[0][1:] == (0, 0)


@pytest.mark.parametrize("shape", [(7, 9), (200, 330)])
def test_sums_are_those_of_windows(shape: tuple[int, int]) -> None:
    energy = np.random.Generator(np.random.Philox(1)).integers(0, 1000, shape)
    top, left = crops.window(energy)
    best = energy[top : top + 180, left : left + 320].sum()
    for other_top in range(max(1, shape[0] - 179)):
        for other_left in range(max(1, shape[1] - 319)):
            assert energy[other_top : other_top + 180, other_left : other_left + 320].sum() <= best


def test_every_clip_that_is_shipped_has_a_credit_with_its_licence() -> None:
    from tasks.mobile_vsr import data

    assert set(crops.CREDITS) == set(data.EMBEDDED)
    assert all("CC BY" in words for words in crops.CREDITS.values())
    show = task.MobileVSR.show
    assert show.credit("bottle/x4-per_model", 0, "closed") == crops.CREDITS["bottle"]
    assert show.credit("bottle/x4", 1, "closed") == ""
    assert show.credit("bottle/x4", 0, "speed") == ""
    assert show.credit("bosphorus/x4", 0, "closed") == ""


def test_pictures_are_what_the_player_plays() -> None:
    problem = helpers.problem()
    high = torch.from_numpy(np.random.Generator(np.random.Philox(2)).integers(0, 256, (2, 3, 200, 340), np.uint8))
    problem.__dict__["frames"] = (high[..., ::2, ::2].contiguous(), high)
    problem.__dict__["numbers"] = np.array([0, 33])
    whole = pack(2, 2, Routing("whole", 1, 1), [])
    originals, played = crops.pictures(problem, None), crops.pictures(problem, whole)
    assert list(originals) == list(played)
    for (t, top, left), name in zip(crops.windows(high.numpy()), played, strict=True):
        assert name == f"frame-{[0, 33][t]}-x-{left}-y-{top}"
        there = (slice(None), slice(top, top + 180), slice(left, left + 320))
        np.testing.assert_array_equal(originals[name], high[t][there].permute(1, 2, 0).numpy())
        frame = whole.player.play(t, problem.frames[0][t])
        np.testing.assert_array_equal(played[name], frame[there].permute(1, 2, 0).numpy())
        assert played[name].shape == (180, 320, 3)
        assert played[name].dtype == np.uint8
