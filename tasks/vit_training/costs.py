"""What a training costs: steps to be timed, and multiply-adds over the whole schedule, held to a count of the network itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from suite.meters import operations
from suite.protocol import Measure, Workload
from tasks.images import workloads as timed
from tasks.images.workloads import Training
from tasks.vit_training.examining import deployed
from tasks.vit_training.networks import Tokens
from tasks.vit_training.problem import Before, Trained, VitProblem

STEP = "train_step@0.5"  #: the parent's one step, which everything in a training is timed against
BACKWARD = 3  #: multiply-adds of a training step over those of its forward pass
#: A count of the network may lie so far below and above what its schedule says: class rows and scores are computed besides.
BELOW, ABOVE = 0.995, 1.25


def dense(problem: VitProblem) -> Training:
    """How the parent's steps are taken."""
    steps = problem.epochs * max(1, problem.steps_per_epoch)
    return Training(problem.recipe, problem.epochs, steps, problem.batch, problem.precision)


def workloads(problem: VitProblem, solution: Trained, infer: int) -> list[Workload]:
    """See `VitTraining.workloads`."""

    @cache
    def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
        found = problem.source.sample(2 * problem.batch, problem.run.seed("timing"), problem.batch)
        return [(x.to(problem.device), y.to(problem.device)) for x, y in found if len(y) == problem.batch]

    whole = dense(problem)
    training = solution.training or whole
    if solution.schedule is not None:
        training = replace(training, set_point=solution.schedule.set)
    points = tuple(solution.points)
    parents = timed.training_steps(solution.model, whole, points, batches)  # for its counts alone
    found = [
        replace(w, versus=STEP, parent_count=p.count)
        for w, p in zip(timed.training_steps(solution.model, training, points, batches), parents, strict=True)
    ]
    found += [_before(b, batches) for b in solution.before]
    return [*found, *timed.inference(deployed(solution), problem.input, problem.device, (infer,))]


def _before(before: Before, batches: Callable[[], Sequence[tuple[torch.Tensor, torch.Tensor]]]) -> Workload:
    name, counts = f"before/{before.name}", {"count": before.batches, "versus": STEP, "parent_count": 0.0}
    if before.training is not None:
        (step,) = timed.training_steps(before.model, before.training, (0.5,), batches)
        return replace(step, name=name, **counts)  # type: ignore[arg-type]

    def prepare() -> Callable[[], torch.Tensor]:
        model = copy.deepcopy(before.model).eval()
        found = torch.cat([x for x, _ in batches()])
        x = found.repeat(-(-before.batch // len(found)), 1, 1, 1)[: before.batch]

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return model(x)  # type: ignore[no-any-return]

        return call

    return Workload(name, prepare, before.batch, **counts)  # type: ignore[arg-type]


def weigh(problem: VitProblem, solution: Trained) -> list[Measure]:
    """See `VitTraining.weigh`."""
    training, whole = solution.training or dense(problem), dense(problem)
    images, images_parent = training.steps * training.batch, whole.steps * whole.batch
    one = forward(problem, Trained(problem.network()))
    ours = forward(problem, solution)
    train, parent = BACKWARD * ours * images, BACKWARD * one * images_parent
    before = sum((BACKWARD if b.training else 1) * problem.macs(b.model) * b.batches * b.batch for b in solution.before)
    total = train + _mean(training.steps, lambda p: _frozen(solution, p)) * images + before
    found = {
        "train_macs": train,
        "train_macs_parent": parent,
        "kept.train_macs": train / parent,
        "total_macs": total,
        "total_macs_parent": parent,
        "total_macs_share": total / parent,
        "images_processed": images,
        "images_parent": images_parent,
        "kept.examples": images / images_parent,
    }
    if problem.shape is not None:
        found["kept.tokens"] = _mean(training.steps, lambda p: (_tokens(problem, solution, p)[0][0] - 1) / problem.vit.patches)
        if solution.ideal is not None:
            found["train_macs_ideal"] = BACKWARD * images * _ideal(problem, solution, training.steps)
    measures = [Measure(name, float(value), "", "down", source="meter") for name, value in found.items()]
    seconds = {f"t_{name}": value for name, value in solution.seconds.items()}
    return [*measures, *(Measure(name, float(value), "s", "down", source="meter") for name, value in seconds.items())]


def forward(problem: VitProblem, solution: Trained) -> float:
    """Multiply-adds of an image's forward pass in training, the mean over all steps.

    Of a plain ViT the formula's (tri_level_evit.md 3), of other networks counted where a step is timed.
    Raises ValueError where a schedule claims tokens that the network does not keep to.
    """
    training = solution.training or dense(problem)
    points = tuple(solution.points)
    counted = [_count(problem, solution, training, p) - _frozen(solution, p) for p in points]
    if problem.shape is None:
        steps = timed.training_steps(solution.model, training, points, list)
        return sum(c * w.count / training.steps for c, w in zip(counted, steps, strict=True))
    cost = cache(problem.vit.macs)
    for point, found in zip(points, counted, strict=True):
        told = cost(tuple(_tokens(problem, solution, point)))
        if not BELOW * told <= found <= ABOVE * told:
            raise ValueError(f"at point {point:g} a step costs {found:.4g} multiply-adds an image, its schedule says {told:.4g}")
    return _mean(training.steps, lambda p: cost(tuple(_tokens(problem, solution, p))))


def _tokens(problem: VitProblem, solution: Trained, point: float) -> Tokens:
    return problem.vit.full if solution.schedule is None else solution.schedule.tokens(point)


def _frozen(solution: Trained, point: float) -> float:
    return 0.0 if solution.frozen is None else solution.frozen(point)


def _mean(steps: int, of: Callable[[float], float]) -> float:
    return sum(of(i / steps) for i in range(steps)) / steps


def _ideal(problem: VitProblem, solution: Trained, steps: int) -> float:
    """The forward pass again, where attention cost what its mask leaves of it."""
    assert solution.ideal is not None
    ideal = solution.ideal

    def at(point: float) -> float:
        tokens = _tokens(problem, solution, point)
        products = sum(2 * n * n for n, _ in tokens) * problem.vit.width
        return problem.vit.macs(tokens) - products * (1 - ideal(point))

    return _mean(steps, at)


class _Step(nn.Module):
    """The forward half of a training step, whatever it computes besides."""

    def __init__(self, model: nn.Module, loss: Any, y: torch.Tensor) -> None:
        super().__init__()
        self.model, self.loss, self.y = model, loss, y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.loss(self.model, x, self.y)  # type: ignore[no-any-return]


def _count(problem: VitProblem, solution: Trained, training: Training, point: float) -> float:
    """Multiply-adds of an image in the forward half of a step at a point, counted on a copy."""
    model, loss = copy.deepcopy((solution.model, training.loss or training.recipe.loss))
    if solution.schedule is not None:
        solution.schedule.set(model, point)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(training.batch, *problem.input, generator=generator).to(problem.device)
    y = torch.randint(problem.classes, (training.batch,), generator=generator).to(problem.device)
    step = _Step(model.train(), loss, y)
    return operations.count(step, (x,), training=True).total("macs") / training.batch
