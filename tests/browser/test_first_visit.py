"""What a first visit loads: little, of the heaviest page too; the rest comes when it is looked at or asked for."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from suite.board import deferred, pages, store
from suite.registry import HOUSE
from tests.browser.conftest import Opener, board_where, opening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
TASK = "tasks/image_pruning-small.html"
MOST = 150_000  #: bytes that a first visit may load, compressed
INDEX = "search_index.json"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A server in a test says nothing."""


@pytest.fixture
def served(browser: Browser) -> Iterator[Server]:
    with Server(browser) as server:
        yield server


class Server:
    """Opens pages of a site over HTTP and keeps what they load."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._ends: list[ThreadingHTTPServer] = []

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._ends:
            server.shutdown()
            server.server_close()

    def open(self, root: Path, page: str, width: int = 1440) -> tuple[Page, list[str]]:
        """The page, opened for the first time, and the files of the site that it loads from then on."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._ends.append(server)
        start = f"http://127.0.0.1:{server.server_port}/"
        tab = self._browser.new_context(viewport={"width": width, "height": 900}).new_page()
        loaded: list[str] = []
        tab.on("request", lambda r: loaded.append(r.url.removeprefix(start).partition("?")[0]))
        tab.goto(start + page)
        tab.wait_for_load_state("networkidle")
        return tab, loaded


def weight(root: Path, files: list[str]) -> int:
    """Bytes of files, compressed as a server sends them; what is compressed itself goes as it is."""
    return sum(
        len(data) if name.endswith((".woff2", ".png", ".webp")) else len(gzip.compress(data, 6))
        for name in dict.fromkeys(files)
        for data in [(root / name).read_bytes()]
    )


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board of every committed bundle."""
    folder = tmp_path_factory.mktemp("committed")
    store.publish(HOUSE / "results", folder / "weighin.duckdb")
    return pages.build(folder / "weighin.duckdb", folder / "site")


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_of_the_board_loads_more_than_a_phone_should_wait_for(committed: Path, served: Server, width: int) -> None:
    every = sorted(committed.rglob("*.html"), key=lambda f: -len(gzip.compress(f.read_bytes())))
    heaviest = [f.relative_to(committed).as_posix() for f in every[:4]]
    for page in (*heaviest, "index.html", "claims.html"):
        _, loaded = served.open(committed, page, width)
        assert weight(committed, loaded) <= MOST, (page, loaded)


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small board whose pages all count as heavy."""
    return board_where(tmp_path_factory.mktemp("light"), deferred, "HEAVY", 0)


@pytest.fixture
def visit(browser: Browser, light: Path) -> Iterator[Opener]:
    yield from opening(browser, light)


LAST = "section.target >> nth=-1"
WAITING = "document.querySelectorAll('svg[data-drawn]').length"


def test_charts_of_further_rankings_come_when_they_are_scrolled_to_also_from_a_folder(visit: Opener) -> None:
    tab = visit(TASK)
    chart = tab.locator(LAST).locator("svg.frontier.w760")
    assert tab.locator("section.target >> nth=0").locator("svg.frontier.w760[data-drawn]").count() == 0
    assert chart.locator("[data-m]").count() == 0
    assert chart.locator("title").count() == 1  # its name was there before
    chart.scroll_into_view_if_needed()
    tab.wait_for_function("[...document.querySelectorAll('svg.frontier.w760')].at(-1).querySelectorAll('[data-m]').length > 3")


def test_charts_that_come_later_fade_by_the_budget_that_was_asked_before(visit: Opener) -> None:
    tab = visit(f"{TASK}?b.speed=1.5")
    chart = tab.locator(LAST).locator("svg.frontier.w760")
    chart.scroll_into_view_if_needed()
    tab.wait_for_function("[...document.querySelectorAll('svg.frontier.w760')].at(-1).querySelectorAll('.beyond').length > 0")


def test_who_prints_has_every_chart(visit: Opener) -> None:
    tab = visit(TASK)
    assert tab.evaluate(WAITING) > 0
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.wait_for_function(f"{WAITING} === 0")
    chart = (
        tab.locator(LAST).locator("svg[role=img][tabindex='0']").first
    )  # its marks are read by keys, as if it had always been there
    chart.focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".said").inner_text()


def test_without_scripts_the_missing_charts_are_told(visit: Opener) -> None:
    tab = visit(TASK, scripts=False)
    assert tab.locator("noscript").first.inner_text() == deferred.TOLD


def test_the_search_loads_when_somebody_turns_to_it(light: Path, served: Server) -> None:
    tab, loaded = served.open(light, "index.html")
    assert not [f for f in loaded if f.endswith(INDEX) or "workers" in f]
    tab.locator("[data-md-component=search-query]").click()
    tab.keyboard.type("magnitude")
    tab.wait_for_selector(".md-search-result__item")
    assert [f for f in loaded if f.endswith(INDEX)]


def test_the_key_of_the_search_opens_it_and_an_address_with_a_question_asks_at_once(light: Path, served: Server) -> None:
    tab, _ = served.open(light, "index.html")
    tab.keyboard.press("/")
    tab.keyboard.type("chex")
    tab.wait_for_selector(".md-search-result__item")
    tab, _ = served.open(light, "index.html?q=chex")
    tab.wait_for_selector(".md-search-result__item")
