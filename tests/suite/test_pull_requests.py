"""The steps of the two workflows, run as they run there: a pull request's results are weighed, and nothing else of it has a say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from suite import bundle, registry, submission
from tests import demo
from tests.suite.board.test_preview import HOSTILE, tokens
from tests.suite.test_submission import git, write

WORKFLOWS = registry.HOUSE / ".github" / "workflows"
SCRIPTS = registry.HOUSE / ".ci"


@dataclass(frozen=True)
class Repository:
    """The project's repository with one pull request, the clone of a job, and a mark that code would leave."""

    clone: Path
    fork: Path
    base: str
    mark: Path

    def submit(self, change: Callable[[Path], object]) -> str:
        """Commit a change in the fork and open a pull request of it; returns its head."""
        change(self.fork)
        git(self.fork, "add", "-A", "-f")
        git(self.fork, "commit", "-qm", "submission")
        git(self.fork, "push", "-q", "-f", "origin", "HEAD:refs/pull/7/head")
        return git(self.fork, "rev-parse", "HEAD")

    def preview(self, head: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """The step of preview.yml, with what it leaves in ``preview`` beside the clone."""
        shutil.rmtree(self.clone.parent / "preview", ignore_errors=True)
        words = [sys.executable, "-I", ".ci/preview.py", str(self.clone.parent / "preview")]
        told = {**os.environ, "BASE": self.base, "HEAD": head, "NUMBER": "7", **changes}
        return subprocess.run(words, cwd=self.clone, env=told, capture_output=True, text=True, timeout=300)

    def comment(self, head: str) -> str:
        """The comment on a head."""
        done = self.preview(head)
        assert done.returncode == 0, done.stderr
        assert not self.mark.exists()
        assert (self.clone.parent / "preview" / "number").read_text() == "7"
        return (self.clone.parent / "preview" / "comment.md").read_text()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's repository: a small board, and the scripts and workflows as they are here."""
    root = tmp_path_factory.mktemp("origin")
    for method, accuracy in (("dense", 0.92), ("l1_filters", 0.90), ("fpgm", 0.88)):
        for seed in range(3):
            demo.write(root / "results", method, target="" if method == "dense" else "macs=0.5", seed=seed, accuracy=accuracy)
    shutil.rmtree(root / "results" / ".work")
    shutil.copytree(SCRIPTS, root / ".ci", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(WORKFLOWS, root / ".github" / "workflows")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "base")
    return root


@pytest.fixture
def repository(origin: Path, tmp_path: Path) -> Repository:
    git(tmp_path, "clone", "-q", "--bare", str(origin), "project.git")
    for name in ("clone", "fork"):
        git(tmp_path, "clone", "-q", str(tmp_path / "project.git"), name)
    return Repository(tmp_path / "clone", tmp_path / "fork", git(origin, "rev-parse", "HEAD"), tmp_path / "ran")


def good(fork: Path) -> None:
    for seed in range(3):
        demo.write(fork / "results", "chex", seed=seed, accuracy=0.91)
    shutil.rmtree(fork / "results" / ".work")


def test_a_good_submission_is_told_its_place_and_what_it_displaces(repository: Repository) -> None:
    comment = repository.comment(repository.submit(good))
    assert comment.splitlines()[:2] == ["<!-- weighin preview -->", "### ✓ This submission holds"]
    assert f"3 new bundles, no errors, no marks. Every number was derived again by the code of `{repository.base[:12]}`" in comment
    assert re.search(r"^\| `chex` \| not on the board \| rank 1, `91\.\d+ ± 0\.\d+ %`, 3 seeds \|$", comment, re.MULTILINE)
    assert "| `l1_filters` | 1 | 2 |" in comment
    assert "| `fpgm` | 2 | 3 |" in comment
    assert git(repository.clone, "status", "--porcelain") == ""  # the base's own tree is as it was


def test_a_bad_submission_is_told_what_does_not_hold(repository: Repository) -> None:
    def bad(fork: Path) -> None:
        good(fork)
        file = next(p for p in bundle.find(fork / "results" / "image_pruning" / "small" / "chex")) / bundle.RUN
        file.write_text(file.read_text().replace('"seed": ', '"seed":  '))

    comment = repository.comment(repository.submit(bad))
    assert "### ✕ This submission does not hold" in comment
    assert "3 new bundles, 1 error, no marks" in comment
    assert re.search(r"^- error: `image_pruning/small/chex/[0-9a-f-]+/run.json: bytes: is not written", comment, re.MULTILINE)
    assert "rank" not in comment


def test_the_base_may_have_moved_on(repository: Repository) -> None:
    """What the submission adds is counted from where it left, and weighed beside what stands now."""
    head = repository.submit(good)
    for seed in range(3):
        demo.write(repository.clone / "results", "hrank", seed=seed, accuracy=0.95)
    shutil.rmtree(repository.clone / "results" / ".work")
    git(repository.clone, "add", "-A")
    git(repository.clone, "commit", "-qm", "another submission")
    moved = Repository(repository.clone, repository.fork, git(repository.clone, "rev-parse", "HEAD"), repository.mark)
    comment = moved.comment(head)
    assert "rank 2," in comment
    assert "hrank" not in comment


def test_nothing_of_the_submitter_runs_and_a_mixed_pull_request_is_told(repository: Repository) -> None:
    """Modules under every name that the step imports, hooks, filters and drivers, a workflow and the very scripts of the step."""
    trace = f"open({str(repository.mark)!r}, 'w')\n"

    def mixed(fork: Path) -> None:
        good(fork)
        for name in ("conftest", "sitecustomize", "usercustomize", "suite/__init__", "suite/board/preview", "json", "duckdb"):
            write(fork, f"{name}.py", trace)
            write(fork, f"results/{name}.py", trace)
        for name in ("preview", "comment"):
            write(fork, f".ci/{name}.py", trace)
        script = write(fork, "run.sh", f"#!/bin/sh\ntouch {repository.mark}\ncat\n")
        script.chmod(0o755)
        write(fork, ".gitattributes", "* diff=x filter=x\n")
        write(fork, ".github/workflows/preview.yml", "name: preview\n")
        write(fork, "pyproject.toml", "[build-system]\nbuild-backend = 'conftest'\nbackend-path = ['.']\n")

    comment = repository.comment(repository.submit(mixed))
    assert "### ✕" in comment
    for name in ("conftest.py", ".ci/preview.py", ".github/workflows/preview.yml", "sitecustomize.py"):
        assert f"- `{name}: " in comment
    assert "a submission of results changes nothing else" in comment
    assert "`./conftest.py: file: does not belong in results" in comment  # under results/ it is a stray
    assert "rank" not in comment


def test_links_and_changes_are_not_taken(repository: Repository) -> None:
    def linked(fork: Path) -> None:
        good(fork)
        (fork / "results" / "systems" / "link.json").symlink_to("/etc/hostname")
        stands = next(bundle.find(fork / "results" / "image_pruning" / "small" / "fpgm")) / bundle.RUN
        stands.write_text("{}")

    comment = repository.comment(repository.submit(linked))
    assert "systems/link.json: is of mode 120000" in comment
    assert "run.json: is changed, and results are only added to" in comment
    assert "3 new bundles, 2 errors, no marks" in comment  # what stands was weighed as it stands


def test_hostile_names_are_no_markup(repository: Repository) -> None:
    name = HOSTILE.replace("/", "").replace("\n", "")[:120]

    def hostile(fork: Path) -> None:
        good(fork)
        write(fork, f"results/{name}.json")
        write(fork, f"results/image_pruning/small/{name}/run.json")
        write(fork, f"{name}.py")

    comment = repository.comment(repository.submit(hostile))
    found = list(tokens(comment))
    assert [t.content for t in found if t.type == "html_block"] == ["<!-- weighin preview -->\n"]
    assert not {t.type for t in found} & {"html_inline", "link_open", "image", "fence", "code_block"}
    assert "octocat" not in " ".join(t.content for t in found if t.type == "text")
    assert sum("octocat" in t.content for t in found if t.type == "code_inline") >= 3
    assert all(c.isprintable() or c == "\n" for c in comment)


@pytest.mark.parametrize("told", [{"HEAD": "main"}, {"BASE": "--upload-pack=touch"}, {"NUMBER": "7; true"}, {"NUMBER": ""}])
def test_the_step_takes_nothing_but_commits_and_a_number(repository: Repository, told: dict[str, str]) -> None:
    done = repository.preview(told.pop("HEAD", repository.base), **told)
    assert done.returncode == 1
    assert "set it to what matches" in done.stderr
    assert not (repository.clone.parent / "preview").exists()


def test_files_are_taken_within_bounds_and_over_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = f"results/{'d/' * submission.DEEPEST}x.json"

    def several(fork: Path) -> None:
        write(fork, "results/a.json", "12345")
        write(fork, "results/b.json", "1234567890")
        write(fork, "results/c/d.json", "1")
        write(fork, deep)

    head = repository.submit(several)
    git(repository.clone, "fetch", "-q", "origin", head)
    found, out = submission.changes(repository.clone, repository.base, head), repository.clone.parent / "out"
    write(out, "c", "stands")
    write(out, "a.json", "stands")
    monkeypatch.setattr(submission, "MOST_OF_ONE", 9)
    lines = submission.take(repository.clone, found, out)
    assert sorted(line.partition(":")[0] for line in lines) == ["results/a.json", "results/b.json", "results/c/d.json", deep]
    assert {p.name: p.read_text() for p in out.iterdir()} == {"c": "stands", "a.json": "stands"}
    monkeypatch.setattr(submission, "MOST_BYTES", 15)
    lines = submission.take(repository.clone, found, out.with_name("none"))
    assert "submit it in parts" in lines[-1]
    assert not out.with_name("none").exists()


# what posts the comment


@dataclass
class GitHub:
    """As much of GitHub as the second workflow asks, with commits of a real repository."""

    clone: Path
    pull: dict[str, Any]
    comments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    root: str = ""

    def answer(self, method: str, path: str, body: Any) -> Any:
        self.asked.append(f"{method} {path}")
        if method == "GET" and path == "pulls/7":
            return self.pull
        if method == "GET" and path.startswith("compare/"):
            base, head = path.removeprefix("compare/").partition("?")[0].split("...")
            return {"merge_base_commit": {"sha": git(self.clone, "merge-base", base, head)}}
        if method == "GET" and path.startswith("git/trees/"):
            lines = git(self.clone, "ls-tree", path.removeprefix("git/trees/")).splitlines()
            return {"tree": [{"sha": line.split()[2], "path": line.split("\t")[1]} for line in lines]}
        if method == "GET" and path.startswith("issues/7/comments?per_page=100&page="):
            page = int(path.rpartition("=")[2])
            return self.comments[100 * page - 100 : 100 * page]
        if method == "POST" and path == "issues/7/comments":
            self.comments.append({"id": 1000 + len(self.comments), "user": {"login": "github-actions[bot]"}, **body})
            return self.comments[-1]
        if method == "PATCH" and path.startswith("issues/comments/"):
            (comment,) = (c for c in self.comments if c["id"] == int(path.rpartition("/")[2]))
            return comment.update(body) or comment
        return None


@pytest.fixture
def github(repository: Repository) -> Iterator[GitHub]:
    """It listens, and pull request 7 adds a file, and the other workflow has left its artifact."""
    head = repository.submit(lambda fork: write(fork, "results/new.json"))
    git(repository.clone, "fetch", "-q", "origin", head)
    folder = repository.clone.parent / "preview"
    write(folder, "comment.md", "<!-- weighin preview -->\n### ✓ This submission holds\n\n- mark: `@octocat`\n")
    write(folder, "number", "7")
    theirs = {"sha": head, "ref": "rows", "repo": {"full_name": "lab/weighin"}}
    ours = {"sha": repository.base, "ref": "main", "repo": {"full_name": "weighin/weighin"}}
    found = GitHub(repository.clone, {"state": "open", "head": theirs, "base": ours})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            self._answer()

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            told = self.headers["Authorization"] == "Bearer secret" and self.path.startswith("/repos/weighin/weighin/")
            answer = found.answer(self.command, self.path.removeprefix("/repos/weighin/weighin/"), body) if told else None
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.root = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def post(github: GitHub, **changes: Any) -> subprocess.CompletedProcess[str]:
    """The step of comment.yml, after a run of the other workflow."""
    head = github.pull["head"]
    run = {"event": "pull_request", "head_sha": head["sha"], "head_branch": "rows", "head_repository": {"full_name": "lab/weighin"}}
    event = write(github.clone.parent, "event.json", json.dumps({"workflow_run": run | changes}))
    told = {"EVENT_PATH": str(event), "REPOSITORY": "weighin/weighin", "API_URL": github.root, "TOKEN": "secret"}
    words = [sys.executable, "-I", str(github.clone / ".ci/comment.py"), str(github.clone.parent / "preview")]
    environment = os.environ | {f"GITHUB_{name}": value for name, value in told.items()}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


def refused(github: GitHub, done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert not [a for a in github.asked if not a.startswith("GET")]


def test_one_comment_is_made_and_then_made_anew(github: GitHub) -> None:
    stranger = {"id": 5, "user": {"login": "stranger"}, "body": "<!-- weighin preview -->\nmine"}
    github.comments += [{"id": i, "user": {"login": "stranger"}, "body": "a word"} for i in range(10, 130)] + [stranger]
    folder = github.clone.parent / "preview"
    first = post(github)
    assert first.returncode == 0, first.stderr
    assert github.comments[-1]["body"] == (folder / "comment.md").read_text()
    write(folder, "comment.md", "<!-- weighin preview -->\nanew\n")
    again = post(github)
    assert again.returncode == 0, again.stderr
    assert len(github.comments) == 122
    assert github.comments[-1]["body"] == "<!-- weighin preview -->\nanew\n"
    assert stranger["body"].endswith("mine")


@pytest.mark.parametrize(
    "other",
    [
        {"head_repository": {"full_name": "other/weighin"}},
        {"head_repository": None},
        {"head_branch": "another"},
        {"event": "push"},
    ],
)
def test_an_artifact_points_at_no_other_pull_request(github: GitHub, other: dict[str, Any]) -> None:
    refused(github, post(github, **other), "a pull request that the run was not of")


def test_a_run_of_an_older_head_posts_nothing(github: GitHub) -> None:
    done = post(github, head_sha="0" * 40)
    assert done.returncode == 0
    assert "has moved on" in done.stdout
    assert github.comments == []


def test_a_head_with_workflows_of_its_own_has_no_say(github: GitHub, repository: Repository) -> None:
    """Its run may have written whatever it likes: a comment of the base's words alone stands there."""
    head = repository.submit(lambda fork: write(fork, ".github/workflows/own.yml", "name: preview\n"))
    git(repository.clone, "fetch", "-q", "origin", head)
    github.pull["head"]["sha"] = head
    write(github.clone.parent / "preview", "comment.md", "<!-- weighin preview -->\nrank 1 for certain\n")
    assert post(github).returncode == 0
    assert "changes `.github`" in github.comments[-1]["body"]
    assert "rank 1" not in github.comments[-1]["body"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("number", "8/../../x", "number"),
        ("number", "٧", "number"),
        ("number", "7" * 20, "over 10 bytes"),
        ("number", "8", "404"),
        ("comment.md", "no marker", "is not what"),
        ("comment.md", "<!-- weighin preview -->\n@octocat", "is not what"),
        ("comment.md", "<!-- weighin preview -->\n`a`<img src=x>", "is not what"),
        ("comment.md", "<!-- weighin preview -->\n[x](y)", "is not what"),
        ("comment.md", "<!-- weighin preview -->\n" + "a" * 70_000, "over 65,536 characters"),
        ("comment.md", "<!-- weighin preview -->\n" + "a" * 300_000, "over 200,000 bytes"),
    ],
)
def test_what_is_no_comment_is_not_posted(github: GitHub, name: str, text: str, said: str) -> None:
    write(github.clone.parent / "preview", name, text)
    refused(github, post(github), said)


@pytest.mark.parametrize("name", ["number", "comment.md"])
def test_links_in_the_artifact_are_not_followed(github: GitHub, name: str) -> None:
    file = github.clone.parent / "preview" / name
    file.rename(file.with_suffix(".kept"))
    file.symlink_to(file.with_suffix(".kept"))
    refused(github, post(github), name)
    file.unlink()
    os.mkfifo(file)
    refused(github, post(github), "no plain file")
    file.unlink()
    refused(github, post(github), name)


# the workflows themselves


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((WORKFLOWS / name).read_text(encoding="utf-8"), yaml.BaseLoader)  # `on` is no truth value
    return found


def test_the_workflow_that_reads_the_submission_cannot_write() -> None:
    told = workflow("preview.yml")
    assert told["on"] == {"pull_request": {"branches": ["main"], "paths": ["results/**"]}}
    assert told["permissions"] == {"contents": "read"}
    (job,) = told["jobs"].values()
    assert "permissions" not in job
    checkouts = [s["with"] for s in job["steps"] if "checkout@" in s.get("uses", "")]
    assert [(c["ref"], c["persist-credentials"]) for c in checkouts] == [("${{ github.event.pull_request.base.sha }}", "false")]
    assert "secrets" not in json.dumps(told)
    for line in "\n".join(s.get("run", "") for s in job["steps"]).splitlines():
        assert "python" not in line or " -I " in line, line


def test_the_workflow_that_writes_comments_never_sees_the_submission() -> None:
    told = workflow("comment.yml")
    assert told["on"] == {"workflow_run": {"workflows": [workflow("preview.yml")["name"]], "types": ["completed"]}}
    assert told["permissions"] == {}
    (job,) = told["jobs"].values()
    assert job["permissions"] == {"contents": "read", "actions": "read", "pull-requests": "write"}
    assert "workflow_run.event == 'pull_request'" in job["if"]
    (checkout,) = (s for s in job["steps"] if "checkout@" in s.get("uses", ""))
    assert checkout["with"] == {"persist-credentials": "false"}  # the default branch
    (download,) = (s for s in job["steps"] if "download-artifact@" in s.get("uses", ""))
    assert download["with"]["path"].startswith("${{ runner.temp }}/")  # not over what was checked out


@pytest.mark.parametrize("name", ["preview.yml", "comment.yml"])
def test_actions_are_commits_and_nothing_from_outside_is_in_a_shell(name: str) -> None:
    steps = [s for job in workflow(name)["jobs"].values() for s in job["steps"]]
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", s["uses"]) for s in steps if "uses" in s)
    assert not any("${{" in s.get("run", "") for s in steps)
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    assert len(re.findall(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, re.MULTILINE)) == sum("uses" in s for s in steps)


def test_both_scripts_know_the_comment_by_one_marker() -> None:
    marks = [re.findall(r'^MARKER = "(.*?)"', (SCRIPTS / f"{n}.py").read_text(), re.MULTILINE) for n in ("preview", "comment")]
    assert marks[0] == marks[1]
    assert len(marks[0]) == 1
