"""Multiply-adds and weights of a ticket, by the full count that both it and its parent are judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tasks.graph_tickets.problem import GraphProblem, Ticket

if TYPE_CHECKING:
    import torch

    from tasks.graph_tickets.models import GraphNetwork


def kept_weights(model: GraphNetwork) -> tuple[int, int]:
    """Non-zero and all prunable weights."""
    own = dict(model.named_parameters())
    chosen = [own[n] for n in model.prunable()]
    return sum(int(w.count_nonzero()) for w in chosen), sum(w.numel() for w in chosen)


def combined(model: GraphNetwork) -> dict[str, torch.Tensor]:
    """Weights of the layers that a linear-only count sees: attention vectors are none, a predictor of pairs is counted apart."""
    return {n: p for n, p in model.named_parameters() if p.ndim == 2 and not n.startswith(("attention", "predictor"))}


def layers(problem: GraphProblem, ticket: Ticket, order: Literal["cheaper", "transform", "aggregate"]) -> list[dict[str, Any]]:
    """Lines of the full count: combinations by non-zero weights, aggregations by edges that are left."""
    n, own = problem.graph.nodes, dict(ticket.model.named_parameters())
    dense = problem.model().work(n, problem.graph.edges)
    lines = []
    for line, full in zip(ticket.model.work(n, len(ticket.row)), dense, strict=True):
        if line["weight"]:
            weight = own[line["weight"]]
            alive = int(weight.count_nonzero())
            lines.append(
                {"name": line["name"], "kind": "Linear", "macs": float(n * alive), "params": weight.numel(), "nonzero": alive}
            )
            continue
        way = order if order != "cheaper" else min(("transform", "aggregate"), key=lambda o: full[o])
        lines.append({"name": line["name"], "kind": line["kind"], "macs": float(line[way]), "params": 0, "nonzero": 0})
    counted = {line["name"] for line in lines}
    for name, p in own.items():
        if name not in counted:
            lines.append({"name": name, "kind": "scalar", "macs": 0.0, "params": p.numel(), "nonzero": int(p.count_nonzero())})
    return lines


def sparse_input_macs(problem: GraphProblem, ticket: Ticket) -> int:
    """The first layer's combination over stored features alone: sum over stored (i, f) of the non-zeros of W[:, f]."""
    from tasks.graph_tickets.graph import SparseFeatures

    weight = next(iter(combined(ticket.model).values()))
    alive = (weight != 0).sum(0)
    if isinstance(problem.x, SparseFeatures):
        return int(alive[problem.x.forward.col_indices()].sum())
    return int((alive * (problem.x != 0).sum(0)).sum())
