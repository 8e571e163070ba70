"""Loaders: what any list of edges becomes, the official files, and what is said of bad ones."""

from __future__ import annotations

import gzip
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from suite.naming import UserError
from tasks.graph_tickets import data

GOLDEN = Path(__file__).parents[2] / "golden"


def small(**changes: Any) -> dict[str, np.ndarray]:
    """Six nodes: a self-loop, a duplicate, both directions, a node alone, a node without a label."""
    arrays = {
        "edges": np.array([[0, 1], [1, 0], [0, 1], [1, 2], [2, 2], [4, 3]]),
        "x": np.eye(6, 4, dtype=np.float32),
        "y": np.array([0, 1, 0, 1, -1, 0]),
        "train_idx": np.array([0, 1]),
        "val_idx": np.array([2]),
        "test_idx": np.array([3, 4, 5]),
    }
    return {**arrays, **changes}


def loaded(folder: Path, name: str = "mine", **changes: Any) -> data.GraphData:
    data.load.cache_clear()
    np.savez(folder / f"{name}.npz", **small(**changes))
    return data.load(name, str(folder))


def test_duplicates_directions_loops_and_isolated_nodes(tmp_path: Path) -> None:
    d = loaded(tmp_path)
    assert list(zip(d.row.tolist(), d.col.tolist(), strict=True)) == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]
    assert d.degree().tolist() == [1, 2, 1, 1, 1, 0]  # node 5 is alone
    assert d.split["test"].tolist() == [3, 5]  # node 4 has no label, so nothing is asked of it
    assert len(d.classes) == 2


def test_no_edge_at_all(tmp_path: Path) -> None:
    d = loaded(tmp_path, edges=np.zeros((0, 2), int))
    assert len(d.row) == 0
    assert d.degree().tolist() == [0] * 6


def test_labels_may_be_missing_as_nan(tmp_path: Path) -> None:
    d = loaded(tmp_path, y=np.array([0, 1, 0, 1, np.nan, 0]))
    assert d.y.tolist() == [0, 1, 0, 1, -1, 0]


def test_features_in_rows_or_as_a_table_are_one(tmp_path: Path) -> None:
    x = sparse.random(6, 9, 0.4, format="csr", dtype=np.float32, random_state=0)
    parts = {"x_indptr": x.indptr, "x_indices": x.indices, "x_data": x.data, "x_shape": np.array(x.shape)}
    table = loaded(tmp_path, x=x.toarray())
    arrays = {k: v for k, v in small(**parts).items() if k != "x"}
    np.savez(tmp_path / "rows.npz", **arrays)
    rows = data.load("rows", str(tmp_path))
    assert sparse.issparse(rows.x)
    np.testing.assert_allclose(rows.x.toarray(), table.x, rtol=1e-6)
    np.testing.assert_array_equal(rows.x.toarray(), x.toarray(), "a set of one's own is taken as it is given")
    np.savez(tmp_path / "pubmed.npz", **arrays)
    sums = np.asarray(data.load("pubmed", str(tmp_path)).x.sum(1)).ravel()
    assert set(np.round(sums, 5)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"edges": np.array([[0, 6]])}, "edges name nodes"),
        ({"edges": np.array([0, 1])}, "shape"),
        ({"edges": np.array([[0.5, 1.0]])}, "whole node numbers"),
        ({"x": np.ones((5, 2), np.float32)}, "one row a node"),
        ({"x": np.full((6, 2), np.nan, np.float32)}, "finite"),
        ({"y": np.full(6, -1)}, "no node has a label"),
        ({"val_idx": np.array([0])}, "two splits"),
        ({"test_idx": np.array([4])}, "no labelled node"),
        ({"train_idx": np.array([99])}, "names nodes"),
    ],
)
def test_bad_arrays_are_told(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        loaded(tmp_path, **changes)


def test_missing_sets_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data DIR"):
        data.load("citeseer", "")
    with pytest.raises(UserError, match=r"ind\.citeseer.*planetoid"):
        data.load("citeseer", str(tmp_path))
    with pytest.raises(UserError, match=r"arxiv\.zip.*ODC-BY"):
        data.load("ogbn-arxiv", str(tmp_path))
    np.savez(tmp_path / "bare.npz", y=np.zeros(3))
    with pytest.raises(UserError, match="lacks edges"):
        data.load("bare", str(tmp_path))
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(UserError, match="npz file"):
        data.load("torn", str(tmp_path))


def test_cora_is_what_the_original_loads() -> None:
    with np.load(GOLDEN / "graph_baselines_planetoid_facts.npz") as z:
        facts = dict(z)
    d = data.load("cora", "")
    assert (d.nodes, d.x.shape[1], len(d.row)) == (facts["n_nodes"], facts["n_features"], facts["n_adj_entries"])
    np.testing.assert_array_equal(d.y, facts["labels"])
    np.testing.assert_array_equal(np.bincount(d.row, minlength=d.nodes), facts["row_degree"])
    np.testing.assert_array_equal(np.diff(d.x.indptr), facts["feat_nnz"])
    np.testing.assert_allclose(np.asarray(d.x.sum(0)).ravel()[:50], facts["feat_colsum_first50"], rtol=1e-5)
    assert (d.row * 100003 + d.col).sum() == facts["edge_hash"]
    for part in data.SPLITS:
        np.testing.assert_array_equal(d.split[part], facts[f"idx_{part}"])


def planetoid(folder: Path, name: str) -> None:
    """Eight files in Planetoid's form: 5 nodes in allx, test nodes 6 and 8 of a span of 6..8, so that 7 has no entry."""
    rng = np.random.default_rng(0)
    rows = sparse.csr_matrix(rng.integers(0, 2, (7, 4)).astype(np.float32))
    one_hot = np.eye(3, dtype=np.int32)[[0, 1, 2, 0, 1, 2, 0]]
    graph = defaultdict(list, {0: [1, 1, 0], 1: [0], 6: [8], 8: [6], 2: [3], 3: [2], 4: [], 5: [8], 7: []})
    # sorted test ids are 6, 8; the file lists them the other way round
    parts = {
        "x": rows[:2],
        "y": one_hot[:2],
        "tx": rows[5:],
        "ty": one_hot[5:],
        "allx": sparse.vstack([rows[:5], rows[:1]]).tocsr(),
        "ally": np.concatenate([one_hot[:5], one_hot[:1]]),
        "graph": graph,
    }
    for part, value in parts.items():
        (folder / f"ind.{name}.{part}").write_bytes(pickle.dumps(value, protocol=4))
    (folder / f"ind.{name}.test.index").write_text("8\n6\n")


def test_planetoid_files_with_a_gap_and_self_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHECKSUMS", {})
    planetoid(tmp_path, "citeseer")
    raw = data.read_planetoid(tmp_path, "citeseer")
    assert raw["y"].tolist() == [0, 1, 2, 0, 1, 0, 0, -1, 2]  # row 0 of tx is of the first listed node, 8
    assert (0, 0) in set(zip(raw["row"].tolist(), raw["col"].tolist(), strict=True))
    assert raw["x"][7].nnz == 0
    np.testing.assert_array_equal(raw["test_idx"], [6, 8])


def test_foreign_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHECKSUMS", {})
    planetoid(tmp_path, "citeseer")
    (tmp_path / "ind.citeseer.graph").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match=r"names os\.system"):
        data.read_planetoid(tmp_path, "citeseer")
    monkeypatch.setattr(data, "CHECKSUMS", {"citeseer.x": "0" * 64})
    with pytest.raises(UserError, match="not the official file"):
        data.read_planetoid(tmp_path, "citeseer")


def test_ogb_archive(tmp_path: Path) -> None:
    data.load.cache_clear()
    root = tmp_path / "arxiv"
    (root / "raw").mkdir(parents=True)
    (root / "split" / "time").mkdir(parents=True)

    def write(place: str, text: str) -> None:
        (root / place).write_bytes(gzip.compress(text.encode()))

    write("raw/edge.csv.gz", "0,1\n1,2\n2,1\n3,3\n")
    write("raw/node-feat.csv.gz", "0.5,-1\n1,2\n3,4\n5,6\n")
    write("raw/node-label.csv.gz", "0\n1\n1\n0\n")
    write("raw/num-node-list.csv.gz", "4\n")
    for name, nodes in (("train", "0\n"), ("valid", "1\n"), ("test", "2\n3\n")):
        write(f"split/time/{name}.csv.gz", nodes)
    d = data.load("ogbn-arxiv", str(tmp_path))
    assert list(zip(d.row.tolist(), d.col.tolist(), strict=True)) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert d.x[0].tolist() == [0.5, -1.0]  # as they are: not normalised
    write("raw/num-node-list.csv.gz", "5\n")
    data.load.cache_clear()
    with pytest.raises(UserError, match="for 5 nodes"):
        data.load("ogbn-arxiv", str(tmp_path))


def test_generated_graphs() -> None:
    d = data.block_model()
    assert (d.nodes, [len(d.split[p]) for p in data.SPLITS]) == (600, [100, 100, 400])
    noise = data.noise_edges()
    assert (d.y[noise[:, 0]] != d.y[noise[:, 1]]).all()
    assert len(noise) == int(0.2 * (len(d.row) // 2 - len(noise)))
    like = data.imitation("cora")
    assert (like.nodes, len(like.row)) == (2708, 10556)
    assert like.degree().max() > 10 * like.degree().mean()
    with pytest.raises(UserError, match="knows no graph"):
        data.imitation("moon")
