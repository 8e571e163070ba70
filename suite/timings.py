"""Timing bundles: what another machine found when it weighed the shape of a row, as a small folder beside the bundles.

``results/timings/<task>/<row>-<card>-<id>/`` holds ``time.json`` (this schema) and ``timing.parquet``.  The row is named by its id
and key and stays as it is; the id is the SHA-256 of the canonical JSON without ``id``, as a bundle's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from suite import bundle
from suite.bundle import Digest, FileRecord, Line, MeasureRecord, Moment, Name, Record, RunRecord, Sha256, Slashed, SourceRecord
from suite.naming import SUBMITTER, UserError

FOLDER = "timings"
TIME = "time.json"
AGAIN = "time it again with `weighin time`"


class RowRecord(Record):
    """The row whose shape was weighed, and where its bundle lies in results."""

    id: Sha256
    key: Sha256
    task: Name
    tier: Literal["smoke", "small", "paper"]
    method: Name


class TimingRecord(Record):
    """``time.json``."""

    schema_version: Literal[1] = 1
    id: Sha256 = Field(description="SHA-256 of the canonical JSON without id")
    row: RowRecord
    shape: Sha256 = Field(description="SHA-256 of the deployed.json that was weighed")
    origin: Literal["bundle", "operations"] = Field(description="whether the bundle has that file, or its operations give it")
    created: Moment
    device: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@+-]{1,120}$")]
    card: Digest = Field(description="hash of the system card")
    source: SourceRecord
    libraries: dict[str, Line] = Field(description="versions of what computed")
    measures: list[MeasureRecord] = Field(default_factory=list)
    unsupported: dict[Slashed, Line] = Field(default_factory=dict, description="workloads this machine cannot run, and why")
    notes: list[Line] = Field(default_factory=list, description="warnings that concern all of it")
    submitter: Annotated[str, Field(pattern=f"^({SUBMITTER})?$")] = ""
    files: dict[Literal["timing.parquet"], FileRecord] = Field(default_factory=dict)

    def of(self, row: RunRecord) -> RunRecord:
        """The row as it would stand had it been weighed here: its measures, device and card are those of this timing."""
        changes = {
            "measures": self.measures,
            "unsupported": self.unsupported,
            "spec": row.spec.model_copy(update={"device": self.device}),
            "systems": {**row.systems, "weigh": self.card},
            "libraries": self.libraries,
        }
        return row.model_copy(update=changes)


def seal(fields: Mapping[str, Any]) -> TimingRecord:
    """Validate a timing's fields and give it its id."""
    body = TimingRecord(**{**fields, "id": "0" * 64}).model_dump(mode="json")
    return TimingRecord(**{**body, "id": bundle.identity(body)})


def folder(results: Path, record: TimingRecord) -> Path:
    return results / FOLDER / record.row.task / f"{record.row.id[:12]}-{record.card}-{record.id[:12]}"


def row_of(results: Path, record: TimingRecord) -> Path:
    """Where the row's bundle lies."""
    row = record.row
    return results / row.task / row.tier / row.method / f"{row.key[:12]}-{row.id[:12]}"


def write(results: Path, record: TimingRecord, table: Path) -> Path:
    """Write a sealed timing under `results`, whole or not at all; returns its folder."""
    return bundle.put(folder(results, record), TIME, record.model_dump(mode="json"), {bundle.TIMING: table}, "timing")


def read(path: Path) -> TimingRecord:
    """Read and validate ``time.json`` of a folder; raises UserError that names file and field."""
    file = path / TIME
    try:
        return bundle.parsed(TimingRecord, file, AGAIN)
    except OSError as e:
        raise UserError(f"{file}: {e.strerror}; {AGAIN}") from e


def find(root: Path) -> Iterator[Path]:
    """Folders of all timings under a folder, in a fixed order."""
    for base, folders, names in bundle.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if bundle.RUN in names:
            folders.clear()
        elif TIME in names:
            folders.clear()
            yield base


def results_of(path: Path) -> Path | None:
    """The folder of results that a timing's folder lies in: results/timings/<task>/<timing>."""
    above = path.resolve().parents
    return above[2] if len(above) > 2 and above[1].name == FOLDER else None


def stored(results: Path) -> list[TimingRecord]:
    """All timings of a folder of results; what is none is passed over: `weighin check` tells of it."""
    found = []
    for path in find(results / FOLDER):
        try:
            found.append(read(path))
        except UserError:
            continue
    return found
