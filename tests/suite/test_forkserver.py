"""Forked stages do what stages in an interpreter of their own do, tell how they ended, and end with their server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from suite import runner, system
from suite.bundle import EVIDENCE, sha256
from suite.forkserver import ForkServer
from suite.order import SOLUTION
from tests.helpers import method_file, spec

CARD = system.card("cpu")


def solved(root: Path, method: str, launch: runner.Launch) -> runner.Outcome:
    settings = runner.Settings(root / "out", root / "work", solve_only=True, launch=launch)
    return runner.run(runner.make_order(spec(), method, []), settings, CARD, lambda *_: None)


def test_a_forked_solve_finds_what_one_in_its_own_interpreter_does(tmp_path: Path, server: ForkServer) -> None:
    mine = method_file(tmp_path, "return Network(problem.model())")
    ours, theirs = solved(tmp_path / "a", mine, server.launch), solved(tmp_path / "b", mine, runner.launch)
    assert ours.status == theirs.status == "solved"
    assert sha256(ours.path / EVIDENCE) == sha256(theirs.path / EVIDENCE)
    found = [torch.load(o.path / SOLUTION, weights_only=False).model.state_dict() for o in (ours, theirs)]
    assert all(torch.equal(v, found[1][k]) for k, v in found[0].items())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
        ("print('bad luck')\nraise SystemExit(3)", "ended by exit code 3. bad luck"),
    ],
)
def test_how_a_forked_stage_died_is_told(body: str, words: str, tmp_path: Path, server: ForkServer) -> None:
    outcome = solved(tmp_path, method_file(tmp_path, body), server.launch)
    assert outcome.status == "killed"
    assert words in outcome.reason


def test_siblings_do_not_draw_alike_by_birth(tmp_path: Path, server: ForkServer) -> None:
    for name in ("a", "b"):  # in one folder: each solve adds its draw
        body = (
            "import numpy as np\nopen(__file__ + '.drawn', 'a').write(f'{np.random.random()}\\n')\nreturn Network(problem.model())"
        )
        assert solved(tmp_path / name, method_file(tmp_path, body), server.launch).status == "solved"
    first, second = (tmp_path / "mine.py.drawn").read_text().split()
    assert first != second


@pytest.mark.slow
def test_what_still_runs_ends_with_the_server(tmp_path: Path) -> None:
    mine = method_file(tmp_path, "import time\ntime.sleep(600)")
    work = tmp_path / "work"
    work.mkdir()
    runner.make_order(spec(), mine, []).write(work)
    with ForkServer("image_pruning", {}) as short:
        child = short.launch(["solve", str(work)], work / "log.txt")
        assert child.poll() is None
        os.kill(child.pid, 0)
    assert child.wait(10) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    assert short.launch(["solve", str(work)], work / "log.txt").poll() == -signal.SIGKILL  # nobody is there any more
