"""Bundles into DuckDB: only new ones are read, the file is replaced whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite import bundle, confirming, pictures, registry, timings, versions
from suite.board import charts, clouds, crossed
from suite.checks import untrusted
from suite.files import atomic
from suite.naming import UserError
from suite.processors import cores

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from suite.protocol import Table, Task
    from suite.show import Crossed, Curve, Scatter

HERE = Path(__file__).resolve().parent
STORAGE = "v1.4.0"  #: what DuckDB in a browser can open; 2.0's own default it refuses
LONGEST = 16_000_000  #: bytes of one run.json
BATCH = 10_000  #: bundles that are read at once: a copy of their run.json lies in memory and in the folder for temporary files
MOST_POINTS = 400  #: of one run's curve
MAGIC, MAGIC_AT = b"DUCK", 8  #: what a DuckDB file has, and where
SUFFIXES = (".duckdb", ".db")  #: of databases that are made anew where they are torn
#: the columns of our table (or view) of runs, or, where there is none, whatever other table a file has
OURS = (
    "SELECT column_name FROM duckdb_columns() WHERE database_name = 'board' AND table_name ="
    " (SELECT table_name FROM duckdb_columns() WHERE database_name = 'board' ORDER BY table_name <> 'runs', table_name LIMIT 1)"
)
FOREIGN = (b"SQLite format 3\0",)  #: how other databases of such names begin

MEASURE = (
    "STRUCT(name VARCHAR, part VARCHAR, value DOUBLE, unit VARCHAR, direction VARCHAR, low DOUBLE, high DOUBLE,"
    " source VARCHAR, warnings VARCHAR[])"
)
COLUMNS = {
    "path": "VARCHAR",
    "id": "VARCHAR",
    "key": "VARCHAR",
    "status": "VARCHAR",
    "reason": "VARCHAR",
    "created": "TIMESTAMP",
    "spec": 'STRUCT(task VARCHAR, version INTEGER, tier VARCHAR, division VARCHAR, "case" VARCHAR, target VARCHAR, seed BIGINT, device VARCHAR)',
    "method": "STRUCT(name VARCHAR, origin VARCHAR, version VARCHAR, configuration JSON, variant VARCHAR, seedless BOOLEAN)",
    "source": 'STRUCT("commit" VARCHAR, dirty BOOLEAN, task_digest VARCHAR)',
    "systems": "STRUCT(solve VARCHAR, weigh VARCHAR)",
    "submitter": "VARCHAR",
    "notes": "VARCHAR[]",
    "unsupported": "JSON",
    "libraries": "JSON",
    "processes": "INTEGER",
    "measures": f"{MEASURE}[]",
    "curve": "STRUCT(examples BIGINT, seconds DOUBLE, name VARCHAR, value DOUBLE)[]",
    "pictures": "JSON",
}


@dataclass(frozen=True)
class Published:
    """What a publication did."""

    bundles: int
    new: int
    removed: int


def publish(results: Path, out: Path) -> Published:
    """Bring the DuckDB file `out` up to the bundles under `results`; whole or not at all.

    New run.json files are joined into one NDJSON, which DuckDB reads with its columns given: 20,000
    bundles take a few seconds (tests/benchmarks/test_publish.py).
    """
    import duckdb

    ours(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic(out) as scratch:
            if out.exists():
                shutil.copyfile(out, scratch)
            try:
                db = opened(scratch)
            except duckdb.Error:  # torn, or not DuckDB's: it is derived, make it anew
                scratch.unlink(missing_ok=True)
                try:
                    db = opened(scratch)
                except duckdb.Error as e:
                    raise UserError(f"cannot write {out}: {str(e).splitlines()[0]}; name another file") from e
            with db:
                known = {row[0] for row in db.execute("SELECT path FROM runs").fetchall()}
                there = set(bundle.paths(results, known))
                gone = known - there
                _remove(db, gone)
                new = sorted(there - known)
                for batch in batched(new, BATCH):
                    _load(db, results, batch)
                _timings(db, results)
                hold(db, "runs WHERE path IN (SELECT unnest(?))", [new])
                facts(db)
                _beside(db, results)
                db.execute((HERE / "views.sql").read_text(encoding="utf-8"))
                _pictures(db, results)
                db.execute("CHECKPOINT")
    except OSError as e:
        raise UserError(f"cannot write {out}: {e.strerror}; make room or name another file") from e
    return Published(len(there), len(new), len(gone))


#: columns of runs that pages are named by, and where the bundle's schema says what may stand there
NAMED: Mapping[str, tuple[type[bundle.Record], str]] = {
    **{name: (bundle.SpecRecord, name) for name in ("task", "tier", "division", "case", "target", "device")},
    **{
        "method": (bundle.MethodRecord, "name"),
        "origin": (bundle.MethodRecord, "origin"),
        "method_version": (bundle.MethodRecord, "version"),
    },
    **{"id": (bundle.RunRecord, "id"), "key": (bundle.RunRecord, "key"), "status": (bundle.RunRecord, "status")},
}
FASTEST = 1e9  #: a speed-up beyond it is none


def hold(db: duckdb.DuckDBPyConnection, runs: str = "runs", values: Sequence[Any] = ()) -> None:
    """Raises UserError at the first run with a name or a number that no bundle has: pages are made of them, whoever checked them.

    Args:
        runs: which, as what follows FROM.
    """
    for column, (record, name) in NAMED.items():
        rule = record.model_json_schema()["properties"][name]
        allowed = rule.get("pattern") or f"^({'|'.join(rule['enum'])})$"
        odd = f'NOT coalesce(regexp_full_match("{column}", {literal(allowed.removeprefix("^").removesuffix("$"))}), false)'
        if rule.get("maxLength"):
            odd += f' OR length("{column}") > {rule["maxLength"]}'
        _refuse(db, f'SELECT path, "{column}" FROM (SELECT * FROM {runs}) WHERE {odd} ORDER BY path LIMIT 1', values, column)
    parts = f"SELECT path, target, unnest(string_split(target, ',')) AS part FROM (SELECT * FROM {runs}) WHERE target <> ''"
    number = "coalesce(try_cast(split_part(part, '=', 2) AS DOUBLE), 0)"
    _refuse(
        db,
        f"SELECT path, target FROM ({parts}) WHERE NOT ({number} > 0 AND isfinite({number})) ORDER BY path LIMIT 1",
        values,
        "target",
    )
    odd = f"NOT coalesce(isfinite(value), false) OR NOT isfinite(coalesce(low, 0)) OR NOT isfinite(coalesce(high, 0)) OR (name = 'speedup' AND NOT (value > 0 AND value < {FASTEST}))"
    _refuse(
        db,
        f"SELECT path, concat_ws(' ', name, part, value::VARCHAR) FROM (SELECT * FROM measures WHERE {odd}) AS m"
        f" JOIN (SELECT id, path FROM {runs}) AS r ON r.id = m.run ORDER BY ALL LIMIT 1",
        values,
        "measures",
    )
    _refuse(
        db,
        "SELECT path, concat_ws(' ', name, part, value::VARCHAR)"
        f" FROM (SELECT path, unnest(measures, max_depth := 2) FROM timings) AS m WHERE {odd} ORDER BY ALL LIMIT 1",
        (),
        "measures",
    )


def _refuse(db: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any], field: str) -> None:
    found = db.execute(query, list(values)).fetchone()
    if found is not None:
        path, value = found
        raise UserError(f"{path}: {field} {str(value)[:80]!r} is nothing that a bundle holds; run `weighin check` on the results")


def ours(out: Path) -> None:
    """Raises UserError where a file stands that no publication made: it would be written over.

    A torn database has lost what tells it, and is known by its name.
    """
    mend = "name another file, such as build/weighin.duckdb"
    try:
        if not out.exists():
            return
        if not out.is_file():
            raise UserError(f"{out} is no file; {mend}")
        with out.open("rb") as f:
            head = f.read(len(FOREIGN[0]))
    except OSError as e:
        raise UserError(f"cannot read {out}: {e.strerror}; {mend}") from e
    torn = out.suffix in SUFFIXES and not head.startswith(FOREIGN)
    if head and head[MAGIC_AT : MAGIC_AT + len(MAGIC)] != MAGIC and not torn:
        raise UserError(f"{out} is no DuckDB file, and stays as it is; {mend}")
    columns = _columns(out) if head else set()
    if columns and not {"id", "path"} <= columns:
        raise UserError(f"{out} holds somebody's own tables, and stays as it is; {mend}")


def _columns(file: Path) -> set[str]:
    """The columns of our table of runs, or of another table where there is none; none of a torn file."""
    import duckdb

    try:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH {quoted(file)} AS board (READ_ONLY)")  # of whatever version it is
            return {row[0] for row in connection.execute(OURS).fetchall()}
    except duckdb.Error:
        return set()


@contextmanager
def of_bundles(results: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of a folder of bundles for as long as it is asked."""
    with tempfile.TemporaryDirectory(prefix="weighin-asked-") as folder:
        db = Path(folder) / "asked.duckdb"
        publish(results, db)
        with connect(db) as connection:
            yield connection


def connect(db: Path) -> duckdb.DuckDBPyConnection:
    """A published file, read only."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"ATTACH {quoted(db)} AS board (READ_ONLY)")
    connection.execute("USE board")
    return connection


def file_of(connection: duckdb.DuckDBPyConnection) -> Path:
    """The file that a connection reads."""
    row = connection.execute("SELECT path FROM duckdb_databases() WHERE database_name = 'board'").fetchone()
    assert row is not None
    return Path(row[0])


def quoted(path: Path) -> str:
    """A path as an SQL literal: ATTACH takes no parameters."""
    return literal(path.as_posix())


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def opened(path: Path) -> duckdb.DuckDBPyConnection:
    """A database of today's tables; one of other tables is emptied, as all of it is derived."""
    import duckdb

    schema = (HERE / "schema.sql").read_text(encoding="utf-8")
    written = hashlib.sha256(schema.encode()).hexdigest()
    connection = duckdb.connect()
    attach = f"ATTACH {quoted(path)} AS board (STORAGE_VERSION '{STORAGE}')"
    connection.execute(attach)
    found = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE database_name = 'board' AND table_name = 'runs'"
        " UNION ALL SELECT comment FROM duckdb_views() WHERE database_name = 'board' AND view_name = 'runs'"
    ).fetchone()
    if found is not None and found[0] != written:
        connection.execute("DETACH board")
        path.unlink()
        connection.execute(attach)
    connection.execute("USE board")
    connection.execute(schema)
    connection.execute(f"COMMENT ON TABLE runs IS '{written}'")
    return connection


def batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Slices of `size` items, the last one shorter."""
    yield from (items[i : i + size] for i in range(0, len(items), size))


def _load(db: duckdb.DuckDBPyConnection, results: Path, paths: Sequence[str]) -> None:
    import duckdb

    with tempfile.TemporaryDirectory(prefix="weighin-publish-") as folder:
        joined = Path(folder) / "runs.ndjson"
        with joined.open("wb") as f:
            f.writelines(_lines(results, paths))
        if joined.stat().st_size == 0:
            return
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
        try:
            db.execute(
                f"CREATE TEMP TABLE incoming AS SELECT * FROM read_json({quoted(joined)}, columns={{{columns}}},"
                f" format='newline_delimited', maximum_object_size={LONGEST})"
                " QUALIFY row_number() OVER (PARTITION BY id ORDER BY path) = 1"
            )
        except duckdb.Error as e:
            raise UserError(f"{_culprit(results, paths) or results}: not a bundle; run `weighin check` on the results") from e
    # a bundle copied to a second folder is still one bundle
    db.execute("DELETE FROM incoming WHERE id IN (SELECT id FROM runs)")
    db.execute(
        "INSERT INTO runs SELECT id, key, path, status, reason, created, spec.task, spec.version, spec.tier, spec.division,"
        ' spec."case", spec.target, spec.seed, spec.device, method.name, method.variant, method.origin, method.version,'
        ' method.seedless, systems.solve, systems.weigh, source."commit", source.dirty, source.task_digest, submitter, notes, unsupported,'
        " method.configuration, libraries, coalesce(processes, 1), json_keys(pictures) FROM incoming"
    )
    db.execute("INSERT INTO measures SELECT id, unnest(measures, max_depth := 2) FROM incoming")
    shown = list(_shown(db))
    _histories(db, shown)
    _drawn(db, results, shown)
    db.execute("DROP TABLE incoming")


@dataclass(frozen=True)
class _Shown:
    """An incoming run that the board shows something of beside its measures."""

    id: str
    path: str
    task: Task[Any, Any]
    method: str
    variant: str
    seed: int
    measures: Sequence[str]  #: ``name`` or ``name:part``


def _drawn(db: duckdb.DuckDBPyConnection, results: Path, shown: Sequence[_Shown]) -> None:
    """What pages draw of incoming runs' evidence, of those tasks that declare it: derived from it, as their numbers are."""
    import pyarrow as pa
    from threadpoolctl import threadpool_limits

    # small files: several are read at once, and none of them is worth a linear algebra of several threads
    with threadpool_limits(1), ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(partial(_of_evidence, results), shown))
    for table, where in (("series", "isfinite(place) AND isfinite(value)"), ("hits", "true"), ("clouds", "true")):
        if parts := [part for one in found for part in one.get(table, ())]:
            db.register("added", pa.concat_tables(parts))
            db.execute(f"INSERT INTO {table} SELECT * FROM added WHERE {where}")
            db.unregister("added")


def _of_evidence(results: Path, run: _Shown) -> dict[str, list[pa.Table]]:
    """Rows for tables, of one run; raises UserError where its evidence does not give them."""
    show, file = run.task.show, results / run.path / bundle.EVIDENCE
    names = sorted(crossed.wanted(show.crossed, run.method, run.variant).intersection(run.measures))
    scatter = show.scatter if not run.seed else None
    if not (show.curve or names or scatter) or not file.is_file():
        return {}
    wanted: dict[str, tuple[str, Callable[[Table], list[pa.Table]]]] = {}  # by table, what is drawn
    if curve := show.curve:
        wanted["series"] = "curve", lambda table: [_series(run.id, curve, table)]
    if (crosses := show.crossed) and names:
        wanted["hits"] = "hits", lambda table: [_hits(run.id, crosses, name, table) for name in names]
    if scatter:
        wanted["clouds"] = "points", lambda table: [_clouds(run.id, scatter, table)]
    what = next(iter(wanted.values()))[0]
    try:
        evidence, found = bundle.read_table(file), {}
        for table in wanted:
            what, of = wanted[table]
            found[table] = of(evidence)
        return found
    except (OSError, KeyError, ValueError) as e:  # pyarrow's errors are among these
        raise UserError(f"{results / run.path}: no {what} of its evidence ({e}); run `weighin check` on the results") from e


def _series(run: str, curve: Curve, evidence: Table) -> pa.Table:
    """A curve along the evidence."""
    import numpy as np
    import pyarrow as pa

    at, value = evidence[curve.along].astype(np.float64), np.asarray(curve.of(evidence), np.float64)
    kept = charts.thinned(len(at), MOST_POINTS)
    return pa.table({"run": [run] * len(at[kept]), "place": at[kept], "value": value[kept]})


def _hits(run: str, declared: Crossed, name: str, evidence: Table) -> pa.Table:
    """Right answers by picture, for a measure of the gaps."""
    import pyarrow as pa

    h = crossed.by_picture(evidence, declared, name)
    return pa.table(
        {"run": [run] * len(h.hits), "measure": [name] * len(h.hits), "picture": h.picture, "copies": h.copies, "hits": h.hits}
    )


def _clouds(run: str, scatter: Scatter, evidence: Table) -> pa.Table:
    """Finite points in a plane."""
    import pyarrow as pa

    points = clouds.read(scatter, evidence)
    return pa.table({"run": [run] * len(points["x"]), **points})


def _histories(db: duckdb.DuckDBPyConnection, shown: Sequence[_Shown]) -> None:
    """What incoming runs told on their way of the values that their task shows."""
    wanted = [(run.id, run.task.show.history.curve) for run in shown if run.task.show.history]
    for run in shown:
        if declared := run.task.show.composition:
            wanted += [(run.id, f"{declared.prefix}{part}") for part in declared.parts]
    if wanted:
        db.execute(
            "INSERT INTO histories SELECT run, told.name, row_number() OVER (PARTITION BY run, told.name ORDER BY place),"
            " told.examples, told.seconds, told.value, ended FROM (SELECT unnest(?) AS run, unnest(?) AS name) AS wanted"
            " JOIN (SELECT id AS run, unnest(curve) AS told, generate_subscripts(curve, 1) AS place,"
            " list_max(list_transform(curve, lambda p: p.examples)) AS ended FROM incoming) USING (run)"
            " WHERE told.name = wanted.name",
            [list(column) for column in zip(*wanted, strict=True)],
        )


def _pictures(db: duckdb.DuckDBPyConnection, results: Path) -> None:
    """Pictures of the runs that pages show them of, each looked at before it is put there: of a row's seeds the first has them.

    Which these are moves with every publication: an earlier seed, a run taken back.  What was shown once stays.
    """
    import pyarrow as pa

    tasks = {name: registry.task(name) for name in registry.tasks()}
    found: dict[str, list[Any]] = {name: [] for name in ("run", "name", "width", "height", "webp")}
    rows = db.execute(
        'SELECT id, path, task, version, "case", pictured FROM runs SEMI JOIN (SELECT id FROM counted WHERE len(pictured) > 0'
        " AND division <> 'speed' QUALIFY row_number() OVER (PARTITION BY task, version, tier, division, \"case\", target, method, variant"
        " ORDER BY seed) = 1) AS first USING (id) WHERE id NOT IN (SELECT run FROM pictures) ORDER BY path"
    ).fetchall()
    for run, path, name, version, case, names in rows:
        if name not in tasks or tasks[name].version != version:
            continue
        gallery = tasks[name].of(case).show.gallery
        for file in (results / path / n for n in names if gallery is not None and pictures.NAME.fullmatch(n)):
            assert gallery is not None
            try:
                data = file.read_bytes()
                height, width, _ = pictures.decode(data, gallery.size).shape
            except (OSError, ValueError) as e:
                raise UserError(f"{file}: no picture ({e}); run `weighin check` on the results") from e
            for column, value in zip(found.values(), (run, file.stem, width, height, data), strict=True):
                column.append(value)
    if found["run"]:
        db.register("added", pa.table(found))
        db.execute("INSERT INTO pictures SELECT * FROM added")
        db.unregister("added")


def _shown(db: duckdb.DuckDBPyConnection) -> Iterator[_Shown]:
    """Incoming runs that the board shows, of tasks in their present version."""
    tasks = {name: registry.task(name) for name in registry.tasks()}
    rows = db.execute(
        'SELECT id, path, spec.task, spec.version, spec."case", method.name, method.variant, spec.seed,'
        " list_transform(measures, lambda m: concat_ws(':', m.name, nullif(m.part, ''))) FROM incoming"
        " WHERE status = 'ok' AND spec.tier <> 'smoke' AND spec.division <> 'speed' ORDER BY path"
    ).fetchall()
    for run, path, name, version, case, method, variant, seed, measures in rows:
        if name in tasks and tasks[name].version == version:
            yield _Shown(run, path, tasks[name].of(case), method, variant or "", seed, measures or ())


def _culprit(results: Path, paths: Iterable[str]) -> Path | None:
    """The first file that the schema refuses; asked only after DuckDB refused all of them together."""
    for path in paths:
        try:
            bundle.read(results / path)
        except UserError:
            return results / path / bundle.RUN
    return None


def _lines(results: Path, paths: Iterable[str]) -> Iterator[bytes]:
    """One line a bundle, its path in front; a run.json is one JSON object over several lines."""
    for path in paths:
        with open(os.path.join(results, path, bundle.RUN), "rb") as file:
            text = file.read()
        # newlines inside strings are escaped in JSON, so all others are layout
        body = text.replace(b"\n", b"").strip()
        yield b'{"path": ' + json.dumps(path).encode() + b", " + body[1:] + b"\n"


def _remove(db: duckdb.DuckDBPyConnection, paths: Iterable[str]) -> None:
    gone = list(paths)
    for table in ("measures", "series", "histories", "hits", "clouds", "pictures"):
        db.execute(f"DELETE FROM {table} WHERE run IN (SELECT id FROM runs WHERE path IN (SELECT unnest(?)))", [gone])
    db.execute("DELETE FROM runs WHERE path IN (SELECT unnest(?))", [gone])


def facts(db: duckdb.DuckDBPyConnection) -> None:
    """Small tables from the code, simply written again: parents of tasks, archived versions, sources."""
    db.execute("CREATE OR REPLACE TABLE parents (task VARCHAR, method VARCHAR)")
    for name in registry.tasks():
        db.execute("INSERT INTO parents VALUES (?, ?)", [name, registry.task(name).parent_method])
    # sources of versions below the stated one: their rows stay in the file and off the board
    db.execute("CREATE OR REPLACE TABLE archived (task VARCHAR, method VARCHAR, digest VARCHAR)")
    for row in versions.archived():
        db.execute("INSERT INTO archived VALUES (?, ?, ?)", row)
    db.execute("CREATE OR REPLACE TABLE sources (task VARCHAR, method VARCHAR, digest VARCHAR)")
    for row in versions.sources():
        db.execute("INSERT INTO sources VALUES (?, ?, ?)", row)


def _beside(db: duckdb.DuckDBPyConnection, results: Path) -> None:
    """Small tables from the files beside the bundles, simply written again: confirmations, retractions, system cards."""
    db.execute("DELETE FROM confirmations")
    for told in confirming.read_all(results):
        db.execute(
            "INSERT INTO confirmations VALUES (?, ?, ?, ?, ?)", [told.run, told.card, told.submitter, told.evidence, told.agrees]
        )
    db.execute("DELETE FROM retractions")
    for file in sorted((results / "retractions").glob("*.json")):
        entry = _json(file)
        if not entry.get("id") or not entry.get("reason"):
            raise UserError(f"{file}: a retraction is a JSON object with the bundle's id and a reason; add what is missing")
        taken = [str(entry["id"]), str(entry["reason"]), str(entry.get("date", ""))]
        db.execute("INSERT OR REPLACE INTO retractions VALUES (?, ?, try_cast(? AS DATE))", taken)
    known = {row[0] for row in db.execute("SELECT hash FROM cards").fetchall()}
    files = {file.stem: file for file in (results / "systems").glob("*.json")}
    db.execute("DELETE FROM cards WHERE hash NOT IN (SELECT unnest(?))", [list(files)])
    # a card's name is its content's hash
    cards = [(name, json.dumps(_json(file))) for name, file in sorted(files.items()) if name not in known]
    db.execute("INSERT INTO cards SELECT unnest(?), unnest(?)", [[c[0] for c in cards], [c[1] for c in cards]])


def _timings(db: duckdb.DuckDBPyConnection, results: Path) -> None:
    """Timings of shapes: new ones are read, and those that are gone go."""
    there = {path.relative_to(results).as_posix() for path in timings.find(results / timings.FOLDER)}
    known = {row[0] for row in db.execute("SELECT path FROM timings").fetchall()}
    db.execute("DELETE FROM timings WHERE path IN (SELECT unnest(?))", [sorted(known - there)])
    for path in sorted(there - known):
        t = timings.read(results / path)
        told = [t.id, t.row.id, path, t.created, t.device, t.card, t.origin, t.source.commit, t.source.dirty, t.submitter]
        values = [*told, t.notes, json.dumps(t.unsupported), [m.model_dump() for m in t.measures]]
        db.execute(f"INSERT OR IGNORE INTO timings VALUES ({', '.join('?' * len(values))})", values)


DEEPEST = 16  #: levels of lists and objects in a file beside bundles; a card has four


def _json(file: Path) -> dict[str, object]:
    try:
        text = file.read_text(encoding="utf-8")
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a character can be escaped in JSON, and written on no page
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{file}: no JSON ({e}); run `weighin check` on the results") from e
    if untrusted.depth(text.encode()) >= DEEPEST:  # what stands innermost is a level of its own
        raise UserError(f"{file}: nested more than {DEEPEST} levels deep, which no file beside bundles is")
    if not isinstance(value, dict):
        raise UserError(f"{file}: not a JSON object; run `weighin check` on the results")
    return value
