"""Training on the examples of the largest gradients early in short dense runs (GraNd).

Paper: Paul, Ganguli, Dziugaite. Deep Learning on a Data Diet: Finding Important Examples Early in Training. NeurIPS 2021,
arXiv 2107.07075.

Deviations: the gradient is that of the last layer, as in DeepCore, unless the whole one is asked for; three runs score instead of
ten, after a tenth of the epochs; they are booked and timed as part of the whole.  Scored on images that are not augmented, in
evaluation mode.  The number of examples is the one whose steps come nearest to the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from reference_impls.parts.vit_example_scores import check_scoring, last_layer_gradient, train_on_hardest, whole_gradient
from suite.naming import UserError
from tasks.vit_training.problem import Trained, VitProblem

__all__ = ["Grand"]

Gradient = Literal["last_layer", "whole"]


@dataclass(frozen=True)
class Grand:
    """The score is the length of an example's gradient, the mean over the runs; the highest stay."""

    version: ClassVar[int] = 1

    keep: float | None = None  #: share of the training examples that stays; None: what the target asks for
    gradient: Gradient = "last_layer"  #: of which weights; whole: of all, for small networks
    runs: int = 3  #: short trainings from initial weights of their own, whose scores are averaged
    at: float = 0.1  #: share of the epochs after which they score
    skipped: float = 0.0  #: share of the examples, the very highest, that is left out as possibly mislabelled

    def __post_init__(self) -> None:
        check_scoring(self.keep, self.runs, self.at, self.skipped)
        if self.gradient not in get_args(Gradient):
            raise UserError(f"gradient={self.gradient}: choose {' or '.join(get_args(Gradient))}")

    def solve(self, problem: VitProblem) -> Trained:
        whole = self.gradient == "whole"
        score = whole_gradient if whole else last_layer_gradient
        return train_on_hardest(
            problem, "grand", score, keep=self.keep, runs=self.runs, at=self.at, skipped=self.skipped, backward=whole
        )
