"""Sets of one's own: through one door, and a wrong one is one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

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
        ({"train_y": np.arange(300) % 3}, "no training example is labelled 3, and others are"),
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


def test_a_sliver_of_a_set_that_is_sorted_by_class_holds_every_class(tmp_path: Path) -> None:
    write_npz(tmp_path, train_y=np.sort(np.arange(300) % 4).astype(np.uint8))
    whole = datasets.load("mine", str(tmp_path))
    few = whole.spread({"train": 8, "val": 4, "test": 1_000})
    assert few.y["train"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(few.x["test"], whole.x["test"])
    assert whole.take({"train": 8, "val": 4, "test": 4}).y["train"].tolist() == [0] * 8, "what is shipped is mixed"


def table(folder: Path, **changes: object) -> None:
    draw = np.random.Generator(np.random.Philox(0))
    arrays: dict[str, object] = {"columns": np.array(["site"]), "group": np.array("site")}
    for split, count in (("train", 40), ("val", 10), ("test", 10)):
        arrays |= {
            f"{split}_x": draw.normal(size=(count, 3)),
            f"{split}_y": np.arange(count) % 2,
            f"{split}_site": (np.arange(count) % 3).astype(np.int8),
        }
    np.savez(folder / "mine.npz", **{k: v for k, v in (arrays | changes).items() if v is not None})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_x": np.full((10, 3), 1e300)}, "not finite in float32"),
        ({"test_x": np.full((10, 3), np.nan)}, "not finite"),
        ({"train_x": np.zeros((40, 0)), "val_x": np.zeros((10, 0)), "test_x": np.zeros((10, 0))}, "no values"),
        ({"test_site": np.full(10, 10**15)}, "number them from 0 to 65,535"),
        ({"test_site": np.full(10, 2**63 + 1, np.uint64)}, "number them from 0"),
        ({"test_site": None}, "is missing"),
        ({"columns": np.array("site")}, "columns is a single value"),
        ({"train_y": np.array(1)}, "train_y is a single value"),
        ({"columns": np.array(["site", "site"])}, "a name of its own"),
        ({"columns": np.array(["y"])}, "other than x and y"),
        ({"group": np.array("age")}, "the group 'age' is no column"),
        ({"group": np.array(["site"])}, "the name of one column"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    table(tmp_path, **changes)
    with pytest.raises(UserError, match=said):
        datasets.load("mine", str(tmp_path))


def test_a_table_has_its_group_in_the_order_of_its_rows(tmp_path: Path) -> None:
    table(tmp_path)
    found = datasets.load("mine", str(tmp_path))
    assert found.group == "site"
    assert found.columns["test"]["site"].tolist() == [i % 3 for i in range(10)]
