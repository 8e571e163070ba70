"""Write the comment that a pull request of results gets: `python -I .ci/preview.py FOLDER`, in a clone of the base branch.

BASE and HEAD name the commits, NUMBER the pull request.  The head is fetched, never checked out: its results are taken from git as
plain files, and whatever is run is the base's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from suite import submission
from suite.board import preview
from suite.naming import UserError

CLONE = Path(__file__).resolve().parents[1]
MARKER = "<!-- weighin preview -->"  #: .ci/comment.py finds its comment by it


def main(folder: Path) -> None:
    """Write ``comment.md`` and ``number`` into a new folder."""
    base, head = (_told(name, "[0-9a-f]{40}") for name in ("BASE", "HEAD"))
    number = _told("NUMBER", "[1-9][0-9]{0,8}")
    fetch = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "origin", head)
    subprocess.run(submission.git(CLONE, *fetch), check=True)
    found = submission.changes(CLONE, base, head)
    refused = list(submission.refused(found))
    with tempfile.TemporaryDirectory(prefix="weighin-submission-") as scratch:
        results = Path(scratch) / submission.RESULTS
        shutil.copytree(CLONE / submission.RESULTS, results)
        refused += submission.take(CLONE, found, results)
        told = preview.preview(results, CLONE / submission.RESULTS, refused)
    folder.mkdir(parents=True)
    (folder / "comment.md").write_text(f"{MARKER}\n{preview.markdown(told, base[:12])}", encoding="utf-8")
    (folder / "number").write_text(number, encoding="utf-8")


def _told(name: str, pattern: str) -> str:
    """A variable of the environment, whole and of a pattern."""
    value = os.environ.get(name, "")
    if not re.fullmatch(pattern, value):
        raise UserError(f"{name}={value!r}: set it to what matches {pattern}")
    return value


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as e:
        sys.exit(str(e))
