"""What a task may have shown on the board beside its tables: all of it optional, none of it ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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
class Show:
    """Declared as `Task.show`."""

    curve: Curve | None = None
    against: Sequence[Against] = ()
    gallery: Gallery | None = None
    shares: Mapping[str, str] = field(default_factory=dict)  #: metered shares with a column each: measure, head
    pays: bool = True  #: parts of measures are classes or groups, of which one may pay for the saving
    part: str = "class"  #: what such a part is called
    words: Mapping[str, str] = field(default_factory=dict)  #: measures and targets that prose calls otherwise than they are named
    families: Mapping[str, str] = field(default_factory=dict)  #: heads of workloads by what stands before the ``@``

    def word(self, name: str) -> str:
        """A measure or a target as prose calls it."""
        return self.words.get(name, name)

    def head(self, workload: str) -> str:
        """The head of a workload's column."""
        family, at, rest = workload.partition("@")
        return f"{self.families[family]} {rest}" if at and family in self.families else workload

    def credit(self, case: str, seed: int, division: str) -> str:
        """The line under a run's pictures; empty where it has none."""
        if self.gallery is None or seed or division == "speed":
            return ""
        return self.gallery.credits.get(case.partition("/")[0], "")
