"""A machine is picked, and addresses of before cases had pages of their own lead on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Opener

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
TASK = "tasks/image_pruning-small.html"
FILMS = "tasks/mobile_vsr-small.html"


def facts(tab: Page) -> dict[str, str]:
    """What stands in fact, by row, of the first ranking."""
    found: dict[str, str] = tab.locator("section.target >> nth=0").evaluate(
        "s => Object.fromEntries([...s.querySelectorAll('.board:not(.small) tr[data-v]')].map("
        "r => [JSON.parse(r.dataset.v).n, r.querySelector('.fact').innerText.trim()]))"
    )
    return found


def test_who_picks_a_machine_sees_its_timings_and_an_address_keeps_them(visit: Opener) -> None:
    tab = visit(TASK)
    own = facts(tab)
    pick = tab.get_by_label("Timed on")
    pick.focus()
    tab.wait_for_function("document.querySelectorAll('.machine option').length > 2")
    values: list[str] = pick.evaluate("s => [...s.options].map(o => o.value)")
    home = tab.locator("section.target >> nth=0").get_attribute("data-place")
    assert values[0] == ""
    assert home in values
    other = next(v for v in values if v and v != home)
    pick.select_option(other)
    tab.wait_for_function("document.querySelector('section.target').classList.contains('elsewhere')")
    there = facts(tab)
    assert there["chex"] != own["chex"]
    assert there["chex"].startswith(tab.locator("section.target >> nth=0").locator("table.small td b >> nth=1").inner_text())
    assert there["uniform_scratch"] == "not weighed on this machine"
    assert f"machine={other}" in tab.url
    assert other[:4] in tab.locator(".machine .count").inner_text()
    tab.reload()
    tab.wait_for_function("document.querySelector('section.target').classList.contains('elsewhere')")
    assert facts(tab) == there
    tab.get_by_label("Timed on").select_option("")
    tab.wait_for_function("!document.querySelector('section.target').classList.contains('elsewhere')")
    assert facts(tab) == own
    assert "machine=" not in tab.url


def test_the_likest_machine_is_found_and_machines_are_filtered(visit: Opener) -> None:
    tab = visit(TASK)
    tab.get_by_role("button", name="like mine").click()
    tab.wait_for_function("location.search.includes('machine=')")
    tab.get_by_label("Filter machines").fill("no such processor")
    chosen = tab.get_by_label("Timed on")
    assert chosen.evaluate("s => s.options.length") == 2  # none but the own one and that which is chosen
    tab.get_by_label("Filter machines").fill("")
    assert chosen.evaluate("s => s.options.length") > 2


def test_without_scripts_no_machine_can_be_picked_and_the_tables_stand(visit: Opener) -> None:
    tab = visit(TASK, scripts=False)
    assert not tab.locator(".machine").is_visible()
    assert tab.locator("section.target >> nth=0").locator("table.board >> nth=0").is_visible()


def test_an_address_of_before_a_case_had_its_page_leads_there(visit: Opener) -> None:
    tab = visit(FILMS)
    line = tab.locator(".overview tr[data-page] >> nth=0")
    anchor, page = line.get_attribute("id"), line.get_attribute("data-page")
    assert anchor
    assert page
    for wanted in (anchor, f"r-{anchor}-awdnn-"):
        tab = visit(f"{FILMS}?b.speed=1.2#{wanted}")
        tab.wait_for_url(f"**/{page.removeprefix('../').partition('#')[0]}?b.speed=1.2#{wanted}")
        assert tab.evaluate("id => !!document.getElementById(id)", wanted)
