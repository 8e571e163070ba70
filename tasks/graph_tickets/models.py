"""GCN, GIN, GAT and DeeperGCN as UGS's released code defines them, over edge lists; what they differ in from PyG's is told at each.

PyG's layers have no place for a mask in the attention's logit, nor a normalisation by the row sums of an asymmetric
mask, so the layers are ours; without masks they equal PyG's, which tests hold them to.  Every layer transforms first and
aggregates second, which is the cheaper order where a layer narrows and gives the same result.

A forward pass takes the entries' values: soft masks on the entries that are left.  With `degree`, the in-degrees of the
unpruned graph, or entries of value 0, a pass is the original's (`legacy`), where a removed edge still counts in GIN's mean
and in GAT's softmax; where the entries are gone from `graph`, it is gone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from suite.naming import UserError
from tasks.graph_tickets import graph as ops
from tasks.graph_tickets.graph import Graph, Input
from tasks.graph_tickets.sampling import Sample

LEAST_DEGREE = 1e-6  #: a row sum of a mask may not fall to 0 or below: its root would not be a number


class Kernels(Protocol):
    """How a network's two heavy steps are computed: while training, or as deployed."""

    def linear(self, x: Input, weight: torch.Tensor) -> torch.Tensor: ...

    def propagate(self, graph: Graph, values: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """By values that are the same in every pass."""

    def attend(self, graph: Graph, values: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """By values that come from the features."""


class Training:
    """Differentiable kernels."""

    linear = staticmethod(ops.linear)
    propagate = staticmethod(ops.propagate)
    attend = staticmethod(ops.propagate)


TRAINING: Kernels = Training()
Operator = list[tuple[Graph, torch.Tensor | None]]  #: what aggregates in each layer


class GraphNetwork(nn.Module):
    """What the task and methods use of any network."""

    hidden: int
    folds_values = False  #: whether weights of edges become part of an operator that is computed before, at no cost

    def prunable(self) -> list[str]:
        """Names of the parameters that weight masks cover; the others always stay."""
        raise NotImplementedError

    def forward(
        self,
        x: Input,
        graph: Graph,
        values: torch.Tensor | None = None,
        degree: torch.Tensor | None = None,
        sample: Sample | None = None,
        operator: Operator | None = None,
    ) -> torch.Tensor:
        """Logits (n, classes) of all nodes, or of a sample's.

        Args:
            x: (n, f) features.
            graph: the entries; values: (E,) their masks, the graph's own weights where None.
            degree: (n,) in-degrees to count with instead of the graph's (GIN, legacy).
            operator: what aggregates, where it is not the graph's own.
        """
        if operator is None:
            operator = self.operator(graph, graph.values if values is None else values, degree)
        if sample is not None:
            x, operator = sample.rows(x), sample.restrict(operator)
        return self.apply_operator(x, operator, TRAINING)

    def operator(self, graph: Graph, values: torch.Tensor | None = None, degree: torch.Tensor | None = None) -> Operator:
        """What does not depend on the features: computed once where a network is deployed."""
        raise NotImplementedError

    def apply_operator(self, x: Input, operator: Operator, kernels: Kernels) -> torch.Tensor:
        """The rest of a forward pass."""
        raise NotImplementedError

    def work(self, nodes: int, edges: int) -> list[dict[str, Any]]:
        """Multiply-adds by part (our own count): name, kind, weight (parameter name, or empty), and
        `transform` and `aggregate`, the MACs in either order; `exps`."""
        raise NotImplementedError


def gcn_values(
    graph: Graph, values: torch.Tensor | None = None, *, detached: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """UGS's normalisation: d_i = 1 + row sum of a; entries d_i^-1/2 a_ij d_j^-1/2, (E,), and self-loops 1 / d_j, (n,).

    PyG's `gcn_norm` sums the column instead: equal for a symmetric mask alone.  `detached` stops the gradient in the degrees.
    A degree of 0 has the root 0, as released; below it the released code has NaN, and here the degree is `LEAST_DEGREE`.
    """
    a = torch.ones(graph.edges, device=graph.device, dtype=dtype) if values is None else values
    degree = 1 + ops.row_sum(graph, a)
    degree = degree.detach() if detached else degree
    root = degree.clamp_min(LEAST_DEGREE).rsqrt().masked_fill(degree == 0, 0.0)
    return root.index_select(0, graph.row) * a * root.index_select(0, graph.col), root * root


class Gcn(GraphNetwork):
    """Linear layers without bias; each aggregates by `gcn_values`; ReLU and dropout 0.5 between them."""

    folds_values = True

    def __init__(self, inputs: int, hidden: int, classes: int, layers: int = 2) -> None:
        super().__init__()
        self.hidden = hidden
        widths = [inputs, *[hidden] * (layers - 1), classes]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths))

    def prunable(self) -> list[str]:
        return [f"layers.{i}.weight" for i in range(len(self.layers))]

    def operator(self, graph: Graph, values: torch.Tensor | None = None, degree: torch.Tensor | None = None) -> Operator:
        entries, loops = gcn_values(graph, values, dtype=self.layers[0].weight.dtype)  # type: ignore[arg-type]
        # the self-loops are entries of the operator: one product instead of two and a sum
        return [(graph.looped, torch.cat([entries, loops]))] * len(self.layers)

    def apply_operator(self, x: Input, operator: Operator, kernels: Kernels) -> torch.Tensor:
        h: Any = x
        for i, (layer, (graph, values)) in enumerate(zip(self.layers, operator, strict=True)):
            h = kernels.propagate(graph, values, kernels.linear(h, layer.weight))  # type: ignore[arg-type]
            if i < len(self.layers) - 1:
                h = F.dropout(F.relu(h), 0.5, self.training)
        return h  # type: ignore[no-any-return]

    def work(self, nodes: int, edges: int) -> list[dict[str, Any]]:
        lines = []
        for i, layer in enumerate(self.layers):
            d_out, d_in = layer.weight.shape  # type: ignore[union-attr,misc]
            lines.append(_combination(f"layers.{i}.weight"))
            lines.append(_aggregation(f"layers.{i}.aggregate", (edges + nodes) * d_in, (edges + nodes) * d_out))
        return lines


class Gin(GraphNetwork):
    """Two layers h' = ReLU(W((1 + eps) h + mean of arriving messages)), dropout 0.5 after each; the mean of two heads as output.

    PyG's GINConv sums by default, has an MLP, and no head for the first layer.
    """

    folds_values = True

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.layers = nn.ModuleList([nn.Linear(inputs, hidden, bias=False), nn.Linear(hidden, classes, bias=False)])
        self.eps = nn.Parameter(torch.zeros(2))
        self.head = nn.Linear(hidden, classes, bias=False)

    def prunable(self) -> list[str]:
        return ["layers.0.weight", "layers.1.weight"]

    def operator(self, graph: Graph, values: torch.Tensor | None = None, degree: torch.Tensor | None = None) -> Operator:
        a = torch.ones(graph.edges, device=graph.device, dtype=self.eps.dtype) if values is None else values
        count = graph.in_degree if degree is None else degree
        mean = a * (1 / count.clamp_min(1).to(a.dtype)).index_select(0, graph.col)
        # (1 + eps) h is a self-loop of that weight
        return [(graph.looped, torch.cat([mean, (1 + eps).expand(graph.nodes)])) for eps in self.eps]

    def apply_operator(self, x: Input, operator: Operator, kernels: Kernels) -> torch.Tensor:
        h: Any = x
        outputs = []
        for layer, (graph, values) in zip(self.layers, operator, strict=True):
            h = kernels.propagate(graph, values, kernels.linear(h, layer.weight))  # type: ignore[arg-type]
            h = F.dropout(F.relu(h), 0.5, self.training)
            outputs.append(h)
        return (kernels.linear(outputs[0], self.head.weight) + outputs[1]) / 2

    def work(self, nodes: int, edges: int) -> list[dict[str, Any]]:
        lines = []
        for i, layer in enumerate(self.layers):
            d_out, d_in = layer.weight.shape  # type: ignore[union-attr,misc]
            lines.append(_combination(f"layers.{i}.weight"))
            # messages, the weighted self-loop and the mean's division
            lines.append(_aggregation(f"layers.{i}.aggregate", (edges + 2 * nodes) * d_in, (edges + 2 * nodes) * d_out))
        return [*lines, _combination("head.weight")]


class Gat(GraphNetwork):
    """Eight heads, then one; a self-loop at every node, which no mask covers.

    The slope of the logit's LeakyReLU is 0.01 and not PyG's 0.2, masks multiply the logit, and there is no bias.
    """

    heads = 8
    slope = 0.01

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden = hidden
        k = self.heads
        self.fc = nn.ParameterList([torch.empty(k * hidden, inputs), torch.empty(classes, k * hidden)])
        self.attention = nn.ParameterList([torch.empty(k, 2 * hidden), torch.empty(1, 2 * classes)])  # [source half, target half]
        for part in (self.fc, self.attention):
            for i, w in enumerate(part):
                # each head is a layer of its own to the initialisation
                for head in w.view(k, -1, w.shape[1]) if i == 0 else [w]:
                    nn.init.xavier_normal_(head, gain=2**0.5)

    def prunable(self) -> list[str]:
        return ["fc.0", "attention.0", "fc.1", "attention.1"]

    def operator(self, graph: Graph, values: torch.Tensor | None = None, degree: torch.Tensor | None = None) -> Operator:
        own = None if values is None else torch.cat([values, values.new_ones(graph.nodes)])
        return [(graph.looped, own)] * 2

    def apply_operator(self, x: Input, operator: Operator, kernels: Kernels) -> torch.Tensor:
        """Where `operator` is the original's (legacy), its graph brings its own self-loops, masked like other entries."""
        h: Any = x
        for i, (w, a, (graph, mask)) in enumerate(zip(self.fc, self.attention, operator, strict=True)):
            heads = len(a)
            z = kernels.linear(h, w).view(graph.nodes, heads, -1)
            source, target = _scores(z, a)
            logit = F.leaky_relu(source.index_select(0, graph.row) + target.index_select(0, graph.col), self.slope)
            if mask is not None:
                logit = logit * mask[:, None]
            weight = F.dropout(ops.edge_softmax(graph, logit), 0.6, self.training and i == 0)
            out = torch.cat([kernels.attend(graph, weight[:, k], z[:, k]) for k in range(heads)], 1)
            h = F.dropout(F.elu(out), 0.6, self.training) if i == 0 else out
        return h  # type: ignore[no-any-return]

    def work(self, nodes: int, edges: int) -> list[dict[str, Any]]:
        lines = []
        for i, (w, a) in enumerate(zip(self.fc, self.attention, strict=True)):
            heads, arriving = len(a), edges + nodes
            lines += [_combination(f"fc.{i}"), _combination(f"attention.{i}")]
            # the weighted sum, and one division an entry and head
            macs = arriving * (w.shape[0] + heads)
            lines.append(_aggregation(f"layers.{i}.aggregate", macs, macs) | {"exps": arriving * heads})
        return lines


class DeeperGcn(GraphNetwork):
    """28 residual blocks (norm, ReLU, dropout, convolution, sum) of softmax aggregation, as UGS has it on ogbn-arxiv.

    A convolution's message is ReLU(h) + 1e-7, weighted per channel by softmax(t message), through which no gradient goes; its
    linear layer takes h + aggregate.  PyG's GENConv and DeepGCNLayer, without a mask on the message, are the same.
    """

    layers = 28
    temperature = 0.1
    dropout = 0.5
    learned = False  #: whether each layer has a temperature of its own, from 1, and gradients go through the softmax
    chunk = 16  #: channels whose messages are laid out edge by edge at a time, where a mask makes that necessary

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.encoder, self.head = nn.Linear(inputs, hidden), nn.Linear(hidden, classes)
        self.convs = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(self.layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(self.layers))
        self.t = nn.Parameter(torch.ones(self.layers)) if self.learned else None

    def prunable(self) -> list[str]:
        return [f"convs.{i}.weight" for i in range(self.layers)]

    def operator(self, graph: Graph, values: torch.Tensor | None = None, degree: torch.Tensor | None = None) -> Operator:
        own = None if values is None else torch.cat([values, values.new_ones(graph.nodes)])
        return [(graph.looped, own)] * self.layers

    def apply_operator(self, x: Input, operator: Operator, kernels: Kernels) -> torch.Tensor:
        h = kernels.linear(x, self.encoder.weight) + self.encoder.bias
        for i, (conv, norm, (graph, mask)) in enumerate(zip(self.convs, [None, *self.norms[:-1]], operator, strict=True)):
            inner = h if norm is None else F.dropout(F.relu(norm(h)), self.dropout, self.training)
            t = self.temperature if self.t is None else self.t[i]
            out = kernels.linear(inner + self.aggregate(inner, graph, mask, kernels, t), conv.weight) + conv.bias  # type: ignore
            h = out if i == 0 else h + out
        h = F.dropout(F.relu(self.norms[-1](h)), self.dropout, self.training)
        return kernels.linear(h, self.head.weight) + self.head.bias

    def aggregate(
        self, h: torch.Tensor, graph: Graph, mask: torch.Tensor | None, kernels: Kernels, t: torch.Tensor | float = temperature
    ) -> torch.Tensor:
        """Softmax aggregation (n, d): two products where no mask changes messages, else a few channels at a time."""
        message = F.relu(h) + 1e-7
        if mask is not None:
            parts = message.split(self.chunk, 1)
            return torch.cat([checkpoint(self._edgewise, part, mask, graph, t, use_reentrant=False) for part in parts], 1)
        scaled = t * (message if self.learned else message.detach())
        weight = torch.exp(scaled - scaled.detach().amax(0))
        ones = torch.ones(graph.edges, dtype=h.dtype, device=h.device)
        # every node has a self-loop, so no sum is empty; a source far below the largest one may vanish in it
        total = kernels.propagate(graph, ones, weight).clamp_min(torch.finfo(h.dtype).tiny)
        return kernels.propagate(graph, ones, weight * message) / total

    def _edgewise(self, message: torch.Tensor, mask: torch.Tensor, graph: Graph, t: torch.Tensor | float) -> torch.Tensor:
        sent = message.index_select(0, graph.row) * mask[:, None]
        weight = ops.edge_softmax(graph, t * (sent if self.learned else sent.detach()))
        return torch.zeros_like(message).index_add(0, graph.col, weight * sent)

    def work(self, nodes: int, edges: int) -> list[dict[str, Any]]:
        """See `GraphNetwork.work`.  A message is scaled by the temperature, then weighted, and has an exp, channel by channel; the
        operator's self-loops send messages like other entries and count as these do."""
        lines = [_combination("encoder.weight")]
        for i in range(self.layers):
            arriving = (edges + nodes) * self.hidden
            lines.append(_aggregation(f"convs.{i}.aggregate", 2 * arriving, 2 * arriving) | {"exps": arriving})
            lines.append(_combination(f"convs.{i}.weight"))
        return [*lines, _combination("head.weight")]


def _scores(z: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two halves of a^T [z_source ; z_target], (n, heads) each."""
    source, target = a.view(len(a), 2, -1).unbind(1)
    return (z * source).sum(2), (z * target).sum(2)


def _combination(weight: str) -> dict[str, Any]:
    return {"name": weight, "kind": "Linear", "weight": weight, "aggregate": 0, "transform": 0, "exps": 0}


def _aggregation(name: str, aggregate: int, transform: int) -> dict[str, Any]:
    return {"name": name, "kind": "edges", "weight": "", "aggregate": aggregate, "transform": transform, "exps": 0}


ARCHITECTURES: dict[str, type[GraphNetwork]] = {"gcn": Gcn, "gin": Gin, "gat": Gat, "deepergcn": DeeperGcn}


def build(
    architecture: str, inputs: int, classes: int, hidden: int, networks: Mapping[str, type[GraphNetwork]] = ARCHITECTURES
) -> GraphNetwork:
    """A network by name, with `hidden` units (GAT: a head), or as many as the name says: ``gcn512``."""
    kind = family(architecture)
    return networks[kind](inputs, int(architecture.removeprefix(kind) or hidden), classes)  # type: ignore[call-arg]


def family(architecture: str) -> str:
    """The network of a name such as ``gcn512``; raises UserError where there is none."""
    match = re.fullmatch(r"(deepergcn|gcn|gin|gat)(\d*)", architecture)
    if match is None or match[2] == "0":
        raise UserError(f"no architecture {architecture!r}; there are: {', '.join(ARCHITECTURES)}, with a width as in gcn512")
    return match[1]
