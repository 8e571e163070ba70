"""Where pages of the site lie, from its root: whoever links to a page asks here."""

from __future__ import annotations

from suite.board.tables import Ranking


def ranking_page(r: Ranking) -> str:
    """The page and section of a ranking."""
    return f"tasks/{r.task}-{r.tier}.html#{r.anchor}"


def method_page(name: str) -> str:
    """The page of a method."""
    return f"methods/{name.replace('@', '-')}.html"
