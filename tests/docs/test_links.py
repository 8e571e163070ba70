"""Pages that people write: each is in the navigation, and what they point at is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from suite.registry import HOUSE
from tests.docs.examples import DOCS

PAGES = sorted(DOCS.glob("*.md"))
#: by the board
MADE = ("index.md", "compare.md", "claims.md", "changes.md", "schema.md", "tasks/", "methods/", "systems/", "data/")
README, CONTRIBUTING = HOUSE / "README.md", HOUSE / "CONTRIBUTING.md"


def navigation() -> list[str]:
    # tags such as !!python/name are those of MkDocs' extensions, of which there are none here
    def leaves(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            for child in node.values() if isinstance(node, dict) else node:
                yield from leaves(child)

    return list(leaves(yaml.safe_load((HOUSE / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))


def anchors(page: Path) -> set[str]:
    """Where a link into a page may lead: its headings as MkDocs names them, and ids that it gives itself."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    given = set(re.findall(r'id="([\w-]+)"', text)) | set(re.findall(r"\{ #([\w-]+) \}", text))
    heads = (re.sub(r"[^\w\s-]", "", head).strip().lower() for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return given | {re.sub(r"[\s-]+", "-", head) for head in heads}


def test_every_page_is_in_the_navigation_once() -> None:
    listed = navigation()
    assert len(set(listed)) == len(listed)
    assert {p.name for p in PAGES} <= set(listed)
    assert {name for name in listed if not name.startswith(MADE)} == {p.name for p in PAGES}


@pytest.mark.parametrize("page", [*PAGES, README, CONTRIBUTING], ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")) or link.startswith(MADE):
            continue
        name, _, anchor = link.partition("#")
        there = page.parent / name if name else page
        assert there.is_file(), link
        assert not anchor or anchor in anchors(there), link


def test_the_readme_is_short_and_has_one_small_picture() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    (picture,) = re.findall(r"!\[.+\]\((.+)\)", text)
    assert (HOUSE / picture).stat().st_size < 100_000
