"""ogbl-collab and ogbn-proteins, from small stand-ins in the official archives' format to a score."""

from __future__ import annotations

import gzip
import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from suite import bundle, registry
from suite.checks import untrusted
from suite.naming import UserError
from suite.protocol import Spec
from tasks.graph_tickets import data, link_data
from tasks.graph_tickets.label_task import LABELS
from tests.helpers import MemoryRun

TASK = registry.task("graph_tickets")


def csv(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    np.savetxt(text, table, delimiter=",", fmt="%d" if np.issubdtype(table.dtype, np.integer) else "%.6g")
    path.write_bytes(gzip.compress(text.getvalue().encode()))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    for cached in (data.load, data.digest, link_data.load):
        cached.cache_clear()


def problem(case: str, folder: Path, **changes: Any) -> Any:
    asked = {"tier": "paper", "division": "closed", "target": "", "seed": 0, **changes}
    spec = Spec("graph_tickets", TASK.version, **asked, case=case, data=str(folder))
    return TASK.of(case).problem(spec, MemoryRun(spec))


# -- ogbl-collab

NODES = 40


def collab(folder: Path, **changes: Any) -> dict[str, dict[str, np.ndarray]]:
    """Node 39 has no collaboration; a pair is listed in two years and both directions, one is a self-loop."""
    rng = np.random.default_rng(0)
    root = folder / "collab"
    train = np.concatenate([[[0, 1], [1, 0], [2, 2]], rng.integers(0, 39, (90, 2))])
    parts: dict[str, dict[str, np.ndarray]] = {
        "train": {"edge": train, "year": np.r_[2016, 2017, 2017, np.full(90, 2015)], "weight": np.ones(93, np.int64)},
        "valid": {"edge": rng.integers(0, 40, (8, 2)), "year": np.full(8, 2018), "weight": np.ones(8, np.int64)},
        "test": {"edge": rng.integers(0, 40, (9, 2)), "year": np.full(9, 2019), "weight": np.ones(9, np.int64)},
    }
    for part in ("valid", "test"):
        parts[part]["edge_neg"] = rng.integers(0, 40, (70, 2))
    for place, value in changes.items():
        part, _, key = place.partition("_")
        parts[part][key] = value
    csv(root / "raw" / "edge.csv.gz", train)
    csv(root / "raw" / "num-node-list.csv.gz", np.array([NODES]))
    csv(root / "raw" / "node-feat.csv.gz", rng.normal(size=(NODES, 12)))
    (root / "split" / "time").mkdir(parents=True, exist_ok=True)
    for part, arrays in parts.items():
        torch.save(arrays, root / "split" / "time" / f"{part}.pt", pickle_protocol=2)
    return parts


def test_collab_as_it_is_listed(tmp_path: Path) -> None:
    parts = collab(tmp_path)
    d = link_data.load("ogbl-collab", str(tmp_path))
    train = parts["train"]["edge"]
    np.testing.assert_array_equal(d.positive["train"], train[train[:, 0] != train[:, 1]])  # repetitions stay to be learnt
    entries = list(zip(d.row.tolist(), d.col.tolist(), strict=True))
    assert len(set(entries)) == len(entries)
    assert {(0, 1), (1, 0)} <= set(entries)
    assert set(entries) == {(int(a), int(b)) for u, v in train for a, b in ((u, v), (v, u)) if u != v}
    np.testing.assert_array_equal(d.positive["val"], parts["valid"]["edge"])
    np.testing.assert_array_equal(d.negative["test"], parts["test"]["edge_neg"])
    assert d.degree(np.array([[0, 39]])).tolist() == [0]  # node 39 is alone


def test_older_archives_and_tensors_are_read(tmp_path: Path) -> None:
    edge = np.arange(6).reshape(3, 2)
    torch.save({"edge": edge}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"edge": torch.from_numpy(edge)}, tmp_path / "tensor.pt")
    for name in ("old", "tensor"):
        np.testing.assert_array_equal(link_data.read_split(tmp_path / f"{name}.pt")["edge"], edge)


class Trap:
    def __reduce__(self) -> Any:
        return Path.touch, (Path(TOUCHED),)


TOUCHED = ""


def test_what_a_split_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tasks.graph_tickets.test_archives.TOUCHED", str(tmp_path / "run"))
    torch.save({"edge": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"edge": Trap()}, protocol=2))
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04 no more")
    torch.save([np.arange(3)], tmp_path / "list.pt")
    torch.save({"edge": np.array(["a"])}, tmp_path / "text.pt")
    for name in ("trap", "plain", "torn", "list", "text"):
        with pytest.raises(UserError, match="unpack the official archive again"):
            link_data.read_split(tmp_path / f"{name}.pt")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"no .*gone\.pt"):
        link_data.read_split(tmp_path / "gone.pt")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"valid_year": np.full(8, 2017)}, "follow each other in time"),
        ({"test_edge": np.full((9, 2), 40)}, "names nodes 40..40 of 40"),
        ({"test_edge_neg": np.zeros((4, 3), np.int64)}, "edge_neg of test"),
        ({"train_edge": np.zeros((3, 3), np.int64)}, "edge of train"),
    ],
)
def test_a_split_that_cannot_be_is_told(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    collab(tmp_path, **changes)
    with pytest.raises(UserError, match=told):
        link_data.load("ogbl-collab", str(tmp_path))


def test_missing_archives_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"linkproppred/collab\.zip.*ODC-BY"):
        link_data.load("ogbl-collab", str(tmp_path))
    with pytest.raises(UserError, match=r"nodeproppred/proteins\.zip.*CC0"):
        data.load("ogbn-proteins", str(tmp_path))
    collab(tmp_path)
    (tmp_path / "collab" / "split" / "time" / "test.pt").unlink()
    with pytest.raises(UserError, match=r"no .*test\.pt"):
        link_data.load("ogbl-collab", str(tmp_path))


@pytest.mark.parametrize("architecture", ["gcn8", "deepergcn8"])
def test_collab_from_training_to_a_score(tmp_path: Path, architecture: str) -> None:
    collab(tmp_path)
    case = f"ogbl-collab/{architecture}"
    card, p = TASK.of(case), problem(case, tmp_path, target="edges=0.5,weights=0.5")
    p.epochs = 2
    if architecture == "gcn8":
        p.rates = (0.5, 0.5)
    method = "ugs" if architecture == "gcn8" else "random_edges"
    ticket = registry.configure(registry.load(registry.method("graph_tickets", method)), []).solve(p)
    evidence = card.examine(p, ticket)
    assert len(evidence["row"]) == 9 + 70
    found = {m.name: m for m in card.score(p.spec, evidence)}
    assert card.ranked in found
    bar = np.sort(evidence["score"][evidence["label"] == 0])[-50]
    assert found["hits_50"].value == pytest.approx(100 * (evidence["score"][evidence["label"] == 1] > bar).mean())
    weighed = {m.name: m.value for m in card.weigh(p, ticket)}
    assert weighed["macs_per_pair"] == 8 + 8 * 8 + 8 * 8 + 8
    told = card.truth_of(p.spec)
    assert told["rows"] == 79
    assert set(told["columns"]) == set(card.truth)


def test_the_digest_is_of_the_split_too(tmp_path: Path) -> None:
    collab(tmp_path)
    before = link_data.digest("ogbl-collab", str(tmp_path))
    collab(tmp_path, test_edge=np.ones((9, 2), np.int64))
    data.digest.cache_clear()
    assert link_data.digest("ogbl-collab", str(tmp_path)) != before


# -- ogbn-proteins


def proteins(folder: Path, species: str = "node_species", **changes: np.ndarray) -> dict[str, np.ndarray]:
    """Thirty nodes of three species; node 29 is alone, an edge is listed again in reverse, one is a self-loop."""
    rng = np.random.default_rng(0)
    root = folder / "proteins"
    edges = np.concatenate([[[0, 1], [1, 0], [2, 2]], rng.integers(3, 29, (60, 2))])
    tables = {
        "edge": edges,
        "edge-feat": rng.random((len(edges), 8)),
        "num-node-list": np.array([30]),
        "node-label": rng.integers(0, 2, (30, LABELS)),
        species: np.repeat([3702, 9606, 511145], 10),
        **changes,
    }
    for name, table in tables.items():
        csv(root / "raw" / f"{name}.csv.gz", table)
    for i, part in enumerate(("train", "valid", "test")):
        csv(root / "split" / "species" / f"{part}.csv.gz", np.arange(10 * i, 10 * i + 10))
    return tables


def test_features_of_proteins_are_species_and_mean_of_edges(tmp_path: Path) -> None:
    tables = proteins(tmp_path)
    d = data.load("ogbn-proteins", str(tmp_path))
    assert d.y.shape == (30, LABELS)
    assert d.x.shape == (30, 3 + 8)
    np.testing.assert_array_equal(d.x[[0, 10, 29], :3], [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    features = tables["edge-feat"]
    np.testing.assert_allclose(d.x[0, 3:], features[0], rtol=1e-5)  # the reverse of edge 0 is the same edge
    assert not d.x[2, 3:].any()  # a self-loop is no edge
    assert not d.x[29, 3:].any()
    first: dict[tuple[int, int], int] = {}
    for i, (u, v) in enumerate(tables["edge"].tolist()):
        if u != v:
            first.setdefault((min(u, v), max(u, v)), i)
    for node in range(30):
        own = [i for pair, i in first.items() if node in pair]
        np.testing.assert_allclose(d.x[node, 3:], features[own].mean(0) if own else np.zeros(8), rtol=1e-4)


def test_species_by_either_name_and_labels_that_are_missing(tmp_path: Path) -> None:
    label = np.random.default_rng(1).integers(0, 2, (30, LABELS)).astype(float)
    label[5] = np.nan
    label[:, 7] = np.nan
    proteins(tmp_path, "species", **{"node-label": label})
    d = data.load("ogbn-proteins", str(tmp_path))
    assert 5 not in d.split["train"].tolist()
    p = problem("ogbn-proteins/gcn8", tmp_path)
    assert p.y[20:].isnan().all()  # test labels are not shown
    (view,) = p.views(p.graph, 0)
    loss = p.loss(torch.zeros(30, LABELS), view)
    assert float(loss) == pytest.approx(math.log(2))
    card = TASK.of("ogbn-proteins/gcn8")
    evidence = card.examine(p, card.parent(p))
    assert (evidence["label7"] == -1).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"node_species": np.zeros(29, int)}, "29 species of 30 nodes"),
        ({"edge-feat": np.zeros((3, 8))}, "features of 3 of 63 edges"),
        ({"edge": np.full((63, 2), 30)}, "edges name nodes"),
        ({"node-label": np.full((30, LABELS), 2)}, "are 0, 1 or missing"),
    ],
)
def test_bad_proteins_are_told(tmp_path: Path, changes: dict[str, np.ndarray], told: str) -> None:
    proteins(tmp_path, **changes)
    with pytest.raises(UserError, match=told):
        data.load("ogbn-proteins", str(tmp_path))


def test_proteins_need_all_their_labels(tmp_path: Path) -> None:
    proteins(tmp_path, **{"node-label": np.zeros((30, 3), int)})
    with pytest.raises(UserError, match="112 a node"):
        problem("ogbn-proteins/gcn8", tmp_path)


@pytest.mark.parametrize("sampled", [False, True])
def test_proteins_from_training_to_a_checked_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled: bool) -> None:
    from tasks.graph_tickets import problem as module
    from tasks.graph_tickets.metrics import roc_auc

    if sampled:
        monkeypatch.setattr(module, "ENTRIES", 10)
        monkeypatch.setattr(module, "BATCH", 4)
    tables = proteins(tmp_path)
    case = "ogbn-proteins/gcn8"
    card, p = TASK.of(case), problem(case, tmp_path, target="edges=0.5,weights=0.5")
    assert p.batch == (4 if sampled else 0)
    p.epochs, p.rates = 2, (0.5, 0.5)
    ticket = registry.configure(registry.load(registry.method("graph_tickets", "ugs")), []).solve(p)
    bundle.write_table(card.examine(p, ticket), tmp_path / bundle.EVIDENCE)
    evidence = untrusted.table(tmp_path, bundle.EVIDENCE, card.columns, card.evidence_bytes, 10)
    found = {m.name: m for m in card.score(p.spec, evidence)}
    label = np.stack([evidence[f"label{i}"] for i in range(LABELS)], 1)
    np.testing.assert_array_equal(label, tables["node-label"][20:])
    score = np.stack([evidence[f"score{i}"] for i in range(LABELS)], 1).astype(float)
    assert found["roc_auc"].value == pytest.approx(100 * roc_auc(label.astype(float), score))
    each = [roc_auc(label[:, [i]].astype(float), score[:, [i]]) for i in range(LABELS) if 0 < label[:, i].sum() < 10]
    assert found["worst_label"].value == pytest.approx(100 * min(each))
    assert {"roc_auc", "worst_label"} <= found.keys()
    for m in found.values():
        assert m.interval is not None
        assert m.interval[0] <= m.value <= m.interval[1]
    assert set(card.truth_of(p.spec)["columns"]) == set(card.truth)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("teddy", []),
        ("wd_glt", []),
        ("wd_glt", ["auxiliary=entropy"]),
        ("rethinking_glt", []),
        ("transfer", ["finder=wd", "source=ogbn-proteins/gin8"]),
        ("transfer", ["finder=minmax_perturb", "source=ogbn-proteins/gin8"]),
    ],
)
def test_methods_that_need_classes_refuse_several_labels(tmp_path: Path, method: str, settings: list[str]) -> None:
    proteins(tmp_path)
    p = problem("ogbn-proteins/gcn8", tmp_path, target="edges=0.5")
    with pytest.raises(UserError, match="here no node has one class"):
        registry.configure(registry.load(registry.method("graph_tickets", method)), settings).solve(p)
    assert p.run.examples == 0


def test_the_adversary_alone_serves_several_labels(tmp_path: Path) -> None:
    proteins(tmp_path)
    p = problem("ogbn-proteins/gcn8", tmp_path, target="edges=0.5")
    p.epochs, p.rates = 2, (0.5, 0.5)
    method = registry.configure(registry.load(registry.method("graph_tickets", "rethinking_glt")), ["lam=0"])
    assert len(method.solve(p).row) < p.graph.edges


def test_evidence_of_proteins_fits_a_bundle(tmp_path: Path) -> None:
    card = TASK.of("ogbn-proteins/gcn8")
    rng = np.random.default_rng(0)
    n = 24_679  # the official test set
    columns = {"row": np.arange(n), "degree": rng.integers(1, 8_000, n)}
    columns |= {f"label{i}": rng.random(n) < 0.1 for i in range(LABELS)}
    columns |= {f"score{i}": rng.normal(-2, 2, n) for i in range(LABELS)}
    path = tmp_path / bundle.EVIDENCE
    bundle.write_table({k: columns[k].astype(kind) for k, kind in card.columns.items()}, path)
    assert path.stat().st_size < card.evidence_bytes == untrusted.PAPER_BYTES
    read = untrusted.table(tmp_path, bundle.EVIDENCE, card.columns, card.evidence_bytes, n)
    some = {k: v[:400] for k, v in read.items()}
    names = {m.name for m in card.score(Spec("graph_tickets", 1, "paper", "closed", "ogbn-proteins/gcn8", "", 0), some)}
    assert names == {"roc_auc", "worst_label", "low_degree", "high_degree", "degree_gap"}
