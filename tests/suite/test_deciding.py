"""`weighin run --claims`: which runs it makes, in which order, when it ends, and that it goes on.

The runs are invented: what a run does has its own tests (`test_runner.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suite import cli, deciding, runner
from suite.naming import UserError
from suite.order import Order
from suite.protocol import Stopped
from tests.suite.board.test_planning import WIDE, fill, put, stated
from tests.suite.conftest import CARD, settings, silent

Made = list[tuple[str, int]]
TOP1 = {"chex": 81.9, "uniform_scratch": 80.0}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A claim whose three seeds leave it undecided."""
    fill(tmp_path / "results", stated(over="uniform_scratch"), WIDE)
    return tmp_path / "results"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """What was run, instead of running it."""
    found: Made = []
    stub(monkeypatch, lambda order, out: invented(order, out, found))
    return found


def stub(monkeypatch: pytest.MonkeyPatch, run: Callable[[Order, Path], runner.Outcome]) -> None:
    monkeypatch.setattr(runner, "run", lambda order, chosen, card, progress: run(order, chosen.out))


def invented(order: Order, out: Path, found: Made, kept: float = 0.5, status: str = "ok") -> runner.Outcome:
    found.append((order.method, order.spec.seed))
    row = {"method": order.method, "target": order.spec.target, "case": order.spec.case, "variant": order.variant}
    return runner.Outcome(order, status, put(out, row, order.spec.seed, TOP1[order.method], kept=kept), fresh=True)


def session(tmp_path: Path, budget: float = 3600.0) -> deciding.Session:
    return deciding.Session(settings(tmp_path), CARD, budget, lambda order: silent, "image_pruning")


def test_seeds_are_made_until_a_look_decides_and_no_longer(results: Path, made: Made, tmp_path: Path) -> None:
    ran = session(tmp_path)
    found = list(ran.run())
    looked = [x.verdict for x in found if isinstance(x, deciding.Looked)]
    assert [v.verdict for v in looked[:-1]] == ["undecided"] * (len(looked) - 1)
    assert looked[-1].verdict == "met"
    assert [v.seeds for v in looked] == list(range(4, 4 + len(looked)))
    assert [v.look for v in looked] == list(range(2, 2 + len(looked)))
    assert made == [(m, s) for s in range(3, 3 + len(looked)) for m in ("chex", "uniform_scratch")]
    assert not ran.spent


def test_what_has_a_bundle_is_not_run_again(results: Path, made: Made, tmp_path: Path) -> None:
    put(results, stated(over="uniform_scratch")["versus"], 3, 80.0)
    list(session(tmp_path).run())
    assert ("uniform_scratch", 3) not in made
    assert made[0] == ("chex", 3)


def test_no_run_begins_that_is_not_expected_to_end_within_the_budget(results: Path, made: Made, tmp_path: Path) -> None:
    ran = session(tmp_path, budget=99.0)  # a solve takes 100 s
    assert list(ran.run()) == []
    assert made == []
    assert ran.spent


def test_a_run_that_outlasts_the_budget_is_stopped(results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slow(order: Order, out: Path) -> runner.Outcome:
        time.sleep(60)
        raise AssertionError

    stub(monkeypatch, slow)
    ran = session(tmp_path, budget=100.5)
    ran._began -= 99.0
    monkeypatch.setattr(deciding, "_first_missing", lambda need: 0.0)
    monkeypatch.setattr("suite.board.planning.np.median", lambda values: 0.0)
    began = time.monotonic()
    assert list(ran.run()) == []
    assert ran.spent
    assert time.monotonic() - began < 30


def test_ctrl_c_is_no_end_of_the_budget(results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(order: Order, out: Path) -> runner.Outcome:
        raise Stopped

    stub(monkeypatch, stopped)
    ran = session(tmp_path)
    with pytest.raises(Stopped):
        list(ran.run())
    assert not ran.spent


def test_a_claim_whose_runs_do_not_count_is_left(results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: Made = []
    stub(monkeypatch, lambda order, out: invented(order, out, found, kept=0.9))
    (*_, left) = session(tmp_path).run()
    assert isinstance(left, deciding.Left)
    assert left.reason == "what was run with seed 3 does not count for it"
    assert found == [("chex", 3), ("uniform_scratch", 3)]


def test_the_command_tells_runs_verdicts_and_how_it_ended(results: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run", "image_pruning", "--claims", "--budget", "1h", "--out", str(results)]
    done = CliRunner().invoke(cli.app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["budget_seconds"], told["ended"]) == (3600.0, "nothing left to run")
    assert told["looks"][-1]["verdict"] == "met"
    assert len(told["runs"]) == len(made)
    again = CliRunner().invoke(cli.app, words)  # decided: the same command makes nothing more
    assert "0 runs in" in " ".join(again.stdout.split())
    plan = CliRunner().invoke(cli.app, ["claims", "--plan", "--json", "--results", str(results)])
    assert json.loads(plan.stdout) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--claims"], "--budget"),
        (["--claims", "--budget", "six"], "write hours"),
        (["--claims", "--budget", "0h"], "more than 0"),
        (["--claims", "--budget", "1h", "-m", "chex"], "leave it out"),
        (["image_pruning", "-m", "chex", "--budget", "1h"], "--budget is of --claims"),
        (["image_pruning"], "name a task and a --method"),
        (["nothing", "--claims", "--budget", "1h"], "no task 'nothing'"),
    ],
)
def test_mistakes(words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli.app, ["run", *words])
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
