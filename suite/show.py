"""What a task may have shown on the board beside its tables: all of it optional, none of it ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

Table = Mapping[str, np.ndarray]  #: named columns of equal length; evidence has a unique, sorted column ``row``


@dataclass(frozen=True)
class Curve:
    """A value of every row of the evidence, drawn along the rows with a line a method."""

    name: str  #: of the value
    along: str  #: the evidence column that it is drawn along, in rising order
    of: Callable[[Table], np.ndarray]  #: evidence to one value a row: pure numpy
    unit: str = ""
    up: bool = True  #: more is better


@dataclass(frozen=True)
class Against:
    """A measure that quality is drawn over, on a log scale: what does it cost, or how fast is it?"""

    measure: str  #: ``name`` or ``name:part``, as in `Task.beside`; its values are positive
    title: str  #: in words, with the unit
    scale: float = 1.0  #: what values are multiplied by, to come in that unit
    up: bool = False  #: more is better


class Crops(Protocol):
    """Crops of what a Solution puts out, or of the originals."""

    def __call__(self, problem: Any, solution: Any | None, /) -> Table:
        """At most two, uint8 (H, W, 3) within `Gallery.size`, by names that say where they were cut.

        Cut by a rule that looks at no method's output; the originals where `solution` is None.
        """


@dataclass(frozen=True)
class Likeness:
    """How like a crop is to the original's, in one number that is shown under it."""

    name: str
    unit: str
    of: Callable[[np.ndarray, np.ndarray], float]  #: what is seen and the original, uint8 (H, W, 3) both


@dataclass(frozen=True)
class Gallery:
    """Pictures to look at, carried by the bundles of seed 0 as WebP without loss."""

    crops: Crops
    reference: str  #: the method whose pictures the others' are compared with; its bundle carries the originals too
    #: who made the originals and under which licence, by a case's data (the part before the slash); others are not shown
    credits: Mapping[str, str]
    size: tuple[int, int] = (256, 256)  #: most columns and rows of a crop; `suite.pictures` bounds what any task may ask
    rule: str = ""  #: how crops are chosen, a sentence for who looks at them
    likeness: Likeness | None = None


@dataclass(frozen=True)
class Parts:
    """A measure that comes in parts (classes, groups), of which one may pay for the saving."""

    measure: str  #: its name; empty: every measure of the evidence that has parts and of which more is better
    word: str  #: what such a part is called
    #: how a warning of the measure begins (``small: 12 of at least 30 examples``) where a part is listed, and never the worst
    small: str = "small"


@dataclass(frozen=True)
class Tradeoff:
    """Quality against what a method may have to pay for it: a curve a method, along one of its settings."""

    quality: str  #: measure, ``name`` or ``name:part``
    cost: str  #: measure, likewise, of which less is better; never below 0
    #: the setting that a method's curve runs along; a row is on it that differs from the defaults in this setting alone
    sweeps: Mapping[str, str] = field(default_factory=dict)
    floor: str = ""  #: measure of the quality of an answer that never changes; empty: no area is told
    corner: float = 1.5  #: where the area ends: so many times the parent's cost
    best: float = 100.0  #: quality that nothing can exceed, where the area ends on the other axis
    margin: float = 1.0  #: costs are compared where quality is so far below the parent's


@dataclass(frozen=True)
class Reach:
    """How long a run takes until something is reached.  A run without the first of `counts` did not reach it."""

    title: str  #: in words
    counts: Mapping[str, str]  #: measure and head: numbers of steps, the same on every machine
    clocked: Mapping[str, str] = field(default_factory=dict)  #: measure and head: times of the solve, compared on one card alone
    rule: str = ""  #: what counts as reached, a sentence
    apart: Sequence[str] = ()  #: methods whose runs are not looked at, so that nothing is said of them


@dataclass(frozen=True)
class History:
    """Quality along the training, as runs told of it on their way, and when each method reached a target taken from the parent."""

    curve: str  #: name of the points that runs leave on their way (`Run.progress`)
    title: str  #: what they tell, in words
    x: Sequence[Literal["seconds", "examples"]] = ("seconds", "examples")  #: a drawing over each: the clock, examples
    #: beginnings of workloads by whose weighed time seconds are told: of what runs before the training, and of its steps at points
    #: 0 to 1 (`train_step@0.5`); None: the clock of the solve, which a busy machine makes run on
    clock: tuple[str, str] | None = None
    unit: str = ""
    up: bool = True  #: more is better
    tolerance: float = 1.0  #: the target is the median of the last values of the parent's runs, less this
    level: float = 1.0  #: the parent has levelled off where its runs gained less than this, on average, in the last sixth of theirs


@dataclass(frozen=True)
class Figures:
    """Measures that a row of a board is not ranked by, in a table of their own: mean over seeds, a column each.

    What one method's runs define and another's do not is left empty, and what only some seeds of a row define says so.
    """

    title: str
    columns: Mapping[str, str]  #: measure, ``name`` or ``name:part``, and its head in words
    rule: str = ""  #: what the columns are, a sentence; ``[words](address)`` is a link


@dataclass(frozen=True)
class Scatter:
    """Points of the evidence in a plane: a small drawing a method, of its runs of seed 0."""

    title: str
    #: evidence to points, a line each: ``x`` and ``y``, and ``colour``, ``shape`` and ``landmark`` as indices of the names below;
    #: a colour of -1 is grey, a landmark (-1: none) is drawn large, over the points: pure numpy
    of: Callable[[Table], Table]
    colours: Sequence[str]  #: what each colour stands for, five at most
    shapes: Sequence[str]  #: what each shape stands for, two at most
    landmarks: Sequence[str] = ()  #: what each landmark is, in the colour of its index
    rule: str = ""  #: what is drawn, a sentence

    def __post_init__(self) -> None:
        if len(self.colours) > 5 or len(self.shapes) > 2 or len(self.landmarks) > len(self.colours):
            raise ValueError("a scatter has at most five colours, two shapes, and a landmark a colour")


@dataclass(frozen=True)
class Composition:
    """What makes up a whole along the training, as runs told of it on their way: a small drawing a method, its parts stacked."""

    title: str
    prefix: str  #: what the names of such points begin with (`Run.progress`); the part's name follows, the value is its share
    parts: Mapping[str, str]  #: names of parts, and in words, in the order in which they are stacked, five at most
    rule: str = ""  #: what the shares are of, a sentence

    def __post_init__(self) -> None:
        if not 0 < len(self.parts) <= 5:
            raise ValueError("a composition has one part or more, five at most")


@dataclass(frozen=True)
class Crossed:
    """What networks that were trained on one thing are worth on another: a table of all pairs, and a hypothesis judged from it.

    A cell is named by its row and its column.  The hypothesis: `chosen` beats `control` for certain, and by more than twice
    what it lacks of `whole`.
    """

    title: str
    #: what a network was trained on: the method and its variant (empty: the defaults), and the measure of how good it is
    rows: Mapping[str, tuple[str, str, str]]
    columns: Sequence[str]  #: what a network is tested on: parts of these measures
    chosen: tuple[str, str]
    control: tuple[str, str]
    whole: tuple[str, str]
    #: evidence and ``measure:part`` to the share of right answers of every evidence row, 0 to 1: pure numpy
    hits: Callable[[Table, str], np.ndarray]
    picture: str = "picture"  #: evidence column; rows that show one picture are resampled together
    rule: str = ""  #: what the table asks, a sentence

    def __post_init__(self) -> None:
        for cell in (self.chosen, self.control, self.whole):
            if cell[0] not in self.rows or cell[1] not in self.columns:
                raise ValueError(f"cell {cell} is none of the rows {', '.join(self.rows)} and columns {', '.join(self.columns)}")


@dataclass(frozen=True)
class Show:
    """Declared as `Task.show`.  In `notes`, `cautions` and `sources`, ``[words](address)`` is a link."""

    curve: Curve | None = None
    against: Sequence[Against] = ()
    gallery: Gallery | None = None
    shares: Mapping[str, str] = field(default_factory=dict)  #: metered shares with a column each: measure, head
    pays: bool = True  #: parts of measures are classes or groups, of which one may pay for the saving
    part: str = "class"  #: what such a part is called, where `parts` names none
    parts: Sequence[Parts] = ()  #: which measures these are, that of the worst one's column first; empty: all that have parts
    tradeoff: Tradeoff | None = None
    reach: Reach | None = None
    history: History | None = None
    crossed: Crossed | None = None
    figures: Sequence[Figures] = ()
    scatter: Scatter | None = None
    composition: Composition | None = None
    notes: Sequence[str] = ()  #: sentences under a board's table: what a reader may take for something else
    cautions: Mapping[str, str] = field(default_factory=dict)  #: by a case's data, above its boards: what is wrong with the data
    sources: Mapping[str, str] = field(default_factory=dict)  #: by a case's data: who made the data, under which licence
    words: Mapping[str, str] = field(default_factory=dict)  #: measures and targets that prose calls otherwise than they are named
    #: heads of workloads by what stands before the ``@``, and those of jobs (`Task.jobs`) by their names
    families: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> Sequence[Parts]:
        """Measures in parts of which one may pay, the leading one first."""
        return (self.parts or (Parts("", self.part),)) if self.pays else ()

    def word(self, name: str) -> str:
        """A measure or a target as prose calls it."""
        return self.words.get(name, name)

    def head(self, workload: str) -> str:
        """The head of a workload's or a job's column."""
        family, at, rest = workload.partition("@")
        if family not in self.families:
            return workload
        return f"{self.families[family]} {rest}" if at else self.families[family]

    def spoken(self, workload: str) -> str:
        """A workload by its own name, which says what is timed (``infer@64``), a job by its head, as prose goes on with it."""
        words = workload if "@" in workload else self.head(workload)
        return words if words[1:2].isupper() else words[:1].lower() + words[1:]

    def credit(self, case: str, seed: int, division: str) -> str:
        """The line under a run's pictures; empty where it has none."""
        if self.gallery is None or seed or division == "speed":
            return ""
        return self.gallery.credits.get(case.partition("/")[0], "")
