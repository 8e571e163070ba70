"""Results past one machine: published tables as Parquet partitions in a folder or bucket, which DuckDB reads where they lie.

``DIR/partition=<name>/`` is what one laboratory wrote at one time: ``partition.json`` (layout, writer, what the checker said,
files with rows and bytes) beside ``runs/task=T/tier=S/*.parquet`` and so on.  It appears whole, is never changed, and holds what
was not in DIR before; others' lie beside it.  Who wrote it checked it: here its form is looked at, and no number derived again.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from suite import bundle
from suite.board import store
from suite.bundle import FileRecord, Moment, Name, Record
from suite.files import atomic, write_json
from suite.naming import UserError, digest

if TYPE_CHECKING:
    import duckdb

LAYOUT: Literal[1] = 1  #: of folders and of partition.json; goes up when what stands in them is to be read otherwise
MANIFEST = "partition.json"
KEY = "partition="  #: what a partition's folder is called, before its name
OF_RUNS = ("measures", "series", "histories", "hits", "clouds", "pictures")  #: tables of rows that belong to a run
#: tables of facts beside the runs, and what one row of them is known by
BESIDE = {"cards": ("hash",), "confirmations": ("run", "card"), "retractions": ("id",), "timings": ("id",)}
HIVE = ("task", "tier")  #: what folders of runs, and of what belongs to them, are named by; no column of their files
INSTALL = "INSTALL httpfs"  #: downloads the extension where it is not there yet
FILE = rf"^((runs|{'|'.join(OF_RUNS)})/task=[\w.%+@-]+/tier=[\w.%+@-]+|{'|'.join(BESIDE)})/[\w.-]+\.parquet$"

FileName = Annotated[str, Field(pattern=FILE, max_length=400)]


class Checked(Record):
    """What `weighin check` of who wrote a partition said of the results: with an error none is written."""

    errors: Literal[0] = 0
    marks: int = Field(ge=0)


class Manifest(Record):
    """``partition.json``."""

    layout: Literal[1] = LAYOUT
    weighin: Name = Field(description="version that wrote it and checked")
    created: Moment
    checked: Checked
    files: dict[FileName, FileRecord]


@dataclass(frozen=True)
class Partition:
    """One partition, found."""

    root: str  #: the folder that its own lies in, or the address of one
    name: str
    manifest: Manifest

    @property
    def folder(self) -> str:
        return f"{self.root}/{KEY}{self.name}"

    @property
    def runs(self) -> int:
        return sum(held.rows for held in self.files("runs").values())

    def files(self, table: str = "") -> dict[str, FileRecord]:
        """Its files (of one table) by their paths or addresses."""
        wanted = f"{table}/" if table else ""
        return {f"{self.folder}/{f}": held for f, held in self.manifest.files.items() if f.startswith(wanted)}


@dataclass(frozen=True)
class Written:
    """What was written: no folder where nothing was new."""

    folder: Path | None
    runs: int
    files: int


@dataclass(frozen=True)
class Published:
    """What was read."""

    partitions: int
    bundles: int
    copies: int  #: of bundles that stand in several partitions


def write(results: Path, folder: Path, checked: Checked) -> Written:
    """Add what is new in `results` to the partitions in `folder`, as one partition that is there whole or not at all.

    Args:
        results: the folder of bundles, cards, confirmations, retractions and timings.
        folder: of partitions, one's own and others'; made where it is not there.
        checked: what `weighin check` said of these results.

    Raises UserError where the results are none, or `folder` holds a partition that cannot be read or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="weighin-partition-") as scratch:
            store.publish(results, Path(scratch) / "board.duckdb")
            with store.connect(Path(scratch) / "board.duckdb") as db:
                return _write(db, folder, checked)
    except OSError as e:
        raise UserError(f"cannot write to {folder}: {e.strerror}; make room or name another folder") from e


def _write(db: duckdb.DuckDBPyConnection, folder: Path, checked: Checked) -> Written:
    columns = _columns(db)
    db.execute("SET threads = 1")  # one file of each folder
    there = list(_find(db, [str(folder)])) if any(folder.glob(f"{KEY}*/{MANIFEST}")) else []
    _examine(db, there, columns)
    keys = {"runs": ("id",), **BESIDE}
    for table, key in keys.items():  # new: what has no row of the same key in a partition
        listed = ", ".join(key)
        known = _read(table, there)
        db.execute(
            f"CREATE TEMP TABLE new_{table} AS SELECT {listed} FROM {table}"
            + (f" EXCEPT SELECT {listed} FROM {known}" if known else "")
        )
    fresh = {table: db.execute(f"SELECT * FROM new_{table} ORDER BY ALL").fetchall() for table in keys}
    if not any(fresh.values()):
        return Written(None, 0, 0)
    version = metadata.version("weighin")
    # of what it holds and of what wrote it: equal names are equal partitions
    final = folder / f"{KEY}{digest([LAYOUT, version, fresh])[:16]}"
    with atomic(final) as scratch:
        scratch.mkdir()
        for table in ("runs", *OF_RUNS, *BESIDE):
            _copy(db, table, scratch, columns[table])
        files = {file.relative_to(scratch).as_posix(): bundle.describe(file) for file in sorted(scratch.rglob("*.parquet"))}
        manifest = Manifest(
            weighin=version,
            created=datetime.now(UTC).strftime(bundle.WHEN),
            checked=checked,
            files=files,
        )
        write_json(scratch / MANIFEST, manifest.model_dump(mode="json"))
    return Written(final, len(fresh["runs"]), len(files))


def _copy(db: duckdb.DuckDBPyConnection, table: str, folder: Path, columns: Mapping[str, str]) -> None:
    """New rows of a table as Parquet, in folders by task and tier where they belong to runs; no file where there are none."""
    listed, into = _listed(columns), folder / table
    if table in BESIDE:
        rows, how = f"SELECT {listed} FROM {table} SEMI JOIN new_{table} USING ({', '.join(BESIDE[table])})", ""
        target = into / "data.parquet"
    else:
        own = _listed((name for name in columns if table != "runs" or name not in HIVE), table)
        join = "" if table == "runs" else f"JOIN runs ON runs.id = {table}.run"
        rows = f"SELECT {own}, runs.task, runs.tier FROM {table} {join} SEMI JOIN new_runs ON runs.id = new_runs.id"
        how, target = f", PARTITION_BY ({', '.join(HIVE)})", into
    if db.execute(f"SELECT 1 FROM ({rows}) LIMIT 1").fetchone():
        if table in BESIDE:
            into.mkdir()
        # in one order, so that equal tables are equal files
        db.execute(f"COPY ({rows} ORDER BY ALL) TO {store.quoted(target)} (FORMAT parquet{how})")


def publish(sources: Sequence[str], out: Path, *, in_place: bool = False) -> Published:
    """Write the DuckDB file `out` from partitions; whole or not at all.

    Args:
        sources: folders that hold partitions at whatever depth, patterns of such folders, or ``s3://bucket/prefix``.
        out: the file; one that was there is replaced.
        in_place: make views over the partitions' files in place of tables.

    A bundle that stands in several partitions counts once.  Raises UserError where a partition is not what its
    ``partition.json`` says, where two tell different things of one bundle, or a source cannot be read.
    """
    store.ours(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic(out) as scratch, store.opened(scratch) as db:
            found = list(_find(db, sources))
            columns = _columns(db)
            _examine(db, found, columns)
            with _told(db, found):
                _origins(db, found, columns)
                for table in ("runs", *OF_RUNS, *BESIDE):
                    if rows := _selected(table, found, columns[table]):
                        _fill(db, table, rows, in_place)
            # a later publication from bundles takes no row of a partition for one of its own
            db.execute(f"COMMENT ON {'VIEW' if in_place and _read('runs', found) else 'TABLE'} runs IS 'from partitions'")
            store.hold(db)
            store.facts(db)
            db.execute((store.HERE / "views.sql").read_text(encoding="utf-8"))
            db.execute("CHECKPOINT")
            (bundles,) = db.execute("SELECT count(*) FROM origins").fetchone() or (0,)
    except OSError as e:
        raise UserError(f"cannot write {out}: {e.strerror}; make room or name another file") from e
    return Published(len(found), bundles, sum(p.runs for p in found) - bundles)


def _fill(db: duckdb.DuckDBPyConnection, table: str, rows: str, in_place: bool) -> None:
    if in_place:
        db.execute(f"DROP TABLE {table}")
        db.execute(f"CREATE VIEW {table} AS {rows}")
    else:
        db.execute(f"INSERT INTO {table} {rows}")


def _origins(db: duckdb.DuckDBPyConnection, found: Sequence[Partition], columns: Mapping[str, Mapping[str, str]]) -> None:
    """Say of each run which partition it is taken from; raises UserError where two tell different things of it."""
    db.executemany(
        "INSERT INTO partitions VALUES (?, ?, ?, ?, ?)",
        [[p.name, p.manifest.weighin, p.manifest.created, p.runs, p.manifest.checked.marks] for p in found],
    )
    runs = _read("runs", found)
    if not runs:
        return
    db.execute(
        f"INSERT INTO origins SELECT id, partition FROM {runs} QUALIFY row_number() OVER (PARTITION BY id ORDER BY path, partition) = 1"
    )
    (copies,) = db.execute(f"SELECT count(*) - (SELECT count(*) FROM origins) FROM {runs}").fetchone() or (0,)
    if not copies:
        return
    # an id is the digest of a bundle: what stands under it is the same everywhere, but for the folder it lies in
    said = _listed(name for name in columns["runs"] if name != "path")
    rows = f"SELECT id AS run, partition, hash({said}) AS said, 1 AS bundles FROM {runs}"
    if measures := _read("measures", found):
        rows += f" UNION ALL SELECT run, partition, hash({_listed(columns['measures'])}), 0 FROM {measures}"
    odd = db.execute(
        "SELECT run, list(partition ORDER BY partition) FROM"
        f" (SELECT run, partition, sum(said) AS said, sum(bundles) AS bundles FROM ({rows}) GROUP BY run, partition HAVING sum(bundles) > 0)"
        " GROUP BY run HAVING count(DISTINCT said) > 1 OR max(bundles) > 1 ORDER BY run LIMIT 1"
    ).fetchone()
    if odd:
        raise UserError(
            f"bundle {odd[0][:12]} is not the same in partitions {', '.join(odd[1])}; ask who wrote them, and leave one out"
        )


def _selected(table: str, found: Sequence[Partition], columns: Mapping[str, str]) -> str:
    """The rows of a table that count, as SQL; nothing where no partition has a file of it."""
    rows = _read(table, found)
    if not rows:
        return ""
    if table in BESIDE:
        key = ", ".join(BESIDE[table])
        return f"SELECT {_listed(columns)} FROM {rows} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY partition) = 1"
    run = "id" if table == "runs" else "run"
    taken = f"rows.{run} = origins.run AND rows.partition = origins.partition"
    return f"SELECT {_listed(columns, 'rows')} FROM {rows} AS rows SEMI JOIN origins ON {taken}"


def _read(table: str, found: Sequence[Partition]) -> str:
    """A table's files with their partition's name, as an SQL relation; nothing where there are none.

    Folders above a partition may be named ``a=b`` as well, so that each root is read by itself.
    """
    roots: dict[str, list[str]] = {}
    for partition in found:
        roots.setdefault(partition.root, []).extend(partition.files(table))
    keys = ("partition",) if table in BESIDE else ("partition", *HIVE)
    types = ", ".join(f"'{key}': VARCHAR" for key in keys)
    reads = [
        f"SELECT * FROM read_parquet([{', '.join(map(store.literal, files))}], hive_partitioning = true, hive_types = {{{types}}})"
        for files in roots.values()
        if files
    ]
    return f"({' UNION ALL BY NAME '.join(reads)})" if reads else ""


def _listed(columns: Iterable[str], table: str = "") -> str:
    return ", ".join(f'{table}."{name}"' if table else f'"{name}"' for name in columns)


def _columns(db: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Columns of each table, with their types."""
    rows = db.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'board' ORDER BY table_name, column_index"
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


def _find(db: duckdb.DuckDBPyConnection, sources: Sequence[str]) -> Iterator[Partition]:
    """The partitions of all sources, each once.  Raises UserError where there are none, or one cannot be read."""
    found: dict[str, Partition] = {}
    for source in sources:
        with _told(db, source=source):
            files = _stored(db, source) if "://" in source else _lying(source)
            texts = db.execute("SELECT filename, content FROM read_text(?)", [files]).fetchall() if files else []
        if not texts:
            raise UserError(f"{source}: no {KEY}…/{MANIFEST} there; name a folder of what `weighin publish --partitions` wrote")
        for file, text in sorted(texts):
            partition = _parsed(file, text)
            before = found.setdefault(partition.name, partition)
            if before.manifest.files != partition.manifest.files:
                raise UserError(f"{before.folder} and {partition.folder} are of one name and not the same; leave one out")
    yield from found.values()


def _lying(source: str) -> list[str]:
    """Manifests below a folder, or below those that a pattern matches; what is being written has a dot before its name."""
    folders = [source] if os.path.isdir(source) else glob.glob(source, recursive=True)
    paths = {path.resolve(): None for folder in folders for path in sorted(Path(folder).rglob(MANIFEST))}
    return [path.as_posix() for path in paths if path.parent.name.startswith(KEY)]


def _stored(db: duckdb.DuckDBPyConnection, source: str) -> list[str]:
    """Manifests below a prefix in object storage."""
    if not source.startswith("s3://"):
        raise UserError(f"{source}: write a folder, a pattern of folders, or s3://bucket/prefix")
    _reach(db)
    rows = db.execute("SELECT file FROM glob(?) ORDER BY file", [f"{source.rstrip('/')}/**/{MANIFEST}"]).fetchall()
    return [file for (file,) in rows]


def _reach(db: duckdb.DuckDBPyConnection) -> None:
    """Make DuckDB reach object storage: its extension takes AWS_* keys and region from the environment, and its own secrets."""
    import duckdb

    try:
        db.execute("LOAD httpfs")
    except duckdb.Error:
        try:
            db.execute(INSTALL)
            db.execute("LOAD httpfs")
        except duckdb.Error as e:
            raise UserError(
                f"DuckDB {duckdb.__version__} has no httpfs here and cannot download it ({_first(e)}); run"
                " `INSTALL httpfs` in this DuckDB once where there is a network, or copy the partitions into a folder"
            ) from e
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    if endpoint.netloc:  # another server than Amazon's, which has its buckets behind its name
        db.execute(f"SET s3_endpoint = {store.literal(endpoint.netloc)}")
        db.execute(f"SET s3_use_ssl = {endpoint.scheme != 'http'}")
        db.execute("SET s3_url_style = 'path'")


def _parsed(file: str, text: str) -> Partition:
    """A partition from its manifest; raises UserError that names file and field."""
    folder = file.removesuffix(f"/{MANIFEST}")
    root, _, name = folder.rpartition(f"/{KEY}")
    if not name or "/" in name:
        raise UserError(f"{file}: lies in no folder {KEY}<name>; name a folder of what `weighin publish --partitions` wrote")
    if taken := re.search(rf"(?:^|/)({'|'.join(('partition', *HIVE))})=", root):
        raise UserError(
            f"{root}: DuckDB takes a folder {taken[1]}=… above a partition for one within; move the partition elsewhere"
        )
    mend = "it is not as `weighin publish --partitions` wrote it"
    try:
        layout = json.loads(text).get("layout")
        if isinstance(layout, int) and layout > LAYOUT:
            raise UserError(f"{file}: layout {layout} is newer than this weighin, which reads {LAYOUT}; install a newer one")
        return Partition(root, name, Manifest.model_validate_json(text))
    except ValidationError as e:
        first = e.errors()[0]
        raise UserError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}; {mend}") from e
    except (ValueError, AttributeError) as e:
        raise UserError(f"{file}: no JSON object ({e}); {mend}") from e


def _examine(db: duckdb.DuckDBPyConnection, found: Sequence[Partition], columns: Mapping[str, Mapping[str, str]]) -> None:
    """Hold all files, by their footers and their bytes, to what their partitions say of them; raises UserError at the first that differs."""
    held = {file: h for partition in found for file, h in partition.files().items()}
    if not held:
        return
    with _told(db, found):
        sizes = db.execute("SELECT file_name, num_rows, file_size_bytes FROM parquet_file_metadata(?)", [list(held)]).fetchall()
        for file, rows, size in sorted(sizes):
            if (rows, size) != (held[file].rows, held[file].bytes):
                told = f"{held[file].rows} rows in {held[file].bytes} bytes"
                raise UserError(f"{file}: {rows} rows in {size} bytes where {MANIFEST} says {told}; copy the partition again")
        for file, h in held.items():  # one after the other: each is held in memory whole
            (digest,) = db.execute("SELECT sha256(content) FROM read_blob(?)", [[file]]).fetchone() or ("",)
            if digest != h.sha256:
                raise UserError(f"{file}: its bytes are not those that {MANIFEST} says; copy the partition again")
        for table in ("runs", *OF_RUNS, *BESIDE):
            wanted = {n: kind for n, kind in columns[table].items() if table != "runs" or n not in HIVE}
            for file in _kinds(db, [file for partition in found for file in partition.files(table)]):
                seen = db.execute("DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [[file]]).fetchall()
                _same(file, wanted, {name: kind for name, kind, *_ in seen})


def _kinds(db: duckdb.DuckDBPyConnection, files: Sequence[str]) -> list[str]:
    """One file of each kind of columns."""
    if not files:
        return []
    rows = db.execute(
        "SELECT min(file_name) FROM (SELECT file_name, list_sort(list(concat_ws(' ', name, type, converted_type, logical_type))) AS kind"
        " FROM parquet_schema(?) GROUP BY file_name) GROUP BY kind ORDER BY ALL",
        [list(files)],
    ).fetchall()
    return [file for (file,) in rows]


def _same(file: str, wanted: Mapping[str, str], seen: Mapping[str, str]) -> None:
    """Raises UserError where a file's columns are not the table's."""
    for name in sorted({*wanted, *seen}):
        if wanted.get(name) != seen.get(name):
            told = "is missing" if name in wanted else "is none of the table's"
            if name in wanted and name in seen:
                told = f"is {seen[name]} where {wanted[name]} is wanted"
            raise UserError(f"{file}: column {name} {told}; write it again by this version of weighin, from the bundles")


@contextlib.contextmanager
def _told(db: duckdb.DuckDBPyConnection, found: Sequence[Partition] = (), source: str = "") -> Iterator[None]:
    """What DuckDB could not read becomes one line that names the file or the source."""
    import duckdb

    try:
        yield
    except duckdb.Error as e:
        passing = source or next((p.folder for p in found if "://" in p.root), "")
        file, why = _culprit(db, found) or (passing, e)
        if not file:  # not of the partitions
            raise
        raise UserError(f"{file}: cannot be read ({_first(why)}); {_mend(why, remote='://' in file)}") from e


def _culprit(db: duckdb.DuckDBPyConnection, found: Sequence[Partition]) -> tuple[str, Exception] | None:
    """The first file that cannot be read, and why; asked only after DuckDB refused them together."""
    import duckdb

    for file in (file for partition in found for file in partition.files()):
        try:
            db.execute("SELECT max(hash(rows)) FROM read_parquet(?) AS rows", [[file]]).fetchall()
        except duckdb.Error as e:
            return file, e
    return None


def _mend(why: Exception, *, remote: bool) -> str:
    """What to do about a file or a source that cannot be read."""
    import duckdb

    status = getattr(why, "status_code", 0)  #: of an answer, where one came
    if remote and "NoSuchBucket" in str(why):
        return "there is no such bucket: look at its name, and at AWS_ENDPOINT_URL"
    if remote and status in (400, 401, 403):
        return "give AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or a secret of DuckDB's, that may read it"
    if remote and isinstance(why, duckdb.IOException) and not status:
        return "look at the network, and at AWS_ENDPOINT_URL"
    return "copy the partition again, whole"


def _first(e: Exception) -> str:
    """The first line of what DuckDB says."""
    return str(e).strip().splitlines()[0]
