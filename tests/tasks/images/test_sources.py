"""Sources of sets of one's own: tables, attributes, faces in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from suite.naming import UserError
from tasks.images import datasets
from tasks.images.sources import ImageFiles, InMemory


def write_table(folder: Path, **changes: object) -> Path:
    draw = np.random.Generator(np.random.Philox(7))
    arrays: dict[str, object] = {"columns": np.array(["sex", "age"]), "group": np.array("sex"), "sex_names": np.array(["f", "m"])}
    for split, n in (("train", 200), ("test", 50)):
        arrays[f"{split}_x"] = draw.normal(size=(n, 5)).astype(np.float32)
        arrays[f"{split}_y"], arrays[f"{split}_sex"] = draw.integers(0, 2, (2, n))
        arrays[f"{split}_age"] = np.arange(n) % 90
    path = folder / "people.npz"
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})  # type: ignore[arg-type]
    return path


def test_a_table_with_a_group_comes_through_the_same_door(tmp_path: Path) -> None:
    write_table(tmp_path)
    examples = datasets.load("people", str(tmp_path))
    source = InMemory(examples)
    assert (source.input, source.classes, source.group, source.train_count) == ((5,), ("class 0", "class 1"), "sex", 180)
    assert examples.names == {"sex": ("f", "m")}
    with np.load(tmp_path / "people.npz") as z:
        assert (source.columns("test")["sex"] == z["test_sex"]).all()
        assert (torch.cat([x for x, _ in source.evaluate("test", 7)]).numpy() == z["test_x"]).all(), "values are used as they are"
        whole = {tuple(x): (s, a) for x, s, a in zip(z["train_x"], z["train_sex"], z["train_age"], strict=True)}
    for split in ("train", "val"):
        columns = source.columns(split)
        rows = zip(examples.x[split].numpy(), columns["sex"], columns["age"], strict=True)
        assert all(whole[tuple(x)] == (s, a) for x, s, a in rows), "an attribute goes with its row where validation is set aside"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_sex": None}, "test_sex is missing"),
        ({"test_sex": np.full(50, 0.5)}, "whole numbers"),
        ({"train_age": np.zeros(3, int)}, "age is"),
        ({"test_age": np.full(50, -1)}, "from 0"),
        ({"test_sex": np.full(50, 2)}, "add the names"),
        ({"group": np.array("race")}, "'race' is no column"),
        ({"columns": None}, "'sex' is no column"),
        ({"test_x": np.full((50, 5), np.nan, np.float32)}, "not finite"),
        ({"test_x": np.zeros((50, 4), np.float32)}, "one size"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        datasets.read_npz(write_table(tmp_path, **changes))


def test_faces_in_files_bring_their_attributes(tmp_path: Path) -> None:
    from PIL import Image

    draw = np.random.Generator(np.random.Philox(3))
    files = [tmp_path / f"{i:03}.png" for i in range(12)]
    for file in files:
        Image.fromarray(draw.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(file)
    labels, male = np.arange(12) % 2, np.arange(12) // 3 % 2
    parts = {"train": np.array([1, 2, 4, 7, 8, 11]), "val": np.array([0, 3]), "test": np.array([5, 6, 9, 10])}
    source = ImageFiles(files, labels, parts, ("no", "yes"), 32, attributes={"male": male}, group="male", workers=0)
    assert (source.input, source.train_count) == ((3, 32, 32), 6)
    assert source.columns("test")["male"].tolist() == [1, 0, 1, 1]
    x, y = next(iter(source.evaluate("test", 4)))
    assert (x.shape, y.tolist()) == ((4, 3, 32, 32), labels[parts["test"]].tolist())
    (x, y), *rest = source.train(1, 2, 3)
    rows = torch.cat(list(source.rows(1, 3)))
    assert len(rest) == 1
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4, 5], "rows number the training images, not the files"
    assert y.tolist() == labels[parts["train"]][rows[:3]].tolist()
    again, _ = next(iter(source.train(1, 2, 3)))
    assert torch.equal(again, x)
    pieces = [x for x, _ in source.sample(5, 1, 2)]
    assert [len(x) for x in pieces] == [2, 2, 1]
