"""The submission checker: derives every number again and refuses what does not hold.

Needs neither data nor torch, and never unpickles or runs anything.  Figures of source `evidence` and
`timing` are recomputed from the stored files; figures of source `meter` (memory, energy, operations,
seconds) can only be held to bounds and cross-sums: once a submitter recomputes the hash, no checker can
see that such a figure was changed, so the board shows their source and `weighin replay` confirms them.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from suite import bundle, registry, system
from suite.meters import timing
from suite.naming import UserError
from suite.protocol import Measure, Spec, Task

RUN_BYTES, TIMING_BYTES = 1_000_000, 1_000_000
PAPER_BYTES = 8_000_000
EXPANSION = 64_000_000  #: uncompressed bytes of a Parquet file: 50,000 rows in three modes take 2 MB
MOST_ROWS, MOST_COLUMNS, MOST_DEPTH, MOST_FINDINGS = 5_000_000, 64, 12, 20
ALLOWED = (bundle.RUN, bundle.EVIDENCE, bundle.TIMING)
CLOSE = 1e-9
FASTEST = 1e7  #: examples a second that no trainer reaches
OFF_TARGET = 1.5  #: kept.* beyond this is no share


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold: where, what, and what to do."""

    bundle: str
    file: str
    field: str
    level: Literal["error", "mark"]
    message: str
    mend: str

    def line(self) -> str:
        return f"{self.level}: {self.bundle}/{self.file}: {self.field}: {self.message}; {self.mend}"

    def to_json(self) -> dict[str, str]:
        return asdict(self)


class Refused(Exception):
    """Raised inside a check to end it with one finding."""

    def __init__(self, file: str, field: str, message: str, mend: str = "run it again and submit what the runner wrote") -> None:
        super().__init__(message)
        self.finding = (file, field, message, mend)


def check(paths: Sequence[Path], *, against: Path | None = None) -> list[Finding]:
    """Check bundles, or all bundles under folders; duplicates are looked for among them and under `against`."""
    findings: list[Finding] = []
    seen = _Seen()
    if against is not None:
        for path in bundle.find(against):
            try:
                seen.add(bundle.read(path), str(path))
            except UserError:
                continue  # it is not what is being checked
    for root in paths:
        for path in _bundles(root):
            found = list(_check_one(path, root, against, seen))
            findings += found[:MOST_FINDINGS]
        if root.is_dir():
            findings += _strays(root)
    return findings


def _bundles(root: Path) -> Iterator[Path]:
    if root.is_dir() and not (root / bundle.RUN).exists() and any(True for _ in bundle.find(root)):
        yield from bundle.find(root)
    else:
        yield root


def _strays(root: Path) -> list[Finding]:
    """Links in a results tree: `find` does not follow them, but they may not be there at all."""
    out = []
    for base, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".")]
        if bundle.RUN in files:
            continue
        links = [name for name in [*folders, *files] if (Path(base) / name).is_symlink()]
        out += [Finding(base, name, "file", "error", "a symbolic link", "put the file itself there") for name in links]
    return out


def _check_one(path: Path, root: Path, against: Path | None, seen: _Seen) -> Iterator[Finding]:
    where = str(path)
    try:
        _files(path)
        raw = _parse(path)
        record = _record(path, raw)
        _hashes(path, raw, record)
        yield from _place(where, path, root, record)
        yield from _meaning(where, path, root, against, record, seen)
    except Refused as e:
        file, field, message, mend = e.finding
        yield Finding(where, file, field, "error", message, mend)


def _files(path: Path) -> None:
    """Only plain files of known names and sizes, nothing that leads elsewhere."""
    if path.is_symlink():
        raise Refused(".", "folder", "the bundle's folder is a symbolic link", "put the folder itself there")
    if not path.is_dir():
        raise Refused(".", "folder", "not a bundle's folder", f"a bundle is a folder with {bundle.RUN} in it")
    for entry in sorted(os.scandir(path), key=lambda e: e.name):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise Refused(entry.name, "file", "a symbolic link", "put the file itself there")
        if not stat.S_ISREG(mode) or entry.name not in ALLOWED:
            raise Refused(
                _printable(entry.name),
                "file",
                "does not belong into a bundle",
                f"a bundle holds {', '.join(ALLOWED)} and nothing else",
            )
    if not (path / bundle.RUN).is_file():
        raise Refused(bundle.RUN, "file", "is missing", f"a bundle is a folder with {bundle.RUN} in it")
    if (path / bundle.RUN).stat().st_size > RUN_BYTES:
        raise Refused(bundle.RUN, "size", f"over {RUN_BYTES:,} bytes", "submit the file that the runner wrote")


def _parse(path: Path) -> dict[str, Any]:
    """JSON without repeated keys, NaN, or nesting that exhausts a parser."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in items}) != len(items):
            raise Refused(bundle.RUN, "keys", "a key stands twice in one object")
        return dict(items)

    def constant(name: str) -> Any:
        raise Refused(bundle.RUN, "numbers", f"{name} is no number that JSON knows")

    data = (path / bundle.RUN).read_bytes()
    if _depth(data) > MOST_DEPTH:
        raise Refused(bundle.RUN, "nesting", f"deeper than {MOST_DEPTH} levels")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as e:
        raise Refused(bundle.RUN, "JSON", f"cannot be parsed: {str(e)[:120]}") from e
    if not isinstance(value, dict):
        raise Refused(bundle.RUN, "JSON", "is not an object")
    return value


def _depth(data: bytes) -> int:
    """Deepest nesting of brackets outside strings: cheap, and safe on hostile input."""
    depth = most = 0
    inside = escaped = False
    for byte in data:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
            most = max(most, depth)
            if most > MOST_DEPTH:
                return most
        elif byte in b"]}":
            depth -= 1
    return most


def _record(path: Path, raw: Mapping[str, Any]) -> bundle.RunRecord:
    from pydantic import ValidationError

    version = raw.get("schema_version")
    if isinstance(version, int) and version > bundle.SCHEMA:
        raise Refused(bundle.RUN, "schema_version", f"{version} is newer than this weighin knows", "update weighin")
    try:
        return bundle.RunRecord.model_validate_json(json.dumps(raw), strict=False)
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(x) for x in first["loc"])
        raise Refused(bundle.RUN, _printable(field), f"{first['msg'][:200]}") from e


def _hashes(path: Path, raw: Mapping[str, Any], record: bundle.RunRecord) -> None:
    """The id covers the record, the record covers the files."""
    try:
        expected = bundle.identity(raw)
    except ValueError as e:
        raise Refused(bundle.RUN, "numbers", str(e)) from e
    if record.id != expected:
        raise Refused(bundle.RUN, "id", f"is {record.id[:12]}, the content hashes to {expected[:12]}: something was changed")
    stored = {n for n in ALLOWED[1:] if (path / n).exists()}
    if stored != set(record.files):
        odd = sorted(stored ^ set(record.files))
        raise Refused(odd[0], "file", "named in run.json and absent, or there and not named")
    for name, entry in record.files.items():
        file = path / name
        limit = TIMING_BYTES if name == bundle.TIMING else PAPER_BYTES
        if file.stat().st_size > limit:
            raise Refused(name, "size", f"{file.stat().st_size:,} bytes, over the {limit:,} allowed")
        if file.stat().st_size != entry.bytes or bundle.sha256(file) != entry.sha256:
            raise Refused(name, "sha256", "the file is not the one that run.json describes")


def _place(where: str, path: Path, root: Path, record: bundle.RunRecord) -> Iterator[Finding]:
    """Within a results tree, the folders say what the record says."""
    expected = bundle.folder(Path(), record).parts
    if path.resolve() == root.resolve():
        expected = expected[-1:]  # a single bundle, wherever it lies
    parts = path.resolve().parts[-len(expected) :]
    if parts != expected and not path.name.startswith("."):
        yield Finding(where, ".", "folder", "error", f"lies at {'/'.join(parts)}", f"its place is {'/'.join(expected)}")


def _meaning(where: str, path: Path, root: Path, against: Path | None, record: bundle.RunRecord, seen: _Seen) -> Iterator[Finding]:
    def error(
        field: str, message: str, mend: str = "run it again and submit what the runner wrote", file: str = bundle.RUN
    ) -> Finding:
        return Finding(where, file, field, "error", message, mend)

    yield from seen.look(where, record)
    seen.add(record, where)
    if record.spec.task not in registry.tasks():
        yield error("spec.task", f"no task {record.spec.task!r} here", f"there are: {', '.join(registry.tasks())}")
        return
    task = registry.task(record.spec.task)
    if record.spec.version > task.version:
        yield error(
            "spec.version",
            f"version {record.spec.version} of {task.name} is unknown, the newest is {task.version}",
            "update weighin",
        )
        return
    if record.spec.version < task.version:
        yield Finding(
            where,
            bundle.RUN,
            "spec.version",
            "mark",
            f"version {record.spec.version} is archived",
            "only hash and schema were checked",
        )
        return
    if record.spec.tier not in task.tiers:
        yield error("spec.tier", f"{task.name} has no tier {record.spec.tier!r}", f"there are: {', '.join(task.tiers)}")
        return
    yield from _method(where, record, task)
    yield from _cards(where, path, root, against, record)
    yield from (error(f, m) for f, m in _bounds(record))
    if record.status != "ok":
        if not record.reason.strip():
            yield error("reason", "a failed run needs a reason")
        if record.files or any(m.source != "meter" for m in record.measures):
            yield error("files", "a failed run has no evidence and no measures derived from it")
        return
    derived: list[Measure] = []
    evidence: dict[str, np.ndarray] | None = None
    if record.spec.division == "speed":
        if bundle.EVIDENCE in record.files:
            yield error("files", "the speed division has no evidence", file=bundle.EVIDENCE)
    elif bundle.EVIDENCE not in record.files:
        yield error("files", "no evidence, so nothing can be derived", file=bundle.EVIDENCE)
        return
    else:
        evidence = _table(path, bundle.EVIDENCE, task.columns, task.evidence_bytes if record.spec.tier != "paper" else PAPER_BYTES)
        yield from _truth(where, record, task, evidence)
        spec = Spec(**{f: getattr(record.spec, f) for f in bundle.SpecRecord.model_fields})
        try:
            derived += task.score(spec, evidence)
        except (UserError, ValueError, IndexError) as e:
            yield error("rows", f"no score can be derived: {e}", file=bundle.EVIDENCE)
            return
    if bundle.TIMING in record.files:
        table = _table(path, bundle.TIMING, timing.COLUMNS, TIMING_BYTES)
        try:
            derived += timing.derive(table)
        except (ValueError, IndexError) as e:
            yield error("blocks", str(e), file=bundle.TIMING)
            return
        yield from _blocks(where, table)
    else:
        yield error("files", "an ok run is weighed: no timing", file=bundle.TIMING)
    yield from _same_numbers(where, record, derived)


def _same_numbers(where: str, record: bundle.RunRecord, derived: Sequence[Measure]) -> Iterator[Finding]:
    """Stored measures of source evidence and timing are exactly the derived ones."""
    told = {(m.name, m.part): m for m in record.measures if m.source != "meter"}
    if len({(m.name, m.part) for m in record.measures}) != len(record.measures):
        yield Finding(
            where,
            bundle.RUN,
            "measures",
            "error",
            "a measure stands twice",
            "run it again and submit what the runner wrote",
        )
    found = {(m.name, m.part): m for m in derived}
    for key in sorted(told.keys() - found.keys()):
        yield _derived(where, key, "cannot be derived from the files")
    for key in sorted(found.keys() - told.keys()):
        yield _derived(where, key, "is missing")
    for key in sorted(told.keys() & found.keys()):
        mine, theirs = found[key], told[key]
        low, high = mine.interval or (None, None)
        pairs = [(mine.value, theirs.value), (low, theirs.low), (high, theirs.high)]
        words = (mine.unit, mine.direction, mine.source, list(mine.warnings)) == (
            theirs.unit,
            theirs.direction,
            theirs.source,
            theirs.warnings,
        )
        if not words or not all(_equal(a, b) for a, b in pairs):
            changed = f"says {theirs.value:.6g}, the files give {mine.value:.6g}"
            message = "interval, unit or warnings are not what the files give" if _equal(mine.value, theirs.value) else changed
            yield _derived(where, key, message)


def _derived(where: str, key: tuple[str, str], message: str) -> Finding:
    mend = "run it again and submit what the runner wrote"
    return Finding(where, bundle.RUN, f"measures {' '.join(key).strip()}", "error", message, mend)


def _equal(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= CLOSE * max(abs(a), abs(b), 1e-300)


def _truth(where: str, record: bundle.RunRecord, task: Task[Any, Any], evidence: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """What the data dictate: their digest, the rows, and the columns that no run may change."""
    file = bundle.EVIDENCE
    row = evidence["row"]
    if (row != np.arange(len(row))).any():
        yield Finding(
            where,
            file,
            "row",
            "error",
            "rows are not 0, 1, 2, … each once",
            "run it again and submit what the runner wrote",
        )
    entry = _truth_entries(task.name).get((record.spec.tier, record.spec.case.partition("/")[0]))
    if entry is None:
        yield Finding(
            where,
            file,
            "truth",
            "mark",
            f"no truth is known of {record.spec.tier} {record.spec.case}",
            "its labels were not checked; the row is marked",
        )
        return
    if entry["data"] != record.data:
        yield Finding(
            where,
            bundle.RUN,
            "data",
            "error",
            f"digest {record.data[:12]}, the set's is {entry['data'][:12]}",
            "use the data set as it is shipped",
        )
    if len(row) != entry["rows"]:
        yield Finding(
            where,
            file,
            "row",
            "error",
            f"{len(row)} rows, the test set has {entry['rows']}",
            "examine the whole test set",
        )
        return
    for name, expected in entry["columns"].items():
        kind = np.dtype(task.columns[name]).newbyteorder("<")
        if digest_column(evidence[name], kind) != expected:
            yield Finding(
                where,
                file,
                name,
                "error",
                "is not what the data set says",
                "labels come from the data and are not to be changed",
            )


def digest_column(column: np.ndarray, kind: np.dtype[Any]) -> str:
    """SHA-256 of a column's little-endian bytes."""
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(column.astype(kind)).tobytes()).hexdigest()


@cache
def _truth_entries(task_name: str) -> dict[tuple[str, str], dict[str, Any]]:
    path = registry.tasks()[task_name].path
    file = path.with_name("truth.toml") if path else None
    if file is None or not file.is_file():
        return {}
    return {(e["tier"], e["name"]): e for e in tomllib.loads(file.read_text(encoding="utf-8"))["case"]}


def _table(path: Path, name: str, columns: Mapping[str, str], limit: int) -> dict[str, np.ndarray]:
    """Read a Parquet file after its metadata have been found harmless and its columns the declared ones."""
    import pyarrow as pa
    from pyarrow import parquet

    file = path / name
    if file.stat().st_size > limit:
        raise Refused(name, "size", f"{file.stat().st_size:,} bytes, over the {limit:,} allowed")
    try:
        head = parquet.read_metadata(file)
        size = sum(head.row_group(i).total_byte_size for i in range(min(head.num_row_groups, 1000)))
        if head.num_rows > MOST_ROWS or head.num_columns > MOST_COLUMNS or head.num_row_groups > 1000 or size > EXPANSION:
            raise Refused(name, "size", f"{head.num_rows:,} rows, {size:,} bytes unpacked: more than any evidence needs")
        schema = head.schema.to_arrow_schema()
        if any(pa.types.is_nested(f.type) for f in schema):
            raise Refused(name, "columns", "nested columns")
        if schema.names != list(columns):
            raise Refused(name, "columns", f"are {_printable(', '.join(schema.names))[:200]}; they must be {', '.join(columns)}")
        for field in schema:
            kind = columns[field.name]
            text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
            if text != (kind == "object") or (not text and field.type.to_pandas_dtype() is not np.dtype(kind).type):
                raise Refused(name, field.name, f"is of type {field.type}, not {kind}")
            # a run-length page of a few bytes may hold any number of equal values: bound what it unpacks to
            width = 64 if text else np.dtype(kind).itemsize
            if head.num_rows * width > EXPANSION:
                raise Refused(name, "size", f"{head.num_rows:,} rows of {field.name}: more than any evidence needs")
        table = bundle.read_table(file)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise Refused(name, "Parquet", f"cannot be read: {str(e).splitlines()[0][:120]}") from e
    for column, values in table.items():
        if values.dtype == object and (not all(isinstance(v, str) for v in values)):
            raise Refused(name, column, "has empty cells")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Refused(name, column, "has NaN or infinity")
        if len(values) != head.num_rows or (columns[column] != "object" and values.dtype != np.dtype(columns[column])):
            raise Refused(name, column, "has empty cells or another type than declared")
    return table


def _bounds(record: bundle.RunRecord) -> Iterator[tuple[str, str]]:
    """What no honest number can be, and sums that must hold among metered figures."""
    value = {(m.name, m.part): m.value for m in record.measures}
    for m in record.measures:
        field = f"measures {m.name} {m.part}".strip()
        if m.unit == "%" and not 0 <= m.value <= 100:
            yield field, f"{m.value:g} % lies outside 0..100"
        if m.unit in ("s", "B", "J", "1/s", "x") and m.value < 0:
            yield field, f"{m.value:g} {m.unit} is negative"
        if m.source == "timing" and m.value <= 0:
            yield field, f"{m.value:g} is no time or rate"
        if (m.low is None) != (m.high is None) or (
            m.low is not None and m.high is not None and not m.low - 1e-9 <= m.value <= m.high + 1e-9
        ):
            yield field, "its interval does not hold its value"
        if m.name.startswith("memory_") and m.value > 2**46:
            yield field, f"{m.value:g} B is more memory than any machine has"
        if m.name.startswith("kept.") and not 0 < m.value <= OFF_TARGET:
            yield field, f"{m.value:g} is no share"
    layers = sum(layer.macs for layer in record.operations)
    if ("macs", "") in value and not _equal(layers, value["macs", ""]):
        yield "measures macs", f"says {value['macs', '']:.6g}, its layers sum to {layers:.6g}"
    if ("params", "") in value and sum(layer.params for layer in record.operations) != value["params", ""]:
        yield "measures params", "is not the sum of its layers"
    if ("nonzero", "") in value and sum(layer.nonzero for layer in record.operations) != value["nonzero", ""]:
        yield "measures nonzero", "is not the sum of its layers"
    if any(layer.nonzero > layer.params for layer in record.operations):
        yield "operations", "a layer has more non-zero parameters than parameters"
    if ("macs_parent", "") in value and not _equal(
        value.get(("kept.macs", "")), value.get(("macs", ""), math.nan) / value["macs_parent", ""]
    ):
        yield "measures kept.macs", "is not macs over macs_parent"
    seconds, examples = value.get(("train_seconds", "")), value.get(("examples", ""))
    if seconds is not None and examples is not None and examples > 0 and seconds < examples / FASTEST:
        yield "measures train_seconds", f"{examples:g} examples in {seconds:g} s: no machine is so fast"
    if examples is not None and any(p.examples > examples for p in record.curve):
        yield "curve", "a point lies beyond the examples that the run saw"


def _blocks(where: str, table: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    # calls are calibrated on a warm machine: single blocks may fall a little short, most may not
    if float(np.median(table["seconds"])) < timing.BLOCK_SECONDS * 0.8:
        yield Finding(where, bundle.TIMING, "seconds", "error", "blocks are shorter than 50 ms", "time with weighin's own scale")


def _method(where: str, record: bundle.RunRecord, task: Task[Any, Any]) -> Iterator[Finding]:
    ours = {n: m for n, m in registry.methods(task.name).items() if m.origin == "reference"}
    method = record.method
    if method.origin == "reference":
        if method.name not in ours:
            yield Finding(
                where,
                bundle.RUN,
                "method.name",
                "error",
                f"no reference method {method.name!r}",
                f"there are: {', '.join(ours)}",
            )
        elif ours[method.name].version != method.version:
            yield Finding(
                where,
                bundle.RUN,
                "method.version",
                "mark",
                "the source has changed since",
                f"replay it at commit {record.source.commit}",
            )
        elif record.source.dirty is not False:
            yield Finding(
                where,
                bundle.RUN,
                "source",
                "mark",
                "made from a tree with uncommitted changes, or outside a clone",
                "commit, then run it again",
            )
    elif method.name.partition("@")[2] != method.version[:12] or "@" not in method.name:
        yield Finding(
            where,
            bundle.RUN,
            "method.name",
            "error",
            f"{method.name!r} must be name@{method.version[:12]}",
            "submit what the runner wrote",
        )


def _cards(where: str, path: Path, root: Path, against: Path | None, record: bundle.RunRecord) -> Iterator[Finding]:
    """Both system cards stand in the results, and hash to their names; memory fits the machine."""
    folders = [p / "systems" for p in (*path.parents, *([against] if against else []))]
    for role, name in record.systems.items():
        file = next((f / f"{name}.json" for f in folders if (f / f"{name}.json").is_file()), None)
        if file is None:
            yield Finding(where, bundle.RUN, f"systems.{role}", "error", f"no card {name}.json", "submit results/systems/ with it")
            continue
        try:
            card = system.read_card(file)
        except UserError as e:
            yield Finding(where, bundle.RUN, f"systems.{role}", "error", str(e), "copy the card that the run wrote")
            continue
        total = float(card.memory.get("total_gib", math.inf)) * 2**30
        for m in record.measures:
            if m.name in ("memory_peak", "memory_resident", "solve_resident") and m.value > total and not card.gpu:
                yield Finding(
                    where,
                    bundle.RUN,
                    f"measures {m.name} {m.part}",
                    "error",
                    f"{m.value / 2**30:.1f} GiB on a machine of {total / 2**30:.1f}",
                    "submit what the runner wrote",
                )


class _Seen:
    """What was met before: ids, and evidence by method and seed."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.evidence: dict[tuple[str, ...], tuple[int, str]] = {}

    def _evidence_key(self, record: bundle.RunRecord) -> tuple[str, ...] | None:
        file = record.files.get("evidence.parquet")
        if file is None or record.method.seedless:
            return None
        return record.spec.task, record.spec.tier, record.spec.case, file.sha256

    def look(self, where: str, record: bundle.RunRecord) -> Iterator[Finding]:
        if self.ids.get(record.id, where) != where:
            yield Finding(where, bundle.RUN, "id", "error", f"the same run stands at {self.ids[record.id]}", "submit a run once")
        key = self._evidence_key(record)
        if key and (before := self.evidence.get(key)) and before[0] != record.spec.seed:
            yield Finding(
                where,
                bundle.EVIDENCE,
                "row",
                "error",
                f"the same evidence as seed {before[0]} at {before[1]}",
                "a seed is a run of its own; a seedless method says so",
            )

    def add(self, record: bundle.RunRecord, where: str) -> None:
        self.ids.setdefault(record.id, where)
        if key := self._evidence_key(record):
            self.evidence.setdefault(key, (record.spec.seed, where))


def _printable(text: str) -> str:
    """Names from outside, safe to print."""
    return "".join(c if c.isprintable() and c not in "<>" else "?" for c in text)[:120]
