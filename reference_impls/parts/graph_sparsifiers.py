"""What sparsifiers without training share: undirected pairs, ranking under a budget, similarity, effective resistance.

No label is looked at.  Sources: the papers that each names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import linalg, sparse
from scipy.sparse import csgraph

from tasks.graph_tickets.graph import Graph

if TYPE_CHECKING:
    from tasks.graph_tickets.task import GraphProblem

EXACT = 5_000  #: nodes of a component up to which resistances are exact


@dataclass(frozen=True)
class Pairs:
    """Undirected edges of a graph: u < v (m,), in row-major order."""

    graph: Graph
    u: np.ndarray
    v: np.ndarray
    nodes: int
    first: np.ndarray  #: (m,) entry (u, v); the other direction is its reverse

    @classmethod
    def of(cls, graph: Graph) -> Pairs:
        row, col = graph.row.cpu().numpy(), graph.col.cpu().numpy()
        first = np.flatnonzero(row < col)
        return cls(graph, row[first], col[first], graph.nodes, first)

    def __len__(self) -> int:
        return len(self.u)

    def degree(self) -> np.ndarray:
        return np.bincount(np.concatenate([self.u, self.v]), minlength=self.nodes)

    def adjacency(self) -> sparse.csr_matrix:
        ones = np.ones(2 * len(self))
        return sparse.csr_matrix((ones, (np.r_[self.u, self.v], np.r_[self.v, self.u])), (self.nodes, self.nodes))

    def entries(self, keep: np.ndarray) -> torch.Tensor:
        """Bool over the graph's entries: both directions of the pairs that stay, (m,) bool."""
        graph = self.graph
        out = torch.zeros(graph.edges, dtype=torch.bool, device=graph.device)
        chosen = torch.from_numpy(self.first[keep]).to(graph.device)
        out[chosen] = True
        out[graph.reverse[chosen]] = True
        return out

    def values(self, worth: np.ndarray) -> torch.Tensor:
        """Float32 over the graph's entries: both directions of a pair have its value, (m,) each."""
        graph = self.graph
        out = torch.zeros(graph.edges, device=graph.device)
        first = torch.from_numpy(self.first).to(graph.device)
        out[first] = torch.from_numpy(worth).float().to(graph.device)
        out[graph.reverse[first]] = out[first]
        return out


def budget(problem: GraphProblem, pairs: Pairs, share: float) -> int:
    """Pairs that stay, one at least."""
    return max(1, round(share * len(pairs)))


def draws(problem: GraphProblem, name: str) -> np.random.Generator:
    """A method's own stream of this run."""
    return np.random.Generator(np.random.Philox(problem.run.seed(name)))


def keep_highest(scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Bool with the `count` highest; ties by a seeded permutation."""
    order = np.lexsort((rng.permutation(len(scores)), -scores))
    keep = np.zeros(len(scores), bool)
    keep[order[:count]] = True
    return keep


def local_rank(pairs: Pairs, scores: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each pair among its u's and among its v's, 0 for the highest of `scores`; (m,) each.

    `scores` is (2, m): what the pair is worth to u, and to v.  Ties by a seeded permutation.
    """
    m = len(pairs)
    node, worth = np.r_[pairs.u, pairs.v], np.r_[scores[0], scores[1]]
    order = np.lexsort((rng.permutation(2 * m), -worth, node))
    starts = np.r_[0, np.cumsum(np.bincount(node, minlength=pairs.nodes))]
    rank = np.empty(2 * m, np.int64)
    rank[order] = np.arange(2 * m) - starts[node[order]]
    return rank[:m], rank[m:]


def jaccard(pairs: Pairs) -> np.ndarray:
    """|N(u) and N(v)| / |N(u) or N(v)| of every pair, neighbours without the node itself; an empty union scores 0."""
    common = row_products(pairs, pairs.adjacency())
    degree = pairs.degree()
    union = degree[pairs.u] + degree[pairs.v] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def row_products(pairs: Pairs, table: sparse.csr_matrix) -> np.ndarray:
    """<a_u, a_v> of every pair (m,), without a table of all pairs of nodes; `table` (n, f) has a row a node."""
    parts = [np.asarray(table[u].multiply(table[v]).sum(1)).ravel() for u, v in _chunks(pairs.u, pairs.v)]
    return np.concatenate(parts or [np.zeros(0)])


def _chunks(u: np.ndarray, v: np.ndarray, size: int = 200_000) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(u[i : i + size], v[i : i + size]) for i in range(0, len(u), size)]


def effective_resistance(pairs: Pairs, eps: float = 0.3, seed: int = 0) -> np.ndarray:
    """R_uv = (e_u - e_v)^T L^+ (e_u - e_v) of every pair (Spielman and Srivastava 2011).

    Exact in components of up to 5,000 nodes, by random projections with relative error `eps` in larger ones.
    """
    count, label = csgraph.connected_components(pairs.adjacency(), directed=False)
    sizes = np.bincount(label, minlength=count)
    out = np.empty(len(pairs))
    own = label[pairs.u]
    by_component = np.argsort(own, kind="stable")
    ends = np.searchsorted(own[by_component], np.arange(count + 1))
    members = np.argsort(label, kind="stable")
    starts = np.r_[0, np.cumsum(sizes)]
    place = np.empty(pairs.nodes, np.int64)
    place[members] = np.arange(pairs.nodes) - starts[label[members]]
    for c in np.unique(own):
        edges = by_component[ends[c] : ends[c + 1]]
        u, v, n = place[pairs.u[edges]], place[pairs.v[edges]], int(sizes[c])
        out[edges] = _exact(u, v, n) if n <= EXACT else _projected(u, v, n, eps, seed)
    return out


def _exact(u: np.ndarray, v: np.ndarray, n: int) -> np.ndarray:
    """Of one component: L + 11^T/n has the inverse L^+ + 11^T/n, and the ones cancel."""
    table = np.full((n, n), 1.0 / n)
    np.add.at(table, (np.r_[u, v], np.r_[v, u]), -1.0)
    np.add.at(table, (np.r_[u, v], np.r_[u, v]), 1.0)
    inverse = linalg.inv(table, overwrite_a=True, assume_a="pos")
    return np.asarray(inverse[u, u] + inverse[v, v] - 2 * inverse[u, v])


def _projected(u: np.ndarray, v: np.ndarray, n: int, eps: float, seed: int, width: int = 32, tolerance: float = 1e-6) -> np.ndarray:
    """|Q B L^+ (e_u - e_v)|^2 with k = ceil(24 ln n / eps^2) rows of random signs, `width` systems solved at a time."""
    m = len(u)
    k = math.ceil(24 * math.log(n) / eps**2)
    rows = np.arange(m)
    incidence = sparse.csr_matrix((np.r_[np.ones(m), -np.ones(m)], (np.r_[rows, rows], np.r_[u, v])), (m, n))
    laplacian = (incidence.T @ incidence).tocsr()
    rng = np.random.Generator(np.random.Philox(seed))
    out = np.zeros(m)
    for done in range(0, k, width):
        signs = rng.choice([-1.0, 1.0], (m, min(width, k - done)))
        z = conjugate_gradients(laplacian, incidence.T @ signs, tolerance)
        out += ((z[u] - z[v]) ** 2).sum(1)
    return out / k


def conjugate_gradients(laplacian: sparse.csr_matrix, right: np.ndarray, tolerance: float, most: int = 2000) -> np.ndarray:
    """Solve L z = b for the columns of b (each of sum 0) at once, preconditioned by the degrees."""
    inverse = 1 / laplacian.diagonal()[:, None]
    z, r = np.zeros_like(right), right.copy()
    d = inverse * r
    p, rho = d.copy(), (r * d).sum(0)
    goal = tolerance * np.linalg.norm(right, axis=0)
    for _ in range(most):
        if (np.linalg.norm(r, axis=0) <= goal).all():
            break
        q = laplacian @ p
        step = np.divide(rho, (p * q).sum(0), out=np.zeros_like(rho), where=rho > 0)
        z += step * p
        r -= step * q
        d = inverse * r
        before, rho = rho, (r * d).sum(0)
        p = d + np.divide(rho, before, out=np.zeros_like(rho), where=before > 0) * p
    return z - z.mean(0)


def spanning_forest(pairs: Pairs, keys: np.ndarray) -> np.ndarray:
    """Bool (m,) of a forest that spans every component: the lightest by `keys`, positive and distinct (Kruskal)."""
    weights = sparse.csr_matrix((keys, (pairs.u, pairs.v)), (pairs.nodes, pairs.nodes))
    tree = csgraph.minimum_spanning_tree(weights).tocoo()
    chosen = tree.row.astype(np.int64) * pairs.nodes + tree.col
    return np.isin(pairs.u * pairs.nodes + pairs.v, chosen)
