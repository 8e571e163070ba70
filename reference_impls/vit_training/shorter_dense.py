"""The dense training with fewer epochs: what every method that saves steps has to beat.

Paper: no paper; the control of equal compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.vit_examples import known_share
from reference_impls.parts.vit_training import VitTrainer, trained
from tasks.vit_training.problem import Trained, VitProblem, asked

__all__ = ["ShorterDense"]


@dataclass(frozen=True)
class ShorterDense:
    """The schedule is compressed: it warms up and falls to its end within the fewer epochs."""

    version: ClassVar[int] = 1

    share: float | None = None  #: share of the dense training's epochs; None: what the target asks for

    def __post_init__(self) -> None:
        known_share("share", self.share)

    def solve(self, problem: VitProblem) -> Trained:
        _, wanted = asked(problem, "train_macs")
        share = wanted if self.share is None else self.share
        epochs = max(1, round(share * problem.epochs))
        fitted = VitTrainer(problem).fit("train", problem.network(), epochs=epochs, recipe=problem.recipe_of(epochs))
        return trained(fitted, {"epochs": epochs})
