"""Gradual magnitude pruning: the smallest weights go a few at a time while the network trains (Zhu & Gupta).

Paper: Zhu, Gupta. To prune, or not to prune: exploring the efficacy of pruning for model compression. 2017, arXiv 1710.01878.

Deviations: one threshold for the whole network instead of one a layer, over all but the first layer, classifier included;
starts at random weights; the interval is 100 steps on the paper tier alone, half an epoch where runs are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.parts.sparse import Exploring, Masks, alive, keep_top, magnitudes, maskable, small_interval, target_count
from reference_impls.parts.training import Trainer
from tasks.image_pruning.task import ImageProblem, Network
from tasks.images.recipes import Recipe

__all__ = ["Gmp"]


@dataclass(frozen=True)
class Gmp:
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    end: float = 0.75  #: t1: the last removal, as a share of the training
    interval: int = 0  #: f, in steps; 0: by the tier and the size of the data

    def solve(self, problem: ImageProblem) -> Network:
        model = problem.model()
        layers = maskable(model)
        count = target_count(problem, model, layers)
        interval = self.interval or small_interval(problem.steps_per_epoch, problem.spec.tier, least=1)
        hooks = Shrinking(layers, count, interval, round(self.end * problem.epochs * problem.steps_per_epoch))
        Trainer(problem).fit("train", model, Recipe.of(problem), epochs=problem.epochs, hooks=hooks)
        hooks.finish()
        return Network(model)


class Shrinking(Exploring):
    """Keeps fewer and fewer weights, by s_t = s_f - s_f (1 - t/t1)^3; the removed stay removed."""

    def __init__(self, layers: dict, count: int, interval: int, end: int) -> None:  # type: ignore[type-arg]
        masks: Masks = {n: m.weight.new_ones(m.weight.shape).bool() for n, m in layers.items()}
        super().__init__(layers, masks, interval)
        self.count, self.end = count, max(1, end)
        self.size = sum(m.numel() for m in masks.values())

    def after_backward(self) -> bool:
        super().after_backward()
        if self.step == self.end:  # t1 need not be a multiple of f
            self.explore()
        return True

    def finish(self) -> None:
        """All that is left to remove at once: the `speed` division sees no batch, so it prunes initial weights."""
        if alive(self.masks) > self.count:
            self.step = self.end
            self.explore()
            self.after_step()

    def explore(self) -> bool:
        done = min(1.0, self.step / self.end)
        removed = (self.size - self.count) * (1 - (1 - done) ** 3)
        self.masks = keep_top(magnitudes(self.layers), self.size - round(removed), among=self.masks)
        return True
