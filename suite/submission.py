"""What a pull request may change: results are only added to, and come without code.

``python -I -m suite.submission CLONE BASE`` is a step of continuous integration; the clone is the submitter's, this code is not.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from suite.checks.findings import printable

RESULTS = "results"
PLAIN = "100644"  #: git's mode of a file that is neither a link nor executed
AGAIN = "submit bundles by a pull request of their own"


@dataclass(frozen=True)
class Change:
    """One line of ``git diff --raw``."""

    kind: str  #: A added, M changed, D removed, R moved, T of another type
    mode: str  #: afterwards
    path: str

    @property
    def result(self) -> bool:
        return PurePosixPath(self.path).parts[:1] == (RESULTS,)


def changes(clone: Path, base: str) -> list[Change]:
    """What a clone's head changed since it left `base`.  Nothing of the clone is run: its git settings and hooks are not read."""
    alone = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "diff.external=", "-C", str(clone)]
    asked = [*alone, "diff", "--raw", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--abbrev=40", f"{base}...HEAD"]
    told = subprocess.run(asked, capture_output=True, check=True).stdout.decode("utf-8", "surrogateescape")
    fields = told.split("\0")
    return [
        Change(head.split()[4][0], head.split()[1], path) for head, path in zip(fields[0::2], fields[1::2], strict=False) if path
    ]


def refused(found: Sequence[Change]) -> Iterator[str]:
    """A line for each change that a submission of results may not make; none for a pull request that has none."""
    results, others = [c for c in found if c.result], [c for c in found if not c.result]
    if not results:
        return
    for c in others:
        yield f"{printable(c.path)}: a submission of results changes nothing else; {AGAIN}"
    for c in results:
        path = printable(c.path)
        if c.kind != "A":
            words = {"M": "is changed", "D": "is removed", "T": "becomes another type of file"}.get(c.kind, f"is {c.kind}")
            yield f"{path}: {words}, and results are only added to; a correction is a new run, a retraction a file of its own"
        elif c.mode != PLAIN:
            yield f"{path}: is of mode {c.mode}: a link, a module or an executable; results hold plain files"
        elif any(part.startswith(".") for part in PurePosixPath(c.path).parts):
            yield f"{path}: is hidden; results hold bundles, cards and retractions"


def main(arguments: Sequence[str]) -> int:
    clone, base = arguments
    lines = list(refused(changes(Path(clone), base)))
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
