"""Where pages of the site lie, from its root: whoever links to a page asks here."""

from __future__ import annotations

from collections.abc import Iterable

from suite.board.tables import Ranking


def pages(rankings: Iterable[Ranking]) -> dict[Ranking, str]:
    """The page of each ranking, without its ending: one a case, and that of their tier where it has no other."""
    every = list(rankings)
    cases = {(r.task, r.tier): {o.case for o in every if (o.task, o.tier) == (r.task, r.tier)} for r in every}
    several = {place for place, found in cases.items() if len(found) > 1}
    return {r: f"{tier_page(r.task, r.tier)}{f'-{_slug(r.case)}' if (r.task, r.tier) in several else ''}" for r in every}


def tier_page(task: str, tier: str) -> str:
    """The page of a task's tier: of its only case, or the overview of all of them."""
    return f"tasks/{task}-{tier}"


def _slug(case: str) -> str:
    return case.replace("/", "-")


def method_page(name: str) -> str:
    """The page of a method."""
    return f"methods/{name.replace('@', '-')}.html"
