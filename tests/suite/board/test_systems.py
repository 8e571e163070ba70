"""Pages of machines: whatever a card says, they can be built, and nothing of it is markup or a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suite.board import pages, store, systems
from tests.helpers import page_text
from tests.suite.board.test_store import light
from tests.suite.board.test_tables import measured

EVIL = "A</script><script>alert(1)</script>\"'<img src=x onerror=alert(2)>"


@pytest.mark.slow
def test_cards_that_nobody_checked_have_pages(tmp_path: Path) -> None:
    cards = {
        "a": {"processor": {"model": EVIL, "cores": 8}, "system": {"kernel": "6.8.1"}},
        "b": {"processor": "none", "memory": [], "gpu": []},
        "c": {},
        "d": {"processor": {"model": ["A", "B"], "cores": "many"}},
    }
    (tmp_path / "r" / "systems").mkdir(parents=True)
    for name, facts in cards.items():
        (tmp_path / "r" / "systems" / f"{name * 16}.json").write_text(json.dumps(facts), encoding="utf-8")
    for at, card in enumerate("abcde"):  # of the last one there is no card
        for seed in range(3):
            machine, when = {"solve": card * 16, "weigh": card * 16}, f"2026-01-0{at + 1}T00:00:00Z"
            light(tmp_path / "r", seed, key=f"{10 * at + seed:064x}", measures=measured(90), systems=machine, created=when)
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
        told = systems.script(db)
    assert {p.stem[:1] for p in (tmp_path / "docs" / "systems").glob("????????????????.md")} == set(cards)
    assert not [p for p in (tmp_path / "docs").rglob("*.md") if "<img src=x" in p.read_text(encoding="utf-8")]
    found = json.loads(told.removeprefix("weighin.machines(").rstrip().removesuffix(")"))
    assert found["a" * 16][0] == f"{EVIL}, 8 cores"
    assert found["d" * 16][0] == "A, B, many cores"
    assert found["c" * 16][0] == "a machine"


@pytest.mark.slow
def test_a_class_of_cards_stands_in_one_line_and_each_page_names_the_others(tmp_path: Path) -> None:
    (tmp_path / "r" / "systems").mkdir(parents=True)
    for name, kernel in (("a", "6.8.1"), ("b", "6.8.2"), ("c", "6.9.1")):
        facts = {"processor": {"model": "P", "cores": 2}, "system": {"kernel": kernel}}
        (tmp_path / "r" / "systems" / f"{name * 16}.json").write_text(json.dumps(facts), encoding="utf-8")
        light(tmp_path / "r", "abc".index(name), measures=measured(90), systems={"solve": name * 16, "weigh": name * 16})
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    with store.connect(tmp_path / "b.duckdb") as db:
        pages.write_pages(db, tmp_path / "docs")
    index, first, second, other = (
        page_text(tmp_path / "docs" / "systems" / f"{name}.md") for name in ("index", *(letter * 16 for letter in "abc"))
    )
    assert index.count("<tr><td>") == 2
    assert f'<a href="{"b" * 16}.html">bbbb</a> (kernel 6.8.2; 1 weighed)' in first
    assert f'One class of machine with <a href="{"a" * 16}.html">' in second
    assert "class of machine" not in other
