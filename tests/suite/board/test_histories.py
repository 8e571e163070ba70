"""Curves over the training and time to a target: from what invented runs told on their way."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

from suite import bundle, registry
from suite.board import charts, histories, pages, store, tables
from suite.board.histories import Trace
from suite.show import History
from tests.suite.board import trainings
from tests.suite.board.test_store import ask

if TYPE_CHECKING:
    import duckdb

TASK = registry.task("image_pruning")
SMALL = {k: trainings.PLAN[k] for k in (("dense", ""), ("chex", ""), ("imp", ""), ("fpgm", ""), ("l1_filters", ""))}
HISTORY = History("val_top1", "Validation accuracy", unit="%")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainings.write(tmp_path_factory.mktemp("trained") / "results")


@pytest.fixture(scope="module")
def trained(results: Path) -> Path:
    return trainings.publish(results)


@pytest.fixture
def db(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    trainings.show(monkeypatch)
    with store.connect(trained) as connection:
        yield connection


def told_of(root: Path) -> tuple[tables.Board, histories.Told | None]:
    store.publish(root, root.parent / "b.duckdb")
    with store.connect(root.parent / "b.duckdb") as db:
        board = trainings.the_board(db)
        return board, histories.history(db, board, TASK)


def records(results: Path, method: str, variant: str = "") -> dict[int, list[bundle.PointRecord]]:
    """What a method's runs told of the value, straight from the bundles."""
    runs = [bundle.read(p) for p in bundle.find(results / "image_pruning" / "small" / method)]
    return {r.spec.seed: [p for p in r.curve if p.name == "val_top1"] for r in runs if r.method.variant == variant}


def trace(values: list[float], *, seconds: float = 1.0, start: int = 0, card: str = "c") -> Trace:
    looks = np.arange(1, len(values) + 1)
    return Trace(card, 100.0 * looks + start, seconds * looks, np.array(values))


@pytest.mark.slow
def test_what_runs_told_is_loaded_once_and_leaves_with_its_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings.show(monkeypatch)
    root, steps = tmp_path / "r", tmp_path / "steps.duckdb"
    for seed in range(3):
        trainings.write(root, SMALL, seeds=[seed])
        store.publish(root, steps)
    store.publish(root, tmp_path / "once.duckdb")
    sql = "SELECT * FROM histories ORDER BY ALL"
    found = ask(steps, sql)
    assert found == ask(tmp_path / "once.duckdb", sql)
    assert {name for _, name, *_ in found} == {"val_top1"}  # the loss beside it is nobody's
    (first, *_) = bundle.find(root / "image_pruning" / "small" / "imp")
    run = bundle.read(first)
    mine = [row[2:] for row in found if row[0] == run.id]
    there = [p for p in run.curve if p.name == "val_top1"]
    assert mine == [(k, p.examples, p.seconds, p.value, run.curve[-1].examples) for k, p in enumerate(there, 1)]
    shutil.rmtree(first)
    store.publish(root, steps)
    assert ask(steps, "SELECT count(*) FROM histories WHERE run = ?", run.id) == [(0,)]
    assert len(ask(steps, sql)) == len(found) - len(there)


@pytest.mark.slow
def test_nothing_is_loaded_of_a_task_that_shows_nothing(tmp_path: Path) -> None:
    trainings.write(tmp_path / "r", SMALL, seeds=[0])
    board, told = told_of(tmp_path / "r")
    assert told is None
    assert board.parent is not None
    assert ask(tmp_path / "b.duckdb", "SELECT count(*) FROM histories") == [(0,)]


def test_the_target_is_taken_from_where_the_parents_runs_ended(results: Path, db: duckdb.DuckDBPyConnection) -> None:
    ended = [points[-1].value for points in records(results, "dense").values()]
    assert len(ended) == 5
    told = histories.history(db, trainings.the_board(db), TASK)
    assert told is not None
    assert told.reaching is not None
    wanted = median(ended) - 1
    assert (
        f"validation accuracy of {wanted:.1f} %, 1 point short of the median that 5 runs of dense ended at"
        in told.reaching.declared.rule
    )
    parents = {i: trace([50.0, 90.0, last]) for i, last in enumerate((70.0, 71.0, 75.0))}
    assert histories.target(parents, HISTORY).value == 70.0  # what a run ended at, not the best that it ever was
    loss = History("val_loss", "Loss", up=False, tolerance=0.5)
    assert histories.target(parents, loss).value == 71.5


def test_each_row_is_told_by_the_first_look_that_finds_the_target(results: Path, db: duckdb.DuckDBPyConnection) -> None:
    told = histories.history(db, trainings.the_board(db), TASK)
    assert told is not None
    assert told.reaching is not None
    target = median(points[-1].value for points in records(results, "dense").values()) - 1
    found = {r.row.label: r for r in told.reaching.rows}
    assert set(found) == {f"{m} ({v})" if v else m for m, v in trainings.PLAN}
    for (method, variant), row in zip(trainings.PLAN, (found[f"{m} ({v})" if v else m] for m, v in trainings.PLAN), strict=True):
        first = [next((p for p in points if p.value >= target), None) for points in records(results, method, variant).values()]
        assert (row.reached, row.runs) == (sum(p is not None for p in first), 5)
        examples, seconds = row.cells
        assert examples is not None
        assert seconds is not None
        assert examples[0] == median(p.examples if p else math.inf for p in first)
        assert seconds[0] == median(p.seconds if p else math.inf for p in first)
    assert found["uniform_scratch"].reached == 0
    assert [pages._middle(c) for c in found["uniform_scratch"].cells] == ["not reached", "not reached"]
    times = [r.cells[1][0] if r.cells[1] else math.inf for r in told.reaching.rows if r.reached == r.runs]
    assert times == sorted(times)  # soonest on the clock first
    assert "dense" in [r.row.label for r in told.reaching.rows]  # what all others are to be held against


def test_where_half_of_the_runs_never_get_there_the_middle_is_not_reached() -> None:
    runs = {
        seed: histories.reached_at(trace(values), 70.0, up=True) for seed, values in enumerate(([60.0, 70.0], [71.0, 60.0], [69.9]))
    }
    assert runs == {0: {"examples": 200.0, "seconds": 2.0}, 1: {"examples": 100.0, "seconds": 1.0}, 2: {}}
    assert histories.reached_at(trace([0.9, 0.4, 0.2]), 0.4, up=False) == {"examples": 200.0, "seconds": 2.0}


@pytest.mark.slow
def test_fewer_than_five_runs_of_the_parent_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings.show(monkeypatch)
    trainings.write(tmp_path / "r", SMALL, seeds=range(3))
    _, told = told_of(tmp_path / "r")
    assert told is not None
    assert told.reaching is not None
    assert "that 3 runs of dense (5 are asked for) ended at" in told.reaching.declared.rule


@pytest.mark.slow
def test_rows_off_their_target_are_drawn_and_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings.show(monkeypatch)
    told_by = trainings.measures

    def off(method: str, *rest: Any) -> list[dict[str, Any]]:
        kept = 0.61 if method in ("fpgm", "imp") else 0.5
        return [m | {"value": kept} if m["name"] == "kept.macs" else m for m in told_by(method, *rest)]

    monkeypatch.setattr(trainings, "measures", off)
    root = trainings.write(tmp_path / "r", {**SMALL, ("imp", "rate=0.3"): trainings.PLAN["imp", ""]}, seeds=range(3))
    board, told = told_of(root)
    assert told is not None
    assert told.reaching is not None
    assert [d for d in told.drawings if ">fpgm, off target<" in d.wide and ">imp, off target<" in d.narrow] == told.drawings
    assert all("Off target: kept more or less than was asked" in d.note for d in told.drawings)
    found = {r.row.label: r.row.off_target for r in told.reaching.rows}
    assert {label for label, why in found.items() if why} == {"fpgm", "imp", "imp (rate=0.3)"}
    assert {"dense", "chex", "l1_filters"} < set(found)
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "site")
    text = (tmp_path / "site" / "tasks/image_pruning-small.md").read_text(encoding="utf-8")
    table = text.partition("<h3>Time to target</h3>")[2].partition("</table>")[0]
    why = "kept 0.61 of macs where 0.5 was asked"
    told_so = f'title="{why}" tabindex="0" role="note" aria-label="off target: {why}"'
    assert table.count(f'<span class="tag off" {told_so}>off target</span>') == 3
    lit = ElementTree.fromstring(re.findall(r'<svg class="rows history w640".*?</svg>', text)[0])
    assert {board.key(r) for r in board.rows if not r.variant} == {
        g.get("data-m") for g in lit.iter("g") if "pt" in g.get("class", "").split()
    }


def levels(*gains: float, looks: int = 24, up: bool = True) -> dict[int, Trace]:
    """Runs that gain so much after five sixths of their looks, and far more before."""
    last = looks // 6
    steps = [np.r_[np.linspace(10, 60, looks - last), 60 + np.linspace(gain / last, gain, last)] for gain in gains]
    return {seed: trace(list(values if up else -values)) for seed, values in enumerate(steps)}


def test_the_parent_has_levelled_off_where_its_runs_gain_under_a_point_in_the_last_sixth() -> None:
    assert histories.gained(levels(0.4, 2.0), up=True) == pytest.approx([0.4, 2.0])
    assert histories.gained(levels(0.4, up=False), up=False) == pytest.approx([0.4])
    assert histories.gained({0: trace([50.0])}, up=True) == []  # one look at the end says nothing of what was before
    between = {0: trace([0.0, 10.0, 20.0])}  # the last sixth begins at 2.5 looks
    assert histories.gained(between, up=True) == pytest.approx([5.0])
    gained = "In the last sixth of its training dense gained"
    assert histories.levelled("dense", levels(0.4, 1.9, 0.5), HISTORY) == (
        f"{gained} 0.93 points, the mean of 3 runs: under 1 point, so it has levelled off."
    )
    assert histories.levelled("dense", levels(0.4, 2.9, 0.5), HISTORY) == (
        f"{gained} 1.27 points, the mean of 3 runs: not under 1 point, so it has not levelled off."
    )
    assert (
        histories.levelled("dense", levels(0.1, 0.2), HISTORY)
        == "Whether dense has levelled off is not judged: 2 of at least 3 runs of it."
    )


def test_whether_the_parent_has_levelled_off_stands_beside_the_target(db: duckdb.DuckDBPyConnection) -> None:
    told = histories.history(db, trainings.the_board(db), TASK)
    assert told is not None
    assert told.reaching is not None
    assert told.reaching.declared.rule.count("levelled off") == 1
    assert "the mean of 5 runs" in told.reaching.declared.rule


@pytest.mark.slow
def test_without_a_parent_there_are_curves_and_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings.show(monkeypatch)
    trainings.write(tmp_path / "r", {k: v for k, v in SMALL.items() if k[0] != "dense"}, seeds=range(3))
    _, told = told_of(tmp_path / "r")
    assert told is not None
    assert told.reaching is None
    assert len(told.drawings) == 2
    assert "target" not in told.drawings[0].wide


@pytest.mark.slow
def test_seconds_are_of_one_card_and_examples_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings.show(monkeypatch)
    root = tmp_path / "r"
    trainings.write(root, SMALL, cards={3: "d" * 16, 4: "d" * 16})
    alone = {("hrank", ""): (71.9, 2.0, 1.0, 0, 1.0)}  # much faster, on the other machine
    trainings.write(root, alone, seeds=[0, 1, 2], cards=dict.fromkeys(range(3), "d" * 16))
    _, told = told_of(root)
    assert told is not None
    assert told.reaching is not None
    over_time, over_examples = told.drawings
    assert "of the runs solved on card cccc alone" in over_time.note
    assert "Not drawn here: hrank." in over_time.note
    assert ">hrank<" not in over_time.wide
    assert ">hrank<" in over_examples.wide
    assert "card" not in over_examples.note
    found = {r.row.label: r for r in told.reaching.rows}
    assert told.reaching.card == "c" * 16
    examples, seconds = found["imp"].cells
    assert examples is not None
    assert seconds is not None
    assert (len(examples[1]), len(seconds[1])) == (5, 3)
    assert found["hrank"].cells[1] is None
    assert found["hrank"].cells[0] is not None


def timings(**parts: tuple[float, float, float]) -> dict[tuple[str, str], float]:
    """Calls, seconds of one and items of it, by workload."""
    out = {}
    for part, (calls, seconds, items) in parts.items():
        out |= {("calls", part): calls, ("time", part): seconds, ("throughput", part): items / seconds}
    return out


CLOCK = ("before/", "train_step@")


def test_weighed_seconds_are_of_what_ran_before_and_of_each_points_steps() -> None:
    """30 steps of 10 images at 2 s, 70 at 1 s, behind 40 forward passes of 0.5 s on 400 images."""
    told = timings(
        **{"train_step@0.6": (70, 1.0, 10), "train_step@0": (30, 2.0, 10), "before/dense": (40, 0.5, 10), "infer@64": (1, 9, 64)}
    )
    looks = np.array([400.0, 550.0, 700.0, 710.0, 1400.0])
    assert histories.weighed(looks, 1400, told, CLOCK) == pytest.approx([20, 50, 80, 81, 150])
    del told["time", "before/dense"]
    assert histories.weighed(looks, 1400, told, CLOCK) is None, "what ran before was not timed"
    assert histories.weighed(looks, 1400, timings(**{"infer@64": (1, 9, 64)}), CLOCK) is None


@pytest.mark.slow
def test_a_task_may_tell_seconds_by_weighed_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine took to solve: every run that is weighed on the card has its seconds."""
    trainings.show(monkeypatch)
    clocked = replace(trainings.SHOW, history=replace(HISTORY, clock=CLOCK))
    monkeypatch.setattr(type(TASK), "show", clocked)
    told_by = trainings.measures

    def stepped(*args: Any) -> list[dict[str, Any]]:
        steps = told_by(*args)
        parts = {m["part"]: m["value"] for m in steps if m["name"] == "time" and m["part"].startswith(CLOCK)}
        for part, seconds in parts.items():
            steps += [
                {"name": "calls", "part": part, "value": 100.0, "source": "meter"},
                {"name": "throughput", "part": part, "value": 288 / seconds, "unit": "1/s", "direction": "up", "source": "timing"},
            ]
        return steps

    monkeypatch.setattr(trainings, "measures", stepped)
    only = {k: SMALL[k] for k in (("dense", ""), ("chex", ""), ("imp", ""))}
    _, told = told_of(trainings.write(tmp_path / "r", only, cards={3: "d" * 16, 4: "d" * 16}))
    assert told is not None
    assert told.reaching is not None
    assert (told.reaching.card, told.reaching.clocked_by) == ("c" * 16, "weighed")
    assert "weighed on card cccc alone, each step at the time that it was weighed at" in told.drawings[0].note
    seconds = {r.row.label: r.cells[1] for r in told.reaching.rows}
    dense = seconds["dense"]
    assert dense is not None
    assert len(dense[1]) == 5, "also of those that were solved elsewhere"
    assert max(dense[1]) <= 100 * 0.05 * (1 + 1e-9)


def test_a_line_is_the_median_over_seeds_at_each_look() -> None:
    runs = [trace([10, 20, 30], seconds=1), trace([12, 26, 36], seconds=3, start=40), trace([50, 21, 0], seconds=2, start=10)]
    assert histories.middle(runs, "examples") == [(110, 12), (210, 21), (310, 30)]
    assert histories.middle(runs, "seconds") == [(2, 12), (4, 21), (6, 30)]
    shorter = [trace([1, 2, 3]), trace([1, 2, 5]), trace([1, 2, 9, 9])]
    assert [y for _, y in histories.middle(shorter, "examples")] == [1, 2, 5]  # as far as half of the runs go on
    assert [y for _, y in histories.middle(shorter[1:], "examples")] == [1, 2, 7, 9]


def curves(count: int, marks: int = 0) -> list[charts.Curve]:
    return [
        charts.Curve(f"m{i}<&", [(100.0 * k, 70 - i - 40 / k, math.nan) for k in range(1, 9)], i if i < marks else -1, f"k{i}")
        for i in range(count)
    ]


def test_five_lines_are_coloured_at_most_the_better_placed_first() -> None:
    lines = histories.coloured([charts.Curve("x", [], mark, f"k{i}") for i, mark in enumerate((-2, 7, 1, 2, 3, 0, 4, 9, -1, 5))])
    assert [c.mark for c in lines] == [-2, 7, 1, -1, 3, 0, 4, -1, -1, -1]
    assert len({c.mark % 5 for c in lines if c.mark >= 0}) == sum(c.mark >= 0 for c in lines)


@pytest.mark.parametrize("width", [640, 380])
def test_a_chart_names_as_many_as_there_is_room_for_and_keeps_within_its_frame(width: int) -> None:
    text = histories.chart(curves(40, 5), declared=HISTORY, word="accuracy", x="seconds", target=66.0, width=width, ident="x")
    svg = ElementTree.fromstring(text)
    groups = [g for g in svg.iter("g") if "pt" in g.get("class", "").split()]
    assert len(groups) == 40
    labels = [t for t in svg.iter("text") if t.get("class") == "label"]
    assert 5 < len(labels) < 40
    assert {f"m{i}<&" for i in range(5)} <= {(t.text or "").partition(" ↓")[0] for t in labels}
    heights = sorted(float(t.get("y", "nan")) for t in labels)
    assert all(b - a >= 14.9 for a, b in pairwise(heights))
    assert heights[0] >= 0
    assert heights[-1] <= float(svg.get("height", "nan"))
    for line in svg.iter("polyline"):
        xs, ys = zip(*(map(float, p.split(",")) for p in line.get("points", "").split()), strict=True)
        assert list(xs) == sorted(xs)
        assert 0 <= min(xs) <= max(xs) <= width
        assert 0 <= min(ys) <= max(ys) <= float(svg.get("height", "nan"))
    assert all(g.findtext("polyline/title") for g in groups)  # who has no room for a name has one for a pointer
    assert "target 66.0" in "".join(svg.itertext())
    assert not re.search(r"fill=|stroke=|style=|font-|href|url\(|nan|inf", text)


def test_the_axis_is_of_where_lines_end_and_a_line_enters_it_from_below() -> None:
    lines = curves(3)  # end at 65, 64, 63 and begin at 30
    low, high = histories.span(lines, 64.5, up=True)
    assert 30 < low < 63 < 65 < high
    (x, y), *rest = histories.inside(lines[0].points, (low, high))
    assert y == low
    assert rest == [p[:2] for p in lines[0].points if p[1] >= low]
    before = max(p for p in lines[0].points if p[1] < low)
    assert before[0] < x < rest[0][0]
    assert before[1] + (rest[0][1] - before[1]) * (x - before[0]) / (rest[0][0] - before[0]) == pytest.approx(low)
    far = charts.Curve("collapsed", [(100.0, 10.0, math.nan), (800.0, 10.0, math.nan)], -1, "far")
    assert histories.span([*lines, far], 64.5, up=True)[0] == pytest.approx(low, abs=4)  # it flattens none of the others
    assert histories.inside(far.points, (low, high)) == [(800.0, 10.0)]
    text = histories.chart([*lines, far], declared=HISTORY, word="a", x="examples", target=None, width=640, ident="x")
    assert "collapsed ↓ 10.0" in text
    room = histories.charts.Plane(380, (0, 1), (0, 1))
    assert (room.bottom - room.top) // histories.NAME == histories.ROOM
    falling = [charts.Curve("loss", [(1.0, 3.0, math.nan), (2.0, 0.5, math.nan), (3.0, 0.4, math.nan)], -1, "l")]
    low, high = histories.span(falling, 0.45, up=False)
    assert low < 0.4 < high < 3.0


def test_a_page_tells_of_the_training_and_of_the_time_to_the_target(db: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    pages.write_pages(db, tmp_path)
    text = (tmp_path / "tasks/image_pruning-small.md").read_text(encoding="utf-8")
    heads = re.findall(r"<h3>(.*?)</h3>", text)
    assert heads == [
        "Who pays",
        "Validation accuracy over seconds of training",
        "Validation accuracy over examples handled",
        "Time to target",
        "Do the chosen patches suffice?",
    ]
    assert text.count('class="rows history w640"') == text.count('class="rows history w380"') == 2
    assert '<td class="num">not reached</td>' in text
    assert not re.search(r">[^<]*\b(nan|inf)\b", text)
    idents = re.findall(r' id="([^"]+)"', text)
    assert len(set(idents)) == len(idents)
    board = trainings.the_board(db)
    drawn = ElementTree.fromstring(re.findall(r'<svg class="rows history w640".*?</svg>', text)[0])
    there = {g.get("data-m") for g in drawn.iter("g") if "pt" in g.get("class", "").split()}
    assert there == {board.key(r) for r in board.plain}  # rows of the table light their lines


@pytest.mark.slow
def test_a_run_that_told_nothing_is_named_and_not_taken_for_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings.show(monkeypatch)
    trainings.write(tmp_path / "r", {**SMALL, ("snip", ""): (71.0, 100.0, 1.0, 0, 0.0)})
    _, told = told_of(tmp_path / "r")
    assert told is not None
    assert told.reaching is not None
    assert "Not told of on their way: snip." in told.reaching.declared.rule
    assert "snip" not in [r.row.label for r in told.reaching.rows]
