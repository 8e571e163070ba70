"""What a method's own bookkeeping (masks, scores, regrowth, sorting) costs, as a share of its solve: under a tenth.

`pytest tests/benchmarks/test_bookkeeping.py --benchmark-enable -s` runs every method of image_pruning at the small
tier's sizes, for a sixth of its epochs; without it the same code runs at the smoke tier and nothing is judged.
A pass over training images is training wherever it is made; evaluation is nobody's.  What is done once (scores before training, the
cut at the end) is judged beside a training of the tier's length, what is done in every step or epoch beside that step or epoch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from reference_impls.parts.training import Hooks, Trainer
from suite import registry
from suite.naming import UserError
from tests.helpers import problem

ENOUGH = 0.10
EPOCHS = 3


class Clocked(Hooks):
    """Hands every call on, and adds up how long it took without the evaluation in it."""

    def __init__(self, inner: Hooks, validating: list[float]) -> None:
        self.inner, self.validating, self.seconds = inner, validating, 0.0

    def _clock(self, name: str, *arguments: Any) -> Any:
        began, before = time.perf_counter(), self.validating[0]
        try:
            return getattr(self.inner, name)(*arguments)
        finally:
            self.seconds += time.perf_counter() - began - (self.validating[0] - before)

    def begin(self, optimizer: Any) -> None:
        self._clock("begin", optimizer)

    def before_epoch(self, epoch: int) -> None:
        self._clock("before_epoch", epoch)

    def after_backward(self) -> bool:
        return bool(self._clock("after_backward"))

    def after_step(self) -> None:
        self._clock("after_step")

    def state(self) -> dict[str, Any]:
        return self.inner.state()

    def restore(self, state: Any) -> None:
        self.inner.restore(state)


@pytest.mark.parametrize("name", sorted(registry.methods("image_pruning")))
def test_bookkeeping(name: str, benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = bool(benchmark.enabled)
    method = registry.configure(registry.load(registry.method("image_pruning", name)), [])
    training, hooked, validating, fitting = [0.0], [0.0], [0.0], [False]
    fit = Trainer.fit

    def clocked_fit(self: Trainer, *arguments: Any, hooks: Hooks | None = None, **named: Any) -> Any:
        clock = Clocked(hooks or Hooks(), validating)
        began, before = time.perf_counter(), validating[0]
        fitting[0] = True
        out = fit(self, *arguments, hooks=clock, **named)
        fitting[0] = False
        training[0] += time.perf_counter() - began - clock.seconds - (validating[0] - before)
        hooked[0] += clock.seconds
        return out

    longer = [1.0]
    monkeypatch.setattr(Trainer, "fit", clocked_fit)

    def solve(target: str, division: str) -> float:
        p = problem(tier="small" if judged else "smoke", target=target, division=division)
        if judged:
            longer[0] = p.epochs / EPOCHS
            p.epochs = EPOCHS
        validate = p.validate

        def clocked_validate(model: Any) -> float:
            began = time.perf_counter()
            try:
                return float(validate(model))
            finally:
                validating[0] += time.perf_counter() - began

        batches = p.batches

        def clocked_batches(epoch: int) -> Iterator[Any]:
            began = time.perf_counter()
            yield from batches(epoch)
            if not fitting[0]:
                training[0] += time.perf_counter() - began

        p.validate, p.batches = clocked_validate, clocked_batches
        training[0] = hooked[0] = validating[0] = 0.0
        began = time.perf_counter()
        method.solve(p)
        return time.perf_counter() - began - validating[0]  # evaluation is off the clock for everyone

    def whole() -> float:
        for way in (("macs=0.5", "closed"), ("nonzero=0.2", "closed")):
            with contextlib.suppress(UserError):  # it removes weights, not channels, or takes two trainings
                return solve(*way)
        return solve("macs=0.5", "open")

    seconds = benchmark.pedantic(whole, rounds=1, iterations=1)
    once = seconds - training[0] - hooked[0]
    share = (once + hooked[0] * longer[0]) / (once + (hooked[0] + training[0]) * longer[0])
    benchmark.extra_info["bookkeeping"] = round(share, 4)
    assert 0 <= share <= 1
    if judged:
        each = f"{hooked[0] / EPOCHS:.2f} of {(hooked[0] + training[0]) / EPOCHS:.1f} s an epoch"
        print(f"\n{name:18} bookkeeping {share:.1%}: {once:.1f} s once, {each}")
        assert share < ENOUGH
