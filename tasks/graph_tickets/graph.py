"""Edges in compressed rows, and the two products that every graph network is made of, both differentiable twice.

Values live on edges: nothing here is ever N x N.  `propagate` sums what edges carry, `dot` compares the two ends of
each edge; each is the other's derivative.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled", UserWarning)


class Graph:
    """Directed entries (row, col) over n nodes; a message runs from its row node to its col node.

    `values` (E,) weigh the entries; where None they all weigh 1.
    """

    def __init__(self, row: torch.Tensor, col: torch.Tensor, nodes: int, values: torch.Tensor | None = None) -> None:
        self.row, self.col, self.nodes, self.values = row, col, nodes, values

    @property
    def edges(self) -> int:
        return len(self.row)

    @property
    def device(self) -> torch.device:
        return self.row.device

    @cached_property
    def by_row(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Compressed by row: offsets (n + 1,), columns (E,), and the entries' order (None: as they are)."""
        return _compress(self.row, self.col, self.nodes)

    @cached_property
    def by_col(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The transpose: offsets (n + 1,), rows (E,), order."""
        return _compress(self.col, self.row, self.nodes)

    @cached_property
    def in_degree(self) -> torch.Tensor:
        """Entries that arrive at each node, (n,) int64."""
        return torch.bincount(self.col, minlength=self.nodes)

    @cached_property
    def looped(self) -> Graph:
        """With a self-loop at every node, listed last."""
        every = torch.arange(self.nodes, device=self.device)
        return Graph(torch.cat([self.row, every]), torch.cat([self.col, every]), self.nodes)

    @cached_property
    def reverse(self) -> torch.Tensor:
        """Index of each entry's opposite, (E,), the first of several; an entry without one is its own."""
        key, other = self.row * self.nodes + self.col, self.col * self.nodes + self.row
        order = torch.argsort(key, stable=True)
        place = torch.searchsorted(key[order], other).clamp_max(max(0, len(key) - 1))
        found = order[place]
        return torch.where(key[found] == other, found, torch.arange(len(key), device=key.device))

    def take(self, keep: torch.Tensor) -> Graph:
        """The entries of a bool mask (E,): the others are gone."""
        return self.weighted(keep, None if self.values is None else self.values[keep])

    def weighted(self, keep: torch.Tensor, values: torch.Tensor | None) -> Graph:
        """The entries of a bool mask (E,), which then weigh `values` (one for each that is left)."""
        return Graph(self.row[keep], self.col[keep], self.nodes, values)

    def __getstate__(self) -> dict[str, Any]:
        return {"row": self.row, "col": self.col, "nodes": self.nodes, "values": self.values}


def _compress(major: torch.Tensor, minor: torch.Tensor, nodes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    key = major * nodes + minor
    order = None if bool((key[1:] >= key[:-1]).all()) else torch.argsort(key, stable=True)
    offsets = torch.zeros(nodes + 1, dtype=torch.long, device=major.device)
    torch.cumsum(torch.bincount(major, minlength=nodes), 0, out=offsets[1:])
    return offsets, minor if order is None else minor[order], order


def csr(graph: Graph, values: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
    """The operator of `propagate` as one sparse CSR tensor (n, n): row j of it holds what arrives at node j."""
    offsets, other, order = graph.by_row if transposed else graph.by_col
    return torch.sparse_csr_tensor(
        offsets, other, values if order is None else values[order], (graph.nodes, graph.nodes), check_invariants=False
    )


def multiply(table: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """A CSR tensor times a dense one, each row summed by one thread in order: the same bits in every run.

    MKL's product, which `@` calls on a CPU, does not promise that with several threads.
    """
    h = h.contiguous()
    return table @ h if table.is_cuda else torch.sparse.mm(table, h, "sum")


def propagate(graph: Graph, values: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """out_j = sum over entries (i, j) of value_ij * h_i; values (E,), h (n, d) to (n, d)."""
    out: torch.Tensor = _Propagate.apply(values, h, graph, False)
    return out


def dot(graph: Graph, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """<x_i, y_j> for every entry (i, j), without a table of E x d; x, y (n, d) to (E,)."""
    out: torch.Tensor = _Dot.apply(x, y, graph)
    return out


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, h: torch.Tensor, graph: Graph, transposed: bool) -> torch.Tensor:
        ctx.save_for_backward(values, h)
        ctx.graph, ctx.transposed = graph, transposed
        return multiply(csr(graph, values.detach(), transposed=transposed), h.detach())

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, h = ctx.saved_tensors
        on_values = on_h = None
        if ctx.needs_input_grad[0]:
            on_values = _Dot.apply(g, h, ctx.graph) if ctx.transposed else _Dot.apply(h, g, ctx.graph)
        if ctx.needs_input_grad[1]:
            on_h = _Propagate.apply(values, g, ctx.graph, not ctx.transposed)
        return on_values, on_h, None, None


class _Dot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, graph: Graph) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        ctx.graph = graph
        if graph.edges > graph.nodes**2:  # more entries than pairs, which the kernel refuses; such a graph is tiny
            return (x.index_select(0, graph.row) * y.index_select(0, graph.col)).sum(1)
        offsets, other, order = graph.by_row
        size = (graph.nodes, graph.nodes)
        pattern = torch.sparse_csr_tensor(offsets, other, x.new_zeros(graph.edges), size, check_invariants=False)
        found = torch.sparse.sampled_addmm(pattern, x.contiguous(), y.t(), beta=0.0).values()
        if order is None:
            return found
        out = torch.empty_like(found)
        out[order] = found
        return out

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y = ctx.saved_tensors
        on_x = _Propagate.apply(g, y, ctx.graph, True) if ctx.needs_input_grad[0] else None
        on_y = _Propagate.apply(g, x, ctx.graph, False) if ctx.needs_input_grad[1] else None
        return on_x, on_y, None


def row_sum(graph: Graph, values: torch.Tensor) -> torch.Tensor:
    """Sum over each node's outgoing entries, (E,) to (n,)."""
    return values.new_zeros(graph.nodes).index_add(0, graph.row, values)


def edge_softmax(graph: Graph, logits: torch.Tensor) -> torch.Tensor:
    """Softmax over the entries that arrive at each node, a column for itself; (E, heads) to (E, heads)."""
    offsets, _, order = graph.by_col
    ordered = logits.detach() if order is None else logits.detach()[order]
    top = torch.segment_reduce(ordered, "max", offsets=offsets, initial=torch.finfo(logits.dtype).min)
    weight = torch.exp(logits - top.index_select(0, graph.col))
    total = weight.new_zeros(graph.nodes, weight.shape[1]).index_add(0, graph.col, weight)
    return weight / total.index_select(0, graph.col)


# -- node features


@dataclass(frozen=True)
class SparseFeatures:
    """Node features in compressed rows, with the transpose that the gradient needs."""

    forward: torch.Tensor  #: (n, f) CSR
    backward: torch.Tensor  #: (f, n) CSR

    @property
    def shape(self) -> torch.Size:
        return self.forward.shape

    def to(self, device: torch.device) -> SparseFeatures:
        return SparseFeatures(self.forward.to(device), self.backward.to(device))


Input = torch.Tensor | SparseFeatures


def features(x: Any) -> Input:
    """Tensors of a `GraphData`'s features: sparse rows stay sparse."""
    if isinstance(x, np.ndarray):
        return torch.from_numpy(x)
    return SparseFeatures(_csr(x), _csr(x.T.tocsr()))


def _csr(x: Any) -> torch.Tensor:
    x.sort_indices()
    parts: Mapping[str, torch.Tensor] = {
        "offsets": torch.from_numpy(x.indptr.astype(np.int64)),
        "places": torch.from_numpy(x.indices.astype(np.int64)),
        "values": torch.from_numpy(x.data.astype(np.float32)),
    }
    return torch.sparse_csr_tensor(parts["offsets"], parts["places"], parts["values"], x.shape, check_invariants=False)


def linear(x: Input, weight: torch.Tensor) -> torch.Tensor:
    """x weight^T, (n, f) and (d, f) to (n, d)."""
    if isinstance(x, torch.Tensor):
        return F.linear(x, weight)
    out: torch.Tensor = _SparseLinear.apply(weight.t(), x, False)
    return out


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: torch.Tensor, x: SparseFeatures, transposed: bool) -> torch.Tensor:
        ctx.x, ctx.transposed = x, transposed
        return multiply(x.backward if transposed else x.forward, h.detach())

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _SparseLinear.apply(g, ctx.x, not ctx.transposed), None, None
