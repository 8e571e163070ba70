"""The proof that two sources are one version: the same runs in two trees, held equal bit for bit.

At a base commit, in a git worktree, and at the working tree each run is solved and examined by that tree's own command,
with the same seed on the same machine; `suite.fingerprint` says what each came to.  Where all runs of a method or a task
agree, its digest is entered into the table (`suite.versions`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from suite import bundle, registry, system
from suite.files import read_json, write_json
from suite.naming import UserError, digest
from suite.place import clone
from suite.processors import cores
from suite.versions import Entry, Lineage, enter, every

DIGITS = 16  #: of a digest that the table shows of a run
SOLVED, REFUSED = "solved", "user"
FIELDS = "fields"  #: of a problem, as `suite.fingerprint` names them
FINGERPRINT = Path(__file__).with_name("fingerprint.py")


@dataclass(frozen=True, order=True)
class Trial:
    """One run of a proof, seed 0."""

    task: str
    method: str  #: empty: the task itself, by its parent with initial weights
    tier: str
    division: str
    case: str
    targets: tuple[str, ...]  #: asked in turn until one is taken: not every method takes every kind
    settings: tuple[str, ...] = ()  #: ``key=value``

    @property
    def owner(self) -> str:
        """What it proves: ``task/method``, or the task."""
        return f"{self.task}/{self.method}" if self.method else self.task

    @property
    def name(self) -> str:
        return " ".join(filter(None, [self.task, self.method, *self.settings, self.tier, self.division, self.case]))


@dataclass(frozen=True)
class Result:
    """What a trial gave in one tree: a status, the target that was taken, and digests by part (`suite.fingerprint`)."""

    status: str
    target: str = ""
    reason: str = ""
    found: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """A trial at the base and at the working tree."""

    trial: Trial
    base: Result
    tree: Result

    @property
    def equal(self) -> bool:
        both = self.base.status == self.tree.status == SOLVED
        return both and self.base.target == self.tree.target and not self.odd

    @property
    def odd(self) -> list[tuple[str, str]]:
        """What differs, by kind and part.  Fields of a problem are held equal where both trees have them: they may be moved."""
        ours, theirs = self.tree.found, self.base.found
        found = []
        for kind in [*theirs, *(k for k in ours if k not in theirs)]:
            a, b = theirs.get(kind, {}), ours.get(kind, {})
            either = [*a, *(n for n in b if n not in a)]
            names = [n for n in a if n in b] if kind == FIELDS else either
            found += [(kind, n) for n in names if a.get(n) != b.get(n)]
        return found

    @property
    def refused(self) -> bool:
        """The base takes no such run: there are no numbers that could have changed."""
        return self.base.status == REFUSED

    @property
    def told(self) -> str:
        """In what they differ, or that they are equal."""
        if self.refused:
            return f"not for it: {self.base.reason}"
        if self.base.status != SOLVED or self.tree.status != SOLVED:
            sides = (("base", self.base), ("tree", self.tree))
            return "no proof: " + "; ".join(f"{side} {r.status} ({r.reason})" for side, r in sides if r.status != SOLVED)
        if self.base.target != self.tree.target:
            return f"the base takes {self.base.target}, the tree {self.tree.target}"
        odd = self.odd
        if not odd:
            return "equal bit for bit"
        kind, first = odd[0]
        whole = {*self.base.found.get(kind, {}), *self.tree.found.get(kind, {})}
        return f"{kind} differs in {sum(k == kind for k, _ in odd)} of {len(whole)}, first {first}"

    def line(self) -> str:
        """How the table tells it: the run, and what it came to."""
        shas = " ".join(f"{kind} {digest(parts)[:DIGITS]}" for kind, parts in self.base.found.items() if parts)
        return f"{self.trial.name} {self.base.target}: {shas}".replace(" :", ":")


Place = tuple[str, str, str, tuple[str, ...]]  #: tier, division, case, settings


def trials(name: str, results: Path, *, full: bool = False) -> list[Trial]:
    """The runs that prove ``task/method``: each case of the smoke tier, each case and setting that has rows, the speed division.

    All are of the smoke tier, those of the speed division at its first case.

    Args:
        full: also the rows of the speed division as they are, with the papers' networks, which takes minutes each.
    """
    task_name, _, method = name.partition("/")
    task = registry.task(task_name)
    smoke = task.tiers["smoke"]
    defaults = registry.defaults(registry.load(registry.method(task_name, method)))
    rows: dict[Place, str] = {}  # with the target of a row
    for folder in sorted((results / task_name).glob(f"*/{method}")):
        for record in map(bundle.read, bundle.find(folder)):
            spec, own = record.spec, sorted(record.method.configuration.items())
            settings = tuple(f"{k}={v}" for k, v in own if k in defaults and v != _plain(defaults[k]))
            speed = spec.division == "speed"
            rows.setdefault(("smoke", spec.division, smoke.cases[0] if speed else spec.case, settings), spec.target)
            if speed and full:
                rows.setdefault((spec.tier, spec.division, spec.case, settings), spec.target)
    usual = [t for tier in task.tiers.values() for t in tier.targets]
    known = tuple(dict.fromkeys([*smoke.targets, *filter(None, rows.values()), *usual]))
    wanted: dict[Place, tuple[str, ...]] = {("smoke", "closed", case, ()): known for case in smoke.cases}
    wanted["smoke", "speed", smoke.cases[0], ()] = known
    for place, target in rows.items():
        wanted.setdefault(place, tuple(dict.fromkeys([target, *known])))
    return [
        Trial(task_name, method, tier, division, case, targets, settings)
        for (tier, division, case, settings), targets in wanted.items()
    ]


def definition(task_name: str) -> list[Trial]:
    """What proves that a task asks and scores alike, besides its methods: each case of the smoke and small tiers by its parent."""
    tiers = registry.task(task_name).tiers
    places = [(tier, case) for tier in ("smoke", "small") if tier in tiers for case in tiers[tier].cases]
    return [Trial(task_name, "", tier, "closed", case, tiers[tier].targets[:1]) for tier, case in places]


def _plain(value: object) -> object:
    """A default as JSON gives it back; a field that must be given has none."""
    return None if value is MISSING else json.loads(json.dumps(value, default=str))


Progress = Callable[[str, int, int], None]  #: what was done, how many, of how many


class Prover:
    """Runs trials at a base commit and at the working tree; what either gave is kept, so that a stopped proof goes on.

    Args:
        base: a commit of this clone.
        folder: where results are kept, by tree and machine.
        results: committed bundles, whose cases and settings are run.
        workers: runs at a time, on one thread each.
    """

    def __init__(self, base: str, folder: Path, results: Path, workers: int = 0) -> None:
        self.commit = _git("rev-parse", "--verify", f"{base}^{{commit}}", told=f"no commit {base!r} here")
        self.results = results
        self.workers = workers or cores()
        self.card = system.card("cpu", 1)
        script = registry.meaning(FINGERPRINT.read_text(encoding="utf-8"))
        self.libraries = system.libraries(sorted({n for name in registry.tasks() for n in registry.task(name).libraries}))
        machine = f"{self.card.hash}-{digest([self.libraries, script])[:8]}"
        self._kept = {
            "base": folder / f"{self.commit[:12]}-{machine}",
            "tree": folder / f"tree-{registry.code_digest()[:12]}-{machine}",
        }

    @contextmanager
    def worktree(self) -> Iterator[Path]:
        """The base commit, checked out in a folder of its own for as long as it is needed."""
        with tempfile.TemporaryDirectory(prefix="weighin-base-") as scratch:
            place = Path(scratch) / "base"
            _git("worktree", "prune", told="worktrees cannot be listed")  # what a killed proof left, once its folder is gone
            _git("worktree", "add", "--detach", "--quiet", str(place), self.commit, told="the base cannot be checked out")
            try:
                yield place
            finally:
                _git("worktree", "remove", "--force", str(place), told="the base's worktree cannot be removed")

    def digests(self, place: Path, names: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Digest and stated version of tasks and methods in another tree, read as this code reads them; without absent ones."""
        found = {}
        for name in names:
            task, _, method = name.partition("/")
            file = place / "reference_impls" / task / f"{method}.py" if method else place / "tasks" / task / "task.py"
            if file.is_file():
                sha = registry.source_digest(file, house=place) if method else registry.task_digest(task, house=place)
                # a task may state its version in a class that task.py imports
                stated = [file] if method else file.parent.glob("*.py")
                found[name] = (sha, max(map(registry.stated_version, stated)))
        return found

    def compare(self, wanted: Sequence[Trial], place: Path, tell: Progress) -> list[Compared]:
        """All trials in both trees, in the order asked."""
        trees = {"base": place, "tree": registry.HOUSE}
        jobs = [(side, trial) for trial in wanted for side in trees]
        outcomes: list[Result] = []
        with _Workers(trees) as workers, ThreadPoolExecutor(self.workers) as pool:
            pending = [pool.submit(self._once, workers, side, trial) for side, trial in jobs]
            try:
                for (side, trial), job in zip(jobs, pending, strict=True):
                    outcomes.append(job.result())
                    tell(f"{side}: {trial.name}", len(outcomes), len(jobs))
            except BaseException:
                for job in pending:
                    job.cancel()
                workers.stop()
                raise
        return [Compared(t, b, w) for t, b, w in zip(wanted, outcomes[::2], outcomes[1::2], strict=True)]

    def _once(self, workers: _Workers, side: str, trial: Trial) -> Result:
        file = self._kept[side] / f"{digest([trial.name, list(trial.targets)])[:24]}.json"
        kept = read_json(file)
        if kept is None:
            kept = workers.ask(side, trial)
            if kept["status"] in (SOLVED, REFUSED):
                try:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_json(file, kept)
                except OSError as e:
                    raise UserError(f"cannot write to {file.parent}: {e.strerror}; make room or name another --work") from e
        return Result(**kept)


class _Workers:
    """Processes that run trials: one a thread and tree, started where it is first needed (`suite.fingerprint`)."""

    def __init__(self, trees: Mapping[str, Path]) -> None:
        self.trees, self._mine = trees, threading.local()
        self._all: list[subprocess.Popen[str]] = []

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for process in self._all:
            process.kill()

    def ask(self, side: str, trial: Trial) -> dict[str, Any]:
        """What a trial gives in a tree; raises UserError where the tree cannot run any."""
        process = getattr(self._mine, side, None)
        if process is None or process.poll() is not None:
            process = self._start(self.trees[side])
            setattr(self._mine, side, process)
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(asdict(trial)) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UserError(f"{side}: {self._words(process)}; runs cannot be made there: is it a commit of before `weighin run`?")
        return dict(json.loads(answer))

    def _start(self, house: Path) -> subprocess.Popen[str]:
        log = tempfile.NamedTemporaryFile(prefix="weighin-proof-", suffix=".log")  # noqa: SIM115  (lives as long as the process)
        process = subprocess.Popen(
            [sys.executable, "-P", str(FINGERPRINT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(house), "PYTHONHASHSEED": "0"},
        )
        process.log = log  # type: ignore[attr-defined]
        self._all.append(process)
        return process

    @staticmethod
    def _words(process: subprocess.Popen[str]) -> str:
        lines = Path(process.log.name).read_text(encoding="utf-8", errors="replace").strip().splitlines()  # type: ignore[attr-defined]
        return lines[-1] if lines else "the process ended"


def _git(*words: str, told: str) -> str:
    house = clone()
    if house is None:
        raise UserError(f"{told}: this weighin was installed from a wheel; a proof needs a clone")
    try:
        done = subprocess.run(["git", "-C", str(house), *words], capture_output=True, text=True)
    except OSError as e:
        raise UserError(f"{told}: git cannot be run ({e.strerror}); a proof needs a clone and git") from e
    if done.returncode:
        raise UserError(f"{told}: {' '.join(done.stderr.split())[-200:]}; a proof needs a clone with that commit")
    return done.stdout.strip()


@dataclass(frozen=True)
class Verdict:
    """What became of one method or task."""

    name: str
    proved: bool
    told: str
    runs: tuple[Compared, ...] = ()


def selected(names: Sequence[str]) -> list[Lineage]:
    """Lineages by ``task``, ``task/method`` or ``method``; all for ``--all``.  A task brings its methods: their runs prove it."""
    everything = every()
    if "--all" in names or "all" in names:
        return everything
    found: dict[str, Lineage] = {}
    for name in names:
        mine = [x for x in everything if name in (x.name, x.name.partition("/")[0], x.name.partition("/")[2])]
        if not mine:
            raise UserError(f"no task or method {name!r}; `weighin list` shows them, --all takes all")
        found |= {x.name: x for x in mine}
    return list(found.values())


def prove(
    names: Sequence[str], base: str, *, results: Path, folder: Path, tell: Progress, workers: int = 0, full: bool = False
) -> list[Verdict]:
    """Run the proof of what is named against a base commit, and enter each digest whose runs all agree.

    A task's digest is entered where all its methods agree, since its modules take part in each.  A raised version needs no
    proof: its digest opens it.  Of two digests that were proved equal, either may be the one that the table knew.
    """
    wanted = selected(names)
    verdicts: list[Verdict] = []
    for x in [x for x in wanted if x.state == "raised"]:
        enter(x.name, [Entry(x.stated, x.digest)])
        verdicts.append(Verdict(x.name, True, f"version {x.stated} is opened by {x.digest[:12]}"))
    lowered = [x.name for x in wanted if x.state == "lowered"]
    if lowered:
        raise UserError(f"{', '.join(lowered)}: states a version below the table's; a version only goes up")
    todo = [x for x in wanted if x.state != "raised"]
    if not todo:
        return verdicts
    prover = Prover(base, folder, results, workers)
    with prover.worktree() as place:
        there = prover.digests(place, [x.name for x in todo])
        moot = [Verdict(x.name, False, told) for x in todo if (told := _moot(x, there.get(x.name), prover.commit))]
        verdicts += moot
        todo = [x for x in todo if x.name not in {v.name for v in moot}]
        plan = {x.name: trials(x.name, results, full=full) if "/" in x.name else definition(x.name) for x in todo}
        compared = prover.compare([t for ts in plan.values() for t in ts], place, tell)
    if registry.code_digest.__wrapped__() != registry.code_digest():
        raise UserError("the sources changed while they were run, so nothing is proved; run it again and leave them alone")
    for x in todo:
        # a task's modules take part in each of its methods
        runs = tuple(c for c in compared if c.trial.owner == x.name or c.trial.task == x.name)
        verdicts.append(_judge(x, there[x.name][0], runs, prover))
    return verdicts


def _moot(x: Lineage, there: tuple[str, int] | None, commit: str) -> str:
    """Why no run could prove it; empty where one may."""
    if there is None:
        return f"is not at {commit[:12]}"
    before, version = there
    if version != x.stated:
        return f"states version {version} at {commit[:12]} and {x.stated} here: other numbers are meant"
    if not x.entered(before) and not x.entered(x.digest):
        return f"neither source is in the table: {commit[:12]} is no commit of a known digest"
    return ""


def _judge(x: Lineage, before: str, runs: tuple[Compared, ...], prover: Prover) -> Verdict:
    counted = [c for c in runs if not c.refused]
    odd = [c for c in counted if not c.equal]
    if not any(c.trial.division != "speed" for c in counted):
        return Verdict(x.name, False, "no run of it with evidence could be made", runs)
    if odd:
        told = f"{odd[0].trial.name}: {odd[0].told}"
        return Verdict(x.name, False, f"{len(odd)} of {len(counted)} runs differ; {told}", runs)
    new = {before, x.digest} - {e.digest for e in x.entries}
    if new:
        (sha,) = new
        proof = {
            "equals": x.digest if sha == before else before,
            "base": prover.commit,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "card": prover.card.hash,
            "torch": prover.libraries.get("torch", ""),
            "runs": [c.line() for c in counted if c.trial.owner == x.name],
        }
        enter(x.name, [Entry(x.stated, sha, proof)])
    told = f"{len(counted)} runs equal bit for bit; " + (f"{next(iter(new))[:12]} is entered" if new else "already in the table")
    return Verdict(x.name, True, told, runs)
