"""``deployed.json``: one content has one text, patterns come back bit by bit, and what is forged or too long is refused."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import bundle, deployed
from suite.checks import untrusted
from suite.checks.findings import Refused
from suite.protocol import NoShape, Shape, Tensor
from tests import demo

MASK = np.arange(24).reshape(4, 6) % 5 < 2


def shape(**changes: Any) -> Shape:
    tensors = {"a.weight": deployed.tensor(MASK), "a.bias": Tensor((4,), 4), "b.weight": Tensor((3, 3), 2)}
    return Shape({"input": [3, 16, 16]}, {**tensors, **changes})


@given(st.lists(st.booleans(), max_size=200))
def test_which_elements_are_not_zero_comes_back_bit_by_bit(bits: list[bool]) -> None:
    mask = np.array(bits, bool)
    found = deployed.read(deployed.encode("t", 1, Shape({}, {"w": deployed.tensor(mask)}))).shape.tensors["w"]
    assert (deployed.mask_of(found, seed=1) == mask).all()
    assert (found.size, found.nonzero) == (mask.shape, mask.sum())


def test_what_is_not_told_is_drawn_by_the_seed_and_as_much_of_it() -> None:
    few = Tensor((10, 10), 7)
    assert [int(deployed.mask_of(few, s).sum()) for s in range(5)] == [7] * 5
    assert (deployed.mask_of(few, 3) == deployed.mask_of(few, 3)).all()
    assert (deployed.mask_of(few, 3) != deployed.mask_of(few, 4)).any()


def test_one_shape_has_one_text() -> None:
    text = deployed.encode("t", 1, shape())
    told = deployed.read(text)
    assert deployed.encode(told.task, told.form, told.shape) == text
    assert told.shape == shape()


def test_of_a_shape_that_is_too_long_the_longest_pattern_goes_where_places_decide_no_time() -> None:
    draw = np.random.default_rng(0)
    large, small = deployed.tensor(draw.random(1_000_000) < 0.5), deployed.tensor(draw.random(1000) < 0.5)
    both = Shape({}, {"large": large, "small": small})
    text = deployed.fitted("t", 1, both, "small", places=False)
    assert len(text) <= deployed.BYTES["small"]
    kept = deployed.read(text).shape.tensors
    assert (kept["large"].where, kept["large"].nonzero) == (None, large.nonzero)
    assert kept["small"].where == small.where
    with pytest.raises(NoShape, match="over the 65,536"):
        deployed.fitted("t", 1, both, "small", places=True)


def test_layers_that_differ_are_told_in_both_directions() -> None:
    layers = deployed.by_owner(shape().tensors)
    assert deployed.differences(layers, [{**x, "macs": 1.0} for x in layers]) == []
    wider = [{**x, "macs": 1.0, "params": x["params"] + 1} for x in layers]
    assert "params of a are 28, the operations say 29" in deployed.differences(layers, wider)
    assert deployed.differences(layers, [{**layers[0], "macs": 1.0}]) == ["has a layer b, of which the operations tell nothing"]
    more = [*({**x, "macs": 1.0} for x in layers), {"name": "c", "macs": 1.0, "params": 5, "nonzero": 5}]
    assert deployed.differences(layers, more) == ["lacks c, of which the operations tell"]
    # what has no parameters may be told by the operations alone, unless they were counted again
    free = [*({**x, "macs": 1.0} for x in layers), {"name": "c", "macs": 1.0, "params": 0, "nonzero": 0}]
    assert deployed.differences(layers, free) == []
    assert deployed.changed(layers, free) == ["lacks c"]


def bits(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


WHERE = bits(np.packbits(MASK.reshape(-1)).tobytes())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nonzero": 9}, "its pattern has 10 ones, 9"),
        ({"nonzero": 25}, "25 of 24"),
        ({"size": [4, 7]}, "one bit an element"),
        ({"size": [4, 5]}, "its pattern has"),
        ({"size": [2**31, 2**31], "where": None}, "no such tensors"),
        ({"size": [-1, 2]}, "greater than or equal to 0"),
        ({"size": [True, 24]}, "valid integer"),
        ({"where": bits(bytes(16_000_000))}, "one bit an element"),
        ({"size": [2**27 + 8], "where": bits(b"\xff")}, "of more elements than any machine unpacks"),
        ({"where": bits(b"\xff")}, "one bit an element"),
        ({"where": base64.b64encode(b"no deflate").decode()}, "cannot be unpacked"),
        ({"where": WHERE[:-4] + "!!!!"}, "match pattern"),
        ({"where": base64.b64encode(base64.b64decode(WHERE) + b"more").decode()}, "one bit an element"),
        ({"values": [1.0]}, "Extra inputs"),
    ],
)
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    raw = json.loads(deployed.encode("image_pruning", 1, shape()))
    raw["tensors"]["a.weight"] |= change
    assert told in refused(tmp_path, bundle.canonical_json(raw) + b"\n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task": "fair"}, "is of fair, the row of image_pruning"),
        ({"schema_version": 2}, "newer"),
        ({"schema_version": True}, "no whole number"),
        ({"tensors": {"<b>": {"size": [1], "nonzero": 1}}}, "match pattern"),
        ({"form": 0}, "greater than or equal to 1"),
        ({"weights": "pickle"}, "Extra inputs"),
    ],
)
def test_a_file_that_is_no_shape_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    raw = json.loads(deployed.encode("image_pruning", 1, shape())) | change
    assert told in refused(tmp_path, bundle.canonical_json(raw) + b"\n")


def test_no_byte_of_a_shape_can_be_changed_unseen(tmp_path: Path) -> None:
    text = deployed.encode("image_pruning", 1, shape())
    assert "not written as the runner writes it" in refused(tmp_path, text.replace(b'{"facts', b'{ "facts'))
    assert "deeper than" in refused(tmp_path, text.replace(b'"facts":{', b'"facts":{"x":' + b"[" * 40 + b"]" * 40 + b","))
    assert "stands twice" in refused(tmp_path, text.replace(b'"form":1', b'"form":1,"form":1'))
    assert "over the 65,536 allowed" in refused(tmp_path, text + b" " * 70_000)
    assert "NaN" in refused(tmp_path, text.replace(b'"facts":{', b'"facts":{"x":NaN,'))


def refused(root: Path, data: bytes) -> str:
    """What the checker says of such a file in the bundle of a row."""
    path = next(iter(bundle.find(root)), None) or demo.write(root)
    (path / bundle.DEPLOYED).write_bytes(data)
    with pytest.raises(Refused) as e:
        untrusted.shape(path, bundle.read(path))
    return str(e.value)
