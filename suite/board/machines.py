"""Which system cards are one class of machine: those that differ by nothing that makes a program faster or slower.

Cards are of one class where all facts are equal but for

- the kernel's patch level and build (``6.18.44-generic`` is 6.18),
- the GPU driver's patch level (``580.159.04`` is 580) and Python's (``3.11.7`` is 3.11),
- what a kernel keeps of the memory: it counts as so many whole GiB as were built in.

What steers a library, how many cores there are and which versions compute is never left out.  A class bears the name of that card
of it on which most was weighed.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

#: facts of which so many leading numbers count
LEADING = {("system", "kernel"): 2, ("gpu", "driver"): 1, ("software", "python"): 2}


def traits(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What of a card's facts makes its class."""
    kept: dict[str, Any] = {group: dict(of) if isinstance(of, Mapping) else of for group, of in facts.items()}
    for (group, name), count in LEADING.items():
        if isinstance(kept.get(group), dict) and isinstance(text := kept[group].get(name), str):
            leading = re.match(rf"\d+(?:\.\d+){{0,{count - 1}}}", text)
            kept[group][name] = leading.group() if leading else text
    memory = kept.get("memory")
    if isinstance(memory, dict) and isinstance(total := memory.get("total_gib"), int | float) and math.isfinite(total):
        memory["total_gib"] = math.ceil(total)
    return kept


def classes(cards: Mapping[str, Mapping[str, Any]], weighed: Mapping[str, int]) -> dict[str, str]:
    """The name of each card's class.

    Args:
        cards: facts by card.
        weighed: runs weighed on each card.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name, facts in cards.items():
        groups[json.dumps(traits(facts), sort_keys=True)].append(name)
    named: dict[str, str] = {}
    for group in groups.values():
        first = min(group, key=lambda name: (-weighed.get(name, 0), name))
        named |= dict.fromkeys(group, first)
    return named
