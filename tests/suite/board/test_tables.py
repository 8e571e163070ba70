"""Rows of a board: what is merged, what is ranked, what is only kept."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from suite import registry
from suite.board import export, pages, store, tables
from suite.board.tables import Board
from suite.show import Against, Show
from tests import demo
from tests.helpers import on_one_line
from tests.suite.board.test_store import light

if TYPE_CHECKING:
    import duckdb


def measured(top1: float, speedup: float = 1.3, kept: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"name": "top1", "value": top1, "unit": "%", "direction": "up", "low": top1 - 0.5, "high": top1 + 0.5},
        {"name": "kept.macs", "value": kept, "source": "meter"},
        {
            "name": "speedup",
            "part": "infer@64",
            "value": speedup,
            "low": speedup - 0.01,
            "high": speedup + 0.01,
            "source": "timing",
        },
    ]


def boards_of(results: Path, db: Path) -> list[Board]:
    store.publish(results, db)
    with store.connect(db) as connection:
        return [tables.board(connection, r) for r in tables.rankings(connection)]


@pytest.fixture
def half(connection: duckdb.DuckDBPyConnection) -> Board:
    ranking = next(r for r in tables.rankings(connection) if r.target == "macs=0.5")
    return tables.board(connection, ranking)


def test_every_ranking_has_its_board_and_the_larger_target_comes_first(connection: duckdb.DuckDBPyConnection) -> None:
    assert [r.target for r in tables.rankings(connection)] == ["macs=0.5", "macs=0.25"]


def test_rows_are_methods_over_seeds_and_only_three_seeds_on_target_rank(half: Board) -> None:
    assert half.parent is not None
    assert half.parent.label == "dense"
    assert {r.label for r in half.ranked} == {"chex", "chex (delta0=0.0)", "chex (score=l1)", "l1_filters", "uniform_scratch"}
    assert all(len(r.seeds) == 3 for r in half.ranked)
    why = {r.label: r.off_target or len(r.seeds) for r in half.unranked}
    assert why == {"chex (sampling=uniform)": 1, "l1_filters (floor=0.5)": "kept 0.56 of macs where 0.5 was asked"}
    assert [(f.method, f.seed, f.status) for f in half.failures] == [("chex", 7, "diverged")]
    assert (half.unit, half.up) == ("%", True)


def test_ranked_rows_run_from_best_to_worst_and_papers_carry_the_marks(half: Board) -> None:
    means = [r.quality.mean for r in half.ranked]
    assert means == sorted(means, reverse=True)
    marks = {r.label: r.mark for r in half.rows}
    assert marks["chex"] >= 0
    assert marks["dense"] == -2
    assert marks["chex (score=l1)"] == marks["l1_filters"] == -1


def test_the_change_is_the_mean_of_paired_differences(half: Board, connection: duckdb.DuckDBPyConnection) -> None:
    expected = connection.execute(
        "SELECT avg(change) FROM changes WHERE method = 'chex' AND variant = '' AND target = 'macs=0.5' AND name = 'top1'"
    ).fetchone()
    chex = next(r for r in half.ranked if r.label == "chex")
    assert chex.change is not None
    assert expected is not None
    assert chex.change.value == pytest.approx(expected[0])
    alone = next(r for r in half.unranked if r.label == "chex (sampling=uniform)")
    assert alone.change is None  # there is no dense row of its seed: nothing is not zero
    assert half.parent is not None
    assert half.parent.change is None


def test_quality_is_one_over_all_cards_and_timings_are_each_cards_own(half: Board, connection: duckdb.DuckDBPyConnection) -> None:
    assert len(half.cards) == 2
    other = tables.board(connection, half.ranking, half.cards[1])
    here, there = ({r.label: r for r in b.rows} for b in (half, other))
    assert here["chex"].quality == there["chex"].quality
    for (card, _), row in zip(half.cards, (here["chex"], there["chex"]), strict=True):
        expected = connection.execute(
            "SELECT exp(avg(ln(m.value))) FROM weighed AS w JOIN measures AS m ON m.run = w.id AND m.name = 'speedup'"
            " AND m.part = 'infer@64' WHERE w.weigh_card = ? AND method = 'chex' AND variant = '' AND target = 'macs=0.5'",
            [card],
        ).fetchone()
        assert expected is not None
        assert row.cells["speedup infer@64"].value == pytest.approx(expected[0])
    assert not there["l1_filters"].cells


def test_devices_of_one_card_are_not_averaged(tmp_path: Path) -> None:
    for seed in range(3):
        light(tmp_path / "r", seed, measures=measured(90, 1.2))
        light(tmp_path / "r", seed, measures=measured(90, 3.0), spec={"device": "cuda"}, key=f"{seed + 50:064x}")
    (found,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    assert len(found.cards) == 2
    assert found.ranked[0].cells["speedup infer@64"].value == pytest.approx(1.2)


def test_a_run_that_was_asked_nothing_is_no_row_of_a_target(tmp_path: Path) -> None:
    for seed in range(3):
        light(tmp_path / "r", seed, measures=measured(90))
    light(tmp_path / "r", 3, measures=measured(99), spec={"target": ""})
    (found,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    assert [sorted(r.seeds) for r in found.rows] == [[0, 1, 2]]


def test_older_versions_and_tasks_that_are_not_installed_are_archived(tmp_path: Path) -> None:
    light(tmp_path / "r", 0, measures=measured(90))
    light(tmp_path / "r", 1, measures=measured(90), spec={"version": 99})
    light(tmp_path / "r", 2, measures=measured(90), spec={"task": "somebodys_task"})
    (found,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    assert found.ranking.version == registry.task("image_pruning").version


@pytest.mark.slow
def test_speed_only_runs_have_rows_without_a_quality(tmp_path: Path) -> None:
    light(tmp_path / "r", measures=measured(90)[1:], spec={"division": "speed"})
    (found,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    assert not found.ranked
    assert math.isnan(found.unranked[0].quality.mean)
    assert found.unranked[0].cells["speedup infer@64"].value == pytest.approx(1.3)


@pytest.mark.slow
def test_what_a_solve_took_is_shown_on_its_own_card_alone(tmp_path: Path) -> None:
    for seed, solved in enumerate("cff"):
        systems = {"solve": solved * 16, "weigh": "c" * 16}
        seconds = [
            {"name": "train_seconds", "value": 100.0 if solved == "c" else 20.0, "source": "meter"},
            {"name": "solve_resident", "value": 1e9, "source": "meter"},
            {"name": "solve_total", "value": 90.0 if solved == "c" else 10.0, "source": "meter"},  # a task's own of the solve
        ]
        light(tmp_path / "r", seed, measures=[*measured(90), *seconds], systems=systems)
    (found,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    (row,) = found.rows
    assert row.timed == 3
    assert (row.cells["train_seconds"].value, row.cells["solve_total"].value) == (100.0, 90.0)
    for path in sorted((tmp_path / "r").rglob("run.json")):
        if '"solve": "cccc' in path.read_text():
            shutil.rmtree(path.parent)
    (row,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")[0].rows
    assert row.timed == 2
    assert not {"train_seconds", "solve_resident", "solve_total"} & set(row.cells)


def test_what_a_solve_took_is_drawn_over_on_its_own_card_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = Show(against=(Against("solve_total", "Seconds"),))
    monkeypatch.setattr(type(registry.task("image_pruning")), "show", show)
    for seed, solved in enumerate("cff"):
        seconds = {"name": "solve_total", "value": 90.0 if solved == "c" else 10.0, "source": "meter"}
        light(tmp_path / "r", seed, measures=[*measured(90), seconds], systems={"solve": solved * 16, "weigh": "c" * 16})
    (row,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")[0].rows
    assert row.axes["solve_total"].value == pytest.approx(90.0)


@pytest.mark.slow
def test_one_seed_beside_the_committed_three_changes_no_number(tmp_path: Path) -> None:
    """The first run of a newcomer: his accuracy is a replay, his timings stand apart."""
    root = tmp_path / "r"
    for i, method in enumerate(("chex", "l1_filters")):
        for seed in range(3):
            version = registry.methods("image_pruning")[method].version
            named = {"name": method, "origin": "reference", "version": version}
            light(root, seed, measures=measured(90 - i + 0.1 * seed), method=named, key=f"{10 * i + seed + 1:064x}")
    before = boards_of(root, tmp_path / "b.duckdb")[0]
    mine = {"solve": "d" * 16, "weigh": "d" * 16}
    light(root, 0, measures=measured(70, 2.5), systems=mine, created="2026-02-01T00:00:00Z", key="9" * 64)
    after = boards_of(root, tmp_path / "b.duckdb")[0]
    assert [(r.label, r.quality, r.cells) for r in after.rows] == [(r.label, r.quality, r.cells) for r in before.rows]
    assert after.cards == [("c" * 16, "cpu"), ("d" * 16, "cpu")]


@pytest.mark.slow
def test_masks_promise_what_their_zeros_save_and_channels_what_is_cut_out(tmp_path: Path) -> None:
    for seed in range(3):
        demo.write(tmp_path / "r", "rigl", target="nonzero=0.05", seed=seed, kept=1.0, alive=0.05)
        demo.write(tmp_path / "r", "chex", target="macs=0.5", seed=seed)
    masked, cut = (
        next(b.ranked[0] for b in boards_of(tmp_path / "r", tmp_path / "b.duckdb") if b.ranking.target == target)
        for target in ("nonzero=0.05", "macs=0.5")
    )
    assert masked.promise == pytest.approx(20)
    assert masked.cells["kept.macs"].value == 1
    assert cut.promise == pytest.approx(2)


@pytest.mark.slow
def test_nothing_is_promised_where_nothing_was_counted_or_nothing_is_left(tmp_path: Path) -> None:
    counted = [{"name": n, "value": v, "source": "meter"} for n, v in (("macs_nonzero", 0.0), ("macs_parent", 100.0))]
    for target, measures in (("macs=0.5", measured(90)), ("macs=0.25", measured(90, kept=0.25) + counted)):
        light(tmp_path / "r", 0, measures=measures, spec={"target": target})
    assert [r.promise for b in boards_of(tmp_path / "r", tmp_path / "b.duckdb") for r in b.rows] == [None, None]


def test_rungs_between_the_targets_that_the_tier_names_stand_aside(half: Board) -> None:
    def at(target: str, board: Board = half, **others: str) -> Board:
        return replace(board, ranking=replace(board.ranking, target=target, **others))

    rung = at("macs=0.7")
    news = at("macs=0.7", replace(half, ranked=[replace(half.ranked[0], method="other")]))
    assert tables.aside([half, rung]) == {rung.ranking}
    assert tables.aside([rung]) == set()  # all that its case has
    assert tables.aside([half, news]) == set()  # its method stands nowhere else
    assert tables.aside([half, at("macs=0.7", division="open")]) == set()  # another division's names do not count


def test_tables_to_take_away_say_the_same(half: Board, tmp_path: Path) -> None:
    import pandas as pd

    task = registry.task("image_pruning")
    export.write(half, task, tmp_path, "board")
    csv = pd.read_csv(tmp_path / "board.csv", dtype={"rank": str, "variant": str}, keep_default_na=False, na_values=[])
    parquet = pd.read_parquet(tmp_path / "board.parquet")
    records = json.loads((tmp_path / "board.json").read_text())
    assert list(csv["method"]) == list(parquet["method"]) == [r["method"] for r in records] == [r.method for r in half.rows]
    assert list(parquet["top1"]) == pytest.approx([r.quality.mean for r in half.rows])
    assert list(csv["rank"]) == [r.rank if r.ranked else "" for r in half.rows]
    for column in ("task", "version", "tier", "division", "case", "target", "card", "device", "unit"):
        assert column in csv.columns
    tex = (tmp_path / "board.tex").read_text()
    assert "l1\\_filters" in tex
    assert "nan" not in tex
    assert f"{half.ranked[0].quality.mean:.1f}" in tex
    assert tex.count("\\\\\n") == len(half.rows) + 1
    assert "on paper" in tex
    uncounted = export.latex(half, registry.task("mobile_vsr"))  # a task that counts no saving has no column of dashes for it
    assert "on paper" not in uncounted
    assert {line.count(" & ") for line in uncounted.splitlines() if line.endswith("\\\\")} == {3}


def test_the_demo_never_names_a_real_machine() -> None:
    assert demo.card().processor["model"] == "Invented processor"


@pytest.mark.slow
def test_rows_of_processes_that_shared_nothing_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        light(tmp_path / "r", seed, measures=measured(90, 1.2), processes=1 + seed)
    (shared,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    assert [list(r.notes) for r in shared.rows] == [[]]
    monkeypatch.setattr(type(registry.task("image_pruning")), "shares_batches", False)
    (alone,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    assert [list(r.notes) for r in alone.rows] == [["3 processes, a copy each"]]
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
    text = on_one_line("".join(p.read_text(encoding="utf-8") for p in (tmp_path / "docs").rglob("*.md")))
    assert '<span class="tag warn">△ 3 processes, a copy each</span>' in text


def test_a_speed_up_of_which_one_seed_has_no_interval_has_that_of_the_scatter_between_seeds(tmp_path: Path) -> None:
    for seed, speedup in enumerate((1.2, 1.3, 1.4)):
        told = measured(90, speedup)
        if not seed:
            told[-1] |= {"low": None, "high": None}
        light(tmp_path / "r", seed, measures=told)
    (board,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    cell = board.unranked[0].cells["speedup infer@64"] if board.unranked else board.ranked[0].cells["speedup infer@64"]
    logs = np.log([1.2, 1.3, 1.4])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3)
    assert (cell.low, cell.high) == pytest.approx((math.exp(logs.mean() - half), math.exp(logs.mean() + half)))


def test_timings_of_cards_that_only_a_kernels_patch_parts_stand_in_one_row(tmp_path: Path) -> None:
    facts = {"processor": {"model": "A"}, "memory": {}, "software": {}, "gpu": {}}
    (tmp_path / "r" / "systems").mkdir(parents=True)
    for card, kernel in (("a" * 16, "6.8.1"), ("b" * 16, "6.8.2"), ("c" * 16, "6.9.1")):
        (tmp_path / "r" / "systems" / f"{card}.json").write_text(json.dumps({**facts, "system": {"kernel": kernel}}))
    for seed, card in enumerate("aabb"):
        light(tmp_path / "r", seed, measures=measured(90, 1.2 + seed / 10), systems={"solve": card * 16, "weigh": card * 16})
    # the same seed once more on another card of the class is a replay, on another class of machine a timing of its own
    for seed, card in ((0, "b"), (1, "c")):
        systems, when = {"solve": card * 16, "weigh": card * 16}, "2026-02-01T00:00:00Z"
        light(tmp_path / "r", seed, measures=measured(90, 9.0), systems=systems, created=when, key=f"{seed + 90:064x}")
    (board,) = boards_of(tmp_path / "r", tmp_path / "b.duckdb")
    assert board.cards == [("b" * 16, "cpu"), ("c" * 16, "cpu")]
    (row,) = board.ranked
    assert row.timed == 4
    assert row.cells["speedup infer@64"].value == pytest.approx(math.prod((1.2, 1.3, 1.4, 1.5)) ** 0.25)
    (elsewhere,) = tables.timed_on(board, board.cards[1]).ranked
    assert (elsewhere.timed, elsewhere.cells["speedup infer@64"].value) == (1, pytest.approx(9.0))
