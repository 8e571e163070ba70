"""Tables of what nobody is ranked by, points of the evidence in a plane, and what makes up a whole along the training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

from suite import bundle, registry
from suite.board import clouds, compositions, figures, pages, store, tables
from suite.naming import UserError
from suite.protocol import Table
from suite.show import Composition, Figures, Scatter, Show
from tests.suite.board.test_store import HERE, ask, light

if TYPE_CHECKING:
    import duckdb

TASK = registry.task("image_pruning")


def points(evidence: Table) -> dict[str, np.ndarray]:
    return {k: evidence[k] for k in ("x", "y", "colour", "shape", "landmark")}


SHOW = Show(
    pays=False,
    figures=(
        Figures(
            "Beside the rank",
            {"spread:wide": "spread, wide", "error": "error", "pause": "pause", "kept.macs": "kept", "nowhere": "nowhere"},
            "What [nobody](../measurement.html) is ranked by.",
        ),
        Figures("Nothing", {"nowhere": "nowhere"}),
    ),
    scatter=Scatter(
        "Where they lie", points, ("cold & dry", "hot"), ("let be", "called"), ("middle of the cold", "middle of the hot")
    ),
    composition=Composition("What pulls", "pull.", {"a": "first <one>", "b": "second", "c": "third"}, "Shares of a pull."),
)
#: by method and variant: quality, and how much its parts pull at the first and at the last of five looks
PLAN: dict[tuple[str, str], tuple[float, dict[str, tuple[float, float]]]] = {
    ("dense", ""): (85.0, {"a": (1.0, 1.0)}),
    ("chex", ""): (86.0, {"a": (0.5, 0.2), "b": (0.3, 0.7), "c": (0.2, 0.1)}),
    ("chex", "score=l1"): (84.0, {"c": (0.25, 0.5), "a": (0.75, 0.5)}),
    ("l1_filters", ""): (83.0, {}),
}
EXAMPLES = (100, 200, 300, 400, 500)


def cloud(seed: int, count: int = 60) -> dict[str, np.ndarray]:
    """Two kinds apart along x, of which some are called the other; two landmarks, of which one lies far away."""
    draw = np.random.Generator(np.random.Philox(seed))
    hot = np.arange(count) % 3 == 0
    x, y = draw.normal(0, 1, count) + 4 * hot, draw.normal(0, 1, count)
    return {
        "row": np.arange(count + 2, dtype=np.int32),
        "x": np.append(x, [0.0, 1e6]),
        "y": np.append(y, [0.0, 0.0]),
        "colour": np.append(np.where(np.arange(count) == 1, -1, hot), [0, 1]).astype(np.int8),
        "shape": np.append(hot ^ (np.arange(count) % 7 == 0), [0, 0]).astype(np.int8),
        "landmark": np.append(np.full(count, -1), [0, 1]).astype(np.int8),
    }


def write(root: Path, plan: Any = None, seeds: int = 3) -> Path:
    for at, ((method, variant), (quality, parts)) in enumerate((plan or PLAN).items()):
        for seed in range(seeds):
            told = [
                {"name": "top1", "value": quality + 0.1 * seed, "unit": "%", "direction": "up"},
                {"name": "kept.macs", "value": 0.5, "source": "meter"},
                {"name": "spread", "part": "wide", "value": 50 + at + seed, "unit": "%", "direction": "up"},
                {"name": "pause", "value": 0.02 * (at + 1), "unit": "s", "direction": "down", "source": "meter"},
            ]
            if seed or method != "l1_filters":
                told.append({"name": "error", "value": -0.0123 * (1 + at) * (1 + 0.2 * seed), "direction": "down"})
            curve = [
                {"examples": n, "seconds": n / 10, "name": f"pull.{p}", "value": v0 + (v1 - v0) * i / 4}
                for i, n in enumerate(EXAMPLES)
                for p, (v0, v1) in parts.items()
            ]
            evidence = cloud(10 * at + seed)
            folder = light(
                root,
                seed,
                measures=told,
                method={"name": method, "origin": "reference", "version": HERE, "variant": variant},
                key=f"{1000 * at + seed + 1:064x}",
                spec={"target": ""} if method == "dense" else {},
                curve=[*curve, {"examples": 500, "seconds": 50.0, "name": "pull.unknown", "value": 9.0}],
            )
            bundle.write_table(evidence, folder / bundle.EVIDENCE)  # only looked at here, where there is no checker
    (root / "systems").mkdir(exist_ok=True)
    (root / "systems" / f"{'c' * 16}.json").write_text('{"processor": {"model": "Invented"}}', encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(tmp_path_factory.mktemp("further") / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(TASK), "show", SHOW)
        store.publish(root, root.parent / "b.duckdb")
    return root.parent / "b.duckdb"


@pytest.fixture
def db(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    monkeypatch.setattr(type(TASK), "show", SHOW)
    with store.connect(published) as connection:
        yield connection


def the_board(db: duckdb.DuckDBPyConnection) -> tables.Board:
    (ranking,) = tables.rankings(db)
    return tables.board(db, ranking)


# --- figures


def test_a_table_holds_means_over_seeds_and_what_no_row_has_is_no_column(db: duckdb.DuckDBPyConnection) -> None:
    (told,) = figures.figures(the_board(db), TASK)
    assert told.declared.title == "Beside the rank"
    assert list(told.heads) == ["spread, wide, %\u00a0↑", "error\u00a0↓", "pause, ms\u00a0↓", "kept"]
    cells = {line.row.label: line.cells for line in told.lines}
    assert list(cells) == ["dense", "chex", "chex (score=l1)", "l1_filters"]
    spread = cells["dense"][0]
    assert spread is not None
    assert (spread.value, spread.half) == ("51.0", "±2.5")  # t of 50, 51, 52
    error = cells["l1_filters"][1]
    assert error is not None
    assert (error.value, error.half, error.few) == ("−0.064", "", "2 of 3 seeds")
    pause = cells["chex"][2]
    assert pause is not None
    assert (pause.value, pause.metered) == ("40", True)


def test_a_cell_shows_the_digits_that_its_interval_supports() -> None:
    told = figures._told
    nan = float("nan")
    assert [told(v, "%", h) for v, h in ((93.456, 0.4), (93.456, 4.0), (93.456, nan))] == ["93.5", "93", "93.5"]
    assert [told(v, "", h) for v, h in ((0.23456, 0.004), (12.3, 2.0), (1234.6, nan), (-0.5, nan))] == [
        "0.235", "12.3", "1,235", "−0.5",
    ]  # fmt: skip


# --- points


def test_only_the_first_seeds_points_are_kept(published: Path) -> None:
    rows = ask(published, "SELECT seed, count(*) FROM clouds JOIN runs ON runs.id = clouds.run GROUP BY seed")
    assert rows == [(0, 4 * 62)]


def test_each_method_is_drawn_in_axes_that_a_far_landmark_does_not_flatten(db: duckdb.DuckDBPyConnection) -> None:
    found = clouds.clouds(db, the_board(db), TASK)
    assert found is not None
    assert [d.row.label for d in found.drawings] == ["dense", "chex", "l1_filters"]  # ablations stand in the table
    for at, drawing in zip((0, 1, 3), found.drawings, strict=True):
        svg = ElementTree.fromstring(drawing.svg)
        paths = [p for p in svg.iter("path") if p.get("class", "").split()[-1] in ("dots", "crosses")]
        counts = {p.get("class"): len(re.findall("M", p.get("d", ""))) for p in paths}
        evidence = cloud(10 * at)
        expected = {
            f"{name} {form}": int(n)
            for colour, name in ((-1, "base"), (0, "s0"), (1, "s1"))
            for shape, form in ((0, "dots"), (1, "crosses"))
            if (n := ((evidence["colour"] == colour) & (evidence["shape"] == shape) & (evidence["landmark"] < 0)).sum())
        }
        assert counts == expected
        xs = [float(m) for p in paths for m in re.findall(r"M(-?\d+) ", p.get("d", ""))]
        assert min(xs) >= clouds.EDGE - 2
        assert max(xs) <= clouds.WIDTH - clouds.EDGE + 2
        assert max(xs) - min(xs) > 0.7 * clouds.WIDTH, "what lies far off is drawn at the edge"
        landmarks = [p for p in svg.iter("path") if "landmark" in p.get("class", "")]
        assert [p.findtext("title") for p in landmarks] == ["middle of the cold", "middle of the hot"]
        assert landmarks[1].get("d", "").startswith(f"M{clouds.WIDTH - clouds.EDGE} ")
        assert not re.search(r"fill=|stroke=|style=|font-|href|url\(|nan|inf", drawing.svg)


def test_a_drawing_says_in_words_what_it_shows(db: duckdb.DuckDBPyConnection) -> None:
    found = clouds.clouds(db, the_board(db), TASK)
    assert found is not None
    svg = ElementTree.fromstring(found.drawings[0].svg)
    assert svg.get("role") == "img"
    told = {e.tag: e.text or "" for e in svg if e.tag in ("title", "desc")}
    assert told["title"] == "Where they lie: dense"
    assert re.fullmatch(
        r"1 unknown, (let be|called); (\d+ (cold & dry|hot), (let be|called); ){3}\d+ hot, called\."
        r" With middle of the cold, middle of the hot\.",
        told["desc"],
    )
    assert sum(map(int, re.findall(r"(\d+) ", told["desc"]))) == 60
    names = re.findall(r"</svg> ([^<]+)</span>", found.legend)
    assert names == ["cold &amp; dry", "hot", "let be", "called", "middle of the cold", "middle of the hot"]


def test_both_axes_are_of_one_scale() -> None:
    line = np.linspace(0, 1, 101)
    flat = {"x": 10 * line, "y": line, "landmark": np.full(101, -1)}
    across, up, half = clouds.span(flat)
    assert (across, up) == pytest.approx((5, 0.5))
    assert half == pytest.approx(4.9)
    tall = {"x": line, "y": 10 * line, "landmark": np.full(101, -1)}
    assert clouds.span(tall)[2] == pytest.approx(4.9 * (clouds.WIDTH - 14) / (clouds.HEIGHT - 14))
    one = {"x": np.ones(3), "y": np.ones(3), "landmark": np.full(3, -1)}
    assert clouds.span(one)[2] > 0


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("colour", 2, "colour"), ("colour", -2, "colour"), ("shape", -1, "shape"), ("landmark", 2, "landmark")],
)
def test_points_that_a_scatter_does_not_hold_are_told(column: str, value: int, said: str) -> None:
    table = cloud(0)
    table[column][3] = value
    assert SHOW.scatter is not None
    with pytest.raises(ValueError, match=said):
        clouds.read(SHOW.scatter, table)


def test_what_is_not_finite_is_not_drawn() -> None:
    table = cloud(0)
    table["y"][5] = np.inf
    assert SHOW.scatter is not None
    assert len(clouds.read(SHOW.scatter, table)["x"]) == 61
    short = {**table, "y": table["y"][:-1]}
    with pytest.raises(ValueError, match="equal length"):
        clouds.read(SHOW.scatter, short)


def test_evidence_without_points_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TASK), "show", SHOW)
    root = write(tmp_path / "r", {("dense", ""): (85.0, {})}, seeds=1)
    (path,) = bundle.find(root)
    bundle.write_table({"row": np.arange(3)}, path / bundle.EVIDENCE)
    with pytest.raises(UserError, match=r"no points of its evidence.*weighin check"):
        store.publish(root, tmp_path / "b.duckdb")


@pytest.mark.parametrize("what", [{"colours": tuple("abcdef")}, {"shapes": tuple("abc")}, {"landmarks": tuple("abc")}])
def test_a_scatter_has_no_more_kinds_than_an_eye_can_hold(what: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at most five"):
        Scatter("t", points, **{"colours": ("a", "b"), "shapes": ("a", "b"), **what})


# --- compositions


def test_shares_are_means_over_seeds_in_the_declared_order_and_add_up_to_one(db: duckdb.DuckDBPyConnection) -> None:
    assert SHOW.composition is not None
    found = compositions.shares(db, the_board(db), SHOW.composition)
    assert set(found) == {("chex", ""), ("chex", "score=l1")}, "one part is no composition"
    chex, l1 = found["chex", ""], found["chex", "score=l1"]
    assert list(chex.value) == ["a", "b", "c"]
    assert list(l1.value) == ["a", "c"]
    assert (chex.seeds, list(chex.examples)) == (3, list(EXAMPLES))
    np.testing.assert_allclose(sum(chex.value.values()), 1)
    np.testing.assert_allclose(chex.value["b"], np.linspace(0.3, 0.7, 5))


def test_shares_that_do_not_add_up_are_brought_to_one() -> None:
    runs = [
        {"a": ([1, 2], [3.0, 0.0]), "b": ([1, 2], [1.0, 0.0])},
        {"a": ([1, 2, 3], [1.0, 2.0, 9.0]), "b": ([1, 2, 3], [3.0, 2.0, 9.0])},
    ]
    found = compositions._mean(runs, ["b", "a"])
    assert found is not None
    assert list(found.value) == ["b", "a"]
    np.testing.assert_allclose(found.value["a"], [(0.75 + 0.25) / 2, 0.25])  # nothing pulls at the last look of the first
    assert compositions._mean([{"a": ([1, 2], [1.0, 1.0])}], ["a"]) is None
    assert compositions._mean([{"a": ([1], [1.0]), "b": ([1], [1.0])}], ["a", "b"]) is None


def test_parts_are_stacked_and_named_at_their_ends(db: duckdb.DuckDBPyConnection) -> None:
    found = compositions.compositions(db, the_board(db), TASK)
    assert found is not None
    assert [d.row.label for d in found.drawings] == ["chex", "chex (score=l1)"]
    svg = ElementTree.fromstring(found.drawings[0].svg)
    layers = [p for p in svg.iter("polygon") if "layer" in p.get("class", "")]
    assert [(p.get("class"), p.findtext("title")) for p in layers] == [
        ("s0 layer", "first <one>"), ("s1 layer", "second"), ("s2 layer", "third"),
    ]  # fmt: skip
    bands = []
    for layer in layers:
        corners = [tuple(map(float, c.split(","))) for c in layer.get("points", "").split()]
        top, bottom = corners[: len(corners) // 2], corners[len(corners) // 2 :][::-1]
        bands.append([(b[1] - t[1]) / (compositions.BOTTOM - compositions.TOP) for t, b in zip(top, bottom, strict=True)])
        assert [t[0] for t in top] == [b[0] for b in bottom]
    np.testing.assert_allclose(np.sum(bands, 0), 1, atol=2e-3)
    np.testing.assert_allclose(bands[1], np.linspace(0.3, 0.7, 5), atol=2e-3)
    labels = [t.text for t in svg.iter("text") if t.get("class") == "label"]
    assert sorted(filter(None, labels)) == ["first <one> 20", "second 70", "third 10"]
    assert "second: 30 % at first, 70 % in the end" in (svg.findtext("desc") or "")
    heights = sorted(float(t.get("y", "nan")) for t in svg.iter("text") if t.get("class") == "label")
    assert all(b - a >= 14.9 for a, b in pairwise(heights))
    assert not re.search(r"fill=|stroke=|style=|font-|href|url\(|nan|inf", found.drawings[0].svg)


def test_a_part_has_one_colour_whatever_others_a_method_has(db: duckdb.DuckDBPyConnection) -> None:
    found = compositions.compositions(db, the_board(db), TASK)
    assert found is not None
    svg = ElementTree.fromstring(found.drawings[1].svg)
    assert [p.get("class") for p in svg.iter("polygon") if "layer" in p.get("class", "")] == ["s0 layer", "s2 layer"]


def test_points_of_other_names_are_not_kept(published: Path) -> None:
    names = ask(published, "SELECT DISTINCT name FROM histories ORDER BY name")
    assert names == [("pull.a",), ("pull.b",), ("pull.c",)]
    looks = ask(
        published,
        "SELECT name, list(look ORDER BY look) FROM histories WHERE run IN (SELECT min(run) FROM histories) GROUP BY name",
    )
    assert all(seen == [1, 2, 3, 4, 5] for _, seen in looks), "looks are counted by name"


@pytest.mark.parametrize("parts", [{}, dict.fromkeys("abcdef", "")])
def test_a_composition_has_a_part_and_five_at_most(parts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="five at most"):
        Composition("t", "p.", parts)


# --- pages


def test_a_page_holds_tables_points_and_compositions(db: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    pages.write_pages(db, tmp_path)
    text = (tmp_path / "tasks/image_pruning-small.md").read_text(encoding="utf-8")
    heads = re.findall(r"<h3>(.*?)</h3>", text)
    assert heads == ["Beside the rank", "Where they lie", "What pulls"]
    assert 'What <a href="../measurement.html">nobody</a> is ranked by.' in text
    assert text.count('class="cloud"') == 3
    assert text.count('class="parts"') == 2
    assert '<small class="few">2 of 3 seeds</small>' in text
    assert "first &lt;one&gt;" in text
    assert not re.search(r">[^<]*\b(nan|inf)\b", text)
    idents = re.findall(r' id="([^"]+)"', text)
    assert len(set(idents)) == len(idents)
    for told in re.findall(r'aria-labelledby="([^"]+)"', text):
        assert set(told.split()) <= set(idents)


def test_a_task_that_declares_nothing_shows_nothing(published: Path) -> None:
    with store.connect(published) as db:
        board = the_board(db)
        assert figures.figures(board, TASK) == []
        assert clouds.clouds(db, board, TASK) is None
        assert compositions.compositions(db, board, TASK) is None
