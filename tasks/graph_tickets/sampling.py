"""Sampled neighbourhoods, for graphs whose full pass does not fit: seeds, their neighbours by hops, the entries between them.

PyG's NeighborLoader draws the same way but needs a compiled extension (pyg-lib or torch-sparse) that PyG itself does not bring; a
hop here is one sort.  Entries keep the values that the whole graph gives them, so masks and degrees are never sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tasks.graph_tickets.graph import Graph, Input, SparseFeatures

FANOUT = (15, 10)  #: entries drawn a node, from the last layer to the first (as for GraphSAGE)


@dataclass(frozen=True)
class Sample:
    """Nodes (k,), seeds first, and the entries between them: their numbers in the whole graph, their ends among the nodes."""

    nodes: torch.Tensor
    entries: torch.Tensor
    graph: Graph  #: with a self-loop at every node, listed last

    def restrict(self, operator: Sequence[tuple[Graph, torch.Tensor | None]]) -> list[tuple[Graph, torch.Tensor | None]]:
        """A looped graph's operator on the sample alone."""
        out: list[tuple[Graph, torch.Tensor | None]] = []
        for graph, values in operator:
            own = torch.cat([self.entries, graph.edges - graph.nodes + self.nodes])
            out.append((self.graph, None if values is None else values.index_select(0, own)))
        return out

    def rows(self, x: Input) -> Input:
        """The nodes' features."""
        if isinstance(x, torch.Tensor):
            return x.index_select(0, self.nodes)
        offsets, columns, values = x.forward.crow_indices(), x.forward.col_indices(), x.forward.values()
        begin, count = offsets[self.nodes], offsets[self.nodes + 1] - offsets[self.nodes]
        taken, own = _ranges(begin, count)
        some = Graph(own, columns[taken], max(len(self.nodes), x.shape[1]))
        size = (len(self.nodes), x.shape[1])
        across, _, order = some.by_col
        kept = values[taken]
        forward = torch.sparse_csr_tensor(
            torch.cat([count.new_zeros(1), count.cumsum(0)]), columns[taken], kept, size, check_invariants=False
        )
        backward = torch.sparse_csr_tensor(
            across[: size[1] + 1],
            own if order is None else own[order],
            kept if order is None else kept[order],
            (size[1], size[0]),
            check_invariants=False,
        )
        return SparseFeatures(forward, backward)


def sample(graph: Graph, seeds: torch.Tensor, generator: torch.Generator, fanout: Sequence[int] = FANOUT) -> Sample:
    """Of each node up to `fanout` arriving entries, uniformly without replacement, hop by hop from distinct `seeds`."""
    offsets, sources, order = graph.by_col
    local = torch.full((graph.nodes,), -1, dtype=torch.long, device=graph.device)
    local[seeds] = torch.arange(len(seeds), device=graph.device)
    nodes, frontier = seeds, seeds
    entries: list[torch.Tensor] = []
    for most in fanout:
        begin, count = offsets[frontier], offsets[frontier + 1] - offsets[frontier]
        taken, own = _ranges(begin, count)
        key = torch.rand(len(taken), generator=generator).to(graph.device)
        # sorted by node, then by key, then by place: the first `most` of each node are a uniform draw
        by_key = torch.argsort(key, stable=True)
        ranked = by_key[torch.argsort(own[by_key], stable=True)]
        rank = torch.arange(len(ranked), device=graph.device) - (count.cumsum(0) - count)[own[ranked]]
        chosen = taken[ranked[rank < most]]
        entries.append(chosen)
        met = sources[chosen].unique()
        fresh = met[local[met] < 0]
        local[fresh] = len(nodes) + torch.arange(len(fresh), device=graph.device)
        nodes, frontier = torch.cat([nodes, fresh]), fresh
    every = torch.cat(entries)
    whole = every if order is None else order[every]
    loops = torch.arange(len(nodes), device=graph.device)
    row, col = local[graph.row[whole]], local[graph.col[whole]]
    return Sample(nodes, whole, Graph(torch.cat([row, loops]), torch.cat([col, loops]), len(nodes)))


def _ranges(begin: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """begin_i, begin_i + 1, ... of every i in a row, and the i each belongs to."""
    own = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    first = count.cumsum(0) - count
    return begin[own] + torch.arange(len(own), device=count.device) - first[own], own
