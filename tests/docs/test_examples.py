"""Each worked example of the documentation, followed to the letter in a clone: files are written, commands are run.

Real runs of the smallest kind, a minute or two a page: what a page shows is worth nothing if it does not go through.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from suite import bundle
from suite.registry import HOUSE
from tests.docs.examples import DOCS, blocks, worked
from tests.suite.test_submission import WHO, git

FOLDERS = ("suite", "tasks", "reference_impls", "site")
#: rows that stand on the board already
STANDING = ("image_pruning/small/dense", "image_pruning/small/l1_filters")
PATIENCE = 580  #: seconds for the commands of one block, on a machine that others use


@dataclass(frozen=True)
class Reader:
    """Somebody with a clone and an installation of it."""

    clone: Path
    environment: dict[str, str]

    def follow(self, page: str) -> str:
        """Do all that a page says; returns what was printed."""
        printed = ""
        for block in blocks(DOCS / page):
            if block.title:
                file = self.clone / block.title
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text, encoding="utf-8")
            elif block.followed:
                words = ["bash", "-euo", "pipefail", "-c", block.text]
                done = subprocess.run(words, cwd=self.clone, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
                printed += done.stdout + done.stderr
                assert done.returncode == 0, f"{page}:\n{block.text}\n{printed[-3000:]}"
        return printed


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's repository with the sources as they are here, and a small board."""
    root = tmp_path_factory.mktemp("origin")
    for name in FOLDERS:
        shutil.copytree(HOUSE / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CHANGELOG.md", ".gitignore"):
        shutil.copy(HOUSE / name, root)
    for kind in STANDING:
        for source in sorted((HOUSE / "results" / kind).iterdir())[:3]:
            shutil.copytree(source, root / "results" / kind / source.name)
            for card in bundle.read(source).systems.values():
                (root / "results" / "systems").mkdir(exist_ok=True)
                shutil.copy(HOUSE / "results" / "systems" / f"{card}.json", root / "results" / "systems")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "the project")
    return root


#: whole runs, minutes each: a continuous integration that must end in time follows the two others
LONG = pytest.mark.skipif(not os.environ.get("WEIGHIN_EXAMPLES"), reason="followed with WEIGHIN_EXAMPLES=1, or `make examples`")


@pytest.fixture
def reader(origin: Path, tmp_path: Path) -> Reader:
    git(tmp_path, "clone", "-q", str(origin), "clone")
    clone, commands = tmp_path / "clone", tmp_path / "bin"
    commands.mkdir()
    for name, words in (("python", "-P"), ("weighin", "-P -m suite.cli")):
        command = commands / name
        command.write_text(f'#!/bin/sh\nPYTHONPATH="{clone}" exec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WEIGHIN_", "GIT_")) and k != "PYTHONPATH"}
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return Reader(clone, {**kept, **WHO, "PATH": path, "COLUMNS": "200", "OMP_WAIT_POLICY": "passive"})


def test_all_five_examples_are_followed() -> None:
    assert set(worked()) == {"own-data.md", "own-machine.md", "own-method.md", "own-task.md", "submit.md"} == set(FOLLOWED)


def test_a_method_of_ones_own_passes_and_runs(reader: Reader) -> None:
    printed = reader.follow("own-method.md")
    assert "✗" not in printed
    (path,) = bundle.find(reader.clone / "try")
    record = bundle.read(path)
    assert record.status == "ok"
    assert record.method.name.startswith("at_birth@")


@LONG
def test_data_of_ones_own_are_trained_on(reader: Reader) -> None:
    reader.follow("own-data.md")
    found = {r.spec.task: r for r in map(bundle.read, bundle.find(reader.clone / "try"))}
    assert {task: (r.status, r.spec.case) for task, r in found.items()} == {
        "image_pruning": ("ok", "mine/resnet20"),
        "fair_pruning": ("ok", "people/mlp-32-16"),
    }
    assert found["fair_pruning"].measure("group_accuracy", "group 1") is not None


@LONG
def test_a_task_of_ones_own_gets_its_page(reader: Reader) -> None:
    printed = reader.follow("own-task.md")
    assert "2 bundles, 0 errors" in printed
    rows = {r.method.name: r for r in map(bundle.read, bundle.find(reader.clone / "try"))}
    assert set(rows) == {"all_pixels", "varied"}
    kept, accuracy = (rows["varied"].measure(name) for name in ("kept.pixels", "top1"))
    assert kept is not None
    assert kept.value == 0.25
    assert accuracy is not None
    assert accuracy.value > 80  # a quarter of the pixels tells a digit
    page = (reader.clone / "try-site" / "tasks" / "few_pixels-small.html").read_text(encoding="utf-8")
    for words in ("How few pixels tell a handwritten digit?", "varied", "keep a quarter of the pixels", "Worst class"):
        assert words in page, words


@LONG
def test_a_machine_of_ones_own_gets_its_page(reader: Reader) -> None:
    printed = reader.follow("own-machine.md")
    assert "this machine can tell apart" in printed
    (path,) = bundle.find(reader.clone / "mine")
    card = bundle.read(path).systems["weigh"]
    page = (reader.clone / "mine-site" / "systems" / f"{card}.html").read_text(encoding="utf-8")
    assert "processor" in page


def test_a_submission_is_rehearsed_and_leaves_nothing(reader: Reader) -> None:
    printed = reader.follow("submit.md")
    assert "1 bundles, 0 errors" in printed
    assert "smoke" in printed.partition("1 bundles, 0 errors")[2]  # what preview says of its place
    assert git(reader.clone, "branch", "--format=%(refname:short)") == "main"
    assert git(reader.clone, "status", "--porcelain") == ""


FOLLOWED = ("own-data.md", "own-machine.md", "own-method.md", "own-task.md", "submit.md")
