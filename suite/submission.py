"""What a pull request may change: results are only added to, and come without code.

``python -I -m suite.submission CLONE BASE`` is a step of continuous integration; the clone is the submitter's, this code is not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from suite.checks.findings import printable

RESULTS = "results"
PLAIN = "100644"  #: git's mode of a file that is neither a link nor executed
AGAIN = "submit bundles by a pull request of their own"
MOST_FILES, MOST_BYTES, MOST_OF_ONE = 5_000, 200_000_000, 8_000_000  #: of what a submission adds
DEEPEST, LONGEST = 5, 255  #: parts of a path below results/, bytes of one of them


@dataclass(frozen=True)
class Change:
    """One line of ``git diff --raw``."""

    kind: str  #: A added, M changed, D removed, R moved, T of another type
    mode: str  #: afterwards
    path: str
    blob: str = ""  #: git's name of the content afterwards

    @property
    def result(self) -> bool:
        return PurePosixPath(self.path).parts[:1] == (RESULTS,)


def git(clone: Path, *words: str) -> list[str]:
    """A git command on a clone of which nothing is run: its git settings and hooks are not read."""
    return ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "diff.external=", "-C", str(clone), *words]


def changes(clone: Path, base: str, head: str = "HEAD") -> list[Change]:
    """What a head changed since it left `base`."""
    asked = git(clone, "diff", "--raw", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--abbrev=40", f"{base}...{head}")
    told = subprocess.run(asked, capture_output=True, check=True).stdout.decode("utf-8", "surrogateescape")
    fields = told.split("\0")
    return [
        Change(kind[0], mode, path, blob)
        for (_, mode, _, blob, kind), path in zip((head.split() for head in fields[0::2] if head), fields[1::2], strict=False)
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


def take(clone: Path, found: Sequence[Change], out: Path) -> list[str]:
    """Write the results that a head adds as plain files below `out`; nothing is checked out, so nothing of the head's acts.

    Args:
        clone: a repository that has the head's objects.
        found: what the head changed; all but plain files that are added under results/ is passed over.
        out: folder that stands for the results; files that stand in it stay as they are.

    Returns a line for each file that is not taken; where they are too many or too large together, none is.
    """
    wanted = [c for c in found if c.result and c.kind == "A" and c.mode == PLAIN]
    refused = [f"{printable(c.path)}: lies too deep, or its name is too long" for c in wanted if not _fits(c.path)]
    wanted = [c for c in wanted if _fits(c.path)]
    asked = "".join(f"{c.blob}\n" for c in wanted).encode()
    told = subprocess.run(
        git(clone, "cat-file", "--batch-check=%(objectsize)"), input=asked, capture_output=True, check=True
    ).stdout
    sizes = list(map(int, told.split()))
    if len(wanted) > MOST_FILES or sum(sizes) > MOST_BYTES:
        most = f"over the {MOST_FILES:,} files and {MOST_BYTES:,} bytes that a submission may have; submit it in parts"
        return [*refused, f"{RESULTS}: {len(wanted):,} files of {sum(sizes):,} bytes, {most}"]
    for c, size, data in zip(wanted, sizes, _contents(clone, wanted, sizes), strict=True):
        if size > MOST_OF_ONE:
            refused.append(f"{printable(c.path)}: {size:,} bytes, over the {MOST_OF_ONE:,} allowed")
            continue
        file = out.joinpath(*PurePosixPath(c.path).parts[1:])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("xb") as f:
                f.write(data)
        except (FileExistsError, NotADirectoryError):
            refused.append(f"{printable(c.path)}: stands already, and results are only added to")
    return refused


def _contents(clone: Path, wanted: Sequence[Change], sizes: Sequence[int]) -> Iterator[bytes]:
    """What the files hold, one after the other."""
    with subprocess.Popen(git(clone, "cat-file", "--batch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as objects:
        assert objects.stdin is not None
        assert objects.stdout is not None
        for change, size in zip(wanted, sizes, strict=True):
            objects.stdin.write(f"{change.blob}\n".encode())
            objects.stdin.flush()
            objects.stdout.readline()  # name, kind and size
            yield objects.stdout.read(size)
            objects.stdout.read(1)  # the line's end behind it


def _fits(path: str) -> bool:
    """Whether a path below results/ is one that a bundle's file, a card or a retraction can have."""
    parts = PurePosixPath(path).parts[1:]
    return 0 < len(parts) <= DEEPEST and not any(p.startswith(".") or len(os.fsencode(p)) > LONGEST for p in parts)


def main(arguments: Sequence[str]) -> int:
    clone, base = arguments
    lines = list(refused(changes(Path(clone), base)))
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
