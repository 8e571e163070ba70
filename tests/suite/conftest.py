"""One whole run of the smoke tier, shared by the tests that need a bundle of a real run."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import runner, system
from suite.order import Order
from tests.helpers import spec

CARD = system.card("cpu")


def silent(stage: str, event: object) -> None:
    return None


def settings(tmp_path: Path, **changes: object) -> runner.Settings:
    return runner.Settings(tmp_path / "results", tmp_path / "work", **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, runner.Settings, Order]:
    """Solved, examined, weighed: the bundle's folder, how it was run, what was ordered."""
    folder = tmp_path_factory.mktemp("whole")
    chosen = settings(folder)
    order = runner.make_order(spec(), "uniform_scratch", [])
    outcome = runner.run(order, chosen, CARD, silent)
    assert outcome.status == "ok", outcome.reason
    return outcome.path, chosen, order
