"""What networks that were trained on one thing are worth on another (`Show.crossed`): the table, its two gaps, and a verdict."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from suite.board import charts, statistics
from suite.board.runs import Runs, kinds, measured
from suite.board.tables import Board, Row

if TYPE_CHECKING:
    import duckdb

    from suite.protocol import Task
    from suite.show import Crossed, Table

DRAWS = 10_000
HELD = 200_000  #: counts of a picture in a draw that are held at once: as many as a processor keeps close by


@dataclass(frozen=True)
class Hits:
    """Right answers of one network on one kind of test, by picture."""

    picture: np.ndarray  #: (p,) rising
    copies: np.ndarray  #: (p,) rows that show it
    hits: np.ndarray  #: (p,) sum over these rows of the share of right answers


@dataclass(frozen=True)
class Gap:
    """A difference of two accuracies in points: mean over seeds, 95 % interval over test pictures."""

    value: float
    low: float
    high: float
    deviation: float  #: over seeds; NaN of one


@dataclass(frozen=True)
class Judged:
    """The two gaps of a hypothesis, over the seeds that all three cells have."""

    gain: Gap  #: what the chosen cell is better by than its control
    price: Gap  #: what it lacks of the whole
    whole: float  #: accuracy of the whole, in per cent
    seeds: Sequence[int]
    pictures: int
    rows: int  #: of the test

    @property
    def sure(self) -> bool:
        """Whether there are the seeds that a verdict takes."""
        return len(self.seeds) >= statistics.LEAST_SEEDS

    @property
    def supported(self) -> bool:
        return self.gain.low > 0 and self.price.value < self.gain.value / 2

    @property
    def why(self) -> str:
        """What decided, in words."""
        if self.gain.low <= 0:
            return "(b) is the better one for certain" if self.gain.high < 0 else "the interval of (a) − (b) holds zero"
        how = "less" if self.supported else "not less"
        return f"(a) is better than (b) for certain, and (c) − (a) is {how} than half of that"


def wanted(declared: Crossed | None, method: str, variant: str) -> set[str]:
    """Those measures of a run, as ``measure:part``, that the gaps are of."""
    if declared is None:
        return set()
    found = set()
    for row, part in (declared.chosen, declared.control, declared.whole):
        *run, measure = declared.rows[row]
        if run == [method, variant]:
            found.add(f"{measure}:{part}")
    return found


def by_picture(evidence: Table, declared: Crossed, measure: str) -> Hits:
    """Hits of an evidence table; raises ValueError where they are no shares, one a row."""
    found = np.asarray(declared.hits(evidence, measure), np.float64)
    picture, place = np.unique(np.asarray(evidence[declared.picture]).astype(np.int64), return_inverse=True)
    if found.shape != place.shape or not len(found) or not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"hits of {measure} must be a share from 0 to 1 for each row")
    return Hits(picture, np.bincount(place), np.bincount(place, weights=found))


def resampled(sums: np.ndarray, copies: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """Means over rows where the pictures are drawn with replacement, the rows of a picture together, by a fixed generator.

    Args:
        sums: (k, p) of k values, summed over the rows of each of p pictures.
        copies: (p,) rows of each picture.

    Returns:
        (k, draws), all k by the same draws.
    """
    draw = np.random.Generator(np.random.Philox(0))
    pictures = len(copies)
    weights = np.vstack([sums, copies]).T.astype(np.float64)
    out = np.empty((len(sums), draws))
    step = max(1, HELD // pictures)
    for at in range(0, draws, step):
        n = min(step, draws - at)
        drawn = draw.integers(0, pictures, (n, pictures)) + pictures * np.arange(n)[:, None]
        often = np.bincount(drawn.ravel(), minlength=n * pictures).reshape(n, pictures)
        totals = often @ weights
        out[:, at : at + n] = (totals[:, :-1] / totals[:, -1:]).T
    return out


def judge(chosen: Mapping[int, Hits], control: Mapping[int, Hits], whole: Mapping[int, Hits], draws: int = DRAWS) -> Judged | None:
    """The gaps of three cells, each by seed, over the seeds that all have; None where there is no such seed.

    Raises ValueError where they were not tested on the same rows.
    """
    seeds = sorted(chosen.keys() & control.keys() & whole.keys())
    if not seeds:
        return None
    cells = [[cell[seed] for seed in seeds] for cell in (chosen, control, whole)]
    first = cells[0][0]
    if not all(np.array_equal(h.picture, first.picture) and np.array_equal(h.copies, first.copies) for c in cells for h in c):
        raise ValueError("the three cells were not tested on the same pictures")
    a, b, c = (np.array([h.hits for h in cell]) for cell in cells)
    rows = int(first.copies.sum())
    differences = np.array([a - b, c - a])
    by_seed = 100 * differences.sum(2) / rows
    ends = np.quantile(100 * resampled(differences.mean(1), first.copies, draws), [0.025, 0.975], axis=1)
    gain, price = (
        Gap(float(v.mean()), float(low), float(high), float(v.std(ddof=1)) if len(v) > 1 else math.nan)
        for v, low, high in zip(by_seed, *ends, strict=True)
    )
    return Judged(gain, price, 100 * float(c.sum()) / (rows * len(seeds)), seeds, len(first.picture), rows)


@dataclass(frozen=True)
class Cell:
    """A network's accuracy on one kind of test: mean over seeds and its interval, as they are shown."""

    value: str
    half: str  #: empty under three seeds
    letter: str  #: what the gaps call it; empty of the others


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    name: str
    row: Row
    measure: str  #: in words
    cells: Sequence[Cell | None]


@dataclass(frozen=True)
class Difference:
    """A gap as it is shown."""

    name: str
    words: str
    told: str
    bar: Markup
    deviation: str  #: over seeds; empty of one


@dataclass(frozen=True)
class Crossing:
    """The table of a board, its gaps and verdict."""

    declared: Crossed
    heads: Sequence[str]
    unit: str
    lines: Sequence[Line]
    judged: Judged | None
    gaps: Sequence[Difference]
    missing: str  #: why there are no gaps


def crossing(db: duckdb.DuckDBPyConnection, board: Board, task: Task[Any, Any]) -> Crossing | None:
    """The table of a board's rows on target; None where the task declares none, or no cell has a value."""
    declared = task.show.crossed
    if declared is None or board.ranking.division == "speed":
        return None
    names = {(label, part): f"{measure}:{part}" for label, (*_, measure) in declared.rows.items() for part in declared.columns}
    rows = {(r.method, r.variant): r for r in board.rows if not r.apart}
    runs = measured(board, list(dict.fromkeys(names.values())))
    lines = [
        Line(
            label, rows[method, variant], task.show.word(measure), [_cell(declared, runs, label, part) for part in declared.columns]
        )
        for label, (method, variant, measure) in declared.rows.items()
        if (method, variant) in rows
    ]
    if not any(cell for line in lines for cell in line.cells):
        return None
    unit = next((unit for _, unit in kinds(board, list(names.values())).values() if unit), "")
    there = {line.name for line in lines}
    stored = _stored(db, board, list(names.values()))

    def arm(cell: tuple[str, str]) -> Mapping[int, Hits]:
        method, variant, _ = declared.rows[cell[0]]
        return stored.get((method, variant, names[cell]), {}) if cell[0] in there else {}

    judged, missing = None, "No seed has all three cells (a), (b) and (c) yet."
    try:
        judged = judge(arm(declared.chosen), arm(declared.control), arm(declared.whole))
    except ValueError as e:
        missing = f"Not judged: {e}."
    heads = [task.show.word(part) for part in declared.columns]
    return Crossing(declared, heads, unit, lines, judged, _gaps(declared, judged, task.show.word) if judged else (), missing)


def _cell(declared: Crossed, runs: Runs, label: str, part: str) -> Cell | None:
    method, variant, measure = declared.rows[label]
    values = [m[f"{measure}:{part}"] for m in runs.get((method, variant), {}).values() if f"{measure}:{part}" in m]
    if not values:
        return None
    half = statistics.t_interval(values)[1] if len(values) >= statistics.LEAST_SEEDS else math.nan
    digits = statistics.decimals(half, 1)
    letters = {declared.chosen: "a", declared.control: "b", declared.whole: "c"}
    told = f"±{half:.{digits}f}" if math.isfinite(half) else ""
    return Cell(f"{float(np.mean(values)):.{digits}f}", told, letters.get((label, part), ""))


def _stored(db: duckdb.DuckDBPyConnection, board: Board, names: Sequence[str]) -> dict[tuple[str, str, str], dict[int, Hits]]:
    """Hits of the runs that count on a board, by method, variant and measure, then by seed."""
    where, values = board.asked
    found: dict[tuple[str, str, str], dict[int, Hits]] = defaultdict(dict)
    rows = db.execute(
        "SELECT c.method, c.variant, h.measure, c.seed, list(h.picture ORDER BY h.picture), list(h.copies ORDER BY h.picture),"
        " list(h.hits ORDER BY h.picture) FROM counted AS c JOIN hits AS h ON h.run = c.id"
        f" WHERE h.measure IN (SELECT unnest(?)) AND {where} GROUP BY ALL ORDER BY ALL",
        [list(names), *values],
    ).fetchall()
    for method, variant, measure, seed, picture, copies, hits in rows:
        found[method, variant, measure][seed] = Hits(np.array(picture), np.array(copies), np.array(hits))
    return found


def _gaps(declared: Crossed, judged: Judged, word: Callable[[str], str]) -> list[Difference]:
    """Both gaps in words, on one axis."""
    a, b, c = (
        f"trained and tested on {part}" if row == part else f"trained on {row}, tested on {part}"
        for row, part in ((row, word(part)) for row, part in (declared.chosen, declared.control, declared.whole))
    )
    both = (judged.gain, judged.price)
    first, last = min(0.0, *(g.low for g in both)), max(0.0, *(g.high for g in both))
    room = max(0.08 * (last - first), 0.1)
    told = (("(a) − (b)", f"{a}, less {b}"), ("(c) − (a)", f"{c} ({judged.whole:.1f}), less {a}"))
    return [
        Difference(
            name,
            words,
            f"{signed(g.value)} ({signed(g.low)} to {signed(g.high)})",
            Markup(charts.interval_bar(g.value, (g.high - g.low) / 2, first - room, last + room, 0.0)),
            f"{g.deviation:.1f}" if math.isfinite(g.deviation) else "",
        )
        for (name, words), g in zip(told, both, strict=True)
    ]


def signed(value: float) -> str:
    """Points to one digit with their sign, a real minus; what rounds to zero has none."""
    text = f"{abs(value):.1f}"
    return text if not float(text) else f"{'−' if value < 0 else '+'}{text}"
