"""A frame end to end: what is decoded and cut is what the data layer cuts, and every runtime answers as eager torch does."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from suite.protocol import Unsupported
from tasks.flame_detection import frames
from tasks.flame_detection import patches as cutting
from tasks.flame_detection.networks import Lfe
from tasks.flame_detection.problem import Detector, Fold, PatchSet
from tests.tasks.flame_detection.few import Small, patch_set, patches

CPU = torch.device("cpu")
INSTALLED = {
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino", "onnx", "onnxscript"),
    "executorch": ("executorch",),
}


def installed(name: str) -> bool:
    return all(importlib.util.find_spec(package) for package in INSTALLED[name.partition("_")[0]])


def lfe(centres: bool = True) -> Detector:
    """An LFE network as trained: its batch norms are no identities."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = Lfe(24)
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.weight, 0.5, 1.5)
                nn.init.uniform_(m.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
                nn.init.uniform_(m.running_var, 0.5, 1.5)  # type: ignore[arg-type]
        middle = torch.randn(2, 32) if centres else None
    return Detector(model.eval(), middle)


@pytest.fixture(scope="module")
def few() -> PatchSet:
    return replace(patch_set(side=24, count=48), grid=(3, 4))


@pytest.fixture(scope="module")
def frame(few: PatchSet) -> frames.Frame:
    return frames.frame_of(few, lfe().model)


def test_a_frame_is_the_tests_patches_put_together(few: PatchSet, frame: frames.Frame) -> None:
    with Image.open(io.BytesIO(frame.thermal)) as file:
        assert (file.size, file.mode) == ((96, 72), "RGB"), "colour-mapped, as cameras write it"
    x = frames.batch_of(frame)
    assert x.shape == (12, 1, 24, 24)
    assert (x.amin(), x.amax()) == (0, 1)
    # noise is the worst that a JPEG can be asked to keep
    original = few.folds[0].test.thermal[:12]
    assert np.corrcoef(x.flatten(), original.flatten())[0, 1] > 0.9
    assert (x - original).abs().mean() < 0.06


def test_what_is_cut_is_what_training_cuts(frame: frames.Frame) -> None:
    with Image.open(io.BytesIO(frame.thermal)) as file:
        picture = torch.from_numpy(np.array(file.convert("L")))[None, None]
    assert torch.equal(frames.batch_of(frame), cutting.cut(cutting.scale(picture), 24))


@pytest.mark.parametrize("levels", [(0, 256), (3, 250), (7, 8)])
def test_eight_bits_are_scaled_as_training_scales_them(levels: tuple[int, int]) -> None:
    picture = np.random.Generator(np.random.Philox(1)).integers(*levels, (48, 72)).astype(np.uint8)
    assert torch.equal(frames.scaled(picture)[None, None], cutting.scale(torch.from_numpy(picture)[None, None]))


@pytest.mark.parametrize("side", [24, 64])
def test_synthetic_frames_fill_what_a_camera_delivers(side: int) -> None:
    laid = replace(patch_set(side=side, name="synthetic"), grid=(3, 4))
    down, across = frames.layout(laid)
    assert frames.HEIGHT - side < down * side <= frames.HEIGHT
    assert frames.WIDTH - side < across * side <= frames.WIDTH
    x = frames.batch_of(frames.frame_of(laid, Small(side)))
    assert x.shape == (down * across, 1, side, side)
    assert frames.layout(replace(laid, name="flame3_scenes")) == (3, 4)


def test_the_speed_division_has_noise_of_the_same_shape() -> None:
    none = patches(0, 64)
    empty = PatchSet("flame3_scenes", 64, [Fold(none, none, none)], (), (8, 10))
    x = frames.batch_of(frames.frame_of(empty, Small(64)))
    assert x.shape == (80, 1, 64, 64)
    assert 0.2 < x.std() < 0.35


def test_a_frame_of_both_cameras_is_decoded_twice(few: PatchSet) -> None:
    model = Small(24, colour=True)
    taken = frames.frame_of(few, model)
    assert taken.rgb is not None
    x = frames.batch_of(taken)
    assert x.shape == (12, 4, 24, 24)
    original = few.folds[0].test.rgb
    assert original is not None
    assert (x[:, 1:] - original[:12] / 255).abs().mean() < 0.2  # chroma of noise is halved
    seen = frames.see(taken, frames.eager(Detector(model), taken, CPU), (3, 4))
    assert seen.flame.shape == (12,)


class Rule(nn.Module):
    """Flame: a pixel of 200 degrees."""

    colour, degrees = False, True

    def embed(self, degrees: torch.Tensor) -> torch.Tensor:
        return degrees.amax((1, 2, 3))[:, None]

    def forward(self, degrees: torch.Tensor) -> torch.Tensor:
        return self.embed(degrees)[:, 0] - 200


def test_a_rule_reads_temperatures_of_a_tiff_that_nobody_scaled(few: PatchSet) -> None:
    taken = frames.frame_of(few, Rule())
    degrees = few.folds[0].test.degrees
    assert degrees is not None
    assert torch.equal(frames.batch_of(taken), degrees[:12]), "no bit is lost, nothing is cut at 255"
    seen = frames.see(taken, frames.eager(Detector(Rule()), taken, CPU), (3, 4))
    assert torch.equal(seen.flame, degrees[:12].amax((1, 2, 3)) > 200)
    with pytest.raises(Unsupported, match="no network"):
        frames.load("onnx", Detector(Rule()), taken, few.folds[0].val, 1)


@pytest.mark.parametrize(("without", "said"), [("degrees", "temperatures"), ("rgb", "RGB")])
def test_what_a_set_does_not_have_is_unsupported(few: PatchSet, without: str, said: str) -> None:
    test = replace(few.folds[0].test, **{without: None})
    lacking = replace(few, folds=[replace(few.folds[0], test=test)])
    with pytest.raises(Unsupported, match=said):
        frames.frame_of(lacking, Rule() if without == "degrees" else Small(24, colour=True))


# --- answers


def test_the_deployed_network_answers_as_the_detector_and_its_centres(few: PatchSet) -> None:
    detector = lfe()
    x = few.folds[0].test.thermal
    deployed = frames.Deployed(detector).eval()
    with torch.inference_mode():
        answers = deployed(x)
        z = detector.model.embed(x)  # type: ignore[operator]
        logits = detector.model(x)
    assert detector.centres is not None
    to = [(z - c).square().sum(1) for c in detector.centres]
    torch.testing.assert_close(answers[:, 0], logits)
    torch.testing.assert_close(answers[:, 1], to[0] - to[1], atol=1e-4, rtol=1e-4)
    assert deployed.reads, "one pass for both"
    without = frames.Deployed(Detector(detector.model)).eval()
    with torch.inference_mode():
        assert torch.equal(without(x)[:, 0], logits)


class Apart(Small):
    """Its head reads something else than it embeds."""

    def __init__(self) -> None:
        super().__init__(24)
        self.head = nn.Sequential(nn.Linear(5, 1))  # type: ignore[assignment]

    def forward(self, thermal: torch.Tensor, rgb: torch.Tensor | None = None) -> torch.Tensor:
        return thermal.mean((1, 2, 3)) - 0.5


def test_a_head_that_reads_something_else_is_asked_by_itself(few: PatchSet) -> None:
    model = Apart()
    deployed = frames.Deployed(Detector(model, torch.randn(2, 5)))
    x = few.folds[0].test.thermal
    with torch.inference_mode():
        torch.testing.assert_close(deployed(x)[:, 0], model(x))


def test_a_frame_is_fire_if_any_patch_is_and_the_map_lies_over_its_pixels(frame: frames.Frame) -> None:
    answers = torch.full((12, 1), -3.0)
    answers[5] = 2.0  # second row, second column
    seen = frames.see(frame, lambda x: answers, (3, 4))
    assert seen.fire
    assert seen.flame.nonzero().tolist() == [[5]]
    assert seen.map.shape == (72, 96)
    hot = seen.map > 0.5
    assert hot[24:48, 24:48].all()
    assert int(hot.sum()) == 24 * 24
    assert not frames.see(frame, lambda x: -answers.abs(), (3, 4)).fire


def test_a_second_column_counts_too(frame: frames.Frame) -> None:
    answers = torch.full((12, 2), -1.0)
    answers[7, 1] = 1.0
    seen = frames.see(frame, lambda x: answers, (3, 4))
    assert seen.flame.nonzero().tolist() == [[7]]
    assert not (seen.map > 0.5).any(), "the map is the head's"


def test_eager_torch_folds_batch_norms_and_answers_alike(few: PatchSet, frame: frames.Frame) -> None:
    detector = lfe()
    x = frames.batch_of(frame)
    with torch.inference_mode():
        expected = frames.Deployed(detector).eval()(x)
    torch.testing.assert_close(frames.eager(detector, frame, CPU)(x), expected, atol=1e-4, rtol=1e-4)
    assert any(isinstance(m, nn.BatchNorm2d) for m in detector.model.modules()), "a copy was folded"


# --- runtimes


@pytest.mark.parametrize("name", ["onnx", "openvino", "executorch"])
def test_a_runtime_answers_as_eager_torch(name: str, few: PatchSet, frame: frames.Frame) -> None:
    detector = lfe()
    if not installed(name):
        with pytest.raises(Unsupported, match=r"needs the package .*pip install 'weighin\[mobile\]'"):
            frames.load(name, detector, frame, few.folds[0].val, 1)
        return
    x = frames.batch_of(frame)
    program = frames.load(name, detector, frame, few.folds[0].val, 1)
    torch.testing.assert_close(program(x), frames.eager(detector, frame, CPU)(x), atol=1e-4, rtol=1e-4)


def graded(detector: Detector, train: frames.Patches) -> frames.Patches:
    """Patches labelled by the detector's own answers, so that what int8 costs is what it changes."""
    with torch.inference_mode():
        logits = detector.model(train.thermal)
    return replace(train, label=(logits > logits.median()).long())


@pytest.mark.skipif(not installed("onnx"), reason="ONNX Runtime is not installed")
def test_int8_is_taken_where_it_costs_no_more_than_a_point(
    few: PatchSet, frame: frames.Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = lfe(centres=False)
    calibration = patches(480, 24, seed=9)
    monkeypatch.setattr(frames, "LOSS", 100.0)
    program = frames.load("onnx_int8", detector, frame, calibration, 1)
    x = frames.batch_of(frame)
    answers, plain = program(x), frames.eager(detector, frame, CPU)(x)
    assert not torch.equal(answers, plain)
    assert (answers - plain).abs().mean() < 0.3 * plain.std() + 0.02
    monkeypatch.setattr(frames, "LOSS", -100.0)
    with pytest.raises(Unsupported, match="points of balanced accuracy"):
        frames.load("onnx_int8", detector, frame, calibration, 1)
    with pytest.raises(Unsupported, match="calibrated"):
        frames.load("onnx_int8", detector, frame, patches(0, 24), 1)


def test_calibration_takes_whole_batches_of_a_frame() -> None:
    few = patches(30, 24)
    found, label = frames.whole_batches(few, (12, 1, 24, 24))
    assert [x.shape for x in found] == [(12, 1, 24, 24)] * 2
    assert torch.equal(torch.cat(found), few.thermal[:24])
    assert (label == (few.label[:24] == 1).numpy()).all()
    ((whole,), label) = frames.whole_batches(few, (70, 4, 24, 24))  # repeated, with colours
    assert whole.shape == (70, 4, 24, 24)
    assert torch.equal(whole[:30], whole[30:60])
    assert len(label) == 70
    assert frames.whole_batches(patches(0, 24), (12, 1, 24, 24))[0] == []


# --- latency


def test_frames_are_timed_one_by_one_after_those_that_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], [0]

    def work(seconds: float) -> Callable[[], None]:
        def call() -> None:
            calls[0] += 1
            clock[0] += seconds if calls[0] > 1 else 2 * seconds

        return call

    monkeypatch.setattr(frames.time, "perf_counter", lambda: clock[0])
    fast = frames.latencies(work(0.01), seconds=20)
    assert (len(fast), calls[0]) == (frames.TIMED, frames.TIMED + frames.WARM)
    assert fast.max() == pytest.approx(0.01), "the first call was slower"
    calls[0] = 0
    slow = frames.latencies(work(4.0), seconds=20)
    assert (len(slow), calls[0]) == (5, 6)
    calls[0] = 0
    assert len(frames.latencies(work(1000.0), seconds=20)) == 3
