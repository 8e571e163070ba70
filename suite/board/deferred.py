"""Charts of a heavy page that come when they are about to be seen, from scripts beside it: what opens a page stays light.

A page in a folder may load scripts and nothing else, so a file of charts is a script that hands its page their contents.  What
stands in the page of such a chart is its outline, with its size, name and description; its numbers stand in the tables anyway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

HEAVY = 300_000  #: characters of a page, about 45 KB compressed, from which on its charts are deferred
NARROW = "w380"  #: class of the drawing of a chart that phones alone show
TOLD = "The charts that are missing here need scripts; all their numbers stand in the tables."

_CHART = re.compile(
    r'(?P<outline><svg class="(?P<classes>[^"]*)" role="img"[^>]*)>(?P<words>(?:<title[^>]*>[^<]*</title>)?(?:<desc[^>]*>[^<]*</desc>)?)'
    r"(?P<inner>(?:(?!<svg\b).)*?)</svg>",
    re.DOTALL,
)
_RANKING = '<section class="target"'
_JUMP = '<nav class="jump"'


def deferred(page: str, stems: Sequence[str]) -> tuple[str, Mapping[str, str]]:
    """A heavy page without the charts that a first look does not need.

    The first ranking keeps its charts but for those that phones show; all others wait.

    Args:
        page: HTML in which each ranking is a section, in the order of `stems`.
        stems: how the files of each ranking begin.

    Returns:
        The page, and the scripts by name, to lie in the folder ``data`` of the site.
    """
    if len(page) < HEAVY:
        return page, {}
    head, *rankings = page.split(_RANKING)
    scripts: dict[str, str] = {}
    parts = []
    for at, text in enumerate([head, *rankings]):
        name = f"{stems[max(0, at - 1)]}-charts{'-before' * (not at)}.js"
        kept, inner = _parted(text, name, every=at > 1)
        parts.append(kept)
        if inner:
            scripts[name] = f"weighin.drawn({json.dumps(name)}, {json.dumps(inner, ensure_ascii=False)})\n"
    told = f'<noscript><p class="note">{TOLD}</p></noscript>\n{_JUMP}' if scripts else _JUMP
    return _RANKING.join(parts).replace(_JUMP, told, 1), scripts


def _parted(text: str, name: str, every: bool) -> tuple[str, list[str]]:
    """A text with outlines in place of charts, and what belongs into them."""
    inner: list[str] = []

    def outline(found: re.Match[str]) -> str:
        if not every and NARROW not in found["classes"].split():
            return found[0]
        inner.append(found["inner"])
        return f'{found["outline"]} data-drawn="../data/{name}#{len(inner) - 1}">{found["words"]}</svg>'

    return _CHART.sub(outline, text), inner
