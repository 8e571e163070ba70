"""Runs that are killed or stopped are taken up again, and end as if they had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from suite import bundle, registry, runner
from suite.forkserver import ForkServer
from suite.order import CHECKPOINT, SOLUTION
from tests.commands import forked_command
from tests.helpers import method_file, spec
from tests.suite.conftest import CARD, settings, silent

PATIENCE = 600  #: seconds for what takes some: on a busy machine it may take minutes


def command(*words: str, work: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "WEIGHIN_WORK": str(work), "PYTHONPATH": str(registry.HOUSE)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "suite.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        # what a script starts in the background inherits that Ctrl-C is ignored: there tests would wait in vain
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def children_of(work: Path) -> list[int]:
    """Processes that work on a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(work).encode() in entry.read_bytes() and b"suite.child" in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("method", ["chex", "l1_filters"])
def test_a_killed_runner_goes_on_bit_for_bit(method: str, server: ForkServer, tmp_path: Path) -> None:
    """Its stages are in interpreters of their own, those of the straight run are forked: the bits are the same all the more."""
    straight = settings(tmp_path / "straight", launch=server.launch, solve_only=True)
    outcome = runner.run(runner.make_order(spec(), method, []), straight, CARD, silent)
    assert outcome.status == "solved", outcome.reason
    reference = bundle.read_table(outcome.path / bundle.EVIDENCE)

    words = ["run", "image_pruning", "-m", method, "--tier", "smoke", "--solve-only", "--out", str(tmp_path / "b")]
    work = tmp_path / "killed"
    for moment in ("before any checkpoint", "after the first", "after the second"):
        victim = forked_command(*words, folder=tmp_path, WEIGHIN_WORK=str(work))
        _wait_for(moment, work, victim)
        assert victim.exitcode is None
        assert children_of(work), "nothing is killed but a runner without a stage"
        victim.kill()
        victim.join(30)
        deadline = time.monotonic() + 30
        while children_of(work) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children_of(work) == [], "a child outlived its runner"
        assert not list((tmp_path / "b").rglob(bundle.RUN)), "a killed runner leaves no bundle"
        assert not list(work.glob(f"*/{SOLUTION}")), "it was killed in the midst of its solve"
        assert bool(list(work.glob(f"*/{CHECKPOINT}"))) == (moment != "before any checkpoint")
    last = forked_command(*words, folder=tmp_path, WEIGHIN_WORK=str(work))
    last.join(PATIENCE)
    assert last.exitcode == 0
    (file,) = work.glob(f"*/{bundle.EVIDENCE}")
    resumed = bundle.read_table(file)
    for name, column in reference.items():
        assert (column == resumed[name]).all(), name


def _wait_for(moment: str, work: Path, victim: BaseProcess) -> None:
    """Wait for a moment of the solve; fails where the runner ends before it is seen there."""
    deadline, stamps = time.monotonic() + PATIENCE, set()
    while time.monotonic() < deadline and victim.exitcode is None:
        stamps |= {f.stat().st_mtime_ns for f in work.glob(f"*/{CHECKPOINT}") if f.exists()}
        if moment == "before any checkpoint" and children_of(work):
            return
        if moment != "before any checkpoint" and len(stamps) > (moment == "after the second"):
            return
        time.sleep(0.005)
    pytest.fail(f"never seen {moment}: the runner ended first ({victim.exitcode})")


@pytest.mark.slow
def test_ctrl_c_stops_in_order_and_the_same_command_goes_on(tmp_path: Path) -> None:
    again = tmp_path / "again"
    slow = method_file(  # its first life waits in the second epoch for the signal, however slow this machine is
        tmp_path,
        "from pathlib import Path\n"
        "trainer = Trainer(problem)\n"
        "from reference_impls.parts.training import Hooks\n"
        "class Slow(Hooks):\n"
        "    def after_step(self):\n"
        "        if problem.run.examples > problem.steps_per_epoch * problem.batch:\n"
        f"            problem.run.stopping.wait(0 if Path({str(again)!r}).exists() else 60)\n"
        "return Network(trainer.fit('train', problem.model(), Sgd(), epochs=problem.epochs, hooks=Slow()))",
    )
    words = ["run", "image_pruning", "-m", slow, "--tier", "smoke", "--solve-only", "--out", str(tmp_path / "out")]
    runner_ = command(*words, work=tmp_path / "work")
    deadline = time.monotonic() + PATIENCE
    while not list((tmp_path / "work").glob(f"*/{CHECKPOINT}")) and time.monotonic() < deadline:
        time.sleep(0.05)
    runner_.send_signal(signal.SIGINT)
    assert runner_.wait(40) == 130
    assert runner_.stderr is not None
    assert b"goes on from here" in runner_.stderr.read()
    assert children_of(tmp_path / "work") == []
    again.touch()
    last = forked_command(*words, folder=tmp_path, WEIGHIN_WORK=str(tmp_path / "work"))
    last.join(PATIENCE)
    assert last.exitcode == 0
