"""What lies around bundles: system cards, retractions, and what does not belong in results at all."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from suite import bundle, system
from suite.checks.findings import Finding, Refused, printable
from suite.checks.untrusted import parse, within
from suite.naming import UserError

CARD_BYTES, RETRACTION_BYTES = 100_000, 10_000
COPY = "copy the card that the run wrote"
_BUNDLE = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")
_ID = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
RETRACT = 'write {"id": the bundle\'s 64 digits, "reason": why, "date": "2026-01-31"}'


def strays(root: Path, tasks: Collection[str]) -> Iterator[Finding]:
    """Links anywhere, bundles without ``run.json``, files among bundles, bad cards and retractions.

    Only folders named like a task are held to hold nothing but bundles: `root` may be any folder above.
    Folders with a leading dot are work in progress, as for `bundle.find`.
    """
    for base, folders, files in os.walk(root):
        here = Path(base)
        inside = here.relative_to(root).parts
        for name in sorted((*folders, *files)):
            if (here / name).is_symlink():
                yield Finding(base, name, "file", "error", "is a symbolic link", "put the file itself there")
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if bundle.RUN in files:
            folders.clear()
        elif _BUNDLE.fullmatch(here.name):
            folders.clear()
            yield Finding(base, bundle.RUN, "file", "error", "is missing", "put the whole bundle there")
        elif inside in (("systems",), ("retractions",)):
            read = card if inside == ("systems",) else retraction
            for name in sorted(files):
                try:
                    read(here / name)
                except Refused as e:
                    yield e.finding(base)
        elif inside and inside[0] in tasks:
            for name in sorted(files):
                if not (here / name).is_symlink():
                    yield Finding(base, name, "file", "error", "does not belong in results", "results hold bundles alone")


def card(file: Path) -> system.SystemCard:
    """A system card that hashes to its name; raises Refused."""
    _data(file, CARD_BYTES, COPY)
    try:
        return system.read_card(file)
    except UserError as e:
        message, _, mend = str(e).removeprefix(f"{file}: ").rpartition("; ")
        raise Refused(printable(file.name), "card", message, mend) from e
    except ValueError as e:  # a text that has no UTF-8 has no hash either
        raise Refused(printable(file.name), "card", "cannot be hashed", COPY) from e


def retraction(file: Path) -> dict[str, Any]:
    """A retraction: ``id`` of a bundle, ``reason`` and, if told, ``date``; raises Refused."""
    name = printable(file.name)
    found = _data(file, RETRACTION_BYTES, RETRACT)
    if file.suffix != ".json" or not {"id", "reason"} <= found.keys() <= {"id", "reason", "date"}:
        raise Refused(name, "fields", f"are {', '.join(sorted(found)) or 'none'}", RETRACT)
    if not all(isinstance(v, str) for v in found.values()) or not _ID.fullmatch(found["id"]):
        raise Refused(name, "id", "is not a bundle's id", RETRACT)
    if not 0 < len(found["reason"].strip()) <= 2000:
        raise Refused(name, "reason", "is empty or over 2,000 characters", RETRACT)
    if not _DATE.fullmatch(found.get("date", "2026-01-31")):
        raise Refused(name, "date", "is not a day", RETRACT)
    return found


def _data(file: Path, most: int, mend: str) -> dict[str, Any]:
    name = printable(file.name)
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise Refused(name, "file", "is not a plain file", mend)
        within(name, status.st_size, most)
        return parse(file.read_bytes(), name, mend)
    except OSError as e:
        raise Refused(name, "file", f"cannot be read: {e.strerror}", mend) from e
