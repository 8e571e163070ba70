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


def self_test(trials: int = 20, cap_seconds: float = 6.0, threads: int | None = None) -> SelfTest:
    """Compare a small convolutional network with its twin `trials` times by each way, interleaved.

    Args:
        cap_seconds: most seconds of one comparison our way.
        threads: torch's threads; all processors where None.
    """
    environment.prepare_process(threads, tune=True)
    found: dict[str, list[_Trial]] = {OURS: [], BACK_TO_BACK: [], AUTORANGE: []}
    for _ in range(trials):
        one, two = _network(), _network()
        found[OURS].append(_abba(one, two, cap_seconds))
        found[BACK_TO_BACK].append(_one_after_the_other(_back_to_back, one, two))
        found[AUTORANGE].append(_one_after_the_other(_autorange, one, two))
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
    return SelfTest(trials, ways, max(*ways[0].errors, math.expm1(half)) if math.isfinite(half) else None)


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
    return float(timer.blocked_autorange(min_run_time=0.5).median)
