"""Graphs of one's own: taken as they are given, in the forms in which PyG and OGB write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from suite import registry
from suite.naming import UserError
from suite.protocol import Spec
from tasks.graph_tickets import data
from tests.helpers import MemoryRun


def write(folder: Path, name: str = "mine", **changes: object) -> str:
    draw = np.random.Generator(np.random.Philox(0))
    y = np.arange(60) % 3
    order = draw.permutation(60)
    arrays: dict[str, object] = {
        "edges": draw.integers(0, 60, (150, 2)),
        "x": draw.normal(size=(60, 4)).astype(np.float32),
        "y": y,
        "train_idx": order[:20],
        "val_idx": order[20:40],
        "test_idx": order[40:],
    }
    path = folder / f"{name}.npz"
    folder.mkdir(exist_ok=True)
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})  # type: ignore[arg-type]
    data.load.cache_clear()
    return str(folder)


def test_signed_features_stay_as_they_are(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with np.load(tmp_path / "mine.npz") as z:
        assert (data.load("mine", folder).x == z["x"]).all()


def test_only_planetoids_sets_are_normalised(tmp_path: Path) -> None:
    draw = np.random.Generator(np.random.Philox(1))
    folder = write(tmp_path, "citeseer", x=draw.uniform(1, 2, (60, 4)).astype(np.float32))
    assert np.allclose(data.load("citeseer", folder).x.sum(1), 1)
    assert np.allclose(data.load("cora", "").x.sum(1)[data.load("cora", "").x.sum(1) > 0], 1)


def test_masks_and_columns_of_labels_are_read_as_pyg_and_ogb_write_them(tmp_path: Path) -> None:
    plain = data.load("mine", write(tmp_path))
    with np.load(tmp_path / "mine.npz") as z:
        masks = {f"{p}_mask": np.isin(np.arange(60), z[f"{p}_idx"]) for p in data.SPLITS}
        edges, y = z["edges"].T, z["y"][:, None]
    numbers: dict[str, object] = dict.fromkeys([f"{p}_idx" for p in data.SPLITS])
    found = data.load("mine", write(tmp_path, edges=None, edge_index=edges, y=y, **numbers, **masks))
    assert (found.row == plain.row).all()
    assert (found.y == plain.y).all()
    assert found.classes == plain.classes
    for part in data.SPLITS:
        assert (found.split[part] == np.sort(plain.split[part])).all()
    found = data.load("mine", write(tmp_path, **{f"{p}_idx": masks[f"{p}_mask"] for p in data.SPLITS}))
    assert (found.split["test"] == np.sort(plain.split["test"])).all()
    with_none = y.astype(float)
    with_none[3] = np.nan
    assert data.load("mine", write(tmp_path, y=with_none)).y[3] == -1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_idx": np.ones(59, bool)}, r"mask of the split 'train' is \(59,\) for 60 nodes"),
        ({"train_idx": np.linspace(0, 1, 60)}, "whole node numbers, or a mask of bool"),
        ({"y": np.linspace(0, 2, 60)}, "no class numbers"),
        ({"y": np.array(["a"] * 60)}, "give class numbers"),
        ({"train_idx": np.ones(60, bool)}, "a node stands in two splits"),
        ({"x": np.array([["a"] * 4] * 60)}, r"features are <U1 \(60, 4\) for 60 nodes; give one row a node, of numbers"),
        ({"x": np.float32(3)}, "give one row a node, of numbers"),
        ({"x": np.zeros((60, 4), complex)}, "give one row a node, of numbers"),
        ({"x": np.zeros((60, 0))}, "give one row a node, of numbers"),
        ({"y": np.zeros(60, complex)}, "give class numbers"),
        ({"y": np.arange(60) * 10**7}, "number the classes from 0"),
        ({"edges": np.zeros((2, 9), int)}, "this looks like PyG's edge_index"),
        ({"edges": None, "edge_index": np.zeros((9, 2), int)}, r"edge_index is \(9, 2\); PyG's is \(2, m\)"),
        ({"edge_index": np.zeros((2, 9), int)}, "holds both edges and edge_index, of which one is read"),
        ({"train_mask": np.ones(60, bool)}, "holds both train_idx and train_mask"),
        ({"train_idx": None, "train_mask": np.where(np.arange(60) < 20, 1, -1)}, "train_mask has other values than 0 and 1"),
        ({"y": np.where(np.arange(60) % 4 == 3, 255, np.arange(60) % 3)}, "y names 4 classes by numbers up to 255"),
        ({"y": np.arange(60)[None] % 3}, r"y is \(1, 60\); give one class number a node, of shape \(n,\)"),
        ({"y": np.eye(3, dtype=int)[np.arange(60) % 3]}, r"of one-hot rows y\.argmax\(1\)"),
    ],
)
def test_what_is_none_of_these_is_one_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        data.load("mine", write(tmp_path, **changes))


def test_what_is_wrong_is_said_before_a_run(tmp_path: Path) -> None:
    folder = write(tmp_path, y=np.zeros(60, complex))
    data.digest.cache_clear()
    with pytest.raises(UserError, match="give class numbers"):
        data.digest("mine", folder)
    np.save(tmp_path / "mine.npy", np.zeros(3))
    (tmp_path / "mine.npy").rename(tmp_path / "mine.npz")
    with pytest.raises(UserError, match="not an npz file"):
        data.digest("mine", folder)


def test_a_graph_of_any_file_name_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path, "my graph (v2)")
    assert data.load("my_graph_v2", folder).nodes == 60


def test_a_file_under_the_name_of_a_generated_graph_is_not_passed_over(tmp_path: Path) -> None:
    folder = write(tmp_path, "sbm")
    with pytest.raises(UserError, match=r"sbm\.npz has the name of a set that is shipped"):
        data.locate("sbm", folder)
    folder = write(tmp_path / "b", "cora-128")
    with pytest.raises(UserError, match=r"cora-128\.npz has the name of a set that is shipped"):
        data.locate("cora-128", folder)


def test_a_file_whose_own_name_ends_as_projections_do_is_read(tmp_path: Path) -> None:
    write(tmp_path, "net", x=np.ones((60, 3), np.float32))
    folder = write(tmp_path, "net-128")
    assert data.load("net-128", folder).x.shape == (60, 4)
    (tmp_path / "net-128.npz").unlink()
    data.load.cache_clear()
    assert data.load("net-128", folder).x.shape == (60, 128)


def test_what_is_not_taken_of_a_graph_is_told(tmp_path: Path) -> None:
    edges = np.array([[0, 1], [1, 0], [2, 2], [3, 4], [3, 4], [5, 6]])
    y = np.where(np.arange(60) < 2, -1, np.arange(60) % 3)
    folder = write(
        tmp_path, edges=edges, y=y, train_idx=np.arange(20), val_idx=np.arange(20, 40), test_idx=np.arange(40, 60), edge_weight=y
    )
    assert data.load("mine", folder).notes == (
        "arrays that are not read: edge_weight",
        "of 6 edges 1 self-loops were dropped, and 2 that repeat another, in either direction",
        "of 20 nodes of train 2 have no label, and were left out",
    )
    asked = Spec("graph_tickets", 1, "smoke", "open", "mine/gcn", "", 0, data=folder)
    assert registry.task_of(asked).problem(asked, MemoryRun(asked)).notes[0] == "arrays that are not read: edge_weight"
    assert data.load("cora", "").notes == ()
