"""Each token adds up how sure it is, block by block, and stops where that is enough: it is zeroed and hidden from there on.

Paper: Yin, Vahdat, Alvarez, Mallya, Kautz, Molchanov. A-ViT: Adaptive Tokens for Efficient Vision Transformer. CVPR 2022,
arXiv 2112.07658.

Deviations: stopped tokens are masked, in training and at test, so a step is no cheaper, and the row is off its target. It starts
from dense weights and trains on for a third of the epochs (the paper: 100 after 300) at the table's own rate; the dense training
is counted with it. The prior over blocks takes in all images of a batch, patches only, where the released code leaves out the
first image. Another depth than 12 has its centre at two thirds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from reference_impls.parts.vit_blocks import attend, heads, merge
from reference_impls.parts.vit_training import VitTrainer, trained
from suite.naming import UserError
from tasks.images.recipes import Recipe
from tasks.vit_training.networks import Shape
from tasks.vit_training.problem import Constant, Same, Trained, VitProblem, asked

__all__ = ["Avit"]

HIDDEN = -1000.0  #: added to the logits of a stopped token as a key
PRIOR_SUM = 0.98  #: what the prior's blocks before its centre sum to
LEAST_MEAN, MOST_MEAN = 0.01, 0.99  #: what a block's part of the halting scores is cut to
WIDE = 384  #: DeiT-S's width, from which on the gate's other centre is the default


@dataclass(frozen=True)
class Avit:
    """Settings as in the paper and the released code."""

    version: ClassVar[int] = 1

    start: Literal["dense", "scratch"] = "dense"  #: weights of a dense training, or initial ones, which then train for all epochs
    share: float = 1 / 3  #: of the epochs, what is trained from dense weights
    gate_scale: float = 10.0  #: of a token's first channel, whose sigmoid is its halting score
    gate_center: float | None = None  #: what is taken off before the sigmoid; None: 30, and 75 from DeiT-S's width on
    ponder: float = 0.001  #: weight of the mean number of blocks taken
    prior: float = 0.01  #: weight of how the halting scores' distribution over blocks differs from the prior
    eps: float = 0.01  #: a token stops where its sum lies above 1 - eps

    def __post_init__(self) -> None:
        if self.start not in ("dense", "scratch"):
            raise UserError(f"start={self.start}: choose dense or scratch")
        if not 0 < self.share <= 1:
            raise UserError(f"share={self.share:g} of the epochs cannot be trained; give one above 0 and at most 1")
        if not 0 < self.eps < 1:
            raise UserError(f"eps={self.eps:g} must lie between 0 and 1")

    def solve(self, problem: VitProblem) -> Trained:
        asked(problem, "train_macs")
        shape, trainer = problem.vit, VitTrainer(problem)
        model, epochs, before = problem.network(), problem.epochs, []
        if self.start == "dense":
            dense = trainer.fit("dense", problem.network(), before=True)
            before = [dense.before("dense")]
            model.load_state_dict(dense.model.state_dict())
            epochs = max(1, round(self.share * epochs))
        center = self.gate_center if self.gate_center is not None else 75.0 if shape.width >= WIDE else 30.0
        with_halting(model, Gate(self.gate_scale, center, self.eps))
        loss = Objective(problem.recipe, self.ponder, self.prior)
        fitted = trainer.fit("train", model, epochs=epochs, loss=loss)
        with problem.run.off_clock():
            going = still_going(problem, model)
        return trained(
            fitted,
            {} if going is None else {"blocks_taken": float(going.mean(0).sum())},
            before,
            schedule=Constant(shape.full),
            ideal=None if going is None else Same(macs_of(shape, going)),
        )


@dataclass(frozen=True)
class Gate:
    """When tokens stop."""

    scale: float = 10.0
    center: float = 30.0
    eps: float = 0.01

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Halting scores (B, n) of tokens (B, n, C): of the first channel alone."""
        return (self.scale * x[..., 0].float() - self.center).sigmoid()


class Halting:
    """The recursion over blocks, for tokens (B, n).

    Attributes:
        going: whether a token has not stopped (B, n) bool.
        taken: blocks that it took, 1 + those after which it went on.
        rho: blocks that it took and what was left of its sum when it stopped (B, n), with gradients.
        scores: of each block the halting scores (B, n), the last block's too, those of stopped tokens included.
    """

    def __init__(self, gate: Gate, like: torch.Tensor) -> None:
        self.gate = gate
        zeros = like.new_zeros(like.shape[:2], dtype=torch.float32)
        self.sum, self.remainder, self.rho, self.taken = zeros, zeros + 1, zeros, zeros + 1
        self.going = torch.ones_like(zeros, dtype=torch.bool)
        self.scores: list[torch.Tensor] = []

    def step(self, x: torch.Tensor, *, last: bool) -> torch.Tensor:
        """A block's output (B, n, C) to what it weighs in the sum that is answered from (B, n): 0 where a token had stopped.

        The score while a token goes on, what is left of 1 where it stops; in the last block all stop.
        """
        score = self.gate(x)
        self.scores.append(score)
        if last:
            score = torch.ones_like(score)
        self.sum = self.sum + score
        bound = 1 - self.gate.eps
        still, stops = self.sum < bound, (self.sum > bound) & self.going
        weight = torch.where(stops, self.remainder, torch.where(still, score, 0))
        self.rho = self.rho + self.going + torch.where(stops, self.remainder, 0)
        self.remainder = self.remainder - torch.where(still, score, 0)
        self.taken = self.taken + still
        self.going = still
        return weight


class HaltingBlocks(nn.Sequential):
    """timm's blocks in their order; tokens stop on the way.  All of them are computed, stopped ones without effect."""

    gate: Gate = Gate()
    seen: Halting | None = None  #: of the last pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + N, C) to the class token's sum over blocks (B, 1, C): no other is answered from."""
        halting = Halting(self.gate, x)
        answer = torch.zeros_like(x[:, :1])
        for number, block in enumerate(self):
            x = masked_step(block, x, halting.going) if number else block(x)
            weight = halting.step(x, last=number + 1 == len(self))
            answer = answer + weight[:, :1, None] * x[:, :1]
        self.seen = halting
        return answer

    def __getstate__(self) -> dict[str, Any]:
        """A copy knows nothing of the last pass, whose tensors cannot be copied."""
        return {**self.__dict__, "seen": None}


def masked_step(block: Any, x: torch.Tensor, going: torch.Tensor) -> torch.Tensor:
    """timm's block, stopped tokens being zero and no keys."""
    x = x * going.unsqueeze(-1)
    q, k, v = heads(block.attn, block.norm1(x))
    hidden = torch.where(going, 0.0, HIDDEN).to(q.dtype)[:, None, None]
    x = x + block.drop_path1(block.ls1(merge(block.attn, attend(q, k, v, hidden))))
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))  # type: ignore[no-any-return]


def with_halting(model: Any, gate: Gate) -> nn.Module:
    """Let the tokens of a plain ViT stop; returns it."""
    model.blocks = blocks = HaltingBlocks(*model.blocks)
    blocks.gate = gate
    return model  # type: ignore[no-any-return]


def blocks_of(model: nn.Module) -> HaltingBlocks:
    """Also of a network that is wrapped for several processes."""
    return next(m for m in model.modules() if isinstance(m, HaltingBlocks))


@dataclass(frozen=True)
class Objective:
    """The loss of a training step; it can be pickled."""

    recipe: Recipe
    ponder: float = 0.001
    prior: float = 0.01

    def __call__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        blocks = blocks_of(model)
        loss = self.recipe.loss(model, x, y)
        seen, blocks.seen = blocks.seen, None
        assert seen is not None
        means = torch.stack([score[:, 1:].mean() for score in seen.scores])
        return loss + self.ponder * seen.rho.mean() + prior_term(means, self.prior)


def prior_target(depth: int) -> torch.Tensor:
    """A Gaussian of variance 1 over the blocks (depth,) in float64, centred at two thirds of them, 8 of 12.

    Scaled so that the blocks before its centre sum to 0.98: the whole sums to more than 1.
    """
    center = round(2 * depth / 3)
    found = (-0.5 * (torch.arange(depth, dtype=torch.float64) - center) ** 2).exp()
    return found * (PRIOR_SUM / found[:center].sum())


def prior_term(means: torch.Tensor, weight: float) -> torch.Tensor:
    """KL of the prior and the blocks' mean halting scores (depth,), normalised and cut, over their number; 0 where negative."""
    target = prior_target(len(means)).to(means)
    found = (means / means.sum()).clamp(LEAST_MEAN, MOST_MEAN)
    return weight * ((target * (target.log() - found.log())).sum() / len(means)).clamp_min(0)


@torch.inference_mode()
def still_going(problem: VitProblem, model: nn.Module) -> torch.Tensor | None:
    """Share of the tokens that go through each block, of each validation image (n, depth); None where there is none."""
    was, blocks = model.training, blocks_of(model)
    model.eval()
    shares = []
    for x, _ in problem.plain("val"):
        model(x)
        assert blocks.seen is not None
        number = torch.arange(len(blocks), device=x.device)
        shares.append((blocks.seen.taken[..., None] > number).double().mean(1).cpu())
    blocks.seen = None
    model.train(was)
    return torch.cat(shares) if shares else None


def macs_of(shape: Shape, going: torch.Tensor) -> float:
    """Multiply-adds of an image's forward pass if stopped tokens were gone, the mean over images.

    Args:
        going: share of the tokens in each block, class token included (n, depth).
    """
    tokens = ((1 + shape.patches) * going).round().long().tolist()
    return sum(shape.macs([(n, n) for n in image]) for image in tokens) / len(tokens)
