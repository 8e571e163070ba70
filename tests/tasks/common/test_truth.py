"""truth.toml: one reader and one digest, for the tasks that write it and for the checker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from suite import registry
from suite.truth import column_digest, read
from tasks.common import truth


def test_folders_that_tasks_share_are_no_tasks() -> None:
    assert registry.house_file("tasks.common.truth", registry.TASKS) is not None
    assert registry.house_file("tasks.images.problem", registry.TASKS) is not None
    assert not {"common", "images"} & set(registry.tasks())


def test_a_column_has_one_digest_whatever_type_it_comes_in() -> None:
    column = np.array([1, 2, 300])
    same = {column_digest(column.astype(kind), "int16") for kind in ("int16", ">i4", "int64", "float64")}
    assert same == {column_digest(column, "<i2")}
    assert column_digest(column, "int32") not in same


def test_what_is_written_from_the_data_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = read(registry.TASKS / "image_pruning" / "truth.toml")
    assert ("small", "fashion") in stored
    assert read(tmp_path / "truth.toml") == {}
    (tmp_path / "image_pruning").mkdir()
    monkeypatch.setattr(truth, "TASKS", tmp_path)
    truth.entries.cache_clear()
    try:
        truth.main("image_pruning")
        assert read(tmp_path / "image_pruning" / "truth.toml") == stored
    finally:
        truth.entries.cache_clear()
