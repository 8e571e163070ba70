"""What a task has shown of the training as it went (`Show.history`): curves over time, and when each method reached a target."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup

from suite.board import charts, statistics
from suite.board.runs import Key, workloads
from suite.board.showing import Drawing
from suite.board.tables import Board, Row
from suite.board.tradeoffs import Reached, Reaching, common_card, reached
from suite.show import Reach

if TYPE_CHECKING:
    import duckdb

    from suite.protocol import Task
    from suite.show import History

WIDE, NARROW = 640, 380
COLOURS = len(charts.SHAPES)
MOST_POINTS = 100  #: of a drawn line
ENOUGH = 5  #: runs of the parent that a target should be taken from
NAME = 15  #: CSS pixels from a name to the next
ROOM = 15  #: names that a chart for a phone has room for
OFF = "off target"
LAST = 1 / 6  #: of a training, at the end: where it gains little any more it has levelled off
AXES = {"examples": "examples handled", "seconds": "seconds of training"}


@dataclass(frozen=True)
class Trace:
    """What a run told on its way."""

    card: str  #: that its seconds are of: it was solved there, or weighed where these are of weighed workloads
    examples: np.ndarray
    seconds: np.ndarray
    value: np.ndarray


Traces = Mapping[Key, Mapping[int, Trace]]  #: by method and variant, then by seed


@dataclass(frozen=True)
class Target:
    """What is to be reached, and what it was taken from."""

    value: float
    parents: int  #: runs of the parent


@dataclass(frozen=True)
class Told:
    """The charts of a board and their table."""

    drawings: Sequence[Drawing]
    reaching: Reaching | None  #: None: the parent told nothing, so that there is no target


def history(db: duckdb.DuckDBPyConnection, board: Board, task: Task[Any, Any]) -> Told | None:
    """The training of a board's rows as it went, of those off target too; None where the task declares none, or no run told of it."""
    declared = task.show.history
    if declared is None or board.ranking.division == "speed":
        return None
    found = traces(db, board, declared)
    rows = [r for r in board.rows if (r.method, r.variant) in found]
    if not rows:
        return None
    silent = [label(r) for r in _plain(board) if (r.method, r.variant) not in found]
    parents = found.get((board.parent.method, ""), {}) if board.parent else {}
    goal = target(parents, declared) if parents else None
    solved = {(*key, seed): trace.card for key, runs in found.items() for seed, trace in runs.items()}
    card = common_card([(r.method, r.variant, seed) for r in rows for seed in found[r.method, r.variant]], solved, board.card)
    word = task.show.word(declared.curve)
    drawings = [d for x in declared.x if (d := _drawing(board, declared, word, found, x, card, goal))]
    level = levelled(board.parent.label, parents, declared) if board.parent else ""
    told = _reaching(board, declared, word, rows, silent, found, solved, card, goal, level) if goal else None
    return Told(drawings, replace(told, clocked_by=clocked_by(declared)) if told else None)


def label(row: Row) -> str:
    """What a row is called where its line stands: one off its target says so, as it saved more or less than was asked."""
    return f"{row.label}, {OFF}" if row.off_target else row.label


def _plain(board: Board) -> list[Row]:
    """Rows of methods as their papers set them, off target or not."""
    return [r for r in board.rows if not r.variant]


def clocked_by(declared: History) -> Literal["solved", "weighed"]:
    """What was done on the card that seconds are of."""
    return "weighed" if declared.clock else "solved"


def traces(db: duckdb.DuckDBPyConnection, board: Board, declared: History) -> Traces:
    """What the runs that count on a board told of a value; a run that told nothing is not there."""
    where, values = board.asked
    found: dict[Key, dict[int, Trace]] = defaultdict(dict)
    rows = db.execute(
        f"SELECT c.id, c.method, c.variant, c.seed, c.{'weigh' if declared.clock else 'solve'}_card, max(h.ended),"
        " list(h.examples ORDER BY h.look), list(h.seconds ORDER BY h.look), list(h.value ORDER BY h.look)"
        " FROM counted AS c JOIN histories AS h ON h.run = c.id"
        f" WHERE h.name = ? AND {where} GROUP BY ALL ORDER BY ALL",
        [declared.curve, *values],
    ).fetchall()
    timed = workloads(board, ("time", "throughput", "calls")) if declared.clock else {}
    for run, method, variant, seed, card, ended, *columns in rows:
        told = Trace(card or "", *(np.array(c, np.float64) for c in columns))
        if declared.clock:
            seconds = weighed(told.examples, ended, timed.get(run, {}), declared.clock)
            # what was not timed whole has no seconds, and so is of no card
            told = replace(told, card="") if seconds is None else replace(told, seconds=seconds)
        found[method, variant][seed] = told
    return found


def weighed(
    examples: np.ndarray, ended: float, timed: Mapping[tuple[str, str], float], clock: tuple[str, str]
) -> np.ndarray | None:
    """Seconds at looks, by the time of weighed workloads: all that ran before, then the steps of the training one after the other.

    Args:
        examples: handled at each look, with those of what ran before (looks,).
        ended: the same at the training's end.
        timed: ``time``, ``throughput`` and ``calls`` of workloads, by measure and workload.
        clock: see `History.clock`; each point's steps lie around it, as many as it is called.

    Returns (looks,), or None where one of them was not timed or none is there.
    """
    before, along = ([part for name, part in timed if name == "calls" and part.startswith(start)] for start in clock)
    if not along or any(("time", part) not in timed for part in (*before, *along)):
        return None
    along.sort(key=lambda part: float(part.rpartition("@")[2]))
    calls, seconds, rate = (np.array([timed[name, part] for part in along]) for name in ("calls", "time", "throughput"))
    items = calls * seconds * rate  # examples of each point's steps
    ends = np.cumsum(items)
    at = np.clip(examples - (ended - ends[-1]), 0, ends[-1])
    done = np.clip((at[:, None] - (ends - items)) / items, 0, 1)  # of each point's steps (looks, points)
    found: np.ndarray = sum(timed["time", p] * timed["calls", p] for p in before) + done @ (calls * seconds)
    return found


def target(parents: Mapping[int, Trace], declared: History) -> Target:
    """The median of the last values of the parent's runs, less the tolerance."""
    middle = float(np.median([trace.value[-1] for trace in parents.values()]))
    return Target(middle - declared.tolerance if declared.up else middle + declared.tolerance, len(parents))


def reached_at(trace: Trace, value: float, up: bool) -> dict[str, float]:
    """Examples and seconds at the first look at which a run had reached a value; empty where it never had."""
    there = np.flatnonzero(trace.value >= value if up else trace.value <= value)
    return {"examples": float(trace.examples[there[0]]), "seconds": float(trace.seconds[there[0]])} if len(there) else {}


def gained(parents: Mapping[int, Trace], up: bool) -> list[float]:
    """What each run gained in the last sixth of its training, straight between two looks; of those that looked before it began."""
    out = []
    for trace in parents.values():
        start = (1 - LAST) * trace.examples[-1]
        if trace.examples[0] <= start:
            gain = float(trace.value[-1] - np.interp(start, trace.examples, trace.value))
            out.append(gain if up else -gain)
    return out


def levelled(parent: str, parents: Mapping[int, Trace], declared: History) -> str:
    """Whether the parent has levelled off, in a sentence: before it has, a method that lags may only need longer."""
    gains = gained(parents, declared.up)
    if len(gains) < statistics.LEAST_SEEDS:
        return f"Whether {parent} has levelled off is not judged: {len(gains)} of at least {statistics.LEAST_SEEDS} runs of it."
    mean = float(np.mean(gains))
    found = _amount(f"{mean:.2f}", declared.unit)
    verdict = "so it has levelled off" if mean < declared.level else "so it has not levelled off"
    bound = f"{'' if mean < declared.level else 'not '}under {_amount(f'{declared.level:g}', declared.unit)}"
    return f"In the last sixth of its training {parent} gained {found}, the mean of {len(gains)} runs: {bound}, {verdict}."


def _amount(number: str, unit: str) -> str:
    """A difference of values in words: of per cents it is points."""
    return f"{number} {('point' if number == '1' else 'points') if unit == '%' else unit}".rstrip()


def middle(runs: Sequence[Trace], x: Literal["seconds", "examples"]) -> list[tuple[float, float]]:
    """A row's curve: at each look, by their order, the medians of x and of the value over its runs, as far as half of these go on.

    Runs of a row look at equal numbers of examples; where what ran before them differed by some, their looks still belong together.
    """
    lengths = sorted((len(t.value) for t in runs), reverse=True)
    out = []
    for look in range(lengths[(len(runs) - 1) // 2]):
        there = [t for t in runs if len(t.value) > look]
        out.append((float(np.median([getattr(t, x)[look] for t in there])), float(np.median([t.value[look] for t in there]))))
    return out


def _drawing(
    board: Board,
    declared: History,
    word: str,
    found: Traces,
    x: Literal["seconds", "examples"],
    card: str,
    goal: Target | None,
) -> Drawing | None:
    """The chart over one axis; None where no row has two looks."""
    lines, elsewhere = [], []
    for row in (r for r in _plain(board) if math.isfinite(r.quality.mean)):
        runs = list(found.get((row.method, row.variant), {}).values())
        here = [t for t in runs if x == "examples" or t.card == card]
        points = middle(here, x) if here else []
        if len(points) > 1:
            lines.append(charts.Curve(label(row), [(at, value, math.nan) for at, value in points], row.mark, board.key(row)))
        elif runs:
            elsewhere.append(label(row))
    if not lines:
        return None
    by = clocked_by(declared)
    where = f", of the runs {by} on card {card[:4]} alone" if x == "seconds" and card else ""
    clock = ", on the clock of the solve, which stands still while a run is looked at" if x == "seconds" else ""
    if x == "seconds" and by == "weighed":
        clock = ", each step at the time that it was weighed at, what ran before the training first"
    note = (
        f"A line a method: the median over seeds at each look{where}{clock}. As the runs told it: only a replay can confirm it."
        " Coloured: methods from papers, five at most; grey: the others; in the colour of the text: the parent."
    )
    if any(r.off_target and c.key == board.key(r) for r in board.rows for c in lines):
        note += f" {OFF.capitalize()}: kept more or less than was asked, so its cost is another than that of the rows beside it."
    note += " A grey line that finds no room for its name tells it to a pointer." if len(lines) > ROOM else ""
    note += f" Not drawn here: {', '.join(elsewhere)}." if elsewhere else ""
    draw = partial(chart, coloured(lines), declared=declared, word=word, x=x, target=goal.value if goal else None)
    ident = f"{x[0]}{board.ranking.anchor}"
    wide, narrow = (Markup(draw(width=w, ident=f"h{w}{ident}")) for w in (WIDE, NARROW))
    return Drawing(f"{declared.title} over {AXES[x]}", note, wide, narrow)


def coloured(lines: Sequence[charts.Curve]) -> list[charts.Curve]:
    """The same with five coloured marks at most: of those that would share a colour the first has it, the others are grey."""
    taken: set[int] = set()
    out = []
    for line in lines:
        colour = line.mark % COLOURS
        out.append(replace(line, mark=-1) if line.mark >= 0 and colour in taken else line)
        taken |= {colour} if line.mark >= 0 else set()
    return out


def span(lines: Sequence[charts.Curve], target: float | None, up: bool) -> tuple[float, float]:
    """Ends of the axis of a value: what lines ended at has at least a third of it, what came long before lies off it.

    A tenth of all that there is on the way is shown at least; a line that ended far from the others does not count.
    """
    every = [y for line in lines for _, y, _ in line.points] + ([target] if target is not None else [])
    low, high = charts.near([(line.points[-1][1], math.nan) for line in lines], up, least=0.1)
    if target is not None:
        low, high = min(low, target), max(high, target)
    reach = max(2 * (high - low), 0.1 * (max(every) - min(every)), 1e-6)
    room = 0.04 * (high - low + reach)
    return (
        (max(min(every), low - reach) - room, max(every) + room)
        if up
        else (min(every) - room, min(max(every), high + reach) + room)
    )


def inside(points: Sequence[tuple[float, float, float]], axis: tuple[float, float]) -> list[tuple[float, float]]:
    """A curve from where it first comes onto the axis; its last point alone where it never does."""
    on = [axis[0] <= y <= axis[1] for _, y, _ in points]
    if not any(on):
        return [points[-1][:2]]
    first = on.index(True)
    rest = [p[:2] for p in points[first:]]
    if first == 0:
        return rest
    (x1, y1, _), (x2, y2, _) = points[first - 1 : first + 1]
    edge = axis[0] if y1 < axis[0] else axis[1]
    return [(x1 + (x2 - x1) * (edge - y1) / (y2 - y1), edge), *rest]


def chart(
    lines: Sequence[charts.Curve],
    *,
    declared: History,
    word: str,
    x: Literal["seconds", "examples"],
    target: float | None,
    width: int,
    ident: str,
) -> str:
    """A value over what it took, one thin line a method, coloured ones over the grey of the others, with names at their ends.

    Args:
        lines: with two points or more, x rising; best first, as of grey ones that find no room the last have no name.
        word: what the value is called.
        target: drawn as a hairline across.
    """
    points = [p for line in lines for p in line.points]
    axis = span(lines, target, declared.up)
    space = (charts.Plane(width, (0, 1), (0, 1)).bottom - charts.Plane(width, (0, 1), (0, 1)).top) // NAME
    loud = [c.key for c in lines if c.mark != -1]
    named = {*loud, *[c.key for c in lines if c.mark == -1][: max(0, space - len(loud))]}
    names = {c.key: c.label + _off(c.points[-1][1], axis, declared.unit) for c in lines if c.key in named}
    margin = charts.names_room([*names.values()], width)
    plane = charts.Plane(width, (0.0, max(p[0] for p in points) or 1.0), axis, margin=margin)
    last = "; ".join(f"{c.label}: {_told(c.points[-1][1], declared.unit)} at {_count(c.points[-1][0])}" for c in lines)
    words = f"At the end: {last}" + (f". Target: {_told(target, declared.unit)}" if target is not None else "")
    out = plane.head("rows history", ident, f"{word} over {AXES[x]}", words)
    ticks = [(v, _count(v)) for v in charts.even_ticks(*plane.x, 3 if width < 500 else 5)]
    out += plane.ground(ticks, word, declared.unit, declared.up, AXES[x])
    if target is not None:
        y = plane.at_y(target)
        out.append(f'<line class="promise" x1="{plane.left}" x2="{plane.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
    ends: list[tuple[float, float, str, str]] = []
    for c in sorted(lines, key=lambda c: (c.mark != -1, c.mark == -2)):
        seen = inside(c.points, axis)
        picked = charts.thinned(len(seen), MOST_POINTS)
        places = [(plane.at_x(seen[i][0]), plane.at_y(seen[i][1])) for i in picked]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        out.append(
            f'<g class="pt {charts.mark_class(c.mark)}" data-m="{escape(c.key)}"><polyline class="run" points="{path}">'
            f"<title>{escape(c.label)}</title></polyline>{charts.mark(c.mark, *places[-1])}</g>"
        )
        if c.key in names:
            ends.append((places[-1][1], places[-1][0], names[c.key], charts.mark_class(c.mark)))
    if target is not None:
        out.append(
            f'<text class="tick label" x="{plane.left + 6}" y="{plane.at_y(target) - 5:.1f}">target {_told(target, declared.unit)}</text>'
        )
    return "".join([*out, *charts.end_labels(ends, plane.right + 14, plane.top, plane.bottom), "</svg>"])


def _off(value: float, axis: tuple[float, float], unit: str) -> str:
    """What follows the name of a line that ends off the axis: the way to its value."""
    way = "↓" if value < axis[0] else "↑" if value > axis[1] else ""
    return f" {way} {_told(value, unit)}" if way else ""


def _told(value: float, unit: str) -> str:
    """Shares to one digit, of other values three."""
    return f"{value:.1f}" if unit == "%" else f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"


def _reaching(
    board: Board,
    declared: History,
    word: str,
    rows: Sequence[Row],
    silent: Sequence[str],
    found: Traces,
    solved: Mapping[tuple[str, str, int], str],
    card: str,
    goal: Target,
    level: str,
) -> Reaching:
    """When each row reached the target, soonest on the clock first; the parent stands among them.

    Many arguments, as `history` has read them all for its drawings anyway.
    """
    runs = {key: {seed: reached_at(t, goal.value, declared.up) for seed, t in mine.items()} for key, mine in found.items()}
    parent = board.parent.label if board.parent else ""
    few = "" if goal.parents >= ENOUGH else f" ({ENOUGH} are asked for)"
    short = _amount(f"{declared.tolerance:g}", declared.unit)
    away = f"{short} {'short of' if declared.up else 'above'}" if declared.tolerance else "which is"
    rule = (
        f"Target: {word} of {_told(goal.value, declared.unit)}{' ' + declared.unit if declared.unit else ''}, {away} the median that"
        f" {goal.parents} run{'s' * (goal.parents != 1)} of {parent}{few} ended at. Reached: at the first look that finds it."
    )
    rule += f" Not told of on their way: {', '.join(silent)}." if silent else ""
    rule += f" {level}" if level else ""
    asked_for = Reach("Time to target", {"examples": "Examples, median"}, {"seconds": "Seconds, median"}, rule)
    told = reached(asked_for, rows, runs, solved, card)

    def soonest(r: Reached) -> tuple[float, ...]:
        return (-r.reached / r.runs, *((c[0] if c else math.inf) for c in reversed(r.cells)))

    return replace(told, rows=sorted(told.rows, key=soonest))
