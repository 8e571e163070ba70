"""Rows weighed on this machine from their shapes, without training or data: which, in what order, and until when."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Literal

from suite import bundle, deployed, registry, runner, system, timings
from suite.board import machines
from suite.checks import retimed, untrusted
from suite.checks.findings import Refused
from suite.naming import UserError
from suite.protocol import NoShape

Ranking = tuple[str, str, str, str, str]  #: task, tier, division, case, target


@dataclass(frozen=True)
class Candidate:
    """A bundle whose shape can be weighed here."""

    path: Path
    record: bundle.RunRecord
    rank: int = 0  #: place of its row in its ranking, from 0, by the mean of the ranked measure
    turn: int = 0  #: how many seeds of its row come before it, those weighed on this class of machine among them

    @property
    def ranking(self) -> Ranking:
        s = self.record.spec
        return s.task, s.tier, s.division, s.case, s.target

    @property
    def row(self) -> tuple[str, ...]:
        """What it is a seed of."""
        return *self.ranking, self.record.method.name, self.record.method.variant

    @property
    def title(self) -> str:
        r = self.record
        words = (r.method.name, r.method.variant and f"({r.method.variant})", r.spec.target, r.spec.case, f"seed {r.spec.seed}")
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Left:
    """A bundle that is not weighed, and why."""

    path: Path
    record: bundle.RunRecord
    reason: str
    done: bool = False  #: weighed on this class of machine already


@dataclass(frozen=True)
class Plan:
    """What to weigh, most wanting first, and what is left out."""

    todo: Sequence[Candidate]
    left: Sequence[Left]


@dataclass(frozen=True)
class Timed:
    """What became of a candidate."""

    candidate: Candidate
    path: Path | None  #: of its timing; None where there is none
    reason: str = ""


def plan(paths: Sequence[Path], out: Path | None, device: str, card: system.SystemCard) -> Plan:
    """What is to be weighed on this machine, of bundles or of all bundles under folders.

    Rows without a timing on this class of machine come first, the best of each ranking before the others; then further seeds.  What
    is weighed on it already is left out, whether its own bundle or a timing says so.

    Args:
        out: where timings go and are looked for; None: the results that each bundle lies in.

    Raises UserError where a path holds no bundle.
    """
    found: dict[str, tuple[Path, bundle.RunRecord]] = {}
    for path in paths:
        inner = [path] if (path / bundle.RUN).exists() else list(bundle.find(path))
        if not inner:
            raise UserError(f"{path}: no bundle lies there; name bundles, or a folder of results")
        for one in inner:
            record = bundle.read(one)
            if record.status == "ok":
                found.setdefault(record.id, (one, record))
    roots = {root for path, _ in found.values() if (root := home(path, out)) is not None}
    like = _class_of(roots, card)
    timed = {(t.row.id, t.device) for root in sorted(roots) for t in timings.stored(root) if like(t.card)}
    here = {
        r.id for _, r in found.values() if (like(r.systems.get("weigh", "")) and r.spec.device == device) or (r.id, device) in timed
    }
    left, able = [], []
    for path, record in found.values():
        if record.id in here:
            left.append(Left(path, record, "weighed on this class of machine already", done=True))
        elif why := _unable(record):
            left.append(Left(path, record, why))
        else:
            able.append(Candidate(path, record))
    return Plan(_ordered(able, [r for _, r in found.values()], here), left)


def home(path: Path, out: Path | None) -> Path | None:
    """The folder of results that timings of a bundle go to."""
    return out if out is not None else bundle.results_of(path)


def _class_of(roots: set[Path], card: system.SystemCard) -> Callable[[str], bool]:
    """Whether a card, by its hash, is of this machine's class."""
    cards = {card.hash: card.model_dump(mode="json")}
    for root in roots:
        for file in sorted((root / "systems").glob("*.json")):
            try:
                cards.setdefault(file.stem, json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                continue  # `weighin check` tells of it
    classes = machines.classes({k: v for k, v in cards.items() if isinstance(v, dict)}, {})
    return lambda name: name in classes and classes[name] == classes[card.hash]


def _unable(record: bundle.RunRecord) -> str:
    """Why a row cannot be weighed again; empty where it can, as far as can be told before it is tried."""
    spec = record.spec
    if spec.task not in registry.tasks():
        return f"no task {spec.task} here"
    shapes = registry.shapes(spec.task)
    if shapes is None:
        return f"{spec.task} tells no shapes: its rows cannot be re-timed yet"
    if spec.version != registry.task(spec.task).version:
        return f"version {spec.version} of {spec.task} is archived"
    if record.deployed is not None:
        return ""
    try:
        retimed.of_operations(record, shapes)
    except NoShape as e:
        return f"the bundle holds no shape, and its operations do not give one: {e}"
    return ""


def shape_of(candidate: Candidate) -> tuple[bytes, Literal["bundle", "operations"]]:
    """A row's shape as a file, and where it comes from; raises UserError where the bundle is not what it says."""
    record = candidate.record
    shapes = registry.shapes(record.spec.task)
    assert shapes is not None
    if record.deployed is None:
        return retimed.of_operations(record, shapes), "operations"
    try:
        untrusted.plain_files(candidate.path)
        untrusted.hashes(candidate.path, record)
        told = untrusted.shape(candidate.path, record)
        layers = [layer.model_dump() for layer in record.operations]
        differ = deployed.differences(shapes.layers(bundle.spec_of(record), told.shape), layers)
    except (NoShape, Refused, ValueError, LookupError, TypeError, AttributeError) as e:
        raise UserError(f"{candidate.path}/{bundle.DEPLOYED}: {e}; run `weighin check` on it") from e
    if differ:
        raise UserError(f"{candidate.path}/{bundle.DEPLOYED}: {differ[0]}; run `weighin check` on it")
    return (candidate.path / bundle.DEPLOYED).read_bytes(), "bundle"


def _ordered(able: Sequence[Candidate], every: Sequence[bundle.RunRecord], here: set[str]) -> list[Candidate]:
    """Candidates, most wanting first."""
    values: dict[tuple[str, ...], list[float]] = defaultdict(list)
    seeds: dict[tuple[str, ...], int] = defaultdict(int)
    up: dict[Ranking, bool] = {}
    for record in every:
        one = Candidate(Path(), record)
        seeds[one.row] += record.id in here
        if record.spec.task in registry.tasks() and (m := record.measure(registry.task_of(record.spec).ranked)):
            values[one.row].append(m.value)
            up[one.ranking] = m.direction != "down"
    places: dict[tuple[str, ...], int] = {}
    for ranking in {c.ranking for c in able}:
        rows = [row for row in values if row[:5] == ranking]
        rows.sort(key=lambda row: (-fmean(values[row]) if up[ranking] else fmean(values[row]), row))
        places |= {row: i for i, row in enumerate(rows)}
    out = []
    for c in sorted(able, key=lambda c: (c.record.spec.seed, c.record.created, c.record.id)):
        out.append(replace(c, rank=places.get(c.row, len(every)), turn=seeds[c.row]))
        seeds[c.row] += 1
    return sorted(out, key=lambda c: (c.turn, c.rank, c.row))


def time_all(
    todo: Sequence[Candidate],
    settings: Callable[[Path], runner.Settings],
    *,
    out: Path | None,
    device: str,
    threads: int,
    card: system.SystemCard,
    seconds: float,
    memory: bool,
    show: Callable[[Candidate], runner.Progress],
) -> Iterator[Timed]:
    """Weigh candidates one after the other until the budget is spent; each as it lands.

    None is begun that would, by the middle of those before it, not be done in time, and one that is not done when the time is over
    is given up: what is there is whole.

    Many arguments, each an option of `weighin time` or what it shows.

    Args:
        settings: by the folder of results that a timing goes to.
    """
    ends = time.monotonic() + seconds
    lasted: list[float] = []
    for candidate in todo:
        left = ends - time.monotonic()
        if left <= 0 or (lasted and left < median(lasted)):
            return
        root = home(candidate.path, out)
        if root is None:
            yield Timed(candidate, None, f"{candidate.path} lies in no folder of results; name one with --out")
            continue
        began = time.monotonic()
        chosen = settings(root)
        if math.isfinite(left):
            chosen = replace(chosen, cap_seconds=left)
        try:
            shape, origin = shape_of(candidate)
            asked = runner.Again(candidate.record, shape, origin, memory)
            path = runner.time_again(asked, chosen, device, threads, card, show(candidate))
        except TimeoutError:
            return
        except UserError as e:
            yield Timed(candidate, None, str(e))
            continue
        lasted.append(time.monotonic() - began)
        yield Timed(candidate, path)


__all__ = ["Candidate", "Left", "Plan", "Timed", "plan", "shape_of", "time_all"]
