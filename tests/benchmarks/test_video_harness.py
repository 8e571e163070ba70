"""What of a training of mobile_vsr, and of its player, is the network: nine tenths and more.

`pytest tests/benchmarks/test_video_harness.py --benchmark-enable -s` trains and plays at the small tier's sizes; without it the
same code runs at the smoke tier and nothing is judged.  The network is its forward pass, loss, backward pass and Adam's step; the
rest is the harness: patches taken from memory, books, learning rates, checkpoints; when playing, cut and paste.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from reference_impls.parts.overfitting import Overfitter, Pool, single
from suite.protocol import Spec
from tests.helpers import MemoryRun
from tests.tasks.mobile_vsr.helpers import TASK

ENOUGH = 0.9
STEPS = 150


@contextmanager
def clocked(monkeypatch: pytest.MonkeyPatch, places: list[tuple[Any, str]]) -> Iterator[list[float]]:
    """Seconds spent in some methods together, none of which may call another."""
    spent = [0.0]

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def outer(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*arguments, **named)
            finally:
                spent[0] += time.perf_counter() - began

        return outer

    with monkeypatch.context() as patch:
        for owner, name in places:
            patch.setattr(owner, name, around(getattr(owner, name)))
        yield spent


def problem(judged: bool) -> Any:
    tier, case = ("small", "bottle/x2") if judged else ("smoke", "bigbuckbunny/x2")
    spec = Spec("mobile_vsr", TASK.version, tier, "open", case, "", 0)
    return TASK.problem(spec, MemoryRun(spec))


def judge(benchmark: BenchmarkFixture, what: str, network: float, whole: float) -> None:
    share = network / whole
    benchmark.extra_info["network"] = round(share, 4)
    assert 0 < share <= 1
    if benchmark.enabled:
        print(f"\n{what}: {share:.1%} of {whole:.1f} s is the network")
        assert share >= ENOUGH


def test_training_is_the_network(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(benchmark.enabled)
    pool = Pool(*p.patches)
    model = p.network()

    def loss(network: nn.Module, _: Pool, index: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (network(x) - y).abs().mean()

    class Timed:
        call = staticmethod(loss)

    def train() -> None:
        Overfitter(p).fit("train", model, [pool], steps=STEPS if benchmark.enabled else 5, loss=lambda *a: Timed.call(*a))

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first one imports for seconds
    with clocked(monkeypatch, [(Timed, "call"), (torch.Tensor, "backward"), (torch.optim.Adam, "step")]) as spent:
        began = time.perf_counter()
        benchmark.pedantic(train, rounds=1, iterations=1)
        judge(benchmark, "training", spent[0], time.perf_counter() - began)


def test_playing_is_the_network(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem(benchmark.enabled)
    player = single(p, p.network()).player
    low = p.frames[0]
    network = type(player.models[0])

    def play() -> None:
        with torch.inference_mode():
            for t in range(len(low)):
                player.play(t, low[t])

    play()  # the first call of a shape chooses its kernels
    with clocked(monkeypatch, [(network, "forward")]) as spent:
        began = time.perf_counter()
        benchmark.pedantic(play, rounds=1, iterations=1)
        judge(benchmark, "playing", spent[0], time.perf_counter() - began)
