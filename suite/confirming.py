"""Confirmations: what somebody else's replay of a run said, as a small file beside the bundles.

``results/confirmations/<run>-<card>.json`` is written by ``weighin replay --submit``.  A bundle alone is consistent: its numbers
follow from its evidence, which nobody but who ran it has seen come about.  A replay by another is what confirms it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from suite.bundle import Digest, Record, moment
from suite.files import write_json
from suite.naming import UserError

FOLDER = "confirmations"
Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Verdict = Literal["equal", "agrees", "differs", "not judged"]


class Confirmation(Record):
    """One replay of one run."""

    schema_version: Literal[1] = 1
    run: Identity = Field(description="id of the bundle that was run again")
    replay: Identity = Field(description="id of the replay's own bundle, which stays with who ran it")
    created: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"), AfterValidator(moment)]
    card: Digest = Field(description="hash of the system card that the replay ran on")
    evidence: Verdict
    counts: Verdict
    timings: Verdict
    submitter: Annotated[str, Field(pattern=r"^[\w .@+-]{1,80}$")]

    @property
    def agrees(self) -> bool:
        """Whether the replay confirms the run; timings of another machine are not judged."""
        return "differs" not in (self.evidence, self.counts, self.timings)


def file_of(results: Path, told: Confirmation) -> Path:
    return results / FOLDER / f"{told.run[:12]}-{told.card}.json"


def results_of(path: Path) -> Path:
    """The folder of results that a bundle lies in; raises UserError where it lies in none."""
    above = path.resolve().parents  # results/<task>/<tier>/<method>/<bundle>
    if len(above) < 4 or not (above[3] / "systems").is_dir():
        raise UserError(f"{path} lies in no folder of results; name one with --results")
    return above[3]


def write(results: Path, told: Confirmation) -> Path:
    """Store a confirmation; one machine confirms a run once.  Raises UserError where that cannot be written, or stands already."""
    path = file_of(results, told)
    if path.exists():
        raise UserError(f"{path} stands already: a machine confirms a run once")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, told.model_dump(mode="json"))
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror}; make room or name another --results") from e
    return path


def read(path: Path) -> Confirmation:
    """A stored confirmation; raises UserError that names file and field."""
    try:
        told = Confirmation.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise UserError(f"{path}: {where}: {first['msg']}; submit what `weighin replay --submit` wrote") from e
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: no JSON ({e}); submit what `weighin replay --submit` wrote") from e
    if path.name != file_of(Path(), told).name:
        raise UserError(f"{path}: its name is {file_of(Path(), told).name}; submit what `weighin replay --submit` wrote")
    return told


def read_all(results: Path) -> Iterator[Confirmation]:
    """All confirmations under a folder of results; raises UserError at the first that is none."""
    for path in sorted((results / FOLDER).glob("*.json")):
        yield read(path)
