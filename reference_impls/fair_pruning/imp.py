"""Iterative magnitude pruning: train, remove the smallest weights, rewind the others, train again (lottery tickets).

Paper: Frankle, Carbin. The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks. ICLR 2019, arXiv 1803.03635.

`rewind=start` goes back to the initial weights, as lottery tickets do; `rewind=dense` to the trained dense network's, as
FairGRAPE's own "Lottery" does, which is iterative pruning with fine-tuning and no lottery ticket.

Deviations: the trainings between the levels share the epochs that pruning has, so there are at most `levels` levels and each
removes more than `rate`; the last ticket is trained for as many epochs again, which makes as many gradients as a method of two
levels takes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_impls.parts.fair import Cut, Early, Pruner, Together, dense, held, kept_count
from reference_impls.parts.fairness import Loss
from reference_impls.parts.filters import split
from reference_impls.parts.rewinding import ladder
from reference_impls.parts.sparse import Masks, keep_top, magnitudes, weighted
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairProblem

__all__ = ["Imp"]


@dataclass(frozen=True)
class Imp(Pruner):
    """All layers are ranked together."""

    version: ClassVar[int] = 1

    rate: float = 0.2  #: share of the weights left that goes at a level
    levels: int = 5  #: at most
    rewind: Literal["start", "dense"] = "start"  #: whose weights survivors go back to: the initial ones, or the dense network's

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut:
        """The last training is left: it is the fine-tuning."""
        model = problem.model()
        start = copy.deepcopy(model.state_dict())
        layers = weighted(model)
        size = sum(m.weight.numel() for m in layers.values())
        counts = ladder(size, kept_count(problem, size), self.rate, max(1, min(self.levels, problem.tune_epochs + 1)))
        model.load_state_dict(dense(problem, trainer, loss).state_dict())
        whole = copy.deepcopy(model)
        watch = problem.watch(whole)
        back = start if self.rewind == "start" else copy.deepcopy(model.state_dict())
        masks: Masks = {n: m.weight.new_ones(m.weight.shape).bool() for n, m in layers.items()}
        lengths = split(problem.tune_epochs, [1.0] * (len(counts) - 1)) if len(counts) > 1 else []
        for level, count in enumerate(counts):
            if level:
                hooks = Together(held(model, masks), Early(watch, model, problem.tune_epochs * problem.steps_per_epoch))
                trainer.fit(f"level {level}", model, problem.tune, epochs=lengths[level - 1], hooks=hooks)
            masks = keep_top(magnitudes(layers), count, among=masks)
            model.load_state_dict(back)
        return Cut(model, masks, problem.tune_epochs, whole, watch)
