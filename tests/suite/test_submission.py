"""Pull requests of results: they add plain files under results/, and nothing of theirs is run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from suite import registry, submission

WHO = {f"GIT_{who}_{what}": told for who in ("AUTHOR", "COMMITTER") for what, told in (("NAME", "A"), ("EMAIL", "a@example.org"))}


def git(clone: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(clone), *words], capture_output=True, text=True, check=True, env={**os.environ, **WHO})
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, str]:
    """A repository with a result and some code, and its head."""
    git(tmp_path, "init", "-q")
    for name in ("results/t/run.json", "suite/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "base")
    return tmp_path, git(tmp_path, "rev-parse", "HEAD")


def submit(clone: Path, change: Callable[[Path], object]) -> None:
    change(clone)
    git(clone, "add", "-A", "-f")
    git(clone, "commit", "-qm", "submission")


def write(clone: Path, name: str, text: str = "{}\n") -> Path:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    (clone / name).write_text(text)
    return clone / name


def linked(clone: Path) -> None:
    (clone / "results" / "link.json").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: write(c, "results/t/new.json"), ""),
        (lambda c: write(c, "suite/b.py"), ""),  # code alone is reviewed as code
        (lambda c: (write(c, "results/t/new.json"), write(c, "suite/b.py")), "changes nothing else"),
        (lambda c: (write(c, "results/t/new.json"), write(c, ".github/workflows/x.yml")), "changes nothing else"),
        (lambda c: (write(c, "results/t/new.json"), write(c, "venv.py")), "changes nothing else"),
        (lambda c: write(c, "results/t/run.json", "changed"), "is changed"),
        (lambda c: (c / "results/t/run.json").unlink(), "is removed"),
        (lambda c: (c / "results/t/run.json").rename(c / "results/t/moved.json"), "is removed"),
        (linked, "mode 120000"),
        (lambda c: write(c, "results/t/new.sh").chmod(0o755), "mode 100755"),
        (lambda c: write(c, "results/.hidden/x"), "is hidden"),
        (lambda c: write(c, "results/t/.run.json"), "is hidden"),
        (lambda c: write(c, "results/a\x1b[2Jb\nc", "x"), ""),
    ],
)
def test_a_submission_only_adds_results(clone: tuple[Path, str], change: Callable[[Path], object], said: str) -> None:
    path, base = clone
    submit(path, change)
    lines = list(submission.refused(submission.changes(path, base)))
    assert bool(lines) == bool(said), lines
    assert not said or any(said in line for line in lines), lines
    assert all(line.isprintable() for line in lines)
    assert submission.main([str(path), base]) == (1 if said else 0)


def test_names_are_told_without_what_a_terminal_obeys(clone: tuple[Path, str]) -> None:
    path, base = clone
    submit(path, lambda c: (write(c, "results/new"), write(c, "a\x1b[2Jb\nc")))
    (line,) = submission.refused(submission.changes(path, base))
    assert line.isprintable()


def test_nothing_of_the_clone_is_run(clone: tuple[Path, str]) -> None:
    """Hooks, drivers of differences and modules beside the submission, in the very form of the step."""
    path, base = clone
    mark = path.parent / "ran"
    script = write(path, "evil.sh", f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    write(path, ".gitattributes", "* diff=evil\n")
    git(path, "config", "diff.evil.textconv", str(script))
    git(path, "config", "diff.evil.command", str(script))
    git(path, "config", "diff.external", str(script))
    git(path, "config", "core.fsmonitor", str(script))
    for name in ("suite/__init__.py", "subprocess.py", "venv.py", "pathlib.py"):
        write(path, name, f"open({str(mark)!r}, 'w')\n")
    submit(path, lambda c: write(c, "results/new.json"))
    mark.unlink(missing_ok=True)  # our own git, which made the commit, may look
    words = [sys.executable, "-I", "-m", "suite.submission", str(path), base]
    done = subprocess.run(words, cwd=registry.HOUSE, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert not mark.exists()


def test_the_workflow_runs_the_bases_code_outside_the_submission() -> None:
    text = (registry.HOUSE / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["jobs"]["submission"]
    runs = [s for s in job["steps"] if "run" in s]
    assert all(s["working-directory"] == "base" for s in runs)
    for s in runs:
        for line in s["run"].splitlines():
            if "python" in line and not line.strip().startswith("#"):
                assert " -I " in line, line
    assert "--against results" in runs[-1]["run"]
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
