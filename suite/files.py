"""Files and folders, written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or to make a folder at, which takes its place at the end of the block.

    Until then the old file stands, and it stands if the block raises; of several writers at once the last one's stands.
    Scratch names never repeat, so that no writer meets another's.  What a killed writer left is removed by the next one: while
    it writes, a writer shares a lock on the folder, which the system lets go with its process; whoever has it alone knows that
    all scratch there is left over.  Where a file system has no such lock, nothing is removed.  Raises OSError.
    """
    name = re.escape(path.name)
    scratch = path.with_name(f".part-{secrets.token_hex(8)}-{path.name}")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _remove(path.parent, rf"\.part-[0-9a-f]{{16}}-{name}")
        _lock(folder, fcntl.LOCK_SH)
        try:
            yield scratch
            for written in scratch.rglob("*") if scratch.is_dir() else (scratch,):
                if not written.is_dir():
                    _synchronize(written)
            scratch.replace(path)
        except BaseException:
            _remove(path.parent, re.escape(scratch.name))
            raise
    finally:
        os.close(folder)


def _lock(folder: int, how: int) -> bool:
    try:
        fcntl.flock(folder, how)
    except OSError:  # another has it, or this file system has none
        return False
    return True


def _remove(folder: Path, name: str) -> None:
    """Scratch of a name (a pattern), and what begins with it: DuckDB's log has a suffix more."""
    for left in folder.iterdir():
        if re.match(name, left.name):
            with contextlib.suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _synchronize(file: Path) -> None:
    with file.open("rb") as f:
        os.fsync(f.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    with atomic(path) as scratch, scratch.open("w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, sort_keys=True, allow_nan=False)


def read_json(path: Path) -> Any:
    """JSON, or None where the file is not there yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
