"""What was met before: a run twice, a seed that is no run of its own, and who was first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from suite import bundle
from suite.checks.findings import Finding

SAMPLE = 1024  #: rows whose answers are held against other seeds'
ALIKE = 0.995  #: of the rows equal: two seeds of ours agree in at most 98.8 % of a graph's nodes
SPREAD = 1.5  #: between the examples of seeds of one row: ours differ by an eighth
ONCE = "submit a run once"
DEPTH = 4  #: folders that say which run it is: task, tier, method, key and id

Row = tuple[str, ...]


@dataclass(frozen=True)
class Print:
    """What a run's evidence says of itself, without what the data dictate, however its file is packed."""

    digest: str
    rows: np.ndarray  #: (n,) uint64: a hash of each of up to `SAMPLE` rows

    def alike(self, other: Print) -> float:
        """The share of equal rows; 0 where there is nothing to compare."""
        same = len(self.rows) == len(other.rows) > 0
        return float((self.rows == other.rows).mean()) if same else 0.0


def print_of(evidence: Mapping[str, np.ndarray], dictated: Collection[str]) -> Print:
    """The print of evidence; `dictated` names the columns that every run has alike."""
    free = [n for n in evidence if n not in dictated]
    whole = hashlib.sha256()
    count = len(next(iter(evidence.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(np.int64))
    rows = np.zeros(len(chosen), np.uint64)
    for name in free:
        column = evidence[name]
        if column.dtype == object:
            column = np.array([int.from_bytes(hashlib.blake2b(str(v).encode(), digest_size=8).digest(), "little") for v in column])
        whole.update(f"{name}\0{column.dtype.str}\0".encode())
        whole.update(np.ascontiguousarray(column).tobytes())
        bits = np.frombuffer(np.ascontiguousarray(column[chosen].astype(np.float64)).tobytes(), np.uint64)
        rows = (rows * np.uint64(0x100000001B3)) ^ bits ^ (bits >> np.uint64(29))
    return Print(whole.hexdigest(), rows)


@dataclass(frozen=True)
class _Met:
    path: Path
    record: bundle.RunRecord
    read: Callable[[], Print | None]
    stands: bool  #: in the results that a submission is held against

    @cached_property
    def print(self) -> Print | None:
        """Of what stands already it is read where it is asked for: few of these runs are."""
        return self.read()


class Seen:
    """Runs by id, by key and by the row that they are seeds of."""

    def __init__(self) -> None:
        self._ids: dict[str, _Met] = {}
        self._keys: dict[str, list[_Met]] = {}
        self._rows: dict[Row, list[_Met]] = {}

    def add(self, record: bundle.RunRecord, path: Path, read: Callable[[], Print | None], *, stands: bool = False) -> None:
        """Remember a run; `stands`: it was there before what is being checked."""
        met = _Met(path, record, read, stands)
        self._ids.setdefault(record.id, met)
        if record.status == "ok":
            self._keys.setdefault(record.key, []).append(met)
            self._rows.setdefault(_row(record), []).append(met)

    def runs(self) -> dict[str, bundle.RunRecord]:
        """The runs by id."""
        return {run: met.record for run, met in self._ids.items()}

    def before(self, record: bundle.RunRecord, path: Path, evidence: Print | None) -> Iterator[Finding]:
        """What this run repeats, and whose place it would take."""
        where = str(path)

        def error(field: str, message: str, mend: str, file: str = bundle.RUN) -> Finding:
            return Finding(where, file, field, "error", message, mend)

        if (met := self._ids.get(record.id)) and not _one(met.path, path):
            if not met.stands or met.path.parts[-DEPTH:] != path.resolve().parts[-DEPTH:]:  # else it is the one that stands there
                yield error("id", f"the same run stands at {met.path}", ONCE)
            return
        if record.status != "ok":
            return
        for met in self._keys.get(record.key, ()):
            if met.record.id == record.id:
                continue
            if _same(evidence, met.print):
                yield error("key", f"is a replay that adds nothing to {met.path}", ONCE)
            elif evidence is not None and met.print is not None and record.spec.device == "cpu":
                told = f"gives other evidence than {met.path}, on the same machine"
                yield error("evidence", told, "one of the two was changed, or the method draws without its seed", bundle.EVIDENCE)
        for met in self._rows.get(_row(record), ()):
            if met.record.id == record.id:
                continue
            yield from _beside(where, record, evidence, met)


def _beside(where: str, record: bundle.RunRecord, evidence: Print | None, met: _Met) -> Iterator[Finding]:
    """Another run of the same row: another seed, or the same one that stands already."""
    if met.record.spec.seed == record.spec.seed:
        if met.stands and record.created <= met.record.created:
            told = f"{record.created} is not after {met.record.created}, when {met.path} was made, which stands there already"
            yield Finding(where, bundle.RUN, "created", "error", told, "who was first counts: run it again as a replay")
        return
    if not (record.method.seedless and met.record.method.seedless) and evidence is not None and met.print is not None:
        told = f"as seed {met.record.spec.seed} at {met.path}"
        if _same(evidence, met.print):
            mend = "a seed is a run of its own; a seedless method declares so"
            yield Finding(where, bundle.EVIDENCE, "row", "error", f"the same evidence {told}", mend)
        elif (share := evidence.alike(met.print)) >= ALIKE:
            words = f"{100 * share:.1f} % of its answers are the same {told}"
            yield Finding(where, bundle.EVIDENCE, "row", "mark", words, "nothing to do: it is shown")
    mine, theirs = (r.measure("examples") for r in (record, met.record))
    if mine and theirs and record.method.version == met.record.method.version:
        low, high = sorted((mine.value, theirs.value))
        if high > SPREAD * low:
            told = f"{mine.value:,.0f}, and {theirs.value:,.0f} at {met.path}, another seed of the same row"
            yield Finding(where, bundle.RUN, "measures examples", "error", told, "run it again and submit what the runner wrote")


def _same(a: Print | None, b: Print | None) -> bool:
    return a is not None and b is not None and a.digest == b.digest


def _row(record: bundle.RunRecord) -> Row:
    spec, method = record.spec, record.method
    return spec.task, str(spec.version), spec.tier, spec.division, spec.case, spec.target, method.name, method.variant


def _one(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()
