"""Files and folders are whole whoever writes them, however many at once, and whatever became of those before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from suite import files


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing `path`; it ends its writing when its standard input closes."""
    code = (
        "import sys; from pathlib import Path; from suite.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as scratch:\n"
        "    scratch.write_text('theirs')\n"
        "    scratch.with_name(scratch.name + '.wal').write_text('log')\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.read()\n"
        "    scratch.with_name(scratch.name + '.wal').unlink()\n"
    )
    command = [sys.executable, "-P", "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


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
    assert inside[0], "the second wrote while the first did"
    assert files.read_json(path) == {"by": "the first"}, "the one that ends last"
    assert names(tmp_path) == ["card.json"]


def test_a_writer_in_another_process_is_let_finish(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with writer(path) as other:
        files.write_json(path, "ours")
        assert files.read_json(path) == "ours"
        assert len(names(tmp_path)) == 3, "what the other writes is left alone"
        other.communicate()
        assert other.returncode == 0
    assert path.read_text() == "theirs"
    assert names(tmp_path) == ["card.json"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    with writer(path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert len(names(tmp_path)) == 3
    assert path.read_text() == "old"
    files.write_json(tmp_path / "other.json", 1)
    assert len(names(tmp_path)) == 4, "only a writer of the same file removes it"
    (tmp_path / ".part-of-somebody").write_text("none of ours")
    with files.atomic(path) as scratch:
        scratch.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == [".part-of-somebody", "checkpoint.pt", "other.json"]


def test_a_killed_writers_folder_is_removed_too(tmp_path: Path) -> None:
    left = tmp_path / ".part-0123456789abcdef-player"
    left.mkdir()
    (left / "large.bin").write_bytes(bytes(10))
    with files.atomic(tmp_path / "player") as scratch:
        scratch.mkdir()
        (scratch / "player.json").write_text("{}")
        assert not (tmp_path / "player").exists()
    assert names(tmp_path) == ["player"]
    assert names(tmp_path / "player") == ["player.json"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    files.write_json(tmp_path / "card.json", {"by": "before"})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "card.json", {"value": float("nan")})
    assert files.read_json(tmp_path / "card.json") == {"by": "before"}
    assert names(tmp_path) == ["card.json"]


@pytest.mark.parametrize("when", ["in the middle", "at the end"])
def test_a_full_disk_leaves_the_old_file_and_no_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def write() -> None:
        with files.atomic(path) as scratch:
            scratch.write_text("ne")
            if when == "in the middle":
                full()

    path = tmp_path / "table"
    path.write_text("old")
    if when == "at the end":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table"]


def test_without_a_lock_files_are_written_and_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / ".part-0123456789abcdef-card.json").write_text("perhaps another machine's")
    files.write_json(tmp_path / "card.json", 1)
    assert names(tmp_path) == [".part-0123456789abcdef-card.json", "card.json"]
