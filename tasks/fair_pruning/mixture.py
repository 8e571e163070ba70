"""A randomised classifier: several networks, one of which is drawn for each answer, as reductions give (Agarwal et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from tasks.fair_pruning.problem import FairProblem


class Mixture(nn.Module):
    """Members and the chances that they are drawn with, which sum to 1.  Of two classes only."""

    def __init__(self, members: Sequence[nn.Module], chances: Sequence[float]) -> None:
        super().__init__()
        if len(members) != len(chances) or not members or min(chances) < 0 or abs(sum(chances) - 1) > 1e-6:
            raise ValueError(f"{len(members)} members have the chances {list(chances)}, which must be as many and sum to 1")
        self.members = nn.ModuleList(members)
        self.register_buffer("chances", torch.tensor(chances, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logarithms of the chance of each answer, (n, C): the largest is that of the likeliest."""
        votes = sum(chance * nn.functional.one_hot(m(x).argmax(1), 2) for m, chance in zip(self.members, self.chances, strict=True))
        return (votes.clamp_min(1e-12)).log().float()  # type: ignore[union-attr]


def members(model: nn.Module) -> list[nn.Module]:
    """The networks that have to be kept to answer."""
    return [m for m, c in zip(model.members, model.chances, strict=True) if c > 0] if isinstance(model, Mixture) else [model]


def likeliest(model: nn.Module) -> nn.Module:
    """The network that most answers come from; itself where there is one."""
    if not isinstance(model, Mixture):
        return model
    return model.members[int(model.chances.argmax())]  # type: ignore[operator]


def answers(problem: FairProblem, model: nn.Module) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the test split labels, likeliest answers, the chance of each answer, and the confidence in it, (n,) each."""
    label, prediction, confidence = problem.predict(model, "test")
    if not isinstance(model, Mixture):
        return label, prediction, np.ones(len(label)), confidence
    found = [(problem.predict(m, "test"), float(c)) for m, c in zip(model.members, model.chances, strict=True)]
    positive = sum(c * (p == 1) for (_, p, _), c in found)
    trust = sum(c * np.where(p == 1, q, 1 - q) for (_, p, q), c in found)
    chosen = positive > 0.5
    return (
        label,
        chosen.astype(np.int64),
        np.clip(np.where(chosen, positive, 1 - positive), 0.5, 1.0),
        np.where(chosen, trust, 1 - trust),
    )
