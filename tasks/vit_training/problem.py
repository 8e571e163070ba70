"""What a method of this task is given, and what it gives back: a network, how its steps were taken, and what ran before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

from suite.naming import UserError
from tasks.images.problem import ClassificationProblem, Network

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.images.recipes import Recipe
    from tasks.images.workloads import Training
    from tasks.vit_training.networks import Shape, Tokens

#: Validation is looked at so often in a whole training, at the same numbers of examples for every method.
LOOKS = 24
BEFORE = "before"  #: the budget counter of what runs before the real training
#: Passes over the training examples that may run before the real training, in whole trainings (a dense network, a selector).
BEFORE_TRAININGS = 2.5


class Schedule(Protocol):
    """How a network's work changes over its training.  It can be pickled."""

    def set(self, model: nn.Module, point: float) -> None:
        """Set a network to a point of its training, 0 to 1: what a step there computes with."""

    def tokens(self, point: float) -> Tokens:
        """What the blocks of a step at this point see: held to a count of the network itself."""


@dataclass(frozen=True)
class Constant:
    """The same tokens in every step."""

    seen: Tokens

    def set(self, model: nn.Module, point: float) -> None:
        return

    def tokens(self, point: float) -> Tokens:
        return self.seen


@dataclass(frozen=True)
class Same:
    """The same at every point of a training."""

    value: float

    def __call__(self, point: float) -> float:
        return self.value


@dataclass(frozen=True)
class Before:
    """What a method computes before its real training or beside it: timed as ``before/<name>``, part of the whole time."""

    name: str
    model: nn.Module
    batches: float  #: how many it took
    batch: int
    training: Training | None = None  #: how its steps were taken; None: forward passes alone
    evaluating: bool = False  #: whether these were taken in evaluation mode, drop path off


@dataclass(frozen=True)
class Trained(Network):
    """The Solution: the network as it is tested, and all that its training's cost is told by."""

    training: Training | None = None  #: of the real training; None: the dense one (a parent)
    schedule: Schedule | None = None  #: None: all tokens in every step
    points: Sequence[float] = (0.5,)  #: of the training at which a step is timed, rising
    frozen: Callable[[float], float] | None = None  #: multiply-adds of an image by networks that do not learn, in a step by point
    ideal: Callable[[float], float] | None = None  #: multiply-adds of an image if masks saved what they hide, forward, by point
    before: Sequence[Before] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)  #: of the solve's stages: ``train``, and ``total`` with those before
    #: images (B, C, h, w) to patches (B, T) int64: what a network is tested on beside all patches; None: there is none
    selector: nn.Module | None = None
    tested: Literal["all", "tickets"] = "all"  #: what the network that is ranked is tested on
    whole: nn.Module | None = None  #: trained on all patches, tested beside it on tickets and random patches
    keeps: nn.Module | None = None  #: images to the patches (B, K), or -1, that the network itself keeps to its end: for pictures


@dataclass
class VitProblem(ClassificationProblem):
    """Images, a ViT and a schedule of epochs; see `tasks.images.problem` for the loaders."""

    counter: str = ""  #: of the budget that batches are booked on; `BEFORE` for what runs before the real training

    @cached_property
    def shape(self) -> Shape | None:
        """Of a plain ViT; None of Swin and LV-ViT, whose cost is counted and not told by a formula."""
        from tasks.vit_training import networks

        return networks.shape(self.architecture, self.classes, self.input)

    @property
    def vit(self) -> Shape:
        """The same where a plain ViT is asked for; raises UserError on another network."""
        if self.shape is None:
            raise UserError(f"{self.architecture} is no plain ViT; choose deit-t, deit-s, deit-b or one as vit-48-6-3-p4")
        return self.shape

    @property
    def budget(self) -> int:
        whole = self.epochs * self.steps_per_epoch * self.batch
        return whole if self.counter != BEFORE else int(BEFORE_TRAININGS * whole) + 3 * self.source.train_count

    @property
    def look_every(self) -> int:
        """Examples between two looks at the validation split."""
        return max(self.batch, self.epochs * self.steps_per_epoch * self.batch // LOOKS)

    @property
    def clip(self) -> float | None:
        """The largest norm of a step's gradient; None: it is not cut."""
        from tasks.vit_training import recipes

        return recipes.clip(self.spec.tier, self.architecture)

    def recipe_of(self, epochs: int) -> Recipe:
        """What the task trains by for so many epochs: a shorter training warms up and falls to its end within them."""
        from tasks.vit_training import recipes

        return recipes.recipe(self.spec.tier, self.architecture, self.batch, epochs)

    def check(self) -> None:
        """Raises UserError where the network is none, or none for these images, before anything is trained."""
        import torch

        from tasks.vit_training import networks

        with torch.device("meta"):
            networks.build(self.architecture, self.classes, self.input)

    def network(self, block: type[nn.Module] | None = None) -> nn.Module:
        """A fresh network as `model` makes it, with other blocks: the same initial weights."""
        import torch

        from tasks.vit_training import networks

        with torch.random.fork_rng():
            torch.manual_seed(self.run.seed("init"))
            model = networks.build(self.architecture, self.classes, self.input, block=block)
        return model.to(self.device)

    def model(self, widths: Mapping[str, int] | None = None, memory_format: torch.memory_format | None = None) -> nn.Module:
        model = self.network()
        return model if memory_format is None else model.to(memory_format=memory_format)

    def build(self, widths: Mapping[str, int] | None = None) -> nn.Module:
        from tasks.vit_training import networks

        return networks.build(self.architecture, self.classes, self.input)

    def plain(self, split: Literal["train", "val"], rows: torch.Tensor | None = None) -> Iterator[tuple[torch.Tensor, ...]]:
        """Images and labels of a split once, in stored order, not augmented; training examples are booked.

        Of a set whose training examples are made anew each epoch it is the first epoch's.

        Args:
            rows: those of the training split that are wanted (k,), in rising order; None: all.
        """
        import torch

        if self.spec.division == "speed":
            return
        wanted = torch.ones(self.source.train_count, dtype=torch.bool)
        if rows is not None:
            wanted[:] = False
            wanted[rows] = True
        at = 0
        for x, y in self.source.evaluate(split, 500):
            mine = wanted[at : at + len(y)] if split == "train" else slice(None)
            at += len(y)
            if split == "train":
                self._book(int(mine.sum()))
            yield self._to_device(x[mine]), y[mine].to(self.device)

    def _book(self, count: int) -> None:
        self.run.grant(self.budget, counter=self.counter)
        self.run.spend(count, self.counter)


def asked(problem: VitProblem, *known: str) -> tuple[str, float]:
    """Which of these targets a run asks for, and how much of it; raises UserError where it is none of them, or no share."""
    targets = problem.spec.targets
    if set(targets) - set(known) or len(targets) != 1:
        words = ", ".join(f"{k}=0.8" for k in known)
        raise UserError(f"target {problem.spec.target!r}: this method is asked for one of {words}")
    ((name, share),) = targets.items()
    if not 0 < share <= 1:
        raise UserError(f"target {problem.spec.target!r}: a share lies above 0 and is at most 1")
    return name, share
