"""Reading what a stranger wrote: folder, JSON and Parquet, each bounded before it is opened.

Everything here raises `Refused` and nothing else on hostile input.  What a parser may raise is caught
by type around that parser alone, so that a mistake of ours still shows as one.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from suite import bundle, deployed, pictures
from suite.checks import footer, texts
from suite.checks.findings import AGAIN, Refused, printable
from suite.naming import canonical_json, indented_json

if TYPE_CHECKING:
    from pyarrow import Array
    from pyarrow.parquet import ParquetFile

R = TypeVar("R", bound=bundle.Record)

ALLOWED = (bundle.RUN, bundle.EVIDENCE, bundle.TIMING, bundle.DEPLOYED)
RUN_BYTES, TIMING_BYTES = 1_000_000, 1_000_000
PAPER_BYTES = 8_000_000  #: the most that any task may declare for its evidence
EXPANSION = 64_000_000  #: unpacked bytes of one column: 50,000 rows in three modes take 2 MB in all
MOST_ROWS, MOST_GROUPS, MOST_DEPTH = 5_000_000, 64, 12
TEXT_BYTES = 200  #: of one cell
TEXT_BATCH = 64  #: cells of text unpacked at a time: one stored string may stand for a million cells
CODECS = {"SNAPPY", "UNCOMPRESSED"}
WRITER, MOST_WRITER = "parquet-cpp-arrow version ", 60  #: how a footer says who wrote it, and characters of that
ENCODINGS = frozenset(footer.ENCODINGS.values())
#: texts of several lines, which pages escape; every other text is a name and must be printable
PROSE = frozenset({"reason", "notes", "warnings", "unsupported"})
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # an open string matches too: linear on any input


def entries_of(path: Path, mend: str) -> dict[str, os.stat_result]:
    """What lies in a folder, by name; raises Refused where it is a link or no folder, for which `mend` says what is one."""
    try:
        mode = path.lstat().st_mode
        entries = {e.name: e.stat(follow_symlinks=False) for e in os.scandir(path)} if stat.S_ISDIR(mode) else {}
    except OSError as e:
        raise Refused(".", "folder", f"cannot be read: {e.strerror}", "name a folder that can be read") from e
    if stat.S_ISLNK(mode):
        raise Refused(".", "folder", "is a symbolic link", "put the folder itself there")
    if not stat.S_ISDIR(mode):
        raise Refused(".", "folder", "is not a folder", mend)
    return entries


def plain_files(path: Path) -> None:
    """A bundle's folder holds plain files of known names, and nothing that leads elsewhere.

    Raises Refused at the first entry that does not belong, and where ``run.json`` is missing.
    """
    entries = entries_of(path, f"a bundle is a folder with {bundle.RUN} in it")
    if bundle.RUN not in entries:
        raise Refused(bundle.RUN, "file", "is missing", f"a bundle is a folder with {bundle.RUN} in it")
    for name, status in sorted(entries.items()):
        if stat.S_ISLNK(status.st_mode):
            raise Refused(printable(name), "file", "is a symbolic link", "put the file itself there")
        if not stat.S_ISREG(status.st_mode) or not (name in ALLOWED or pictures.NAME.fullmatch(name)):
            mend = f"a bundle holds {', '.join(ALLOWED)}, at most {pictures.MOST} pictures, and nothing else"
            raise Refused(printable(name), "file", "does not belong in a bundle", mend)
        not_run(name, status.st_mode)
    deployed_bytes = max(deployed.BYTES.values())
    for name, most in zip(ALLOWED, (RUN_BYTES, PAPER_BYTES, TIMING_BYTES, deployed_bytes), strict=True):
        if name in entries:
            within(name, entries[name].st_size, most)
    seen = sorted(entries.keys() - set(ALLOWED))
    if len(seen) > pictures.MOST:
        raise Refused(seen[-1], "file", f"is one of {len(seen)} pictures: at most {pictures.MOST} are allowed")
    for name in seen:
        within(name, entries[name].st_size, pictures.MOST_BYTES)


def not_run(name: str, mode: int) -> None:
    """Raises Refused where a file may be executed: results hold nothing that a system runs."""
    if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        raise Refused(printable(name), "file", f"may be executed ({stat.filemode(mode)})", "chmod 644")


def within(name: str, size: int, most: int) -> None:
    """Raises Refused where a file is larger than `most` bytes."""
    if size > most:
        raise Refused(name, "size", f"{size:,} bytes, over the {most:,} allowed")


def depth(data: bytes) -> int:
    """Deepest nesting of brackets outside strings, without parsing: linear in time, constant in stack."""
    level = deepest = 0
    for bracket in _STRING.sub(b"", data):
        if bracket in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif bracket in b"]}":
            level -= 1
    return deepest


def parse(data: bytes, name: str, mend: str = AGAIN) -> dict[str, Any]:
    """A JSON object without repeated keys, NaN, infinities or deep nesting.

    Raises Refused on anything else: other encodings, trailing text, numbers beyond 4,300 digits.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise Refused(name, "keys", "a key stands twice in one object", mend)
        return found

    def constant(word: str) -> Any:
        raise Refused(name, "numbers", f"{word} is no number that JSON knows", mend)

    if depth(data) > MOST_DEPTH:
        raise Refused(name, "nesting", f"is deeper than {MOST_DEPTH} levels", mend)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except ValueError as e:  # JSONDecodeError, UnicodeDecodeError, too many digits
        raise Refused(name, "JSON", f"cannot be parsed: {printable(str(e), 120)}", mend) from e
    if not isinstance(value, dict):
        raise Refused(name, "JSON", "is not an object", mend)
    return value


def schema_version(raw: Mapping[str, Any], name: str, mend: str) -> int:
    """The version that a file states; raises Refused where it is none."""
    version = raw.get("schema_version")
    if type(version) is not int:  # true and 1.0 equal 1
        raise Refused(name, "schema_version", f"is no whole number; it is {bundle.SCHEMA}", mend)
    return version


def record(path: Path) -> bundle.RunRecord:
    """``run.json`` of a bundle's folder: written as `bundle.write` writes it, of the schema, hashing to its id; raises Refused."""
    found = sealed(path, bundle.RUN, bundle.RunRecord, AGAIN)
    spec = found.spec
    for field, name in (("spec.task", spec.task), ("spec.case", spec.case), ("method.name", found.method.name)):
        if any(part.startswith(".") for part in name.split("/")):  # folders are named so, and hidden ones not looked at
            raise Refused(bundle.RUN, field, "begins with a dot", "use plain names")
    return found


def sealed(path: Path, name: str, kind: type[R], mend: str) -> R:
    """A record that bears its own id, as its writer writes it, of the schema; raises Refused.

    One content has one text (sorted keys, one blank of indent, shortest floats), so that no byte can be changed unseen: the id
    alone would not notice white space.
    """
    from pydantic import ValidationError

    data = _bytes(path / name)
    raw = parse(data, name, mend)
    version = schema_version(raw, name, mend)
    if version > bundle.SCHEMA:
        raise Refused(name, "schema_version", f"{version} is newer than this weighin knows", "update weighin")
    try:  # 1e999 is no NaN to the parser, yet infinite
        text = indented_json(raw) + "\n"
        canonical, identity = text.encode() == data, bundle.identity(raw)
    except ValueError as e:
        raise Refused(name, "numbers", printable(str(e), 120), mend) from e
    try:
        found = kind.model_validate_json(data, strict=True)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        raise Refused(name, ".".join(map(str, first["loc"])) or "JSON", first["msg"], mend) from e
    if raw.get("id") != identity:
        told = f"is {str(raw.get('id'))[:12]}, the content hashes to {identity[:12]}: something was changed"
        raise Refused(name, "id", told, mend)
    if not canonical:
        raise Refused(name, "bytes", "is not written as the runner writes it", f"undo editors' changes, or {mend}")
    if _ODD.search(data):
        _names(raw, "", name)
    return found


#: without these bytes no text of a canonical JSON has anything to be found by `texts.odd`: what is escaped, markup, beyond ASCII
_ODD = re.compile(rb"[\\<>\x7f-\xff]")


def _names(value: Any, where: str, file: str, *, prose: bool = False) -> None:
    """Texts are shown on pages and terminals: names are printable and without markup, and nothing is hidden in any text."""
    if isinstance(value, str):
        if told := texts.odd(value, prose=prose):
            raise Refused(file, where, told, "use plain names")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _names(key, f"{where} keys".strip(), file)
            _names(inner, f"{where}.{key}" if where else key, file, prose=prose or key in PROSE)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _names(inner, f"{where}.{i}", file, prose=prose)


def hashes(path: Path, found: bundle.RunRecord) -> None:
    """The files are those that ``run.json`` describes, byte for byte; raises Refused."""
    stored = {e.name for e in os.scandir(path)} - {bundle.RUN}
    if odd := sorted(stored ^ set(found.hashed)):
        raise Refused(odd[0], "file", "is named in run.json and absent, or there and not named")
    for name, entry in found.hashed.items():
        file = path / name
        try:
            same = file.stat().st_size == entry.bytes and bundle.sha256(file) == entry.sha256
        except OSError as e:
            raise Refused(name, "file", f"cannot be read: {e.strerror}", "make it readable") from e
        if not same:
            raise Refused(name, "sha256", "the file is not the one that run.json describes")


def seen(path: Path, found: bundle.RunRecord) -> None:
    """Pictures are pictures, of the size that ``run.json`` says, and nothing besides; raises Refused."""
    for name, entry in found.pictures.items():
        try:
            height, width, _ = pictures.decode(_bytes(path / name)).shape
        except ValueError as e:
            raise Refused(name, "picture", str(e)) from e
        if (width, height) != (entry.width, entry.height):
            raise Refused(name, "picture", f"is {width}x{height}, run.json says {entry.width}x{entry.height}")


def shape(path: Path, found: bundle.RunRecord) -> deployed.Deployed:
    """The shape in a bundle's ``deployed.json``: of its tier's size, of the schema, as the runner writes it; raises Refused."""
    from pydantic import ValidationError

    name = bundle.DEPLOYED
    within(name, (path / name).stat().st_size, deployed.BYTES[found.spec.tier])
    data = _bytes(path / name)
    raw = parse(data, name)
    if schema_version(raw, name, AGAIN) > deployed.FORMAT:
        raise Refused(name, "schema_version", f"{raw['schema_version']} is newer than this weighin knows", "update weighin")
    try:
        canonical = canonical_json(raw) + b"\n" == data
        record = deployed.DeployedRecord.model_validate_json(data, strict=True)
        told = deployed.decode(record)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        raise Refused(name, printable(".".join(map(str, first["loc"]))) or "JSON", first["msg"]) from e
    except ValueError as e:  # infinite numbers, patterns that are none
        raise Refused(name, "shape", printable(str(e), 160)) from e
    if not canonical:
        raise Refused(name, "bytes", f"is not written as the runner writes it, {AGAIN}")
    if told.task != found.spec.task:
        raise Refused(name, "task", f"is of {told.task}, the row of {found.spec.task}")
    return told


def table(path: Path, name: str, columns: Mapping[str, str], most_bytes: int, rows: int) -> dict[str, np.ndarray]:
    """Columns of a Parquet file, read after its metadata have been found harmless and its types the declared ones.

    Args:
        columns: names in order, and numpy types (``object`` for text), as `Task.columns` declares them.
        most_bytes: of the file.
        rows: what ``run.json`` says.

    Raises Refused on other columns, empty cells, NaN, and on whatever unpacks to more than its bounds.
    """
    import pyarrow as pa
    from pyarrow import parquet

    file = path / name
    within(name, file.stat().st_size, most_bytes)
    try:
        with parquet.ParquetFile(
            file, thrift_string_size_limit=1_000_000, thrift_container_size_limit=100_000, pre_buffer=False
        ) as source:
            _typed(source.schema_arrow, name, columns)
            _harmless(footer.read(file), name, columns, rows)
            found = {column: _column(source, name, column, columns[column], rows) for column in columns}
    except (pa.ArrowException, OSError, ValueError) as e:
        reason = printable((str(e).splitlines() or [type(e).__name__])[0], 120)
        raise Refused(name, "Parquet", f"cannot be read: {reason}") from e
    return found


def _harmless(head: footer.Footer, name: str, columns: Mapping[str, str], rows: int) -> None:
    """Bounds on what the footer announces.  It may lie: reading is bounded again, by rows and by cells of text."""
    if rows == 0:
        raise Refused(name, "rows", "there are none")
    if rows > MOST_ROWS:
        raise Refused(name, "rows", f"{rows:,} of them: more than any evidence needs")
    if head.rows != rows or sum(n for n, _ in head.groups) != rows or any(n < 0 for n, _ in head.groups):
        raise Refused(name, "rows", f"{head.rows:,} rows, run.json says {rows:,}")
    widest = max(TEXT_BYTES if kind == "object" else np.dtype(kind).itemsize for kind in columns.values())
    # a page of a few bytes may hold any number of equal values: what counts is what it unpacks to
    if rows * widest > EXPANSION:
        raise Refused(name, "rows", f"{rows:,} rows unpack to more than {EXPANSION:,} bytes")
    if head.metadata:
        raise Refused(name, "metadata", "holds more than the table")
    if not head.writer.startswith(WRITER) or not head.writer.isprintable() or len(head.writer) > MOST_WRITER:
        raise Refused(name, "metadata", f"says that {printable(head.writer, 60) or 'nobody'} wrote it, not Arrow")
    if not head.filled:
        raise Refused(name, "pages", "do not fill the file: it holds more than the table")
    if len(head.groups) > MOST_GROUPS:
        raise Refused(name, "groups", f"{len(head.groups)} row groups: not what the runner writes")
    for count, chunks in head.groups:
        if len(chunks) != len(columns) or any(c.values != count or c.elsewhere for c in chunks):
            raise Refused(name, "columns", "are not whole in each row group")
        if any(c.codec not in CODECS or not c.encodings <= ENCODINGS for c in chunks):
            raise Refused(name, "encoding", "is packed otherwise than the runner packs it")
        if any(not 0 <= c.unpacked <= EXPANSION for c in chunks):
            raise Refused(name, "size", "unpacks to more than any evidence needs")


def _typed(schema: Any, name: str, columns: Mapping[str, str]) -> None:
    import pyarrow as pa

    if schema.names != list(columns):
        told = printable(", ".join(schema.names), 120)
        raise Refused(name, "columns", f"are {told}; they must be {', '.join(columns)}")
    for field in schema:
        kind = columns[field.name]
        wanted = pa.string() if kind == "object" else pa.from_numpy_dtype(np.dtype(kind))
        if field.type != wanted:  # also refuses nested types, before anything is read
            raise Refused(name, field.name, f"is of type {field.type}, not {wanted}")


def _column(source: ParquetFile, name: str, column: str, kind: str, rows: int) -> np.ndarray:
    """One column, free of empty cells, NaN and infinities."""
    batches = source.iter_batches(TEXT_BATCH if kind == "object" else 65_536, columns=[column], use_threads=False)
    arrays: list[Array] = []
    count = 0
    for batch in batches:
        array = batch.column(0)
        count += len(array)
        if array.null_count or count > rows:
            raise Refused(name, column, "has empty cells, or more of them than rows")
        # the buffers' size is not the text's: batches share a dictionary
        if kind == "object" and max(map(len, array.to_pylist()), default=0) > TEXT_BYTES:
            raise Refused(name, column, f"has a text of more than {TEXT_BYTES} characters")
        arrays.append(array)
    if count != rows:
        raise Refused(name, column, f"has {count:,} cells, the table {rows:,} rows")
    values = np.concatenate([a.to_numpy(zero_copy_only=False) for a in arrays])
    if kind != "object" and values.dtype != np.dtype(kind):
        raise Refused(name, column, f"is read as {values.dtype}, not {kind}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Refused(name, column, "has NaN or infinity")
    return values


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise Refused(file.name, "file", f"cannot be read: {e.strerror}", "make it readable") from e
