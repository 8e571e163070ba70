"""A real browser on a really built site, from file://; skipped with a word where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from suite.board import building, pages, store
from suite.registry import HOUSE
from tests import demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Opener = Callable[..., "Page"]

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


def opening(browser: Browser, root: Path) -> Iterator[Opener]:
    """Opens pages of a site; afterwards no error stood in the console and no request left the folder."""
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
        tab.goto((root / page.partition("?")[0]).as_uri() + "".join(page.partition("?")[1:]))
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def board_where(folder: Path, module: object, name: str, value: object) -> Path:
    """The site of the demo's rows, built where a constant of a module is another one."""
    demo.board(folder / "results")
    store.publish(folder / "results", folder / "weighin.duckdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, value)
        return pages.build(folder / "weighin.duckdb", folder / "site")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    demo.board(folder / "results")
    for seed in range(3):  # a target that the tier does not name
        demo.write(folder / "results", "chex", target="macs=0.7", seed=seed, accuracy=0.918, speedup=1.1)
    demo.video(folder / "results")
    demo.video(folder / "results", ("awdnn", "bicubic"), case="bigbuckbunny/x4", seeds=1)
    store.publish(folder / "results", folder / "weighin.duckdb")
    return pages.build(folder / "weighin.duckdb", folder / "site")


#: committed rows that together have every kind of table and drawing: task, case, targets, methods, and whether ablations too
ROWS = (
    (
        "image_pruning",
        "fashion/resnet20",
        ("", "macs=0.5", "macs=0.25", "nonzero=0.3"),
        ("dense", "chex", "l1_filters", "structure_lth"),
        False,
    ),
    ("graph_tickets", "cora/gcn", ("", "edges=0.5,weights=0.5", "edges=0.64,weights=0.64"), ("dense", "ugs"), False),
    ("vit_training", "digits/vit-48-6-3-p4", ("", "tokens=0.75"), ("dense", "data_level_lth"), True),
    ("fair_pruning", "adult/mlp-128-64", ("", "nonzero=0.02"), ("dense", "magnitude", "p_and_f"), True),
    ("flame_detection", "synthetic/lfe", ("",), ("bce", "flamefinder", "luma"), False),
    ("mobile_vsr", "bigbuckbunny/x2", ("",), ("awdnn", "bicubic", "stdo", "dy_dca"), False),
)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a builder reads, of rows that were really weighed."""
    folder = tmp_path_factory.mktemp("sources")
    for task, case, targets, methods, ablations in ROWS:
        for file in (f for m in methods for f in (HOUSE / "results" / task / "small" / m).glob("*/run.json")):
            run = json.loads(file.read_text(encoding="utf-8"))
            spec, plain = run["spec"], not run["method"]["variant"]
            if spec["case"] == case and spec["target"] in targets and spec["seed"] < 3 and (plain or ablations):
                shutil.copytree(file.parent, folder / file.parent.relative_to(HOUSE))
    shutil.copytree(HOUSE / "results" / "systems", folder / "results" / "systems")
    store.publish(folder / "results", folder / "weighin.duckdb")
    pages.write_sources(folder / "weighin.duckdb", folder / "sources")
    return folder / "sources"


@pytest.fixture(scope="session")
def whole(sources: Path) -> Path:
    """The site with every kind of page, table and drawing."""
    out = sources.parent / "mkdocs"
    building.build("mkdocs", sources, out)
    return out


@pytest.fixture
def visit(browser: Browser, site: Path) -> Iterator[Opener]:
    """Opens a page of the site; afterwards nothing went wrong on it."""
    yield from opening(browser, site)
