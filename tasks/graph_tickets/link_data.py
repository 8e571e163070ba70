"""Edges to predict: a graph of nodes split by its edges, and ogbl-collab's archive, as one type.

Messages pass over training edges alone.  What is predicted against, pairs without an edge, is drawn once for validation and
test, by a seed that is part of the task and not of a run, so that all runs are examined on the same pairs.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from suite.naming import UserError
from tasks.graph_tickets import data
from tasks.graph_tickets.data import Features, GraphData

SUFFIX = "-links"  #: ends the name of a set whose edges are predicted
SPLIT_SEED = 0  #: of numpy's Philox: order of the edges, then negatives of test and validation
TEST, VALIDATION = 0.10, 0.05  #: shares of the undirected edges; the first is UGS's, the second is ours
#: of the split's files on disk
FILES = {"train": "train", "val": "valid", "test": "test"}


@dataclass(frozen=True)
class LinkData:
    """A simple undirected graph of training edges, and pairs of nodes to tell apart.

    `row`, `col` int64 (E,): each training edge as two entries, in row-major order.  `positive`: (m, 2) edges of train, val, test;
    `negative`: (k, 2) pairs of val and test that are no edges.
    """

    name: str
    row: np.ndarray
    col: np.ndarray
    x: Features
    positive: Mapping[str, np.ndarray]
    negative: Mapping[str, np.ndarray]
    citations: int  #: training edges as the source counts edges
    notes: tuple[str, ...] = ()  #: what of the files was not taken

    @property
    def nodes(self) -> int:
        return int(self.x.shape[0])

    def pairs(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (p, 2) of val or test, edges first, and whether each is one (p,) int64."""
        there, absent = self.positive[part], self.negative[part]
        return np.concatenate([there, absent]), np.repeat([1, 0], [len(there), len(absent)])

    def degree(self, pairs: np.ndarray) -> np.ndarray:
        """Training neighbours of the less connected end of each pair, (p,)."""
        neighbours = np.bincount(self.row, minlength=self.nodes)
        return np.asarray(neighbours[pairs].min(1))


@lru_cache(maxsize=4)
def load(name: str, folder: str) -> LinkData:
    """`ogbl-collab`, or the edges of another set: ``cora-links``."""
    if name in data.OGB_LINKS:
        return _collab(name, folder)
    return split_edges(data.load(name.removesuffix(SUFFIX), folder, normalise=False), name)


def digest(name: str, folder: str) -> str:
    """Digest of the set, of which the split follows."""
    whole = data.digest(name.removesuffix(SUFFIX), folder)
    return whole if name in data.OGB_LINKS else hashlib.sha256(f"{whole} split by edges 1".encode()).hexdigest()


def split_edges(graph: GraphData, name: str = "") -> LinkData:
    """A tenth of the undirected edges for the test, a twentieth for validation, as many pairs without an edge for each.

    Edges in row-major order are drawn by uniform keys of `SPLIT_SEED`; then `non_edges` of the whole graph, distinct, the
    first of them for the test.

    Raises UserError where a part would be empty, or the graph has too few pairs without an edge.
    """
    rng = np.random.Generator(np.random.Philox(SPLIT_SEED))
    first = graph.row < graph.col
    edges = np.stack([graph.row[first], graph.col[first]], 1)
    test, val = int(TEST * len(edges)), int(VALIDATION * len(edges))
    if not val:
        raise UserError(f"{graph.name}: {len(edges)} edges are too few to split; predict the edges of a graph of 20 or more")
    order = np.argsort(rng.random(len(edges)), kind="stable")
    negative = non_edges(graph.nodes, keys(edges, graph.nodes), test + val, rng, distinct=True)
    parts = {"test": edges[order[:test]], "val": edges[order[test : test + val]], "train": edges[np.sort(order[test + val :])]}
    row, col = data.simple(parts["train"], graph.nodes)
    absent = {"test": negative[:test], "val": negative[test:]}
    citations = round(graph.citations * len(parts["train"]) / len(edges))
    return LinkData(name or f"{graph.name}{SUFFIX}", row, col, graph.x, parts, absent, citations, graph.notes)


def keys(pairs: np.ndarray, nodes: int) -> np.ndarray:
    """Sorted numbers u nodes + v, u < v, of pairs of two nodes (m, 2) in either direction, each once."""
    ends = np.sort(pairs.astype(np.int64), axis=1)
    return np.unique(ends[:, 0] * nodes + ends[:, 1])


def non_edges(nodes: int, taken: np.ndarray, count: int, rng: np.random.Generator, *, distinct: bool = False) -> np.ndarray:
    """(count, 2) pairs of two nodes, uniform among those whose number is not `taken` (sorted, see `keys`); u < v.

    Raises UserError where there are too few such pairs.
    """
    free = nodes * (nodes - 1) // 2 - len(taken)
    if free < (count if distinct else min(count, 1)):
        raise UserError(f"{count} pairs without an edge are needed, and the graph of {nodes} nodes has {free}; it is too dense")
    found = np.zeros(0, np.int64)
    while len(found) < count:
        ends = np.sort((nodes * rng.random((2 * (count - len(found)) + 16, 2))).astype(np.int64), axis=1)
        key = ends[:, 0] * nodes + ends[:, 1]
        found = np.concatenate([found, key[(ends[:, 0] != ends[:, 1]) & ~_among(key, taken)]])
        if distinct:
            found = found[np.sort(np.unique(found, return_index=True)[1])]
    return np.stack([found[:count] // nodes, found[:count] % nodes], 1)


def _among(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Whether each value stands in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    place = np.searchsorted(ordered, values)
    return np.asarray(ordered[np.minimum(place, len(ordered) - 1)] == values)


# -- ogbl-collab


def _collab(name: str, folder: str) -> LinkData:
    """An unpacked archive: collaborations up to 2017 to train, those of 2018 and 2019, with OGB's own negatives, to examine.

    Training edges are as listed, one a year of a collaboration; messages pass once a pair.  A pair may have met before: then a
    test edge is among the messages, as in OGB's own protocol.  Weights of edges are not read: UGS's adjacency is of zeros and ones.
    """
    root = data.locate(name, folder)
    assert root is not None  # an archive is never generated
    _, split, _ = data.OGB_LINKS[name]
    x = data.read_csv(root / "raw" / "node-feat.csv.gz", np.float32)
    n = int(data.read_csv(root / "raw" / "num-node-list.csv.gz", np.int64).ravel()[0])
    if len(x) != n or not np.isfinite(x).all():
        raise UserError(f"{root}: {len(x)} rows of features, finite or not, for {n} nodes; unpack the archive again")
    parts = {part: read_split(root / "split" / split / f"{file}.pt") for part, file in FILES.items()}
    for part, found in parts.items():
        wanted = ("edge", "year") if part == "train" else ("edge", "edge_neg", "year")
        missing = [k for k in wanted if k not in found]
        if missing:
            raise UserError(f"{root}: the split {FILES[part]} lacks {', '.join(missing)}; unpack the archive again")
        for key in wanted[:-1]:
            pairs = found[key]
            if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or not np.issubdtype(pairs.dtype, np.integer):
                raise UserError(f"{root}: {key} of {FILES[part]} is {pairs.dtype} {pairs.shape}; unpack the archive again")
            if pairs.min() < 0 or pairs.max() >= n:
                raise UserError(f"{root}: {key} of {FILES[part]} names nodes {pairs.min()}..{pairs.max()} of {n}")
    if not parts["train"]["year"].max() < parts["val"]["year"].min() <= parts["val"]["year"].max() < parts["test"]["year"].min():
        raise UserError(f"{root}: training, validation and test do not follow each other in time; unpack the archive again")
    positive = {part: found["edge"].astype(np.int64) for part, found in parts.items()}
    positive["train"] = positive["train"][positive["train"][:, 0] != positive["train"][:, 1]]
    negative = {part: parts[part]["edge_neg"].astype(np.int64) for part in ("val", "test")}
    row, col = data.simple(positive["train"], n)
    return LinkData(name, row, col, x, positive, negative, len(positive["train"]))


def read_split(path: Path) -> dict[str, np.ndarray]:
    """A torch pickle of a dict of arrays.  Nothing in it is run: it may hold tensors and numpy's arrays of numbers alone.

    Raises UserError where it is missing, or holds anything else.
    """
    import torch
    from numpy._core import multiarray

    if not path.is_file():
        raise UserError(f"no {path}: unpack the official archive again")
    kinds = [type(np.dtype(k)) for k in ("int16", "int32", "int64", "float32", "float64")]
    old, new = (f"{package}.multiarray._reconstruct" for package in ("numpy.core", "numpy._core"))
    known = [(multiarray._reconstruct, old), (multiarray._reconstruct, new), np.ndarray, np.dtype, *kinds]  # type: ignore[attr-defined]
    try:
        with torch.serialization.safe_globals(known):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError) as e:
        raise UserError(
            f"{path}: not a split of arrays that can be read: {str(e).splitlines()[0]}; unpack the official archive again"
        ) from e
    if not isinstance(found, dict) or not all(isinstance(v, np.ndarray | torch.Tensor) for v in found.values()):
        raise UserError(f"{path}: not a dict of arrays; unpack the official archive again")
    return {str(k): np.asarray(v) for k, v in found.items()}
