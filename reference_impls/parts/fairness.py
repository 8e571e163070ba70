"""Named parts of fair training: differentiable stand-ins for how far groups lie apart, and the penalties made of them.

The accuracy gap's is BiFP's (Dai et al. 2023; Wu, Zhang, Wu 2019), the others are the usual regularisers (demographic
parity, equalised odds, covariance: Zafar et al. 2017). All take logits (n, C), labels (n,) and groups (n,) from 0 and give a
scalar; a batch that a rate cannot be formed of gives 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from suite.naming import UserError
from tasks.images.recipes import Recipe

Surrogate = Literal["sigmoid", "logistic", "hinge", "tanh01"]
Curve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _sigmoid(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u = (1 + np.tanh(z / 2)) / 2
    return u, u * (1 - u)


def _tanh01(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t = np.tanh(z)
    return (1 + t) / 2, (1 - t * t) / 2


def _logistic(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.logaddexp(0, z) / math.log(2), _sigmoid(z)[0] / math.log(2)


def _hinge(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(0, 1 + z), (z > -1).astype(z.dtype)


#: u(z), what stands for the indicator z > 0, and its slope.  Where u(z) + u(-z) = 1 the gap is 0 at parity; the others bound it.
SURROGATES: dict[Surrogate, Curve] = {"sigmoid": _sigmoid, "logistic": _logistic, "hinge": _hinge, "tanh01": _tanh01}
ACROSS = np.array([-1.0, 1.0], np.float32)  #: of two logits the second less the first
BOUNDS: tuple[Surrogate, ...] = ("logistic", "hinge")

Kind = Literal["accuracy", "parity", "odds", "covariance"]
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def signed_gap(
    margin: torch.Tensor, sign: torch.Tensor, surrogate: Surrogate = "sigmoid", share: torch.Tensor | None = None
) -> torch.Tensor:
    """F, the accuracy of the favoured group less that of the other, relaxed: mean of u(s y f) / P(s), less 1 (Dai et al. 2023).

    The paper's Eq. 8 leaves s out of u; what it then measures is no gap but the sum of both accuracies.

    Args:
        margin: (n,) y f, the score for the true label: positive where the answer is right.
        sign: (n,) s, +1 in the favoured group and -1 in the other.
        share: (n,) P(s), the share of each example's own group; None: that of the batch.

    Returns 0 where the batch holds one group alone.
    """
    favoured = _array(sign) > 0
    weight = _inverse(favoured.astype(np.int64), _array(margin).dtype, ()) if share is None else 1 / (len(margin) * _array(share))
    if weight is None:
        return margin.sum() * 0
    value, slope = _relaxed(np.where(favoured, _array(margin), -_array(margin)), weight, surrogate)
    return _with_slope(margin, np.where(favoured, slope, -slope), value)


def margins(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The true class's logit less the largest of the others, (n,); of two classes y times the difference of the logits."""
    true = logits.gather(1, label[:, None])[:, 0]
    others = logits.scatter(1, label[:, None], -torch.inf).amax(1)
    return true - others


def accuracy_penalty(
    logits: torch.Tensor,
    label: torch.Tensor,
    group: torch.Tensor,
    *,
    surrogate: Surrogate = "sigmoid",
    penalty: Literal["absolute", "signed"] = "absolute",
    tolerance: float = 0.0,
    shares: Sequence[float] = (),
    groups: int = 0,
) -> torch.Tensor:
    """The penalty on the accuracy gap: max(0, |F| - tolerance), or F itself where a literal run asks for it (Dai et al. 2023).

    With a bound from above as surrogate both signs are bounded and the larger counts.  At a kink the gradient is 0.  Of more than
    two groups: the sum of the distances between each group's mean probability of the true class and that of all.

    Args:
        shares: of the groups in the whole split; empty: those of the batch.
        groups: how many there are; 0: as many as the batch shows.
    """
    if (groups or 1 + int(group.max())) > 2:
        if surrogate != "sigmoid" or penalty != "absolute" or shares:
            raise UserError(
                "of more than two groups the penalty is of true-class probabilities: leave surrogate, penalty and shares"
            )
        return F.relu(_spread(logits.softmax(1).gather(1, label[:, None])[:, 0], group) - tolerance)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    sides = _array(group)
    if logits.shape[1] > 2:
        margin = margins(logits, label)
        value, slope = _penalised(_array(margin), sides == 1, sides, surrogate, penalty, tolerance, shares)
        return _with_slope(margin, slope, value)
    # s y = 1 where label and group are both 1 or both 0; f is the difference of the logits
    value, slope = _penalised(_array(logits) @ ACROSS, _array(label) == sides, sides, surrogate, penalty, tolerance, shares)
    return _with_slope(logits, np.multiply.outer(slope, ACROSS), value)


def _penalised(
    score: np.ndarray,
    agrees: np.ndarray,
    group: np.ndarray,
    surrogate: Surrogate,
    penalty: str,
    tolerance: float,
    shares: Sequence[float],
) -> tuple[float, np.ndarray]:
    """The penalty and its gradient for the scores, (n,), in closed form: a graph of twenty small nodes would take half a step.

    Args:
        agrees: (n,) bool, whether s y f is the score itself; else it is its negative.
    """
    weight = _inverse(group, score.dtype, shares)
    if weight is None:
        return 0.0, np.zeros_like(score)
    sign = np.where(agrees, score.dtype.type(1), score.dtype.type(-1))
    z = sign * score
    value, slope = _relaxed(z, weight, surrogate)
    if penalty == "absolute":
        if surrogate in BOUNDS:
            other, steep = _relaxed(-z, weight, surrogate)
            over, slope = (other, -steep) if other > value else (value, slope)
        else:
            over, slope = abs(value), (-slope if value < 0 else slope)
        if over <= tolerance:
            return 0.0, np.zeros_like(score)
        value = over - tolerance
    return value, sign * slope


def _inverse(group: np.ndarray, kind: np.dtype, shares: Sequence[float]) -> np.ndarray | None:
    """1 / (n P(s)) of each example, (n,); None where one group alone is there."""
    count, favoured = len(group), int(group.sum())
    if favoured in (0, count):
        return None
    of = [1 / (count * s) for s in shares] if shares else [1 / (count - favoured), 1 / favoured]
    return np.array(of, kind)[group]


def _relaxed(z: np.ndarray, weight: np.ndarray, surrogate: Surrogate) -> tuple[float, np.ndarray]:
    """F, and its gradient for z = s y f."""
    u, slope = SURROGATES[surrogate](z)
    return float(u @ weight) - 1, slope * weight


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy(force=True)  # detached, on the processor


def _with_slope(of: torch.Tensor, slope: np.ndarray, value: float) -> torch.Tensor:
    """A scalar of this value whose gradient for `of` is `slope`."""
    line = torch.dot(of.reshape(-1), torch.from_numpy(slope).to(of).reshape(-1))
    return line + (value - line.item())


def parity_penalty(logits: torch.Tensor, group: torch.Tensor, groups: int = 0) -> torch.Tensor:
    """Demographic parity: how far the groups' mean probabilities of a class lie apart; of more than two groups, from that of all.

    Of two classes that of class 1; of more the mean over them.

    Args:
        groups: how many there are; 0: as many as the batch shows.
    """
    p = logits.softmax(1)
    columns = [p[:, 1]] if p.shape[1] == 2 else list(p.unbind(1))
    return torch.stack([_apart(column, group, groups) for column in columns]).mean()


def odds_penalty(logits: torch.Tensor, label: torch.Tensor, group: torch.Tensor, groups: int = 0) -> torch.Tensor:
    """Equalised odds: the parity penalty within each label that occurs, summed."""
    found = [parity_penalty(logits[label == y], group[label == y], groups) for y in label.unique()]
    return torch.stack(found).sum()


def covariance_penalty(logits: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """|mean of (s - mean s) f|, f the difference of the logits (Zafar et al. 2017)."""
    f = logits[:, 1] - logits[:, 0]
    s = torch.where(group == 1, 1.0, -1.0).to(f.dtype)
    return ((s - s.mean()) * f).mean().abs()


@dataclass(frozen=True)
class Constraint:
    """What is added to the loss: `weight` times a penalty."""

    weight: float = 1.0
    kind: Kind = "accuracy"
    surrogate: Surrogate = "sigmoid"
    penalty: Literal["absolute", "signed"] = "absolute"
    tolerance: float = 0.0
    shares: tuple[float, ...] = ()
    groups: int = 0  #: how many there are; 0: as many as a batch shows

    def __post_init__(self) -> None:
        if self.weight < 0 or self.tolerance < 0:
            raise UserError(f"a constraint's weight {self.weight:g} and tolerance {self.tolerance:g} must be 0 or more")

    def check(self, classes: int) -> None:
        """Raises UserError, before anything is trained, where the penalty cannot be of so many classes and groups."""
        if self.kind == "covariance" and (classes != 2 or self.groups > 2):
            raise UserError("the covariance penalty is of two classes and two groups; choose parity or odds")

    def of(self, logits: torch.Tensor, label: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
        """The penalty of a batch, without its weight."""
        if self.kind == "accuracy":
            return accuracy_penalty(
                logits,
                label,
                group,
                surrogate=self.surrogate,
                penalty=self.penalty,
                tolerance=self.tolerance,
                shares=self.shares,
                groups=self.groups,
            )
        if self.kind == "covariance" and (logits.shape[1] != 2 or int(group.max()) > 1):
            raise UserError("the covariance penalty is of two classes and two groups; choose parity or odds")
        found = {
            "parity": lambda: parity_penalty(logits, group, self.groups),
            "odds": lambda: odds_penalty(logits, label, group, self.groups),
            "covariance": lambda: covariance_penalty(logits, group),
        }[self.kind]()
        return F.relu(found - self.tolerance)


def constrained(recipe: Recipe, constraint: Constraint) -> Loss:
    """The recipe's loss and the weighted penalty, of one forward pass; targets are (n, 2), label and group."""

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits: list[torch.Tensor] = []

        def seen(x: torch.Tensor) -> torch.Tensor:
            logits.append(model(x))
            return logits[0]

        value = recipe.loss(seen, x, y)  # type: ignore[arg-type]
        if not constraint.weight:
            return value
        return torch.add(value, constraint.of(logits[0], y[:, 0], y[:, 1]), alpha=constraint.weight)

    return loss


def _apart(value: torch.Tensor, group: torch.Tensor, groups: int) -> torch.Tensor:
    """The distance between two groups' means, or of more groups as `_spread` has it; 0 of one group."""
    present = group.unique()
    if len(present) == 2 and groups <= 2:
        return (value[group == present[0]].mean() - value[group == present[1]].mean()).abs()
    return _spread(value, group) if len(present) > 2 else value.sum() * 0


def _spread(value: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """The sum over the groups that are there of the distance between their mean and that of all."""
    if not len(value):
        return value.sum()
    count = torch.bincount(group).to(value.dtype)
    means = value.new_zeros(len(count)).index_add(0, group, value) / count.clamp_min(1)
    return ((means - value.mean()).abs() * (count > 0)).sum()
