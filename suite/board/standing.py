"""Where a method stands: its own row, as its paper sets it, in each ranking that it runs, and what that comes down to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from suite import registry
from suite.board import tables
from suite.board.tables import Board, Ranking, Row

if TYPE_CHECKING:
    import jinja2

    from suite.protocol import Task


@dataclass(frozen=True)
class Place:
    """One method's row in one ranking."""

    board: Board
    row: Row

    @property
    def task(self) -> Task[Any, Any]:
        """The task, as the ranking's case has it."""
        return registry.task_of(self.board.ranking)

    @property
    def page(self) -> str:
        """The ranking's page from the site's root."""
        return self.board.address

    @property
    def of(self) -> int:
        """Rows that are ranked there."""
        return len(self.board.ranked)

    @property
    def ahead(self) -> float | None:
        """Share of the other ranked rows that it is ahead of, at the middle of its ranks; None where it is not ranked, or alone."""
        if not self.row.ranked or self.of < 2:
            return None
        q = self.row.quality
        return 1 - ((q.best + q.worst) / 2 - 1) / (self.of - 1)

    @property
    def told(self) -> str:
        """Its rank, as a range where it cannot be told apart from others, and of how many."""
        if self.row.ranked:
            return f"{self.row.rank} of {self.of}"
        if self.row.kind == "parent":
            return "the parent"
        return "speed alone" if self.board.ranking.division == "speed" else self.row.why[0]

    @property
    def bar(self) -> str:
        """SVG: its range of ranks on the line from the first to the last."""
        if not self.row.ranked:
            return ""
        step, q = 64 / self.of, self.row.quality
        return (
            f'<svg class="place" width="64" height="9" viewBox="0 0 64 9" aria-hidden="true"><path d="M0 4.5H64"/>'
            f'<rect x="{step * (q.best - 1):.1f}" y="1" width="{step * (q.worst - q.best + 1):.1f}" height="7"/></svg>'
        )


def of(boards: Mapping[Ranking, Board]) -> Mapping[str, Sequence[Place]]:
    """Places by method, task by task, where speed alone is asked last.

    Rankings between the targets that a tier names, and variants, are left out.
    """
    between = tables.aside(list(boards.values()))
    found: dict[str, list[Place]] = {}
    for ranking, board in sorted(boards.items(), key=lambda b: (b[0].task, b[0].division == "speed")):
        for row in board.rows if ranking not in between else ():
            if not row.variant:
                found.setdefault(row.method, []).append(Place(board, row))
    return found


@dataclass(frozen=True)
class Line:
    """A method in the list of all."""

    name: str
    kind: str
    about: str
    places: Sequence[Place]

    @property
    def best(self) -> Place | None:
        """The ranking that it stands best in."""
        return max((p for p in self.places if p.ahead is not None), key=lambda p: (p.ahead, p.of), default=None)

    @property
    def typical(self) -> float | None:
        """The median over its rankings of the share of others that it is ahead of."""
        found = [p.ahead for p in self.places if p.ahead is not None]
        return median(found) if found else None


def index(env: jinja2.Environment, boards: Mapping[Ranking, Board]) -> str:
    """The page of all methods, by task: on how many rankings each stands, its best place and its usual one."""
    places = of(boards)
    lists = {}
    for task in registry.tasks():
        mine = {name: [p for p in found if p.board.ranking.task == task] for name, found in places.items()}
        known = registry.methods(task)
        lines = [Line(n, _kind(task, n, ref.paper), ref.summary, mine.get(n, ())) for n, ref in known.items()]
        lines += [Line(n, "somebody’s own", "", found) for n, found in mine.items() if found and n not in known]
        lists[task] = lines
    return env.get_template("methods.md.j2").render(lists=lists)


def _kind(task: str, name: str, paper: str) -> str:
    return "parent" if name == registry.task(task).parent_method else "paper" if paper else "baseline"
