"""The pruners that fairness is combined with in two stages, by name."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from reference_impls.fair_pruning.bip import Bip
from reference_impls.fair_pruning.fpgm import Fpgm
from reference_impls.fair_pruning.grasp import Grasp
from reference_impls.fair_pruning.imp import Imp
from reference_impls.fair_pruning.magnitude import Magnitude
from reference_impls.fair_pruning.snip import Snip
from reference_impls.parts.fair import Cut
from reference_impls.parts.fairness import Loss
from reference_impls.parts.training import Trainer
from tasks.fair_pruning.problem import FairProblem

Name = Literal["magnitude", "imp", "snip", "grasp", "fpgm", "bip"]


class Cuts(Protocol):
    """See `Pruner.cut`."""

    def cut(self, problem: FairProblem, trainer: Trainer, loss: Loss | None = None) -> Cut: ...


PRUNERS: dict[str, Cuts] = {
    "magnitude": Magnitude(),
    "imp": Imp(),
    "snip": Snip(),
    "grasp": Grasp(),
    "fpgm": Fpgm(),
    "bip": Bip(),
}
assert tuple(PRUNERS) == get_args(Name)
