"""Where pages of the site lie, from its root: whoever links to a page asks here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from suite.board.tables import Ranking, named
from suite.naming import digest

BETWEEN = "-between"  #: what the address of a page of targets in between ends with
MOST = 12  #: rankings of a page, where some may stand on another


def pages(rankings: Iterable[Ranking]) -> dict[Ranking, str]:
    """The page of each ranking, without its ending: one a case, and that of their tier where it has no other.

    Of a case with many rankings those between the targets that the tier names have a page of their own.
    """
    cases: dict[tuple[str, str], dict[str, list[Ranking]]] = {}
    for r in rankings:
        cases.setdefault((r.task, r.tier), {}).setdefault(r.case, []).append(r)
    out: dict[Ranking, str] = {}
    for (task, tier), found in cases.items():
        often = Counter(map(_slug, found)) + Counter(f"{_slug(case)}{BETWEEN}" for case, mine in found.items() if _parted(mine))
        for case, mine in found.items():
            parted = _parted(mine)
            page = tier_page(task, tier) + (f"-{_slug(case)}" if len(found) > 1 or parted else "")
            if often[_slug(case)] > 1:  # a/b and a-b
                page += _mark(case)
            out |= {r: f"{page}{BETWEEN}" if parted and r.target and not named(r) else page for r in mine}
    return out


def _parted(rankings: Sequence[Ranking]) -> bool:
    """Whether some of a case's rankings stand on a page of their own."""
    return len(rankings) > MOST and any(named(r) for r in rankings)


def _mark(case: str) -> str:
    return f"-{digest(case)[:6]}"


def twin(page: str, case: str) -> str:
    """What a case's page and files have in their names where another case is written alike; empty where none is."""
    return _mark(case) if page.removesuffix(BETWEEN).endswith(_mark(case)) else ""


def tier_page(task: str, tier: str) -> str:
    """The page of a task's tier: of its only case, or the overview of all of them."""
    return f"tasks/{task}-{tier}"


def _slug(case: str) -> str:
    return case.replace("/", "-")


def method_page(name: str) -> str:
    """The page of a method."""
    return f"methods/{name.replace('@', '-')}.html"
