"""One content has one text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.naming import UserError, indented_json, seconds

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@given(VALUES)
def test_indented_json_is_what_the_library_writes(value: object) -> None:
    assert indented_json(value) == json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)


@pytest.mark.parametrize("value", [float("nan"), {"a": [1, {"b": float("inf")}]}, [float("-inf")]])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        indented_json(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6h", 21_600), ("90m", 5_400), ("1h30min", 5_400), ("1.5h", 5_400), ("45s", 45), ("90", 90), ("1h 30", 3_630)],
)
def test_a_budget_is_written_as_people_do(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["ten", "0", "0h", "-3m", "3d", "m", "", "1h-", "nan", "inf"])
def test_a_budget_that_is_none_is_told(text: str) -> None:
    with pytest.raises(UserError, match=r"--budget .*write"):
        seconds(text)
