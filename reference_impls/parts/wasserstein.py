"""Entropic Wasserstein distance between the outputs of nodes predicted in a class and the rest (Hui et al. 2023).

The formulas are those of a public re-implementation (in TEDDY's repository); the paper's own code could not be found.
"""

from __future__ import annotations

import torch

STOP = 1e-5  #: largest change of a potential at which an iteration was the last


def sinkhorn(
    x: torch.Tensor, y: torch.Tensor, eps: float = 1e-3, iterations: int = 10, p: int = 2, floor: float = 0.0
) -> torch.Tensor:
    """Distance between point clouds x (n, d) and y (m, d) of equal weights, differentiable through all iterations.

    Args:
        eps: of the entropy; with 1e-3 and 10 iterations the plan has not converged, as in the original.
        p: ground cost, 2 Euclidean (not squared), 1 the L1 norm.
        floor: added under the root of p = 2, where points may coincide; 0 for parity.
    """
    difference = x[:, None] - y[None]
    cost = difference.abs().sum(2) if p == 1 else ((difference**2).sum(2) + floor).sqrt()
    log_a = -torch.log(cost.new_tensor(float(len(x))))
    log_b = -torch.log(cost.new_tensor(float(len(y))))
    u = cost.new_zeros(len(x))
    v = (eps * log_b).expand(len(y))
    for _ in range(iterations):
        u_before, v_before = u, v
        u = eps * (log_a - torch.logsumexp((v[None] - cost) / eps, 1))
        v = eps * (log_b - torch.logsumexp((u[:, None] - cost) / eps, 0))
        if (u - u_before).detach().abs().max() < STOP and (v - v_before).detach().abs().max() < STOP:
            break
    plan = torch.exp((u[:, None] + v[None] - cost) / eps)
    return (plan * cost).sum()


def class_distances(
    logits: torch.Tensor,
    eps: float = 1e-3,
    iterations: int = 10,
    most: int = 0,
    generator: torch.Generator | None = None,
    floor: float = 0.0,
) -> list[torch.Tensor | None]:
    """W_c of every class, None where nobody or everybody is predicted in it.

    Args:
        logits: (n, classes) of all nodes; the predicted class is theirs, and no gradient goes through it.
        most: nodes a side that are drawn for a class (0: all); drawn uniformly, without replacement, by `generator`.
    """
    share = logits.softmax(1)
    predicted = logits.detach().argmax(1)
    found: list[torch.Tensor | None] = []
    for c in range(logits.shape[1]):
        inside, outside = (predicted == c).nonzero().flatten(), (predicted != c).nonzero().flatten()
        if len(inside) == 0 or len(outside) == 0:
            found.append(None)
            continue
        inside, outside = _some(inside, most, generator), _some(outside, most, generator)
        found.append(sinkhorn(share[inside], share[outside], eps, iterations, floor=floor))
    return found


def wd_loss(
    logits: torch.Tensor,
    eps: float = 1e-3,
    iterations: int = 10,
    most: int = 0,
    generator: torch.Generator | None = None,
    floor: float = 0.0,
) -> torch.Tensor:
    """L1 = -sum of the classes' distances: minimised, it drives the outputs of classes apart, over all nodes."""
    distances = [d for d in class_distances(logits, eps, iterations, most, generator, floor) if d is not None]
    return -torch.stack(distances).sum() if distances else logits.sum() * 0


def _some(index: torch.Tensor, most: int, generator: torch.Generator | None) -> torch.Tensor:
    if not most or len(index) <= most:
        return index
    chosen = torch.randperm(len(index), generator=generator)[:most]
    return index[chosen.to(index.device)]
