"""The protocol: everything a task and a method must know about the suite, on one screen; torch is not imported here.

A *Task* turns a *Spec* into a *Problem*; a *Method* solves it; the task examines, scores and times the *Solution*.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from suite.naming import UserError, parse_target
from suite.show import Show
from suite.show import Table as Table

TIERS = ("smoke", "small", "paper")
DIVISIONS = ("closed", "open", "speed")


class Unsupported(Exception):
    """Raised by `Workload.prepare` where this machine cannot run it; recorded with its reason."""


class OverBudget(Exception):
    """A method asked the loaders for more examples than the task grants; ends the run."""


class Diverged(Exception):
    """Training produced NaN or infinity; ends the run, which is kept as a failure."""


class NoShape(Exception):
    """Why a Solution, or a row, has no `Shape`: it is weighed where it was solved, and nowhere else."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM arrived; leaves no bundle, the next call goes on from the checkpoint."""


@dataclass(frozen=True)
class Spec:
    """What is asked: all but the method.  Passes between processes as JSON."""

    task: str
    version: int
    tier: str
    division: str
    case: str  #: data and architecture, as in ``fashion/resnet20``
    target: str  #: what is asked to be kept, canonical: ``macs=0.5`` or ``edges=0.5,weights=0.2``; empty for a parent
    seed: int
    device: str = "cpu"
    data: str = ""  #: folder of the papers' data sets; never part of a key or a bundle

    @property
    def targets(self) -> dict[str, float]:
        """The target as numbers: ``macs=0.5`` gives ``{"macs": 0.5}``."""
        return parse_target(self.target)


class Run(Protocol):
    """The runner's hand in a solve: budget, clock, checkpoint, progress, seeds."""

    spec: Spec
    spent: Mapping[str, int]  #: so far, by budget counter, earlier lives of a resumed run included

    @property
    def seconds(self) -> float:
        """Training time so far, without what was off the clock."""

    def seed(self, purpose: str, epoch: int = 0) -> int:
        """Seed for a purpose, the same for every method; own draws carry the method's name as purpose."""

    def grant(self, budget: int, unit: str = "examples", counter: str = "") -> None:
        """The task lets a closed run spend so much on a budget counter, the first grant of which stands."""

    def spend(self, examples: int, counter: str = "", amount: int | None = None) -> None:
        """Book a batch, whole also where processes share it; `amount`: in a counter's own unit.  Raises OverBudget, or Stopped."""

    def off_clock(self) -> AbstractContextManager[None]:
        """Time inside (evaluation, checkpoints) is not training time."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by these tensors and counters, atomically."""

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint of this very run, or None at a fresh start."""

    def progress(self, done: float, total: float, **values: float) -> None:
        """Show how far the solve is; named values become points of the bundle's curve."""


@dataclass(frozen=True)
class Measure:
    """One number with its conditions.  Name and part identify it within a run."""

    name: str
    value: float
    unit: str = ""
    direction: Literal["up", "down", ""] = ""  #: which way is better
    part: str = ""  #: of what: a workload, a class, a group, a kind of bytes
    interval: tuple[float, float] | None = None  #: 95 %
    source: Literal["evidence", "timing", "meter"] = "evidence"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    """Something to time: `prepare` builds it off the clock and returns the call that is timed."""

    name: str
    prepare: Callable[[], Callable[[], Any]] = field(compare=False)
    items: int = 1  #: images, nodes or frames that one call handles
    count: float = 1.0  #: calls in the whole job
    versus: str = ""  #: the parent's workload to compare with; the same name if empty
    parent_count: float | None = None  #: of the parent's calls in its whole job, where it takes another number of them


@dataclass(frozen=True)
class Operations:
    """Theoretical cost of one item, by layer, by the task's own count or `suite.meters.operations`."""

    layers: tuple[Mapping[str, Any], ...]  #: name, kind, macs, params, nonzero
    warnings: tuple[str, ...] = ()  #: names heavy operators that were not counted

    def total(self, column: str) -> float:
        return float(sum(layer[column] for layer in self.layers))


@dataclass(frozen=True)
class Tensor:
    """A tensor of what is deployed, without its values: its size, and which of its elements are not zero."""

    size: tuple[int, ...]
    nonzero: int  #: how many elements are not zero
    #: which: their bits in the order of the elements, as `numpy.packbits` packs them; None where all or none are zero, and where
    #: their places decide no time
    where: bytes | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.size)


@dataclass(frozen=True)
class Shape:
    """What of a Solution decides how fast it is, without its weights: what is weighed again on another machine."""

    facts: Mapping[str, Any]  #: the task's own, as JSON: numbers, texts, and lists and mappings of these
    tensors: Mapping[str, Tensor]  #: by their names in what is deployed


@dataclass(frozen=True)
class Tier:
    """A size of a task: its cases (first is the default), default targets and wall-clock cap of a solve."""

    cases: tuple[str, ...]
    targets: tuple[str, ...]
    cap_seconds: float
    conditions: Mapping[str, str] = field(default_factory=dict)  #: budget, precision, recipe: shown beside the rows


@dataclass
class Problem:
    """A task's own subclass adds data, model factory and loaders that spend `run`'s budget."""

    spec: Spec
    run: Run

    @property
    def notes(self) -> Sequence[str]:
        """What must be told of the data beside every result: files that were left out and why, what was taken for granted.

        A line each, without paths of this machine; they go into the bundle's notes.
        """
        return ()


P = TypeVar("P", bound=Problem)
S = TypeVar("S")


class Task(ABC, Generic[P, S]):
    """One family.  Class attributes are its definition; heavy imports belong inside the methods."""

    name: ClassVar[str]
    version: ClassVar[int]  #: raised by whatever can change a number
    question: ClassVar[str]
    tiers: ClassVar[Mapping[str, Tier]]
    parent_method: ClassVar[str]  #: the method whose rows every change is measured from
    ranked: ClassVar[str]  #: the primary metric, which ranks; its direction comes with it
    beside: ClassVar[Sequence[str]]  #: secondary metrics, shown beside it: ``name`` or ``name:part``
    speed: ClassVar[str]  #: the primary workload: its measured speed-up is the board's second axis
    promised: ClassVar[str]  #: ``kept.<x>`` or ``<x>/<x of the parent>``, whose inverse is the theoretical speed-up, or empty
    columns: ClassVar[Mapping[str, str]]  #: evidence columns and their numpy types
    truth: ClassVar[Sequence[str]]  #: evidence columns that the data dictates, held to truth.toml
    evidence_bytes: ClassVar[int] = 1_000_000
    shares_batches: ClassVar[bool] = False  #: whether several processes of a solve (`--processes`) share each batch
    amounts: ClassVar[Sequence[str]] = ()  #: measures of its meters that cannot be negative
    within: ClassVar[Mapping[str, str]] = {}  #: measures that are at most another: ``{"small": "large"}``
    quotients: ClassVar[Mapping[str, str]] = {}  #: measures that are one over another: ``{"kept.<x>": "<x>/<x of the parent>"}``
    #: times of whole jobs, told beside those of workloads: the sums over the workloads whose names begin so, each as often as it
    #: is called; all of a job's workloads are timed against one call of the parent
    jobs: ClassVar[Mapping[str, Sequence[str]]] = {}
    #: measures of examples trained on: the items of all calls of those workloads of jobs whose names begin so, by the candidate
    #: (``calls``: no more than its solve spent) or by the parent (``parent_calls``): ``{"images": ("calls", "train_step@")}``
    trained: ClassVar[Mapping[str, tuple[str, str]]] = {}
    #: measures that are more than another only where there are workloads whose names begin so: ``{"total": ("train", "before/")}``
    exceeding: ClassVar[Mapping[str, tuple[str, str]]] = {}
    libraries: ClassVar[Sequence[str]] = ()  #: packages whose versions its bundles tell, beside torch, numpy and scipy
    show: ClassVar[Show] = Show()  #: words, curves, charts and pictures on the board

    def of(self, case: str) -> Task[P, S]:
        """The definition for a case: another one's where a case asks another kind of question (edges, not nodes); never raises."""
        return self

    @abstractmethod
    def digest(self, spec: Spec) -> str:
        """Digest of the data a Spec names; raises UserError that says what to put where if it is missing."""

    @abstractmethod
    def problem(self, spec: Spec, run: Run) -> P: ...

    @abstractmethod
    def parent(self, problem: P) -> S:
        """The parent with its initial weights: what every candidate is timed and counted against."""

    @abstractmethod
    def examine(self, problem: P, solution: S) -> Table:
        """Evidence on the test data, one line a ``row``; numbers are derived from it alone."""

    @abstractmethod
    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """Evidence to measures: pure numpy, called by the runner and again by the checker."""

    def deployed(self, solution: S) -> object:
        """What of a Solution is used in the end: its weights are those whose memory is told."""
        return solution

    @abstractmethod
    def workloads(self, problem: P, solution: S) -> Iterable[Workload]: ...

    @abstractmethod
    def operations(self, problem: P, solution: S) -> Operations: ...

    def weigh(self, problem: P, solution: S) -> Sequence[Measure]:
        """Extra metrics, metered after the timings (bytes sent, kept shares); ``kept.<x>`` is held against target ``x``."""
        return ()

    def export(self, problem: P, solution: S, folder: Path) -> None:
        """Write what is deployed elsewhere (a phone's files) into a new folder, whole or not at all."""
        raise UserError(f"{self.name} has nothing to export; `weighin list` shows the other tasks")


class Shapes(Protocol):
    """How a task's Solutions become shapes, and shapes Solutions again: the module ``reference_impls/shapes/<task>.py``.

    It stands beside the methods, as they deploy modules of their own, and nothing of a task or a method imports it: what a row's
    digests cover stays as it was.  Importing it, and `layers` and `of_operations`, need no torch: the checker calls them.
    """

    FORM: int  #: of facts and names of tensors; raised when they are to be read otherwise

    def describe(self, problem: Any, solution: Any) -> Shape:
        """The shape of a Solution; raises NoShape where `rebuild` could not make the same program of it."""

    def places(self, spec: Spec) -> bool:
        """Whether it decides time where zeros stand, so that a pattern that is too long for the file cannot be left out."""

    def layers(self, spec: Spec, shape: Shape) -> Sequence[Mapping[str, Any]]:
        """What `Task.operations` says of it by layer, as far as the shape alone tells: name, and any of macs, params, nonzero.

        Layers with parameters are all there.  Raises ValueError on a shape that no Solution of the Spec has.
        """

    def problem(self, spec: Spec, run: Run, shape: Shape) -> Any:
        """The task's Problem without its data set, which may not be here."""

    def rebuild(self, problem: Any, shape: Shape) -> Any:
        """A Solution of this shape, its weights drawn by the seed: `Task.workloads` then weighs it as any other."""

    def of_operations(self, spec: Spec, operations: Sequence[Mapping[str, Any]]) -> Shape:
        """The shape that follows from a row's operations by layer; raises NoShape where they do not determine the program."""


class Method(Protocol):
    """A frozen dataclass: fields are its configuration; non-default ones name the row's variant."""

    version: ClassVar[int] = 1  #: raised by whatever can change a number
    seedless: ClassVar[bool] = False  #: declared where no seed can change the outcome (bicubic): one row, ranked

    def solve(self, problem: Any) -> Any:
        """Return a Solution of the task's type."""
