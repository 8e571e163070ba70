"""Questions people bring, as a visitor asks them: by slider, by address, by the back button, on a desk and on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Opener

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
TASK = "tasks/image_pruning-small.html"
CHEX, L1, UNIFORM = "chex", "l1_filters", "uniform_scratch"


def section(tab: Page, at: int = 0) -> Locator:
    return tab.locator(f"section.target >> nth={at}")


def slider(tab: Page, words: str, at: int = 0) -> Locator:
    return section(tab, at).get_by_label(words)


def faded(tab: Page, at: int = 0) -> set[str]:
    found: list[str] = section(tab, at).evaluate(
        "s => [...s.querySelectorAll('tr.beyond[data-v]')].map(r => JSON.parse(r.dataset.v).n)"
    )
    return set(found)


def test_a_budget_is_asked_by_the_keyboard_answered_in_words_and_kept_in_the_address(visit: Opener) -> None:
    tab = visit(TASK)
    assert not slider(tab, "speed in fact").is_visible()
    section(tab).get_by_text("Ask by a budget").focus()
    tab.keyboard.press("Enter")
    speed = slider(tab, "speed in fact")
    assert speed.get_attribute("aria-valuetext") == "any"
    speed.focus()
    tab.keyboard.press("End")
    assert speed.get_attribute("aria-valuetext") == "1.40×"
    answer = section(tab).locator(".answer")
    assert answer.inner_text().startswith(f"Most accuracy, at least 1.4× as fast in fact: {L1}, ")
    assert "at 1.4" in answer.inner_text()
    assert "unfavourable ends of the 95 % intervals" in answer.inner_text()
    assert faded(tab) == {CHEX, "chex (delta0=0.0)", "chex (score=l1)"}
    assert f"b.{section(tab).get_attribute('id')}.speed=1.4" in tab.url
    assert section(tab).locator("svg .beyond").count() > 0
    assert faded(tab, 1) == set()  # another ranking was not asked
    tab.reload()
    assert slider(tab, "speed in fact").get_attribute("aria-valuetext") == "1.40×"
    assert faded(tab) == {CHEX, "chex (delta0=0.0)", "chex (score=l1)"}
    section(tab).get_by_role("button", name="clear").click()
    assert faded(tab) == set()
    assert "b." not in tab.url


def test_an_address_asks_all_rankings_of_a_page_and_each_can_be_asked_otherwise(visit: Opener) -> None:
    tab = visit(f"{TASK}?b.speed=1.37")
    for at in (0, 1):
        assert slider(tab, "speed in fact", at).get_attribute("aria-valuetext") == "1.37×"  # though it is no round number
    assert CHEX in faded(tab)
    slider(tab, "speed in fact").focus()
    tab.keyboard.press("Home")
    assert faded(tab) == set()
    tab.reload()
    assert faded(tab) == set()
    assert slider(tab, "speed in fact", 1).get_attribute("aria-valuetext") == "1.37×"


def test_what_holds_by_its_value_alone_is_not_certain(visit: Opener) -> None:
    tab = visit(TASK)
    speed, low = tab.locator("tr.paper[data-b] >> nth=0").evaluate("r => JSON.parse(r.dataset.b).s")
    assert low < speed
    tab.goto(f"{tab.url}?b.speed={(low + speed) / 2}")
    row = section(tab).locator("tr.paper[data-b] >> nth=0")
    assert row.evaluate("r => [r.classList.contains('perhaps'), r.classList.contains('beyond')]") == [True, False]
    assert "by their values alone (half faded)" in section(tab).locator(".answer").inner_text()


def test_the_others_can_be_hidden_and_the_filter_still_works(visit: Opener) -> None:
    tab = visit(f"{TASK}?b.speed=1.4&b.hide=1")
    shown = section(tab).locator("tr[data-b] >> visible=true")
    names = [r.locator(".name").inner_text().strip() for r in shown.all()]
    assert CHEX not in names
    assert L1 in names
    section(tab).locator("input[type=search]").fill("uniform_")
    assert shown.count() == 1
    section(tab).get_by_label("hide the others").uncheck()
    section(tab).locator("input[type=search]").fill("")
    assert section(tab).locator("tr[data-b] >> visible=true").count() > len(names)


def test_fastest_and_smallest_can_be_asked_and_a_budget_that_none_keeps_says_so(visit: Opener) -> None:
    tab = visit(f"{TASK}?b.by=fast")
    assert section(tab).locator(".answer").inner_text().startswith(f"Fastest in fact: {UNIFORM}, ")
    section(tab).locator("select").select_option("least")
    assert "% kept" in section(tab).locator(".answer").inner_text()
    tab.goto(f"{tab.url.partition('?')[0]}?b.speed=9")
    assert section(tab).locator(".answer").inner_text().startswith("Most accuracy, at least 9× as fast in fact: no row of ")


def test_back_after_a_jump_within_the_page_asks_what_was_asked(visit: Opener) -> None:
    tab = visit(f"{TASK}?b.speed=1.4")
    before = faded(tab)
    tab.locator(".jump a").nth(1).click()
    section(tab).get_by_role("button", name="clear").click()
    assert faded(tab) == set()
    tab.go_back()
    tab.wait_for_function("document.querySelector('section.target tr.beyond')")
    assert faded(tab) == before


def test_without_scripts_the_questions_are_absent_and_the_tables_stay(visit: Opener) -> None:
    tab = visit(f"{TASK}?b.speed=1.4", scripts=False)
    assert tab.get_by_text("Ask by a budget").count() == 0
    assert section(tab).locator("tr[data-b] >> visible=true").count() == 6
    tab = visit("compare.html", scripts=False)
    assert tab.locator(".compare").is_hidden()
    assert tab.get_by_role("link", name=CHEX, exact=True).get_attribute("href") == "methods/chex.html"
    tab = visit("changes.html?since=2999-01-01", scripts=False)
    assert tab.locator(".since").is_hidden()
    assert tab.locator("section.day >> visible=true").count() == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_can_ask_by_a_budget(visit: Opener, scheme: str) -> None:
    tab = visit(f"{TASK}?b.speed=1.4&b.loss=2", width=390, scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for words in ("speed in fact", "loses at most", "no class loses more"):
        box = slider(tab, words).bounding_box()
        assert box is not None
        assert box["width"] > 250
    assert section(tab).locator(".answer").is_visible()


def heads(tab: Page) -> list[str]:
    table = tab.locator(".side table:not(.sums) >> nth=0")
    table.wait_for()
    return [h.strip() for h in table.locator("thead th").all_inner_texts()][1:]


def test_methods_are_chosen_left_out_and_taken_back_by_the_back_button(visit: Opener) -> None:
    tab = visit("methods/chex.html")
    tab.get_by_role("link", name="Compare with…").click()
    tab.wait_for_url("**/compare.html?m=chex")
    assert "Stand beside it most often" in tab.locator(".said").inner_text()
    tab.get_by_label("add").select_option(L1)
    assert heads(tab) == [CHEX, L1]
    assert tab.url.endswith("?m=chex&m=l1_filters")
    tab.get_by_label("add").select_option("dense")
    assert heads(tab) == [CHEX, L1, "dense"]
    tab.get_by_role("button", name="leave out chex").click()
    assert heads(tab) == [L1, "dense"]
    tab.go_back()
    tab.wait_for_function("document.querySelectorAll('.picked button').length === 3")
    assert heads(tab) == [CHEX, L1, "dense"]
    tab.reload()
    assert heads(tab) == [CHEX, L1, "dense"]


def test_each_stands_beside_the_other_with_the_numbers_of_their_ranking(visit: Opener) -> None:
    tab = visit(f"compare.html?m={CHEX}&m={L1}")
    rows = tab.locator(".side table:not(.sums) tbody tr")
    assert rows.count() == 3  # the third is chex's alone
    first, second = rows.nth(0).locator("td").all_inner_texts()
    assert "1.33×" in first
    assert "1.42×" in second
    for text in (first, second):
        assert "vs parent −" in text
        assert "worst" in text
        assert "rank " in text
    assert rows.nth(0).locator("td b").count() >= 1
    assert rows.nth(2).locator("td").nth(1).inner_text() == "–"
    tab.get_by_label("only where all of them stand").check()
    assert rows.count() == 2
    assert "both=1" in tab.url
    sums = tab.locator(".sums tbody tr >> nth=0").locator("td").all_inner_texts()
    assert sums == ["2", "2"]
    rows.nth(0).locator("th a").click()
    tab.wait_for_url(lambda url: "tasks/image_pruning-small.html#" in url)


def test_six_are_too_many_and_an_unknown_one_is_said_to_have_no_rows(visit: Opener) -> None:
    tab = visit("compare.html?" + "&".join(f"m={m}" for m in (CHEX, L1, UNIFORM, "dense", "awdnn", "stdo", "nobodys")))
    assert tab.locator(".picked button").count() == 5
    assert tab.get_by_label("add").is_disabled()
    assert "No rows of nobodys." in tab.locator(".said").inner_text()


def test_a_phone_sees_each_ranking_with_the_methods_under_each_other(visit: Opener) -> None:
    tab = visit(f"compare.html?m={CHEX}&m={L1}", width=390)
    cells = tab.locator(".side table:not(.sums) tbody tr >> nth=0").locator("td")
    first, second = (c.bounding_box() for c in cells.all())
    assert first is not None
    assert second is not None
    assert second["y"] >= first["y"] + first["height"]
    assert cells.nth(1).evaluate("c => getComputedStyle(c, '::before').content") == f'"{L1}"'


def test_a_budget_leads_to_a_comparison_of_those_within_it(visit: Opener) -> None:
    tab = visit(f"{TASK}?b.speed=1.4")
    section(tab).get_by_role("link", name="Compare side by side").click()
    assert heads(tab)[0] == L1
    assert tab.locator(".said").inner_text().startswith("2 rankings")


def test_changes_since_a_day_stand_in_the_address_and_back_shows_all(visit: Opener) -> None:
    tab = visit("changes.html")
    days = tab.locator("section.day >> visible=true")
    assert days.count() == 4
    everything = tab.locator(".count").inner_text()
    assert "new rows" in everything
    tab.get_by_label("since", exact=True).fill("2026-11-26")
    assert [d.get_attribute("data-day") for d in days.all()] == ["2026-11-27", "2026-11-26"]
    assert tab.locator(".count").inner_text() != everything
    assert tab.url.endswith("?since=2026-11-26")
    tab.reload()
    assert days.count() == 2
    tab.go_back()
    tab.wait_for_function("document.querySelectorAll('section.day[hidden]').length === 0")
    assert tab.locator(".count").inner_text() == everything


@pytest.mark.parametrize("width", [390, 1440])
def test_a_methods_page_begins_with_where_it_stands(visit: Opener, width: int) -> None:
    tab = visit("methods/chex.html", width=width)
    lines = tab.locator("table.stands tbody tr")
    assert lines.count() == 2  # not the target between those that the tier names
    assert " of 5" in lines.nth(0).inner_text()
    assert "1.33×" in lines.nth(0).inner_text()
    assert tab.locator("h2").first.inner_text() == "Where it stands"
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
