"""What a task has shown of trade-offs (`Show.tradeoff`, `Show.reach`): curves along a setting, and how long something takes."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup

from suite import fields, registry
from suite.board import charts, statistics
from suite.board.runs import Runs, kinds, measured, solved_on
from suite.board.tables import Board, Row, papers_of

if TYPE_CHECKING:
    from suite.protocol import Task
    from suite.show import Reach, Tradeoff

WIDE, NARROW = 760, 380


@dataclass(frozen=True)
class Spot:
    """A row on a curve: its setting, and quality and cost by seed."""

    row: Row
    setting: float | None  #: None: its method has no curve
    seeds: Mapping[int, tuple[float, float]]
    half: tuple[float, float] = (math.nan, math.nan)  #: of the 95 % intervals of both

    @property
    def mean(self) -> tuple[float, float]:
        quality, cost = np.mean(list(self.seeds.values()), axis=0)
        return float(quality), float(cost)

    @property
    def sure(self) -> bool:
        """Whether it has the seeds that a rank takes, or can have no more."""
        return len(self.seeds) >= statistics.LEAST_SEEDS or self.row.ranked


@dataclass(frozen=True)
class Outcome:
    """What a method's spots come down to; None where that is undefined."""

    label: str
    mark: int
    kind: str
    spots: int
    along: str  #: the setting, empty for a single spot
    area: float | None  #: per cent of the box
    area_ends: tuple[float, float]
    at_level: float | None  #: cost where quality is the declared margin below the parent's
    level_ends: tuple[float, float]
    why: str  #: why there is no cost there


@dataclass(frozen=True)
class Traded:
    """The chart of a board and its table."""

    wide: Markup
    narrow: Markup
    outcomes: Sequence[Outcome]
    quality: str  #: in words
    cost: str
    unit: str  #: of the cost
    level: float | None  #: of quality, where costs are compared
    corner: tuple[float, float] | None  #: quality and cost where the area ends
    margin: str  #: in words


@dataclass(frozen=True)
class Reached:
    """A row of the table of when something was reached."""

    row: Row
    runs: int
    reached: int
    cells: Sequence[
        tuple[float, Sequence[float]] | None
    ]  #: median over all runs, and the values there are; None: nothing was clocked


@dataclass(frozen=True)
class Reaching:
    """The table of when something was reached, soonest first."""

    declared: Reach
    rows: Sequence[Reached]  #: empty where none of those asked got there
    card: str  #: of the times
    asked: int  #: rows that could have got there
    clocked_by: Literal["solved", "weighed"] = "solved"  #: what was done on that card


def traded(board: Board, task: Task[Any, Any]) -> Traded | None:
    """Quality against cost of a board; None where the task declares none, or fewer than two rows have both."""
    declared = task.show.tradeoff
    if declared is None or board.ranking.division == "speed":
        return None
    runs = measured(board, (declared.quality, declared.cost, declared.floor))
    told = kinds(board, (declared.quality, declared.cost))
    parent, curves = _curves(board, declared, runs, _settings(board, declared))
    drawn = [*([parent] if parent else []), *(spot for spots in curves.values() for spot in spots)]
    if len(drawn) < 2:
        return None
    (way, unit), (_, cost_unit) = (told[name] for name in (declared.quality, declared.cost))
    up = way != "down"
    sign = 1 if up else -1
    floors = [m[declared.floor] for found in runs.values() for m in found.values() if declared.floor in m]
    corner = (float(np.mean(floors)), declared.corner * parent.mean[1]) if parent and floors else None
    level = parent.mean[0] - sign * declared.margin if parent else None
    papers = papers_of(board.ranking.task)
    # a method's mark, whatever its setting: in a board's table variants have none of their own
    marks = {name: papers.index(m) if (m := spots[0].row.method) in papers else -1 for name, spots in curves.items()}
    outcomes = [
        _outcome(marks[name], name, spots, declared, sign, corner, level)
        for name, spots in curves.items()
        if any(s.sure for s in spots)
    ]
    outcomes.sort(key=lambda o: (o.area is None, -(o.area or 0.0), o.at_level is None, o.at_level or 0.0))
    words = task.show.word
    trails = [_trail(board, name, marks[name], spots) for name, spots in curves.items()]
    trails += [_trail(board, parent.row.label, parent.row.mark, [parent])] if parent else []
    sure = [s for s in drawn if s.sure] or drawn
    front = statistics.front([(-s.mean[1], sign * s.mean[0]) for s in sure])
    steps = [(sure[i].mean[1], sure[i].mean[0]) for i in front]

    def draw(width: int) -> Markup:
        return Markup(
            charts.tradeoff(
                trails, steps, quality=words(declared.quality), unit=unit, up=up, cost=words(declared.cost), cost_unit=cost_unit,
                width=width, ident=f"t{width}{board.ranking.anchor}",
            )
        )  # fmt: skip

    margin = f"{declared.margin:g} {('point' if declared.margin == 1 else 'points') if unit == '%' else unit}".rstrip()
    return Traded(
        draw(WIDE), draw(NARROW), outcomes, words(declared.quality), words(declared.cost), cost_unit, level, corner, margin
    )


def _curves(
    board: Board, declared: Tradeoff, runs: Runs, settings: Mapping[tuple[str, str], float]
) -> tuple[Spot | None, dict[str, list[Spot]]]:
    """The parent's spot, and those of each method in the order of its setting, by the name that the curve has.

    What is off its target is left out, and so are rows that differ from the defaults in anything but the setting.
    """
    spots: list[tuple[str, Spot]] = []
    for row in board.rows:
        found = runs.get((row.method, row.variant), {})
        both = (declared.quality, declared.cost)
        mine = {seed: (m[both[0]], m[both[1]]) for seed, m in found.items() if all(name in m for name in both)}
        setting = settings.get((row.method, row.variant))
        if not mine or row.apart or (row.variant and setting is None):
            continue
        # a default that is no number has no place on its method's curve
        alone = row.method in declared.sweeps and setting is None and row.kind != "parent"
        spots.append((f"{row.label} (default)" if alone else row.method, Spot(row, setting, mine)))
    several = [i for i, (_, s) in enumerate(spots) if len(s.seeds) > 1]
    noises = [statistics.noise([{seed: v[axis] for seed, v in spots[i][1].seeds.items()} for i in several]) for axis in (0, 1)]
    for i, *noise in zip(several, *noises, strict=True):
        name, spot = spots[i]
        quality, cost = (statistics.interval({seed: v[axis] for seed, v in spot.seeds.items()}, noise[axis]) for axis in (0, 1))
        spots[i] = (name, replace(spot, half=(quality, cost)))
    parent = next((s for _, s in spots if s.row.kind == "parent"), None)
    curves: dict[str, list[Spot]] = defaultdict(list)
    for name, spot in spots:
        if spot.row.kind != "parent":
            curves[name].append(spot)
    return parent, {name: sorted(found, key=lambda s: s.setting or 0.0) for name, found in curves.items()}


def _settings(board: Board, declared: Tradeoff) -> dict[tuple[str, str], float]:
    """The value of a method's swept setting, by method and variant, of the rows that differ from its defaults in nothing else."""
    known = registry.methods(board.ranking.task)
    found = {}
    for (method, variant), text in {(r.method, r.variant): r.configuration for r in board.runs}.items():
        name = declared.sweeps.get(method)
        if name is None or (variant and variant.partition("=")[0] != name):
            continue
        told: Any = json.loads(text).get(name)
        if told is None and variant:
            told = variant.partition("=")[2]
        elif told is None and method in known:
            told = next((s.default for s in fields.settings(known[method]) if s.name == name), None)
        number = _number(told)
        # another setting's text would follow a comma, which no number has
        if number is not None and (not variant or _number(variant.partition("=")[2]) is not None):
            found[method, variant] = number
    return found


def _number(value: Any) -> float | None:
    """A setting as a number; None where it is none, or not finite."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _outcome(
    mark: int,
    name: str,
    spots: Sequence[Spot],
    declared: Tradeoff,
    sign: int,
    corner: tuple[float, float] | None,
    level: float | None,
) -> Outcome:
    """Of the spots that are sure; intervals are over the seeds that all of them have, the parent's numbers taken as they are."""
    sure = [s for s in spots if s.sure]
    seeds = sorted(set.intersection(*(set(s.seeds) for s in sure)))
    table = np.array([[s.seeds[seed] for s in sure] for seed in seeds]) if len(seeds) >= statistics.LEAST_SEEDS else np.empty(0)
    means = np.array([s.mean for s in sure])

    def area(at: np.ndarray) -> np.ndarray:
        assert corner is not None
        found = statistics.dominated_area(sign * at[..., 0], at[..., 1], sign * corner[0], corner[1])
        return 100 * found / (sign * (declared.best - corner[0]) * corner[1])

    def cost(at: np.ndarray) -> np.ndarray:
        assert level is not None
        return statistics.cost_at(sign * at[..., 0], at[..., 1], sign * level)

    nowhere = (math.nan, math.nan)
    boxed = corner is not None and corner[1] > 0 and sign * (declared.best - corner[0]) > 0
    at_level = float(cost(means)) if level is not None else math.nan
    why = (
        ""
        if math.isfinite(at_level) or level is None
        else "stays below"
        if (sign * means[:, 0] < sign * level).all()
        else "stays above"
    )
    row = spots[0].row
    along = declared.sweeps.get(row.method, "") if len(sure) > 1 else ""
    return Outcome(
        name,
        mark,
        row.kind,
        len(sure),
        along,
        float(area(means)) if boxed else None,
        statistics.resampled(table, area) if boxed else nowhere,
        at_level if math.isfinite(at_level) else None,
        statistics.resampled(table, cost) if math.isfinite(at_level) else nowhere,
        why,
    )


def _trail(board: Board, name: str, mark: int, spots: Sequence[Spot]) -> charts.Trail:
    """A method as the chart draws it."""
    points = []
    for spot in spots:
        quality, cost = spot.mean
        points.append(
            charts.Point(
                spot.row.label, cost, quality, charts.around(cost, spot.half[1]), spot.half[0], mark, board.key(spot.row),
            )
        )  # fmt: skip
    settings = [f"{s.setting:g}" if s.setting is not None else "" for s in spots] if len(spots) > 1 else []
    return charts.Trail(name, points, mark, settings, [not s.sure and s.row.kind != "parent" for s in spots])


def reaching(board: Board, task: Task[Any, Any]) -> Reaching | None:
    """When the rows of a board that are on target reached what the task declares; None where it declares nothing or has no row.

    The middle is over all runs of a row: one that did not get there took longer than any that did.
    """
    declared = task.show.reach
    if declared is None or board.ranking.division == "speed":
        return None
    names = [*declared.counts, *declared.clocked]
    runs, first = measured(board, names), names[0]
    rows = [
        r
        for r in [*board.ranked, *board.unranked]
        if not r.apart and (r.method, r.variant) in runs and r.method not in declared.apart
    ]
    if not any(first in m for r in rows for m in runs[r.method, r.variant].values()):
        return Reaching(declared, [], "", len(rows)) if rows else None
    return reached(declared, rows, runs, solved_on(board), board.card)


def common_card(runs: Iterable[tuple[str, str, int]], solved: Mapping[tuple[str, str, int], str], card: str) -> str:
    """The card whose times are compared: a board's own where any of these runs was solved there, else the one that solved most."""
    often = Counter(solved[run] for run in runs)
    return card if card in often else min(often, key=lambda c: (-often[c], c))


def reached(declared: Reach, rows: Sequence[Row], runs: Runs, solved: Mapping[tuple[str, str, int], str], card: str) -> Reaching:
    """When rows reached something, soonest first: those of which most runs did, then by what is counted, then by the clock.

    Args:
        rows: at least one.
        runs: of each of them; what a run without the first of `counts` has not reached.
        solved: the card of each run.
        card: the board's own.
    """
    names = [*declared.counts, *declared.clocked]
    first = names[0]
    card = common_card([(r.method, r.variant, seed) for r in rows for seed in runs[r.method, r.variant]], solved, card)
    out = []
    for row in rows:
        mine = runs[row.method, row.variant]
        here = {seed: m for seed, m in mine.items() if solved[row.method, row.variant, seed] == card}
        cells = [_middle(mine if name in declared.counts else here, name) for name in names]
        out.append(Reached(row, len(mine), sum(first in m for m in mine.values()), cells))
    out.sort(key=lambda r: (-r.reached / r.runs, *((c[0] if c else math.inf) for c in r.cells), r.row.label))
    return Reaching(declared, out, card if declared.clocked else "", len(rows))


def _middle(runs: Mapping[int, Mapping[str, float]], name: str) -> tuple[float, Sequence[float]] | None:
    values = sorted(m[name] for m in runs.values() if name in m)
    return (statistics.median_reached(values, len(runs)), values) if runs else None
