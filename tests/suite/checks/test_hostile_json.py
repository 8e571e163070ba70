"""JSON that means harm: too deep, too large, no JSON at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import bundle
from suite.checks.untrusted import depth
from tests.suite.checks.forger import (
    QUICK,
    SHARE,
    House,
    blocks,
    card,
    errors,
    evidence,
    fields,
    honest,
    refused,
    results,
    seal,
)

OPEN = b'{"schema_version": 1, "x": '


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b"\x00" * 100,
        b"[" * 900_000,
        b'{"a":' * 150_000,
        b'"' * 900_000,
        b'"\\"' * 300_000,
        b"\\" * 900_000,
        OPEN + b"NaN}",
        OPEN + b"-Infinity}",
        OPEN + b"1e999}",
        OPEN + b"9" * 900_000 + b"}",
        OPEN + b"1e" + b"9" * 1000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"schema_version": 2}',
        b'{"schema_version": 99999999999999999999}',
        b'{"id": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"\\u0000": "\\u001b[2J"}',
        b"{}{}",
        b" " * 1_000_001,
    ],
    ids=lambda d: repr(d[:24]),
)
def test_hostile_json_ends_in_one_finding(house: House, data: bytes) -> None:
    with results() as root:
        path = honest(root)
        (path / bundle.RUN).write_bytes(data)
        refused(house, path, file=bundle.RUN)


def test_repeated_keys_are_refused_where_the_last_one_holds(house: House) -> None:
    with results() as root:
        file = honest(root) / bundle.RUN
        file.write_bytes(file.read_bytes().replace(b'"submitter": ""', b'"submitter": "Somebody", "submitter": ""'))
        refused(house, file.parent, "keys")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_subnormal=False) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
@QUICK
def test_depth_bounds_what_a_parser_would_nest(value: Any) -> None:
    def nested(v: Any) -> int:
        inner = v.values() if isinstance(v, dict) else v if isinstance(v, list) else None
        return 0 if inner is None else 1 + max(map(nested, inner), default=0)

    assert depth(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == nested(value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.text(max_size=20),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
    max_leaves=6,
)


def leaves(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a record."""
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for k, v in inner:
        yield from leaves(v, (*here, k))


FREE = {"key", "created", "curve", "notes", "libraries", "submitter", "operations", "source", "reason", "unsupported"}


@settings(QUICK, max_examples=80)
@given(pick=SHARE, value=JSON)
def test_a_sealed_record_with_anything_anywhere_never_ends_in_a_traceback(house: House, pick: float, value: Any) -> None:
    body = fields(0, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()}, card().hash)
    places = [p for p in leaves(body) if p]
    place = places[int(pick * len(places))]
    before = body
    for step in place[:-1]:
        before = before[step]
    before[place[-1]] = copy.deepcopy(value)
    with results() as root:
        try:
            path = seal(root, body, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()})
        except (TypeError, AttributeError, KeyError, ValueError, OSError):
            return  # what cannot even be hashed or named cannot be submitted
        errors(house, path)
        errors(house, root)
