"""What would decide the claims that are undecided: how many seeds more, and what they cost.

Where a claim's estimate is taken for the truth, and the noise of its differences for what its seeds and its case's other comparisons say
it is (`suite.board.pooling`), the chance that a later look decides it follows from the normal law of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite import registry
from suite.board import claims, pooling, sequential
from suite.board.cases import Case
from suite.board.claims import Sample

if TYPE_CHECKING:
    import duckdb
    from rich.console import Group

POWER = 0.8
WEIGHING = 40.0  #: seconds, about what a run takes beside its solve: three workloads of 12 s at most, and their memory
FAR = 100  #: seeds that would not decide a claim: its estimate lies on the bound
CHANCES = (np.arange(16) + 0.5) / 16  #: at which a variance's law is read
ON_THE_BOUND = "cannot: the estimate lies on the bound"


@dataclass(frozen=True)
class Row:
    """A row that a claim compares."""

    task: str
    tier: str
    division: str
    case: str
    target: str
    method: str
    variant: str
    device: str
    seconds: float | None  #: median of what its solves took; None where no bundle tells
    settled: frozenset[int] = field(repr=False)  #: seeds that count for the claim
    tried: frozenset[int] = field(repr=False)  #: seeds that there are bundles of, whether they count or not


@dataclass(frozen=True)
class Need:
    """What an undecided claim needs."""

    task: str
    method: str
    claim: str
    form: str
    seeds: int  #: that it has been looked at with
    more: int | None  #: seeds that decide it, with a chance of `power`; None where no number within its last look does
    power: float
    seconds_per_seed: float | None
    seconds: float | None  #: of solving, for all of them
    runs: int  #: that these seeds lack
    reason: str  #: why no number of seeds is told
    next: Sequence[int]  #: the seeds to make, in their order
    rows: Sequence[Row]
    card: str = ""  #: the only machine whose seeds count, where it is a machine's numbers that decide
    place: int = 0  #: of the claim among its task's

    @property
    def per_hour(self) -> float:
        """Claims decided in an hour that is spent on this one."""
        return self.power / ((self.seconds or 0.0) + WEIGHING * max(1, self.runs)) * 3600

    def to_json(self) -> dict[str, Any]:
        """For machines: its rows without the seeds that there are already."""
        told = asdict(self)
        told["rows"] = [{k: v for k, v in row.items() if k not in ("settled", "tried")} for row in told["rows"]]
        return told


def judge(results: Path, task: str = "") -> list[Need]:
    """As `needs`, from a folder of bundles."""
    from suite.board import store

    with store.of_bundles(results) as connection:
        return needs(connection, task)


def needs(db: duckdb.DuckDBPyConnection, task: str = "") -> list[Need]:
    """What each undecided claim (of one task) needs, those first that are decided soonest; then those that no seeds decide."""
    from suite.board import cases

    found = [n for name in registry.tasks() if not task or name == task for n in of(list(cases.of_task(db, name)), name)]
    return ordered(found)


def ordered(found: Sequence[Need]) -> list[Need]:
    """Those first that are decided soonest; those that no seeds decide last."""
    return sorted(found, key=lambda n: (n.more is None, -n.per_hour))


def of(read: Sequence[Case], task: str) -> list[Need]:
    """What each undecided claim of a task needs, in their order."""
    pools: claims.Pools = {}
    out = []
    for place, claim in enumerate(claims.stated(task)):
        if "untestable" in claim:
            continue
        found = claims.sample(read, task, claim, pools)
        seen = claims.looks(found)
        if seen and seen[-1].word == "undecided":
            out.append(_need(read, task, claim, found, place))
    return out


def _need(read: Sequence[Case], task: str, claim: Mapping[str, Any], found: Sample, place: int) -> Need:
    rows = _rows(read, task, claim, found)
    n = min(len(found.values), found.most)
    more, power, reason = seeds_more(found, n)
    new = _next(rows, more or 0)
    told, missing = all(r.seconds is not None for r in rows), _missing(rows, new)
    return Need(
        task,
        claim["method"],
        claim["claim"],
        claim.get("form", ""),
        n,
        more,
        power,
        sum(r.seconds or 0.0 for r in rows) if told else None,
        sum(r.seconds or 0.0 for r, _ in missing) if told and more is not None else None,
        len(missing),
        reason,
        new,
        rows,
        found.card,
        place,
    )


def seeds_more(found: Sample, n: int) -> tuple[int | None, float, str]:
    """How many seeds decide a claim of n seeds with a chance of `POWER`, and that chance; else None, 0 and why.

    A claim has as many looks as `Sample.most` allows; how many seeds one look more would take beyond them is told, up to `FAR`.
    """
    values = list(found.values.values())[:n]
    mean = float(np.mean(values))
    deviation = pooling.difference(values, found.prior).deviation
    for later in range(n + 1, FAR + 1):
        chance = decided(found, mean, deviation, later)
        if chance >= POWER:
            if later <= found.most:
                return later - n, chance, ""
            return None, 0.0, f"not within {found.most} seeds: about {later} would"
    return None, 0.0, ON_THE_BOUND


def decided(found: Sample, mean: float, deviation: float, later: int) -> float:
    """The chance that the look at `later` seeds decides a claim whose mean, and one seed's deviation from it, are the truth.

    Over what the seeds' own variance may come out as, whose share in the interval's width is `pooling.moderated`'s.
    """
    from scipy import special

    assert found.least is not None
    own = later - 1
    variance = deviation**2 * special.gammaincinv(own / 2, CHANCES) * 2 / own
    drawn, freedom = (variance, own) if found.prior is None else pooling.moderated(variance, own, found.prior)
    half = -special.stdtrit(freedom, sequential.tail(found.first, later)) * np.sqrt(drawn / later)
    error = max(deviation / math.sqrt(later), 1e-12)
    # means that leave it undecided: from short of the bound to beyond it, without those whose interval lies within the margin
    low, high = found.least - half, found.least + half
    reach = -np.inf if found.margin is None else found.margin - half
    alike = reach >= 0
    first, last = np.where(alike, np.clip(-reach, low, high), high), np.where(alike, np.clip(reach, low, high), high)

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(special.ndtr((b - mean) / error) - special.ndtr((a - mean) / error))

    return 1 - float((between(low, first) + between(last, high)).mean())


def _rows(read: Sequence[Case], task: str, claim: Mapping[str, Any], found: Sample) -> list[Row]:
    """The row of a claim, and that of `versus` where it is another."""
    chosen, *_ = claims.chosen(read, task, claim)
    out: dict[tuple[str, ...], Row] = {}
    for which, runs in zip((w for w in ("row", "versus") if w in claim), chosen, strict=True):
        asked = claim[which]
        name, row = claims.name_of(task, asked), (asked.get("target", ""), asked["method"], asked.get("variant", ""))
        every = [(c, r) for c in read if c.name == name for r in c.runs if (r.target, r.method, r.variant) == row]
        seconds = [s for case, r in every if r.status == "ok" and (s := case.of(r, "train_seconds")) is not None]
        here = [r for _, r in every if not found.stage or claims.card_of(r, found.stage) == found.card]
        made = Row(
            task,
            name.tier,
            name.division,
            name.case,
            *row,
            asked.get("device", ""),
            float(np.median(seconds)) if seconds else None,
            frozenset(r.seed for _, r in runs),
            frozenset(r.seed for r in here),
        )
        out.setdefault((name.case, *row, made.device), made)
    return list(out.values())


def _next(rows: Sequence[Row], more: int) -> list[int]:
    """The seeds to make: those above all that both rows have, so that what was looked at stays the first, and none tried in vain."""
    found: list[int] = []
    seed = max(frozenset.intersection(*(r.settled for r in rows)), default=-1) + 1
    while len(found) < more:
        if not any(seed in r.tried - r.settled for r in rows):
            found.append(seed)
        seed += 1
    return found


def _missing(rows: Sequence[Row], seeds: Sequence[int]) -> list[tuple[Row, int]]:
    """The runs that these seeds still lack."""
    return [(r, seed) for seed in seeds for r in rows if seed not in r.settled]


def seconds_of(found: Sequence[Need]) -> float:
    """Of the solves that all these claims lack; a run that several ask for counts once."""
    runs = {
        (r.task, r.tier, r.division, r.case, r.target, r.method, r.variant, seed): r.seconds or 0.0
        for n in found
        for r, seed in _missing(n.rows, n.next)
    }
    return sum(runs.values())


def render(found: Sequence[Need]) -> Group:
    """The plan for a terminal, a claim below the other."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=16)
    grid.add_column()
    for n in found:
        head = Text(f"{n.more} seeds more", style="green") if n.more is not None else Text("no seeds", style="yellow")
        said = Text.assemble(
            (f"{n.task} ", "bold"), (n.method, "cyan"), f" {n.claim}\n", (f"here: {n.form}\n" if n.form else "", "dim")
        )
        said.append(f"{words(n)}\n")
        grid.add_row(head, said)
    able = [n for n in found if n.more is not None]
    told = f"{len(found)} undecided; {len(able)} would be decided with a chance of {POWER:.0%} or more"
    if able:
        told += f", in {length(seconds_of(able))} of solving, and weighing on top: `weighin run --claims --budget 6h` makes them, most decisive per hour first"
    return Group(Padding(grid, (0, 0, 0, 2)), Text(told))


def words(n: Need) -> str:
    """What a claim needs, in a line."""
    if n.more is None:
        return n.reason
    each = "nobody knows how long" if n.seconds_per_seed is None else f"{length(n.seconds_per_seed)} of solving a seed"
    whole = "" if n.seconds is None else f", {length(n.seconds)} for the {n.runs} runs that are not there"
    card = f", on {n.card[:8]} alone" if n.card else ""
    return f"{n.seeds} + {n.more} seeds decide it with a chance of {n.power:.0%}: {each}{whole}{card}"


def length(seconds: float) -> str:
    """A time that a person reads."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
