"""These tests train."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _prepared(prepared: None) -> None:
    return None
