"""Rules on temperatures and brightness: what they answer, what they need, and that they are detectors like the others."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from reference_impls.flame_detection.hysteresis import Hysteresis
from reference_impls.flame_detection.luma import Luma
from reference_impls.flame_detection.max_temperature import MaxTemperature
from reference_impls.flame_detection.otsu import Otsu
from reference_impls.parts.flame_rules import best_threshold
from suite.naming import UserError
from tasks.flame_detection.problem import FlameProblem, Fold, Patches, embeddings, scores
from tasks.flame_detection.temperatures import hysteresis, otsu
from tests.reference_impls.flame_detection.helpers import patches, problem

CPU = torch.device("cpu")
RULES = [MaxTemperature(), Luma(), Luma(statistic="mean"), Otsu(), Hysteresis()]


def of(frames: torch.Tensor, grid: tuple[int, int]) -> Patches:
    """Patches of 4 pixels of frames (F, H, W) in degrees."""
    down, across = grid
    cut = frames.view(len(frames), down, 4, across, 4).transpose(2, 3).reshape(-1, 1, 4, 4)
    base = patches(len(cut) - len(cut) % 12 + 12, 0).take(torch.arange(len(cut)))
    frame = torch.arange(len(frames)).repeat_interleave(down * across)
    return replace(base, degrees=cut, thermal=cut / 600, celsius=cut.amax((1, 2, 3)), frame=frame)


def on(own: Patches, grid: tuple[int, int], name: str = "scenes") -> FlameProblem:
    p = problem()
    return replace(p, patches=replace(p.patches, name=name, folds=[Fold(own, own, own)], grid=grid))


@pytest.mark.parametrize("rule", RULES, ids=["max", "luma", "luma-mean", "otsu", "hysteresis"])
def test_a_rule_is_a_detector_like_a_network(rule: Any) -> None:
    p = problem(train=48)
    (found,) = rule.solve(p).folds
    x = p.patches.folds[0].test
    assert scores(found.model, x, CPU).shape == (len(x),)
    assert embeddings(found.model, x, CPU).shape == (len(x), 1)
    assert found.centres is None
    assert rule.seedless
    file = io.BytesIO()
    torch.save(found.model, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert np.array_equal(scores(again, x, CPU), scores(found.model, x, CPU))


@pytest.mark.parametrize("rule", [MaxTemperature(), Otsu(), Hysteresis()], ids=["max", "otsu", "hysteresis"])
def test_temperatures_that_nobody_knows_are_asked_for(rule: Any) -> None:
    p = problem(train=48)
    own = replace(p.train, degrees=None)
    with pytest.raises(UserError, match="luma"):
        rule.solve(on(own, (3, 4)))


def test_maximum_temperature_is_of_degrees_and_above_not_at_150() -> None:
    own = of(torch.tensor([20.0, 150.0, 150.5, 400.0])[:, None, None].expand(-1, 4, 4).contiguous(), (1, 1))
    (found,) = MaxTemperature().solve(on(own, (1, 1))).folds
    np.testing.assert_allclose(scores(found.model, own, CPU), [-130, 0, 0.5, 250])


def test_otsu_takes_the_threshold_of_the_whole_frame_also_where_frames_are_mixed() -> None:
    frames = torch.from_numpy(np.random.default_rng(0).uniform(10, 60, (3, 8, 12)).astype(np.float32))
    frames[0, :3, :3] += 120
    frames[1, 5:, 9:] += 180
    own = of(frames, (2, 3))
    mixed = torch.randperm(len(own), generator=torch.Generator().manual_seed(0))
    (found,) = Otsu().solve(on(own, (2, 3))).folds
    expected = [float(cut.max()) - otsu(frames[f].numpy()) for f, cut in zip(own.frame.tolist(), own.degrees, strict=True)]  # type: ignore[arg-type]
    np.testing.assert_allclose(scores(found.model, own, CPU), expected, rtol=1e-6)
    np.testing.assert_allclose(scores(found.model, own.take(mixed), CPU), np.array(expected)[mixed.numpy()], rtol=1e-6)


def test_hysteresis_follows_a_region_across_patches_and_not_into_another_picture() -> None:
    frame = torch.full((1, 8, 12), 20.0)
    frame[0, 2:6, 2:10] = 60  # a warm region over all six patches
    frame[0, 3, 3] = 200  # hot in the first one alone
    frame[0, 0, 11] = 149  # warm by itself
    own = of(frame, (2, 3))
    (found,) = Hysteresis().solve(on(own, (2, 3))).folds
    mask = hysteresis(frame[0].numpy())
    inside = mask.reshape(2, 4, 3, 4).transpose(0, 2, 1, 3).reshape(6, -1)
    np.testing.assert_allclose(embeddings(found.model, own, CPU)[:, 0], inside.mean(1))
    assert scores(found.model, own, CPU).tolist() == [1.0] * 6
    (apart,) = Hysteresis().solve(on(own, (2, 3), "synthetic")).folds
    assert scores(apart.model, own, CPU).tolist() == [1.0] + [-1.0] * 5
    with pytest.raises(UserError, match="a frame of 2x3 patches has 5 here"):
        scores(found.model, own.take(torch.arange(5)), CPU)
    with pytest.raises(UserError, match="lower threshold first"):
        Hysteresis(low=200.0)


def balanced(threshold: float, values: np.ndarray, label: np.ndarray) -> float:
    return float((values[label == 1] > threshold).mean() + (values[label == 0] <= threshold).mean())


def test_the_threshold_of_brightness_is_the_best_of_the_training_patches() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        values = (generator.integers(0, 12, 40) / 12).astype(np.float32)
        label = (generator.random(40) < 0.2 + 0.6 * values).astype(np.int64)
        label[:2] = 0, 1
        label[3:5] = -1
        found = best_threshold(torch.from_numpy(values), torch.from_numpy(label))

        known = np.unique(values[label >= 0])
        candidates = (known[1:] + known[:-1]) / 2
        assert balanced(found, values, label) == max(balanced(t, values, label) for t in candidates)
    close = torch.tensor([0.5, np.nextafter(np.float32(0.5), np.float32(1))])
    threshold = best_threshold(close, torch.tensor([0, 1]))
    assert (close - threshold > 0).tolist() == [False, True]
    assert best_threshold(torch.ones(4), torch.tensor([0, 1, 0, 1])) == 1.0
    with pytest.raises(UserError, match="one class"):
        best_threshold(close, torch.tensor([1, 1]))


def test_luma_sees_each_training_patch_once_and_books_it() -> None:
    p = problem()
    (found,) = Luma().solve(p).folds
    assert p.run.spent[""] == len(p.train)
    label = p.train.label.numpy()
    called = scores(found.model, p.train, CPU) > 0
    assert 50 * (called[label == 1].mean() + (~called[label == 0]).mean()) > 70
    q = problem(division="speed")
    assert Luma().solve(q).folds[0].model.above == 0.5
    assert not q.run.spent.get("")
