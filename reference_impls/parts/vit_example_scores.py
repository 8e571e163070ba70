"""Scores of training examples by networks that were trained for a little: EL2N and GraNd, and the training on the hardest.

Paul, Ganguli, Dziugaite. Deep Learning on a Data Diet. NeurIPS 2021.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from reference_impls.parts.stages import Stage
from reference_impls.parts.vit_examples import Chosen, agreed, drawing, highest, known_share, subset_size
from reference_impls.parts.vit_training import VitTrainer, trained
from suite.naming import UserError
from suite.protocol import Run
from tasks.images.recipes import AdamW
from tasks.vit_training.problem import BEFORE, Before, Trained, VitProblem, asked

Score = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  #: of a network, images and labels to (n,)

PIECE = 2**24  #: derivatives held at once


# Scores


def error_norm(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """EL2N: the length of softmax - one-hot label, (n, C) and (n,) to (n,)."""
    error: torch.Tensor = logits.float().softmax(1) - F.one_hot(y, logits.shape[1])
    return error.square().sum(1).sqrt()


def last_layer_norm(logits: torch.Tensor, y: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    """GraNd of the last linear layer alone, its bias included (DeepCore); `embedding` (n, width) is what goes into it."""
    return error_norm(logits, y) * (1 + embedding.float().square().sum(1)).sqrt()


def el2n(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return error_norm(model(x), y)


def last_layer_gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """GraNd's last-layer form: a forward pass alone.  Raises UserError where no linear layer gives logits."""
    taken: list[tuple[torch.Tensor, torch.Tensor]] = []
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(lambda _, inputs, output: taken.append((inputs[0], output))) for m in layers]
    try:
        with torch.no_grad():
            logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    embeddings = [embedding for embedding, output in taken if output.shape == logits.shape]
    if not embeddings:
        raise UserError(f"{type(model).__name__} has no last linear layer whose gradient could be taken; set gradient=whole")
    return last_layer_norm(logits, y, embeddings[-1])


def whole_gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """GraNd's full form: the length of each example's gradient over all weights.

    Costs a backward pass, and holds as many gradients as `PIECE` allows: for small networks.
    """
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    piece = max(1, PIECE // sum(p.numel() for p in parameters.values()))

    def loss(parameters: Mapping[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(model, dict(parameters), (image[None],)), label[None])

    def squares(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return sum((g.square().sum() for g in grad(loss)(parameters, image, label).values()), torch.zeros((), device=x.device))

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be mapped over examples
        return torch.cat([vmap(squares)(a, b) for a, b in zip(x.split(piece), y.split(piece), strict=True)]).sqrt()


# Short trainings that score


@dataclass(frozen=True)
class Beginning(AdamW):
    """The first epochs of a training: the rate is that of the whole of it."""

    whole: int = 0  #: epochs of the whole training

    def rate(self, epoch: float, epochs: int, unit: float = 1.0) -> float:
        return super().rate(epoch, self.whole, unit)


class Other:
    """A run with other draws: of the initial weights, the order of the examples and their augmentation."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name

    def seed(self, purpose: str, epoch: int = 0) -> int:
        return self._run.seed(f"{self._name} {purpose}", epoch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


@dataclass
class Scoring(Stage):
    """A stage without epochs: scores of all training examples by a network in evaluation mode, on images that are not augmented."""

    problem: VitProblem
    model: nn.Module
    score: Score
    scores: torch.Tensor | None = None
    seconds: float = 0.0

    def begin(self) -> None:
        since, was = self.problem.run.seconds, self.model.training
        self.model.eval()
        found = [self.score(self.model, x, y) for x, y in self.problem.plain("train")]
        self.model.train(was)
        # the speed division has no example: then all are alike
        scores = torch.cat(found) if found else torch.zeros(self.problem.source.train_count)
        self.scores = agreed(scores.double(), self.problem.device)
        self.seconds = self.problem.run.seconds - since

    def step(self, epoch: int) -> float | None:
        raise NotImplementedError("it has no epochs")

    def after(self, epoch: int, loss: float | None) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        return

    def outcome(self) -> dict[str, Any]:
        return {"scores": self.scores, "seconds": self.seconds}


def mean_scores(
    trainer: VitTrainer, score: Score, *, runs: int, at: float, backward: bool = False
) -> tuple[torch.Tensor, list[tuple[Before, float]]]:
    """Scores (M,) float64, the mean over short trainings with draws of their own; and what these cost, with its seconds.

    Args:
        at: share of the epochs after which a network scores: a training breaks off there, its rate is that of the whole.
        backward: whether a score costs a backward pass.

    Raises UserError where the recipe is of another optimizer than AdamW.
    """
    problem = trainer.problem
    if not issubclass(Beginning, type(problem.recipe)):
        raise UserError(f"the scoring runs break off a training by AdamW, and this recipe is {type(problem.recipe).__name__}")
    epochs = max(1, round(at * problem.epochs))
    total, before, seconds = torch.zeros(problem.source.train_count, dtype=torch.float64), [], [0.0, 0.0]
    for k in range(runs):
        other = copy.copy(trainer)  # the same stages and checkpoint
        other.problem = replace(problem, run=Other(problem.run, f"scoring run {k}"), counter=BEFORE)
        model = other.problem.network()
        recipe = Beginning.of(problem, whole=problem.epochs)
        fitted = other.fit(f"scoring run {k}", model, epochs=epochs, recipe=recipe, before=True)
        scoring = Scoring(other.problem, model, score)
        found = trainer.stages.run(f"scores of run {k}", lambda stage=scoring: stage, 0)  # type: ignore[misc]
        total += found["scores"]
        seconds[0] += fitted.seconds
        seconds[1] += found["seconds"]
        before.append(fitted)
    last, count = before[-1], problem.source.train_count
    trainings = Before("scoring_runs", last.model, sum(f.training.steps for f in before), problem.batch, last.training)
    # in batches of the training's size, in which it is timed
    passes = Before("scores", last.model, runs * count / problem.batch, problem.batch, last.training if backward else None)
    return total / runs, [(trainings, seconds[0]), (passes, seconds[1])]


def check_scoring(keep: float | None, runs: int, at: float, skipped: float) -> None:
    """Raises UserError for settings of such a method that cannot be."""
    known_share("keep", keep)
    known_share("at", at)
    if runs < 1:
        raise UserError(f"runs={runs}: at least one network has to score")
    if not 0 <= skipped < 1:
        raise UserError(f"skipped={skipped}: a share lies from 0 on and below 1")


def train_on_hardest(
    problem: VitProblem,
    name: str,
    score: Score,
    *,
    keep: float | None,
    runs: int,
    at: float,
    skipped: float,
    backward: bool = False,
) -> Trained:
    """Score all examples, keep the highest, train on these from the table's own initial weights.

    Args:
        name: of the method.
        keep: see `subset_size`.
        skipped: share of the examples, the very highest ones, that are left out too.
    """
    _, share = asked(problem, "train_macs")
    size, count = subset_size(problem, share, keep), problem.source.train_count
    if size + round(skipped * count) > count:
        raise UserError(f"skipped={skipped}: of {count} training examples so few are left that {size} cannot be kept; skip fewer")
    trainer = VitTrainer(problem)
    scores, before = mean_scores(trainer, score, runs=runs, at=at, backward=backward)
    rows = highest(scores, size, drawing(problem.run.seed(f"{name} ties")), skipped=round(skipped * count))
    fitted = trainer.fit("train", problem.network(), hooks=Chosen(lambda epoch: rows))
    left = torch.ones(count, dtype=torch.bool)
    left[rows] = False
    notes = {"examples": size, "score_kept": float(scores[rows].mean())}
    if left.any():
        notes["score_left_out"] = float(scores[left].mean())
    return trained(fitted, notes, before)
