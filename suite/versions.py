"""Which sources are one version: what a method and a task state, the digest of their source, and the committed table.

A method and a task state a version, an integer that goes up when a number can change.  Beside it stands the digest of the source
that takes part: of a method its file and the parts it imports, of a task its own modules and those it shares.  Code is moved and
parted without a number changing, so ``tasks/<task>/versions.toml`` says which digests are one version: the first digest of a
version opens it, each later one was entered by a proof (`suite.proof`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from suite import folders, registry
from suite.files import atomic
from suite.naming import UserError

TABLE = "versions.toml"
HEAD = """\
# Which sources are one version. Written by `weighin versions`, not by hand.
# The first digest of a version opens it. Each later one was proved: every run named there gave, at the commit `base` and at
# the working tree, on one machine, the same evidence, deployed network and operations, bit for bit; their digests stand behind it.
"""


@dataclass(frozen=True)
class Entry:
    """A digest that stands for a version, and why."""

    version: int
    digest: str
    proof: Mapping[str, Any] = field(default_factory=dict)  #: empty for the digest that opened the version


@dataclass(frozen=True)
class Table:
    """What ``versions.toml`` says of a task and of its methods."""

    task: tuple[Entry, ...] = ()
    methods: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """What a method or a task states of itself, and the digests that the table knows of it."""

    name: str  #: ``task/method``, or the task's own name
    stated: int
    digest: str  #: of the source that stands here
    entries: tuple[Entry, ...]

    def version_of(self, digest: str) -> int | None:
        """The version that a digest belongs to: the stated one for the source that stands here; None for an unknown one."""
        known = next((e.version for e in self.entries if e.digest == digest), None)
        return self.stated if known is None and digest == self.digest else known

    def entered(self, digest: str) -> bool:
        """Whether the table has a digest under the stated version."""
        return any((e.version, e.digest) == (self.stated, digest) for e in self.entries)

    @property
    def identity(self) -> str:
        """The digest that stands for the stated version in the keys of bundles, so that a key outlives a refactor: the one that
        opened it; the source's own where the table does not know that source.
        """
        return self.opener(self.stated) if self.entered(self.digest) else self.digest

    def opener(self, version: int) -> str:
        """The digest that opened a version of the table."""
        return next(e.digest for e in self.entries if e.version == version)

    def identities(self, digest: str) -> list[str]:
        """What may stand for a source in a key: its own digest, and the one that opened its version."""
        return [digest, *(self.opener(e.version) for e in self.entries if e.digest == digest)]

    @property
    def state(self) -> str:
        """``known``; ``raised``: a new version, not in the table yet; ``changed``: the version is in the table, the source is
        not; ``lowered``: a version below the table's.
        """
        newest = max((e.version for e in self.entries), default=0)
        if self.stated != newest:
            return "raised" if self.stated > newest else "lowered"
        return "known" if self.entered(self.digest) else "changed"


def table_file(task: str) -> Path | None:
    """Where a task keeps its table; None for another package's task, which has none."""
    ref = registry.tasks().get(task)
    return ref.path.with_name(TABLE) if ref and ref.path else None


def read(file: Path | None) -> Table:
    """A table; empty where there is no file.  Raises UserError where it cannot be read."""
    if file is None or not file.is_file():
        return Table()
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
        methods: dict[str, tuple[Entry, ...]] = {}
        for e in raw.get("method", []):
            methods[e["name"]] = (*methods.get(e["name"], ()), _entry(e))
        return Table(tuple(_entry(e) for e in raw.get("task", [])), methods)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as e:
        raise UserError(f"{file}: {e}; take the file from the repository again") from e


def _entry(raw: Mapping[str, Any]) -> Entry:
    return Entry(int(raw["version"]), str(raw["digest"]), {k: v for k, v in raw.items() if k not in ("name", "version", "digest")})


@cache
def table(task: str) -> Table:
    """The table of a task."""
    return read(table_file(task))


@cache
def of_task(task: str) -> Lineage:
    """The lineage of a task."""
    return Lineage(task, registry.task(task).version, registry.task_digest(task), table(task).task)


@cache
def of_method(task: str, name: str) -> Lineage:
    """The lineage of one of our methods; raises UserError where there is none of that name."""
    return _lineage(registry.method(task, name))


def _lineage(ref: registry.MethodRef) -> Lineage:
    return Lineage(f"{ref.task}/{ref.name}", ref.stated, ref.version, table(ref.task).methods.get(ref.name, ()))


def every() -> list[Lineage]:
    """Lineages of all our tasks, each followed by its methods."""
    found = []
    for name in [name for name, ref in registry.tasks().items() if ref.ours]:
        found += [of_task(name), *(_lineage(ref) for ref in registry.methods(name).values() if ref.ours)]
    return found


Source = tuple[str, str, str]  #: task, method (empty for the task itself) and digest


def archived() -> list[Source]:
    """Sources of methods' versions below the stated one.  No source is read but for its stated version."""
    found = []
    for task in [name for name, ref in registry.tasks().items() if ref.ours]:
        methods = registry.methods(task)
        known = [(n, methods[n].stated, entries) for n, entries in table(task).methods.items() if n in methods]
        found += [(task, n, e.digest) for n, stated, entries in known for e in entries if e.version < stated]
    return found


def sources() -> list[Source]:
    """Every source that is one of ours, of whatever version.

    To read the meaning of all of them takes two seconds, so the list is kept in the user's folder for caches until a file changes.
    """
    try:
        file = folders.cache() / f"sources-{_state()}.json"
    except UserError:  # nobody's home
        return _sources()
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):  # not there, or not ours: it is made again
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept and all(isinstance(line, list) and len(line) == 3 and all(isinstance(v, str) for v in line) for line in kept):
            return [(task, method, digest) for task, method, digest in kept]
    found = _sources()
    with contextlib.suppress(OSError):  # a home that cannot be written to costs those seconds
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob("sources-*.json"):
            old.unlink(missing_ok=True)
        with atomic(file) as scratch:
            scratch.write_text(json.dumps(found), encoding="utf-8")
    return found


def _state() -> str:
    """Digest of every file that the list of sources follows from, and of Python, which parses them."""
    whole = hashlib.sha256(sys.version.encode())
    folders = (registry.TASKS, registry.METHODS)
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.suffix == ".py" or f.name == TABLE]
    for file in (*files, Path(registry.__file__), Path(__file__)):
        whole.update(f"{file}\0".encode() + file.read_bytes() + b"\0")
    return whole.hexdigest()[:32]


def _sources() -> list[Source]:
    found = []
    for x in every():
        task, _, method = x.name.partition("/")
        found += [(task, method, digest) for digest in dict.fromkeys((x.digest, *(e.digest for e in x.entries)))]
    return found


def enter(name: str, entries: Sequence[Entry]) -> None:
    """Add entries to the table, of a task or of ``task/method``; the file is replaced whole."""
    task, _, method = name.partition("/")
    found = table(task)
    own, methods = found.task, dict(found.methods)
    if method:
        methods[method] = (*methods.get(method, ()), *entries)
    else:
        own = (*own, *entries)
    blocks = [_written("task", "", e) for e in own]
    blocks += [_written("method", n, e) for n in sorted(methods) for e in methods[n]]
    file = table_file(task)
    assert file is not None
    with atomic(file) as scratch:
        scratch.write_text("\n".join([HEAD, *blocks]), encoding="utf-8")
    for cached in (table, of_task, of_method):
        cached.cache_clear()


def _written(kind: str, name: str, entry: Entry) -> str:
    lines = [f"[[{kind}]]", *([f"name = {json.dumps(name)}"] if name else [])]
    lines += [f"version = {entry.version}", f"digest = {json.dumps(entry.digest)}"]
    for key, value in entry.proof.items():
        if isinstance(value, list):
            lines += [f"{key} = [", *(f"  {json.dumps(v)}," for v in value), "]"]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join([*lines, ""])
