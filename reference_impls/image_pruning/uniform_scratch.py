"""A thin network, all layers by one ratio, trained from scratch with the whole budget: the honest control.

Deviations: a control, from no paper. In residual blocks only the inner channels are thinner, so the network is not the
uniformly thin one in its stem and in its blocks' outputs. It gets as many examples as every row, not as many operations
(scratch-E, not scratch-B); other widths that methods find are not trained from scratch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.channels import target_macs, uniform_widths
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["UniformScratch"]


@dataclass(frozen=True)
class UniformScratch:
    """Narrower by one factor, and trained as the dense network is."""

    version: ClassVar[int] = 1

    floor: float = 0.1  #: share of its channels that a layer always keeps

    def solve(self, problem: ImageProblem) -> Network:
        groups = problem.groups(problem.model())
        widths = uniform_widths(groups, problem.macs_of, target_macs(problem), self.floor)
        model = problem.model(widths)
        return Network(Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs), {"widths": widths})
