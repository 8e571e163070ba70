"""Iterative magnitude pruning: train, remove the smallest weights, rewind the others, train again (lottery tickets).

Paper: Frankle, Dziugaite, Roy, Carbin. Linear Mode Connectivity and the Lottery Ticket Hypothesis. ICML 2020,
arXiv 1912.05671.

Deviations: all trainings share one budget, so there are at most `levels` of them and each is short; a level then removes
more than `rate`. In the open division every training has the whole budget, and levels are as many as `rate` asks for.
First layer and classifier stay dense (`stem=true`, `classifier=true`: they do not). A level removes exactly
ceil(rate x alive) weights; the authors keep those strictly above a threshold, so that one more goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from reference_impls.parts.rewinding import rounds, tickets, train_ticket
from reference_impls.parts.sparse import Masked, maskable, shuffled, target_count
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Imp"]


@dataclass(frozen=True)
class Imp:
    """Tickets and, by `weights` and `masks`, their controls."""

    version: ClassVar[int] = 1

    rate: float = 0.2  #: share of the weights left that goes at a level, where every training has the whole budget
    levels: int = 5  #: of train, prune and rewind, at most, where all trainings share one budget
    rewind: float = 0.05  #: where weights go back to, as a share of a training
    weights: Literal["rewound", "redrawn"] = "rewound"  #: redrawn: the same masks on other initial weights, the control
    masks: Literal["magnitude", "random"] = "magnitude"  #: random: as many weights in each layer, but random ones, the control
    stem: bool = False  #: whether the first convolution may be pruned
    classifier: bool = False  #: whether the last layer may be pruned

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model, stem=self.stem, classifier=self.classifier)
        size = sum(m.weight.numel() for m in layers.values())
        wanted = target_count(problem, model, layers)
        counts, spread = rounds(problem, size, wanted, self.rate, self.levels, self.rewind)
        trainer = Trainer(problem)
        masks, rewound = tickets(trainer, model, layers, counts, Recipe.of(problem), spread)
        if self.masks == "random":
            generator = torch.Generator().manual_seed(problem.run.seed("imp masks"))
            masks = {n: shuffled(m, generator) for n, m in masks.items()}
        redrawn = problem.run.seed("imp weights") if self.weights == "redrawn" else None
        train_ticket(trainer, model, rewound, Recipe.of(problem), spread, Masked(layers, masks), redrawn)
        return Network(model, {"levels": counts})
