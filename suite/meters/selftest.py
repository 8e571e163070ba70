"""What can this machine tell apart?  A/A trials: a network against itself, three ways in the same run."""

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

WARM, TIMED = 10, 50  #: passes of the back-to-back way


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
    resolution: float  #: relative


def self_test(trials: int = 20, cap_seconds: float = 6.0) -> SelfTest:
    """Compare a small convolutional network with itself `trials` times by each way, interleaved."""
    environment.prepare_process()
    call = _network()
    errors: dict[str, list[float]] = {"weighin, A B B A": [], "back to back (mean)": [], "blocked autorange (median)": []}
    spent = dict.fromkeys(errors, 0.0)
    covered, halves = 0, []
    for _ in range(trials):
        began = time.perf_counter()
        middle, half = timing.ratio(timing.quad_ratios(timing.to_table(timing.compare(call, call, cap_seconds=cap_seconds))))
        spent["weighin, A B B A"] += time.perf_counter() - began
        errors["weighin, A B B A"].append(abs(math.expm1(middle)))
        covered += abs(middle) <= half
        halves.append(half)
        for name, way in (("back to back (mean)", _back_to_back), ("blocked autorange (median)", _autorange)):
            began = time.perf_counter()
            errors[name].append(abs(way(call) / way(call) - 1))
            spent[name] += time.perf_counter() - began
    ways = tuple(
        Way(name, tuple(found), spent[name] / trials, covered if name.startswith("weighin") else None)
        for name, found in errors.items()
    )
    return SelfTest(trials, ways, max(max(ways[0].errors), statistics.median(halves)))


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
        title="the same network against itself",
        title_justify="left",
    )
    for way in result.ways:
        held = "–" if way.covered is None else f"{way.covered} of {result.trials}"
        table.add_row(way.name, f"{way.median:.2%}", f"{max(way.errors):.2%}", held, f"{way.seconds:.1f}")
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
