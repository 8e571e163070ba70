"""The machine under the trainers: what is finished is not done again, what is under way goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from reference_impls.parts.stages import Stage, Stages
from suite.protocol import Diverged, Stopped
from tests.helpers import MemoryRun, spec


class Sum(Stage):
    """Adds up its epochs; a checkpoint is due after every second."""

    made = 0

    def __init__(self, run: MemoryRun, *, bad: float = 0.0, last: int | None = None) -> None:
        Sum.made += 1
        self.run, self.bad, self.last = run, bad, last
        self.total, self.seen, self.begun_with = 0, -1, -1

    def begin(self) -> None:
        self.begun_with = self.total

    def step(self, epoch: int) -> float | None:
        self.run.spend(1)
        self.total += epoch
        self.seen = epoch
        return self.bad

    def after(self, epoch: int, loss: float | None) -> bool:
        return epoch % 2 == 1

    def done(self) -> bool:
        return self.seen == self.last

    def state(self) -> dict[str, Any]:
        return {"total": self.total}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.total = state["total"]

    def outcome(self) -> dict[str, Any]:
        return {"total": self.total, "began with": self.begun_with}


def test_a_stage_runs_its_epochs_or_until_it_is_done() -> None:
    run = MemoryRun(spec())
    stages = Stages(run)
    assert stages.run("a", lambda: Sum(run), 5)["total"] == 10
    assert stages.run("b", lambda: Sum(run, last=2), 5)["total"] == 3
    assert stages.run("c", lambda: Sum(run, last=4))["total"] == 10
    assert stages.run("none", lambda: Sum(run), 0)["total"] == 0


def test_a_finished_stage_is_not_made_again() -> None:
    run = MemoryRun(spec())
    first = Stages(run).run("a", lambda: Sum(run), 4)
    made = Sum.made
    again = Stages(MemoryRun(spec(), saved=run.saved))
    assert again.finished("a") == first
    assert again.run("a", lambda: Sum(run), 4) == first
    assert again.finished("b") is None
    assert Sum.made == made


@pytest.mark.parametrize("moment", range(9))
def test_a_stopped_stage_goes_on_at_its_last_checkpoint(moment: int) -> None:
    def solve(run: MemoryRun) -> list[int]:
        stages = Stages(run)
        return [stages.run(name, lambda: Sum(run), 4)["total"] for name in "ab"]

    run = MemoryRun(spec(), stop_after=moment)
    if moment < 8:
        with pytest.raises(Stopped):
            solve(run)
    else:
        solve(run)
    again = MemoryRun(spec(), saved=run.saved)
    assert solve(again) == [6, 6]
    assert again.examples == 8
    # of each stage a checkpoint after its second epoch, and one at its end
    assert again.batches == 8 - moment // 2 * 2


def test_a_stage_begins_after_its_state_is_restored() -> None:
    run = MemoryRun(spec(), stop_after=3)
    with pytest.raises(Stopped):
        Stages(run).run("a", lambda: Sum(run), 6)
    again = MemoryRun(spec(), saved=run.saved)
    assert Stages(again).run("a", lambda: Sum(again), 6)["began with"] == 1


def test_stages_of_one_name_are_told_apart_by_a_prefix_and_share_the_checkpoint() -> None:
    run = MemoryRun(spec())
    stages = Stages(run)
    there = stages.on("source")
    there.on("of the source").run("a", lambda: Sum(run), 2)
    there.run("a", lambda: Sum(run), 3)
    assert stages.finished("a") is None
    stages.run("a", lambda: Sum(run), 5)
    again = Stages(MemoryRun(spec(), saved=run.saved))
    found = [s.finished("a") for s in (again, again.on("source"), again.on("source").on("of the source"))]
    assert [f and f["total"] for f in found] == [10, 3, 1]
    assert set(again._checkpoint["finished"]) == {"a", "source a", "source of the source a"}


def test_a_loss_that_is_not_finite_names_epoch_and_stage() -> None:
    run = MemoryRun(spec())
    with pytest.raises(Diverged, match="the training loss is inf in epoch 0 of stage 'source a'"):
        Stages(run).on("source").run("a", lambda: Sum(run, bad=math.inf), 5)
