"""Sets of one's own: through one door, and a wrong one is one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from suite.naming import UserError
from tasks.images import datasets
from tests.tasks.images.helpers import write_npz


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_y": None}, "test_y"),
        ({"train_x": np.zeros((300, 48, 48, 3), np.float32)}, "uint8"),
        ({"train_x": np.zeros((300, 48, 40, 3), np.uint8)}, "size"),
        ({"test_x": np.zeros((60, 32, 32, 3), np.uint8)}, "one size"),
        ({"train_y": np.zeros(10, np.uint8)}, "one whole number an image"),
        ({"train_y": np.full(300, 1.5)}, "one whole number an image"),
        ({"test_y": np.full(60, 9, np.uint8)}, "names in classes"),
        ({"train_y": np.full(300, -1)}, "from 0"),
        ({"test_x": np.zeros((0, 48, 48, 3), np.uint8), "test_y": np.zeros(0, np.uint8)}, "at least one"),
    ],
)
def test_a_wrong_set_is_one_clear_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    write_npz(tmp_path, **changes)
    with pytest.raises(UserError, match=said):
        datasets.load("mine", str(tmp_path))


def test_a_truncated_or_pickled_set_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not an npz"):
        datasets.load("mine", str(tmp_path))
    np.savez(tmp_path / "objects.npz", train_x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="not an npz"):
        datasets.load("objects", str(tmp_path))


def test_without_a_validation_split_one_is_set_aside_by_class(tmp_path: Path) -> None:
    write_npz(tmp_path, val_x=None, val_y=None)
    images = datasets.load("mine", str(tmp_path))
    assert len(images.y["val"]) + len(images.y["train"]) == 300
    assert len(images.y["val"].unique()) == 4
