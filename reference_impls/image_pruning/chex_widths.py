"""The control of CHEX: random channels, as many in each layer as CHEX ends with, trained from scratch.

Deviations: a control, from no paper. CHEX runs first, with the same seed and a whole training, and hands on its widths
alone; with the control's own training that is twice the examples, so the closed division has no room for it (`--division open`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.image_pruning.chex import Chex
from reference_impls.parts.training import Trainer
from suite.naming import UserError
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["ChexWidths"]


@dataclass(frozen=True)
class ChexWidths:
    """No setting: CHEX has its defaults."""

    version: ClassVar[int] = 1

    def solve(self, problem: ImageProblem) -> Network:
        if problem.spec.division == "closed":
            raise UserError("chex_widths needs two trainings, CHEX's and its own; run it with --division open")
        widths = Chex().solve(problem).notes["widths"]
        model = problem.model()
        generator = torch.Generator().manual_seed(problem.run.seed("chex_widths"))
        order = {g.name: torch.randperm(g.width, generator=generator) for g in problem.groups(model)}
        masks = {n: torch.zeros(len(o), dtype=torch.bool).index_fill_(0, o[: widths[n]], True) for n, o in order.items()}
        small = problem.compact(model, masks)
        Trainer(problem).fit("scratch", small, Recipe.of(problem), epochs=problem.epochs)
        return Network(small, {"widths": widths})
