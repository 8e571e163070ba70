"""The rendered set: its counts, its statistics by the recipe, its labels, and that it is the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn import metrics

from tasks.flame_detection import annotate, patches, synthetic
from tasks.flame_detection.problem import PatchSet
from tasks.flame_detection.synthetic import RECIPE


@pytest.fixture(scope="module")
def whole() -> PatchSet:
    return synthetic.patch_set()


@pytest.fixture(scope="module")
def clear() -> synthetic.Rendered:
    return synthetic.render("clear")


@pytest.fixture(scope="module")
def smoky() -> synthetic.Rendered:
    return synthetic.render("smoky")


def test_there_are_so_many_patches_of_each_kind_in_turn(whole: PatchSet) -> None:
    (fold,) = whole.folds
    assert (len(fold.train), len(fold.val), len(fold.test)) == (3000, 600, 2400)
    assert whole.grid == (3, 4)
    assert whole.scenes == ("flame", "decoy", "background")
    for part in (fold.train, fold.val, fold.test):
        assert part.scene[:7].tolist() == [0, 1, 2, 0, 1, 2, 0]
        assert part.scene.bincount().tolist() == [len(part) // 3] * 3
        assert torch.equal(part.truth, (part.scene == 0).long())
        assert part.thermal.shape[1:] == (1, 24, 24)
        assert part.rgb is not None
        assert part.rgb.shape[1:] == (3, 24, 24)
        assert part.rgb.dtype == torch.uint8
        assert part.rgb.min() < 40 < 200 < part.rgb.max()
    assert fold.test.obscured.tolist() == [False] * 1200 + [True] * 1200
    assert not fold.train.obscured.any()
    assert not fold.val.obscured.any()


def test_no_frame_is_in_two_splits(whole: PatchSet) -> None:
    (fold,) = whole.folds
    numbers = [p.frame.unique() for p in (fold.train, fold.val, fold.test)]
    assert torch.equal(torch.cat(numbers), torch.arange(250 + 50 + 200))
    assert (fold.test.frame.bincount()[300:] == 12).all()
    # nor are they the same pictures
    assert not torch.equal(fold.val.thermal[:12], fold.train.thermal[:12])
    assert not torch.equal(fold.test.thermal[:12], fold.test.thermal[1200:1212])


def test_twelve_patches_share_a_scale_and_the_temperature_is_lost(whole: PatchSet) -> None:
    (fold,) = whole.folds
    frames = fold.test.thermal.view(200, -1)
    assert frames.amin(1).unique().tolist() == [0.0]
    assert frames.amax(1).unique().tolist() == [1.0]
    degrees = fold.test.degrees
    assert degrees is not None
    least, largest = (f(degrees.view(200, -1), 1)[:, None, None, None] for f in (torch.amin, torch.amax))
    spread = (degrees.view(200, 12, 24, 24) - least) / (largest - least)
    assert torch.allclose(spread.view(-1, 1, 24, 24), fold.test.thermal, atol=1e-6)
    assert torch.equal(degrees.amax((1, 2, 3)), fold.test.celsius)


def test_temperatures_follow_the_recipe(clear: synthetic.Rendered) -> None:
    flame, decoy, none = (clear.kind == k for k in range(3))
    # without noise: a flame's height is up to 1.4 of 170 .. 520 degrees above the ground, a decoy's peak 50 .. 370 to the pixel
    assert clear.peak[decoy].min() > 40
    assert clear.peak[decoy].max() < 385
    assert clear.peak[flame].min() > 150  # a texture that is thin at the peak
    assert 520 < clear.peak[flame].max() < 1.4 * 520
    assert abs(float(clear.peak[decoy].mean()) - 210) < 12
    background = clear.celsius[none]
    # 20 + U(0, 20) a patch: mean 30, deviation 5.8
    means = background.mean((1, 2))
    assert abs(float(means.mean()) - 30) < 1
    assert 5.2 < means.std() < 6.5
    assert means.min() > 18
    assert means.max() < 42
    # within a patch: noise of 4 degrees, and 24 x 0.14, what smoothing by 2 leaves of unit noise (more of it at the borders)
    within = background - background.mean((1, 2), keepdims=True)
    assert 5.2 < within.std() < 5.7


def test_flames_are_rough_and_decoys_smooth(clear: synthetic.Rendered) -> None:
    smooth = ndimage.gaussian_filter(clear.celsius, (0, 0.7, 0.7))
    texture = (clear.celsius - smooth).std((1, 2)) / smooth.std((1, 2))
    hot = clear.peak > 250  # below, the sensor's noise is as rough
    assert metrics.roc_auc_score(clear.kind[hot] == 0, texture[hot]) > 0.98


def test_smoke_takes_contrast_and_its_noise_is_lower(clear: synthetic.Rendered, smoky: synthetic.Rendered) -> None:
    none = clear.kind == 2
    fine = [(x.celsius[none] - ndimage.gaussian_filter(x.celsius[none], (0, 1.5, 1.5))) for x in (clear, smoky)]
    assert 0.7 < fine[1].std() / fine[0].std() < 0.8  # 3 to 4 degrees
    # what a decoy keeps of its height: 0.35 to 0.7 of what the blur leaves
    decoy = smoky.kind == 1
    peak = smoky.celsius[decoy].max((1, 2)) - smoky.celsius[decoy].mean((1, 2))
    kept = peak / (smoky.peak[decoy] - smoky.celsius[decoy].mean((1, 2)))
    assert 0.4 < np.median(kept) < 0.6
    assert np.quantile(kept, 0.02) > 0.28


def test_labels_are_what_the_rendered_picture_shows(whole: PatchSet, clear: synthetic.Rendered) -> None:
    (fold,) = whole.folds
    seen = ~fold.test.obscured
    # a flame that is visible labels its patch, a decoy shows no flame colour
    assert torch.equal(fold.test.label[seen], fold.test.truth[seen])
    marked = annotate.flame_pixels(synthetic.mosaic(clear.rgb))
    assert marked.reshape(100, 3, 24, 4, 24).any((2, 4)).reshape(-1).tolist() == (clear.kind == 0).tolist()
    # smoke hides every flame
    assert fold.test.label[~seen].sum() == 0
    assert fold.test.truth[~seen].sum() == 400


def test_one_label_in_twenty_of_training_is_turned_over(whole: PatchSet) -> None:
    (fold,) = whole.folds
    for part in (fold.train, fold.val):
        wrong = part.label != part.truth
        assert 0.035 < wrong.float().mean() < 0.065
        for kind in range(3):
            assert 0.02 < wrong[part.scene == kind].float().mean() < 0.08


def test_warm_patches_are_mostly_decoys(whole: PatchSet) -> None:
    train = whole.folds[0].train
    assert torch.equal(train.warm & (train.label == 1), torch.zeros(3000, dtype=torch.bool))
    by_kind = [float(train.warm[train.scene == k].float().mean()) for k in range(3)]
    assert by_kind == pytest.approx([0.044, 0.761, 0.0], abs=0.015)
    assert float(train.warm.float().mean()) == pytest.approx(0.269, abs=0.01)
    counts = [len(r) for r in patches.kinds(train.label, train.warm).values()]
    assert sum(counts) == 3000
    assert min(counts) > 700


def test_the_warmest_pixel_does_not_tell_flames_from_decoys(whole: PatchSet) -> None:
    test = whole.folds[0].test
    seen = ~test.obscured
    area = [metrics.roc_auc_score(test.truth[rows], test.celsius[rows]) for rows in (seen, ~seen)]
    assert area == pytest.approx([0.938, 0.902], abs=0.005)
    rule = [metrics.balanced_accuracy_score(test.truth[rows], test.celsius[rows] > 150) for rows in (seen, ~seen)]
    assert rule == pytest.approx([0.827, 0.791], abs=0.005)
    hot = seen & (test.scene < 2)
    assert metrics.roc_auc_score(test.truth[hot], test.celsius[hot]) < 0.9
    # flames of at least 200 degrees, by their peak and not by the decoys'
    assert 0.95 < test.truth_200[test.truth == 1].float().mean() < 0.99
    assert test.truth_200[test.truth == 0].sum() == 0


def test_it_is_the_same_each_time_and_another_seed_is_another_set(clear: synthetic.Rendered) -> None:
    again = synthetic.render("clear")
    assert all(np.array_equal(getattr(again, k), getattr(clear, k)) for k in ("celsius", "rgb", "peak", "kind"))
    small = replace(RECIPE, clear=24)
    other = synthetic.render("clear", replace(small, seed=1))
    assert not np.array_equal(other.celsius, synthetic.render("clear", small).celsius)
    assert synthetic.digest() == synthetic.digest(replace(RECIPE))
    assert synthetic.digest() != synthetic.digest(replace(RECIPE, noise=8.0))


def test_a_sliver_is_the_first_frames_of_each_block(whole: PatchSet) -> None:
    some = synthetic.patch_set({"train": 100, "val": 24, "clear": 12, "smoky": 1})
    (fold,), (full,) = some.folds, whole.folds
    assert (len(fold.train), len(fold.val), len(fold.test)) == (96, 24, 24)
    assert torch.equal(fold.train.thermal, full.train.thermal[:96])
    assert torch.equal(fold.test.thermal[12:], full.test.thermal[1200:1212])
    assert fold.test.frame.tolist() == [10] * 12 + [11] * 12
    assert torch.equal(full.train.frame[:12], torch.zeros(12, dtype=torch.int64))  # the whole set is as it was


def test_a_mosaic_is_cut_into_its_patches() -> None:
    values = np.arange(24 * 4 * 4).reshape(24, 4, 4)
    laid = synthetic.mosaic(values)
    assert laid.shape == (2, 12, 16)
    assert np.array_equal(laid[0, :4, 4:8], values[1])
    assert torch.equal(patches.cut(torch.from_numpy(laid)[:, None], 4)[:, 0], torch.from_numpy(values))
