"""A ranking of more rows than a page holds: the rest comes where it is asked for, also from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from suite.board import pages
from tests.browser.conftest import Opener, board_where, opening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
TASK = "tasks/image_pruning-small.html"
SHOWN = 3


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return board_where(tmp_path_factory.mktemp("long"), pages, "MOST_SHOWN", SHOWN)


@pytest.fixture
def visit(browser: Browser, long: Path) -> Iterator[Opener]:
    yield from opening(browser, long)


def names(tab: Page) -> list[str]:
    found: list[str] = tab.locator("section.target >> nth=0").evaluate(
        "s => [...s.querySelectorAll('.board:not(.small) tr[data-v]')].map(r => JSON.parse(r.dataset.v).n)"
    )
    return found


def test_further_rows_come_where_they_are_asked_for_and_are_sorted_with_the_others(visit: Opener) -> None:
    tab = visit(f"{TASK}?t0.sort=-q")
    assert len(names(tab)) == 1 + SHOWN  # the parent stands beside
    more = tab.locator("section.target >> nth=0").locator(".more")
    assert more.inner_text().startswith("4 more rows stand in the table to take away.")
    more.get_by_role("button", name="show them here").click()
    tab.wait_for_function(
        "document.querySelectorAll('section.target')[0].querySelectorAll('.board:not(.small) tr[data-v]').length > 5"
    )
    found = names(tab)
    assert len(found) == 1 + SHOWN + 4
    assert len(set(found)) == len(found)
    section = tab.locator("section.target >> nth=0")
    order: list[list[float]] = section.evaluate(
        "s => [...s.querySelectorAll('.board:not(.small) tr[data-v]')].map(r => [+r.matches('.out'), -JSON.parse(r.dataset.v).q])"
    )
    assert order[1:] == sorted(order[1:])
    assert section.locator(".more").count() == 0
    assert section.locator(".tools .count").inner_text() == "7 of 7 rows"
    tab.get_by_label("Filter methods").first.fill("sampling")
    assert section.locator(".tools .count").inner_text() == "1 of 7 rows"


def test_without_scripts_the_rest_is_a_file_away(visit: Opener, long: Path) -> None:
    tab = visit(TASK, scripts=False)
    link = tab.locator("section.target >> nth=0").locator(".more a").get_attribute("href")
    assert link
    assert (long / "tasks" / link).resolve().is_file()


def test_rows_that_come_later_tell_of_the_machine_that_was_picked_and_are_asked_by_the_budget(visit: Opener) -> None:
    tab = visit(TASK)
    section = tab.locator("section.target >> nth=0")
    home = section.get_attribute("data-place")
    pick = tab.get_by_label("Timed on")
    pick.focus()
    tab.wait_for_function("document.querySelectorAll('.machine option').length > 2")
    values: list[str] = pick.evaluate("s => [...s.options].map(o => o.value)")
    other = next(v for v in values if v and v != home)
    tab = visit(f"{TASK}?machine={other}&b.speed=1.37")
    tab.wait_for_function("document.querySelector('section.target').classList.contains('elsewhere')")
    section = tab.locator("section.target >> nth=0")
    assert section.locator(".answer").inner_text().endswith(f": no row of {SHOWN}.")  # the fast ones come later
    section.locator(".more").get_by_role("button", name="show them here").click()
    tab.wait_for_function(
        "document.querySelectorAll('section.target')[0].querySelectorAll('.board:not(.small) tr[data-v]').length > 5"
    )
    told: dict[str, str] = section.evaluate(
        "s => Object.fromEntries([...s.querySelectorAll('.board:not(.small) tr[data-v]')].map("
        "r => [JSON.parse(r.dataset.v).n, r.querySelector('.fact').innerText.trim()]))"
    )
    assert len(told) == 8
    there = {name for name, text in told.items() if text != "not weighed on this machine"}
    assert there == {"dense", "chex"}  # what the other machine weighed
    answer, asked = section.locator(".answer"), section.locator("tr[data-b]").count()
    assert asked > SHOWN
    assert f" of {asked} within it" in answer.inner_text()
