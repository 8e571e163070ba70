"""A timing of a row's shape stands beside the row on its own card, marked, and counts for nothing but time."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import bundle
from suite.board import store, tables
from suite.board.tables import Board
from suite.naming import UserError
from tests import demo

GPU = demo.card("Invented accelerator")


def rows(root: Path, *, seeds: int = 3) -> Path:
    for seed in range(seeds):
        demo.write(root, "dense", target="", seed=seed, accuracy=0.91, speedup=1.0)
        for method, accuracy in (("chex", 0.9), ("fpgm", 0.88)):
            demo.write(root, method, seed=seed, accuracy=accuracy)
    return root


def bundles(root: Path, method: str) -> list[Path]:
    return [p for p in bundle.find(root) if method in p.parts]


def board(root: Path, on: tuple[str, str] | None = None) -> Board:
    db = root.parent / "board.duckdb"
    store.publish(root, db)
    with store.connect(db) as connection:
        ranking = next(r for r in tables.rankings(connection) if r.target)
        return tables.board(connection, ranking, on)


def row(of: Board, method: str) -> tables.Row:
    return next(r for r in of.rows if r.method == method)


def test_a_row_that_was_not_weighed_on_a_card_has_the_time_of_its_shape_there(tmp_path: Path) -> None:
    root = rows(tmp_path / "results")
    before = board(root)
    for path in bundles(root, "chex"):
        demo.retime(root, path, speedup=1.2, machine=GPU, submitter="Lab B")
    after, there = board(root), board(root, (GPU.hash, "cpu"))
    assert (GPU.hash, "cpu") in after.cards
    timed = row(there, "chex")
    assert (timed.timed, row(there, "fpgm").timed) == (3, 0)
    assert timed.cells["speedup infer@64"].value == pytest.approx(1.2, rel=0.01)
    assert timed.marks[0].text == "re-timed by Lab B"
    assert "speedup infer@64" not in row(there, "fpgm").cells
    # on the card that weighed the rows themselves nothing changes
    assert [r.marks for r in after.rows] == [r.marks for r in before.rows]
    assert row(after, "chex").cells == row(before, "chex").cells


def test_quality_ranks_and_seeds_stay_what_they_were(tmp_path: Path) -> None:
    root = rows(tmp_path / "results")
    before = board(root)
    for path in bundles(root, "chex"):
        demo.retime(root, path, machine=GPU)
    for after in (board(root), board(root, (GPU.hash, "cpu"))):
        assert [(r.method, r.rank, r.quality, r.seeds, r.change) for r in after.rows] == [
            (r.method, r.rank, r.quality, r.seeds, r.change) for r in before.rows
        ]
        assert [r.id for r in after.runs] == [r.id for r in before.runs]


def test_what_a_card_weighed_itself_comes_before_a_timing_of_the_shape(tmp_path: Path) -> None:
    root = rows(tmp_path / "results")
    demo.retime(root, bundles(root, "chex")[0], speedup=1.2, machine=demo.card())
    found = row(board(root), "chex")
    assert found.timed == 3
    assert found.cells["speedup infer@64"].value == pytest.approx(1.4, rel=0.01)
    assert not any(m.text.startswith("re-timed") for m in found.marks)


def test_a_timing_comes_and_goes_with_its_row_and_with_its_file(tmp_path: Path) -> None:
    root = rows(tmp_path / "results")
    path = demo.retime(root, bundles(root, "chex")[0], machine=GPU)
    assert row(board(root, (GPU.hash, "cpu")), "chex").timed == 1
    kept = path.rename(tmp_path / "kept")
    assert (GPU.hash, "cpu") not in board(root).cards
    kept.rename(path)
    assert row(board(root, (GPU.hash, "cpu")), "chex").timed == 1
    (root / "retractions").mkdir()
    taken = bundle.read(bundles(root, "chex")[0])
    (root / "retractions" / "one.json").write_text(f'{{"id": "{taken.id}", "reason": "wrong"}}', encoding="utf-8")
    assert (GPU.hash, "cpu") not in board(root).cards


def test_a_speed_up_that_is_none_is_not_published(tmp_path: Path) -> None:
    import json

    from suite import timings

    root = rows(tmp_path / "results", seeds=1)
    path = demo.retime(root, bundles(root, "chex")[0], machine=GPU)
    body = json.loads((path / timings.TIME).read_text(encoding="utf-8"))
    next(m for m in body["measures"] if m["name"] == "speedup")["value"] = -1.0
    (path / timings.TIME).write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(UserError, match="is nothing that a bundle holds"):
        store.publish(root, tmp_path / "b.duckdb")


def test_claims_are_judged_by_what_was_weighed_as_it_was_solved(tmp_path: Path) -> None:
    from suite.board import claims

    root = rows(tmp_path / "results")
    before = claims.judge(root, "image_pruning")
    for path in bundles(root, "chex"):
        demo.retime(root, path, speedup=1.2, machine=GPU)
    assert claims.judge(root, "image_pruning") == before


def test_timings_alone_are_a_submission_that_is_checked(tmp_path: Path) -> None:
    """These are of rows whose operations give no network: each is refused, whoever submits it, and no place is told."""
    from suite.board import preview

    base = rows(tmp_path / "base" / "results", seeds=1)
    submission = tmp_path / "submission"
    for path in bundles(base, "chex"):
        made = demo.retime(base, path, machine=GPU)
        there = submission / made.relative_to(base)
        there.parent.mkdir(parents=True, exist_ok=True)
        made.rename(there)
    (submission / "systems").mkdir()
    (base / "systems" / f"{GPU.hash}.json").rename(submission / "systems" / f"{GPU.hash}.json")
    found = preview.preview(submission, base)
    assert len(found.timings) == 1
    assert (list(found.bundles), list(found.rankings)) == ([], [])
    assert any("its operations give none" in f.message for f in found.findings), found.findings
    text = preview.markdown(found)
    assert "1 new timing, " in text
