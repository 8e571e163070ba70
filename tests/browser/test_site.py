"""What a visitor meets: pages from a folder, on a desk and on a phone, light and dark, with and without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import Opener

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
TASK = "tasks/image_pruning-small.html"
FILMS = "tasks/mobile_vsr-small-bigbuckbunny-x2.html"
OVERVIEW = "tasks/mobile_vsr-small.html"
PAGES = (
    "index.html",
    TASK,
    FILMS,
    OVERVIEW,
    "tasks/index.html",
    "methods/index.html",
    "methods/chex.html",
    "methods/l1_filters.html",
    "systems/index.html",
    "claims.html",
    "compare.html",
    "compare.html?m=chex&m=l1_filters&m=dense&m=uniform_scratch&m=stdo",
    "changes.html",
    "run.html",
    "own-machine.html",
    "own-data.html",
    "layout.html",
    "own-method.html",
    "own-task.html",
    "protocol.html",
    "submit.html",
    "measurement.html",
    "fairness.html",
    "glossary.html",
    "schema.html",
    "query.html",
)
BOARD = "section.target >> nth=0 >> table.board >> nth=0"


def names(tab: Page) -> list[str]:
    """Names of the board's shown rows, in order."""
    found: list[str] = tab.locator(BOARD).evaluate(
        "t => [...t.querySelectorAll('tr[data-v]')].filter(r => r.offsetParent !== null).map(r => JSON.parse(r.dataset.v).n)"
    )
    return found


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_the_window(visit: Opener, width: int) -> None:
    tab = visit(PAGES[0], width=width)
    base = tab.url.rpartition("/")[0]
    for page in PAGES:
        tab.goto(f"{base}/{page}")
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, page
        assert tab.locator("h1").count() == 1, page


def test_links_within_the_site_lead_somewhere(visit: Opener, site: Path) -> None:
    from urllib.parse import unquote, urlparse

    tab = visit(PAGES[0])
    base = tab.url.rpartition("/")[0]
    dead = []
    for page in PAGES:
        tab.goto(f"{base}/{page}")
        links: list[str] = tab.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)")
        for link in links:
            url = urlparse(link)
            if url.scheme == "file" and not Path(unquote(url.path)).is_file():
                dead.append(f"{page} -> {url.path.removeprefix(str(site))}")
            here = url.scheme == "file" and unquote(url.path) == str(site / page)
            if here and url.fragment and not tab.evaluate("id => !!document.getElementById(id)", unquote(url.fragment)):
                dead.append(f"{page} -> #{url.fragment}")
    assert sorted(set(dead)) == []


def test_a_ranking_between_the_named_targets_is_folded_until_a_link_leads_to_it(visit: Opener) -> None:
    tab = visit(TASK)
    section = tab.locator("section.target:has(> .aside)")
    assert section.count() == 1
    assert section.locator("h2").inner_text().startswith("macs=0.7")
    assert section.locator("summary").inner_text().endswith("1 ranked: chex")
    table = section.locator("table.board")
    assert not table.is_visible()
    tab.locator(".jump a", has_text="macs=0.7").click()
    table.wait_for(state="visible")
    section.locator("summary").click()
    table.wait_for(state="hidden")
    tab.reload()  # the address still names it
    table.wait_for(state="visible")


def test_sorting_turns_with_each_press_and_comes_back(visit: Opener) -> None:
    tab = visit(TASK)
    first = names(tab)
    assert first[0] == "dense"
    head = tab.locator(BOARD).locator("th[data-sort=s]")
    head.get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert names(tab)[:3] == ["dense", "uniform_scratch", "l1_filters"]
    assert "sort=-s" in tab.url
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(tab)[1] == "chex (score=l1)"
    tab.reload()
    assert names(tab)[1] == "chex (score=l1)"  # the address holds the state
    unranked = set(first[-2:])
    assert set(names(tab)[-2:]) == unranked  # what is not ranked stays below the ranked
    tab.locator(BOARD).locator("th[data-sort=s] button").click()
    assert names(tab) == first


def test_sorting_renumbers_no_rank(visit: Opener) -> None:
    tab = visit(TASK)
    ranks = "t => Object.fromEntries([...t.querySelectorAll('tr[data-v]')].map(r => [r.dataset.m, r.cells[0].innerText.trim()]))"
    before: dict[str, Any] = tab.locator(BOARD).evaluate(ranks)
    tab.locator(BOARD).locator("th[data-sort=q] button").click()
    assert tab.locator(BOARD).evaluate(ranks) == before
    assert tab.locator(BOARD).locator(".lane >> visible=true").count() == 0  # lanes join neighbours by rank


def test_filters_leave_the_parent_and_say_how_many_are_shown(visit: Opener) -> None:
    tab = visit(TASK)
    tools = tab.locator("section.target >> nth=0 >> .tools")
    tools.locator("input").fill("l1_f")
    assert names(tab) == ["dense", "l1_filters", "l1_filters (floor=0.5)"]
    assert tools.locator(".count").inner_text() == "2 of 7 rows"
    tools.locator("input").fill("")
    tools.get_by_role("button", name="faster in fact").click()
    assert "chex (score=l1)" not in names(tab)
    tools.get_by_role("button", name="papers’ methods").click()
    assert names(tab) == ["dense", "chex", "chex (delta0=0.0)", "chex (sampling=uniform)"]


def test_a_row_lights_its_point(visit: Opener) -> None:
    tab = visit(TASK)
    row = tab.locator(BOARD).locator("tr.paper[data-v] >> nth=1")
    row.hover()
    assert tab.locator("svg .lit").count() == 2  # one a drawing, wide and narrow
    tab.mouse.move(0, 0)
    tab.locator("h1").hover()
    assert tab.locator("svg .lit").count() == 0


def test_everything_stands_without_scripts(visit: Opener) -> None:
    tab = visit(TASK, scripts=False)
    assert tab.locator("section.target").count() == 3
    assert tab.locator("table.board tr.paper >> visible=true").count() >= 4
    assert tab.locator("svg.frontier >> visible=true").count() == 2
    assert tab.locator(".tools >> visible=true").count() == 0
    assert tab.get_by_text("Kept, not ranked").count() == 1


def test_a_phone_sees_cards_with_every_cell_named(visit: Opener) -> None:
    tab = visit(TASK, width=390)
    row = tab.locator(BOARD).locator("tr.paper >> nth=0")
    assert row.evaluate("r => getComputedStyle(r).display") == "grid"
    hidden = row.evaluate("r => [...r.cells].filter(c => c.offsetParent === null).length")
    assert hidden == 0
    heads = row.evaluate("r => [...r.querySelectorAll('td[data-h]')].map(c => getComputedStyle(c, '::before').content)")
    assert all(h not in ("none", '""') for h in heads)
    assert tab.locator("svg.frontier.w380 >> visible=true").count() == 2
    assert tab.locator("svg.frontier.w760 >> visible=true").count() == 0


def test_roles_survive_the_phones_layout(visit: Opener) -> None:
    tab = visit(TASK, width=390)
    table = tab.locator(BOARD)
    rows = table.locator("tbody tr")
    assert table.get_by_role("row").count() >= rows.count()
    assert table.get_by_role("cell").count() == table.locator("td").count()


def test_two_pictures_of_a_place_lie_over_each_other_parted_by_a_slider(visit: Opener) -> None:
    tab = visit(FILMS)
    assert tab.locator(".shots >> visible=true").count() == 0
    stage = tab.locator(".stage >> nth=0")
    assert stage.locator(".left").inner_text().startswith("bicubic")
    assert stage.locator(".right").inner_text().startswith("stdo")
    cut = "s => [getComputedStyle(s.querySelector('.over')).clipPath, s.querySelector('input').value]"
    slider = stage.locator("input")
    slider.focus()
    assert stage.evaluate("s => getComputedStyle(s).outlineStyle") == "solid"
    tab.keyboard.press("ArrowRight")
    assert stage.evaluate(cut) == ["inset(0px 0px 0px 51%)", "51"]
    tab.keyboard.press("Home")
    assert stage.evaluate(cut)[1] == "0"
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + box["width"] / 4, box["y"] + 40)
    assert abs(int(stage.evaluate(cut)[1]) - 25) <= 1


def test_either_side_shows_what_is_chosen_in_every_scene(visit: Opener) -> None:
    tab = visit(FILMS)
    tab.locator("select[name=left]").select_option("original")
    tab.locator("select[name=right]").select_option("dy_dca")
    for stage in tab.locator(".stage").all():
        assert stage.locator(".left").inner_text() == "original"
        assert stage.locator(".right").inner_text().startswith("dy_dca")
        sizes = stage.evaluate("s => [...s.querySelectorAll('img')].map(i => [i.src, i.clientWidth, i.clientHeight])")
        (left, *one), (right, *other) = sizes
        assert one == other
        assert left.endswith(".original.webp")
        assert left != right
        assert "original, left" in (stage.locator("input").get_attribute("aria-label") or "")
        stage.scroll_into_view_if_needed()  # pictures load when they are looked at
    tab.wait_for_function("[...document.querySelectorAll('.stage img')].every(i => i.complete && i.naturalWidth)")


def test_without_scripts_the_pictures_stand_beside_each_other(visit: Opener) -> None:
    tab = visit(FILMS, width=390, scripts=False)
    assert tab.locator(".stage").count() == 0
    assert tab.locator(".gallery select >> visible=true").count() == 0
    assert tab.locator(".shots figure >> visible=true").count() == 16
    assert tab.get_by_text("CC BY 3.0").count() == 2


@pytest.mark.parametrize("width", [390, 1440])
def test_charts_of_cost_and_of_frames_are_drawn_for_the_window(visit: Opener, width: int) -> None:
    tab = visit(FILMS, width=width)
    for kind in ("over", "rows"):
        shown = tab.locator(f"svg.{kind} >> visible=true")
        assert shown.count() == 2
        drawn = shown.first.evaluate("s => [s.clientWidth, +s.getAttribute('width')]")
        assert drawn[0] >= 0.9 * drawn[1]  # words keep their size
    row = tab.locator(BOARD).locator("tr.paper[data-v] >> nth=0")
    row.hover()
    assert tab.locator("svg.rows .lit").count() == 4  # two charts, two widths


def luminance(text: str) -> float:
    parts = [float(x) / 255 for x in text[text.index("(") + 1 : text.index(")")].split(",")[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_both_schemes(visit: Opener, scheme: str) -> None:
    tab = visit(TASK, scheme=scheme)
    ground = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.05) == (scheme == "dark")
    for selector in (".wi h1", ".wi .lede", ".board td.q", ".board td.q small", ".board th", ".digest dt", ".note"):
        ink = luminance(tab.locator(selector).first.evaluate("e => getComputedStyle(e).color"))
        contrast = (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
        assert contrast >= 4.5, f"{selector}: {contrast:.1f}"
    for index in range(5):
        colour = tab.evaluate(
            "i => { const e = document.createElement('i'); e.className = 's' + i; document.body.append(e);"
            " return getComputedStyle(e).color }",
            index,
        )
        contrast = (max(luminance(colour), ground) + 0.05) / (min(luminance(colour), ground) + 0.05)
        assert contrast >= 3, f"series {index}: {contrast:.1f}"


def test_search_works_from_a_folder(visit: Opener) -> None:
    tab = visit("index.html")
    tab.locator("input.md-search__input").click()
    tab.keyboard.type("chex")
    result = tab.locator(".md-search-result__link >> nth=0")
    result.wait_for(timeout=10_000)
    assert "chex" in (result.get_attribute("href") or "").lower() or "chex" in result.inner_text().lower()
