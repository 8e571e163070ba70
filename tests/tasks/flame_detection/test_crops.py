"""Pictures: what is marked is what is called flame, where it lies, over what is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from suite import pictures
from tasks.flame_detection import crops
from tasks.flame_detection.problem import Detector, Detectors, PatchSet
from tests.tasks.flame_detection.few import Small, patch_set

CPU = torch.device("cpu")


@dataclass
class Given:
    patches: PatchSet
    device: torch.device = CPU


@pytest.fixture
def given() -> Given:
    return Given(replace(patch_set(folds=2, count=48, smoky=12), grid=(2, 2)))


def shown(given: Given, solution: Detectors | None = None) -> dict[str, np.ndarray]:
    return crops.pictures(given, solution)  # type: ignore[arg-type]


def marked(picture: np.ndarray, side: int) -> np.ndarray:
    """Which cells have a frame of the colour around them, (down, across)."""
    down, across = picture.shape[0] // side, picture.shape[1] // side
    cells = picture.reshape(down, side, across, side, 3).swapaxes(1, 2)
    return (cells[:, :, 0, 0] == crops.FLAME).all(2)


def test_there_is_a_clear_picture_and_one_under_smoke_small_enough_to_be_carried(given: Given) -> None:
    found = shown(given)
    assert list(found) == ["clear", "under-smoke"]
    for name, picture in found.items():
        assert pictures.NAME.fullmatch(f"{name}.webp")
        assert len(pictures.encode(picture, crops.SIZE)) < pictures.MOST_BYTES
    assert 2 * len(found) <= pictures.MOST, "the reference carries the originals as well"


def test_frames_lie_side_by_side_with_their_patches_in_raster_order(given: Given) -> None:
    test = given.patches.folds[0].test
    picture = shown(given)["clear"]
    frames = picture.shape[0] // 16 * (picture.shape[1] // 16)
    assert frames == 9, "36 clear patches of 8 pixels, four a frame"
    cells = marked(picture, 8)
    clear = test.take(~test.obscured)
    order = clear.frame.unique().tolist()
    expected = np.zeros_like(cells)
    for i, f in enumerate(order):
        top, left = 2 * (i // (picture.shape[1] // 16)), 2 * (i % (picture.shape[1] // 16))
        expected[top : top + 2, left : left + 2] = crops.fires(clear.take(clear.frame == f)).view(2, 2).numpy()
    assert (cells == expected).all()


def test_the_thermal_picture_is_seen_below(given: Given) -> None:
    calm = replace(given.patches.folds[0].test, truth=torch.zeros(48, dtype=torch.int64))
    picture = shown(Given(replace(given.patches, folds=[replace(given.patches.folds[0], test=calm)])))["clear"]
    grey = picture[:8, :8, 0] / 255
    np.testing.assert_allclose(grey, calm.thermal[0, 0].sqrt().numpy(), atol=1 / 255)
    assert (picture[..., 0] == picture[..., 2]).all()


def test_what_a_method_calls_flame_is_marked_by_the_nearest_centre_under_smoke_alone(given: Given) -> None:
    model = Small(8, features=1)
    with torch.no_grad():
        model.body.weight.fill_(1 / 64)
        model.body.bias.zero_()
        model.head.weight.fill_(1.0)
        model.head.bias.fill_(10.0)  # the head calls everything flame
    far = torch.tensor([[0.0], [100.0]])  # every patch is nearer to the centre of no flame
    found = shown(given, Detectors([Detector(model, far)] * 2))
    assert marked(found["clear"], 8).all()
    assert not marked(found["under-smoke"], 8).any()
    headed = shown(given, Detectors([Detector(model)] * 2))
    assert marked(headed["under-smoke"], 8).all()


def test_frames_that_hold_fire_come_first() -> None:
    whole = patch_set(count=240, side=24, smoky=0).folds[0].test
    late = replace(whole, truth=(whole.frame == whole.frame.max()).long())
    rows = crops.chosen(late, False, 3)
    assert whole.frame[rows].unique().tolist() == [600, 601, 659]
    assert len(crops.chosen(late, True, 3)) == 0, "nothing is under smoke"
    assert len(crops.chosen(late.take(late.frame < 0), False, 3)) == 0


def test_a_large_frame_is_reduced_and_keeps_its_shape() -> None:
    large = replace(patch_set(count=80, side=64, smoky=0), grid=(8, 10))
    test = replace(large.folds[0].test, frame=torch.zeros(80, dtype=torch.int64))
    picture = shown(Given(replace(large, folds=[replace(large.folds[0], test=test)])))["clear"]
    assert picture.shape == (crops.SIZE[1], crops.SIZE[0], 3)
    assert (marked(picture, 28).flatten() == crops.fires(test).numpy()).all()


def test_a_scene_of_another_fold_is_shown_with_its_own_detector(given: Given) -> None:
    """As where one of four scenes is filled with smoke: its fold's detector answers."""
    folds = list(given.patches.folds)
    first = folds[0].test
    folds[0] = replace(folds[0], test=replace(first, obscured=torch.zeros_like(first.obscured)))
    detectors = []
    for bias in (-10.0, 10.0):
        model = Small(8)
        with torch.no_grad():
            model.head.bias.fill_(bias)
            model.head.weight.zero_()
        detectors.append(Detector(model))
    found = shown(Given(replace(given.patches, folds=folds)), Detectors(detectors))
    assert not marked(found["clear"], 8).any()
    assert marked(found["under-smoke"], 8).all()


def test_the_area_that_is_answered_rightly_is_counted_by_patches(given: Given) -> None:
    original = shown(given)["clear"]
    assert crops.agreement(original, original) == 100
    model = Small(8)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(10.0)
    seen = shown(given, Detectors([Detector(model)] * 2))["clear"]
    assert crops.agreement(seen, original) == pytest.approx(100 / 3, abs=0.5), "every third patch is flame"


def test_positions_of_drones_are_in_no_picture(given: Given) -> None:
    for picture in shown(given).values():
        data = pictures.encode(picture, crops.SIZE)
        assert b"EXIF" not in data
        assert b"GPS" not in data
