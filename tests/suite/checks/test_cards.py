"""System cards and retractions that somebody else wrote or changed."""

from __future__ import annotations

import json
import shutil

import pytest

from suite import bundle, system
from tests.suite.checks.forger import (
    House,
    card,
    errors,
    honest,
    link_away,
    refused,
    results,
)


def test_cards_lie_beside_or_in_what_is_checked_against(house: House) -> None:
    with results() as root, results() as other:
        path = honest(root)
        shutil.rmtree(root / "systems")
        assert {f.field for f in errors(house, path)} == {"systems.solve", "systems.weigh"}
        assert errors(house, path, against=other) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 90_000,
        b'{"a":' * 15_000,
        b"NaN",
        b'{"processor": NaN}',
        b"\xff",
        b'{"processor": {"m": "\\ud800"}}',
        b" " * 100_001,
        b'{"processor":{"m":"\\ud800"},"memory":{},"system":{},"software":{},"gpu":{}}',
        b'{"processor":{"\\ud800":1},"memory":{},"system":{},"software":{},"gpu":{}}',
        b'{"processor":{},"memory":{},"system":{},"software":{},"gpu":{}}',
    ],
)
def test_cards_that_are_none_are_refused(house: House, data: bytes) -> None:
    with results() as root:
        path = honest(root)
        (root / "systems" / f"{card().hash}.json").write_bytes(data)
        refused(house, path, "systems")
        refused(house, root, "systems")


def test_a_card_may_not_be_a_link_and_its_facts_may_be_of_any_type(house: House) -> None:
    with results() as root:
        path = honest(root)
        link_away(root / "systems" / f"{card().hash}.json")
        refused(house, path, "systems")
    for odd in ("much", [8], None, True, {"a": 1}):
        with results() as root:
            system.write_card(card(odd), root / "systems")
            both = dict.fromkeys(("solve", "weigh"), card(odd).hash)
            errors(house, honest(root, change=lambda b, both=both: b.update(systems=both)))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (json.dumps({"id": "0" * 64, "reason": "wrong data"}), True),
        (json.dumps({"id": "0" * 64, "reason": "wrong data", "date": "2026-01-31"}), True),
        (json.dumps({"id": "0" * 64, "reason": " "}), False),
        (json.dumps({"id": "0" * 63, "reason": "wrong"}), False),
        (json.dumps({"id": "0" * 64, "reason": "wrong", "date": "today"}), False),
        (json.dumps({"id": "0" * 64, "reason": 3}), False),
        (json.dumps({"id": "0" * 64}), False),
        (json.dumps({"id": "0" * 64, "reason": "wrong", "by": "me"}), False),
        ("[" * 9000, False),
        ("", False),
    ],
)
def test_retractions_are_small_files_with_a_reason(house: House, text: str, holds: bool) -> None:
    with results() as root:
        run = bundle.read(honest(root)).id
        (root / "retractions").mkdir()
        (root / "retractions" / "one.json").write_text(text.replace("0" * 64, run))
        assert (not errors(house, root)) == holds
