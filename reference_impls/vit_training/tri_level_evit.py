"""Thinned at three levels while it trains: fewer examples, which are exchanged, fewer patches, fewer connections (Tri-Level E-ViT).

Paper: Kong, Ma, Yuan, Sun, Xie, Dong, Meng, Shen, Tang, Qin, Chen, Ma, Xie, Wang, Wang. Peeling the Onion: Hierarchical Reduction
of Data Redundancy for Efficient Vision Transformer Training. AAAI 2023, arXiv 2211.10801.

Deviations: one ratio, solved from what the training may cost, serves examples and patches, as the paper's labels (Tri-level/0.9)
read; an epoch is a whole number of batches, and the patches make up for what that leaves over. Masked connections weigh exactly 0,
where the released softmax leaves about 1e-6 over the number of tokens (`masked=eps`). All processes share one choice of examples,
and equal scores are drawn. Masks save no arithmetic: what they would save is told apart. On a Swin patches stand still instead of
leaving, which saves nothing either, and no connection is masked: the examples alone make up what is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from reference_impls.parts.vit_attention_masks import MaskedBlock, MaskFlow, Masking, connect_masked
from reference_impls.parts.vit_blocks import Kept, flow_of
from reference_impls.parts.vit_examples import Criterion, Recorded, SwappedExamples, check_swaps, known_share, subset_size
from reference_impls.parts.vit_schedule import LOW, RAMP_POINTS, IfMasksSaved, Ramp, mean_macs, out_of_reach, ratio_for
from reference_impls.parts.vit_swin import Standing, StandingBlock, connect_standing
from reference_impls.parts.vit_training import Draws, VitTrainer, trained
from suite.naming import UserError
from tasks.vit_training.networks import SWIN
from tasks.vit_training.problem import Trained, VitProblem, asked

__all__ = ["TriLevelEvit"]

Choice = Literal["learned", "random"]
Masked = Literal["fused", "eps"]
FEW = 20  #: steps of an epoch that tell the one ratio; what an epoch's own steps leave over is solved after it
SWIN_RATIO = 0.9  #: of the released code, a constant there


@dataclass(frozen=True)
class TriLevelEvit:
    """A level is switched off by a share of 1.  Shares are those that are kept, at the end of the schedule."""

    version: ClassVar[int] = 1

    examples: float | None = None  #: share of the training examples that an epoch shows; None: what the target asks for
    tokens: float | None = None  #: share of the patches that each of three blocks keeps; None: what the target asks for (Swin: 0.9)
    attention: float = 0.3  #: share of its connections to other patches that a patch keeps after each of these blocks
    criterion: Criterion = "forgetting"  #: what examples are exchanged by; +cls: equal ones by the class attention's variance too
    swap_share: float = 0.05  #: share of all training examples that is exchanged at each of five swaps
    keep_lowest: int = 0  #: so many of the least forgotten examples stay at each swap
    clean_stats: bool = False  #: whether forgetting counts leave out batches that are mixed with less than half of their own images
    masked: Masked = "fused"  #: how connections are masked: fused, at exactly 0; eps, by the released softmax
    #: learned: patches by class attention, examples by the criterion; random: as many of both are drawn, the control of all choices
    choice: Choice = "learned"
    corrected: bool = False  #: on a Swin: whether exactly the share moves on, and what stands stays so; else as released

    def __post_init__(self) -> None:
        for name in ("examples", "tokens", "attention"):
            known_share(name, getattr(self, name))
        check_swaps(self.criterion, self.swap_share, self.keep_lowest)
        for name, known in (("masked", get_args(Masked)), ("choice", get_args(Choice))):
            if getattr(self, name) not in known:
                raise UserError(f"{name}={getattr(self, name)}: choose {' or '.join(known)}")

    def solve(self, problem: VitProblem) -> Trained:
        if problem.architecture in SWIN:
            return self._swin(problem)
        if self.corrected:
            raise UserError("corrected=true is about what stands still on a Swin; leave it out on a ViT")
        size, tokens = self.sizes(problem)
        masking = masking_of(problem, size // problem.batch, tokens, self.attention)
        random = self.choice == "random"
        flow = MaskFlow(target=tokens, links_target=self.attention, exact=self.masked == "eps", drawn=random)
        levels = Levels(problem, size, self, flow)
        swapping = len(levels.pool) > 0 and not random
        flow.watch = swapping and self.criterion == "forgetting+cls"
        model = connect_masked(problem.network(MaskedBlock), flow)
        loss = Recorded(problem.recipe, levels, spread if flow.watch else None) if swapping else None
        fitted = VitTrainer(problem).fit("train", model, hooks=levels, loss=loss, schedule=masking)
        left = tuple(levels.left)
        return trained(
            fitted,
            levels.notes | {"token_ratio": tokens, "attention_left": left[-1]},
            schedule=masking,
            points=RAMP_POINTS if min(tokens, self.attention) < 1 else (0.5,),
            ideal=IfMasksSaved(problem.vit, masking.tokens, Left(masking, left)) if self.attention < 1 else None,
            keeps=Kept(model) if tokens < 1 else None,
        )

    def sizes(self, problem: VitProblem) -> tuple[int, float]:
        """How many training examples an epoch shows, and the token ratio: with the target's share of the training's multiply-adds.

        Raises UserError where another target is asked for, or one that is out of reach.
        """
        _, wanted = asked(problem, "train_macs")
        whole, shape = problem.steps_per_epoch, problem.vit

        def cost(tokens: float, steps: int) -> float:
            """Of an image's forward pass, the mean over epochs of so many steps, as a share of the dense one's."""
            masking = masking_of(problem, steps, tokens, 1.0)
            return mean_macs(shape, masking.tokens, problem.epochs * steps) / shape.macs(shape.full)

        tokens = self.tokens
        if self.examples is not None:
            size = subset_size(problem, 1.0, self.examples)
        else:
            few = min(whole, FEW)
            share = wanted / cost(tokens, whole) if tokens else ratio_for(lambda r: r * cost(r, few), wanted)
            size = subset_size(problem, min(1.0, share))
        if tokens is None:
            steps = size // problem.batch
            part = steps / whole
            out_of_reach(problem.spec.target, wanted, part * cost(LOW, steps))
            tokens = ratio_for(lambda r: part * cost(r, steps), wanted) if part > wanted else 1.0
        return size, tokens

    def _swin(self, problem: VitProblem) -> Trained:
        if self.criterion == "forgetting+cls":
            raise UserError("criterion forgetting+cls asks for a class token, and a Swin has none; choose forgetting, or a ViT")
        if self.masked != "fused" or self.choice != "learned":
            raise UserError("a Swin masks no connection and draws no patch; leave masked and choice out")
        _, wanted = asked(problem, "train_macs")
        count = problem.source.train_count
        size = subset_size(problem, wanted, self.examples)
        model = problem.network(StandingBlock)
        tokens = SWIN_RATIO if self.tokens is None else self.tokens
        if tokens < 1:
            connect_standing(model, Standing(tokens, self.corrected))
        examples = Examples(problem, size, self)
        loss = Recorded(problem.recipe, examples) if size < count else None
        fitted = VitTrainer(problem).fit("train", model, hooks=examples, loss=loss)
        return trained(fitted, examples.notes | {"token_ratio": tokens})


def masking_of(problem: VitProblem, steps: int, tokens: float, attention: float) -> Masking:
    """Both ratios over epochs of so many steps."""
    return Masking(Ramp(tokens, problem.epochs, steps), Ramp(attention, problem.epochs, steps), problem.vit)


class Examples(SwappedExamples):
    """The first level: so many of the examples, as the method's settings choose them."""

    def __init__(self, problem: VitProblem, size: int, method: TriLevelEvit) -> None:
        count = problem.source.train_count
        super().__init__(
            problem,
            problem.epochs,
            (count - size) / count,
            criterion=method.criterion,
            swap_share=0.0 if method.choice == "random" else method.swap_share,
            keep_lowest=method.keep_lowest,
            clean_stats=method.clean_stats,
        )


class Levels(Examples):
    """The same, and in each epoch how many connections the third level left."""

    def __init__(self, problem: VitProblem, size: int, method: TriLevelEvit, flow: MaskFlow) -> None:
        super().__init__(problem, size, method)
        self.flow, self.epoch = flow, 0
        self.draws = Draws(problem.run, "tri_level_evit scores", flow) if flow.drawn else None
        self.shares = torch.zeros(2, problem.epochs, dtype=torch.float64, device=problem.device)  #: summed over steps; steps

    @property
    def left(self) -> list[float]:
        """Share of attention's products that masks left, by epoch; NaN where there was no step."""
        total, steps = self.shares.cpu()
        return (total / steps).tolist()  # type: ignore[no-any-return]

    def before_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.draws is not None:
            self.draws.before_epoch(epoch)

    def before_step(self, rows: torch.Tensor) -> None:
        super().before_step(rows)
        if self.draws is not None:
            self.draws.before_step(rows)

    def after_step(self) -> None:
        self.shares[0, self.epoch] += self.flow.left / self.flow.whole
        self.shares[1, self.epoch] += 1

    def state(self) -> dict[str, Any]:
        return {**super().state(), "shares": self.shares}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.shares = state["shares"].to(self.shares.device)


@dataclass(frozen=True)
class Left:
    """Share of a step's attention products that masks leave, by point: as counted in the epochs of the training.

    Where there was no step it is what masks without equal connections would leave.
    """

    masking: Masking
    counted: tuple[float, ...]  #: by epoch; NaN where there was no step

    def __call__(self, point: float) -> float:
        epochs = len(self.counted)
        share = self.counted[min(int(point * epochs + 1e-9), epochs - 1)]
        return share if math.isfinite(share) else self.masking.open(point)


def spread(model: nn.Module) -> torch.Tensor | None:
    """Variance of the class attention over the patches in a network's last pass, where its flow was told to watch it (B,)."""
    flow = flow_of(getattr(model, "module", model))
    assert isinstance(flow, MaskFlow)
    return flow.spread
