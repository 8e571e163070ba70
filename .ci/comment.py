"""Post the comment that .ci/preview.py wrote: `python -I .ci/comment.py FOLDER`, in the workflow that its workflow's end starts.

What lies in FOLDER is the artifact of a run that a submitter may have had a hand in: a pull request brings its own workflows.
It is posted only where that run was of the very head of the pull request that it names, and that head has the base's workflows.
Needs nothing but Python; reads GITHUB_EVENT_PATH, GITHUB_REPOSITORY, GITHUB_API_URL and GITHUB_TOKEN.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

MARKER = "<!-- weighin preview -->"
AUTHOR = "github-actions[bot]"
MOST = {"comment.md": 200_000, "number": 10}  #: bytes
MOST_TEXT = 65_536  #: characters that GitHub takes
WORKFLOWS = ".github"  #: what of a head decides what ran
MEANT = re.compile(r"[<>@]|\]\(|://|www\.")  #: markup, mentions and links, outside of code
CHANGED = (
    "This pull request changes `.github`, so nothing that its own run wrote is posted here. "
    "Submit results by a pull request of their own, and their places are told.\n"
)


class Refused(Exception):
    """The artifact is none that is posted."""


class Api:
    """GitHub's, of one repository."""

    def __init__(self, root: str, repository: str, token: str) -> None:
        self.root, self.repository, self.token = root, repository, token

    def __call__(self, path: str, body: dict[str, str] | None = None, method: str = "GET") -> Any:
        request = urllib.request.Request(
            f"{self.root}/repos/{self.repository}/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method=method,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Accept": "application/vnd.github+json",
                "Content-Type": "application/json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": "weighin",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.URLError as e:
            raise Refused(f"{method} {path}: {e}") from e


def main(folder: Path) -> str:
    """Create or update the one comment; returns a line on what was done.  Raises Refused, and nothing is posted then."""
    run = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))["workflow_run"]
    api = Api(*(os.environ[name] for name in ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN")))
    number, body = _number(folder), _body(folder)
    pull = api(f"pulls/{number}")
    _same(run, pull, api.repository)
    if pull["head"]["sha"] != run["head_sha"]:
        return f"pull request {number} has moved on: its next run tells"
    if not _unchanged(api, pull["base"]["sha"], run["head_sha"]):
        body = f"{MARKER}\n{CHANGED}"
    before = _comment(api, number)
    if before is None:
        api(f"issues/{number}/comments", {"body": body}, "POST")
        return f"pull request {number}: a comment"
    api(f"issues/comments/{before}", {"body": body}, "PATCH")
    return f"pull request {number}: comment {before} anew"


def _number(folder: Path) -> int:
    text = _read(folder, "number")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text, re.ASCII):
        raise Refused("number: is none of a pull request")
    return int(text)


def _body(folder: Path) -> str:
    text = _read(folder, "comment.md")
    if len(text) > MOST_TEXT:
        raise Refused(f"comment.md: over {MOST_TEXT:,} characters")
    head, _, rest = text.partition("\n")
    if head != MARKER or MEANT.search(re.sub(r"`[^`\n]*`", "", rest)):
        raise Refused("comment.md: is not what .ci/preview.py writes")
    return text


def _read(folder: Path, name: str) -> str:
    """A small plain file: a link could lead to what the job alone may read."""
    try:
        file = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as e:
        raise Refused(f"{name}: {e.strerror}") from e
    with os.fdopen(file, "rb") as f:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise Refused(f"{name}: is no plain file")
        data = f.read(MOST[name] + 1)
    if len(data) > MOST[name]:
        raise Refused(f"{name}: over {MOST[name]:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Refused(f"{name}: is no UTF-8") from e


def _same(run: dict[str, Any], pull: dict[str, Any], repository: str) -> None:
    """Raises Refused where the run was not of that pull request; its head may have moved on since."""
    ours = (run["event"], (run["head_repository"] or {}).get("full_name"), run["head_branch"], repository)
    theirs = ("pull_request", (pull["head"]["repo"] or {}).get("full_name"), pull["head"]["ref"], pull["base"]["repo"]["full_name"])
    if ours != theirs or pull["state"] != "open":
        raise Refused("number: names a pull request that the run was not of, or one that is closed")


def _unchanged(api: Api, base: str, head: str) -> bool:
    """Whether a head has the workflows of the commit where it left the base: commits, so that no later push changes the answer."""
    left = api(f"compare/{base}...{head}?per_page=1")["merge_base_commit"]["sha"]
    trees = [api(f"git/trees/{commit}")["tree"] for commit in (left, head)]
    before, after = ([e["sha"] for e in tree if e["path"] == WORKFLOWS] for tree in trees)
    return bool(before) and before == after


def _comment(api: Api, number: int) -> int | None:
    """The id of the comment that stands already: ours alone, whoever else writes the marker."""
    page = 1
    while found := api(f"issues/{number}/comments?per_page=100&page={page}"):
        for comment in found:
            if comment["user"]["login"] == AUTHOR and comment["body"].startswith(MARKER):
                return int(comment["id"])
        page += 1
    return None


if __name__ == "__main__":
    try:
        print(main(Path(sys.argv[1])))
    except Refused as e:
        sys.exit(f"nothing is posted: {e}")
