"""Prune, then a randomised mixture of networks on the mask that keeps a rate alike between groups (reductions).

Paper: Agarwal, Beygelzimer, Dudik, Langford, Wallach. A Reductions Approach to Fair Classification. ICML 2018, arXiv 1803.02453.

The answer is a draw: measures are expectations over it, all members are stored, one answers.

Deviations: fairlearn's implementation, on the network that magnitude pruning leaves; the answers to its weighted examples share the
gradients that a method of two levels takes, each going on from the one before, so there are fewer iterations than its 50.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reference_impls.fair_pruning._pruners import PRUNERS, Name
from reference_impls.parts.fair import tuned
from reference_impls.parts.reductions import Oracle, Reduced, Shared, binary, moment, network
from reference_impls.parts.training import Trainer
from suite.extras import need
from suite.naming import UserError
from tasks.fair_pruning.mixture import Mixture
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["ExponentiatedGradient"]


@dataclass(frozen=True)
class ExponentiatedGradient:
    """Symbols as in fairlearn."""

    version: ClassVar[int] = 1

    pruner: Name = "magnitude"  #: whose mask it is
    constraint: Reduced = "error_rate"  #: the rate that is to be alike
    eps: float = 0.01  #: difference that is allowed
    max_iter: int = 10  #: iterations at most, of several answers each
    eta0: float = 2.0  #: first rate of the multipliers
    steps: int = 40  #: of training that an answer takes

    def __post_init__(self) -> None:
        if not 0 < self.eps < 1 or self.max_iter < 1 or self.steps < 1 or self.eta0 <= 0:
            raise UserError("eps must lie between 0 and 1, max_iter and steps be 1 or more, eta0 more than 0")

    def solve(self, problem: FairProblem) -> FairNetwork:
        reductions = need("fairlearn.reductions", "exponentiated_gradient")
        binary(problem)
        trainer = Trainer(problem)
        cut = PRUNERS[self.pruner].cut(problem, trainer)
        if problem.spec.division == "speed":  # nothing to answer
            return tuned(problem, trainer, cut)
        shared = Shared(problem, cut, self.steps)
        found = reductions.ExponentiatedGradient(
            Oracle(shared), moment(self.constraint, self.eps), eps=self.eps, max_iter=self.max_iter, eta0=self.eta0
        )
        found.fit(shared.rows, shared.label, sensitive_features=shared.group)
        chosen = [(i, float(w)) for i, w in found.weights_.items() if w > 1e-6]
        total = sum(w for _, w in chosen)
        networks = [network(found.predictors_[i], cut.model) for i, _ in chosen]
        notes = {"answers": shared.fits, "duality_gap": float(found.best_gap_)}
        return FairNetwork(Mixture(networks, [w / total for _, w in chosen]), notes, dense=cut.dense)
