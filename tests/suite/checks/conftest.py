"""A place where bundles are checked, furnished once a module."""

from __future__ import annotations

import pytest

from tests.suite.checks.forger import (
    House,
    furnished,
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(furnished(tmp_path_factory.mktemp("house")))
