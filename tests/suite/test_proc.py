"""Without a /proc, as on macOS: psutil tells what it can, what nothing tells is said, nothing crashes.

The folder is hidden by its one name; the figures are still those of this machine, and held to allocations and work of known size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite import proc

ROOT = Path(__file__).parents[2]
SPIN = "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"


def hidden(body: str) -> Any:
    """What a body prints as JSON in a process that finds no ``/proc`` from its first import on."""
    code = "import json\nfrom pathlib import Path\nfrom suite import proc\nproc.PROC = Path('/no/such/folder')\n" + body
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_time_of_a_living_child_is_ours_and_of_all_processors_is_busy() -> None:
    found = hidden(f"""
import subprocess, sys, time
from suite.meters import environment
own, busy, ledger = environment._own_seconds(), proc.busy_seconds(), environment.Ledger()
with subprocess.Popen([sys.executable, "-c", {SPIN + "input()"!r}], stdin=subprocess.PIPE) as child:
    while environment._own_seconds() - own < 0.35:
        time.sleep(0.02)  # ends when the living child is seen to have used its time
    alive = child.poll() is None
    child.communicate(b"\\n")
print(json.dumps([alive, environment._own_seconds() - own, proc.busy_seconds() - busy, ledger.others()]))
""")
    alive, own, busy, others = found
    assert alive
    assert own >= 0.35
    assert busy >= 0.3
    assert others >= 0


@pytest.mark.slow
def test_memory_is_measured_and_the_mark_that_cannot_be_reset_is_said() -> None:
    found = hidden("""
import torch
from suite.meters import memory
def prepare():
    held = torch.ones(32 * 2**20, dtype=torch.uint8)
    return lambda: held[0] + torch.ones(512 * 2**20, dtype=torch.uint8)[0]
measures = memory.measure(prepare, device="cpu", workload="w")
print(json.dumps({m.name: [m.value / 2**20, m.warnings] for m in measures} | {"held": proc.status("VmRSS") / 2**20}))
""")
    from suite.meters import memory

    assert set(found) == {"memory_peak", "memory_resident", "held"}
    assert all(memory.UNRESET in found[name][1] for name in ("memory_peak", "memory_resident"))
    assert found["memory_peak"][0] > 500
    assert found["memory_resident"][0] > found["held"] > 32


@pytest.mark.slow
def test_the_card_says_what_cannot_be_read() -> None:
    found = hidden("""
from suite import processors, system
print(json.dumps({"cores": processors.cores(), **system.card().model_dump(mode="json")}))
""")
    assert found["cores"] >= 1
    assert found["processor"]["cores_per_socket"] == found["processor"]["sockets"] == "not readable here"
    assert found["processor"]["model"]
    assert found["memory"]["total_gib"] > 0


def test_memory_of_the_machine_is_told_where_the_system_does_not_know_the_name(monkeypatch: Any) -> None:
    known, asked = proc.total_memory(), os.sysconf

    def unknown(name: str) -> int:
        if name == "SC_PHYS_PAGES":
            raise ValueError("unrecognized configuration name")
        return asked(name)

    monkeypatch.setattr(proc.os, "sysconf", unknown)
    assert abs(proc.total_memory() - known) < 0.01 * known


def test_with_a_folder_psutil_is_not_asked(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(proc, "PROC", tmp_path)
    assert (proc.busy_seconds(), proc.children_seconds(), proc.status("VmHWM"), proc.processors()) == (0.0, 0, 0.0, [])
