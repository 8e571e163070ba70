"""Where the project's own files lie: in a clone beside the packages, in an installed wheel within them."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

from suite.checks import texts
from suite.naming import UserError
from suite.registry import HOUSE

#: What the wheel brings of the clone's root; pyproject.toml puts it there, and no clone has it.
PACKAGED = HOUSE / "suite" / "board" / "sources"


def clone() -> Path | None:
    """The root of the clone that these packages are imported from; None where they were installed from a wheel.

    A wheel's environment may lie inside of a repository, which is then somebody else's.
    """
    return None if PACKAGED.is_dir() else HOUSE


def site_sources() -> Path:
    """The folder with the site's sources: ``mkdocs.yml`` and ``site/docs``."""
    return clone() or PACKAGED


def check_writable(folder: Path) -> None:
    """Raises UserError where a folder cannot be made or written to: said before the work whose result it is to hold."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as scratch:
            scratch.write(b"\0")
    except OSError as e:
        raise UserError(f"cannot write to {folder}: {e.strerror}; make room, or name another folder") from e


def without_paths(text: str, work: Path, data: str) -> str:
    """A text that travels in a bundle: names of files stay, the folders of this machine go."""
    own = [(data, "DIR/"), (str(work), "WORK/"), (str(HOUSE), ""), (sys.prefix, "")]
    with contextlib.suppress(OSError):  # the folder that we stand in is gone
        own.append((os.getcwd(), ""))
    own.append((os.path.expanduser("~"), "~/"))
    for folder, name in own:
        if len(folder) > 1 and os.path.isabs(full := os.path.abspath(folder)):
            text = text.replace(full + os.sep, name)
    for path in sorted(set(texts.paths(text)), key=len, reverse=True):
        text = text.replace(path, re.split(r"[/\\]", path.rstrip("/\\"))[-1])
    return text
