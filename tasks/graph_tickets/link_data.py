"""Edges to predict: a graph of nodes split by its edges, and ogbl-collab's archive, as one type.

Messages pass over training edges alone.  What is predicted against, pairs without an edge, is drawn once for validation and
test, by a seed that is part of the task and not of a run, so that all runs are examined on the same pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from suite.naming import UserError
from tasks.graph_tickets import data
from tasks.graph_tickets.data import Features, GraphData

SUFFIX = "-links"  #: ends the name of a set whose edges are predicted
SPLIT_SEED = 0  #: of numpy's Philox: order of the edges, then negatives of test and validation
TEST, VALIDATION = 0.10, 0.05  #: shares of the undirected edges; the first is UGS's (ugs.md 2.5), the second is ours


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
    citations: int

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
        return data.read_collab(name, folder)
    return split_edges(data.load(name.removesuffix(SUFFIX), folder), name)


def digest(name: str, folder: str) -> str:
    """Digest of the set, of which the split follows."""
    import hashlib

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
    return LinkData(name or f"{graph.name}{SUFFIX}", row, col, graph.x, parts, absent, graph.citations)


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
