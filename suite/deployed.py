"""``deployed.json``: what of a Solution decides how fast it is, as a small file in its bundle, for any machine to weigh it.

Sizes of tensors, which of their elements are not zero, and facts of the task's own; no weights, and nothing that runs.  One content
has one text: canonical JSON.  A pattern is the elements' bits, deflated, in base64; how long it unpacks to is known before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from suite.bundle import Name, Record
from suite.naming import canonical_json
from suite.protocol import NoShape, Shape, Shapes, Spec, Tensor

FORMAT: Literal[1] = 1
BYTES = {"smoke": 65_536, "small": 65_536, "paper": 1_048_576}  #: the most that a tier's file may have
MOST_RANK, MOST_ELEMENTS, MOST_TENSORS = 8, 2**31, 10_000
EXPANSION = 2**27  #: elements of which a file tells which are not zero, in all: their bits unpack to 16 MiB
OPERATIONS = "operations.json"  #: in a work folder: those of the row whose shape is weighed again
COLUMNS = ("macs", "params", "nonzero")  #: of operations by layer
CLOSE = 1e-9  #: relative

_Size = Annotated[list[Annotated[int, Field(ge=0, le=MOST_ELEMENTS)]], Field(max_length=MOST_RANK)]
_Bits = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$", max_length=max(BYTES.values()))]
_TensorName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@+/-]{1,200}$")]


class TensorRecord(Record):
    """A tensor without its values."""

    size: _Size
    nonzero: int = Field(ge=0, le=MOST_ELEMENTS)
    where: _Bits | None = Field(None, description="bits of the elements that are not zero, deflated, in base64")


class DeployedRecord(Record):
    """``deployed.json``."""

    schema_version: Literal[1] = FORMAT
    task: Name
    form: int = Field(ge=1, le=10_000, description="of facts and names of tensors, by the task")
    facts: dict[str, Any] = Field(default_factory=dict, max_length=100)
    tensors: dict[_TensorName, TensorRecord] = Field(default_factory=dict, max_length=MOST_TENSORS)


@dataclass(frozen=True)
class Deployed:
    """A shape with what it is of."""

    task: str
    form: int
    shape: Shape


def encode(task: str, form: int, shape: Shape) -> bytes:
    """The file's bytes."""
    tensors = {}
    for name, t in shape.tensors.items():
        told: dict[str, Any] = {"size": list(t.size), "nonzero": t.nonzero}
        if t.where is not None:
            told["where"] = packed(t.where)
        tensors[name] = told
    record = {"schema_version": FORMAT, "task": task, "form": form, "facts": dict(shape.facts), "tensors": tensors}
    return canonical_json(record) + b"\n"


def file_of(spec: Spec, shapes: Shapes, shape: Shape) -> bytes:
    """The file's bytes for a bundle of the Spec; raises NoShape where the shape does not fit into the tier's bound."""
    return fitted(spec.task, shapes.FORM, shape, spec.tier, places=shapes.places(spec))


def sha256(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()


def read(data: bytes) -> Deployed:
    """The shape in a file of ours; a stranger's goes through `suite.checks.untrusted` first.  Raises ValueError."""
    return decode(DeployedRecord.model_validate_json(data))


def fitted(task: str, form: int, shape: Shape, tier: str, *, places: bool) -> bytes:
    """The file's bytes within what the tier allows: of patterns that are too long, the longest first, the count alone is told.

    Args:
        places: where elements are not zero decides time, so that no pattern can go.

    Raises NoShape where it does not fit.
    """
    most = BYTES[tier]
    found = encode(task, form, shape)
    if len(found) <= most:
        return found
    tensors = dict(shape.tensors)
    for name in () if places else sorted(tensors, key=lambda n: (-tensors[n].count, n)):
        tensors[name] = replace(tensors[name], where=None)
        found = encode(task, form, Shape(shape.facts, tensors))
        if len(found) <= most:
            return found
    raise NoShape(f"{len(found):,} bytes, over the {most:,} that a bundle of tier {tier} has for it")


def decode(record: DeployedRecord) -> Deployed:
    """The shape of a record that was read; raises ValueError where a pattern is not what its tensor's size and count say."""
    tensors: dict[str, Tensor] = {}
    if sum(math.prod(t.size) for t in record.tensors.values() if t.where is not None) > EXPANSION:
        raise ValueError("its patterns are of more elements than any machine unpacks for a check")
    for name, told in record.tensors.items():
        count = math.prod(told.size)
        if count > MOST_ELEMENTS or told.nonzero > count:
            raise ValueError(f"{name}: {told.nonzero:,} of {count:,} elements are not zero: there are no such tensors")
        where = None if told.where is None else _unpacked(name, told.where, count, told.nonzero)
        tensors[name] = Tensor(tuple(told.size), told.nonzero, where)
    return Deployed(record.task, record.form, Shape(record.facts, tensors))


def packed(data: bytes) -> str:
    """Bytes as text: deflated, in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def unpacked(text: str, length: int) -> bytes:
    """The bytes that `packed` wrote, as many as they must be: no more are ever made of a stranger's text.  Raises ValueError."""
    try:
        raw = base64.b64decode(text, validate=True)
        engine = zlib.decompressobj()
        found = engine.decompress(raw, length + 1)
    except (zlib.error, binascii.Error) as e:
        raise ValueError(f"it cannot be unpacked: {e}") from e
    if len(found) != length or not engine.eof or engine.unused_data or base64.b64encode(raw).decode() != text:
        raise ValueError(f"it does not unpack to {length:,} bytes")
    return found


def _unpacked(name: str, text: str, count: int, nonzero: int) -> bytes:
    length = -(-count // 8)
    try:
        found = unpacked(text, length)
    except ValueError as e:
        raise ValueError(f"{name}: its pattern is not one bit an element: {e}") from e
    ones = int(np.bitwise_count(np.frombuffer(found, np.uint8)).sum())
    if ones != nonzero or not 0 < nonzero < count or found[-1] & ((1 << (8 * length - count)) - 1):
        raise ValueError(f"{name}: its pattern has {ones:,} ones, {nonzero:,} elements are not zero")
    return found


def tensor(mask: np.ndarray) -> Tensor:
    """A tensor of which the elements where `mask` is true are not zero."""
    nonzero = int(np.count_nonzero(mask))
    where = np.packbits(np.asarray(mask, bool).reshape(-1)).tobytes() if 0 < nonzero < mask.size else None
    return Tensor(tuple(int(n) for n in mask.shape), nonzero, where)


def mask_of(t: Tensor, seed: int) -> np.ndarray:
    """Which elements are not zero, bool of the tensor's size; where that is not told, as many as there are, drawn by the seed."""
    if t.where is not None:
        return np.unpackbits(np.frombuffer(t.where, np.uint8), count=t.count).astype(bool).reshape(t.size)
    found = np.zeros(t.count, bool)
    if t.nonzero == t.count:
        found[:] = True
    elif t.nonzero:
        found[np.random.default_rng(seed).choice(t.count, t.nonzero, replace=False)] = True
    return found.reshape(t.size)


def owner(name: str) -> str:
    """The layer that a parameter belongs to, by the parameter's name."""
    return name.rpartition(".")[0]


def by_owner(tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Operations by layer of a network whose parameters these are: name, params, nonzero."""
    found: dict[str, dict[str, Any]] = {}
    for name, t in tensors.items():
        entry = found.setdefault(owner(name), {"name": owner(name), "params": 0, "nonzero": 0})
        entry["params"] += t.count
        entry["nonzero"] += t.nonzero
    return list(found.values())


def changed(again: Sequence[Mapping[str, Any]], operations: Sequence[Mapping[str, Any]]) -> list[str]:
    """As `differences`, of operations that were counted again: each layer is there, and all its columns are equal."""
    found = differences(again, operations)
    mine = {layer["name"] for layer in again}
    return found + [f"lacks {layer['name']}" for layer in operations if layer["name"] not in mine and not layer["params"]]


def differences(told: Sequence[Mapping[str, Any]], operations: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the layers of a shape (`Shapes.layers`) and a row's operations do not agree in, by layer; empty where they agree."""
    mine, theirs = {layer["name"]: layer for layer in told}, {layer["name"]: layer for layer in operations}
    found = []
    if len(mine) != len(told):
        found.append("a layer stands twice")
    for name, layer in mine.items():
        if name not in theirs:
            found.append(f"has a layer {name or '(the whole)'}, of which the operations tell nothing")
            continue
        found += [
            f"{column} of {name} are {layer[column]:,.0f}, the operations say {theirs[name][column]:,.0f}"
            for column in COLUMNS
            if column in layer and not math.isclose(layer[column], theirs[name][column], rel_tol=CLOSE)
        ]
    found += [f"lacks {name}, of which the operations tell" for name in theirs if name not in mine and theirs[name]["params"]]
    return found
