"""A ticket as it would run: pruned edges are gone, the operator is computed before, and each product takes the kernel that is
fastest on this machine, found by timing them all on the very operands.

What is tried for the features' product: sparse rows of features, a dense table, only the columns of the weights that are
left, and weights in compressed rows; for a hidden layer's: a dense product and weights in compressed rows; for the
aggregation: torch.sparse in CSR and in COO, and PyG's EdgeIndex where PyG is installed.  The dense parent is served alike.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch

from tasks.graph_tickets import graph as ops
from tasks.graph_tickets.graph import Graph, Input, SparseFeatures
from tasks.graph_tickets.models import Gcn, GraphNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

Way = Callable[..., torch.Tensor]
TRIES = 3  #: timings of each way, of which the least counts
ENOUGH = 0.25  #: seconds after which a way is not tried again


class Deployed:
    """Kernels that were chosen for one network, graph and features; called in the order of a forward pass."""

    def __init__(self, weights: Literal["measured", "csr"] = "measured") -> None:
        self.weights = weights
        self.chosen: list[tuple[str, Way]] = []
        self._step = 0
        self._choosing = False

    def begin(self) -> None:
        """A pass starts; the first one chooses."""
        self._step, self._choosing = 0, not self.chosen

    @property
    def names(self) -> list[str]:
        """The kernel of each step of a forward pass."""
        return [name for name, _ in self.chosen]

    def linear(self, x: Input, weight: torch.Tensor) -> torch.Tensor:
        return self._call(lambda: _linear_ways(x, weight, self.weights == "csr"), x)

    def propagate(self, graph: Graph, values: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return self._call(lambda: _propagate_ways(graph, values), values, h)

    def attend(self, graph: Graph, values: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return self._call(lambda: _attend_ways(graph), values, h)

    def _call(self, ways: Callable[[], Mapping[str, Way]], *operands: Any) -> torch.Tensor:
        if self._choosing:
            self.chosen.append(_fastest(ways(), operands))
        _, way = self.chosen[self._step]
        self._step += 1
        return way(*operands)


def deploy(
    model: GraphNetwork, graph: Graph, x: Input, weights: Literal["measured", "csr"] = "measured"
) -> tuple[Callable[[], torch.Tensor], Deployed]:
    """The call that gives all nodes' logits, and the kernels it chose.

    Args:
        weights: `csr` forces the network's weights into compressed rows.
    """
    network = compact(model).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    operator = network.operator(graph, graph.values)
    kernels = Deployed(weights)

    def call() -> torch.Tensor:
        kernels.begin()
        with torch.inference_mode():
            return network.apply_operator(x, operator, kernels)

    call()

    return call, kernels


@torch.no_grad()
def compact(model: GraphNetwork) -> GraphNetwork:
    """A copy without the hidden units of a GCN that nothing enters or nothing leaves: its logits are the same."""
    small = copy.deepcopy(model)
    if isinstance(small, Gcn):
        for first, second in zip(small.layers, small.layers[1:], strict=False):
            w, v = first.weight, second.weight
            alive = ((w != 0).any(1) & (v != 0).any(0)).nonzero().flatten()
            if len(alive) == 0:
                alive = alive.new_zeros(1)  # a product needs a width
            first.weight = torch.nn.Parameter(w[alive].clone())
            second.weight = torch.nn.Parameter(v[:, alive].clone())
    return small


def _linear_ways(x: Input, weight: torch.Tensor, forced: bool) -> dict[str, Way]:
    rows = weight.to_sparse_csr()
    if isinstance(x, torch.Tensor):
        by_csr = {"weights in csr": lambda h: (rows @ h.t().contiguous()).t().contiguous()}
        return by_csr if forced else {"dense": lambda h: h @ weight.t(), **by_csr}
    turned = weight.t().contiguous()
    table, flat = x.forward, x.forward.to_dense()
    flat_t, turned_rows = flat.t().contiguous(), turned.to_sparse_csr()
    by_csr = {
        "weights in csr": lambda _: (rows @ flat_t).t().contiguous(),
        "both in csr": lambda _: (table @ turned_rows).to_dense(),
    }
    if forced:
        return by_csr
    alive = (weight != 0).any(0).nonzero().flatten()
    narrow, few = _columns(x, alive), turned[alive].contiguous()
    return {
        "sparse features": lambda _: table @ turned,
        "dense": lambda _: flat @ turned,
        "sparse features, columns that are left": lambda _: narrow @ few,
        **by_csr,
    }


def _columns(x: SparseFeatures, alive: torch.Tensor) -> torch.Tensor:
    """The features of some columns, (n, len(alive)) CSR."""
    place = torch.full((x.shape[1],), -1, dtype=torch.long, device=alive.device)
    place[alive] = torch.arange(len(alive), device=alive.device)
    offsets, columns, values = x.forward.crow_indices(), place[x.forward.col_indices()], x.forward.values()
    keep = columns >= 0
    kept = torch.cat([keep.new_zeros(1, dtype=torch.long), keep.cumsum(0)])[offsets]
    return torch.sparse_csr_tensor(kept, columns[keep], values[keep], (x.shape[0], len(alive)), check_invariants=False)


def _propagate_ways(graph: Graph, values: torch.Tensor) -> dict[str, Way]:
    fixed = ops.csr(graph, values.detach())
    triples = fixed.to_sparse_coo().coalesce()
    ways: dict[str, Way] = {"torch csr": lambda _, h: fixed @ h, "torch coo": lambda _, h: torch.sparse.mm(triples, h)}
    index = _edge_index(graph)
    if index is None:
        return ways
    order = graph.by_col[2]
    weight = values.detach() if order is None else values.detach()[order]
    return {**ways, "PyG EdgeIndex": lambda _, h: index.matmul(h, weight)}


def _attend_ways(graph: Graph) -> dict[str, Way]:
    graph.by_col  # noqa: B018  compressed before the first timing
    return {
        "torch csr": lambda values, h: ops.csr(graph, values) @ h.contiguous(),
        "scatter": lambda values, h: torch.zeros_like(h).index_add_(0, graph.col, h[graph.row] * values[:, None]),
    }


def _edge_index(graph: Graph) -> Any:
    """PyG's form of the transposed operator, None where PyG is not installed."""
    try:
        from torch_geometric import EdgeIndex
    except ImportError:
        return None
    order = graph.by_col[2]
    row, col = (graph.row, graph.col) if order is None else (graph.row[order], graph.col[order])
    return EdgeIndex(torch.stack([col, row]), sparse_size=(graph.nodes, graph.nodes), sort_order="row").fill_cache_()


def _fastest(ways: Mapping[str, Way], operands: Iterable[Any]) -> tuple[str, Way]:
    """The way that takes least; ways that this machine has no kernel for are left out."""
    operands = tuple(operands)
    on_gpu = any(isinstance(o, torch.Tensor) and o.is_cuda for o in operands)
    times: dict[str, float] = {}
    for name, way in ways.items():
        try:
            way(*operands)
        except (RuntimeError, NotImplementedError):  # this layout has no kernel on this device
            continue
        least, began = float("inf"), time.perf_counter()
        for _ in range(TRIES):
            if on_gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            way(*operands)
            if on_gpu:
                torch.cuda.synchronize()
            least = min(least, time.perf_counter() - start)
            if time.perf_counter() - began > ENOUGH:
                break
        times[name] = least
    name = min(times, key=times.__getitem__)
    return name, ways[name]
