"""Curves along a setting, what they come down to, and when something was reached: from rows with groups."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from suite import registry
from suite.board import pages, statistics, store, tables, tradeoffs
from suite.show import Show
from tests.helpers import page_text
from tests.suite.board import groups
from tests.suite.board.test_store import HERE, light

if TYPE_CHECKING:
    import duckdb


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("groups")
    groups.write(root / "results")
    store.publish(root / "results", root / "weighin.duckdb")
    return root / "weighin.duckdb"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Show:
    monkeypatch.setattr(type(registry.task("image_pruning")), "show", groups.SHOW)
    return groups.SHOW


@pytest.fixture
def db(grouped: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with store.connect(grouped) as connection:
        yield connection


def the_board(db: duckdb.DuckDBPyConnection) -> tables.Board:
    (ranking,) = tables.rankings(db)
    return tables.board(db, ranking)


def test_a_curve_runs_through_the_values_of_one_setting_in_their_order(db: duckdb.DuckDBPyConnection, shown: Show) -> None:
    found = tradeoffs.traded(the_board(db), registry.task("image_pruning"))
    assert found is not None
    svg = ElementTree.fromstring(found.wide)
    told = [t.text or "" for t in svg.iter("title")]
    chex = [words for words in told if words.startswith("chex")]
    assert [words.partition(":")[0] for words in chex] == ["chex (delta0=0.1)", "chex", "chex (delta0=2.0)", "chex (delta0=5.0)"]
    assert not any("score=l1" in words for words in told)  # an ablation, on no curve
    assert len(list(svg.iter("polyline"))) == 3
    pale = [g for g in svg.iter("g") if "pale" in g.get("class", "").split()]
    assert [g.findtext("title", "").partition(":")[0] for g in pale] == ["rigl (alpha=0.9)"]  # one seed
    shape = {g.get("class") for g in svg.iter("g") if "pt" in g.get("class", "") and g.findtext("title", "").startswith("chex")}
    assert len(shape) == 1  # a method is one colour, whatever its setting


def test_what_a_curve_comes_down_to_is_what_its_means_give(db: duckdb.DuckDBPyConnection, shown: Show) -> None:
    board = the_board(db)
    found = tradeoffs.traded(board, registry.task("image_pruning"))
    assert found is not None
    assert board.parent is not None
    rows = db.execute(
        "SELECT c.method || ' ' || c.variant, avg(m.value) FILTER (m.name = 'top1'), avg(m.value) FILTER (m.name = 'gap')"
        " FROM counted AS c JOIN measures AS m ON m.run = c.id GROUP BY ALL"
    ).fetchall()
    means = {name: (quality, gap) for name, quality, gap in rows}
    floor, corner = 76.2, 1.5 * means["dense "][1]
    assert found.corner == pytest.approx((floor, corner))
    assert found.level == pytest.approx(means["dense "][0] - 1)
    outcomes = {o.label: o for o in found.outcomes}
    assert set(outcomes) == {m for m, _ in groups.PLAN} - {"dense"}
    chex = np.array([means[f"chex {v}"] for v in ("delta0=0.1", "", "delta0=2.0", "delta0=5.0")])
    area = float(statistics.dominated_area(chex[:, 0], chex[:, 1], floor, corner))
    assert outcomes["chex"].area == pytest.approx(100 * area / ((100 - floor) * corner))
    assert outcomes["chex"].at_level == pytest.approx(float(statistics.cost_at(chex[:, 0], chex[:, 1], means["dense "][0] - 1)))
    low, high = outcomes["chex"].area_ends
    assert low < (outcomes["chex"].area or 0) < high
    assert (outcomes["chex"].along, outcomes["chex"].spots) == ("delta0", 4)
    assert (outcomes["snip"].along, outcomes["snip"].spots, outcomes["snip"].at_level) == ("", 1, None)
    assert outcomes["rigl"].spots == 2  # what has one seed is drawn and not judged
    assert [o.why for o in found.outcomes if o.label in ("magnitude", "grasp")] == ["stays above", "stays below"]
    areas = [o.area or 0 for o in found.outcomes]
    assert areas == sorted(areas, reverse=True)


def test_without_a_parent_there_is_no_corner_and_no_level(tmp_path: Path, shown: Show) -> None:
    groups.write(tmp_path / "r", {k: v for k, v in groups.PLAN.items() if k[0] == "chex"})
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        found = tradeoffs.traded(the_board(db), registry.task("image_pruning"))
    assert found is not None
    assert (found.corner, found.level) == (None, None)
    assert [(o.area, o.at_level) for o in found.outcomes] == [(None, None)]
    assert not re.search("nan|inf", found.wide + found.narrow)


def test_a_task_that_declares_nothing_shows_nothing(db: duckdb.DuckDBPyConnection) -> None:
    task = registry.task("image_pruning")
    assert tradeoffs.traded(the_board(db), task) is None
    assert tradeoffs.reaching(the_board(db), task) is None


def test_who_did_not_get_there_is_said_and_comes_last(db: duckdb.DuckDBPyConnection, shown: Show) -> None:
    found = tradeoffs.reaching(the_board(db), registry.task("image_pruning"))
    assert found is not None
    told = {r.row.label: (r.reached, r.runs) for r in found.rows}
    assert told["chex (delta0=5.0)"] == (3, 3)
    assert told["imp (rate=0.5)"] == (2, 3)
    assert told["snip"] == (0, 3)
    assert "dense" not in told
    shares = [r.reached / r.runs for r in found.rows]
    assert shares == sorted(shares, reverse=True)
    best, last = found.rows[0], found.rows[-1]
    assert [pages._middle(c) for c in last.cells] == ["not reached", "not reached"]
    steps, seconds = best.cells
    assert steps is not None
    assert seconds is not None
    assert seconds[0] == pytest.approx(steps[0] / 40)
    assert found.card == "c" * 16


def test_where_nobody_got_there_that_is_said(tmp_path: Path, shown: Show) -> None:
    groups.write(tmp_path / "r", {k: v for k, v in groups.PLAN.items() if k[0] in ("dense", "snip")})
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        found = tradeoffs.reaching(the_board(db), registry.task("image_pruning"))
    assert found is not None
    assert (list(found.rows), found.asked) == ([], 1)
    macro = pages._environment().get_template("macros.j2").module.reached_by(found)  # type: ignore[attr-defined]
    assert "No run got there</b>, of 1 row on target" in macro


def test_a_median_over_runs_of_which_half_did_not_get_there_is_none() -> None:
    assert pages._middle((math.inf, [1200.0])) == "not reached (once 1,200)"
    assert pages._middle((1200.0, [1000.0, 1200.0])) == "1,200 (1,000–1,200)"
    assert pages._middle((12.345, [12.345])) == "12.3"
    assert pages._middle(None) == "–"


@pytest.mark.slow
def test_times_of_another_machine_are_not_mixed_in(tmp_path: Path, shown: Show) -> None:
    groups.write(tmp_path / "r", {k: v for k, v in groups.PLAN.items() if k[0] == "chex"})
    draw = np.random.Generator(np.random.Philox(1))
    for seed in (3, 4):
        told = groups.measures(84.0, 6.0, draw, 1000, ("female", "male"), 0)
        told = [{**m, "value": 1.0} if m["name"] == "seconds_to_fair" else m for m in told]
        method = {"name": "chex", "origin": "reference", "version": HERE, "configuration": {"delta0": 1.0}}
        light(
            tmp_path / "r", seed, measures=told, method=method, systems={"solve": "d" * 16, "weigh": "c" * 16}, key=f"{seed:064x}"
        )
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        found = tradeoffs.reaching(the_board(db), registry.task("image_pruning"))
    assert found is not None
    row = next(r for r in found.rows if r.row.label == "chex")
    assert (row.reached, row.runs) == (5, 5)
    steps, seconds = row.cells
    assert steps is not None
    assert seconds is not None
    assert len(steps[1]) == 5
    assert len(seconds[1]) == 3
    assert min(seconds[1]) > 1


def test_the_worst_group_is_one_with_enough_examples(db: duckdb.DuckDBPyConnection, shown: Show) -> None:
    board = the_board(db)
    for row in board.rows:
        assert {p.name for p in row.classes} == {"female", "male", "unknown"}
        assert {p.name for p in row.further[0]} == set(groups.CLASSES)
        assert [p.name for p in row.classes if p.small] == ["unknown"]
        least = pages._least(row)
        assert least is not None
        assert least.name == "male"
    chex = next(r for r in board.rows if r.label == "chex")
    for part in chex.classes:
        assert part.value == pytest.approx(part.before + part.change)
        assert part.half > 0
        assert part.gain == part.change


def test_a_page_tells_of_groups_trade_offs_and_what_to_be_careful_about(
    db: duckdb.DuckDBPyConnection, shown: Show, tmp_path: Path
) -> None:
    pages.write_pages(db, tmp_path)
    text = page_text(tmp_path / "tasks/image_pruning-small.md")
    heads = re.findall(r"<h3>(.*?)</h3>", text)
    assert heads == ["Who pays, by group", "Who pays, by class", "What accuracy costs", "Until it is fair"]
    assert "Worst group" in text
    blocks = re.findall(r'<svg class="bells".*?</svg>', text)
    assert len(blocks) == 16  # eight methods as they are set, of groups and of classes; what a sweep adds is in its chart
    assert [b.count("<path") > 0 for b in blocks] == [True] * 16
    assert all(ElementTree.fromstring(b).findtext("title") for b in blocks)
    assert (
        text.count('class="pays w760"') == 1
    )  # groups are few: dumbbells alone; classes are many: dots, and those that moved most
    assert '<span class="tag warn">△ fashion</span> Labels of this data are known to be skewed.' in text
    assert 'Data: <a href="https://github.com/zalandoresearch/fashion-mnist">Zalando</a>, MIT' in text
    assert 'see <a href="../measurement.html#gap">how ours is made</a>.' in text
    assert '<td class="num">not reached</td>' in text
    assert '<td class="num">2 of 3</td>' in text
    assert "Hollow: too few examples" in text
    assert not re.search(r">[^<]*\bnan\b", text)
    front = text[: text.index("Who pays")]
    assert front.index("△ fashion") < front.index('class="board"')


def test_links_of_a_task_are_links_and_its_other_words_are_text() -> None:
    assert pages._linked("a <b> [x](../fairness.html#a) & [y](https://a.org/b?c=d)") == (
        'a &lt;b&gt; <a href="../fairness.html#a">x</a> &amp; <a href="https://a.org/b?c=d">y</a>'
    )
    assert "<a" not in pages._linked("[x](javascript:alert(1)) [y](data:text/html,z) [z](a b)")
