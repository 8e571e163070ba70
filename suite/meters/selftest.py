"""What can this machine tell apart?  A/A trials: a network against its twin, three ways in the same run.

The twins have equal weights and live at different places in memory, as candidate and parent do: what a
place costs or gains is part of what a machine cannot resolve.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from suite.meters import environment, timing

if TYPE_CHECKING:
    from rich.console import Group

WARM, TIMED = 50, 300  #: passes of the back-to-back way, Torch-Pruning's numbers (torch_pruning/utils/benchmark.py)
AUTORANGE_SECONDS = 0.5  #: least seconds of the blocked autorange's blocks together
SHORT_WARM = 10  #: passes that tell about how long one takes
TRIALS, LEAST = 20, 2
CAP = 6.0  #: seconds of one comparison our way, at most
QUICK, QUICK_CAP = 25.0, 1.5  #: seconds of a quick self-test, and of one of its comparisons; torch's import comes on top
OURS, BACK_TO_BACK, AUTORANGE = "weighin, A B B A", "back to back (mean)", "blocked autorange (median)"


@dataclass(frozen=True)
class Way:
    """One way to compare: relative errors of its A/A trials, and what a comparison costs."""

    name: str
    errors: tuple[float, ...]
    seconds: float
    covered: int | None = None  #: trials whose 95 % interval holds 1, where the way has intervals

    @property
    def median(self) -> float:
        return statistics.median(self.errors)


@dataclass(frozen=True)
class SelfTest:
    """The ways side by side, and the smallest difference that this machine shows."""

    trials: int
    ways: tuple[Way, ...]
    resolution: float | None  #: relative; None where the machine was too busy for an interval


def expected_seconds(trials: int = TRIALS, threads: int | None = None) -> float:
    """About the most that `self_test` takes here all three ways, from a few passes of its network."""
    environment.prepare_process(threads, tune=True)
    call = _network()
    for _ in range(SHORT_WARM):
        call()
    began = time.perf_counter()
    for _ in range(SHORT_WARM):
        call()
    each = (time.perf_counter() - began) / SHORT_WARM
    # the autorange looks for a number of passes before its half second, for either twin
    return trials * (CAP + 2 * (WARM + TIMED) * each + 2 * 2 * AUTORANGE_SECONDS)


def self_test(
    trials: int = TRIALS,
    cap_seconds: float = CAP,
    threads: int | None = None,
    *,
    most_seconds: float = math.inf,
    alone: bool = False,
    tell: Callable[[int], None] = lambda done: None,
) -> SelfTest:
    """Compare a small convolutional network with its twin up to `trials` times by each way, interleaved.

    Args:
        cap_seconds: most seconds of one comparison our way.
        threads: torch's threads; all processors where None.
        most_seconds: no trial begins that would not end within them if it took as long as the longest so far; two are
            made anyway.
        alone: our way only.
        tell: is told how many trials are done, after each.
    """
    environment.prepare_process(threads, tune=True)
    others = {} if alone else {BACK_TO_BACK: _back_to_back, AUTORANGE: _autorange}
    found: dict[str, list[_Trial]] = {name: [] for name in (OURS, *others)}
    start, longest = time.perf_counter(), 0.0
    for done in range(trials):
        began = time.perf_counter()
        if done >= LEAST and began - start + longest > most_seconds:
            break
        one, two = _network(), _network()
        found[OURS].append(_abba(one, two, cap_seconds))
        for name, way in others.items():
            found[name].append(_one_after_the_other(way, one, two))
        longest = max(longest, time.perf_counter() - began)
        tell(done + 1)
    ways = tuple(
        Way(
            name,
            tuple(abs(math.expm1(t.log_ratio)) for t in done),
            statistics.mean(t.seconds for t in done),
            sum(abs(t.log_ratio) <= t.half for t in done) if name == OURS else None,
        )
        for name, done in found.items()
    )
    half = statistics.median(t.half for t in found[OURS])
    return SelfTest(len(found[OURS]), ways, max(*ways[0].errors, math.expm1(half)) if math.isfinite(half) else None)


@dataclass(frozen=True)
class _Trial:
    log_ratio: float
    seconds: float
    half: float = math.nan


def _abba(one: Callable[[], object], two: Callable[[], object], cap_seconds: float) -> _Trial:
    began = time.perf_counter()
    blocks = timing.compare(one, two, cap_seconds=cap_seconds)
    seconds = time.perf_counter() - began
    log_ratio, half = timing.ratio(timing.quad_ratios(timing.to_table(blocks)))
    return _Trial(log_ratio, seconds, half)


def _one_after_the_other(
    way: Callable[[Callable[[], object]], float], one: Callable[[], object], two: Callable[[], object]
) -> _Trial:
    began = time.perf_counter()
    log_ratio = math.log(way(two) / way(one))
    return _Trial(log_ratio, time.perf_counter() - began)


def render(result: SelfTest) -> Group:
    """The self-test for a terminal."""
    from rich.console import Group
    from rich.table import Table

    table = Table(
        "way",
        "median error",
        "largest",
        "interval holds 1",
        "s each",
        title="a network against its twin",
        title_justify="left",
    )
    for way in result.ways:
        held = "–" if way.covered is None else f"{way.covered} of {result.trials}"
        table.add_row(way.name, f"{way.median:.2%}", f"{max(way.errors):.2%}", held, f"{way.seconds:.1f}")
    if result.resolution is None:
        return Group(table, "this machine is too busy to tell speeds apart: wait until others have finished, and test again")
    return Group(table, f"this machine can tell apart speeds that differ by {result.resolution:.1%} or more")


def _network() -> Callable[[], object]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    widths = (3, 16, 32, 64)
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(widths):
        layers += [nn.Conv2d(c_in, c_out, 3, 2, 1), nn.BatchNorm2d(c_out), nn.ReLU()]
    model = nn.Sequential(*layers).eval()
    x = torch.randn(16, 3, 64, 64)

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


def _back_to_back(call: Callable[[], object]) -> float:
    """Mean of one run of timed passes after a warm-up: the habit of model zoos and pruning libraries."""
    for _ in range(WARM):
        call()
    began = time.perf_counter()
    for _ in range(TIMED):
        call()
    return (time.perf_counter() - began) / TIMED


def _autorange(call: Callable[[], object]) -> float:
    """torch.utils.benchmark's own median over blocks."""
    import torch
    from torch.utils import benchmark

    timer: Any = benchmark.Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=AUTORANGE_SECONDS).median)
