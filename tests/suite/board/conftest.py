"""One published demo board for all tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from suite.board import store
from tests import demo

if TYPE_CHECKING:
    import duckdb


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles with all that a board must show; read only."""
    return demo.board(tmp_path_factory.mktemp("demo") / "results")


@pytest.fixture(scope="session")
def published(results: Path) -> Path:
    db = results.parent / "weighin.duckdb"
    store.publish(results, db)
    return db


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of a task that shows curves, charts and pictures; read only."""
    root = tmp_path_factory.mktemp("video") / "results"
    demo.video(root)
    return demo.video(root, ("awdnn", "stdo"), case="bigbuckbunny/x2-per_model", seeds=1)


@pytest.fixture(scope="session")
def filmed(video: Path) -> Path:
    db = video.parent / "weighin.duckdb"
    store.publish(video, db)
    return db


@pytest.fixture
def connection(published: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with store.connect(published) as db:
        yield db
