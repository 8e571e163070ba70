"""The bundle: what a run leaves behind, written whole or not at all.

A bundle is a folder ``results/<task>/<tier>/<method>/<key>-<id>/`` with ``run.json`` (this schema),
``evidence.parquet`` (one line a test row), ``timing.parquet`` (one line a timed block), where the task can tell
it ``deployed.json`` (the shape of what is deployed, `suite.deployed`) and at most four small pictures (``*.webp``).
The id is the SHA-256 of the canonical JSON without ``id``; ``files``, ``deployed`` and ``pictures`` carry the
hashes of the other files, so the id covers every byte.  The key says what was
asked (Spec, method, version, configuration, data, cards): runs of the same key are replays of each
other.  Within a schema version fields are only added; bundles are never rewritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from suite import pictures
from suite.files import atomic, write_json
from suite.naming import SUBMITTER, UserError, canonical_json, digest, indented_json, parse_target
from suite.protocol import Spec

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
STATUSES = ("ok", "diverged", "over_budget", "oom", "timeout", "error", "killed")
FINAL = ("ok", "diverged", "over_budget")  #: the others are tried again on --retry
RUN, EVIDENCE, TIMING = "run.json", "evidence.parquet", "timing.parquet"
DEPLOYED = "deployed.json"

WHEN = "%Y-%m-%dT%H:%M:%SZ"  #: how a bundle writes when it was made
OFF_TARGET = 0.01  #: relative; views.sql has it too
DEEPEST = 64  #: folders below the one that is asked for: results are four deep, and may lie below others
MOST, MOST_VERSION = 2**63 - 1, 2**31 - 1  #: of whole numbers: what a database takes


def _moment(text: str) -> str:
    """A date and time that there was or will be; raises ValueError on others, such as a month 13."""
    datetime.strptime(text, WHEN)
    return text


Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"), AfterValidator(_moment)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@+-]{1,120}$")]  # no separators, no markup
Slashed = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@+-]+(/[A-Za-z0-9_.@+-]+)*$", max_length=120)]  # a case, a workload
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
Line = Annotated[str, Field(max_length=2000)]
PictureName = Annotated[str, Field(pattern=f"^{pictures.NAME.pattern}$")]


def stage_of(measure: str) -> Literal["solve", "weigh"]:
    """Whose system card a metered or timed number belongs to, by its name: a task's own of the solve begin with ``solve_``."""
    return "solve" if measure == "train_seconds" or measure.startswith("solve_") else "weigh"


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=Record)


class SpecRecord(Record):
    """The Spec, without the folder of the data."""

    task: Name
    version: int = Field(ge=1, le=MOST_VERSION)
    tier: Literal["smoke", "small", "paper"]
    division: Literal["closed", "open", "speed"]
    case: Slashed
    target: Annotated[str, Field(pattern=r"^[A-Za-z0-9_=.,+-]*$", max_length=120)]
    seed: int = Field(ge=0, le=MOST)
    device: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@+-]{1,120}$")]  # the second GPU is cuda:1


class MethodRecord(Record):
    """Who solved it.  ``version`` is the digest of its source and parts without comments and docstrings."""

    name: Name  #: others' methods are ``name@<digest>``
    origin: Literal["reference", "package", "file"]
    version: Digest
    configuration: dict[str, Any] = Field(default_factory=dict, description="every field of the dataclass")
    variant: Annotated[str, Field(max_length=400)] = Field(
        "", description="the non-default fields, as text; empty for the defaults"
    )
    seedless: bool = False
    stated_version: int | None = Field(
        None, ge=1, le=MOST_VERSION, description="the version that the method stated; null in older bundles"
    )


class MeasureRecord(Record):
    """One number with its unit, direction, interval, source and warnings."""

    name: Name
    part: Annotated[str, Field(max_length=120)] = Field("", description="of what: a workload, a class, a group")
    value: Finite
    unit: Annotated[str, Field(max_length=20)] = ""
    direction: Literal["up", "down", ""] = ""
    low: Finite | None = Field(None, description="lower end of the 95 % interval")
    high: Finite | None = Field(None, description="upper end of the 95 % interval")
    source: Literal["evidence", "timing", "meter"] = "evidence"
    warnings: list[Line] = Field(default_factory=list)


class LayerRecord(Record):
    """One layer's operations for one item."""

    name: Annotated[str, Field(max_length=200)]
    kind: Annotated[str, Field(max_length=60)]
    macs: Finite = Field(ge=0)
    params: int = Field(ge=0, le=MOST)
    nonzero: int = Field(ge=0, le=MOST)


class PointRecord(Record):
    """One point of a training curve."""

    examples: int = Field(ge=0, le=MOST)
    seconds: Finite = Field(ge=0)
    name: Name
    value: Finite


class FileRecord(Record):
    sha256: Sha256
    bytes: int = Field(ge=0, le=MOST)
    rows: int = Field(ge=0, le=MOST)


class PlainRecord(Record):
    """A file that has no rows."""

    sha256: Sha256
    bytes: int = Field(ge=0, le=MOST)


class PictureRecord(Record):
    """A picture: what the method put out, WebP without loss.  Only a replay can confirm it."""

    sha256: Sha256
    bytes: int = Field(ge=0, le=pictures.MOST_BYTES)
    width: int = Field(ge=1, le=pictures.LONGEST)
    height: int = Field(ge=1, le=pictures.LONGEST)


class SourceRecord(Record):
    """The code that ran: commit and whether the tree was clean (null outside a clone)."""

    weighin: Name
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")] | None = None
    dirty: bool | None = None
    task_digest: Digest | None = Field(None, description="digest of the source of the task's modules; null in older bundles")


@dataclass(frozen=True)
class Asked:
    """A share that was asked to be kept, and the one that was; None where nothing was metered."""

    name: str
    wanted: float
    kept: float | None

    @property
    def met(self) -> bool:
        """Whether both are the same within 1 %; a row that misses its target is shown and not ranked."""
        return self.kept is not None and abs(self.kept / self.wanted - 1) <= OFF_TARGET


class RunRecord(Record):
    """``run.json``."""

    schema_version: Literal[1] = 1
    id: Sha256 = Field(description="SHA-256 of the canonical JSON without id")
    key: Sha256 = Field(description="what was asked; equal keys are replays")
    status: Literal["ok", "diverged", "over_budget", "oom", "timeout", "error", "killed"]
    reason: Annotated[str, Field(max_length=8000)] = Field("", description="why it failed, with the end of the traceback")
    created: Moment
    spec: SpecRecord
    data: Sha256 = Field(description="digest of the data used")
    method: MethodRecord
    source: SourceRecord
    libraries: dict[str, Line] = Field(description="versions of what computed")
    systems: dict[Literal["solve", "weigh"], Digest] = Field(description="hashes of the system cards")
    processes: int = Field(1, ge=1, le=100_000, description="processes that shared each batch of the solve")
    measures: list[MeasureRecord] = Field(default_factory=list)
    operations: list[LayerRecord] = Field(default_factory=list)
    curve: list[PointRecord] = Field(default_factory=list)
    unsupported: dict[Slashed, Line] = Field(default_factory=dict, description="workloads this machine cannot run, and why")
    notes: list[Line] = Field(default_factory=list, description="warnings that concern the whole run")
    submitter: Annotated[str, Field(pattern=f"^({SUBMITTER})?$")] = ""
    files: dict[Literal["evidence.parquet", "timing.parquet"], FileRecord] = Field(default_factory=dict)
    pictures: dict[PictureName, PictureRecord] = Field(
        default_factory=dict, max_length=pictures.MOST, description="crops to look at, of those tasks that show some"
    )
    deployed: PlainRecord | None = Field(
        None, description="deployed.json, the shape of what is deployed; null in older bundles, and where there is none"
    )

    @property
    def hashed(self) -> dict[str, FileRecord | PictureRecord | PlainRecord]:
        """Every file beside ``run.json``, by name."""
        found = {name: entry for part in (self.files, self.pictures) for name, entry in part.items()}
        return found | ({DEPLOYED: self.deployed} if self.deployed else {})

    def measure(self, name: str, part: str = "") -> MeasureRecord | None:
        return next((m for m in self.measures if m.name == name and m.part == part), None)

    def asked(self) -> Iterator[Asked]:
        """What the target asks to be kept, and what was."""
        for name, wanted in parse_target(self.spec.target).items():
            kept = self.measure(f"kept.{name}")
            yield Asked(name, wanted, kept.value if kept else None)


def seal(fields: Mapping[str, Any]) -> RunRecord:
    """Validate a run's fields and give it its id."""
    body = RunRecord(**{**fields, "id": "0" * 64}).model_dump(mode="json")
    return RunRecord(**{**body, "id": identity(body)})


def identity(body: Mapping[str, Any]) -> str:
    """The id that a run.json's content must have."""
    return digest({k: v for k, v in body.items() if k != "id"})


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def describe(path: Path) -> FileRecord:
    """Hash, size and rows of a Parquet file."""
    from pyarrow import parquet

    return FileRecord(sha256=sha256(path), bytes=path.stat().st_size, rows=parquet.read_metadata(path).num_rows)


def describe_plain(path: Path) -> PlainRecord:
    """Hash and size of any file."""
    return PlainRecord(sha256=sha256(path), bytes=path.stat().st_size)


def describe_picture(path: Path) -> PictureRecord:
    """Hash and sizes of a picture; raises ValueError where it is none."""
    width, height = pictures.size(path.read_bytes())
    return PictureRecord(sha256=sha256(path), bytes=path.stat().st_size, width=width, height=height)


def write_table(columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Named columns to Parquet, atomically.  Snappy, so that pages without a zstd codec can read it.

    A dictionary of whole numbers that never come again, as those of rows, is longer than they are: byte by byte they fall together.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    single = {n for n, c in columns.items() if c.dtype.kind in "iu" and len(c) > 1000 and len(np.unique(c)) == len(c)}
    with atomic(path) as scratch:
        # no timestamps or versions inside: equal tables give equal bytes
        parquet.write_table(
            pa.table(dict(columns)),
            scratch,
            compression="snappy",
            store_schema=False,
            use_dictionary=[n for n in columns if n not in single],
            column_encoding=dict.fromkeys(sorted(single), "BYTE_STREAM_SPLIT") or None,
        )


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Parquet to named numpy columns (strings as objects)."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        table = file.read()
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def folder(root: Path, record: RunRecord) -> Path:
    return root / record.spec.task / record.spec.tier / record.method.name / f"{record.key[:12]}-{record.id[:12]}"


def write(root: Path, record: RunRecord, files: Mapping[str, Path]) -> Path:
    """Write a sealed record and its files under `root`, whole or not at all; returns the bundle's folder."""
    # as it was sealed: a record of before a field was added has not got it
    return put(folder(root, record), RUN, record.model_dump(mode="json", exclude_unset=True), files, "bundle")


def put(final: Path, name: str, record: Mapping[str, Any], files: Mapping[str, Path], what: str) -> Path:
    """Make a folder of a record under a name and of copies of files, whole or not at all; one that stands already stays."""
    if final.exists():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with atomic(final) as scratch:
            scratch.mkdir()
            for copy, source in files.items():
                shutil.copyfile(source, scratch / copy)
            (scratch / name).write_text(indented_json(record) + "\n", encoding="utf-8")
    except OSError as e:
        raise UserError(f"cannot write the {what} to {final.parent}: {e.strerror}; make room or name another --out") from e
    return final


def spec_of(record: RunRecord) -> Spec:
    """What a run was asked."""
    return Spec(**{f: getattr(record.spec, f) for f in SpecRecord.model_fields})


def read(path: Path) -> RunRecord:
    """Read and validate ``run.json`` of a bundle's folder; raises UserError that names file and field."""
    file = path / RUN if path.is_dir() else path
    try:
        return parsed(RunRecord, file, "run the method again, bundles are not edited by hand")
    except OSError as e:
        raise UserError(f"{file}: {e.strerror}; a bundle is a folder with {RUN} in it") from e


def parsed(kind: type[R], file: Path, mend: str) -> R:
    """The record that a JSON file holds; raises UserError that names file and field, OSError where the file cannot be read."""
    try:
        return kind.model_validate_json(file.read_bytes())
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise UserError(f"{file}: {where}: {first['msg']}; {mend}") from e


def keep(path: Path, value: Any, option: str) -> Path:
    """Write a small JSON file of results, whole or not at all; raises UserError that says which option names another place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror}; make room or name another {option}") from e
    return path


def results_of(path: Path) -> Path | None:
    """The folder of results that a bundle's folder lies in, if that is deep enough: results/<task>/<tier>/<method>/<bundle>."""
    above = path.resolve().parents
    return above[3] if len(above) > 3 else None


def find(root: Path) -> Iterator[Path]:
    """Folders of all bundles under `root`, in a fixed order; dot folders are work in progress."""
    for base, folders, names in walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if RUN in names:
            folders.clear()
            yield base


def paths(root: Path, known: Collection[str] = ()) -> list[str]:
    """As `find`, as texts below `root`; of those that are known nothing but that their ``run.json`` is there is looked at."""
    top, known = os.fspath(root), frozenset(known)
    found, waiting = [], [""]
    while waiting:
        here = waiting.pop()
        if here in known and os.path.exists(os.path.join(top, here, RUN)):
            found.append(here)
            continue
        folders = []
        with (
            contextlib.suppress(OSError),
            os.scandir(os.path.join(top, here)) as entries,
        ):  # as os.walk: what cannot be read is passed over
            for entry in entries:
                if entry.name == RUN and here and not entry.is_dir():
                    found.append(here)
                    break
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    folders.append(f"{here}/{entry.name}" if here else entry.name)
            else:
                waiting += folders if here.count("/") < DEEPEST else []
    return sorted(found)


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, without a stack that grows with the folders, and no more than `DEEPEST` of them deep.

    Those that lie deeper are named by the last that is looked at, and not looked at.
    """
    waiting = [root]
    while waiting:
        here = waiting.pop()
        for _, folders, names in islice(os.walk(here), 1):
            yield here, folders, names
            if below(root, here) < DEEPEST:
                waiting += [here / f for f in reversed(folders) if not (here / f).is_symlink()]


def below(root: Path, folder: Path) -> int:
    """How many folders one lies below another."""
    return len(folder.parts) - len(root.parts)


__all__ = [
    "DEPLOYED", "EVIDENCE", "FINAL", "RUN", "SCHEMA", "STATUSES", "TIMING", "RunRecord", "canonical_json", "describe",
    "describe_picture", "find", "folder", "identity", "read", "read_table", "seal", "sha256", "write", "write_table",
]  # fmt: skip
