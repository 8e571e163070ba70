"""The training loop of ViTs: which examples an epoch shows, how a network changes from step to step, looks on one grid.

Named stages as everywhere (`reference_impls.parts.stages`): a stopped run goes on at the epoch it was in, and ends bit for bit as
if it had never been stopped (on CPU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

from reference_impls.parts.stages import Stage, Stages
from reference_impls.parts.training import Hooks, Loss
from suite import parallel
from suite.naming import address
from suite.protocol import Run
from tasks.images.recipes import Recipe
from tasks.images.workloads import Training
from tasks.vit_training.problem import BEFORE, Before, Schedule, Trained, VitProblem


class VitHooks(Hooks):
    """What a method does inside the loop, beside what `Hooks` has."""

    def among(self, epoch: int) -> torch.Tensor | None:
        """The training rows (k,) int64 that an epoch consists of, asked for once at its start; None: all."""
        return None

    def before_step(self, rows: torch.Tensor) -> None:
        """The next batch holds these training rows (batch,) int64."""


class Seeded(Protocol):
    """What draws by a seed of its own."""

    seed: int


class Draws(VitHooks):
    """Addresses the draws of every step, by epoch, step and process: a stopped run draws the same again, and no other stream moves.

    Args:
        purpose: names the stream.
        seeded: whose seed is set before each step.
    """

    def __init__(self, run: Run, purpose: str, seeded: Seeded) -> None:
        self.run, self.purpose, self.seeded, self.epoch, self.step = run, purpose, seeded, 0, 0

    def before_epoch(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0

    def before_step(self, rows: torch.Tensor) -> None:
        self.seeded.seed = address(self.run.seed(self.purpose, self.epoch), self.step, parallel.rank())
        self.step += 1


@dataclass(frozen=True)
class Fitted:
    """A stage's end."""

    model: nn.Module
    steps: int
    seconds: float  #: on the clock of the solve, earlier lives of the run included
    training: Training  #: how its steps were taken

    def before(self, name: str, *, evaluating: bool = False) -> tuple[Before, float]:
        """The stage as what ran before a real training, and its seconds; see `Before`."""
        return Before(name, self.model, self.steps, self.training.batch, self.training, evaluating), self.seconds


def trained(
    fitted: Fitted, notes: Mapping[str, Any] | None = None, before: Sequence[tuple[Before, float]] = (), **told: Any
) -> Trained:
    """A Solution: the network of a real training, with what ran before it and its seconds.

    Args:
        told: further fields of `Trained`.
    """
    seconds = {"train": fitted.seconds, "total": fitted.seconds + sum(s for _, s in before)}
    parts = tuple(b for b, _ in before)
    return Trained(fitted.model, notes or {}, training=fitted.training, before=parts, seconds=seconds, **told)


class VitTrainer:
    """Runs the stages of one solve.  Make one per solve: it reads the checkpoint, if there is one.

    Every stage sees the training's own epochs from the first on: the real training is the same whatever ran before it.
    """

    def __init__(self, problem: VitProblem) -> None:
        self.problem = problem
        self.stages = Stages(problem.run)

    def fit(
        self,
        stage: str,
        model: nn.Module,
        *,
        epochs: int = 0,
        recipe: Recipe | None = None,
        hooks: VitHooks | None = None,
        loss: Loss | None = None,
        schedule: Schedule | None = None,
        before: bool = False,
        evaluating: bool = False,
        validate: Callable[[nn.Module], float] | None = None,
    ) -> Fitted:
        """Train `model` in place.

        Many arguments, of which each is a stage's difference from plain training.

        Raises Diverged when the loss of an epoch is not finite; OverBudget and Stopped come from the loaders.  In the `speed`
        division there are no batches: only `before_epoch` and `among` are called.

        Args:
            epochs: 0: the problem's.
            recipe: None: the problem's.
            loss: of network and batch; None: the recipe's.
            schedule: sets the network before each step.
            before: whether this runs before the real training: booked apart, and no point of the curve.
            evaluating: train a network in evaluation mode, drop path off, as DeiT's fine-tuning does.
            validate: what is looked at on the way; None: accuracy on the validation split.
        """
        problem = replace(self.problem, counter=BEFORE, run=Quiet(self.problem.run)) if before else self.problem
        recipe, hooks, epochs = recipe or problem.recipe, hooks or VitHooks(), epochs or problem.epochs
        lesson = Lesson(
            problem,
            model,
            recipe,
            hooks,
            loss or recipe.loss,
            epochs,
            schedule,
            evaluating,
            None if before else validate or problem.validate,
        )
        found = self.stages.finished(stage)
        if found is not None:
            model.load_state_dict(found["model"])
            hooks.restore(found["hooks"])
        else:
            found = self.stages.run(stage, lambda: lesson, epochs)
        steps = int(found["steps"])
        training = Training(recipe, epochs, max(1, steps), problem.batch, problem.precision, loss)
        return Fitted(model, steps, float(found["seconds"]), training)


@dataclass
class Lesson(Stage):
    """Epochs of gradient descent on chosen examples."""

    problem: VitProblem
    model: nn.Module
    recipe: Recipe
    hooks: VitHooks
    loss: Loss
    epochs: int
    schedule: Schedule | None
    evaluating: bool
    look: Callable[[nn.Module], float] | None
    steps: int = 0
    seen: int = 0  #: examples
    carried: float = 0.0  #: seconds of earlier lives
    optimizer: torch.optim.Optimizer = field(init=False)
    forward: nn.Module = field(init=False)  #: what a step calls

    def __post_init__(self) -> None:
        self.optimizer = self.recipe.optimizer(self.model)
        self.since = self.problem.run.seconds

    def begin(self) -> None:
        self.since = self.problem.run.seconds
        self.hooks.begin(self.optimizer)
        self.forward = self.problem.distribute(self.model)

    @property
    def planned(self) -> int:
        """Steps of a whole training on all examples, what points of a schedule are told by."""
        return self.epochs * self.problem.steps_per_epoch

    def step(self, epoch: int) -> float | None:
        """One pass over the epoch's examples; mean loss, or None where there were none."""
        problem, hooks = self.problem, self.hooks
        self.recipe.set_rate(self.optimizer, epoch, self.epochs)
        torch.manual_seed(_own(problem.run.seed("torch", epoch)))  # drop path and the like
        hooks.before_epoch(epoch)
        among = hooks.among(epoch)
        self.forward.train(not self.evaluating)
        total, steps = torch.zeros((), device=problem.device), 0
        for rows, x, y in self._batches(epoch, among):
            if self.recipe.stepwise:
                unit = 1 / self._steps_of(among)
                self.recipe.set_rate(self.optimizer, epoch + steps * unit, self.epochs, unit)
            if self.schedule is not None:
                self.schedule.set(self.model, self._point(epoch, steps, among))
            hooks.before_step(rows)
            with torch.autocast(problem.device.type, torch.bfloat16, enabled=problem.precision == "bf16"):
                value = self.loss(self.forward, x, y)
            self.optimizer.zero_grad()
            value.backward()
            if problem.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), problem.clip)
            if hooks.after_backward():
                self.optimizer.step()
            hooks.after_step()
            total += value.detach()  # looked at once an epoch: no synchronisation in between
            steps += 1
            self._look()
        self.steps += steps or self._steps_of(among)  # where there are no batches: those that there would be
        return float(total) / steps if steps else None

    def after(self, epoch: int, loss: float | None) -> bool:
        problem = self.problem
        if loss is None:  # no batches: what the hooks do is done again sooner than it is read
            problem.run.progress(epoch + 1, self.epochs)
            return False
        values = {"train_loss": loss}
        if self.look is not None and epoch + 1 == self.epochs:
            values["end_top1"] = self.look(self.model)
            self.forward.train(not self.evaluating)
        problem.run.progress(epoch + 1, self.epochs, **values)
        return True

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "hooks": self.hooks.state(),
            "steps": self.steps,
            "seen": self.seen,
            "seconds": self._seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.hooks.restore(state["hooks"])
        self.steps, self.seen, self.carried = state["steps"], state["seen"], state["seconds"]

    def outcome(self) -> dict[str, Any]:
        found = {"model": self.model.state_dict(), "hooks": self.hooks.state(), "steps": self.steps, "seconds": self._seconds}
        return {"epochs": self.epochs, **found}

    @property
    def _seconds(self) -> float:
        return self.carried + self.problem.run.seconds - self.since

    def _batches(self, epoch: int, among: torch.Tensor | None) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        rows = self.problem.rows(epoch, among)
        for index, (x, y) in zip(rows, self.problem.batches(epoch, among), strict=True):
            yield index, x, y

    def _point(self, epoch: int, step: int, among: torch.Tensor | None) -> float:
        """How far the training is, 0 to 1: epochs that are over, and the share of this one's steps."""
        return (epoch + step / max(1, self._steps_of(among))) / self.epochs

    def _steps_of(self, among: torch.Tensor | None) -> int:
        """Steps of an epoch of these examples."""
        return (self.problem.source.train_count if among is None else len(among)) // self.problem.batch

    def _look(self) -> None:
        """Look at the validation split where another `look_every` examples are over."""
        problem = self.problem
        self.seen += problem.batch
        if self.look is not None and self.seen // problem.look_every > (self.seen - problem.batch) // problem.look_every:
            value = self.look(self.model)
            self.forward.train(not self.evaluating)
            problem.run.progress(self.seen / problem.batch, self.planned, val_top1=value)


def _own(seed: int) -> int:
    """A seed of this process: images of a batch that processes share drop paths of their own."""
    return address(seed, parallel.rank()) if parallel.rank() else seed


class Quiet:
    """A run whose progress leaves no point on the curve: what runs before the real training is not that training's history."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def progress(self, done: float, total: float, **values: float) -> None:
        self._run.progress(done, total)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)
