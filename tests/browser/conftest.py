"""A real browser on a really built site, from file://; skipped with a word where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from suite.board import pages, store
from tests import demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=found, args=SWITCHES)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    demo.board(folder / "results")
    for seed in range(3):  # a target that the tier does not name
        demo.write(folder / "results", "chex", target="macs=0.7", seed=seed, accuracy=0.918, speedup=1.1)
    demo.video(folder / "results")
    store.publish(folder / "results", folder / "weighin.duckdb")
    return pages.build(folder / "weighin.duckdb", folder / "site")


Opener = Callable[..., "Page"]


@pytest.fixture
def visit(browser: Browser, site: Path) -> Iterator[Opener]:
    """Open a page of the site; afterwards no error stood in the console and no request left the folder."""
    contexts, wrong = [], []

    def opened(page: str, *, width: int = 1440, scheme: str = "light", scripts: bool = True) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=scripts,
        )
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda m: wrong.append(f"{page}: {m.text}") if m.type == "error" else None)
        tab.on("pageerror", lambda e: wrong.append(f"{page}: {e}"))
        # a page that is left before its icon has arrived takes that request back: no fault of the site
        tab.on("requestfailed", lambda r: wrong.append(f"{page}: no {r.url}") if "ABORTED" not in (r.failure or "") else None)
        tab.on(
            "request",
            lambda r: wrong.append(f"{page}: asks {r.url}") if not r.url.startswith(("file:", "data:", "blob:")) else None,
        )
        tab.goto((site / page.partition("?")[0]).as_uri() + "".join(page.partition("?")[1:]))
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
