"""What a submission would change is told before it is merged, and whatever it is called, nothing of it is markup."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from suite import bundle
from suite.board import preview, store, tables
from suite.board.preview import Move, Place, Preview, Ranked
from suite.checks.findings import Finding
from tests import demo

LATER = "2026-11-29T00:00:00Z"
HOSTILE = (
    "a`b`` <img src=x onerror=alert(1)> @octocat [l](https://evil.example) ![i](u) | x | #1 www.evil.example"
    " \\` **b** <!-- \x1b[2J\n\n# h"
)


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def row(found: Preview, label: str, target: str = "macs=0.5") -> Move:
    ranking = next(r for r in found.rankings if r.target == target)
    return next(m for m in ranking.moves if m.row == label)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small board; read only."""
    root = tmp_path_factory.mktemp("base") / "results"
    for method, accuracy in (("dense", 0.92), ("l1_filters", 0.90), ("fpgm", 0.88)):
        for seed in range(3):
            demo.write(root, method, target="" if method == "dense" else "macs=0.5", seed=seed, accuracy=accuracy)
    for seed in range(3):
        demo.write(root, "l1_filters", target="macs=0.25", seed=seed, accuracy=0.85)
    return root


@pytest.fixture
def results(base: Path, tmp_path: Path) -> Path:
    """The same, to be added to."""
    return shutil.copytree(base, tmp_path / "results")


def test_a_new_row_is_told_its_place_and_what_it_displaces(base: Path, results: Path) -> None:
    for seed in range(3):
        demo.write(results, "chex", seed=seed, accuracy=0.91)
    found = preview.preview(results, base)
    assert (len(found.bundles), found.errors) == (3, 0)
    assert [r.target for r in found.rankings] == ["macs=0.5"]  # no other is touched, none other computed
    chex = row(found, "chex")
    assert chex.submitted
    assert chex.before is None
    assert chex.after is not None
    assert (chex.after.rank, chex.after.seeds, chex.after.why) == ("1", [0, 1, 2], "")
    lost = {m.row: (m.before and m.before.rank, m.after and m.after.rank) for m in found.rankings[0].moves if not m.submitted}
    assert lost == {"l1_filters": ("1", "2"), "fpgm": ("2", "3")}


def test_the_boards_are_those_that_are_published(base: Path, results: Path, tmp_path: Path) -> None:
    """What the comment says after is what the site shows once the submission is merged."""
    for seed in range(3):
        demo.write(results, "chex", seed=seed, accuracy=0.903)
    found = preview.preview(results, base)
    store.publish(results, tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        board = next(tables.board(db, r) for r in tables.rankings(db) if r.target == "macs=0.5")
    chex, after = next(r for r in board.ranked if r.label == "chex"), row(found, "chex").after
    assert after == Place(chex.rank, chex.quality.mean, chex.half, sorted(chex.seeds))
    assert found.rankings[0].rows == len(board.ranked)


def test_further_seeds_move_a_row_that_stands(base: Path, results: Path) -> None:
    for seed in (3, 4):
        demo.write(results, "fpgm", seed=seed, accuracy=0.88)
    told = row(preview.preview(results, base), "fpgm")
    assert told.before is not None
    assert told.after is not None
    assert (told.before.seeds, told.after.seeds) == ([0, 1, 2], [0, 1, 2, 3, 4])


def test_a_row_that_is_not_ranked_is_told_why(base: Path, results: Path) -> None:
    demo.write(results, "chex", seed=0)
    for seed in range(3):
        demo.write(results, "hrank", seed=seed, kept=0.56)
    found = preview.preview(results, base)
    told = {m.row: m.after and (m.after.rank, m.after.why) for m in found.rankings[0].moves}
    assert told == {"chex": ("", "1 of at least 3 seeds"), "hrank": ("", "kept 0.56 of macs where 0.5 was asked")}


def test_a_run_of_the_parent_touches_every_target_of_its_case(base: Path, results: Path) -> None:
    demo.write(results, "dense", target="", seed=3, accuracy=0.92)
    found = preview.preview(results, base)
    assert [(r.target, [m.row for m in r.moves]) for r in found.rankings] == [("macs=0.5", ["dense"]), ("macs=0.25", ["dense"])]
    assert "the parent, which the others are held against" in preview.markdown(found)


def test_bundles_that_change_no_place_are_told_why(base: Path, results: Path) -> None:
    demo.write(results, "chex", seed=7, status="diverged")
    demo.write(results, "fpgm", seed=1, accuracy=0.95, machine=demo.card("Another processor"), changes={"created": LATER})
    found = preview.preview(results, base)
    assert sorted(a.why.partition(",")[0] for a in found.aside) == [
        "it ended as diverged",
        "its row has a run of this seed already",
    ]
    fpgm = row(found, "fpgm")
    assert fpgm.before == fpgm.after


def test_a_retraction_moves_the_row_that_it_is_of(base: Path, results: Path) -> None:
    runs = map(bundle.read, bundle.find(results / "image_pruning/small/l1_filters"))
    taken = next(r for r in runs if r.spec.target == "macs=0.5")
    (results / "retractions").mkdir()
    (results / "retractions" / "one.json").write_text(json.dumps({"id": taken.id, "reason": "a fan stood still"}))
    found = preview.preview(results, base)
    assert found.bundles == []
    assert found.beside == ["retractions/one.json"]
    assert [f.level for f in found.findings] == ["mark"]
    told = row(found, "l1_filters")
    assert (told.before and told.before.rank, told.after and told.after.rank) == ("1", "")
    assert row(found, "fpgm").after != row(found, "fpgm").before


def test_a_submission_with_an_error_is_told_its_errors_and_no_place(base: Path, results: Path) -> None:
    honest = demo.write(results, "chex", seed=0)
    demo.write(results, "chex", seed=1)
    text = (honest / bundle.RUN).read_text()
    (honest / bundle.RUN).write_text(text.replace('"value": 170', '"value": 17'))
    found = preview.preview(results, base)
    assert found.errors == 1
    assert found.rankings == ()
    assert found.findings[0].level == "error"
    assert found.findings[0].bundle == honest.relative_to(results).as_posix()
    comment = preview.markdown(found)
    assert comment.startswith("### ✕")
    assert "rank 1" not in comment


def test_findings_name_no_folder_of_the_machine(base: Path, results: Path) -> None:
    demo.write(results, "fpgm", seed=1, accuracy=0.95, machine=demo.card("Another processor"))  # made no later than what stands
    (told,) = preview.preview(results, base).findings
    assert "stands there already" in told.message
    assert str(base.parent) not in told.line()
    assert str(results.parent) not in told.line()


def test_what_the_pull_request_may_not_change_is_an_error(base: Path, results: Path) -> None:
    for seed in range(3):
        demo.write(results, "chex", seed=seed, accuracy=0.91)
    found = preview.preview(results, base, ["suite/a.py: a submission of results changes nothing else"])
    assert (found.errors, found.rankings) == (1, ())
    assert "suite/a.py" in preview.markdown(found)


def test_nothing_new_changes_nothing(base: Path) -> None:
    found = preview.preview(base, base)
    assert (found.bundles, found.beside, found.findings, found.rankings) == ([], [], [], ())
    assert "No place on the board changes." in preview.markdown(found)


def test_no_text_of_a_submission_is_markup() -> None:
    """Read by CommonMark with tables: all of it is in code, and no code or cell ends early."""
    moves = [Move(HOSTILE, True, None, Place("", 1, None, [0], HOSTILE)), Move(HOSTILE, False, None, Place("1", 1, 1, [0]))]
    ranking = Ranked(HOSTILE, "small", "closed", HOSTILE, HOSTILE, HOSTILE, 1, moves)
    mark = Finding(HOSTILE, HOSTILE, HOSTILE, "mark", HOSTILE, HOSTILE)
    told = Preview([HOSTILE], [], [], [mark], [ranking], [preview.Aside(HOSTILE, [HOSTILE])])
    for shown in (told, Preview([], [], [HOSTILE], told.findings)):
        found = list(tokens(preview.markdown(shown)))
        assert not {t.type for t in found} & {"html_block", "html_inline", "link_open", "image", "fence", "code_block", "hr"}
        outside = " ".join(t.content for t in found if t.type == "text")
        assert not any(word in outside for word in ("octocat", "evil", "onerror", "#1", "`", "@"))
        assert any("octocat" in t.content for t in found if t.type == "code_inline")
        assert [t.tag for t in found if t.type == "heading_open"] == ["h3", "h4"][: 1 + bool(shown.rankings)]
    cells = [t.type for t in tokens(preview.markdown(told)) if t.type in ("tr_open", "td_open", "th_open")]
    assert cells == [*["tr_open", "th_open", "th_open", "th_open", "tr_open", "td_open", "td_open", "td_open"] * 2]


@pytest.mark.slow
def test_a_comment_is_no_longer_than_github_takes() -> None:
    finding = Finding("b" * 300, "f" * 300, "x" * 300, "error", "m" * 300, "d" * 300)
    assert len(preview.markdown(Preview(["p"] * 5000, [], ["l" * 999] * 5000, [finding] * 5000))) < 60_000
    moves = [Move("m" * 400, i % 2 == 0, Place("1", 1, 1, [0]), Place("", 1, 1, [0], "w" * 400)) for i in range(100)]
    ranking = Ranked("t", "small", "closed", "c" * 120, "a=1", "%", 100, moves)
    many = preview.markdown(Preview([], [], [], [], [ranking] * 100, [preview.Aside("w" * 100, ["p" * 300] * 9)] * 8))
    assert len(many) < 60_000
    assert "more rankings changed" in many


def test_the_command_prints_the_comment_or_json_and_ends_with_1_where_it_does_not_hold(base: Path, results: Path) -> None:
    def weighin(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "suite.cli", "preview", str(results), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    path = demo.write(results, "chex", seed=0)
    told = weighin("--against", str(base), "--json")
    assert (told.returncode, json.loads(told.stdout)["bundles"]) == (0, [path.relative_to(results).as_posix()])
    (path / bundle.TIMING).unlink()
    refused = weighin("--against", str(base), "--markdown")
    assert refused.returncode == 1
    assert refused.stdout.startswith("### ✕")
    missing = weighin("--against", str(results / "nowhere"))
    assert missing.returncode == 2
    assert "--against" in missing.stderr
