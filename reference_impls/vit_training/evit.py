"""The patches of least class attention leave at three blocks, fused into one; over the first third of a training fewer stay.

Paper: Liang, Ge, Tong, Song, Wang, Xie. Not All Patches are What You Need: Expediting Vision Transformers via Token
Reorganizations. ICLR 2022, arXiv 2202.07800.

Deviations: the keep ratio is solved from what the training may cost; the paper's is 0.7. The ramp's epochs, 10 to 110 of 300, are
scaled to the training's. Pruning blocks stand at a quarter, half and three quarters of another depth than 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from reference_impls.parts.vit_blocks import Flow, Kept, Pruning, TokenBlock, connect, flow_of
from reference_impls.parts.vit_schedule import LOW, RAMP_POINTS, Ramp, mean_macs, out_of_reach, ratio_for
from reference_impls.parts.vit_training import VitTrainer, trained
from suite.naming import UserError
from tasks.vit_training.problem import Trained, VitProblem, asked

__all__ = ["Evit"]

Way = Literal["cosine", "constant"]


@dataclass(frozen=True)
class Evit:
    """Settings as in the paper; the schedule is that of Tri-Level E-ViT's released `adjust_keep_rate`."""

    version: ClassVar[int] = 1

    keep: float | None = None  #: share of the patches that a pruning block keeps in the end; None: whatever the target asks for
    fuse: bool = True  #: whether patches that leave go on as one, weighed by their class attention
    ramp: Way = "cosine"  #: how the ratio falls to that share: along a cosine, or at the first step

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def solve(self, problem: VitProblem) -> Trained:
        ramp = ramp_for(problem, self.keep, self.ramp, fused=self.fuse)
        model = connect(problem.network(TokenBlock), Flow(fuse=self.fuse))
        schedule = Current(ramp, problem.vit, self.fuse)
        fitted = VitTrainer(problem).fit("train", model, schedule=schedule)
        schedule.end(model)
        return trained(fitted, schedule=schedule, points=(0.5,) if ramp.constant else RAMP_POINTS, keeps=Kept(model))


class Current(Pruning):
    """A schedule whose network is also looked at with the ratio that it has at the time, as EViT's code does (5.3)."""

    def set(self, model: nn.Module, point: float) -> None:
        flow = flow_of(model)
        flow.keep = flow.target = self.ramp.at(point)

    def end(self, model: nn.Module) -> None:
        """Set a network to the ratio that it is tested at."""
        flow = flow_of(model)
        flow.keep = flow.target = self.ramp.base
        flow.kept = []


def ramp_for(problem: VitProblem, keep: float | None, way: Way, *, fused: bool) -> Ramp:
    """How the ratio falls: to `keep`, or to what makes the whole training cost the share of the dense one that is asked for.

    Raises UserError where another target is asked for, or one that no ratio reaches.
    """
    _, wanted = asked(problem, "train_macs")
    shape, steps = problem.vit, problem.epochs * problem.steps_per_epoch

    def ramp(base: float) -> Ramp:
        return Ramp(base, problem.epochs, problem.steps_per_epoch, constant=way == "constant")

    if keep is not None:
        return ramp(keep)

    def share(base: float) -> float:
        return mean_macs(shape, Pruning(ramp(base), shape, fused).tokens, steps) / shape.macs(shape.full)

    out_of_reach(problem.spec.target, wanted, share(LOW))
    return ramp(ratio_for(share, wanted))


def check_keep(keep: float | None) -> None:
    if keep is not None and not 0 < keep <= 1:
        raise UserError(f"keep={keep:g} is no share of the patches; give one above 0 and at most 1, for example 0.7")
