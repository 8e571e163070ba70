"""One whole run of the smoke tier, shared by the tests that need a bundle of a real run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite import runner, system, versions
from suite.conform import WAITING
from suite.forkserver import ForkServer
from suite.order import Order
from tests.helpers import spec

CARD = system.card("cpu")


def silent(stage: str, event: object) -> None:
    return None


def settings(tmp_path: Path, **changes: object) -> runner.Settings:
    return runner.Settings(tmp_path / "results", tmp_path / "work", **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, runner.Settings, Order]:
    """Solved, examined, weighed: the bundle's folder, how it was run, what was ordered.

    One for all workers of a session: the one that comes second finds it done.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "whole"
    folder.mkdir(exist_ok=True)
    chosen = settings(folder)
    order = runner.make_order(spec(), "uniform_scratch", [])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = runner.run(order, chosen, CARD, silent)
    assert outcome.status == "ok", outcome.reason
    return outcome.path, chosen, order


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Forks stages of image_pruning: for tests of what a stage does, not of how its interpreter begins."""
    with ForkServer("image_pruning", WAITING) as found:
        yield found


@pytest.fixture
def own_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests that change what versions there are: what follows outlives them neither in memory nor in the kept list."""

    def forget() -> None:
        for cached in (versions.table, versions.of_task, versions.of_method):
            getattr(cached, "cache_clear", lambda: None)()  # a test may have put a plain function in its place

    monkeypatch.setenv("WEIGHIN_CACHE", str(tmp_path / "cache"))
    forget()
    yield
    monkeypatch.undo()
    forget()
