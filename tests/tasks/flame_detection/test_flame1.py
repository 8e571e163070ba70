"""FLAME 1: the classification layout, RGB alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from suite.naming import UserError
from tasks.flame_detection import flame1, reading
from tests.tasks.flame_detection import sets


def test_training_folders_are_parted_in_time_and_test_is_the_official_one(tmp_path: Path) -> None:
    root = sets.flame1(tmp_path)
    (root / "Training/Fire/resized_frame7.jpg").write_bytes(b"\xff\xd8")
    (root / "Training/Fire/._resized_frame8.jpg").write_bytes(b"")
    found = flame1.patch_set(root)
    (fold,) = found.folds
    # of 120 frames the last 12 are held, 50 in front of them are dropped; one is broken
    assert [len(p) // 4 for p in (fold.train, fold.val, fold.test)] == [58 + 57, 12 + 12, 8]
    assert list(found.left_out) == ["Training/Fire/resized_frame7.jpg"]
    assert found.scenes == ("No_Fire", "Fire")
    for part in (fold.train, fold.val, fold.test):
        marked = part.label.view(-1, 4)
        assert torch.equal(marked[:, 0], part.scene.view(-1, 4)[:, 0])
        assert (marked[:, 1:] == 0).all()
        assert part.truth.unique().tolist() == [-1]
        assert part.degrees is None
        assert not part.obscured.any()
    # brightness takes the place of the thermal picture, in the order of numbers and not of names
    first = reading.luma(reading.read_rgb(root / "Training/No_Fire/resized_frame2.jpg"))
    scaled = torch.from_numpy((first - first.min()) / (first.max() - first.min()))
    assert torch.allclose(fold.train.thermal[8, 0], scaled[:32, :32], atol=1e-6)


def test_nothing_to_use_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pictures in .*: put there Training/"):
        flame1.patch_set(tmp_path)
    sets.flame1(tmp_path, training=2, test=0)
    with pytest.raises(UserError, match="no picture in Test/Fire and Test/No_Fire"):
        flame1.patch_set(tmp_path)
