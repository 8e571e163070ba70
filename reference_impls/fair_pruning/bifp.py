"""Mask and weights learned together in one run, both under a penalty on the accuracy gap between groups (BiFP).

Paper: Dai, Li, Luo, Ma, Wu. Integrating Fairness and Model Pruning Through Bi-level Optimization (first: Coupling Fairness and
Pruning in a Single Run: a Bi-level Optimization Perspective). 2023, arXiv 2312.10181.

BiFP-uns is asked for by ``nonzero=SHARE``, BiFP-str, whose masks take whole filters, by ``filters=SHARE``.

Deviations: no code was published, so the two levels are those of BiP's (Zhang et al., NeurIPS 2022), which BiFP is built on, with
its closed form of the implicit gradient; of the penalty's Eq. 8 the signed form is taken that Eq. 7 gives, of its absolute value
(a signed one, `penalty=signed`, can be driven below 0 for ever). Filters go where they can be cut out: inner ones of residual
blocks, with their bias and batch norm.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from reference_impls.parts.bilevel import Bilevel, Implicit, Levels
from reference_impls.parts.fair import Cut, Together, Watched, asked, by_filters, dense, filter_groups
from reference_impls.parts.fairness import Constraint, Loss, Surrogate, constrained
from reference_impls.parts.sparse import weighted
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["Bifp"]


@dataclass(frozen=True)
class Bifp:
    """Symbols as in the paper: lambda_theta is `fair_weights`, lambda_m `fair_masks`, 1/gamma `inverse_gamma`, tau `tolerance`."""

    version: ClassVar[int] = 1

    fairness: float = 1.0  #: weight of the penalty at both levels, unless one of the next two is given
    fair_weights: float | None = None  #: at the lower level, where weights learn
    fair_masks: float | None = None  #: at the upper level, where the mask does
    surrogate: Surrogate = "sigmoid"  #: what stands for "is right" in the penalty
    penalty: Literal["absolute", "signed"] = "absolute"  #: on the size of the gap, or literally on the gap with its sign
    tolerance: float = 0.0  #: gap that is not penalised
    shares: Literal["batch", "split"] = "batch"  #: where the groups' frequencies are counted
    implicit: Implicit = "paper"  #: the indirect part of the mask's gradient; bip_code: as BiP's code multiplies; none: without
    inverse_gamma: float = 1e-4  #: how much of the indirect part counts, BiP's lr2
    score_rate: float | None = None  #: of the scores' first step; None: the weights'
    score_momentum: float = 0.9  #: of the scores' steps

    def solve(self, problem: FairProblem) -> FairNetwork:
        trainer = Trainer(problem)
        cut = self.cut(problem, trainer)
        return FairNetwork(cut.model, dense=cut.dense, reached=cut.watch.reached if cut.watch else {})

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None, epochs: int = 0) -> Cut:
        """The two levels on the dense network, as many epochs as pruning has, or `epochs`, and as many left then as it has."""
        first = epochs or problem.tune_epochs
        share = asked(problem, "filters" if by_filters(problem) else "nonzero")
        at_weights, at_masks = (self._constraint(problem, own) for own in (self.fair_weights, self.fair_masks))
        model = dense(problem, trainer, loss)
        whole = copy.deepcopy(model)
        watch = problem.watch(whole)
        one = at_weights.weight == at_masks.weight

        def losses(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            with torch.autocast(problem.device.type, torch.bfloat16, enabled=problem.precision == "bf16"):
                logits = model(x)
            plain = problem.tune.loss(lambda _: logits, x, y)  # type: ignore[arg-type]
            penalty = at_masks.of(logits, y[:, 0], y[:, 1]) if at_masks.weight or at_weights.weight else plain * 0
            return plain + at_masks.weight * penalty, None if one else plain + at_weights.weight * penalty

        rate = problem.tune.lr if self.score_rate is None else self.score_rate
        levels = Levels(share, rate, self.score_momentum, self.inverse_gamma, self.implicit)
        groups = filter_groups(problem, model) if by_filters(problem) else ()
        both = Bilevel(problem, model, weighted(model), levels, losses, first, groups)
        steps = problem.tune_epochs * problem.steps_per_epoch
        hooks = Together(both, Watched(watch, model, steps, gradients=2))
        trainer.fit(
            "two levels",
            model,
            problem.tune,
            epochs=first,
            hooks=hooks,
            loss=constrained(problem.tune, at_weights),
        )
        left = problem.tune_epochs if epochs else 0
        if groups:
            return Cut(problem.compact(model, both.keep), {}, left, whole, watch)
        return Cut(model, both.masks, left, whole, watch)

    def _constraint(self, problem: FairProblem, weight: float | None) -> Constraint:
        shares = problem.group_shares if self.shares == "split" else ()
        weight = self.fairness if weight is None else weight
        return Constraint(weight, "accuracy", self.surrogate, self.penalty, self.tolerance, shares, problem.group_count)
