"""Scores of single weights before training: SNIP (Lee 2019), GraSP (Wang 2020), SynFlow (Tanaka 2020).

All take the network in eval mode, so that batch-norm statistics stay as they are, and leave its weights
as they were.  A larger score stays.  Images come in pieces that a device can hold; scores are of the mean
loss over all of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.sparse import Masks, apply_masks, keep_top

Layers = Mapping[str, nn.Conv2d | nn.Linear]
Scores = dict[str, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor]
PIECE_PIXELS = 2**20  #: pixels scored at once: 1,024 images of 32x32, 20 of 224x224


def piece(shape: Sequence[int]) -> int:
    """Examples of this shape, (C, h, w) or (features,), that are scored at once."""
    return max(1, PIECE_PIXELS // math.prod(shape[1:]))


def snip(model: nn.Module, layers: Layers, batches: Iterable[Batch]) -> Scores:
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

        def product(x: torch.Tensor, y: torch.Tensor) -> Sequence[torch.Tensor]:
            loss = F.cross_entropy(model(x) / temperature, y)
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
            return torch.autograd.grad(sum((s * g).sum() for s, g in zip(stopped, gradients, strict=True)), weights)

        products = _mean(weights, batches, product)
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


def prune_iteratively(
    layers: Layers, score: Callable[[], Scores], count: int, steps: int = 1, density: float | None = None
) -> Masks:
    """Global masks that keep `count` weights, reached in `steps` of an exponential schedule.

    After step e, counted from 0, the density d^((e+1)/steps) is left; scores are taken anew with the masks
    in place, and who is masked stays so.  The weights of `layers` are back at the end.  Exactly `count` stay: of scores that
    tie with the last the earlier ones do, where the authors' rule removes all of these.

    Args:
        density: d, the share that `count` rounds to a whole number of weights: a rounded d would be off by a weight in
            the steps between, and scores taken with other masks lead elsewhere.  None: of `count`.
    """
    weights = {n: m.weight.detach().clone() for n, m in layers.items()}
    size = sum(w.numel() for w in weights.values())
    masks: Masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}
    d = count / size if density is None else density
    for e in range(steps):
        left = count if e == steps - 1 else size - int((1 - d ** ((e + 1) / steps)) * size)
        masks = keep_top(score(), left, among=masks)
        apply_masks(layers, masks)
    with torch.no_grad():
        for n, m in layers.items():
            m.weight.copy_(weights[n])
    return masks


def _gradients(model: nn.Module, layers: Layers, batches: Iterable[Batch], temperature: float = 1.0) -> list[torch.Tensor]:
    weights = [m.weight for m in layers.values()]
    return _mean(weights, batches, lambda x, y: torch.autograd.grad(F.cross_entropy(model(x) / temperature, y), weights))


def _mean(
    weights: Sequence[torch.Tensor],
    batches: Iterable[Batch],
    of: Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]],
) -> list[torch.Tensor]:
    """Running mean over images of what `of` gives for a batch, itself a mean over its images; a tensor a weight."""
    means, seen = [torch.zeros_like(w) for w in weights], 0
    for x, y in batches:
        seen += len(x)
        share = len(x) / seen
        for mean, part in zip(means, of(x, y), strict=True):
            mean.mul_(1 - share).add_(part, alpha=share)
    return means


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)
