"""Small files are whole whoever writes them, and however many at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suite import files


def test_two_writers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, inside = tmp_path / "card.json", [False]
    sync = os.fsync

    def meanwhile(descriptor: int) -> None:
        sync(descriptor)
        if not inside[0]:
            inside[0] = True
            files.write_json(path, {"by": "the second"})

    monkeypatch.setattr(os, "fsync", meanwhile)
    files.write_json(path, {"by": "the first"})
    assert files.read_json(path) == {"by": "the first"}, "the one that ends last"
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    files.write_json(tmp_path / "card.json", {"by": "before"})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "card.json", {"value": float("nan")})
    assert files.read_json(tmp_path / "card.json") == {"by": "before"}
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
