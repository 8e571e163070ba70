"""The table of trained on and tested on, its two gaps and its verdict: on evidence made up for it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from suite import bundle, registry
from suite.board import crossed, pages, statistics, store
from suite.board.crossed import Gap, Hits, Judged
from suite.naming import UserError
from suite.show import Crossed
from tests.helpers import on_one_line, page_text
from tests.suite.board import trainings
from tests.suite.board.test_store import ask

if TYPE_CHECKING:
    import duckdb

TASK = registry.task("image_pruning")
ARMS = {k: trainings.PLAN[k] for k in (("dense", ""), ("chex", ""), ("random_channels", ""))}
DECLARED = trainings.SHOW.crossed
assert DECLARED is not None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainings.write(tmp_path_factory.mktemp("crossed") / "results", ARMS)


@pytest.fixture(scope="module")
def published(results: Path) -> Path:
    return trainings.publish(results)


@pytest.fixture
def db(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    trainings.show(monkeypatch)
    with store.connect(published) as connection:
        yield connection


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings.show(monkeypatch)


def crossing(root: Path) -> crossed.Crossing | None:
    store.publish(root, root.parent / "b.duckdb")
    with store.connect(root.parent / "b.duckdb") as db:
        return crossed.crossing(db, trainings.the_board(db), TASK)


def evidence_of(results: Path, method: str) -> dict[int, dict[str, np.ndarray]]:
    folders = list(bundle.find(results / "image_pruning" / "small" / method))
    return {bundle.read(p).spec.seed: bundle.read_table(p / bundle.EVIDENCE) for p in folders}


def arm(seeds: Mapping[int, Any], picture: Any = None) -> dict[int, Hits]:
    """Hits of rows, of which each shows a picture of its own unless said otherwise."""
    out = {}
    for seed, rows in seeds.items():
        values = np.array(rows, float)
        ids, place = np.unique(np.arange(len(values)) if picture is None else np.array(picture), return_inverse=True)
        out[seed] = Hits(ids, np.bincount(place), np.bincount(place, weights=values))
    return out


def test_gaps_are_differences_of_accuracies_over_the_seeds_that_all_have() -> None:
    a = arm({0: [1, 1, 1, 0], 1: [1, 1, 0, 0], 7: [0, 0, 0, 0]})
    b = arm({0: [1, 0, 0, 0], 1: [0, 1, 0, 0], 8: [1, 1, 1, 1]})
    c = arm({0: [1, 1, 1, 1], 1: [1, 1, 1, 0], 7: [1, 1, 1, 1]})
    found = crossed.judge(a, b, c)
    assert found is not None
    assert (list(found.seeds), found.pictures, found.rows, found.sure) == ([0, 1], 4, 4, False)
    assert found.gain.value == pytest.approx((50 + 25) / 2)
    assert found.gain.deviation == pytest.approx(np.std([50, 25], ddof=1))
    assert found.price.value == pytest.approx(25)
    assert found.price.deviation == pytest.approx(0)
    assert found.whole == pytest.approx((100 + 75) / 2)
    assert crossed.judge(a, b, arm({9: [1, 1, 1, 1]})) is None


def test_the_bootstrap_is_that_of_single_draws_written_out() -> None:
    draw = np.random.Generator(np.random.Philox(5))
    sums, copies = draw.normal(0, 1, (2, 7)), np.array([1, 3, 2, 2, 1, 5, 1])
    found = crossed.resampled(sums, copies, 40)
    again = np.random.Generator(np.random.Philox(0))
    for k in range(40):
        picked = again.integers(0, 7, 7)
        np.testing.assert_allclose(found[:, k], sums[:, picked].sum(1) / copies[picked].sum())


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, copies = np.random.Generator(np.random.Philox(6)).normal(0, 1, (3, 33)), np.full(33, 3)
    whole = crossed.resampled(sums, copies, 500)
    for held in (1, 100, 33 * 77 + 1):  # odd numbers of numbers drawn at once
        monkeypatch.setattr(crossed, "HELD", held)
        np.testing.assert_allclose(crossed.resampled(sums, copies, 500), whole, rtol=1e-9, atol=1e-12)


def test_copies_of_a_picture_stay_together() -> None:
    """Three copies that always fare alike are worth one picture, so that the interval is that of a third of the rows."""
    draw = np.random.Generator(np.random.Philox(7))
    single = [draw.random(200) < 0.6, draw.random(200) < 0.4, draw.random(200) < 0.7]
    tripled = [np.repeat(hits, 3) for hits in single]
    picture = np.repeat(np.arange(200), 3)
    alone = crossed.judge(*(arm({0: hits}) for hits in single))
    together = crossed.judge(*(arm({0: hits}, picture) for hits in tripled))
    apart = crossed.judge(*(arm({0: hits}) for hits in tripled))
    assert alone is not None
    assert together is not None
    assert apart is not None
    for one, other, loose in zip(
        (alone.gain, alone.price), (together.gain, together.price), (apart.gain, apart.price), strict=True
    ):
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))
        assert (loose.high - loose.low) * math.sqrt(3) == pytest.approx(one.high - one.low, rel=0.06)


@pytest.mark.slow
def test_an_interval_is_as_wide_as_theory_says() -> None:
    draw = np.random.Generator(np.random.Philox(8))
    a, b, c = (draw.random(1500) < share for share in (0.6, 0.5, 0.62))
    found = crossed.judge(arm({0: a}), arm({0: b}), arm({0: c}))
    assert found is not None
    half = 196 * np.std(a.astype(float) - b, ddof=1) / math.sqrt(1500)
    assert found.gain.high - found.gain.low == pytest.approx(2 * half, rel=0.04)
    assert found.gain.low < found.gain.value < found.gain.high


def test_seeds_are_averaged_before_pictures_are_drawn() -> None:
    """What differs between seeds alone falls out: a picture is right in one seed and wrong in the other."""
    a = arm({0: [1, 0] * 50, 1: [0, 1] * 50})
    b = arm({0: [0] * 100, 1: [0] * 100})
    found = crossed.judge(a, b, a)
    assert found is not None
    assert (found.gain.low, found.gain.value, found.gain.high) == pytest.approx((50, 50, 50))
    assert (found.price.low, found.price.high) == pytest.approx((0, 0))


@pytest.mark.parametrize(
    ("gain", "price", "supported", "why"),
    [
        (Gap(12, 9, 15, 1), Gap(4, 1, 7, 1), True, "less than half"),
        (Gap(12, 9, 15, 1), Gap(6, 3, 9, 1), False, "not less than half"),
        (Gap(12, 9, 15, 1), Gap(-2, -4, 0, 1), True, "less than half"),
        (Gap(2, 0, 4, 1), Gap(-1, -2, 0, 1), False, "holds zero"),
        (Gap(2, 0.01, 4, 1), Gap(0.9, -2, 3, 1), True, "less than half"),
        (Gap(-5, -8, -2, 1), Gap(-9, -12, -6, 1), False, "(b) is the better one"),
    ],
)
def test_the_verdict_takes_a_certain_gain_and_less_than_half_of_it_lost(gain: Gap, price: Gap, supported: bool, why: str) -> None:
    found = Judged(gain, price, 70.0, (0, 1, 2), 100, 100)
    assert found.supported is supported
    assert why in found.why


def test_cells_tested_on_different_pictures_are_refused() -> None:
    a, b = arm({0: [1, 0, 1]}), arm({0: [1, 0, 1]}, [0, 1, 3])
    with pytest.raises(ValueError, match="not tested on the same pictures"):
        crossed.judge(a, b, a)
    with pytest.raises(ValueError, match="not tested on the same pictures"):
        crossed.judge(a, arm({0: [1, 0, 1]}, [0, 1, 1]), a)


def test_hits_are_gathered_by_picture() -> None:
    evidence = {
        "label": np.array([1, 1, 2, 2], np.int16), "picture": np.array([9, 4, 9, 4], np.int32),
        "ticket": np.array([1, 0, 2, 0], np.int16), "random": np.array([5, 0, 2, 1], np.int8),
    }  # fmt: skip
    assert DECLARED is not None
    for measure, hits in (("tested:tickets", [0, 2]), ("tested:random", [0.2, 1.4])):
        found = crossed.by_picture(evidence, DECLARED, measure)
        assert (found.picture.tolist(), found.copies.tolist()) == ([4, 9], [2, 2])
        assert found.hits.tolist() == pytest.approx(hits)
    evidence["random"][0] = 6
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        crossed.by_picture(evidence, DECLARED, "tested:random")


def test_a_cell_that_the_table_has_not_cannot_be_declared() -> None:
    rows = {"tickets": ("chex", "", "tested")}
    with pytest.raises(ValueError, match="none of the rows"):
        Crossed("x", rows, ("all",), ("tickets", "all"), ("random", "all"), ("tickets", "all"), trainings.hits)
    with pytest.raises(ValueError, match="none of the rows"):
        Crossed("x", rows, ("all",), ("tickets", "all"), ("tickets", "random"), ("tickets", "all"), trainings.hits)


def test_nine_cells_are_the_means_of_what_runs_measured(results: Path, db: duckdb.DuckDBPyConnection) -> None:
    found = crossed.crossing(db, trainings.the_board(db), TASK)
    assert found is not None
    assert [line.name for line in found.lines] == ["tickets", "random", "all"]
    assert [line.row.method for line in found.lines] == ["chex", "random_channels", "chex"]  # whose bundles carry the dense one's
    assert [line.measure for line in found.lines] == ["its network", "its network", "the dense network"]
    assert found.unit == "%"
    for line in found.lines:
        for part, cell in zip(found.heads, line.cells, strict=True):
            measure = "parent_tested" if line.name == "all" else "tested"
            tables_ = evidence_of(results, line.row.method).values()
            values = [100 * float(trainings.hits(table, f"{measure}:{part}").mean()) for table in tables_]
            mean, half = statistics.t_interval(values)
            digits = statistics.decimals(half, 1)
            assert cell is not None
            assert (cell.value, cell.half) == (f"{mean:.{digits}f}", f"±{half:.{digits}f}")
    letters = {(line.name, part): c.letter for line in found.lines for part, c in zip(found.heads, line.cells, strict=True) if c}
    assert {k: v for k, v in letters.items() if v} == {
        ("tickets", "tickets"): "a",
        ("random", "tickets"): "b",
        ("all", "all"): "c",
    }


def test_the_gaps_on_the_board_are_those_of_the_evidence(results: Path, db: duckdb.DuckDBPyConnection) -> None:
    found = crossed.crossing(db, trainings.the_board(db), TASK)
    assert found is not None
    assert found.judged is not None
    tickets, random = evidence_of(results, "chex"), evidence_of(results, "random_channels")
    a, b, c = (
        {seed: trainings.hits(table, name) for seed, table in tables_.items()}
        for tables_, name in ((tickets, "tested:tickets"), (random, "tested:tickets"), (tickets, "parent_tested:all"))
    )
    assert found.judged.gain.value == pytest.approx(100 * np.mean([a[s].mean() - b[s].mean() for s in range(5)]))
    assert found.judged.price.value == pytest.approx(100 * np.mean([c[s].mean() - a[s].mean() for s in range(5)]))
    picture = tickets[0]["picture"]
    assert found.judged == crossed.judge(*(arm(cell, picture) for cell in (a, b, c)))
    assert (found.judged.pictures, found.judged.rows) == (trainings.PICTURES, trainings.PICTURES * trainings.COPIES)


def told(root: Path) -> str:
    """What a page says of the rows under a folder."""
    found = crossing(root)
    assert found is not None
    text = str(pages._environment().get_template("crossed.j2").module.crossed_out(found))  # type: ignore[attr-defined]
    assert not re.search(r">[^<]*\b(nan|inf)\b", text)
    return on_one_line(text)


def test_a_page_shows_the_table_and_its_verdict(results: Path, shown: None, tmp_path: Path) -> None:
    store.publish(results, results.parent / "b.duckdb")
    with store.connect(results.parent / "b.duckdb") as db:
        pages.write_pages(db, tmp_path)
    text = page_text(tmp_path / "tasks/image_pruning-small.md")
    assert told(results) in text
    assert "<h3>Do the chosen patches suffice?</h3>" in text
    assert 'as good on these as <a href="../measurement.html">one that sees all</a> on all.' in text
    assert '<span class="tag bad">✕ not supported</span> (a) is better than (b) for certain, and (c) − (a) is not less' in text
    assert "trained and tested on tickets, less trained on random, tested on tickets; deviation over seeds" in text
    assert "over the 120 pictures of the test, shown 360 times, those of one picture together" in text
    table = re.findall(r'<table class="plain crossed">.*?</table>', text, re.S)
    assert len(table) == 1
    assert table[0].count("<td") == 9
    # measures in parts that are no classes are no class that pays
    assert "A dot a class" in text
    assert not re.search(r"Worst class pays(?:(?!</div>).)*(tickets|random),", text)


@pytest.mark.slow
def test_a_small_enough_loss_supports_it(shown: None, tmp_path: Path) -> None:
    near = {**trainings.RIGHT, "all": {**trainings.RIGHT["all"], "all": 0.67}}
    text = told(trainings.write(tmp_path / "r", ARMS, right=near))
    assert '<span class="tag good">✓ supported</span>' in text


@pytest.mark.slow
def test_under_three_seeds_nothing_is_judged(shown: None, tmp_path: Path) -> None:
    text = told(trainings.write(tmp_path / "r", ARMS, seeds=[0, 1]))
    assert "2 of at least 3 seeds that all three cells have" in text
    assert "supported</span>" not in text


@pytest.mark.slow
def test_what_is_missing_is_said(shown: None, tmp_path: Path) -> None:
    root = trainings.write(tmp_path / "r", {k: v for k, v in ARMS.items() if k[0] != "random_channels"})
    text = told(root)
    assert "No seed has all three cells (a), (b) and (c) yet." in text
    found = crossing(root)
    assert found is not None
    assert [line.name for line in found.lines] == ["tickets", "all"]
    trainings.write(root, {("random_channels", ""): trainings.PLAN["random_channels", ""]}, pictures=90)
    assert "Not judged: the three cells were not tested on the same pictures." in told(root)


def test_no_declaration_and_no_row_give_no_table(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crossing(results) is None
    trainings.show(monkeypatch)
    others = {k: v for k, v in trainings.PLAN.items() if k[0] in ("dense", "imp")}
    assert crossing(trainings.write(tmp_path / "r", others)) is None


@pytest.mark.slow
def test_only_what_a_gap_is_of_is_loaded_and_leaves_with_its_bundle(shown: None, tmp_path: Path) -> None:
    root, db = tmp_path / "r", tmp_path / "b.duckdb"
    trainings.write(root, trainings.PLAN, seeds=[0])
    store.publish(root, db)
    found = ask(db, "SELECT runs.method, runs.variant, measure, count(*) FROM hits JOIN runs ON run = id GROUP BY ALL ORDER BY ALL")
    assert found == [
        ("chex", "", "parent_tested:all", trainings.PICTURES),
        ("chex", "", "tested:tickets", trainings.PICTURES),
        ("random_channels", "", "tested:tickets", trainings.PICTURES),
    ]
    trainings.write(root, trainings.PLAN, seeds=[1])
    store.publish(root, db)
    store.publish(root, tmp_path / "once.duckdb")
    assert ask(db, "SELECT * FROM hits ORDER BY ALL") == ask(tmp_path / "once.duckdb", "SELECT * FROM hits ORDER BY ALL")
    for path in list(bundle.find(root)):
        if bundle.read(path).spec.seed == 0:
            (path / bundle.RUN).unlink()
    store.publish(root, db)
    assert ask(db, "SELECT DISTINCT seed FROM hits JOIN runs ON run = id") == [(1,)]
    assert ask(db, "SELECT count(*) FROM hits") == [(3 * trainings.PICTURES,)]


def test_a_run_that_was_not_asked_has_no_hits(shown: None, tmp_path: Path) -> None:
    """Answers of a network that was not asked are no wrong answers: what a run does not measure is not read."""
    root = trainings.write(tmp_path / "r", ARMS, seeds=[0])
    (path,) = bundle.find(root / "image_pruning" / "small" / "chex")
    record = bundle.read(path).model_dump(mode="json", exclude_unset=True)
    kept = [m for m in record["measures"] if (m["name"], m["part"]) != ("parent_tested", "all")]
    other = bundle.seal({**{k: v for k, v in record.items() if k != "id"}, "measures": kept, "key": "f" * 64})
    bundle.write(tmp_path / "s", other, {bundle.EVIDENCE: path / bundle.EVIDENCE})
    store.publish(tmp_path / "s", tmp_path / "c.duckdb")
    assert ask(tmp_path / "c.duckdb", "SELECT DISTINCT measure FROM hits") == [("tested:tickets",)]


def test_evidence_that_cannot_be_read_is_named(shown: None, tmp_path: Path) -> None:
    root = trainings.write(tmp_path / "r", ARMS, seeds=[0])
    (path,) = bundle.find(root / "image_pruning" / "small" / "chex")
    table = bundle.read_table(path / bundle.EVIDENCE)
    del table["picture"]
    bundle.write_table(table, path / bundle.EVIDENCE)
    with pytest.raises(UserError, match=r"no hits of its evidence \('picture'\).*weighin check"):
        store.publish(root, tmp_path / "b.duckdb")
