"""Tests compute in the state that runs compute in."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _prepared() -> None:
    from suite.meters.environment import prepare_process

    prepare_process(threads=1)  # tests run beside other work: threads that wait for each other crawl then
