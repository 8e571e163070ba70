"""Tests that train compute in the state that runs compute in."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# a test says what is right, never how fast: beside other work an example may take long
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """What a test left to flush, the next one has again: hypothesis draws denormal numbers."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture
def prepared() -> None:
    """Denormals flushed, one thread: threads that wait for each other crawl beside other work."""
    from suite.meters.environment import prepare_process

    prepare_process(threads=1)
