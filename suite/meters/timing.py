"""Drift-proof timing: candidate A and parent B in blocks, interleaved A B B A, until the ratio is known.

A machine's speed wanders (clocks, neighbours, heat).  Within one quad A B B A a linear drift cancels,
so each quad gives one log ratio, and the ratio's interval comes from how quads differ.  Blocks last at
least 50 ms: shorter ones measure the scheduler.  `compare` measures, `derive` is pure: the checker
calls it again on the stored blocks.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from suite import nvml
from suite.meters.environment import BUSY, Ledger
from suite.protocol import Measure, Table

BLOCK_SECONDS = 0.05
PRECISION = 0.01  #: half width of the 95 % interval at which a comparison ends
CAP_SECONDS = 12.0
SMOKE_SECONDS = 2.0  #: the cap in the smoke tier: its rows show that all is wired, no board ranks them
ENOUGH = 5  #: quads that give an interval: slow calls get so many beyond the cap, up to `LONGEST` times the cap
LONGEST = 10
LEAST_SHARE = 0.25  #: of the cap, what a workload of a job gets at least
LOOKS = (10, 14, 20, 28, 40, 56, 80, 112, 160)  #: quads after which the interval is looked at
#: Looking several times and stopping when the interval happens to be narrow makes a plain 95 % interval cover less:
#: simulated A/A series (tests/suite/meters/test_timing.py) cover 95 % with this much more width.
LOOKING = 1.2
TRIM = 0.2
WARM_BLOCKS = 30  #: most blocks that a warm-up takes
WARM_SHARE = 0.2  #: of the cap, the most seconds that the warm-up of one side takes
_FILLED = 1.1  #: of a block's seconds, what its calls are to last
_LEAST_SECONDS = 1e-8  #: that a block is taken to last
COLUMNS = {
    "workload": "object",
    "side": "object",
    "quad": "int32",
    "index": "int32",
    "calls": "int32",
    "seconds": "float64",
    "items": "int32",
    "busy": "float32",
    "throttled": "bool",
}
#: measures that say how often the candidate and its parent call a workload in a whole job
CALLS = ("calls", "parent_calls")
ORDER: tuple[Literal["candidate", "parent"], ...] = ("candidate", "parent", "parent", "candidate")


@dataclass(frozen=True)
class Block:
    """Some calls timed in a row."""

    workload: str
    side: Literal["candidate", "parent"]
    quad: int
    index: int  #: order in time within the workload
    calls: int
    seconds: float
    items: int  #: that one call handles
    busy: float  #: cores that other processes used during the quad
    throttled: bool  #: a GPU held its clock back during the quad


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage is collected between quads, not within a block; what lives already is left out of it."""
    was = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was:
            gc.enable()


@_no_collection()
def compare(
    candidate: Callable[[], object],
    parent: Callable[[], object],
    *,
    workload: str = "",
    items: int = 1,
    device: str = "cpu",
    synchronize: Callable[[], None] | None = None,
    cap_seconds: float = CAP_SECONDS,
    block_seconds: float = BLOCK_SECONDS,
    precision: float = PRECISION,
) -> list[Block]:
    """Time two calls against each other; returns every block.

    Many arguments, of which all but the two calls have defaults that tests alone change.

    Args:
        candidate, parent: what is timed, already prepared.
        device: where both compute; a GPU's throttling is watched there.
        synchronize: waits for the device; called before each clock reading.
        cap_seconds: ends the comparison even if the interval is still wide (which `derive` then says); calls of seconds
            get more, so that there is an interval at all.
        precision: half width of the ratio's 95 % interval, relative, at which it ends.
    """
    sides = {"candidate": candidate, "parent": parent}
    wait = synchronize or _nothing
    calls = {name: _calibrate(call, wait, block_seconds, WARM_SHARE * cap_seconds) for name, call in sides.items()}
    blocks: list[Block] = []
    began = time.perf_counter()
    throttled = nvml.Throttle(device)
    for quad in range(LOOKS[-1]):
        gc.collect()
        ledger = Ledger()
        taken = [(side, _time(sides[side], calls[side], wait)) for side in ORDER]
        busy, slow = ledger.others(), throttled()
        for side, seconds in taken:
            blocks.append(Block(workload, side, quad, len(blocks), calls[side], seconds, items, busy, slow))
        used = dict(calls)
        for side, seconds in taken:  # a count found while others slowed us makes short blocks once they are gone
            if seconds < block_seconds:
                calls[side] = max(calls[side], int(_filling(block_seconds, used[side], seconds)))
        over = time.perf_counter() - began > cap_seconds * (1 if quad + 1 >= ENOUGH else LONGEST)
        if quad + 1 in LOOKS or over:
            _, half = ratio(quad_ratios(to_table(blocks)))
            if over or half <= math.log1p(precision):
                break
    return blocks


def of_jobs(workloads: Iterable[str], jobs: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the workloads that belong to jobs (`Task.jobs`: how the names of each one's begin), in their order."""
    beginnings = tuple(b for names in jobs.values() for b in names)
    return [name for name in workloads if name.startswith(beginnings)]


def caps(workloads: Collection[str], jobs: Mapping[str, Sequence[str]], cap_seconds: float) -> dict[str, float]:
    """The cap of each workload: those of jobs together get one comparison's, as it is the job that is told."""
    shared = of_jobs(workloads, jobs)
    share = max(1 / max(1, len(shared)), LEAST_SHARE)
    return dict.fromkeys(workloads, cap_seconds) | dict.fromkeys(shared, cap_seconds * share)


def to_table(blocks: Sequence[Block]) -> dict[str, np.ndarray]:
    """Blocks as columns: what timing.parquet holds."""
    return {name: np.array([getattr(b, name) for b in blocks], dtype=kind) for name, kind in COLUMNS.items()}


def part_of(table: Table, workload: str) -> dict[str, np.ndarray]:
    """The blocks of one workload."""
    mine = table["workload"] == workload
    return {k: v[mine] for k, v in table.items()}


def items_of(table: Table) -> dict[str, int]:
    """Of each workload, in their order, how many items a call handles."""
    return {str(n): int(i) for n, i in zip(table["workload"], table["items"], strict=True)}


def calls_of(told: Iterable[tuple[str, str, float]]) -> dict[str, tuple[float, float]]:
    """Of each workload how often candidate and parent call it, from measures' names, parts and values."""
    found = {(name, part): value for name, part, value in told if name in CALLS}
    return {part: (found[CALLS[0], part], found.get((CALLS[1], part), math.nan)) for name, part in found if name == CALLS[0]}


def quad_ratios(table: Table) -> np.ndarray:
    """Log of parent's over candidate's seconds per call, one a quad, in order."""
    per_call = table["seconds"] / table["calls"]
    quads = np.unique(table["quad"])
    parent = table["side"] == "parent"
    sums = [np.bincount(table["quad"][side], weights=per_call[side], minlength=quads[-1] + 1)[quads] for side in (parent, ~parent)]
    return np.asarray(np.log(sums[0] / sums[1]))


def ratio(logs: np.ndarray) -> tuple[float, float]:
    """Trimmed mean of log ratios and the half width of its 95 % interval.

    A fifth is trimmed at each end, since a neighbour's burst falls on single quads; the width is Tukey and
    McLaughlin's (1963, winsorised variance), stretched for correlation between following quads and for
    looking several times.
    """
    from scipy import special  # scipy.stats takes a second to import

    n = len(logs)
    cut = int(TRIM * n)
    ordered = np.sort(logs)
    middle = float(ordered[cut : n - cut].mean())
    freedom = n - 2 * cut - 1
    if freedom < 2:
        return middle, math.inf
    winsorised = np.clip(logs, ordered[cut], ordered[n - cut - 1])
    spread = float(winsorised.std(ddof=1)) / ((1 - 2 * cut / n) * math.sqrt(n))
    return middle, float(special.stdtrit(freedom, 0.975)) * spread * LOOKING * _correlation(winsorised)


def derive(table: Table) -> list[Measure]:
    """Measures of a timing table: time, throughput, speed-up and the parent's time of each workload.  Pure.

    Raises ValueError where the table is not one that `compare` can make.
    """
    measures: list[Measure] = []
    workloads = list(dict.fromkeys(str(w) for w in table["workload"]))
    for name in workloads:
        part = part_of(table, name)
        _validate(name, part)
        logs = quad_ratios(part)
        middle, half = ratio(logs)
        warnings = _warnings(part, half)
        speedup = (math.exp(middle - half), math.exp(middle + half)) if math.isfinite(half) else None
        per_call = part["seconds"] / part["calls"]
        ours, theirs = (per_call[part["side"] == side] for side in ("candidate", "parent"))
        seconds, (low, high) = _median(ours)
        items = int(part["items"][0])
        measures += [
            Measure("time", seconds, "s", "down", name, (low, high), "timing", warnings),
            Measure("throughput", items / seconds, "1/s", "up", name, (items / high, items / low), "timing", warnings),
            Measure("speedup", math.exp(middle), "x", "up", name, speedup, "timing", warnings),
            Measure("parent_time", *_named(_median(theirs), name)),
        ]
    return measures


def jobs(
    table: Table,
    calls: Mapping[str, tuple[float, float]],
    wanted: Mapping[str, Sequence[str]],
    unsupported: Collection[str] = (),
) -> list[Measure]:
    """Measures of whole jobs: `time`, `speedup` and `parent_time`, each job's name their part.  Pure.

    A job calls its workloads so often; the parent does the same job by calls of the one workload that all of these were timed
    against.  So a job's speed-up needs speed-ups alone, in which the machine's drift has cancelled: the parent's calls over the
    sum of calls / speed-up.  Its interval adds those of the workloads, weighed by their shares of the time.

    Args:
        table: as in `derive`.
        calls: of each workload how often the candidate and the parent call it in the whole job.
        wanted: of each job how the names of its workloads begin; one that not all workloads were timed of is left out.
        unsupported: workloads that could not be timed, whether or not `calls` tells of them.

    Raises ValueError where a workload of a job has no calls, or the parent has none in it at all.
    """
    per_call = table["seconds"] / table["calls"]
    names = list(dict.fromkeys(str(w) for w in table["workload"]))
    measures: list[Measure] = []
    for job, beginnings in wanted.items():
        of_job = [n for n in {*names, *calls, *unsupported} if n.startswith(tuple(beginnings))]
        mine = [n for n in names if n in of_job]
        if not mine or len(mine) < len(of_job):  # a part that could not be timed
            continue
        if missing := [n for n in mine if n not in calls or not all(math.isfinite(c) and c >= 0 for c in calls[n])]:
            raise ValueError(f"workload {missing[0]}: nothing says how often {job} calls it")
        whole = sum(calls[n][1] for n in mine)
        work, warnings = [], []
        for name in mine:
            part = part_of(table, name)
            middle, half = ratio(quad_ratios(part))
            work.append((calls[name][0] / math.exp(middle), half))
            warnings += [w for w in _warnings(part, half) if w not in warnings]
        total = sum(w for w, _ in work)
        if whole <= 0 or total <= 0:
            raise ValueError(f"{job} calls nothing")
        spread = math.sqrt(sum((w / total * half) ** 2 for w, half in work if w))
        of_parent = (table["side"] == "parent") & np.isin(table["workload"], mine)
        one, (low, high) = _median(per_call[of_parent])
        gain = whole / total
        interval = (gain * math.exp(-spread), gain * math.exp(spread)) if math.isfinite(spread) else None
        told = tuple(warnings)
        measures += [
            Measure("time", one * total, "s", "down", job, (low * total, high * total), "timing", told),
            Measure("speedup", gain, "x", "up", job, interval, "timing", told),
            Measure("parent_time", one * whole, "s", "", job, (low * whole, high * whole), "timing"),
        ]
    return measures


def _named(median: tuple[float, tuple[float, float]], name: str) -> tuple[Any, ...]:
    return median[0], "s", "", name, median[1], "timing"


def _median(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Median and its 95 % interval from order statistics: distribution-free, blocks that resemble each other counted less.

    With fewer than six values no two of them enclose the median with 95 %: the interval is then their range.
    """
    from scipy import special

    ordered = np.sort(values)
    n = len(ordered)
    effective = n / _correlation(values) ** 2
    # the normal approximation to the binomial rank takes an effective count that is no integer
    reach = float(special.ndtri(0.975)) * math.sqrt(effective) / 2 * (n / effective)
    low = max(0, math.floor(n / 2 - reach + 0.5) - 1)
    return float(np.median(ordered)), (float(ordered[low]), float(ordered[n - 1 - low]))


def _correlation(values: np.ndarray) -> float:
    """Stretch of the standard error when following quads resemble each other: sqrt((1 + r) / (1 - r)), never below 1."""
    n = len(values)
    if n < 8 or float(values.std()) == 0.0:
        return 1.0
    around = values - values.mean()
    r = float((around[1:] * around[:-1]).sum() / (around**2).sum()) + 1 / n + 0.5 / math.sqrt(n)
    # a few quads say little about r and what they say is low by about 1/n: half a standard error is added to that
    r = min(max(r, 0.0), 0.9)
    return math.sqrt((1 + r) / (1 - r))


def _warnings(part: Table, half: float) -> tuple[str, ...]:
    found = []
    if not math.isfinite(half):
        found.append("too few samples for an interval")
    elif half > math.log1p(PRECISION) * 1.0001:
        found.append(f"noisy: known to ±{100 * math.expm1(half):.1f} % only")
    if float(part["busy"].mean()) > BUSY:
        found.append(f"busy: other processes used {float(part['busy'].mean()):.1f} cores")
    if part["throttled"].any():
        found.append("throttled: the GPU held its clock back")
    return tuple(found)


def _validate(name: str, part: Table) -> None:
    n = len(part["quad"])
    if n == 0 or n % 4:
        raise ValueError(f"workload {name}: {n} blocks, not whole quads")
    if (
        list(part["side"]) != list(ORDER) * (n // 4)
        or (part["quad"] != np.arange(n) // 4).any()
        or (part["index"] != np.arange(n)).any()
    ):
        raise ValueError(f"workload {name}: blocks are not in the order candidate, parent, parent, candidate")
    if (
        not np.isfinite(part["seconds"]).all()
        or (part["seconds"] <= 0).any()
        or (part["calls"] < 1).any()
        or len(set(part["items"])) != 1
    ):
        raise ValueError(f"workload {name}: seconds and calls must be positive, items the same throughout")
    _calls_follow(name, part)
    if int(part["items"][0]) < 1 or not np.isfinite(part["busy"]).all() or (part["busy"] < 0).any():
        raise ValueError(f"workload {name}: items must be positive, and cores used by others no less than 0")


def _calls_follow(name: str, part: Table) -> None:
    """Raises ValueError where calls are not counted as `compare` does.

    Both blocks of a side in a quad share a count, which never falls, and rises only after a short block, to what would fill one.
    """
    calls, seconds = (part[column].reshape(-1, len(ORDER)) for column in ("calls", "seconds"))
    for side in sorted(set(ORDER)):
        mine = [i for i, s in enumerate(ORDER) if s == side]
        count, fastest = calls[:, mine[0]].astype(np.int64), seconds[:, mine].min(1)
        most = np.where(fastest < BLOCK_SECONDS, _filling(BLOCK_SECONDS, count, fastest), 0)
        if (
            (calls[:, mine] != count[:, None]).any()
            or (count[1:] < count[:-1]).any()
            or (count[1:] > np.maximum(most, count)[:-1]).any()
        ):
            raise ValueError(f"workload {name}: calls of the {side} are not counted as the scale counts them")


def _filling(block_seconds: float, calls: int | np.ndarray, seconds: float | np.ndarray) -> Any:
    """How many calls fill a block, of which so many take so many seconds; whole numbers."""
    return np.ceil(_FILLED * block_seconds * calls / np.maximum(seconds, _LEAST_SECONDS))


def _calibrate(call: Callable[[], object], wait: Callable[[], None], block_seconds: float, cap_seconds: float) -> int:
    """Warm up until two following blocks agree within 5 %, and find how many calls fill a block.

    The fastest pace seen decides: a count found while a neighbour slowed us would make short blocks later.
    """
    began = time.perf_counter()
    _time(call, 1, wait)  # compiles, allocates, fills caches
    calls, last, fastest = 1, math.inf, math.inf
    for _ in range(WARM_BLOCKS):
        pace = _time(call, calls, wait) / calls
        fastest = min(fastest, max(pace, _LEAST_SECONDS))
        if calls * fastest < block_seconds:
            calls = int(_filling(block_seconds, 1, fastest))
        elif abs(pace / last - 1) < 0.05 or time.perf_counter() - began > cap_seconds:
            break
        last = pace
    return calls


def _time(call: Callable[[], object], calls: int, wait: Callable[[], None]) -> float:
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    wait()
    return time.perf_counter() - began


def _nothing() -> None:
    return None
