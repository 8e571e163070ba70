"""Scores of single weights before training: SNIP, GraSP, SynFlow (pruning_baselines.md 3).

All take the network in eval mode, so that batch-norm statistics stay as they are, and leave its weights
as they were.  A larger score stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.sparse import Masks, apply_masks, keep_top

Layers = Mapping[str, nn.Conv2d | nn.Linear]
Scores = dict[str, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor]


def snip(model: nn.Module, layers: Layers, batches: Sequence[Batch]) -> Scores:
    """|weight x gradient|, the loss's sensitivity to a mask at 1 (Lee et al. 2019, equation 5), summing to 1."""
    with _frozen(model):
        gradients = _gradients(model, layers, batches)
    scores = {n: (m.weight.detach() * g).abs() for (n, m), g in zip(layers.items(), gradients, strict=True)}
    total = sum(s.sum() for s in scores.values())
    return {n: s / total for n, s in scores.items()}


def grasp(model: nn.Module, layers: Layers, batches: Sequence[Batch], temperature: float = 200.0) -> Scores:
    """weight x (Hessian x gradient): what stays keeps the gradient flowing (Wang et al. 2020, equation 8).

    The authors remove the largest of its negative.  Scores are divided by the absolute value of their sum.
    """
    weights = [m.weight for m in layers.values()]
    with _frozen(model):
        stopped = [g.detach() for g in _gradients(model, layers, batches, temperature)]
        products = [torch.zeros_like(w) for w in weights]
        for x, y in batches:
            loss = F.cross_entropy(model(x) / temperature, y)
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
            z = sum((s * g).sum() for s, g in zip(stopped, gradients, strict=True))
            for total, part in zip(products, torch.autograd.grad(z, weights), strict=True):
                total += part
    scores = {n: m.weight.detach() * p for (n, m), p in zip(layers.items(), products, strict=True)}
    total = torch.stack([s.sum() for s in scores.values()]).sum().abs()
    return {n: s / (total + 1e-10) for n, s in scores.items()}


def synflow(model: nn.Module, layers: Layers, shape: Sequence[int]) -> Scores:
    """|weight x dR/dweight|, R the sum of outputs for an input of ones through absolute weights (Tanaka et al. 2020).

    In float64, since scores of deep networks overflow.  `shape` is one input's (C, H, W).
    """
    kept = {n: t.detach().clone() for n, t in model.state_dict().items()}
    device = next(model.parameters()).device
    try:
        with _frozen(model):
            model.double()
            with torch.no_grad():
                for t in [*model.parameters(), *model.buffers()]:
                    t.abs_()
            model(torch.ones(1, *shape, dtype=torch.float64, device=device)).sum().backward()
            return {n: (m.weight.grad * m.weight.detach()).abs() for n, m in layers.items()}  # type: ignore[operator]
    finally:
        model.float()
        model.load_state_dict(kept)
        model.zero_grad()


def prune_iteratively(layers: Layers, score: Callable[[], Scores], count: int, steps: int) -> Masks:
    """Global masks that keep `count` weights, reached in `steps` of an exponential schedule.

    After step e, counted from 0, the density d^((e+1)/steps) is left; scores are taken anew with the masks
    in place, and who is masked stays so.  The weights of `layers` are back at the end.
    """
    weights = {n: m.weight.detach().clone() for n, m in layers.items()}
    size = sum(w.numel() for w in weights.values())
    masks: Masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}
    for e in range(steps):
        left = count if e == steps - 1 else size - int((1 - (count / size) ** ((e + 1) / steps)) * size)
        masks = keep_top(score(), left, among=masks)
        apply_masks(layers, masks)
    with torch.no_grad():
        for n, m in layers.items():
            m.weight.copy_(weights[n])
    return masks


def _gradients(model: nn.Module, layers: Layers, batches: Sequence[Batch], temperature: float = 1.0) -> list[torch.Tensor]:
    weights = [m.weight for m in layers.values()]
    totals = [torch.zeros_like(w) for w in weights]
    for x, y in batches:
        loss = F.cross_entropy(model(x) / temperature, y)
        for total, part in zip(totals, torch.autograd.grad(loss, weights), strict=True):
            total += part
    return totals


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)
