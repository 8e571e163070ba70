"""The site as files: the tables stand in the HTML, the pages follow the models, nothing else is touched."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suite import bundle, registry
from suite.board import pages, store
from suite.board.schema import schema_table
from suite.naming import UserError
from tests import demo
from tests.helpers import on_one_line, page_text
from tests.suite.board.test_store import HERE, light
from tests.suite.board.test_tables import measured


@pytest.fixture(scope="module")
def docs(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated Markdown, without mkdocs: that takes seconds."""
    folder = tmp_path_factory.mktemp("docs")
    with store.connect(published) as db:
        pages.write_pages(db, folder)
    return folder


class Rows(HTMLParser):
    """Rows of boards: their ids, and their words."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.values: list[str] = []
        self.now = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr":
            self.now = given.get("id") or ""
            self.rows.setdefault(self.now, [])
            if given.get("data-v"):
                self.values.append(given["data-v"] or "")

    def handle_data(self, data: str) -> None:
        if self.now and data.strip():
            self.rows[self.now].append(data.strip())


def read(path: Path) -> Rows:
    parser = Rows()
    parser.feed(page_text(path))
    return parser


def test_a_task_that_counts_no_saving_has_no_column_for_it(docs: Path, filmed: Path, tmp_path: Path) -> None:
    with store.connect(filmed) as db:
        pages.write_pages(db, tmp_path)
    uncounted = on_one_line(
        "".join(p.read_text(encoding="utf-8") for p in sorted((tmp_path / "tasks").glob("mobile_vsr-small*.md")))
    )
    assert "in fact, " in uncounted
    assert not [words for words in ("on paper", "promise and fact", "Dotted, where") if words in uncounted]
    spans = [int(n) for n in re.findall(r'class="divider" role="row"><td role="cell" colspan="(\d+)"', uncounted)]
    heads = [block.count("<th ") for block in re.findall(r'<thead role="rowgroup">.*?</thead>', uncounted)]
    assert spans
    assert set(spans) <= set(heads)
    counted = page_text(docs / "tasks" / "image_pruning-small.md")
    assert ">on paper</th>" in counted


def test_the_table_stands_in_the_page(docs: Path) -> None:
    found = read(docs / "tasks/image_pruning-small.md")
    rows = {k: v for k, v in found.rows.items() if k}
    assert any(k.endswith("macs-0.5-closed-chex-") for k in rows)
    assert any(k.endswith("macs-0.25-closed-l1_filters-") for k in rows)
    chex = next(v for k, v in rows.items() if k.endswith("macs-0.5-closed-chex-"))
    assert {"chex", "●●●", "2.00×"} <= set(chex)
    assert all(isinstance(json.loads(v), dict) for v in found.values)


def test_what_is_not_ranked_says_why(docs: Path) -> None:
    text = page_text(docs / "tasks/image_pruning-small.md")
    below = text[text.index("Kept, not ranked") :]
    assert "kept 0.56 of macs where 0.5 was asked" in below
    assert "1 of at least 3 seeds" in below
    assert "✕ diverged" in below
    assert "invented failure" in below


def test_a_change_that_cannot_be_known_is_not_shown_as_zero(docs: Path) -> None:
    rows = read(docs / "tasks/image_pruning-small.md").rows
    alone = next(v for k, v in rows.items() if "sampling-uniform" in k)
    assert "–" in alone
    assert "0" not in alone


@pytest.mark.slow
def test_masks_save_only_on_paper_and_say_so(tmp_path: Path) -> None:
    for seed in range(3):
        demo.write(tmp_path / "r", "dense", target="", seed=seed, speedup=1.0)
        for method, alive in (("rigl", 0.05), ("magnitude", 0.1)):
            demo.write(tmp_path / "r", method, target="nonzero=0.05", seed=seed, kept=1.0, alive=alive, speedup=0.99)
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
    page = tmp_path / "docs/tasks/image_pruning-small.md"
    rigl = next(v for k, v in read(page).rows.items() if k.endswith("closed-rigl-"))
    assert {"20.00×", "only on paper", "5", "100"} <= set(rigl)
    text = page.read_text(encoding="utf-8")
    assert "Structural MACs, %" in text
    assert "Weights left, %" in text
    assert "2 of 2 rows" in text
    assert "promised on paper" not in text  # each promises something else: no line of all


def test_the_other_card_has_a_table_of_its_own(docs: Path) -> None:
    text = page_text(docs / "tasks/image_pruning-small.md")
    assert text.count("<h3>On card") == 1  # at macs=0.25 only the parent was weighed there: nothing to show


def test_every_method_system_and_task_has_a_page(docs: Path) -> None:
    for name in registry.methods("image_pruning"):
        assert (docs / f"methods/{name}.md").is_file()
    assert len(list((docs / "systems").glob("*.md"))) == 3
    assert "Departs" not in (docs / "methods/chex.md").read_text(encoding="utf-8")
    assert "What we changed" in (docs / "methods/chex.md").read_text(encoding="utf-8")
    assert "tell apart speeds that differ by" in "".join(p.read_text() for p in (docs / "systems").glob("*.md"))
    home = page_text(docs / "index.md")
    assert "partitions" not in home  # who wrote these has checked them: it was read from bundles
    assert home.count("No rows yet") == 5
    assert "sampling=uniform" not in home


def test_a_system_page_lists_what_was_weighed_there_and_where_it_stands(docs: Path) -> None:
    listed = {
        p.stem: re.findall(r'<td><a href="\.\./(tasks/.*?)\.html#(.*?)">', p.read_text()) for p in (docs / "systems").glob("*.md")
    }
    cards = {name: found for name, found in listed.items() if name != "index"}
    assert all(cards.values()), cards
    for page, anchor in {place for found in cards.values() for place in found}:
        assert f'id="{anchor}"' in (docs / f"{page}.md").read_text(encoding="utf-8")
    index = (docs / "systems/index.md").read_text(encoding="utf-8")
    assert set(re.findall(r'<a href="(\w+)\.html">', index)) == set(cards)


def card_page(folder: Path) -> str:
    """The page of the card that `light` bundles in ``r`` name."""
    (folder / "r/systems").mkdir()
    (folder / "r/systems/cccccccccccccccc.json").write_text("{}", encoding="utf-8")
    store.publish(folder / "r", folder / "b.duckdb")
    with store.connect(folder / "b.duckdb") as db:
        pages.write_pages(db, folder / "docs")
    return page_text(folder / "docs/systems/cccccccccccccccc.md")


@pytest.mark.slow
def test_what_a_machine_can_tell_apart_comes_from_the_parent_beside_itself_alone(tmp_path: Path) -> None:
    """As CSR the dense graph network is a tenth as fast as by its best kernel: that says nothing of the machine."""
    spec = {"task": "graph_tickets", "case": "cora/gcn", "target": ""}
    for seed in range(3):
        measures = [
            {"name": "speedup", "part": part, "value": value, "low": value - 0.01, "high": value + 0.01, "source": "timing"}
            for part, value in (("infer@graph", 1.02), ("infer_csr@graph", 0.1))
        ]
        dense = {"name": "dense", "origin": "reference", "version": HERE}
        light(tmp_path / "r", seed, spec=spec, measures=measures, method=dense)
    page = card_page(tmp_path)
    assert "differ by 2.0 % or more</b>: the dense network, weighed 3 times" in page
    assert "infer_csr" not in page


@pytest.mark.slow
def test_equal_workloads_and_seeds_stand_by_task_case_and_target(tmp_path: Path) -> None:
    targets = [f"edges=0.{k}" for k in range(10, 40)]
    for place, target in enumerate(sorted(targets, key=lambda t: (int(t[-1]), t))):  # written in another order
        value = float(f"1.{target[-2:]}")
        light(
            tmp_path / "r",
            spec={"task": "graph_tickets", "case": "cora/gcn", "target": target},
            key=f"{place:064x}",
            measures=[{"name": "speedup", "part": "infer@graph", "value": value, "low": 1.0, "high": 2.0, "source": "timing"}],
            method={"name": "dense", "origin": "reference", "version": HERE},
        )
    page = card_page(tmp_path)
    found = re.findall(r'<td class="num">0</td><td class="num">(1\.\d\d)00</td>', page)
    assert found == [f"1.{k}" for k in range(10, 40)]


@pytest.mark.parametrize(
    ("task", "workloads", "heads"),
    [
        ("image_pruning", ("infer@64", "infer@1", "infer@256"), ["Latency infer@1, ms", "Batch 256"]),
        ("mobile_vsr", ("play/aoti", "play/onnx", "play/eager"), ["Latency play/eager, ms", "play/aoti", "play/onnx"]),
        ("graph_tickets", ("infer@graph", "infer_csr@graph"), ["Latency infer@graph, ms", "infer_csr@graph"]),
    ],
)
def test_latency_is_that_of_the_tasks_own_workload(task: str, workloads: tuple[str, ...], heads: list[str]) -> None:
    row = SimpleNamespace(cells={f"{name} {w}": None for name in ("time", "speedup") for w in workloads})
    board: Any = SimpleNamespace(rows=[row], ranking=SimpleNamespace(division="closed"))
    assert [c.head for c in pages._columns(registry.task(task), board)] == heads


def test_schema_page_and_models_are_equal() -> None:
    """Each record has its section, each field its line, and nothing else stands there."""
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", schema_table(), re.M | re.S))
    models = {
        m.__name__: m for m in vars(bundle).values() if isinstance(m, type) and issubclass(m, bundle.Record) and m.model_fields
    }
    assert set(sections) == set(models)
    for name, model in models.items():
        lines = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", sections[name], re.M)
        assert [field for field, _, _ in lines] == list(model.model_fields)
        assert [meaning for *_, meaning in lines] == [f.description or "" for f in model.model_fields.values()]
        assert all(kind and kind != "any" for field, kind, _ in lines if field != "configuration")


def test_the_queries_on_the_page_run_and_find_something(published: Path) -> None:
    queries = re.findall(r"```sql\n(.*?)```", (registry.HOUSE / "site/docs/query.md").read_text(encoding="utf-8"), re.S)
    assert len(queries) == 4
    with store.connect(published) as db:
        assert all(db.execute(q).fetchall() for q in queries)


@pytest.mark.slow
def test_words_of_others_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>'\"{{ 73*89 }}"
    root = tmp_path / "r"
    light(root, 0, measures=measured(90), method={"name": "chex", "origin": "reference", "version": HERE, "variant": evil})
    light(root, 1, status="error", reason=evil, measures=[])
    (root / "systems").mkdir()
    facts = {"processor": {"model": evil}, "loose": evil, "deep": {"a": {"b": [evil]}}}
    (root / "systems" / "cccccccccccccccc.json").write_text(json.dumps(facts), encoding="utf-8")
    store.publish(root, tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
    for page in (tmp_path / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert "<script>" not in text, page
        assert "6497" not in text, page  # the product, had a template been made of it


@pytest.mark.slow
def test_a_task_that_asks_for_nothing_to_be_kept_is_on_the_front_page_and_called_by_its_case(tmp_path: Path) -> None:
    spec = {"task": "mobile_vsr", "case": "bottle/x2", "target": ""}
    for seed in range(3):
        for name, psnr in (("awdnn", 40.0), ("stdo", 41.0 + seed / 10)):
            quality = [
                {"name": "psnr_frame", "value": psnr, "unit": "dB", "direction": "up", "low": psnr - 0.1, "high": psnr + 0.1}
            ]
            light(tmp_path / "r", seed, spec=spec, measures=quality, method={"name": name, "origin": "reference", "version": HERE})
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
    home = (tmp_path / "docs/index.md").read_text(encoding="utf-8")
    assert home.count("No rows yet") == 5
    assert 'href="tasks/mobile_vsr-small.html"' in home
    assert "bottle/x2: 0 of 1 are faster in fact" in home
    page = page_text(tmp_path / "docs/tasks/mobile_vsr-small.md")
    assert "<h2>bottle/x2 <small>closed" in page
    assert "parent</a>" not in page


@pytest.mark.slow
def test_a_site_without_rows_can_be_built(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
    assert (tmp_path / "docs/index.md").read_text(encoding="utf-8").count("No rows yet") == 6


def test_building_touches_nothing_but_the_site(published: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text("mine", encoding="utf-8")
    site = pages.build(published, tmp_path / "a: public # site")
    assert (site / "index.html").is_file()
    assert (site / "data" / "weighin.duckdb").read_bytes() == published.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a: public # site", "docs", "mkdocs.yml"]
    assert (tmp_path / "docs" / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "mkdocs.yml").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UserError, match="something else"):
        pages.build(published, tmp_path / "docs")
    assert (tmp_path / "docs" / "mine.txt").is_file()


def test_a_speed_that_is_a_small_part_of_the_parents_is_told_by_its_digits() -> None:
    told = {1.0: "1.00", 12.345: "12.35", 0.31: "0.31", 0.0261: "0.026", 0.00264: "0.0026", 0.0: "0.00"}
    assert {value: pages._times(value) for value in told} == told
