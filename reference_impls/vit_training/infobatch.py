"""Each epoch half of the well-learned examples are left out at random, and the others of them count double (InfoBatch).

Paper: Qin, Wang, Zheng, Gu, Peng, Xu, Zhou, Shang, Sun, Xie, You. InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data
Pruning. ICLR 2024, arXiv 2303.04947.

Deviations: what is saved follows from the losses and not from the target, so its rows are off target: r stays 0.5.  Draws are
addressed by the epoch.  Of an example that an epoch shows several times the last loss is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.vit_examples import Log, drawing
from reference_impls.parts.vit_training import VitHooks, VitTrainer, trained
from suite.naming import UserError
from tasks.images.recipes import Recipe
from tasks.vit_training.problem import Trained, VitProblem, asked

__all__ = ["InfoBatch"]

START = 3.0  #: score of an example whose loss is not known yet

Choose = Callable[[torch.Tensor, int], torch.Tensor]  #: so many of these rows


@dataclass(frozen=True)
class InfoBatch:
    """Symbols as in the paper."""

    version: ClassVar[int] = 1

    r: float = 0.5  #: share of the well-learned examples, those below the mean loss, that an epoch leaves out
    delta: float = 0.875  #: share of the epochs after which all examples are shown

    def __post_init__(self) -> None:
        if not 0 <= self.r < 1:
            raise UserError(f"r={self.r}: a share lies from 0 on and below 1, since what stays of them weighs 1 / (1 - r)")
        if not 0 <= self.delta <= 1:
            raise UserError(f"delta={self.delta}: a share lies within 0 to 1")

    def solve(self, problem: VitProblem) -> Trained:
        asked(problem, "train_macs")
        if problem.recipe.mixup:
            raise UserError("the recipe mixes images in its loss, which is then no example's own; mix them in the augmentation")
        hooks = WellLearned(problem, self)
        fitted = VitTrainer(problem).fit("train", problem.network(), hooks=hooks, loss=hooks.loss)
        images = problem.epochs * problem.steps_per_epoch * problem.batch
        notes = {"share_pruned": 1 - fitted.training.steps * problem.batch / images, "epochs": hooks.history}
        return trained(fitted, notes)


def prune(scores: torch.Tensor, r: float, choose: Choose) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that an epoch shows, and weights (M,) of their losses.

    The rows are those of no low score, rising, then those that are drawn of the others, in drawn order.

    Args:
        scores: (M,) last losses.
    """
    low = scores < scores.double().mean()
    well = low.nonzero()[:, 0]
    chosen = choose(well, int((1 - r) * len(well)))
    weights = torch.ones(len(scores))
    weights[chosen] = 1 / (1 - r)
    return torch.cat([(~low).nonzero()[:, 0], chosen]), weights


def book(scores: torch.Tensor, rows: torch.Tensor, losses: torch.Tensor) -> None:
    """Set the scores of these rows, in place, to their losses; to the last one where a row comes several times."""
    last = torch.full((len(scores),), -1).scatter_reduce_(0, rows, torch.arange(len(rows)), "amax")
    seen = last >= 0
    scores[seen] = losses[last[seen]].to(scores.dtype)


@dataclass
class WeightedLoss:
    """The mean of weighted losses; the losses themselves are left in a log."""

    recipe: Recipe
    log: Log = field(default_factory=Log)
    weight: torch.Tensor = field(default_factory=lambda: torch.ones(()))  #: of the coming step's examples (batch,)

    def __call__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # soft targets are smoothed already
        smoothing = 0.0 if y.is_floating_point() else self.recipe.label_smoothing
        losses = F.cross_entropy(model(x), y, label_smoothing=smoothing, reduction="none")
        self.log.add(losses.detach())
        return (losses * self.weight.to(losses.device)).mean()

    def __getstate__(self) -> dict[str, Any]:
        # steps that are timed may have more examples than a process's last one had
        return {"recipe": self.recipe, "log": self.log, "weight": torch.ones(())}


class WellLearned(VitHooks):
    """What InfoBatch keeps of each example."""

    def __init__(self, problem: VitProblem, settings: InfoBatch) -> None:
        self.problem, self.settings = problem, settings
        count = problem.source.train_count
        self.scores = torch.full((count,), START)
        self.weights = torch.ones(count)
        self.loss = WeightedLoss(problem.recipe)
        self.history: list[dict[str, float]] = []  #: of each epoch how many examples were well-learned and shown

    def among(self, epoch: int) -> torch.Tensor | None:
        self._settle()
        rows: torch.Tensor | None = None
        self.weights = torch.ones(len(self.scores))
        if epoch < self.settings.delta * self.problem.epochs:
            draw = drawing(self.problem.run.seed("infobatch", epoch))
            rows, self.weights = prune(self.scores, self.settings.r, lambda w, n: w[torch.randperm(len(w), generator=draw)[:n]])
            rows = rows.sort().values  # the epoch's own order comes next: where nothing is left out it is the dense training's
        low = int((self.scores < self.scores.double().mean()).sum())
        self.history.append({"well_learned": low, "shown": len(self.scores) if rows is None else len(rows)})
        return rows

    def before_step(self, rows: torch.Tensor) -> None:
        self.loss.log.rows, self.loss.weight = rows, self.weights[rows]

    def state(self) -> dict[str, Any]:
        self._settle()
        return {"scores": self.scores, "history": self.history}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.scores, self.history = state["scores"].clone(), list(state["history"])

    def _settle(self) -> None:
        """Book the losses of all processes' steps, which therefore call it together."""
        columns = self.loss.log.take(self.problem.device)
        if columns:
            book(self.scores, *columns)
