"""How the runs of a sweep stand: what was asked for and of whom, kept beside the results, and what has become of it.

`FILE` tells which runs a command asked for and who was to do them; each run's own note, in `NOTES`, who began it and how that
ended.  Bundles are the truth: what has one is done, whatever else is told of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from suite import bundle, queues, runner
from suite.files import read_json, write_json
from suite.naming import UserError
from suite.order import SOLUTION, Order, outcome_file
from suite.protocol import Spec, Stopped

FILE, NOTES = "sweep.json", "sweep"
LAYOUT = 1  #: of FILE
AGAIN = "the same command submits it again"
State = Literal["ok", "solved", "running", "waiting", "failed", "missing"]
STATES: tuple[State, ...] = ("ok", "solved", "running", "waiting", "failed", "missing")
#: of a log
MEMORY = re.compile(r"exceeded.{0,20} memory limit|out of memory|oom.kill", re.IGNORECASE)
TIME = re.compile(r"timed-out too many times|due to time limit", re.IGNORECASE)
WRONG = re.compile(r"error|exceed|kill|cancel|denied|no such", re.IGNORECASE)
GOOD: tuple[State, ...] = ("ok", "solved")
ACTIVE: tuple[State, ...] = ("running", "waiting")


@dataclass(frozen=True)
class Entry:
    """A run that a command asked for, and who is to do it."""

    order: Order
    kind: Literal["command", "slurm", "local"]  #: the command itself, or a job of an executor
    job: str  #: as its kind names it (`queues`)
    asked: str  #: when a command last asked for it, UTC
    logs: str = ""  #: folder of the jobs' logs
    solve_only: bool = False


@dataclass(frozen=True)
class Standing:
    """What has become of a run.

    ``failed``: its bundle says why; ``missing``: there is none, and nobody is at work on one.
    """

    order: Order
    state: State
    job: str = ""
    reason: str = ""  #: one line
    mend: str = ""  #: what to do
    path: str = ""  #: of the bundle, or of the work folder
    node: str = ""
    stage: str = ""
    since: str = ""

    @property
    def name(self) -> str:
        """The run in words."""
        o = self.order
        parts = (o.spec.task, o.method, o.variant and f"({o.variant})", o.spec.case, o.spec.target, f"seed {o.spec.seed}")
        return " ".join(filter(None, parts))


def identity(order: Order) -> str:
    """A run's name in a sweep: what was asked, on whatever machine."""
    return order.key({})


def now() -> str:
    return datetime.now(UTC).strftime(bundle.WHEN)


@dataclass
class Ledger:
    """The state file of a work folder, which no two commands write at once: use as a context to change it."""

    out: Path
    work: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    def __enter__(self) -> Ledger:
        self.work.mkdir(parents=True, exist_ok=True)
        self._lock = (self.work / f".{FILE}.lock").open("w")
        try:
            with contextlib.suppress(OSError):  # a file system without locks: two commands at once are then the user's own doing
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.entries = read(self.work)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries down, each in place of what was known of its run."""
        self.entries |= {identity(e.order): e for e in entries}
        write_json(self.work / FILE, {"layout": LAYOUT, "runs": {k: asdict(e) for k, e in self.entries.items()}})


def read(work: Path) -> dict[str, Entry]:
    """The entries of a work folder by their runs; empty where nothing was asked.  Raises UserError where the file is damaged."""
    try:
        if (found := read_json(work / FILE)) is None:
            return {}
        if found["layout"] != LAYOUT:
            raise ValueError(f"layout {found['layout']}")
        return {name: _entry(fields) for name, fields in found["runs"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        raise UserError(f"{work / FILE} is damaged ({e}); move it away: bundles and work folders stay, and jobs go on") from e


def _entry(fields: Mapping[str, Any]) -> Entry:
    order = fields["order"]
    return Entry(**{**fields, "order": Order(**{**order, "spec": Spec(**order["spec"])})})


def note(work: Path, order: Order, **told: Any) -> None:
    """Add to what a run's own note tells."""
    file = work / NOTES / f"{identity(order)[:24]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**noted(work, order), **told})


def noted(work: Path, order: Order) -> dict[str, Any]:
    """What a run's own note tells; empty where it has not begun, or the note is damaged."""
    try:
        return dict(read_json(work / NOTES / f"{identity(order)[:24]}.json") or {})
    except (ValueError, TypeError):
        return {}


@contextlib.contextmanager
def noting(work: Path, order: Order, job: str) -> Iterator[None]:
    """Note that a run begins, and where it ends with an exception, which; an outcome is noted by `note_outcome`."""
    began = {"began": now(), "ended": "", "status": "", "reason": "", "path": "", "card": "", "folder": ""}
    note(work, order, job=job, host=queues.this_process(), lives=int(noted(work, order).get("lives", 0)) + 1, **began)
    try:
        yield
    except Exception as e:
        words = str(e) if isinstance(e, UserError) else "stopped" if isinstance(e, Stopped) else f"{type(e).__name__}: {e}"
        note(work, order, ended=now(), status="raised", reason=_line(words))
        raise


def note_card(work: Path, order: Order, card: str) -> None:
    """Note the system card of whoever began a run."""
    note(work, order, card=card, folder=order.key({"solve": card, "weigh": card})[:24])


def note_outcome(work: Path, outcome: runner.Outcome) -> None:
    """Note how a run ended."""
    told = {"status": outcome.status, "reason": _line(outcome.reason), "path": str(outcome.path.resolve())}
    note(work, outcome.order, ended=now(), **told)


def register(out: Path, work: Path, todo: Sequence[Order], *, solve_only: bool) -> None:
    """Write down that this command is to do orders, but for those that have a job elsewhere which may live."""
    with Ledger(out, work) as ledger:
        given = [e for e in (ledger.entries.get(identity(o)) for o in todo) if e is not None and e.kind != "command"]
        living = {identity(s.order) for s in standings(out, work, given) if s.state in ACTIVE}
        mine = queues.this_process(), now()
        ledger.put(Entry(o, "command", *mine, solve_only=solve_only) for o in todo if identity(o) not in living)


def standings(out: Path, work: Path, entries: Sequence[Entry], *, strict: bool = False) -> list[Standing]:
    """How runs stand, in their order.

    Args:
        out: results.
        work: work folders.
        entries: what was asked, and of whom.
        strict: raise `queues.Silent` where a scheduler does not answer, in place of telling so.
    """
    notes = [noted(work, e.order) for e in entries]
    cards = {str(n["card"]) for n in notes if n.get("card")}
    books = Bundles(out, cards)
    done = [_done(books, e, n) for e, n in zip(entries, notes, strict=True)]
    jobs: dict[str, queues.Job] = {}
    silent = ""
    open_ = [d is None or d.state == "failed" for d in done]  # one that failed may be tried again just now
    for kind, ask in ASK.items():
        try:
            jobs |= ask([e.job for e, o in zip(entries, open_, strict=True) if o and e.kind == kind and e.job])
        except queues.Silent as words:
            if strict:
                raise
            silent = str(words)
    found = []
    for d, e, n in zip(done, entries, notes, strict=True):
        job = jobs.get(e.job)
        ended = n.get("job") == e.job and n.get("ended")
        again = d is not None and d.state == "failed" and job is not None and job.state in ACTIVE and not ended
        found.append(d if d is not None and not again else _undone(work, e, n, job, silent))
    return found


ASK: Mapping[str, Callable[[Iterable[str]], dict[str, queues.Job]]] = {
    "slurm": queues.slurm,
    "local": queues.local,
    "command": queues.commands,
}


class Bundles:
    """Bundles of orders on the machines that a sweep met: solved on one of them, weighed on any."""

    def __init__(self, out: Path, cards: Iterable[str]):
        self.out, self.cards = out, sorted(cards)
        self.scales = sorted({p.stem for p in (out / "systems").glob("*.json")} | set(self.cards))
        self._shelves: dict[Path, dict[str, list[Path]]] = {}

    def of(self, order: Order) -> tuple[Path, bundle.RunRecord] | None:
        """An order's first whole bundle, an `ok` one before others."""
        there = self._shelf(runner.shelf(self.out, order))
        keys = (order.key({"solve": a, "weigh": b}) for a in self.cards for b in self.scales) if there else ()
        found = [f for key in keys if key[:12] in there for f in [runner.stored(self.out, order, key, there[key[:12]])] if f]
        found.sort(key=lambda f: (f[1].status != "ok", f[1].status not in bundle.FINAL, f[1].created))
        return found[0] if found else None

    def _shelf(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._shelves:
            there: dict[str, list[Path]] = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                there.setdefault(path.name[:12], []).append(path)
            self._shelves[folder] = there
        return self._shelves[folder]


def _done(books: Bundles, entry: Entry, note: Mapping[str, Any]) -> Standing | None:
    """Where a run has its bundle, or what it was to leave; None where it has not."""
    found = books.of(entry.order)
    if found:
        path, record = found
        good = record.status == "ok"
        told = "" if good else f"{record.status}: {_line(record.reason)}"
        mend = "" if good or record.status in bundle.FINAL else "the same command with --retry tries it again"
        return Standing(entry.order, "ok" if good else "failed", entry.job, told, mend, str(path), since=record.created)
    if entry.solve_only and note.get("status") == "solved" and (Path(note["path"]) / SOLUTION).exists():
        return Standing(entry.order, "solved", entry.job, path=str(note["path"]), since=str(note["ended"]))
    return None


def _undone(work: Path, entry: Entry, note: Mapping[str, Any], job: queues.Job | None, silent: str) -> Standing:
    """Where a run without a bundle stands."""
    ours = note if entry.job in (note.get("job"), "") else {}  # of an earlier job it tells nothing
    base = Standing(entry.order, "missing", "" if entry.kind == "command" else entry.job, mend=AGAIN)
    if job is None:
        return replace(base, state="waiting", reason=silent or "nobody was asked", mend="")
    if job.state == "waiting":
        return replace(base, state="waiting", reason=job.reason, mend="")
    host = str(ours.get("host", "")).partition(":")[0]
    if job.state == "running":
        if not ours or ours.get("ended"):  # a command does one run after the other; a job is starting
            state: State = "waiting" if entry.kind == "command" else "running"
            return replace(base, state=state, reason=job.reason, node=job.node, mend="")
        stage = _stage(work / ours["folder"]) if ours["folder"] else ""
        return replace(
            base, state="running", reason=job.reason, mend="", node=job.node or host, stage=stage, since=str(ours["began"])
        )
    if entry.kind == "command":
        ours = note  # who began it is no matter
    mend = AGAIN if entry.kind != "command" else "the same command goes on from there" if ours else "the same command does it"
    reason = _end(entry, ours, job)
    # a job may have met its limit, and be called FAILED
    word = "OUT_OF_MEMORY" if MEMORY.search(reason) else "TIMEOUT" if TIME.search(reason) else job.word
    if word in queues.MEND:
        mend = f"{queues.MEND[word]}; {mend}"
    return replace(base, reason=reason, mend=mend, node=job.node or host)


def _end(entry: Entry, note: Mapping[str, Any], job: queues.Job) -> str:
    """How a run ended that left no bundle, in a line: by its own word, the scheduler's, submitit's, its log's."""
    if entry.kind == "command":
        return str(note.get("reason") or ("stopped before its end" if note else "not begun"))
    if note.get("ended") and note.get("reason"):
        return f"job {entry.job}: {note['reason']}"
    if note.get("status") in ("ok", "solved", *bundle.FINAL):
        return f"job {entry.job}: it left {note.get('path')}, which is gone or damaged"
    if job.state == "gone":
        told = "the scheduler does not know it any more"
    else:
        told = ": ".join(filter(None, [job.word, job.reason])) or "it ended"
        if job.word == "COMPLETED":
            told += ", but left no bundle"
    log = _exception(entry) or _last_line(entry)
    return f"job {entry.job}: {told}" + (f" ({log})" if log else "")


def _exception(entry: Entry) -> str:
    """What submitit kept of a job that raised: the last line of its trace."""
    file = Path(entry.logs) / f"{entry.job}_0_result.pkl"
    if not file.exists():
        return ""
    with contextlib.suppress(Exception):  # of another version, or torn
        from submitit.core.utils import pickle_load

        outcome, trace = pickle_load(file)
        if outcome == "error":
            return _line(str(trace).strip().splitlines()[-1])
    return ""


def _last_line(entry: Entry) -> str:
    """What a job's log says of its end: of a limit that it met, else its last words that something went wrong."""
    file = Path(entry.logs) / f"{entry.job}_0_log.err"
    try:
        lines = file.read_bytes()[-20_000:].decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for said in (MEMORY, TIME, WRONG):
        if found := [line.strip() for line in lines if said.search(line)]:
            return _line(found[-1])
    return ""


def _stage(folder: Path) -> str:
    """The stage that a run is in: the first without an outcome."""
    for stage in runner.STAGES[:-1]:
        if not outcome_file(folder, stage).exists():
            return stage
    return runner.STAGES[-1]


def _line(text: str) -> str:
    return " ".join(text.split("\n", 1)[0].split())[:300]


def place(entry: Entry) -> tuple[Any, ...]:
    """Where a run is told among others: seeds innermost."""
    o, s = entry.order, entry.order.spec
    return s.task, s.tier, s.division, s.case, o.method, o.variant, s.target, s.seed


def latest(entries: Mapping[str, Entry]) -> list[Entry]:
    """The runs that the last command asked for."""
    last = max((e.asked for e in entries.values()), default="")
    return [e for e in entries.values() if e.asked == last]


def counts(found: Iterable[Standing]) -> dict[State, int]:
    """How many runs stand how, of every state."""
    seen = Counter(s.state for s in found)
    return {state: seen[state] for state in STATES}
