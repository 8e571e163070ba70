"""Rows that decide claims: made one after the other within a budget of time, those first by which most is decided an hour.

The state is the results folder, as of every sweep: what has a bundle is not run again, and a call that was stopped, or whose budget
is spent, goes on where it was.  After each seed the claims are looked at again, by the bounds of that look
(`suite.board.sequential`).
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from suite import runner, sweep
from suite.naming import UserError
from suite.protocol import Stopped

if TYPE_CHECKING:
    from suite.board.claims import Verdict
    from suite.board.planning import Need, Row
    from suite.order import Order
    from suite.system import SystemCard


@dataclass(frozen=True)
class Looked:
    """A claim after a seed that was made for it."""

    need: Need  #: what it needed before
    verdict: Verdict


@dataclass(frozen=True)
class Left:
    """A claim for which nothing more is made in this call."""

    need: Need
    reason: str


@dataclass
class Session:
    """One call: where its rows go, and how long it may take."""

    settings: runner.Settings
    card: SystemCard
    budget: float  #: seconds
    progress: Callable[[Order], runner.Progress]
    task: str = ""  #: only this one's claims
    device: str = "cpu"
    data: str = ""
    threads: int = 0
    spent: bool = False  #: whether it ended since the budget did
    _beside: float = 0.0  #: seconds, the most that a run took beside its solve
    _began: float = field(default_factory=time.monotonic)
    _left: dict[tuple[str, int], str] = field(default_factory=dict)
    _worked: dict[tuple[str, int], Need] = field(default_factory=dict)

    @property
    def remaining(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.monotonic() - self._began)

    def run(self) -> Iterator[runner.Outcome | Looked | Left]:
        """Each run as it lands, then what became of the claim that it was for.  Raises Stopped on Ctrl-C or SIGTERM."""
        from suite.board import store

        with tempfile.TemporaryDirectory(prefix="weighin-claims-") as folder:
            db = Path(folder) / "claims.duckdb"
            while not self.spent:
                store.publish(self.settings.out, db)
                needs, news = self._look(db)
                yield from news
                need = yield from self._chosen([n for n in needs if n.more is not None and _key(n) not in self._left])
                if need is None:
                    return
                self._worked[_key(need)] = need
                yield from self._seed(need)

    def _chosen(self, todo: list[Need]) -> Generator[Left, None, Need | None]:
        """The first claim that fits into what is left of the budget and can be worked on here; those that cannot are told."""
        while need := next((n for n in todo if (_first_missing(n) or 0.0) + self._beside <= self.remaining), None):
            if not (why := self._refused(need)):
                return need
            self._left[_key(need)] = why
            todo.remove(need)
            yield Left(need, why)
        self.spent = bool(todo)
        return None

    def _look(self, db: Path) -> tuple[list[Need], list[Looked]]:
        """What the undecided claims need now, and what the one that was worked on has become."""
        from suite import registry
        from suite.board import cases, claims, planning, store

        needs: list[Need] = []
        news: list[Looked] = []
        with store.connect(db) as connection:
            for task in [self.task] if self.task else registry.tasks():
                read = list(cases.of_task(connection, task))
                needs += planning.of(read, task)
                worked = {n.place: n for key, n in self._worked.items() if key[0] == task and key not in self._left}
                verdicts = claims.of(read, task) if worked else []
                for place, need in worked.items():
                    if verdicts[place].seeds > need.seeds or verdicts[place].verdict != "undecided":
                        news.append(Looked(need, verdicts[place]))
                    if verdicts[place].verdict != "undecided":
                        self._left[task, place] = verdicts[place].verdict
        return planning.ordered(needs), news

    def _refused(self, need: Need) -> str:
        """Why nothing can be made for a claim here; empty where something can."""
        before = self._worked.get(_key(need))
        if before is not None and before.seeds == need.seeds:
            return f"what was run with seed {before.next[0]} does not count for it"
        if need.card and need.card != self.card.hash:
            return f"its numbers are a machine's: only seeds of {need.card[:8]} count"
        odd = [r.device for r in need.rows if r.device and not self.device.startswith(r.device)]
        return f"its rows are of another device: --device {odd[0]}" if odd else ""

    def _seed(self, need: Need) -> Iterator[runner.Outcome | Left]:
        """The runs that the claim's next seed lacks."""
        seed = need.next[0]
        for row in need.rows:
            if seed in row.settled:
                continue
            if (row.seconds or 0.0) + self._beside > self.remaining:
                self.spent = True
                return
            before = self.remaining
            try:
                (order,) = self._orders(row, seed)
                with _alarm(self.remaining):
                    outcome = runner.run(order, self.settings, self.card, self.progress(order))
            except UserError as e:
                self._left[_key(need)] = str(e)
                yield Left(need, str(e))
                return
            except (KeyboardInterrupt, Stopped):
                if self.remaining > 0:
                    raise Stopped from None
                self.spent = True
                return
            if outcome.fresh:
                self._beside = max(self._beside, before - self.remaining - (row.seconds or 0.0))
            yield outcome

    def _orders(self, row: Row, seed: int) -> list[Order]:
        found = sweep.orders(
            row.task,
            methods=[row.method],
            seeds=[seed],
            tier=row.tier,
            division=row.division,
            cases=[row.case],
            targets=[row.target],
            settings=list(filter(None, row.variant.split(","))),
            device=self.device,
            data=self.data,
            threads=self.threads,
        )
        if [o.variant for o in found] != [row.variant]:
            raise UserError(
                f"{row.method} ({row.variant}): its settings cannot be told from its name; run it by --method and --set"
            )
        return found


def _key(need: Need) -> tuple[str, int]:
    return need.task, need.place


def _first_missing(need: Need) -> float | None:
    """Seconds that the first run takes that a claim lacks."""
    return next((r.seconds for r in need.rows if need.next[0] not in r.settled), 0.0)


@contextlib.contextmanager
def _alarm(after: float) -> Iterator[None]:
    """What Ctrl-C does, after so many seconds."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(after, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
