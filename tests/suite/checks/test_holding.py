"""What holds passes, and each change to it is refused: the checker's rules one by one."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from suite import bundle, pictures
from suite.check import check
from suite.protocol import Measure
from tests.suite.checks.forger import (
    QUICK,
    Change,
    Fields,
    House,
    errors,
    honest,
    refused,
    results,
    stored,
)


def test_an_honest_bundle_has_no_findings(house: House) -> None:
    with results() as root:
        path = honest(root)
        assert check([path], registry=house) == []
        assert check([root], registry=house) == []


def test_the_writer_and_the_checker_agree_on_bytes(house: House, tmp_path: Path) -> None:
    with results() as root:
        path = honest(root)
        record = bundle.read(path)
        again = bundle.write(tmp_path, record, {n: path / n for n in record.files})
        assert (again / bundle.RUN).read_bytes() == (path / bundle.RUN).read_bytes()


PICTURE = pictures.encode((np.arange(60 * 80 * 3) * 7 % 251).astype(np.uint8).reshape(60, 80, 3))


def test_pictures_are_taken_of_seed_0_where_the_task_shows_some(house: House) -> None:
    with results() as root:
        assert errors(house, honest(root, seen={"spot-1.webp": PICTURE, "spot-1.original.webp": PICTURE})) == []
        refused(house, honest(root, seed=1, seen={"spot-1.webp": PICTURE}), "pictures")
        slim = "spot-1.original.webp"
        other = honest(root, change=lambda b: b["method"].update(name="net_slim"), seen={slim: PICTURE})
        refused(house, other, "pictures", slim)
        refused(house, honest(root, seen={f"spot-{i}.webp": PICTURE for i in range(5)}), "file")
        path = honest(root, seen={"spot-2.webp": PICTURE})
        (path / "spot-2.webp").write_bytes(PICTURE[:-2] + b"ab")
        refused(house, path, "sha256", "spot-2.webp")


@pytest.mark.parametrize(
    "name", ["Spot.webp", "spot.png", ".spot.webp", "spot.original.original.webp", "a" * 70 + ".webp", "spot\n.webp"]
)
def test_a_picture_has_a_plain_name(house: House, name: str) -> None:
    with results() as root:
        refused(house, honest(root, seen={name: PICTURE}))


def _with_bytes(at: int, new: bytes) -> bytes:
    return PICTURE[:at] + new + PICTURE[at + len(new) :]


def _webp(pixels: np.ndarray, **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", **how)
    return out.getvalue()


HOSTILE = {
    "no picture": b"<svg onload=alert(1)>" * 3,
    "empty": b"",
    "cut short": PICTURE[:-40],
    "more at the end": PICTURE + b"<script>",
    "more inside": _with_bytes(4, (len(PICTURE)).to_bytes(4, "little")) + b"EXIF\0\0\0\0",
    "a bomb": _with_bytes(21, (16382 | 16382 << 14).to_bytes(4, "little")),
    "garbled": PICTURE[:25] + bytes(b ^ 0x5A for b in PICTURE[25:]),
    "lossy": _webp(np.zeros((20, 20, 3), np.uint8), quality=80),
    "transparent": _webp(
        np.random.Generator(np.random.Philox(0)).integers(0, 255, (20, 20, 4), np.uint8), lossless=True, exact=True
    ),
    "with metadata": _webp(np.zeros((20, 20, 3), np.uint8), lossless=True, exif=b"Exif\0\0secret"),
    "too large": _webp(np.zeros((181, 320, 3), np.uint8), lossless=True),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_small_picture_is_refused(house: House, kind: str) -> None:
    with results() as root:
        refused(house, honest(root, seen={"spot.webp": HOSTILE[kind]}), "picture", "spot.webp")


def test_a_picture_is_of_the_size_it_is_said_to_be(house: House) -> None:
    about = {"sha256": hashlib.sha256(PICTURE).hexdigest(), "bytes": len(PICTURE), "width": 79, "height": 60}
    with results() as root:
        path = honest(root, change=lambda b: b.update(pictures={"spot.webp": about}), seen={"spot.webp": PICTURE})
        refused(house, path, "picture", "spot.webp")


@QUICK
@given(st.binary(min_size=1, max_size=6), st.integers(8, len(PICTURE) - 7))
def test_no_change_of_bytes_breaks_the_checker(house: House, new: bytes, at: int) -> None:
    with results() as root:
        errors(house, honest(root, seen={"spot.webp": _with_bytes(at, new)}))  # `errors` holds what is said to be printable


def test_a_failure_is_a_result_with_a_reason_and_without_numbers(house: House) -> None:
    def fail(body: Fields) -> None:
        body.update(status="diverged", reason="loss is NaN\nat step 3", operations=[], measures=[], curve=[])

    both = (bundle.EVIDENCE, bundle.TIMING)
    with results() as root:
        assert errors(house, honest(root, change=fail, drop=both)) == []
        refused(house, honest(root, change=lambda b: (fail(b), b.update(reason=" \n")), drop=both), "reason")  # type: ignore[func-returns-value]
        top = stored(Measure("accuracy", 90.0, "%", "up"))
        refused(house, honest(root, change=lambda b: (fail(b), b.update(measures=[top])), drop=both), "measures")  # type: ignore[func-returns-value]
        metered = {**top, "source": "meter"}
        refused(house, honest(root, change=lambda b: (fail(b), b.update(measures=[metered])), drop=both), "accuracy")  # type: ignore[func-returns-value]
        refused(house, honest(root, change=fail), "files")


def test_the_speed_division_has_timing_alone(house: House) -> None:
    with results() as root:
        speed: Change = lambda b: b["spec"].update(division="speed")  # noqa: E731
        assert errors(house, honest(root, change=speed, drop=(bundle.EVIDENCE,))) == []
        refused(house, honest(root, change=speed), "files")
        refused(house, honest(root, drop=(bundle.EVIDENCE,)), file=bundle.EVIDENCE)
        refused(house, honest(root, drop=(bundle.TIMING,)), file=bundle.TIMING)
