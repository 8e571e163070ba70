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
from tasks.vit_training.networks import BACKWARD, Tokens
from tasks.vit_training.problem import Before, Trained, VitProblem

STEP = "train_step@0.5"  #: the parent's one step, which everything in a training is timed against
#: A count of the network may lie so far below and above what its schedule says: class rows, scores and predictors come besides,
#: and what makes a mask may compute a block's products of queries and keys once more.
BELOW, ABOVE = 0.995, 1.2


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
    if solution.frozen is not None and solution.selector is not None:
        # a part of the steps above, told apart, against a whole step of the parent
        selecting = _forward(f"selector@{training.batch}", solution.selector, training.batch, batches)
        found.append(replace(selecting, versus=STEP, parent_count=0.0))
    return [*found, *timed.inference(deployed(solution), problem.input, problem.device, (infer,))]


def _before(before: Before, batches: Callable[[], Sequence[tuple[torch.Tensor, torch.Tensor]]]) -> Workload:
    name, counts = f"before/{before.name}", {"count": before.batches, "versus": STEP, "parent_count": 0.0}
    if before.training is None:
        return replace(_forward(name, before.model, before.batch, batches), **counts)  # type: ignore[arg-type]
    training = replace(before.training, set_point=_evaluating) if before.evaluating else before.training
    (step,) = timed.training_steps(before.model, training, (0.5,), batches)
    return replace(step, name=name, **counts)  # type: ignore[arg-type]


def _evaluating(model: nn.Module, point: float) -> None:
    model.eval()


def _forward(
    name: str, network: nn.Module, batch: int, batches: Callable[[], Sequence[tuple[torch.Tensor, torch.Tensor]]]
) -> Workload:
    """A forward pass of a network that does not learn, on images of the task."""

    def prepare() -> Callable[[], torch.Tensor]:
        model = copy.deepcopy(network).eval()
        found = torch.cat([x for x, _ in batches()])
        x = found.repeat(-(-batch // len(found)), 1, 1, 1)[:batch]

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return model(x)  # type: ignore[no-any-return]

        return call

    return Workload(name, prepare, batch)


def weigh(problem: VitProblem, solution: Trained) -> list[Measure]:
    """See `VitTraining.weigh`."""
    training, whole = solution.training or dense(problem), dense(problem)
    images, images_parent = training.steps * training.batch, whole.steps * whole.batch
    one, _ = forward(problem, Trained(problem.network()))
    ours, counted = forward(problem, solution)
    frozen = _mean(training.steps, lambda p: _frozen(solution, p))
    # a network that does not learn goes forward alone
    parent = BACKWARD * one * images_parent

    def training_of(forward_macs: float) -> float:
        return (BACKWARD * forward_macs + frozen) * images

    train = training_of(ours)
    before = sum((BACKWARD if b.training else 1) * problem.macs(b.model) * b.batches * b.batch for b in solution.before)
    total = train + before
    found = {
        "train_macs": train,
        "train_macs_parent": parent,
        "kept.train_macs": train / parent,
        "total_macs": total,
        "total_macs_parent": parent,
        "total_macs_share": total / parent,
        "images_processed": images,
        "images_parent": images_parent,
        "examples_share": images / images_parent,
        "train_macs_counted": training_of(counted),
    }
    if problem.shape is not None:
        found["kept.tokens"] = _mean(training.steps, lambda p: (_tokens(problem, solution, p)[0][0] - 1) / problem.vit.patches)
        if solution.ideal is not None:
            found["train_macs_ideal"] = training_of(_mean(training.steps, solution.ideal))
    found |= {f"{name}_share": found[name] / parent for name in ("train_macs_counted", "train_macs_ideal") if name in found}
    measures = [Measure(name, float(value), "", "down", source="meter") for name, value in found.items()]
    seconds = {f"solve_{name}": value for name, value in solution.seconds.items()}
    return [*measures, *(Measure(name, float(value), "s", "down", source="meter") for name, value in seconds.items())]


def forward(problem: VitProblem, solution: Trained) -> tuple[float, float]:
    """Multiply-adds of an image's forward pass in training, the mean over all steps: as told, and as counted where one is timed.

    Told of a plain ViT is the formula's (our own count), of other networks the count.
    Raises ValueError where a schedule claims tokens that the network does not keep to.
    """
    training = solution.training or dense(problem)
    points = tuple(solution.points)
    counted = [_count(problem, solution, training, p) - _frozen(solution, p) for p in points]
    steps = timed.training_steps(solution.model, training, points, list)
    mean = sum(c * w.count / training.steps for c, w in zip(counted, steps, strict=True))
    if problem.shape is None:
        return mean, mean
    cost = cache(problem.vit.macs)
    for point, found in zip(points, counted, strict=True):
        tokens = tuple(_tokens(problem, solution, point))
        told, once_more = cost(tokens), problem.vit.width * sum(n * n for n, _ in tokens)
        if not BELOW * told <= found <= ABOVE * told + once_more:
            raise ValueError(f"at point {point:g} a step costs {found:.4g} multiply-adds an image, its schedule says {told:.4g}")
    return _mean(training.steps, lambda p: cost(tuple(_tokens(problem, solution, p)))), mean


def _tokens(problem: VitProblem, solution: Trained, point: float) -> Tokens:
    return problem.vit.full if solution.schedule is None else solution.schedule.tokens(point)


def _frozen(solution: Trained, point: float) -> float:
    return 0.0 if solution.frozen is None else solution.frozen(point)


def _mean(steps: int, of: Callable[[float], float]) -> float:
    return sum(of(i / steps) for i in range(steps)) / steps


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
