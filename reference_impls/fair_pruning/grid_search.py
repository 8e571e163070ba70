"""Prune, then the best of several networks on the mask, each trained on examples weighted in another way (reductions).

Paper: Agarwal, Dudik, Wu. Fair Regression: Quantitative Definitions and Reduction-based Algorithms. ICML 2019; for classifiers
Agarwal, Beygelzimer, Dudik, Langford, Wallach. A Reductions Approach to Fair Classification. ICML 2018, arXiv 1803.02453.

Deviations: fairlearn's implementation, on the network that magnitude pruning leaves; all networks share the gradients that a method
of two levels takes, each going on from the one before; the best is chosen by fairlearn on the pruning rows.
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
from tasks.fair_pruning.problem import FairNetwork, FairProblem

__all__ = ["GridSearch"]


@dataclass(frozen=True)
class GridSearch:
    """Symbols as in fairlearn."""

    version: ClassVar[int] = 1

    pruner: Name = "magnitude"  #: whose mask it is
    constraint: Reduced = "error_rate"  #: the rate that is to be alike
    eps: float = 0.01  #: difference that is allowed
    grid_size: int = 10  #: networks that are trained
    grid_limit: float = 2.0  #: largest multiplier of the grid
    constraint_weight: float = 0.5  #: of the constraint against the error where the best is chosen

    def __post_init__(self) -> None:
        if self.grid_size < 2 or self.grid_limit <= 0 or not 0 <= self.constraint_weight <= 1 or not 0 < self.eps < 1:
            raise UserError("grid_size must be 2 or more, grid_limit more than 0, eps and constraint_weight shares")

    def solve(self, problem: FairProblem) -> FairNetwork:
        reductions = need("fairlearn.reductions", "grid_search")
        binary(problem)
        trainer = Trainer(problem)
        cut = PRUNERS[self.pruner].cut(problem, trainer)
        if problem.spec.division == "speed":  # nothing to answer
            return tuned(problem, trainer, cut)
        shared = Shared(problem, cut, 0)
        shared.steps = shared.left // self.grid_size
        found = reductions.GridSearch(
            Oracle(shared),
            moment(self.constraint, self.eps),
            grid_size=self.grid_size,
            grid_limit=self.grid_limit,
            constraint_weight=self.constraint_weight,
        )
        found.fit(shared.rows, shared.label, sensitive_features=shared.group)
        notes = {"answers": shared.fits, "chosen": int(found.best_idx_)}
        return FairNetwork(network(found.predictors_[found.best_idx_], cut.model), notes, dense=cut.dense)
