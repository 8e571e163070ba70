"""FlameFinder's network with a binary classifier alone: the parent that FlameFinder is measured against.

Paper: Rajoli, Khoshdel, Afghah, Ma. FlameFinder: Illuminating Obscured Fire through Smoke with Attentive Deep Metric Learning. IEEE
TGRS 2024, arXiv 2404.06653.

Deviations: FlameFinder, reconstructed: no code was published and only the abstract names the pieces, so layers and recipe are this
project's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.flame_training import fit
from tasks.flame_detection.networks import Lfe
from tasks.flame_detection.problem import Detectors, FlameProblem

__all__ = ["Bce"]


@dataclass(frozen=True)
class Bce:
    """The recipe is the table's; there is no centre, so patches are classified by the head alone."""

    version: ClassVar[int] = 1

    thermal: Literal["scaled", "celsius"] = "scaled"  #: scaled: over each frame, as cameras do; celsius: temperatures, over 600

    def solve(self, problem: FlameProblem) -> Detectors:
        if self.thermal == "celsius":
            problem = problem.in_degrees()
        return fit(problem, lambda own: Lfe(own.patches.patch), problem.recipe)
