"""Pages, tables and charts for who reads them by keyboard, by screen reader, in either scheme or much enlarged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from suite.registry import HOUSE
from tests.browser.conftest import ROWS, Opener, opening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
TASKS = [f"tasks/{row[0]}-small.html" for row in ROWS]
IMAGES, FILMS, GRAPHS = (f"tasks/{name}-small.html" for name in ("image_pruning", "mobile_vsr", "graph_tickets"))
TEXTS = [f"{f.stem}.html" for f in sorted((HOUSE / "site" / "docs").glob("*.md"))]
COLOURS = ["color-contrast", "link-in-text-block"]  #: axe's rules that look at colours
#: what the page's own switch does, without its slow change of colours
SWITCH = "s => { document.body.dataset.mdColorScheme = s; document.getAnimations().forEach(a => a.finish()) }"
#: names of the charts that can be seen
CHARTS = """
  [...document.querySelectorAll("svg[role=img]")].filter(s => s.checkVisibility()).map(s => s.querySelector("title").textContent)
"""
#: whether what has the focus shows it; a slider's stage does
SHOWN = "getComputedStyle(document.activeElement.closest('.stage') ?? document.activeElement).outlineStyle !== 'none'"
#: words in drawings, which axe does not judge: of each kind its colour over what it stands on, mixed by its opacity
INKS = """
() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number), light = c => c.slice(0, 3).map(x => x / 255)
    .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4).reduce((s, x, i) => s + x * [.2126, .7152, .0722][i], 0);
  const ground = parts(getComputedStyle(document.body).backgroundColor), found = {};
  for (const e of document.querySelectorAll("svg text, svg tspan")) {
    if (!e.checkVisibility()) continue;
    const behind = e.matches(".paper-word") ? parts(getComputedStyle(e.parentNode.querySelector("rect.paper")).fill) : ground;
    let opacity = 1;
    for (let p = e; p instanceof SVGElement; p = p.parentNode) opacity *= getComputedStyle(p).opacity;
    const ink = parts(getComputedStyle(e).fill).slice(0, 3).map((x, i) => opacity * x + (1 - opacity) * behind[i]);
    const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
    found[`${e.closest("svg").classList[0]} ${e.getAttribute("class")}`] = (a + .05) / (b + .05);
  }
  return found;
}
"""


@pytest.fixture
def visit(browser: Browser, whole: Path) -> Iterator[Opener]:
    yield from opening(browser, whole)


def kinds(whole: Path) -> list[str]:
    """Pages of every kind; of methods and machines those that have most to show."""
    largest = [max((whole / kind).glob("[!i]*.html"), key=lambda f: f.stat().st_size) for kind in ("methods", "systems")]
    indexes = ["index.html", "tasks/index.html", "methods/index.html", "systems/index.html", "claims.html", "schema.html"]
    return [*indexes, *TASKS, *TEXTS, *(f.relative_to(whole).as_posix() for f in largest)]


def faults(tab: Page, page: str, rules: list[str] | None) -> list[str]:
    """What axe calls serious or critical; it asks for no style sheet again, which it may not from a folder."""
    options = {"preload": False, "resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found: list[dict[str, Any]] = tab.evaluate("o => axe.run(document, o).then(r => r.violations)", options)
    return [
        f"{page}: {v['id']} {n['target']} {n['failureSummary']}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]


@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_no_serious_fault_on_any_kind_of_page(visit: Opener, whole: Path, width: int) -> None:
    tab, script, found = visit("index.html", width=width), AXE.read_text(encoding="utf-8"), []
    for page in kinds(whole):
        tab.goto((whole / page).as_uri())
        tab.evaluate(script)
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        for scheme, rules in (("default", None), ("slate", COLOURS)):
            tab.evaluate(SWITCH, scheme)
            found += faults(tab, f"{page}, {scheme}", rules)
    assert found == []


def test_axe_sees_a_fault_where_there_is_one(visit: Opener) -> None:
    tab = visit("run.html", scheme="dark")
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    tab.evaluate("document.querySelector('h1').style.color = '#333'")
    tab.evaluate("document.querySelector('.md-search').removeAttribute('aria-label')")
    assert ["color-contrast" in faults(tab, "run", COLOURS)[0], "aria-dialog-name" in faults(tab, "run", None)[0]] == [True, True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_in_drawings_stand_out_from_what_is_behind_them(visit: Opener, whole: Path, scheme: str) -> None:
    tab, found = visit("index.html", scheme=scheme), {}
    for page in TASKS:
        tab.goto((whole / page).as_uri())
        found |= tab.evaluate(INKS)
    assert {"frontier paper-word", "pays tiny", "bells tick", "over label", "rows tick", "parts tick"} <= set(found)
    assert {kind: ratio for kind, ratio in found.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("width", [390, 1440])
def test_a_screen_reader_is_told_what_each_chart_is_and_what_it_shows(visit: Opener, whole: Path, width: int) -> None:
    tab, drawn = visit("index.html", width=width), set()
    for page in TASKS:
        tab.goto((whole / page).as_uri())
        nodes = tab.context.new_cdp_session(tab).send("Accessibility.getFullAXTree")["nodes"]
        told = {n["name"]["value"]: n.get("description", {}).get("value", "") for n in nodes if _is(n, "image")}
        names: list[str] = tab.evaluate(CHARTS)
        assert names, page
        for name in names:
            assert any(c.isdigit() for c in told[name]), f"{page}: {name}: {told[name]}"
        drawn |= set(tab.evaluate("[...document.querySelectorAll('svg[role=img]')].map(s => s.classList[0])"))
    assert drawn == {"frontier", "along", "over", "rows", "bells", "pays", "cloud", "parts"}


def _is(node: dict[str, Any], role: str) -> bool:
    return not node["ignored"] and node["role"]["value"] == role


def test_what_a_mark_tells_to_a_pointer_it_tells_to_keys_and_taps(visit: Opener, whole: Path) -> None:
    tab, seen = visit("index.html", width=390), 0
    for page in TASKS:
        tab.goto((whole / page).as_uri())
        for chart in tab.locator("svg[role=img]:has(* title) >> visible=true").all():
            words: list[str] = chart.evaluate("s => [...s.querySelectorAll(':scope * > title')].map(t => t.textContent)")
            said = chart.locator("xpath=following-sibling::p[1]")
            assert chart.evaluate("s => s.tabIndex") == 0
            chart.focus()
            assert f"{len(words)} marks" in said.inner_text()
            tab.keyboard.press("ArrowRight")
            assert said.inner_text().endswith(words[0])
            assert chart.locator(".lit").count() == 1
            tab.keyboard.press("ArrowLeft")
            assert said.inner_text().endswith(words[-1])
            chart.evaluate("s => s.blur()")
            assert chart.locator(".lit").count() == 0
            assert tab.locator(".said").count() == 0
            seen += 1
    assert seen > 8
    tab.goto((whole / IMAGES).as_uri())
    dot = tab.locator("svg.pays >> visible=true >> nth=0 >> circle.dot >> nth=0")
    dot.click(force=True)
    row = dot.locator("xpath=../*[contains(@class, 'label')]")
    assert tab.locator(".said").inner_text() == f"{row.text_content()}: {dot.text_content()}"


@pytest.mark.parametrize("page", [IMAGES, FILMS, GRAPHS])
def test_tab_reaches_all_that_can_be_pressed_moved_or_read_in_the_order_of_the_page(visit: Opener, page: str) -> None:
    tab = visit(page)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wanted: int = tab.evaluate("""() => {
      const all = ".wi :is(a[href], button, input, select, summary, [title]:not(.seeds), svg[role=img]:has(* title))";
      window.wanted = [...document.querySelectorAll(all)].filter(e => e.checkVisibility());
      document.querySelector(".wi h1").tabIndex = -1; document.querySelector(".wi h1").focus();
      return wanted.length }""")
    order = []
    for _ in range(wanted + 20):
        tab.keyboard.press("Tab")
        order.append(tab.evaluate("wanted.indexOf(document.activeElement)"))
        if order[-1] == wanted - 1:
            break
        if order[-1] >= 0:
            assert (
                tab.evaluate("getComputedStyle(document.activeElement.closest('.stage') ?? document.activeElement).outlineStyle")
                != "none"
            )
    assert [i for i in order if i >= 0] == list(range(wanted))
    assert wanted > 25


def test_a_remark_unfolds_when_keys_reach_it(visit: Opener) -> None:
    tab = visit(IMAGES)
    remark = tab.locator(".board .tag[title] >> nth=0")
    about = remark.get_attribute("title") or ""
    assert remark.get_attribute("aria-label") == f"{remark.inner_text()}: {about}"
    assert remark.evaluate("e => getComputedStyle(e, '::after').content") == "none"
    tab.keyboard.press("Tab")
    remark.focus()
    assert about in remark.evaluate("e => getComputedStyle(e, '::after').content")


@pytest.mark.parametrize("width", [390, 1440])
def test_rows_are_sorted_by_keys_and_the_heads_say_how(visit: Opener, width: int) -> None:
    tab = visit(IMAGES, width=width)
    head = tab.locator("table.board:not(.small) th[data-sort=q] >> nth=0")
    button = head.get_by_role("button")
    tab.locator(".tools button >> visible=true").nth(1).focus()
    tab.keyboard.press("Tab")
    assert tab.locator(".budget summary >> nth=0").evaluate("b => b === document.activeElement")
    tab.keyboard.press("Tab")
    assert button.evaluate("b => b === document.activeElement")
    box = button.bounding_box()
    assert box is not None
    assert box["width"] > 20  # on a phone heads are hidden until keys reach them
    assert button.evaluate("b => getComputedStyle(b.closest('thead')).clipPath") == "none"
    for way in ("descending", "ascending", None):
        tab.keyboard.press("Space")
        assert head.get_attribute("aria-sort") == way
    assert button.inner_text().startswith("top1")


def test_a_table_that_is_wider_than_the_window_is_scrolled_by_keys(visit: Opener) -> None:
    tab = visit("claims.html", width=390)
    table = tab.locator(".scroll >> nth=0")
    tab.wait_for_function("document.querySelector('.scroll').tabIndex === 0")
    assert table.get_attribute("role") == "group"
    assert (table.get_attribute("aria-label") or "").endswith(", table")
    table.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("document.querySelector('.scroll').scrollLeft > 0")
    tab.set_viewport_size({"width": 1440, "height": 900})
    tab.wait_for_function("!document.querySelector('.scroll').hasAttribute('tabindex')")


def test_the_pictures_slider_says_what_it_parts(visit: Opener) -> None:
    tab = visit(FILMS)
    slider = tab.get_by_role("slider").first
    assert (slider.get_attribute("aria-label") or "").startswith("divide between")
    for side in ("left", "right"):
        assert tab.get_by_role("combobox", name=side).count() == 1
