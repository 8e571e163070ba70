"""Encoded streams of these tests stay out of the user's cache."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def _streams(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("streams"))


@pytest.fixture(autouse=True)
def _cache(_streams: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHIN_CACHE", _streams)
