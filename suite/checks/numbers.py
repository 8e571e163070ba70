"""Numbers: those that can be derived must be equal, those that were metered must be possible.

Figures of source `meter` (memory, energy, operations, seconds, examples) are only held to bounds and to
sums across each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from suite import bundle
from suite.checks.findings import AGAIN, Finding, Refused
from suite.meters import timing
from suite.protocol import Measure, Task, Tier

CLOSE = 1e-9  #: relative
ROUNDED = 1e-3  #: seconds to which points of a curve are rounded
FASTEST = 1e7  #: examples a second that no trainer reaches
MOST_KEPT = 1.5  #: kept.* beyond this is no share
MOST_BYTES = 2.0**46  #: 64 TiB: more memory than any machine here
MOST_WORKLOADS = 64
MOST_CORES = 8192  #: of one machine: what Linux counts up to
ENOUGH = 0.8  #: of the 50 ms that a block is to last
SHORTEST_SIDE = 0.5  #: of it, where the other side's blocks last long enough: of ours medians last 40 ms and more
SHORTEST_BLOCK, LONGEST_BLOCK = 1e-6, 3600.0  #: seconds
AMOUNTS = ("macs", "params", "nonzero", "examples")  #: metered, of any task, and never negative
UNITS = ("s", "B", "J", "W", "1/s", "x")  #: of what cannot be negative
TIMED = ("time", "throughput", "speedup", "parent_time")  #: what `timing.derive` alone may say


def same(where: str, record: bundle.RunRecord, derived: Sequence[Measure]) -> Iterator[Finding]:
    """Stored measures of source evidence and timing are exactly the derived ones: none changed, missing or surplus.

    Nor may a metered figure bear the name of a derived one.
    """
    told = {(m.name, m.part): m for m in record.measures if m.source != "meter"}
    found = {(m.name, m.part): m for m in derived}
    for name, part in sorted(told.keys() - found.keys()):
        yield _wrong(where, name, part, "cannot be derived from the files")
    for name, part in sorted(found.keys() - told.keys()):
        yield _wrong(where, name, part, "is missing")
    for name, part in sorted(told.keys() & found.keys()):
        mine, theirs = found[name, part], told[name, part]
        low, high = mine.interval or (None, None)
        if not equal(mine.value, theirs.value):
            yield _wrong(where, name, part, f"says {theirs.value:.9g}, the files give {mine.value:.9g}")
        elif not (equal(low, theirs.low) and equal(high, theirs.high)):
            yield _wrong(where, name, part, "its interval is not what the files give")
        elif (mine.unit, mine.direction, mine.source) != (theirs.unit, theirs.direction, theirs.source):
            yield _wrong(where, name, part, "its unit, direction or source is not what the files give")
        elif list(mine.warnings) != theirs.warnings:
            yield _wrong(where, name, part, "its warnings are not what the files give")
    names = {m.name for m in derived}
    for m in record.measures:
        if m.source == "meter" and m.name in names:
            yield _wrong(where, m.name, m.part, "says that a meter read it, but it is derived")


def reserved(where: str, record: bundle.RunRecord, ranked: str) -> Iterator[Finding]:
    """No measure stands twice, and what ranks is never a meter's word."""
    seen: set[tuple[str, str]] = set()
    for m in record.measures:
        if (m.name, m.part) in seen:
            yield _wrong(where, m.name, m.part, "stands twice")
        seen.add((m.name, m.part))
        if m.source == "meter" and m.name in (ranked, *TIMED):
            yield _wrong(where, m.name, m.part, "is derived from evidence or timing, never metered")


def equal(a: float | None, b: float | None) -> bool:
    """Equal to 1e-9, relative; None equals None alone, NaN nothing."""
    if a is None or b is None:
        return a is b
    return a == b or abs(a - b) <= CLOSE * max(abs(a), abs(b))


def possible(where: str, record: bundle.RunRecord, task: Task[Any, Any]) -> Iterator[Finding]:
    """What no honest number can be, and sums that must hold among metered figures: all tasks' and those that this one declares."""
    value = {(m.name, m.part): m.value for m in record.measures}
    halves = {name: quotient.split("/") for name, quotient in task.quotients.items()}
    amounts = {*AMOUNTS, *task.amounts, *task.within, *(n for names in halves.values() for n in names)}
    for m in record.measures:
        for told in _impossible(m, amounts):
            yield _wrong(where, m.name, m.part, told)
    layers = record.operations
    for name, total in (
        ("macs", sum(layer.macs for layer in layers)),
        ("params", float(sum(layer.params for layer in layers))),
        ("nonzero", float(sum(layer.nonzero for layer in layers))),
    ):
        if (name, "") in value and not equal(total, value[name, ""]):
            yield _wrong(where, name, "", f"says {value[name, '']:.9g}, its layers sum to {total:.9g}")
    for layer in layers:
        if layer.nonzero > layer.params:
            yield Finding(
                where,
                bundle.RUN,
                f"operations {layer.name}",
                "error",
                "has more non-zero parameters than parameters",
                AGAIN,
            )
    for small, large in (("nonzero", "params"), *task.within.items()):
        if value.get((small, ""), 0.0) > value.get((large, ""), np.inf) * (1 + CLOSE):
            yield _wrong(where, small, "", f"is more than {large}")
    for name, (over, under) in halves.items():
        if (over, "") in value and (under, "") in value:
            whole = value[under, ""]
            if whole <= 0 or not equal(value.get((name, "")), value[over, ""] / whole):
                yield _wrong(where, name, "", f"is not {over} over {under}")
    seconds, examples = value.get(("train_seconds", "")), value.get(("examples", ""))
    for m in record.measures:  # a task's own seconds are by the clock of the solve, whose whole this is
        if m.name.startswith("solve_") and m.unit != "B":  # and not memory
            if seconds is None:
                yield _wrong(where, "train_seconds", "", f"is missing, and {m.name} is a part of it")
            elif m.value > seconds * (1 + CLOSE):
                yield _wrong(where, m.name, m.part, f"{m.value:.9g} s is more than the {seconds:.9g} s of train_seconds")
    if seconds is not None and examples is not None and seconds < examples / FASTEST:
        yield _wrong(where, "train_seconds", "", f"{examples:g} examples in {seconds:g} s: no machine is so fast")
    if examples is not None and examples != round(examples):
        yield _wrong(where, "examples", "", f"{examples:g} is no whole number")
    yield from _curve(where, record, seconds)
    if examples is not None and any(p.examples > examples for p in record.curve):
        yield Finding(where, bundle.RUN, "curve", "error", "a point lies beyond the examples that the run saw", AGAIN)


def _curve(where: str, record: bundle.RunRecord, seconds: float | None) -> Iterator[Finding]:
    """Points of one name follow each other, and the training lasts beyond them."""
    last: dict[str, bundle.PointRecord] = {}
    for point in record.curve:
        before = last.get(point.name)
        if before and (point.seconds < before.seconds or point.examples < before.examples):
            yield Finding(where, bundle.RUN, "curve", "error", f"{point.name} goes back in time", AGAIN)
            break
        last[point.name] = point
    if seconds is not None and any(p.seconds > seconds + ROUNDED for p in record.curve):
        yield Finding(where, bundle.RUN, "curve", "error", f"a point lies beyond the {seconds:g} s of train_seconds", AGAIN)


def _impossible(m: bundle.MeasureRecord, amounts: Collection[str]) -> Iterator[str]:
    if m.unit == "%" and not 0 <= m.value <= 100:
        yield f"{m.value:g} % lies outside 0..100"
    if m.value < 0 and (m.unit in UNITS or (m.source == "meter" and m.name in amounts)):
        yield f"{m.value:g} {m.unit}".strip() + " is negative"
    if m.value <= 0 and (m.source == "timing" or m.name == "throughput"):
        yield f"{m.value:g} is no time or rate"
    slack = CLOSE * max(1.0, abs(m.value))
    if (m.low is None) != (m.high is None):
        yield "its interval has one end"
    elif m.low is not None and m.high is not None:
        if m.low > m.high + slack:
            yield "its interval ends before it begins"
        # what evidence gives is derived again with its interval; of resamples that can lie beyond the value
        if m.source != "evidence" and not m.low - slack <= m.value <= m.high + slack:
            yield "its interval does not hold its value"
    if m.unit == "B" and m.name.startswith(("memory_", "solve_")) and m.value > MOST_BYTES:
        yield f"{m.value:g} B is more memory than any machine has"
    if m.name.startswith("kept.") and not 0 < m.value <= MOST_KEPT:
        yield f"{m.value:g} is no share"


def marks(where: str, record: bundle.RunRecord, tier: Tier) -> Iterator[Finding]:
    """What is possible and worth a word: the cap may be raised by whoever runs."""
    seconds = record.measure("train_seconds")
    if seconds is not None and seconds.value > tier.cap_seconds:
        told = f"{seconds.value:.0f} s of training, over the tier's cap of {tier.cap_seconds:.0f} s"
        yield Finding(where, bundle.RUN, "measures train_seconds", "mark", told, "nothing to do: it is shown")


def derive_timing(record: bundle.RunRecord, table: Mapping[str, np.ndarray], jobs: Mapping[str, Sequence[str]]) -> list[Measure]:
    """Measures of ``timing.parquet``; raises Refused where no scale of ours can have written it.

    Bounds come first: `timing.derive` takes rows times workloads.
    """
    names, counts = np.unique(table["workload"].astype(str), return_counts=True)
    if len(names) > MOST_WORKLOADS or counts.max() > 4 * timing.LOOKS[-1]:
        raise Refused(bundle.TIMING, "blocks", f"{len(names)} workloads of up to {counts.max()} blocks: the scale stops before")
    if both := sorted(set(names) & set(record.unsupported)):
        raise Refused(bundle.TIMING, "workload", f"{both[0]} is timed, and said not to be supported")
    if float(table["busy"].max()) > MOST_CORES:
        raise Refused(bundle.TIMING, "busy", f"others used {float(table['busy'].max()):g} cores: no machine has so many")
    if table["throttled"].any() and not record.spec.device.startswith("cuda"):
        raise Refused(bundle.TIMING, "throttled", "a GPU held its clock back, and none computed")
    try:
        with np.errstate(all="ignore"):  # absurd seconds overflow: then the numbers differ, which is said
            return [*timing.derive(table), *timing.jobs(table, _calls(record), jobs, record.unsupported)]
    except (ValueError, ArithmeticError) as e:
        raise Refused(bundle.TIMING, "blocks", str(e)) from e


def _calls(record: bundle.RunRecord) -> dict[str, tuple[float, float]]:
    """How often candidate and parent call the workloads of jobs, as a bundle says."""
    return timing.calls_of((m.name, m.part, m.value) for m in record.measures if m.source == "meter")


def whole_jobs(
    where: str, record: bundle.RunRecord, table: Mapping[str, np.ndarray], derived: Sequence[Measure], task: Task[Any, Any]
) -> Iterator[Finding]:
    """A job is timed whole or not at all, and what was metered of it agrees with how often its workloads are called."""
    items = timing.items_of(table)
    known, told = {*items, *record.unsupported}, {m.part for m in record.measures if m.source == "timing"}
    timed = {m.part for m in derived}
    for job, beginnings in task.jobs.items():
        lacking = sorted(n for n in record.unsupported if n.startswith(tuple(beginnings)))
        if lacking and job in told:
            yield _untimed(
                where, f"{job} is told without {lacking[0]}, which is said not to be supported: then the job is not either"
            )
        elif not lacking and job not in timed:
            yield _untimed(where, f"{job} is not timed whole, and no workload of it is said not to be supported")
    calls, examples = _calls(record), record.measure("examples")
    spent = examples.value if examples else 0
    for name, (whose, beginning) in task.trained.items():
        stored = record.measure(name)
        if stored is None:
            yield _wrong(where, name, "", "is missing")
            continue
        # the speed division trains nothing, so that nothing is spent
        if whose == timing.CALLS[0] and record.spec.division != "speed" and stored.value > spent:
            yield _wrong(where, name, "", f"{stored.value:.9g} are more than the {spent:.9g} examples spent")
        if any(n.startswith(beginning) for n in record.unsupported):
            continue  # how many items it takes stands with its times alone
        mine = [n for n in items if n.startswith(beginning)]
        total = sum(items[n] * calls.get(n, (np.nan, np.nan))[timing.CALLS.index(whose)] for n in mine)
        if not equal(stored.value, total):
            yield _wrong(where, name, "", f"says {stored.value:.9g}, {whose} of {beginning}… times their items are {total:.9g}")
    for name, (other, beginning) in task.exceeding.items():
        more, less = record.measure(name), record.measure(other)
        timed_so = [n for n in items if n.startswith(beginning)]
        for workload in timed_so:
            if workload in calls and calls[workload][0] < 1:
                yield _wrong(where, timing.CALLS[0], workload, f"{calls[workload][0]:g}: what is timed as part of a job was called")
        if more is not None and less is not None and timed_so and (more.value <= less.value or equal(more.value, less.value)):
            yield _wrong(where, name, "", f"is no more than {other}, and {timed_so[0]} was run besides")
        if more is None or less is None or any(n.startswith(beginning) for n in known):
            continue
        if more.value > less.value and not equal(more.value, less.value):
            yield _wrong(where, name, "", f"is more than {other}, and there is no workload {beginning}… that it was spent on")


def block_lengths(where: str, table: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Blocks last 50 ms: shorter ones measure the scheduler.

    Calls are calibrated before, so single blocks, and those of a workload that was calibrated while others computed,
    may fall short in honest runs: that is marked.  A whole table may not, nor may a block take no time or hours,
    which trimmed means and medians would not show.
    """
    seconds, mend = table["seconds"], "time with weighin's own scale"
    if seconds.min() < SHORTEST_BLOCK or seconds.max() > LONGEST_BLOCK:
        told = f"a block of {seconds.min():.3g} s, one of {seconds.max():.3g} s"
        yield Finding(where, bundle.TIMING, "seconds", "error", told, mend)
    elif float(np.median(seconds)) < ENOUGH * timing.BLOCK_SECONDS:
        told = f"blocks are shorter than {1000 * timing.BLOCK_SECONDS:.0f} ms"
        yield Finding(where, bundle.TIMING, "seconds", "error", told, mend)
    else:
        for name in np.unique(table["workload"].astype(str)):
            mine = table["workload"] == name
            least, most = sorted(float(np.median(seconds[mine & (table["side"] == side)])) for side in timing.ORDER[:2])
            if least < SHORTEST_SIDE * timing.BLOCK_SECONDS and most >= ENOUGH * timing.BLOCK_SECONDS:
                told = f"{name}: blocks of {1000 * least:.3g} ms on one side, shorter than {1000 * timing.BLOCK_SECONDS:.0f} ms"
                yield Finding(where, bundle.TIMING, "seconds", "error", told, mend)
                continue
            middle = float(np.median(seconds[mine]))
            if middle < ENOUGH * timing.BLOCK_SECONDS:
                told = f"{name}: blocks of {1000 * middle:.3g} ms, shorter than {1000 * timing.BLOCK_SECONDS:.0f} ms"
                yield Finding(where, bundle.TIMING, "seconds", "mark", told, "weigh again on a quiet machine")


def _untimed(where: str, message: str) -> Finding:
    return Finding(where, bundle.TIMING, "workload", "error", message, AGAIN)


def _wrong(where: str, name: str, part: str, message: str) -> Finding:
    return Finding(where, bundle.RUN, f"measures {name} {part}".strip(), "error", message, AGAIN)
