"""Shapes of tickets: which entries of the graph are left, and which weights of the network.

The graph itself and its features are not told: what is shipped with the task, or generated, is at hand everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reference_impls.shapes.networks import drawn
from suite.deployed import mask_of, tensor
from suite.naming import address
from suite.protocol import NoShape, Run, Shape, Spec, Tensor
from tasks.common.cases import data_and_model

FORM = 1
EDGES = "edges"  #: the tensor of entries; those of the network begin with `MODEL`
MODEL = "model."
EXAMPLE = "cora/gcn"
AT_HAND = ("cora", "sbm")  #: sets that are shipped or generated
DERIVED = ("-links", "-128")  #: what their names may end in


def describe(problem: Any, solution: Any) -> Shape:
    _at_hand(problem.spec)
    entries, mine = (_keys(g.row, g.col, problem.graph.nodes) for g in (problem.graph, solution))
    left = np.isin(entries, mine)
    if not np.array_equal(entries[left], mine):
        raise NoShape("the entries that are left are not the graph's own, in their order")
    network, model = dict(problem.model().named_parameters()), dict(solution.model.named_parameters())
    if type(solution.model) is not type(problem.model()) or {n: p.shape for n, p in model.items()} != {
        n: p.shape for n, p in network.items()
    }:
        raise NoShape("the network is none of the case's")
    facts = {"nodes": problem.graph.nodes, "weighted": solution.values is not None}
    tensors = {f"{MODEL}{name}": tensor((p != 0).detach().cpu().numpy()) for name, p in model.items()}
    return Shape(facts, {EDGES: tensor(left), **tensors})


def places(spec: Spec) -> bool:
    """Everywhere: products are by compressed rows where these are faster."""
    return True


def layers(spec: Spec, shape: Shape) -> Sequence[Mapping[str, Any]]:
    """Combinations by weights that are not zero, aggregations by entries that are left, in the order that is cheaper."""
    _at_hand(spec)
    nodes, edges, own = _told(shape)
    kind = next((k for k in ("deepergcn", "gcn", "gin", "gat") if data_and_model(spec, EXAMPLE)[1].startswith(k)), "")
    lines = [
        {
            "name": name,
            "params": t.count,
            "nonzero": t.nonzero,
            **({"macs": float(nodes * t.nonzero)} if _combines(kind, name) else {}),
        }
        for name, t in own.items()
    ]
    names = [
        name.removesuffix(".weight") for name in own if name.startswith({"gat": "fc.", "deepergcn": "convs."}.get(kind, "layers."))
    ]
    for name in names:
        out, each = (own.get(f"{name}.weight") or own[name]).size if kind != "deepergcn" else (0, 0)
        if kind == "gat":
            number = name.removeprefix("fc.")
            heads = own[f"attention.{number}"].size[0]
            lines.append({"name": f"layers.{number}.aggregate", "macs": float((edges + nodes) * (out + heads))})
        elif kind in ("gcn", "gin"):
            again = 2 if kind == "gin" else 1
            lines.append({"name": f"{name}.aggregate", "macs": float((edges + again * nodes) * min(out, each))})
    return lines


def problem(spec: Spec, run: Run, shape: Shape) -> Any:
    from suite import registry

    _at_hand(spec)
    found = registry.task_of(spec).problem(spec, run)
    nodes, _, _ = _told(shape)
    if (found.graph.nodes, found.graph.edges) != (nodes, shape.tensors[EDGES].count):
        raise ValueError(f"is of a graph of {nodes:,} nodes, the set has {found.graph.nodes:,}")
    return found


def rebuild(problem: Any, shape: Shape) -> Any:
    import torch
    from torch import nn

    from tasks.graph_tickets.problem import Ticket

    _, _, own = _told(shape)
    seed = problem.run.seed("shape")
    model = problem.model()
    sizes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if sizes != {name: t.size for name, t in own.items()}:
        raise ValueError("the network is none of the case's")
    for name, t in own.items():
        holder, _, key = name.rpartition(".")
        values = drawn(t, address("shape", seed, name), "weight" if len(t.size) > 1 else "scale" if "norm" in name else "shift")
        module = model.get_submodule(holder)
        fresh = nn.Parameter(values.to(problem.device))
        if isinstance(module, nn.ParameterList):
            module[int(key)] = fresh
        else:
            setattr(module, key, fresh)
    left = torch.from_numpy(mask_of(shape.tensors[EDGES], seed)).to(problem.device)
    generator = torch.Generator().manual_seed(seed)
    count = shape.tensors[EDGES].nonzero
    values = (0.5 + torch.rand(count, generator=generator)).to(problem.device) if shape.facts["weighted"] else None
    return Ticket(problem.graph.row[left], problem.graph.col[left], model, values=values)


def of_operations(spec: Spec, operations: Sequence[Mapping[str, Any]]) -> Shape:
    """Only of a ticket that lost nothing: else which entries and weights are left is not told, and decides the kernels."""
    raise NoShape("which entries and weights are left decides the kernels, and operations tell how many")


def _told(shape: Shape) -> tuple[int, int, dict[str, Tensor]]:
    """Nodes, entries that are left, and the network's parameters; raises ValueError where they are not told."""
    nodes, edges = shape.facts.get("nodes"), shape.tensors.get(EDGES)
    if type(nodes) is not int or nodes < 1 or edges is None or type(shape.facts.get("weighted")) is not bool:
        raise ValueError("says nothing of the graph")
    if edges.where is None and 0 < edges.nonzero < edges.count:
        raise ValueError("does not tell which entries are left")
    own = {name.removeprefix(MODEL): t for name, t in shape.tensors.items() if name != EDGES}
    if odd := [name for name in shape.tensors if name != EDGES and not name.startswith(MODEL)]:
        raise ValueError(f"{odd[0]} is none of a ticket's")
    return nodes, edges.nonzero, own


def _combines(kind: str, name: str) -> bool:
    """Whether a parameter multiplies what every node has; a predictor of pairs is counted apart."""
    if kind == "gat":
        return name.startswith(("fc.", "attention."))
    return name.endswith(".weight") and name.startswith(("layers.", "head.", "convs.", "encoder."))


def _keys(row: Any, col: Any, nodes: int) -> np.ndarray:
    found: np.ndarray = (row * nodes + col).cpu().numpy()
    return found


def _at_hand(spec: Spec) -> None:
    """Raises NoShape where the graph of a case is neither shipped nor generated."""
    name, _ = data_and_model(spec, EXAMPLE)
    base = name
    for end in (*DERIVED, *DERIVED):
        base = base.removesuffix(end)
    if spec.division != "speed" and base not in AT_HAND:
        raise NoShape(f"the graph {name} is not shipped, and without it nothing can be weighed")


__all__ = ["FORM", "describe", "layers", "of_operations", "places", "problem", "rebuild"]
