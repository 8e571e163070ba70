"""What the pages under site/docs show as code, as a reader would take it over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suite.registry import HOUSE

DOCS = HOUSE / "site" / "docs"
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: with a title it is a file to be written there, of language ``sh`` commands to be run, else shown only."""

    language: str
    title: str
    text: str

    @property
    def followed(self) -> bool:
        return bool(self.title) or self.language == "sh"


def blocks(page: Path) -> tuple[Block, ...]:
    return tuple(Block(*found.groups(default="")) for found in _FENCE.finditer(page.read_text(encoding="utf-8")))


def worked() -> Iterator[str]:
    """Names of the pages that a reader can follow step by step: those with something to run."""
    for page in sorted(DOCS.glob("*.md")):
        if any(b.followed for b in blocks(page)):
            yield page.name


def file(page: str, title: str) -> str:
    """The text of a file that a page shows."""
    (found,) = (b.text for b in blocks(DOCS / page) if b.title == title)
    return found
