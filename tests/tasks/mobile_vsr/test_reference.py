"""Plain video at the same bytes: the curve and what is read off it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from suite.protocol import Spec
from tasks.mobile_vsr import data, reference
from tasks.mobile_vsr.codec import CODECS, Encoder, decode
from tasks.mobile_vsr.content import Setting, read_case, setting_of
from tasks.mobile_vsr.data import Source
from tasks.mobile_vsr.quality import decibels
from tasks.mobile_vsr.reference import Curve
from tasks.mobile_vsr.task import MobileVSR
from tests.tasks.mobile_vsr.helpers import frames, write_clip


def test_between_two_points_the_curve_is_linear_in_the_logarithm_of_bytes() -> None:
    curve = Curve("c", (2, 2), "h264", (1_000, 10_000, 100_000), (30.0, 36.0, 38.0))
    assert curve.at(1_000) == 30
    assert curve.at(math.sqrt(1_000 * 10_000)) == pytest.approx(33)
    assert curve.at(100_000) == 38
    assert curve.at(999) is None
    assert curve.at(100_001) is None


def test_every_case_of_the_small_tier_has_a_curve() -> None:
    for case in MobileVSR.tiers["small"].cases:
        spec = Spec("mobile_vsr", MobileVSR.version, "small", "closed", case, "", 0)
        parts = read_case(spec)
        source = data.locate(parts.clip, "")
        frame = data.pixels(next(source.high()))
        height, width = setting_of(spec, parts, source).crop or frame.shape[:2]
        for codec in CODECS:
            curve = reference.curve_of(parts.clip, height * width, codec)
            assert curve is not None, case
            assert list(curve.bytes) == sorted(curve.bytes)
            assert list(curve.psnr) == sorted(curve.psnr)


def test_a_point_of_the_curve_is_an_encoding_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "CRFS", (28, 40))
    size = (64, 96)
    source = Source("clip", write_clip(tmp_path / "clip.mp4", frames(3, *size)), "video", 3)
    curve = reference.draw(source, Setting(2, 2, stride=2), size, "h264")
    images = [data.pixels(f) for f in source.high()]
    encoder = Encoder("h264", *size, source.rate, crf="28")
    for image in images:
        encoder.add(image)
    video = encoder.finish()
    played = list(decode(video.stream, "h264", [0, 2]))
    error = float(np.mean([np.square(a.astype(float) - b).mean() for a, b in zip(played, images[::2], strict=True)])) / 255**2
    assert curve.bytes[1] == int(video.sizes.sum())
    assert curve.psnr[1] == pytest.approx(decibels(error), abs=1e-3)
    assert curve.psnr[0] < curve.psnr[1]
