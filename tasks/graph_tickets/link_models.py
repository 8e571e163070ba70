"""Graph networks whose outputs are embeddings, and predictors that score a pair of them.

The encoder is what UGS sparsifies: a predictor's weights are neither pruned nor counted among the prunable ones.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import nn

from suite.naming import UserError
from tasks.graph_tickets import models
from tasks.graph_tickets.models import DeeperGcn, Gat, Gcn, Gin, GraphNetwork
from tasks.graph_tickets.problem import NO_CLASSES


class Embeddings(torch.Tensor):
    """(n, d) of all nodes, or of a sample's, with what scores pairs of them.

    Operations give plain tensors.  There are no classes here: a method that asks for their probabilities is told so.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl
    predictor: Predictor

    @classmethod
    def of(cls, h: torch.Tensor, predictor: Predictor) -> Embeddings:
        out: Embeddings = h.as_subclass(cls)
        out.predictor = predictor
        return out

    def scores(self, pairs: torch.Tensor) -> torch.Tensor:
        """Logits (p,) of an edge between the nodes of each pair (p, 2)."""
        u, v = pairs.unbind(1)
        out: torch.Tensor = self.predictor(self.index_select(0, u), self.index_select(0, v))
        return out

    def softmax(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError(NO_CLASSES)

    log_softmax = softmax


class Predictor(nn.Module):
    """The dot product: symmetric, without a weight."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b).sum(1)

    def macs(self, width: int) -> int:
        """Multiply-adds of one pair (our own count): d and the non-zero weights."""
        return width


class Hadamard(Predictor):
    """OGB's for ogbl-collab: the product entry by entry through three linear layers, ReLU between them, no dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)])

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        h = a * b
        for layer in self.layers[:-1]:
            h = layer(h).relu()
        return self.layers[-1](h).squeeze(1)  # type: ignore[no-any-return]

    def macs(self, width: int) -> int:
        return width + sum(int(layer.weight.count_nonzero()) for layer in self.layers)  # type: ignore[operator,union-attr]


class _Encoder(GraphNetwork):
    """Stands before a network of nodes: the same forward pass, its outputs with the predictor."""

    predictor: Predictor

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return Embeddings.of(super().forward(*args, **kwargs), self.predictor)


class LinkGcn(_Encoder, Gcn):
    """See `Gcn`."""


class LinkGin(_Encoder, Gin):
    """See `Gin`."""


class LinkGat(_Encoder, Gat):
    """See `Gat`."""


class LinkDeeperGcn(_Encoder, DeeperGcn):
    """See `DeeperGcn`; on ogbl-collab UGS has no dropout and learns the temperature of each layer, from 1."""

    dropout = 0.0
    learned = True


ENCODERS: dict[str, type[GraphNetwork]] = {"gcn": LinkGcn, "gin": LinkGin, "gat": LinkGat, "deepergcn": LinkDeeperGcn}


def build(architecture: str, inputs: int, embedding: int, hidden: int, predictor: str) -> GraphNetwork:
    """An encoder by name with its predictor, `dot` or `hadamard`; widths as in `models.build`."""
    network = models.build(architecture, inputs, embedding, hidden, ENCODERS)
    network.predictor = Hadamard(embedding) if predictor == "hadamard" else Predictor()
    return network
