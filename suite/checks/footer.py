"""The footer of a Parquet file, read without native code.

pyarrow reads forged pages safely, but looking at a column chunk's metadata through it is not safe: where
they are forged, an exception of C++ ends the whole process (levels whose histogram is of another size are
enough).  Codec and encodings must be known before anything is unpacked, so they are read here.

Sources: apache/parquet-format, ``parquet.thrift`` (FileMetaData, RowGroup, ColumnChunk, ColumnMetaData);
apache/thrift, ``thrift-compact-protocol.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"PAR1"
MOST_BYTES = 200_000  #: of a footer: ours take 2 to 5 KB
MOST_DEPTH = 12
CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
#: those that we write
ENCODINGS = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 4: "BIT_PACKED", 8: "RLE_DICTIONARY", 9: "BYTE_STREAM_SPLIT"}


#: fields that Arrow writes, of the file, of a chunk and of its metadata: no key-value pairs, indexes or filters
FILE_FIELDS = frozenset({1, 2, 3, 4, 6, 7})
CHUNK_FIELDS = frozenset({2, 3})
COLUMN_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 16})
PAGES = frozenset({0, 2, 3})  #: types: data, dictionary, data of the second kind


@dataclass(frozen=True)
class Chunk:
    """One column of one row group."""

    codec: str
    encodings: frozenset[str]
    values: int
    unpacked: int  #: bytes, as announced
    elsewhere: bool  #: its pages are said to lie in another file, or to be encrypted


@dataclass(frozen=True)
class Footer:
    """What must be known before a page is unpacked.  It may lie."""

    rows: int
    groups: tuple[tuple[int, tuple[Chunk, ...]], ...]  #: rows and columns of each row group
    metadata: bool  #: there are key-value pairs, of the file or of a column, or fields that we do not write
    writer: str
    filled: bool  #: pages follow one another from the file's begin to the footer, and nothing lies between


def read(file: Path) -> Footer:
    """The footer of a file; raises ValueError where it is none, OSError where the file cannot be read."""
    data = file.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    if len(data) < 12 or data[:4] != MAGIC or data[-4:] != MAGIC:
        raise ValueError("no Parquet file")
    if not 0 < size <= min(MOST_BYTES, len(data) - 12):
        raise ValueError(f"a footer of {size:,} bytes")
    reader = _Compact(data[-8 - size : -8])
    top = reader.struct()
    groups = tuple((_number(g, 3), tuple(_chunk(c) for c in _structs(g, 1))) for g in _structs(top, 4))
    chunks = [c for g in _structs(top, 4) for c in _structs(g, 1)]
    foreign = bool(top.keys() - FILE_FIELDS) or any(c.keys() - CHUNK_FIELDS or c[3].keys() - COLUMN_FIELDS for c in chunks)
    writer = top.get(6, b"")
    filled = reader.at == size and _filled(data, len(data) - 8 - size, [c[3] for c in chunks])
    return Footer(_number(top, 3), groups, foreign, writer.decode("utf-8", "replace") if isinstance(writer, bytes) else "", filled)


def _filled(data: bytes, end: int, chunks: list[dict[int, Any]]) -> bool:
    """Whether the pages of all columns, in the order of their places, lie one behind the other from the magic to the footer."""
    at = len(MAGIC)
    places = sorted((min(_number(c, n) for n in (9, 11) if n in c or n == 9), _number(c, 7)) for c in chunks)
    for begin, length in places:
        if begin != at or length <= 0 or begin + length > end:
            return False
        at = begin + length
        while begin < at:
            page = _Compact(data[begin:at])
            head = page.struct()
            size = _number(head, 3)
            if size < 0 or head.get(1) not in PAGES:
                return False
            begin += page.at + size
        if begin != at:
            return False
    return at == end


def _chunk(chunk: dict[int, Any]) -> Chunk:
    facts = chunk.get(3)
    if not isinstance(facts, dict):
        raise ValueError("a column without metadata")
    codec, encodings = _number(facts, 4), facts.get(2)
    if not isinstance(encodings, list) or not all(isinstance(e, int) for e in encodings):
        raise ValueError("a column without encodings")
    return Chunk(
        CODECS[codec] if 0 <= codec < len(CODECS) else "unknown",
        frozenset(ENCODINGS.get(e, "unknown") for e in encodings),
        _number(facts, 5),
        _number(facts, 6),
        bool({1, 8, 9} & chunk.keys()),
    )


def _number(fields: dict[int, Any], name: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"field {name} is no number")
    return value


def _structs(fields: dict[int, Any], name: int) -> list[dict[int, Any]]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise ValueError(f"field {name} is no list of structures")
    return value


class _Compact:
    """Thrift's compact protocol: structures as dicts by field number.  Raises ValueError on whatever is not whole."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.depth = data, 0, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError("ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number of more than 64 bits")

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self) -> dict[int, Any]:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ValueError("nested too deep")
        found: dict[int, Any] = {}
        name = 0
        while head := self.take(1)[0]:
            kind = head & 15
            name = name + (head >> 4) if head >> 4 else self.zigzag()
            if name in found:  # readers differ in which one holds
                raise ValueError(f"field {name} stands twice")
            found[name] = kind == 1 if kind in (1, 2) else self.value(kind)
        self.depth -= 1
        return found

    def value(self, kind: int) -> Any:
        if kind in (1, 2, 3):  # in a list, a truth value is a byte
            return self.take(1)[0]
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            return self.take(8)
        if kind == 8:
            return self.take(self.varint())
        if kind in (9, 10):
            return self.list()
        if kind == 12:
            return self.struct()
        raise ValueError(f"type {kind}, which no footer has")  # maps among them

    def list(self) -> list[Any]:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ValueError("nested too deep")
        head = self.take(1)[0]
        count = head >> 4 if head >> 4 < 15 else self.varint()
        if count > len(self.data) - self.at:
            raise ValueError("ends early")
        found = [self.value(head & 15) for _ in range(count)]
        self.depth -= 1
        return found
