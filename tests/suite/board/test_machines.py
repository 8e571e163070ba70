"""Classes of machines: which cards are shown together."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from suite.board import machines

FACTS: dict[str, Any] = {
    "processor": {"model": "A", "cores": 8, "instructions": ["avx2"]},
    "memory": {"total_gib": 31.3, "huge_pages": "madvise"},
    "system": {"os": "Linux", "kernel": "6.8.0-45-generic", "libc": "glibc 2.39"},
    "software": {"torch": "2.9.0+cu128", "python": "3.11.7", "steered_by": {}},
    "gpu": {"name": "G", "driver": "570.86.15", "memory_gib": 79.3},
}


def changed(group: str, name: str, value: Any) -> dict[str, Any]:
    facts = copy.deepcopy(FACTS)
    facts[group][name] = value
    return facts


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("system", "kernel", "6.8.12-200.fc40"),
        ("gpu", "driver", "570.133.20"),
        ("software", "python", "3.11.14"),
        ("memory", "total_gib", 31.9),
    ],
)
def test_what_a_patch_moves_leaves_a_card_in_its_class(group: str, name: str, value: Any) -> None:
    assert machines.classes({"a": FACTS, "b": changed(group, name, value)}, {"b": 3}) == {"a": "b", "b": "b"}


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("system", "kernel", "6.9.0"),
        ("gpu", "driver", "580.65.06"),
        ("gpu", "name", "H"),
        ("software", "python", "3.12.7"),
        ("software", "torch", "2.9.1+cu128"),
        ("software", "steered_by", {"OMP_NUM_THREADS": "1"}),
        ("memory", "total_gib", 62.7),
        ("processor", "cores", 4),
        ("system", "kernel", "unreadable"),
    ],
)
def test_what_may_make_a_machine_faster_makes_another_class(group: str, name: str, value: Any) -> None:
    assert machines.classes({"a": FACTS, "b": changed(group, name, value)}, {}) == {"a": "a", "b": "b"}


def test_a_class_bears_the_name_of_the_card_that_weighed_most_and_else_the_first() -> None:
    cards = {name: changed("system", "kernel", f"6.8.{i}") for i, name in enumerate("cab")}
    assert set(machines.classes(cards, {"b": 1}).values()) == {"b"}
    assert set(machines.classes(cards, {}).values()) == {"a"}


def test_facts_of_any_shape_have_a_class() -> None:
    odd: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"system": "none", "memory": {"total_gib": "much"}},
        "c": {"gpu": {"driver": 570}},
    }
    assert machines.classes(odd, {}) == {"a": "a", "b": "b", "c": "c"}
