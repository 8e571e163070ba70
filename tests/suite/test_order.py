"""A stage's outcome lies in the work folder itself, whatever its workload is called."""

from __future__ import annotations

from pathlib import Path

from suite.order import outcome_file


def test_a_workload_with_a_slash_in_its_name(tmp_path: Path) -> None:
    file = outcome_file(tmp_path, "memory", "play/eager")
    assert file.parent == tmp_path
    assert file.stem.startswith("memory-")
    assert outcome_file(tmp_path, "solve") == tmp_path / "solve.json"
