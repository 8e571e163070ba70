"""The control of filter pruning: as many channels in each layer as another rule keeps, but random ones, fine-tuned alike.

Deviations: a control, from no paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from reference_impls.image_pruning.depgraph import Depgraph
from reference_impls.image_pruning.slimming import Slimming
from reference_impls.parts.channels import target_macs, uniform_widths
from reference_impls.parts.filters import Masks, OneShot, Stage, train_and_tune
from reference_impls.parts.sparse import shuffled
from tasks.image_pruning.task import ImageProblem

__all__ = ["RandomChannels"]


@dataclass(frozen=True)
class RandomChannels(OneShot):
    """The copied rule trains the dense network too, so widths that training from scratch finds (chex) cannot be copied."""

    version: ClassVar[int] = 1

    widths: Literal["uniform", "slimming", "depgraph"] = "uniform"  #: the rule that is copied; uniform: l1_filters, fpgm, hrank

    @property
    def rule(self) -> OneShot:
        rules: dict[str, type[OneShot]] = {"uniform": Uniform, "slimming": Slimming, "depgraph": Depgraph}
        return rules[self.widths]()

    def stages(self, problem: ImageProblem) -> list[Stage]:
        return self.rule.stages(problem)

    def choose(self, problem: ImageProblem, model: nn.Module) -> Masks:
        generator = torch.Generator().manual_seed(problem.run.seed("random_channels"))
        return {n: shuffled(mask, generator) for n, mask in self.rule.choose(problem, model).items()}


class Uniform(OneShot):
    """One ratio for all layers, bisected to the operations target."""

    def stages(self, problem: ImageProblem) -> list[Stage]:
        return train_and_tune(2 / 3)

    def choose(self, problem: ImageProblem, model: nn.Module) -> Masks:
        groups = problem.groups(model)
        widths = uniform_widths(groups, problem.macs_of, target_macs(problem))
        return {g.name: torch.arange(g.width) < widths[g.name] for g in groups if g.name in widths}
