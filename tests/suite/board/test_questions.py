"""Questions people bring: a budget's numbers, methods side by side, where a method stands, what changed."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from suite import registry, versions
from suite.board import addresses, budgets, changes, comparing, pages, standing, store, tables
from suite.board.tables import Board, Cell, Part, Ranking, Row
from suite.versions import Entry, Table
from tests.helpers import on_one_line, page_text
from tests.suite.board.test_store import HERE, light
from tests.suite.board.test_tables import measured

if TYPE_CHECKING:
    import duckdb

TASK = registry.task("image_pruning")


@pytest.fixture
def boards(connection: duckdb.DuckDBPyConnection) -> dict[Ranking, Board]:
    return {r: tables.board(connection, r) for r in tables.rankings(connection)}


@pytest.fixture
def half(boards: dict[Ranking, Board]) -> Board:
    return next(b for r, b in boards.items() if r.target == "macs=0.5")


def asked_of(board: Board) -> dict[str, dict[str, Any]]:
    return {key: json.loads(text) for key, text in budgets.rows(board, TASK).items()}


def row_of(board: Board, label: str) -> Row:
    return next(r for r in board.rows if r.label == label)


def test_a_budget_is_held_against_numbers_and_their_surer_ends(half: Board) -> None:
    chex = row_of(half, "chex")
    told = asked_of(half)[chex.key]
    assert chex.change is not None
    assert told["n"] == "chex"
    assert told["s"] == pytest.approx([chex.cells["speedup infer@64"].value, chex.cells["speedup infer@64"].low], rel=1e-4)
    assert told["c"] == pytest.approx([chex.change.value, chex.change.low], rel=1e-4)
    assert told["p"] == pytest.approx(50, rel=1e-4)
    gain, sure, name = told["w"][0]
    assert gain == pytest.approx(min(p.change for p in chex.classes), rel=1e-4)
    assert name in {p.name for p in chex.classes}
    assert sure < gain


def test_neither_the_parent_nor_what_is_off_target_answers_and_what_is_not_ranked_has_no_place(half: Board) -> None:
    told = asked_of(half)
    assert not {k for k in told if k.startswith(("dense", "l1_filters-floor"))}
    assert "j" not in told["chex-sampling-uniform"]
    assert [told[r.key]["j"][1] for r in half.ranked] == list(range(len(half.ranked)))


def test_rows_that_share_a_lane_cannot_be_told_apart(half: Board) -> None:
    joined = budgets.joined(half)
    for at, row in enumerate(half.ranked):
        low, own, high = joined[row.key]
        assert low <= own == at <= high
        beside = {i for first, last, _ in half.lanes if first <= at <= last for i in range(first, last + 1)} | {at}
        assert beside == set(range(low, high + 1))


def test_a_loss_is_one_whichever_way_the_measure_goes() -> None:
    fewer = Cell(-0.5, -0.7, -0.3)
    assert budgets._gain(fewer, up=True) == [-0.5, -0.7]
    assert budgets._gain(fewer, up=False) == [0.5, 0.3]
    assert budgets._gain(Cell(1.0), up=True) == [1.0, None]  # one seed has no interval


def test_a_class_too_small_to_be_compared_pays_for_nothing() -> None:
    parts = [Part("cat", 80, 82, -2, 1.5), Part("dog", 80, 81, -1, 4), Part("emu", 10, 50, -40, 1, small=True)]
    assert budgets._pays(parts) == [-2, -5, "cat"]  # the surer end is the dog's
    assert budgets._pays(parts[2:]) is None


def test_the_data_to_compare_say_what_the_boards_say(boards: dict[Ranking, Board]) -> None:
    told = comparing.data(pages._environment().filters, boards)
    names, rankings = [n for n, _ in told["methods"]], told["rankings"]
    at = next(i for i, r in enumerate(rankings) if r[3] == "macs=0.5")
    chex = next(r for r in told["rows"] if r[0] == at and names[r[1]] == "chex")
    board = boards[next(r for r in boards if r.target == "macs=0.5")]
    row = row_of(board, "chex")
    assert chex[2:4] == ["", 3]  # its own row, three variants beside
    assert chex[4] == f"{row.quality.mean:.1f}"
    assert chex[6].startswith(("−", "+"))
    assert "<" not in "".join(map(str, chex))
    assert chex[7] == "1.33×"
    assert chex[9] == 1
    assert chex[11] == f"{row.rank} of {len(board.ranked)}"
    dense = next(r for r in told["rows"] if r[0] == at and names[r[1]] == "dense")
    assert dense[11] == "the parent"
    assert len(dense) == 12  # no place among the ranked
    assert rankings[at][5] == board.address


@pytest.mark.slow
def test_a_method_without_its_own_row_is_compared_by_its_best_variant(tmp_path: Path) -> None:
    for value, variant in ((90, "delta0=0.1"), (91, "delta0=0.0")):
        for seed in range(3):
            method = {"name": "chex", "origin": "reference", "version": HERE, "variant": variant}
            light(tmp_path / "r", seed, key=f"{value}{seed:062x}", measures=measured(value), method=method)
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        boards = {r: tables.board(db, r) for r in tables.rankings(db)}
    (row,) = comparing.data(pages._environment().filters, boards)["rows"]
    assert row[2:4] == ["delta0=0.0", 1]


def test_a_method_stands_once_in_each_ranking_that_its_own_row_is_in(boards: dict[Ranking, Board]) -> None:
    places = standing.of(boards)
    assert [p.board.ranking.target for p in places["chex"]] == ["macs=0.5", "macs=0.25"]
    assert {p.told for p in places["dense"]} == {"the parent"}
    for p in places["chex"]:
        assert p.told == f"{p.row.rank} of {len(p.board.ranked)}"
        assert p.ahead == pytest.approx(1 - ((p.row.quality.best + p.row.quality.worst) / 2 - 1) / (p.of - 1))
    line = standing.Line("chex", "paper", "", places["chex"])
    assert line.best is not None
    assert line.best.ahead == max(p.ahead or 0 for p in places["chex"])
    assert standing.Line("dense", "parent", "", places["dense"]).typical is None


def test_a_methods_page_begins_with_where_it_stands(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    pages.write_pages(connection, tmp_path)
    text = (tmp_path / "methods/chex.md").read_text(encoding="utf-8")
    assert text.index("Where it stands") < text.index("What we changed") < text.index("All its rows")
    first = text[text.index("Where it stands") : text.index("What it is")]
    assert first.count('<svg class="place"') == 2
    assert "score=l1" not in first
    assert 'href="../compare.html?m=chex"' in first
    index = page_text(tmp_path / "methods/index.md")
    (line,) = re.findall(r'<tr><td><b><a href="chex.html">.*?</tr>', index)
    assert '<td class="num" data-h="rankings">2</td>' in line
    assert re.search(r"\d+(–\d+)? of [35]</a>", line)
    bip = re.search(r'<a href="bip.html">.*?</tr>', index)
    assert bip is not None
    assert ">–</td>" in bip.group()  # it has no rows here


def days_of(folder: Path) -> Any:
    store.publish(folder / "r", folder / "b.duckdb")
    with store.connect(folder / "b.duckdb") as db:
        return changes.days(db, addresses.pages(tables.rankings(db)))


def changes_of(day: changes.Day) -> list[changes.Change]:
    return [c for places in day.tasks.values() for p in places for c in p.changes]


@pytest.mark.slow
def test_a_row_is_new_on_its_first_day_and_has_further_seeds_after(tmp_path: Path) -> None:
    for seed, day in ((0, 1), (1, 1), (2, 3)):
        light(tmp_path / "r", seed, created=f"2026-01-0{day}T10:00:00Z")
    light(tmp_path / "r", 0, created="2026-01-03T11:00:00Z", systems={"solve": "d" * 16, "weigh": "d" * 16})
    light(tmp_path / "r", 5, created="2026-01-03T11:00:00Z", status="diverged", reason="it did", measures=[])
    light(tmp_path / "r", 9, created="2026-01-05T11:00:00Z", spec={"tier": "smoke"})
    (third, first), _, _ = days_of(tmp_path)
    assert (third.day, first.day) == (date(2026, 1, 3), date(2026, 1, 1))
    (new,), (more,) = changes_of(first), changes_of(third)
    assert (new.fresh, list(new.seeds), new.again, list(new.failed)) == (True, [0, 1], 0, [])
    assert (more.fresh, list(more.seeds), more.again, list(more.failed)) == (False, [2], 1, [5])
    assert first.counts.words == "1 new row"
    assert third.counts.words == "1 row with further seeds, 1 run again or on another machine, 1 failed run"
    assert first.tasks["image_pruning"][0].page == f"tasks/image_pruning-small.html#{new.ranking.anchor}"


@pytest.mark.slow
def test_a_retraction_stands_on_its_own_day_with_its_reason(tmp_path: Path) -> None:
    made = [light(tmp_path / "r", seed, created="2026-01-01T10:00:00Z") for seed in (0, 1)]
    (tmp_path / "r/retractions").mkdir()
    for run, told in zip(made, ({"date": "2026-02-02"}, {}), strict=True):
        ident = json.loads((run / "run.json").read_text(encoding="utf-8"))["id"]
        told = {"id": ident, "reason": "trained on test data", **told}
        (tmp_path / "r/retractions" / f"{ident[:8]}.json").write_text(json.dumps(told), encoding="utf-8")
    (taken, _), undated, _ = days_of(tmp_path)
    assert taken.day == date(2026, 2, 2)
    (dated,) = taken.retracted
    assert dated.reason == "trained on test data"
    assert dated.words == "chex, seed 0: image_pruning, small, fashion/resnet20, macs=0.5, run on 2026-01-01"
    assert [e.words[:12] for e in undated] == ["chex, seed 1"]


@pytest.mark.slow
def test_a_raised_version_archives_what_was_run_before(own_versions: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {"name": "chex", "origin": "reference", "version": "b" * 64}
    light(tmp_path / "r", 0, created="2026-01-01T10:00:00Z", method=old)
    light(tmp_path / "r", 1, created="2026-01-04T10:00:00Z")
    here = registry.method("image_pruning", "chex").version
    known = {"chex": (Entry(1, "b" * 64), Entry(2, here)), "imp": (Entry(1, "c" * 64), Entry(2, "d" * 64))}
    monkeypatch.setattr(versions, "table", lambda task: Table((), known) if task == "image_pruning" else Table())
    monkeypatch.setattr(versions, "archived", lambda: [("image_pruning", "chex", "b" * 64)])
    (raised, first), _, waiting = days_of(tmp_path)
    assert [(e.method, e.version, e.older) for e in raised.raised] == [("chex", 2, 1)]
    assert raised.day == date(2026, 1, 4)
    assert [c.archived for c in changes_of(first)] == [True]
    assert [c.archived for c in changes_of(raised)] == [False]
    assert [(e.method, e.version, e.day) for e in waiting] == [("imp", 2, None)]


@pytest.mark.slow
def test_rows_of_an_earlier_version_of_a_task_are_archived(
    own_versions: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(TASK), "version", 2)
    light(tmp_path / "r", 0, created="2026-01-01T10:00:00Z", spec={"version": 1})
    light(tmp_path / "r", 1, created="2026-01-02T10:00:00Z", spec={"version": 2})
    (second, first), _, _ = days_of(tmp_path)
    assert [(e.task, e.method, e.version, e.older) for e in second.raised] == [("image_pruning", "", 2, 1)]
    assert [(c.archived, p.page) for p in first.tasks["image_pruning"] for c in p.changes] == [(True, "")]


def test_releases_are_the_dated_headings_of_the_changelog() -> None:
    text = "# Changelog\n\n## 0.3.0 (unreleased)\n\n## [0.2.0] - 2026-03-01\n\n### Added\n- 2026-01-01\n\n## 0.1.0 (2026-02-01)\n"
    assert changes.releases(text) == {"0.2.0": date(2026, 3, 1), "0.1.0": date(2026, 2, 1)}
    assert isinstance(changes.releases(), dict)


@pytest.mark.slow
def test_days_beyond_the_newest_are_counted_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        light(tmp_path / "r", seed, created=f"2026-01-0{seed + 1}T10:00:00Z")
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    monkeypatch.setattr(changes, "MOST_DAYS", 2)
    monkeypatch.setattr(changes, "releases", lambda: {"0.2.0": date(2026, 1, 3)})
    with store.connect(tmp_path / "b.duckdb") as db:
        text = on_one_line(changes.page(pages._environment(), db, addresses.pages(tables.rankings(db))))
    assert text.count('<section class="day"') == 2
    assert text.count('<tr class="day"') == 2
    assert "<td>2026-01-01</td><td>image_pruning: 1 new row</td>" in text
    assert "3 January 2026 <small>release 0.2.0</small>" in text
    assert '<option value="2026-01-03">0.2.0, 2026-01-03</option>' in text


@pytest.mark.parametrize(("seeds", "words"), [([], ""), ([3], "3"), ([0, 1, 2], "0–2"), ([0, 1, 5, 7, 8], "0–1, 5, 7–8")])
def test_seeds_in_a_row_are_told_as_a_range(seeds: list[int], words: str) -> None:
    assert changes.span(seeds) == words
