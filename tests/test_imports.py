"""The import contracts of pyproject.toml hold, and see a cycle wherever it hides."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from suite.registry import HOUSE

LINT = "import sys; from importlinter.cli import lint_imports_command; sys.argv = ['lint', '--no-cache']; lint_imports_command()"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources alone, and their contracts."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("suite", "tasks", "reference_impls"):
        for file in (HOUSE / package).rglob("*.py"):
            (folder / file.relative_to(HOUSE)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file.relative_to(HOUSE))
    shutil.copyfile(HOUSE / "pyproject.toml", folder / "pyproject.toml")
    return folder


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-P", "-c", LINT], cwd=tree, env=environment, capture_output=True, text=True)


def test_all_contracts_are_kept(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("tasks/graph_tickets/problem.py", "tasks.graph_tickets.task"),
        ("tasks/mobile_vsr/phone.py", "tasks.mobile_vsr.task"),
        ("suite/board/statistics.py", "suite.board.pages"),
        ("reference_impls/parts/sparse.py", "reference_impls.image_pruning.set"),
    ],
)
def test_a_cycle_is_seen_though_it_hides_in_a_function(tree: Path, file: str, imported: str) -> None:
    path = tree / file
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n\ndef hidden() -> None:\n    import {imported}\n", encoding="utf-8")
    try:
        done = lint(tree)
    finally:
        path.write_text(before, encoding="utf-8")
    assert done.returncode == 1
    assert "no import cycles, deferred imports included BROKEN" in " ".join(done.stdout.split())
