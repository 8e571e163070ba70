"""What was met before: a run twice, a seed that is no run of its own, and who was first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from suite import bundle
from suite.checks.findings import Finding

SAMPLE = 1024  #: rows whose answers are held against other runs'
NEAR = 1e-3  #: relative: figures that are taken for the same; of two seeds of ours no more than 88 % of the rows are that near
LEAST = 1e-7  #: and what the shortest floats tell apart beside nothing
ALIKE = 0.995  #: of the rows equal: two seeds of ours agree in at most 98.8 % of a graph's nodes
FIGURES = 8  #: columns of figures that are compared, the first ones
CHOICES = 3  #: kinds of answers from which equal ones alone tell: of two kinds seeds may agree on all
ENOUGH = 200  #: rows of them
VARIED = 32  #: rows that differ, from which a run tells itself from others: a network that says one thing of all is like any such
SPREAD = 1.5  #: between the examples of seeds of one row: ours differ by an eighth
ONCE = "submit a run once"
OWN = "a seed is a run of its own; a seedless method declares so"
DEPTH = 4  #: folders that say which run it is: task, tier, method, key and id

Row = tuple[str, ...]


@dataclass(frozen=True)
class Print:
    """What a run's evidence says of itself, without what the data dictate, however its file is packed."""

    digest: str
    answers: np.ndarray  #: (n,) uint64: a hash of what is no figure in each of up to `SAMPLE` rows
    figures: np.ndarray  #: (n, up to `FIGURES`) float64: what the same rows say in figures
    choices: int  #: the most kinds of answers in one column; 0 where all are figures

    def alike(self, other: Print) -> float:
        """The share of rows whose answers are equal, and whose figures are but for `NEAR`; 0 where there is nothing to compare."""
        if not self._comparable(other):
            return 0.0
        same = self.answers == other.answers
        if self.figures.size and same.any():
            with np.errstate(all="ignore"):  # what stands already was read as it is
                most = np.maximum(np.abs(self.figures), np.abs(other.figures))
                same = same & (np.abs(self.figures - other.figures) <= NEAR * most + LEAST).all(1)
        return float(same.mean())

    def answered(self, other: Print) -> float:
        """The share of rows of equal answers, whatever their figures; 0 where equal answers say little."""
        told = min(self.choices, other.choices) >= CHOICES and len(self.answers) >= ENOUGH
        return float((self.answers == other.answers).mean()) if told and self._comparable(other) else 0.0

    @cached_property
    def varied(self) -> bool:
        """Whether its figures differ from row to row, so that no other run has them by chance."""
        if not self.figures.size:
            return False
        with np.errstate(all="ignore"):
            coarse = self.figures.astype(np.float32).view(np.uint32) >> 16  # two digits of each
        return len(np.unique(coarse, axis=0)) >= min(VARIED, len(coarse) / 2)

    def _comparable(self, other: Print) -> bool:
        return self.figures.shape == other.figures.shape and len(self.answers) == len(other.answers) > 0


def print_of(evidence: Mapping[str, np.ndarray], dictated: Collection[str]) -> Print:
    """The print of evidence; `dictated` names the columns that every run has alike."""
    whole = hashlib.sha256()
    count = len(next(iter(evidence.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(np.int64))
    answers = np.zeros(len(chosen), np.uint64)
    figures: list[np.ndarray] = []
    choices = 0
    for name in (n for n in evidence if n not in dictated):
        column = evidence[name]
        if column.dtype == object:
            column = np.array([int.from_bytes(hashlib.blake2b(str(v).encode(), digest_size=8).digest(), "little") for v in column])
        whole.update(f"{name}\0{column.dtype.str}\0".encode())
        whole.update(np.ascontiguousarray(column).tobytes())
        if column.dtype.kind == "f":
            figures.append(column[chosen].astype(np.float64))
            continue
        choices = max(choices, len(np.unique(column[chosen])))
        bits = column[chosen].astype(np.uint64)
        answers = ((answers * np.uint64(0x100000001B3)) ^ bits) * np.uint64(0x9E3779B97F4A7C15)
    stacked = np.stack(figures[:FIGURES], axis=1) if figures else np.zeros((len(chosen), 0))
    return Print(whole.hexdigest(), answers, stacked, choices)


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
    """Runs by id, by key, by the row that they are seeds of, and by their case."""

    def __init__(self) -> None:
        self._ids: dict[str, _Met] = {}
        self._keys: dict[str, list[_Met]] = {}
        self._rows: dict[Row, list[_Met]] = {}
        self._cases: dict[Row, list[_Met]] = {}

    def add(self, record: bundle.RunRecord, path: Path, read: Callable[[], Print | None], *, stands: bool = False) -> None:
        """Remember a run; `stands`: it was there before what is being checked."""
        met = _Met(path, record, read, stands)
        self._ids.setdefault(record.id, met)
        if record.status == "ok":
            self._keys.setdefault(record.key, []).append(met)
            self._rows.setdefault(_row(record), []).append(met)
            self._cases.setdefault(_case(record), []).append(met)

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
        if evidence is not None:
            others = (met for met in self._cases.get(_case(record), ()) if _row(met.record) != _row(record))
            yield from islice(_borrowed(where, record, evidence, others), 1)  # one is told of: copies have copies


def _beside(where: str, record: bundle.RunRecord, evidence: Print | None, met: _Met) -> Iterator[Finding]:
    """Another run of the same row: another seed, or the same one that stands already."""
    if met.record.spec.seed == record.spec.seed:
        if met.stands and record.created <= met.record.created:
            told = f"{record.created} is not after {met.record.created}, when {met.path} was made, which stands there already"
            yield Finding(where, bundle.RUN, "created", "error", told, "who was first counts: run it again as a replay")
        return
    if not (record.method.seedless and met.record.method.seedless) and evidence is not None and met.print is not None:
        told = f"as seed {met.record.spec.seed} at {met.path}"
        near, answered = evidence.alike(met.print), evidence.answered(met.print)
        if _same(evidence, met.print):
            yield Finding(where, bundle.EVIDENCE, "row", "error", f"the same evidence {told}", OWN)
        elif near == 1 and evidence.varied:
            yield Finding(where, bundle.EVIDENCE, "row", "error", f"the same evidence but for last digits {told}", OWN)
        elif (share := near if near >= ALIKE else answered) >= ALIKE:
            words = f"{100 * share:.1f} % of its answers are the same {told}"
            yield Finding(where, bundle.EVIDENCE, "row", "mark", words, "nothing to do: it is shown")
    mine, theirs = (r.measure("examples") for r in (record, met.record))
    if mine and theirs and record.method.version == met.record.method.version:
        low, high = sorted((mine.value, theirs.value))
        if high > SPREAD * low:
            told = f"{mine.value:,.0f}, and {theirs.value:,.0f} at {met.path}, another seed of the same row"
            yield Finding(where, bundle.RUN, "measures examples", "error", told, "run it again and submit what the runner wrote")


def _borrowed(where: str, record: bundle.RunRecord, evidence: Print, others: Iterable[_Met]) -> Iterator[Finding]:
    """Evidence that stands under another row of the case, or nearly so under another method."""
    for met in others:
        if met.print is None:
            continue
        theirs = met.record
        ours = record.method.name == theirs.method.name
        told = f"as {_titled(theirs)}, seed {theirs.spec.seed}, at {met.path}"
        if _same(evidence, met.print):
            if ours and _row(record)[:-1] == _row(theirs)[:-1]:  # of one target and division, by another setting
                mend = "evidence belongs to one row; a setting that changes nothing makes no row of its own"
                yield Finding(where, bundle.EVIDENCE, "row", "error", f"the same evidence {told}", mend)
            elif not _turned(record, theirs):
                yield Finding(where, bundle.EVIDENCE, "row", "mark", f"the same evidence {told}", "nothing to do: it is shown")
        elif not ours and evidence.alike(met.print) >= ALIKE and evidence.varied:
            words = f"{100 * evidence.alike(met.print):.1f} % of its answers are the same {told}"
            yield Finding(where, bundle.EVIDENCE, "row", "mark", words, "nothing to do: it is shown")


def _turned(a: bundle.RunRecord, b: bundle.RunRecord) -> bool:
    """Whether two methods of ours, both set otherwise than by default, may be one: each with what is its own turned off."""
    return all(r.method.origin == "reference" and r.method.variant for r in (a, b)) and a.method.name != b.method.name


def _titled(record: bundle.RunRecord) -> str:
    return " ".join(filter(None, (record.method.name, record.method.variant, record.spec.target)))


def _same(a: Print | None, b: Print | None) -> bool:
    return a is not None and b is not None and a.digest == b.digest


def _case(record: bundle.RunRecord) -> Row:
    spec = record.spec
    return spec.task, str(spec.version), spec.case


def _row(record: bundle.RunRecord) -> Row:
    spec, method = record.spec, record.method
    return spec.task, str(spec.version), spec.tier, spec.division, spec.case, spec.target, method.name, method.variant


def _one(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()
