"""What a task shows beside its tables: curves of the evidence, quality over other measures, pictures."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from suite import bundle, check, pictures, registry
from suite.board import charts, gallery, pages, showing, store, tables
from suite.naming import UserError
from tests import demo
from tests.suite.board.test_store import HERE, light

if TYPE_CHECKING:
    import duckdb

TASK = registry.task("mobile_vsr")


@pytest.fixture
def films(filmed: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with store.connect(filmed) as db:
        yield db


@pytest.fixture
def boards(films: duckdb.DuckDBPyConnection) -> dict[str, tables.Board]:
    return {r.case: tables.board(films, r) for r in tables.rankings(films)}


def test_the_invented_bundles_pass_the_checker(video: Path) -> None:
    found = [f for f in check.check(list(bundle.find(video))) if f.level == "error"]
    # the originals are invented too, which the checker sees
    assert [f.line() for f in found if f.field != "pictures"] == []
    assert found
    assert all(f.file.endswith(".original.webp") and "is not the original" in f.message for f in found)


def test_a_curve_is_the_mean_over_seeds_of_what_the_evidence_gives(
    video: Path, films: duckdb.DuckDBPyConnection, boards: dict[str, tables.Board]
) -> None:
    found = showing.series(films, boards["bigbuckbunny/x2"])
    assert set(found) == set(demo.VIDEO)
    told = []
    for path in bundle.find(video / "mobile_vsr" / "small" / "stdo"):
        if bundle.read(path).spec.case == "bigbuckbunny/x2":
            evidence = bundle.read_table(path / bundle.EVIDENCE)
            told.append(-10 * np.log10(evidence["error_frame"]))
    assert len(told) == 3
    at, values = zip(*found["stdo"], strict=True)
    assert list(at) == list(range(0, 132, 10))
    np.testing.assert_allclose(values, np.mean(told, axis=0))


def test_a_long_curve_is_thinned_and_a_removed_bundle_takes_its_own_along(video: Path, tmp_path: Path) -> None:
    root, db = tmp_path / "r", tmp_path / "b.duckdb"
    demo.video(root, ("awdnn",), seeds=2)
    (path, other) = bundle.find(root)
    table = bundle.read_table(path / bundle.EVIDENCE)
    long = {k: np.concatenate([v] * 100)[:1350] for k, v in table.items()}
    long["frame"] = np.arange(1350, dtype=np.int32)
    bundle.write_table(long, path / bundle.EVIDENCE)  # only its curve is looked at here
    store.publish(root, db)
    with store.connect(db) as connection:
        counts = dict(connection.execute("SELECT run, count(*) FROM series GROUP BY run").fetchall())
        ends = connection.execute("SELECT min(place), max(place) FROM series").fetchone()
    assert counts == {bundle.read(path).id: store.MOST_POINTS, bundle.read(other).id: 14}
    assert ends == (0, 1349)
    shutil.rmtree(path)
    store.publish(root, db)
    with store.connect(db) as connection:
        assert connection.execute("SELECT DISTINCT run FROM series").fetchall() == [(bundle.read(other).id,)]


@pytest.mark.slow
def test_evidence_and_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    root = tmp_path / "r"
    demo.video(root, ("awdnn",), seeds=1)
    (path,) = bundle.find(root)
    (seen, *_) = path.glob("*.webp")
    whole = seen.read_bytes()
    seen.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=rf"{seen.name}: no picture.*weighin check"):
        store.publish(root, tmp_path / "b.duckdb")
    seen.write_bytes(whole)
    (path / bundle.EVIDENCE).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"no curve.*weighin check"):
        store.publish(root, tmp_path / "b.duckdb")


def test_axes_hold_bytes_of_all_seeds_and_the_players_speed(boards: dict[str, tables.Board]) -> None:
    board = boards["bigbuckbunny/x2"]
    rows = {r.method: r for r in board.rows}
    assert rows["stdo"].axes["bytes:total"].value == pytest.approx(363_683 + 44_000 + 40)
    assert rows["stdo"].axes["bytes:total"].source == "evidence"
    fps = rows["dy_dca"].axes["throughput:play/eager"]
    assert fps.low < fps.value < fps.high
    assert fps.value == pytest.approx(3 / 0.4 * 1.25, rel=0.03)


def test_each_chart_has_every_method_in_both_widths(films: duckdb.DuckDBPyConnection, boards: dict[str, tables.Board]) -> None:
    drawn = showing.drawings(films, boards["bigbuckbunny/x2"], TASK)
    assert [d.title for d in drawn] == [
        "psnr_frame over bytes sent",
        "psnr_frame over frames a second of the player",
        "PSNR along the frames",
        "The same, as a difference from awdnn",
    ]
    for d in drawn:
        for text in (d.wide, d.narrow):
            svg = ElementTree.fromstring(text)
            there = {g.get("data-m", "") for g in svg.iter("g") if "pt" in g.get("class", "").split()}
            asked = set(demo.VIDEO) - ({"awdnn"} if "difference" in d.title else set())
            assert {m.rpartition("closed-")[2] for m in there} == {f"{m}-" for m in asked}
            assert not re.search(r"fill=|stroke=|style=|font-|href|url\(|nan|inf", text)
    idents = [re.findall(r' id="([^"]+)"', d.wide + d.narrow) for d in drawn]
    assert len({i for ids in idents for i in ids}) == sum(map(len, idents))


def test_no_row_no_chart(films: duckdb.DuckDBPyConnection, connection: duckdb.DuckDBPyConnection) -> None:
    (first, *_) = tables.rankings(connection)
    board = tables.board(connection, first)
    assert showing.drawings(connection, board, registry.task("image_pruning")) == []
    assert gallery.gallery(connection, board, registry.task("image_pruning")) is None


def test_a_gallery_holds_the_original_and_every_method_in_the_boards_order(
    films: duckdb.DuckDBPyConnection, boards: dict[str, tables.Board]
) -> None:
    board = boards["bigbuckbunny/x2"]
    found = gallery.gallery(films, board, TASK)
    assert found is not None
    assert [s.words for s in found.scenes] == ["frame 10 x 40 y 60", "frame 90 x 200 y 8"]
    for i, scene in enumerate(found.scenes):
        assert [s.key for s in scene.shots] == ["original", *(r.method for r in board.rows)]
        original, *rest = scene.shots
        np.testing.assert_array_equal(pictures.decode(original.data), demo.crop(i, 0))
        errors = {s.key: np.square(pictures.decode(s.data) - demo.crop(i, 0).astype(float)).mean() for s in rest}
        assert {s.key: round(s.likeness, 6) for s in rest} == {k: round(10 * np.log10(255**2 / e), 6) for k, e in errors.items()}
    assert (found.left, found.right) == ("bicubic", "stdo")
    assert "CC BY" in found.credit


def test_where_the_reference_was_not_run_the_original_comes_from_another_case(
    films: duckdb.DuckDBPyConnection, boards: dict[str, tables.Board]
) -> None:
    found = gallery.gallery(films, boards["bigbuckbunny/x2-per_model"], TASK)
    assert found is not None
    assert [s.key for s in found.scenes[0].shots] == ["original", "awdnn", "stdo"]
    assert (found.left, found.right) == ("original", "stdo")


class Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.credits = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))
        self.credits += dict(attrs).get("class") == "note credit"


def test_pages_hold_pictures_as_files_of_the_site(films: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    pages.write_pages(films, tmp_path)
    parser = Pictures()
    for page in sorted((tmp_path / "tasks").glob("mobile_vsr-small-*.md")):
        parser.feed(page.read_text(encoding="utf-8"))
    assert len(parser.found) == 2 * (1 + len(demo.VIDEO)) + 2 * 3
    assert parser.credits == 4  # one under every scene
    for image in parser.found:
        file = tmp_path / "tasks" / str(image["src"])
        assert pictures.size(file.resolve().read_bytes()) == (int(str(image["width"])), int(str(image["height"])))
        assert image["alt"]
        assert image["loading"] == "lazy"


@pytest.mark.slow
def test_an_original_of_another_method_is_never_shown(tmp_path: Path) -> None:
    """The checker refuses it; a board built of what was not checked does not show it either."""
    root = tmp_path / "r"
    demo.video(root, ("awdnn", "stdo"), seeds=1)
    store.publish(root, tmp_path / "b.duckdb")
    import duckdb

    with duckdb.connect(str(tmp_path / "b.duckdb")) as db:
        db.execute("INSERT INTO pictures SELECT run, name || '.original', width, height, webp FROM pictures")
    with store.connect(tmp_path / "b.duckdb") as db:
        (ranking,) = tables.rankings(db)
        found = gallery.gallery(db, tables.board(db, ranking), TASK)
    assert found is not None
    assert [s.key for s in found.scenes[0].shots] == ["awdnn", "stdo"]


@pytest.mark.parametrize(("low", "high"), [(170, 214), (0.9, 1.05), (3, 90_000), (7.1, 7.3)])
def test_ticks_of_a_log_axis_are_few_round_numbers_within_it(low: float, high: float) -> None:
    ticks = charts._decade_ticks(low, high, 7)
    assert 2 <= len(ticks) <= 8
    assert all(low <= t <= high for t in ticks)
    assert ticks == sorted(ticks)


@pytest.mark.slow
def test_a_row_that_lacks_a_value_in_some_seed_is_named_and_not_drawn(tmp_path: Path) -> None:
    root = tmp_path / "r"
    for at, method in enumerate(("awdnn", "stdo", "jstdo")):
        for seed in range(3):
            named = {"name": method, "origin": "reference", "version": HERE}
            told = [{"name": "psnr_frame", "value": 40.0 + at, "unit": "dB", "direction": "up"}]
            if (method, seed) != ("jstdo", 2):
                told.append({"name": "bytes", "part": "total", "value": 1000.0 * (at + 1), "direction": "down"})
            spec = {"task": "mobile_vsr", "case": "bottle/x2", "target": ""}
            light(root, seed, spec=spec, measures=told, method=named, key=f"{10 * at + seed + 1:064x}")
    store.publish(root, tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        (ranking,) = tables.rankings(db)
        (drawn,) = showing.drawings(db, tables.board(db, ranking), TASK)
    assert "Not drawn, as not every seed has a value: jstdo." in drawn.note
    assert "jstdo" not in drawn.wide
