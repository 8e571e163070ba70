"""Confirmations: what somebody else's replay of a run said, as a small file beside the bundles.

``results/confirmations/<run>-<card>.json`` is written by ``weighin replay --submit``.  A bundle alone is consistent: its numbers
follow from its evidence, which nobody but who ran it has seen come about.  A replay by another is what confirms it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from suite import bundle
from suite.bundle import Digest, Moment, Record, Sha256
from suite.naming import SUBMITTER, UserError

FOLDER = "confirmations"
SUBMIT = "submit what `weighin replay --submit` wrote"
Judged = Literal["agrees", "differs", "not judged"]  #: of counts and timings
Verdict = Literal["equal"] | Judged  #: of evidence


class Confirmation(Record):
    """One replay of one run."""

    schema_version: Literal[1] = 1
    run: Sha256 = Field(description="id of the bundle that was run again")
    replay: Sha256 = Field(description="id of the replay's own bundle, which stays with who ran it")
    created: Moment
    card: Digest = Field(description="hash of the system card that the replay ran on")
    evidence: Verdict
    counts: Judged
    timings: Judged
    submitter: Annotated[str, Field(pattern=f"^{SUBMITTER}$")]

    @property
    def judged(self) -> bool:
        """Whether anything was."""
        return {self.evidence, self.counts, self.timings} != {"not judged"}

    @property
    def agrees(self) -> bool:
        """Whether the replay confirms the run; timings of another machine are not judged."""
        return self.judged and "differs" not in (self.evidence, self.counts, self.timings)


def file_of(results: Path, told: Confirmation) -> Path:
    return results / FOLDER / f"{told.run[:12]}-{told.card}.json"


def results_of(path: Path) -> Path:
    """The folder of results that a bundle lies in; raises UserError where it lies in none."""
    found = bundle.results_of(path)
    if found is None or not (found / "systems").is_dir():
        raise UserError(f"{path} lies in no folder of results; name one with --results")
    return found


def write(results: Path, told: Confirmation) -> Path:
    """Store a confirmation; one machine confirms a run once.  Raises UserError where that cannot be written, or stands already."""
    path = file_of(results, told)
    if path.exists():
        raise UserError(f"{path} stands already: a machine confirms a run once")
    return bundle.keep(path, told.model_dump(mode="json"), "--results")


def read(path: Path) -> Confirmation:
    """A stored confirmation; raises UserError that names file and field."""
    try:
        told = bundle.parsed(Confirmation, path, SUBMIT)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; {SUBMIT}") from e
    if path.name != file_of(Path(), told).name:
        raise UserError(f"{path}: its name is {file_of(Path(), told).name}; {SUBMIT}")
    return told


def read_all(results: Path) -> Iterator[Confirmation]:
    """All confirmations under a folder of results; raises UserError at the first that is none."""
    for path in sorted((results / FOLDER).glob("*.json")):
        yield read(path)
