"""Denormals are flushed on every thread; the ledger tells others' time from ours and our children's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from suite import proc
from suite.meters import environment

ROOT = Path(__file__).parents[3]
SPIN = "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"


@pytest.mark.slow
def test_denormals_are_flushed_on_every_thread() -> None:
    code = """
import torch
from suite.meters.environment import prepare_process
prepare_process(2)
tiny = torch.full((4_000_000,), 1e-39) * 0.5
print(torch.get_num_threads(), int((tiny != 0).sum()))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split() == ["2", "0"]


def test_solving_keeps_its_algorithms_and_timing_seeks_the_fastest() -> None:
    import torch

    was = torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        environment.prepare_process(1)
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
        environment.prepare_process(1, tune=True)
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (True, False)
    finally:
        torch.set_num_threads(was[0])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = was[1:]


def test_tf32_is_forbidden_but_where_it_is_asked_for() -> None:
    import torch

    def allowed() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    was = torch.get_num_threads()
    try:
        environment.prepare_process(1)
        call = environment.tf32()(allowed)
        assert [allowed(), call(), allowed(), call(), allowed()] == [(b, b) for b in (False, True, False, True, False)]
        with pytest.raises(KeyError), environment.tf32():
            raise KeyError
        assert allowed() == (False, False)
    finally:
        torch.set_num_threads(was)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the kernel's counters are read from Linux's /proc")
def test_a_childs_time_is_ours_while_it_lives_and_after() -> None:
    if not Path("/proc/self/task").joinpath(str(os.getpid()), "children").exists():
        pytest.skip("this kernel keeps no list of children")
    before, all_before = environment._own_seconds(), proc.busy_seconds()
    with subprocess.Popen([sys.executable, "-c", SPIN + "input()"], stdin=subprocess.PIPE) as child:
        while environment._own_seconds() - before < 0.35:
            time.sleep(0.02)  # ends when the living child is seen to have used its time
        assert child.poll() is None
        child.communicate(b"\n")
    assert environment._own_seconds() - before >= 0.35
    assert proc.busy_seconds() - all_before >= 0.3


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the kernel's counters are read from Linux's /proc")
def test_a_strangers_time_is_others() -> None:
    ledger = environment.Ledger()
    began = time.perf_counter()
    # a process whose parent has left is nobody's child here
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SPIN + 'print(1, flush=True)'!r}])"
    with subprocess.Popen([sys.executable, "-c", orphan], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip() == b"1"
    assert ledger.others() * (time.perf_counter() - began) >= 0.3


def test_unreadable_counters_give_no_busy_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "PROC", tmp_path)
    ledger = environment.Ledger()
    assert ledger.others() == 0.0
