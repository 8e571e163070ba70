"""Training on the examples whose answers were furthest from right early in short dense runs (EL2N).

Paper: Paul, Ganguli, Dziugaite. Deep Learning on a Data Diet: Finding Important Examples Early in Training. NeurIPS 2021,
arXiv 2107.07075.

Deviations: three runs score instead of ten, after a tenth of the epochs; they are booked and timed as part of the whole.  Scored on
images that are not augmented, in evaluation mode.  The number of examples is the one whose steps come nearest to the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.vit_example_scores import check_scoring, el2n, train_on_hardest
from tasks.vit_training.problem import Trained, VitProblem

__all__ = ["El2n"]


@dataclass(frozen=True)
class El2n:
    """The score is ||softmax(logits) - one-hot label||, the mean over the runs; the highest stay."""

    version: ClassVar[int] = 1

    keep: float | None = None  #: share of the training examples that stays; None: what the target asks for
    runs: int = 3  #: short trainings from initial weights of their own, whose scores are averaged
    at: float = 0.1  #: share of the epochs after which they score
    skipped: float = 0.0  #: share of the examples, the very highest, that is left out as possibly mislabelled

    def __post_init__(self) -> None:
        check_scoring(self.keep, self.runs, self.at, self.skipped)

    def solve(self, problem: VitProblem) -> Trained:
        return train_on_hardest(problem, "el2n", el2n, keep=self.keep, runs=self.runs, at=self.at, skipped=self.skipped)
