"""Users' files: which of a folder count and in what order, by which names they are asked for, and what each of them is.

Files are looked at before any work begins, so that a broken one costs nothing but its message.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import sqlite3
import sys
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from suite.naming import UserError

#: what file systems, archivers and shells leave beside what people put there, such as small copies of pictures
LEFT_THERE = frozenset(
    ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found", "Thumbs.db", "desktop.ini")
)
MUCH = 64_000_000  #: bytes of files that are worth being remembered
LONGEST = 80  #: characters of a slug
SETTLED = 2.0  #: seconds after which a file that was changed again has another time of change
AT_ONCE = 500  #: files that the memory is asked for in one question
WAIT = 60.0  #: seconds for another process that writes to the memory

Looker = Callable[[Path], str]  #: says what a file is; raises ValueError with what is wrong with it


def visible(folder: Path, endings: Collection[str] = (), *, deep: bool = False) -> list[Path]:
    """Files of a folder in the order that people count them, 2 before 10.

    What begins with a dot is passed over, and what is `LEFT_THERE`, and all that lies below such a folder.

    Args:
        endings: in lower case, such as ``.png``; files may have them in any case; without any, all files.
        deep: those of the folders below it too.

    Raises UserError where a folder cannot be read.
    """
    found = [Path(at, name) for at, names in _walk(folder, deep=deep) for name in names]
    wanted = [p for p in found if not endings or p.suffix.lower() in endings]
    return sorted(wanted, key=lambda p: natural(p.relative_to(folder).as_posix()))


def below(folder: Path) -> list[str]:
    """Names of the folders in a folder that are not passed over, sorted by their characters."""
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and _counts(e.name))


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_THERE


def _walk(folder: Path, *, deep: bool) -> Iterator[tuple[str, list[str]]]:
    def unreadable(e: OSError) -> None:
        raise UserError(f"cannot read {e.filename}: {e.strerror}; make it readable, or take it away") from e

    own = folder.resolve()
    seen = {(s.st_dev, s.st_ino) for s in map(os.stat, own.parents)}  # links may lead back
    for at, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        place = os.stat(at)
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders[:] = [f for f in folders if deep and _counts(f)]
        yield at, [n for n in names if _counts(n)]


def natural(name: str) -> tuple[list[str | int], str]:
    """What sorts names as people count: numbers by their value."""
    return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"([0-9]+)", name))], name


def slug(name: str) -> str:
    """The name by which a case asks for a file of any name: its letters without marks, its digits, ``_`` for all else."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^A-Za-z0-9._+-]+", "_", plain).strip("_.")
    if kept and len(kept) <= LONGEST:
        return kept
    own = hashlib.sha256(unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{kept[: LONGEST - 9] or 'file'}-{own}"


def named(folder: Path, name: str, endings: Sequence[str]) -> Path | None:
    """The file of a folder that a case's name means: `name`, to which an ending in any case may come, else the one of this `slug`.

    Args:
        endings: in lower case.  ``""``: a folder.

    Raises UserError where several files are meant alike.
    """
    fits = _fits(folder, endings)
    for means in (
        lambda stem, full: stem == name,
        lambda stem, full: full == name,
        lambda stem, full: slug(stem) == name,
        lambda stem, full: slug(full) == name,
    ):
        found = sorted(path for _, stem, path in fits if means(stem, path.name))
        if len(found) > 1:
            raise UserError(f"{name!r} stands for several files: {', '.join(p.name for p in found[:3])}; rename one of them")
        if found:
            return found[0]
    return None


def like(folder: Path, name: str, endings: Sequence[str]) -> str:
    """What to add to the message that there is no file of this name: those that it may have meant; empty where there are none."""
    names = {slug(stem).casefold(): slug(stem) for _, stem, _ in _fits(folder, endings)}
    close = difflib.get_close_matches(slug(name).casefold(), names, n=3)
    return f"; there is {', '.join(names[c] for c in close)}" if close else ""


def not_shadowed(folder: str, name: str, endings: Sequence[str]) -> None:
    """Raises UserError where a folder of one's own holds a file under the name of a set that is shipped, which would be taken."""
    if folder and (own := named(Path(folder), name, endings)) is not None:
        raise UserError(
            f"{own} has the name of a set that is shipped with weighin: rename it, or leave --data and WEIGHIN_DATA out"
        )


def shipped(sets: Mapping[str, Path], name: str, folder: str, endings: Sequence[str] = (".npz",)) -> Path | None:
    """The file of a set that is shipped, None where none has this name; raises UserError as `not_shadowed`."""
    if name not in sets:
        return None
    not_shadowed(folder, name, endings)
    return sets[name]


def _fits(folder: Path, endings: Sequence[str]) -> list[tuple[str, str, Path]]:
    """Ending, name without it and path of the visible files of a folder that have one of these endings."""
    entries = [e for e in os.scandir(folder) if _counts(e.name)] if folder.is_dir() else []
    return [
        (ending, e.name[: len(e.name) - len(ending)], Path(e.path))
        for ending in endings
        for e in entries
        if e.is_dir() == (not ending) and e.name.lower().endswith(ending)
    ]


@dataclass(frozen=True)
class Look:
    """What a file is."""

    sha256: str
    facts: str = ""  #: as its looker tells them
    problem: str = ""  #: what is wrong with it; empty: nothing


def look(files: Sequence[Path], looker: Looker | None = None, kind: str = "bytes", *, dear: bool = False) -> list[Look]:
    """What each of the files is, several at a time.

    Where the files are many bytes, what was seen is remembered in the cache folder, for each by its path, size, time of change and
    inode, and they are not read again until one of these changes.

    Args:
        looker: None: only the bytes count.
        kind: names the looker and the version of what it reads with: another kind is looked at anew.
        dear: to look takes so much longer than to read that few bytes are remembered too.

    Raises UserError where a file cannot be opened, or the memory not be written.
    """
    try:
        status = [f.stat() for f in files]
    except OSError as e:
        raise UserError(f"{e.filename}: {e.strerror}; copy the file again, or make it readable") from e
    total = sum(s.st_size for s in status)
    keys = [_key(f, s) for f, s in zip(files, status, strict=True)]
    memory = _Memory.opened(needed=total >= MUCH) if dear or total >= MUCH else None
    try:
        return _looked(files, keys, [s.st_size for s in status], looker, kind, memory)
    finally:
        if memory:
            memory.close()


def _looked(
    files: Sequence[Path], keys: Sequence[Key], sizes: Sequence[int], looker: Looker | None, kind: str, memory: _Memory | None
) -> list[Look]:
    known = memory.recall(kind, keys) if memory else {}
    missing = [k for k, key in enumerate(keys) if key not in known]
    fresh = _look(files, missing, looker, sum(sizes[k] for k in missing))
    settled = time.time_ns() - int(SETTLED * 1e9)
    out: list[Look] = []
    new: dict[Key, Look] = {}
    for key in keys:
        found = known[key] if key in known else next(fresh)
        out.append(found)
        if memory and key not in known and not found.problem and max(key.modified, key.changed) < settled:
            new[key] = found
            if len(new) >= AT_ONCE:  # what is killed goes on from here
                memory.keep(kind, new)
                new = {}
    if memory and new:
        memory.keep(kind, new)
    return out


def whole(
    files: Sequence[Path], root: Path, looker: Looker | None = None, kind: str = "bytes", *, dear: bool = False
) -> list[Look]:
    """What each of the files below `root` is (`look`); raises UserError that names those that are broken."""
    looks = look(files, looker, kind, dear=dear)
    broken(files, looks, root)
    return looks


def broken(files: Sequence[Path], looks: Sequence[Look], root: Path) -> None:
    """Raises UserError that names the first files that are broken."""
    wrong = [(f, look) for f, look in zip(files, looks, strict=True) if look.problem]
    if wrong:
        first = "; ".join(f"{_under(f, root)}: {look.problem}" for f, look in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{root}: {first}{more}; get these files again, or take them away")


def combined(files: Sequence[Path], looks: Sequence[Look], root: Path) -> str:
    """SHA-256 of files by their names below `root` and their contents."""
    lines = sorted(f"{_under(f, root)} {look.sha256}" for f, look in zip(files, looks, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _under(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _look(files: Sequence[Path], chosen: Sequence[int], looker: Looker | None, total: int) -> Iterator[Look]:
    """Look at the chosen files with as many threads as there are cores: decoders let go of the interpreter."""
    from suite.processors import cores

    if not chosen:
        return
    workers = cores()
    # warnings are the whole process's, and threads cannot turn them off each for itself
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(workers) as pool, _told(len(chosen), total) as step:
        waiting = iter(chosen)
        running = [pool.submit(_one, files[k], looker) for k in islice(waiting, 4 * workers)]
        try:
            while running:
                found = running.pop(0).result()
                running += [pool.submit(_one, files[k], looker) for k in islice(waiting, 1)]
                step()
                yield found
        finally:
            pool.shutdown(cancel_futures=True)


def _one(file: Path, looker: Looker | None) -> Look:
    try:
        with file.open("rb") as f:
            sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        return Look(sha256, looker(file) if looker else "")
    except ValueError as e:
        return Look("", problem=" ".join(str(e).split())[:200] or type(e).__name__)
    except OSError as e:
        return Look("", problem=f"cannot be read: {e.strerror or e}")


@contextmanager
def _told(count: int, total: int) -> Iterator[Callable[[], None]]:
    """Show how far it is where somebody waits: many bytes, and a terminal."""
    if total < MUCH or not sys.stderr.isatty() or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking at the files", total=count)
        yield lambda: progress.advance(task)


# -- the memory


class Key(NamedTuple):
    """What changes when a file does."""

    path: bytes
    size: int
    modified: int  #: ns
    changed: int  #: of the inode, ns
    inode: int


def _key(file: Path, status: os.stat_result) -> Key:
    # some file systems number inodes beyond what a database takes
    inode = status.st_ino & (2**63 - 1)
    return Key(os.fsencode(os.path.abspath(file)), status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode)


def cache() -> Path:
    """The folder for what can be made again: WEIGHIN_CACHE, else weighin in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("WEIGHIN_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "weighin"
    except RuntimeError as e:  # a user without a home
        raise UserError("no folder for a cache: set WEIGHIN_CACHE to one that can be written") from e


class _Memory:
    """What was seen of files, in a small database that several processes may use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
        self._base.execute(
            "create table if not exists looks (path blob, kind text, size int, modified int, changed int, inode int, sha256 text,"
            " facts text, primary key (path, kind)) without rowid"
        )

    @classmethod
    def opened(cls, *, needed: bool) -> _Memory | None:
        """The memory of the cache folder; None where there can be none and it is not needed.  Raises UserError where it is."""
        path = cache() / "looks.sqlite"
        try:
            return cls(path)
        except (OSError, sqlite3.Error) as e:
            if needed:
                raise cls._unusable(path, e) from e
            return None  # it spares a few seconds, no more

    def close(self) -> None:
        self._base.close()

    def recall(self, kind: str, keys: Sequence[Key]) -> dict[Key, Look]:
        found = {}
        try:
            for first in range(0, len(keys), AT_ONCE):
                some = keys[first : first + AT_ONCE]
                places = ",".join("?" * len(some))
                question = (
                    f"select path, size, modified, changed, inode, sha256, facts from looks where kind = ? and path in ({places})"
                )
                for *key, sha256, facts in self._base.execute(question, [kind, *(k.path for k in some)]):
                    found[Key(*key)] = Look(sha256, facts)
        except sqlite3.Error as e:
            raise self._unusable(self._path, e) from e
        return {k: found[k] for k in keys if k in found}

    def keep(self, kind: str, looks: dict[Key, Look]) -> None:
        rows = [(key.path, kind, *key[1:], look.sha256, look.facts) for key, look in looks.items()]
        try:
            self._base.execute("begin immediate")
            self._base.executemany("insert or replace into looks values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._base.execute("commit")
        except sqlite3.Error as e:
            raise self._unusable(self._path, e) from e

    @staticmethod
    def _unusable(path: Path, e: Exception) -> UserError:
        return UserError(f"cannot use {path}: {e}; delete it, make room, or set WEIGHIN_CACHE to a folder that can be written")
