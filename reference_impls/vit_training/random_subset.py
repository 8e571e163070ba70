"""Training on randomly chosen examples, drawn once or anew each epoch: what every choice of examples has to beat.

Paper: no paper; the control of equally many examples.

Deviations: the number of examples is the one whose steps come nearest to the target, since an epoch is a whole number of batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from reference_impls.parts.vit_examples import (
    Chosen,
    drawing,
    first_of_each,
    known_share,
    quotas,
    subset_size,
    train_labels,
)
from reference_impls.parts.vit_training import VitTrainer, trained
from suite.naming import UserError
from tasks.vit_training.problem import Trained, VitProblem, asked

__all__ = ["RandomSubset"]

Draw = Literal["once", "each_epoch"]


@dataclass(frozen=True)
class RandomSubset:
    """Every example has the same chance."""

    version: ClassVar[int] = 1

    draw: Draw = "once"  #: whether the examples are drawn once, or each_epoch anew, which amounts to fewer steps
    balanced: bool = False  #: whether each class keeps its share of the examples exactly
    keep: float | None = None  #: share of the training examples that an epoch shows; None: what the target asks for

    def __post_init__(self) -> None:
        if self.draw not in get_args(Draw):
            raise UserError(f"draw={self.draw}: choose {' or '.join(get_args(Draw))}")
        known_share("keep", self.keep)

    def solve(self, problem: VitProblem) -> Trained:
        _, share = asked(problem, "train_macs")
        size = subset_size(problem, share, self.keep)
        labels = train_labels(problem.source) if self.balanced else None

        def rows(epoch: int) -> torch.Tensor:
            seed = problem.run.seed("random_subset", epoch if self.draw == "each_epoch" else 0)
            return drawn(problem.source.train_count, size, drawing(seed), labels)

        fitted = VitTrainer(problem).fit("train", problem.network(), hooks=Chosen(rows))
        return trained(fitted, {"examples": size})


def drawn(count: int, size: int, draw: torch.Generator, labels: torch.Tensor | None = None) -> torch.Tensor:
    """So many of the rows, rising; with labels of every class as many as it is frequent."""
    order = torch.randperm(count, generator=draw)
    if labels is None or not len(labels):  # the speed division knows no label
        return order[:size].sort().values
    return first_of_each(order, labels, quotas(labels, size)).sort().values
