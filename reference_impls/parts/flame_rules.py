"""What the rules of flame_detection share: one for each fold, and the threshold that parts two classes best."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from suite.naming import UserError
from tasks.flame_detection.problem import Detector, Detectors, FlameProblem, inputs


def rule_of_each_fold(problem: FlameProblem, make: Callable[[FlameProblem], nn.Module]) -> Detectors:
    """A rule for each fold's problem.  Raises UserError where it reads temperatures and the set has none."""
    found = []
    for fold in range(len(problem.patches.folds)):
        own = problem.of_fold(fold)
        rule = make(own)
        if problem.spec.division != "speed":
            inputs(rule, own.train, torch.arange(0))
        found.append(Detector(rule))
    return Detectors(found)


def best_threshold(values: torch.Tensor, label: torch.Tensor) -> float:
    """The threshold above which values count as flame with the best balanced accuracy, the lowest of equal ones.

    It lies halfway between two neighbouring values.

    Args:
        values: (n,).
        label: (n,) int64, 1: flame, 0: none; others are left out.

    Raises UserError where a class is missing.
    """
    flame, rest = label == 1, label == 0
    if not flame.any() or not rest.any():
        raise UserError("the training patches are all of one class, so no threshold can be found; give patches of both")
    levels, place = values.double()[flame | rest].unique(return_inverse=True)
    masks = (m[flame | rest] for m in (flame, rest))
    if len(levels) == 1:
        return float(levels[0])
    of_flame, of_rest = (torch.bincount(place[m], minlength=len(levels)).cumsum(0).double() for m in masks)
    # up to and with each level but the last: how many are not called flame
    score = (1 - of_flame / of_flame[-1] + of_rest / of_rest[-1])[:-1]
    best = int(score.argmax())
    below, above = levels[best : best + 2].tolist()
    halfway = float(((levels[best] + levels[best + 1]) / 2).float())
    return halfway if halfway < above else below  # of neighbours in single precision there is no halfway
