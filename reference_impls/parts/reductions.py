"""Fairness by reductions (Agarwal et al. 2018), as fairlearn computes them, on a network whose mask stays.

fairlearn asks an estimator again and again for the best answer to weighted examples; here that is the pruned network, trained for
some steps on the weighted cross-entropy.  Each answer goes on from the last one's weights, since all of them together have the
gradients of one method; once these are spent, an answer is the last network as it is.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.fair import Cut, held
from suite.extras import need
from suite.naming import UserError
from tasks.fair_pruning.problem import FairProblem

Reduced = Literal["error_rate", "parity", "odds", "true_positive_rate"]
CONSTRAINTS: dict[Reduced, str] = {
    "error_rate": "ErrorRateParity",
    "parity": "DemographicParity",
    "odds": "EqualizedOdds",
    "true_positive_rate": "TruePositiveRateParity",
}


def moment(name: Reduced, bound: float) -> Any:
    """fairlearn's constraint of that name, its difference bounded."""
    return getattr(need("fairlearn.reductions", "a reduction"), CONSTRAINTS[name])(difference_bound=bound)


def binary(problem: FairProblem) -> None:
    """Raises UserError, before anything is trained, where a reduction has no yes and no to choose from."""
    if problem.classes != 2:
        raise UserError(f"a reduction answers yes or no, and there are {problem.classes} classes; choose another method")


class Oracle:
    """fairlearn's estimator: `fit(X, y, sample_weight)` and `predict(X)`, X being numbers of training rows, (n, 1).

    Copies, as fairlearn makes one for each answer, share what the answers share: data, gradients left, the last weights.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.model: nn.Module | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Oracle:
        return Oracle(self.shared)

    def fit(self, X: Any, y: Any, sample_weight: Any) -> Oracle:
        self.model = self.shared.answer(np.asarray(y).reshape(-1), np.asarray(sample_weight).reshape(-1))
        return self

    def predict(self, X: Any) -> np.ndarray:
        assert self.model is not None
        return self.shared.predict(self.model)


class Shared:
    """What the answers to one reduction share."""

    def __init__(self, problem: FairProblem, cut: Cut, steps: int) -> None:
        self.problem, self.cut, self.steps = problem, cut, steps
        self.last = copy.deepcopy(cut.model)
        self.fits = 0
        everyone = list(problem.everyone())
        self.left = problem.left
        self.x = [x for x, _ in everyone]
        self.label, self.group = torch.cat([y for _, y in everyone]).T.cpu().numpy()
        # where each training row lies among those that fairlearn is given
        self.place = torch.full((problem.source.train_count,), -1)
        self.place[problem.pruning.sort().values] = torch.arange(len(problem.pruning))

    @property
    def rows(self) -> np.ndarray:
        return np.arange(len(self.label))[:, None]

    def answer(self, label: np.ndarray, weight: np.ndarray) -> nn.Module:
        """A network trained on these labels and weights (n,) of the pruning rows in stored order."""
        device = self.problem.device
        wanted, weights = torch.tensor(label).long(), torch.tensor(weight).float()
        steps = min(self.steps, self.left)
        self.left -= steps
        hooks = held(self.last, self.cut.masks)
        optimizer = self.problem.tune.optimizer(self.last)
        torch.manual_seed(self.problem.run.seed("torch answers", self.fits))  # dropout and the like
        self.problem.tune.set_rate(optimizer, 0, 1)
        hooks.begin(optimizer)
        self.last.train()
        for index, x, _ in self.problem.indexed(f"fit {self.fits}", steps):
            place = self.place[index]
            loss = F.cross_entropy(self.last(x), wanted[place].to(device), reduction="none")
            optimizer.zero_grad()
            (loss * weights[place].to(device)).mean().backward()
            optimizer.step()
            hooks.after_step()
        self.fits += 1
        return copy.deepcopy(self.last).eval()

    @torch.no_grad()
    def predict(self, model: nn.Module) -> np.ndarray:
        return torch.cat([model.eval()(x).argmax(1) for x in self.x]).cpu().numpy()


def network(predictor: Any, like: nn.Module) -> nn.Module:
    """The network of one of fairlearn's predictors: where all labels asked for were the same it puts a constant in its place."""
    if isinstance(predictor, Oracle):
        assert predictor.model is not None
        return predictor.model
    constant = copy.deepcopy(like)
    last = [m for m in constant.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.nn.functional.one_hot(torch.tensor(int(predictor.constant)), 2) * 20.0)
    return constant
