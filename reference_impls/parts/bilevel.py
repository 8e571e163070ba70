"""Pruning as two levels: scores choose the mask, weights learn under it, each on batches of its own (BiP; BiFP adds fairness).

Source: Dai et al. 2023 (BiFP), its update in the closed form of BiP (Zhang et al. 2022).  Scores of all layers lie in one vector,
and so does what is computed of them at every step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from reference_impls.parts.fair import removed
from reference_impls.parts.training import Hooks
from tasks.fair_pruning.problem import FairProblem
from tasks.images.channels import ChannelGroup

Implicit = Literal["paper", "bip_code", "none"]
Batch = tuple[torch.Tensor, torch.Tensor]
#: Of a network and a batch: the upper level's loss, and the lower's of the same forward pass, or None where they are one.
Losses = Callable[[nn.Module, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]


def top_weights(scores: torch.Tensor, share: float) -> torch.Tensor:
    """Mask (N,) bool without the int((1 - share) N) smallest scores; of equal ones the first go (BiP's GetSubnetUnstructured).

    By selection and not by sorting, since it is done at every step.
    """
    gone = removed(share, len(scores))
    if gone == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    if scores.is_cuda:
        last = scores.kthvalue(gone).values
        mask, spare = (kept := scores > last), len(scores) - gone - int(kept.sum())
    else:  # numpy selects several times sooner than torch does on a processor
        values = scores.numpy()
        last = np.partition(values, gone - 1)[gone - 1]
        above = values > last
        mask, spare = torch.from_numpy(above), len(values) - gone - int(np.count_nonzero(above))
    if spare:  # of those that tie with the last to go some stay: the latest
        mask[(scores == float(last)).nonzero().flatten()[-spare:]] = True
    return mask


def top_filters(scores: torch.Tensor, share: float, dim: int = 0) -> torch.Tensor:
    """Mask (C,) bool of a layer's filters (dim 0; BiP's GetSubnetFilter) or input channels (dim 1; GetSubnetChannel).

    Without the int((1 - share) C) of smallest L2 norm; of equal ones the first go.

    Args:
        scores: (O, I, ...) of single weights.
    """
    norms = scores.transpose(0, dim).flatten(1).norm(p=2, dim=1)
    mask = torch.ones(len(norms), dtype=torch.bool, device=scores.device)
    mask[torch.sort(norms, stable=True).indices[: removed(share, len(norms))]] = False
    return mask


def score_gradient(
    scores: torch.Tensor,
    theta: torch.Tensor,
    mask: torch.Tensor,
    upper: torch.Tensor,
    lower: torch.Tensor,
    rate: float,
    implicit: Implicit = "paper",
) -> torch.Tensor:
    """grad(s) = sign(s) (theta g - rate m g_theta g), the straight-through gradient of the scores (Zhang et al. 2022).

    Args:
        scores: s, of any shape, as everything here.
        theta: the weights after the lower step.
        mask: m, 0 and 1.
        upper: g, the upper loss's gradient for z = m theta.
        lower: g_theta, the lower loss's, on the same batch.
        rate: 1/gamma, BiP's lr2.
        implicit: paper: as above; bip_code: as BiP's code multiplies, -rate times the square of the explicit gradient;
            none: the explicit part alone.
    """
    signed = scores.sign().mul_(upper)
    if implicit == "paper":
        return signed.mul_(theta - (mask * lower).mul_(rate))
    explicit = signed.mul_(theta)
    return explicit if implicit == "none" else explicit - rate * explicit**2


@dataclass(frozen=True)
class Levels:
    """Settings of the upper level."""

    share: float  #: k, of what is kept
    rate: float  #: of the scores' first step
    momentum: float = 0.9
    inverse_gamma: float = 1e-4
    implicit: Implicit = "paper"


class Bilevel(Hooks):
    """Inside the loop, whose loss is the lower level's: weights are z = m theta in a pass, theta again for the optimizer's move.

    After every step of the weights the scores take one, on a batch of the second pass.  Filters take the whole channel with
    them: its bias, and scale and shift of its norm.
    """

    def __init__(
        self,
        problem: FairProblem,
        model: nn.Module,
        layers: Mapping[str, nn.Conv2d | nn.Linear],
        levels: Levels,
        losses: Losses,
        epochs: int,
        groups: Sequence[ChannelGroup] = (),
    ) -> None:
        self.problem, self.model, self.levels, self.losses, self.epochs = problem, model, levels, losses, epochs
        self.groups = {g.name: g for g in groups}
        self.layers = {n: layers[n] for n in self.groups} if groups else dict(layers)
        self.weights = [m.weight for m in self.layers.values()]
        # what a mask multiplies: of channels all that is theirs
        self.parameters = [p for g in groups for p in g.parts()] if groups else self.weights
        self.norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
        # a copy: BiP's code lets scores and weights share their storage (BiP's released `trainer/bilevel.py`)
        self.scores = _flat(self.weights)
        self.velocity = torch.zeros_like(self.scores)
        self.moves = 0
        self.theta = _flat(self.parameters)
        self._own()
        self._upper: Iterator[Batch] = iter(())
        self._rate = levels.rate
        self._choose()

    def _own(self) -> None:
        """Weights are views of one vector, of theta or of z = m theta: what is done at every step is done at once."""
        self._z, self._m = torch.empty_like(self.theta), torch.ones_like(self.theta)
        self._thetas, self._zs, self._masks = (_views(v, self.parameters) for v in (self.theta, self._z, self._m))
        places = {id(p): i for i, p in enumerate(self.parameters)}
        self._at = [places[id(w)] for w in self.weights]

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """Of each layer the weights that stay, bool."""
        return dict(zip(self.layers, _views(self.mask, self.weights), strict=True))

    @property
    def keep(self) -> dict[str, torch.Tensor]:
        """Of each layer the filters that stay, (C,) bool; where filters are asked for."""
        return {n: m.flatten(1).any(1) for n, m in self.masks.items()}

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        self._cover()

    def before_epoch(self, epoch: int) -> None:
        self._upper = self.problem.again(epoch)
        self._rate = 0.5 * self.levels.rate * (1 + math.cos(math.pi * epoch / self.epochs))

    def after_backward(self) -> bool:
        """The optimizer moves theta, by gradients that the mask lets through."""
        for p, theta, m in zip(self.parameters, self._thetas, self._masks, strict=True):
            p.data = theta
            if p.grad is not None:
                p.grad.mul_(m)
        return True

    def after_step(self) -> None:
        self._cover()
        batch = next(self._upper, None)
        if batch is not None:
            self._raise(*batch)
            self._cover()
        self.moves += 1

    def state(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("scores", "velocity", "theta", "moves")}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._own()
        self._choose()

    def _raise(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One step of the scores."""
        with self._still_norms():
            upper, lower = self.losses(self.model, x, y)
            g = _flat(torch.autograd.grad(upper, self.weights, retain_graph=lower is not None))
            g_theta = g if lower is None else _flat(torch.autograd.grad(lower, self.weights))
        theta, mask = self.theta, self._m
        if self.groups:
            theta, mask = _flat([self._thetas[i] for i in self._at]), self.mask.to(theta.dtype)
        step = score_gradient(self.scores, theta, mask, g, g_theta, self.levels.inverse_gamma, self.levels.implicit)
        self.velocity = step if not self.moves else self.velocity.mul_(self.levels.momentum).add_(step)
        self.scores.sub_(self.velocity, alpha=self._rate)
        self._choose()

    def _choose(self) -> None:
        """The mask of the present scores, and what it multiplies by it."""
        scores = self.scores.abs()
        if not self.groups:
            self.mask = top_weights(scores, self.levels.share)
            self._m.copy_(self.mask)
            return
        kept = [top_filters(s, self.levels.share) for s in _views(scores, self.weights)]
        self.mask = torch.cat([_rows(keep, w).expand_as(w).flatten() for keep, w in zip(kept, self.weights, strict=True)])
        of_groups = zip(kept, self.groups.values(), strict=True)
        for m, keep in zip(self._masks, (keep for keep, g in of_groups for _ in g.parts()), strict=True):
            m.copy_(_rows(keep, m).expand_as(m))

    @torch.no_grad()
    def _cover(self) -> None:
        """Weights become z = m theta."""
        torch.mul(self.theta, self._m, out=self._z)
        for p, z in zip(self.parameters, self._zs, strict=True):
            p.data = z

    @contextlib.contextmanager
    def _still_norms(self) -> Iterator[None]:
        """Batch norms use their batch and keep their running statistics: these move at the lower level alone."""
        was = [(m, m.momentum, m.num_batches_tracked.clone()) for m in self.norms if m.num_batches_tracked is not None]
        for m in self.norms:
            m.momentum = 0.0
        yield
        for m, momentum, seen in was:
            m.momentum, m.num_batches_tracked = momentum, seen


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector of all, a copy."""
    return torch.cat([t.detach().flatten() for t in tensors])


def _views(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Pieces of a vector in the shapes of these tensors."""
    return [piece.view(t.shape) for piece, t in zip(vector.split([t.numel() for t in like]), like, strict=True)]


def _rows(keep: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A mask (C,) in a shape that multiplies the first dimension."""
    return keep.view(-1, *[1] * (like.dim() - 1))
