"""The same sources, built by mkdocs-material and by Zensical: pages, navigation, content and search are alike."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import pytest

from suite.board import building

if TYPE_CHECKING:
    from playwright.sync_api import Browser

THEMES = re.compile(r"assets/(javascripts|stylesheets)/|search(/search_index)?\.js(on)?$|sitemap\.xml(\.gz)?$|404\.html$")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Read(HTMLParser):
    """What a page says, without what its theme puts around it."""

    content: Counter[tuple[str, tuple[tuple[str, str | None], ...]]] = field(default_factory=Counter)  #: elements
    words: list[str] = field(default_factory=list)
    navigation: list[tuple[str, str]] = field(default_factory=list)  #: words and address of each entry
    addresses: list[str] = field(default_factory=list)
    idents: set[str] = field(default_factory=set)
    around: list[str] = field(default_factory=list)  #: open elements: the content's, or the main navigation's

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = dict(attrs)
        self.addresses += [a for name in ("href", "src") if (a := have.get(name))]
        self.idents |= {i for i in (have.get("id"),) if i}
        classes = (have.get("class") or "").split()
        if not self.around and ("md-content__inner" in classes or "md-nav--primary" in classes):
            self.around = [classes[0], tag]
            return
        if not self.around:
            return
        if tag not in VOID:
            self.around.append(tag)
        if self.around[0] == "md-content__inner" and have.get("id") != "__skip":  # Zensical's, where its skip link leads
            # what keeps words out of the search: Zensical takes the mark away
            kept = (a for a in attrs if a[0] != "data-search-exclude")
            self.content[tag, tuple(sorted(kept, key=lambda a: a[0]))] += 1
        elif self.around[0] == "md-nav" and tag == "a" and "md-nav__link" in classes:
            self.navigation.append((str(have.get("href")).removeprefix("./"), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.around and tag not in VOID:
            assert self.around.pop() == tag
            self.around = self.around if len(self.around) > 1 else []

    def handle_data(self, data: str) -> None:
        if self.around[:1] == ["md-content__inner"]:
            self.words += data.split()
        elif self.around[:1] == ["md-nav"] and "a" in self.around and data.strip():
            href, words = self.navigation[-1]
            self.navigation[-1] = (href, f"{words} {data.strip()}".strip())


def read(page: Path) -> Read:
    found = Read()
    found.feed(page.read_text(encoding="utf-8"))
    found.close()
    return found


@pytest.fixture(scope="module")
def other(sources: Path, whole: Path) -> Path:
    pytest.importorskip("zensical", reason="zensical is not installed: pip install 'weighin[zensical]'")
    out = sources.parent / "zensical"
    building.build("zensical", sources, out)
    return out


def files(site: Path) -> set[str]:
    return {name for f in site.rglob("*") if f.is_file() and not THEMES.search(name := f.relative_to(site).as_posix())}


def test_both_make_the_same_files(whole: Path, other: Path, sources: Path) -> None:
    assert files(whole) == files(other)
    assert {f.suffix for f in map(Path, files(other))} >= {".html", ".css", ".js", ".duckdb", ".csv", ".webp", ".woff2"}
    same = [name for name in files(whole) if not name.endswith(".html")]
    assert all((whole / name).read_bytes() == (other / name).read_bytes() for name in same)
    assert sorted(p.name for p in sources.iterdir()) == ["mkdocs.yml", "site"]  # neither leaves anything there


def test_content_and_navigation_of_every_page_are_the_same(whole: Path, other: Path) -> None:
    seen: Counter[str] = Counter()
    pages = sorted(name for name in files(whole) if name.endswith(".html"))
    for name in pages:
        a, b = read(whole / name), read(other / name)
        assert a.words == b.words, name
        assert a.content == b.content, (name, a.content - b.content, b.content - a.content)
        assert a.navigation == b.navigation, name
        assert "Claims" in {words for _, words in a.navigation}, name
        seen.update({tag: sum(n for (t, _), n in b.content.items() if t == tag) for tag in ("svg", "table", "tr")})
    assert len(pages) > 80
    assert seen["svg"] > 300
    assert seen["table"] > 100
    assert seen["tr"] > 600


def test_no_link_of_either_is_dead(whole: Path, other: Path) -> None:
    dead = []
    for site in (whole, other):
        found = {f: read(f) for f in site.rglob("*.html") if f.name != "404.html"}  # its addresses are a server's
        for page, told in found.items():
            for url in map(urlparse, told.addresses):
                target = (page.parent / unquote(url.path)).resolve() if url.path else page
                if url.scheme:
                    continue
                anchor = unquote(url.fragment)
                if not target.is_file() or (anchor and target in found and anchor not in found[target].idents):
                    dead.append(f"{page.relative_to(site.parent)} -> {url.geturl()}")
    assert sorted(set(dead)) == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["structure_lth", "exponentiated_gradient"])
def test_search_finds_a_methods_page_in_both(browser: Browser, whole: Path, other: Path, name: str) -> None:
    from playwright.sync_api import expect

    for site, opener in ((whole, "input.md-search__input"), (other, "button.md-search__button")):
        tab = browser.new_page()
        tab.goto((site / "index.html").as_uri())
        tab.locator(opener).click()
        tab.get_by_role("combobox" if site == other else "textbox", name="Search").wait_for()
        tab.keyboard.type(name)
        first = tab.locator("ol a[href*='methods/']").first  # Zensical's lie in a shadow tree
        found = re.compile(rf"methods/{name}\.html([?#]|$)")
        expect(first).to_have_attribute("href", found, timeout=10_000)  # once the last letter was looked for
        tab.close()
