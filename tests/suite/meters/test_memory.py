"""Memory is read in fresh processes, as the runner does it, against allocations of known size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from suite import proc
from suite.meters import memory

ROOT = Path(__file__).parents[3]
MIB = 2**20
pytestmark = pytest.mark.skipif(not memory.STATUS.exists(), reason="the high-water mark is read from Linux's /proc")


def weighed(body: str) -> dict[str, tuple[float, list[str]]]:
    """Run `prepare` of this body in a process of its own; measures by name: MiB and warnings."""
    code = f"""
import json, torch
from pathlib import Path
from suite.meters import memory
{body}
found = memory.measure(prepare, device="cpu", workload="w", solution_bytes=12)
print(json.dumps({{m.name: (m.value / 2**20, m.warnings) for m in found}}))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize("mib", [8, 64])
def test_the_peak_is_what_a_pass_allocates(mib: int) -> None:
    found = weighed(f"""
def prepare():
    held = torch.ones(32 * 2**20, dtype=torch.uint8)  # before the pass: not part of its peak
    return lambda: held[0] + torch.ones({mib} * 2**20, dtype=torch.uint8)[0]
""")
    assert set(found) == {"memory_weights", "memory_peak", "memory_resident"}
    assert found["memory_weights"][0] * MIB == 12
    assert abs(found["memory_peak"][0] - mib) < 3
    assert found["memory_resident"][0] > 32 + mib


@pytest.mark.slow
def test_what_loading_needed_does_not_count() -> None:
    found = weighed("""
def prepare():
    torch.ones(1024 * 2**20, dtype=torch.uint8).sum(dtype=torch.uint8)
    return lambda: None
""")
    if not found["memory_resident"][1]:
        assert found["memory_resident"][0] < 1000
    assert found["memory_peak"][0] < 3


@pytest.mark.slow
def test_a_mark_that_cannot_be_reset_is_said() -> None:
    found = weighed("""
memory.CLEAR = Path("/proc/self/no_such_file")
prepare = lambda: lambda: None
""")
    assert memory.UNRESET in found["memory_peak"][1]
    assert memory.UNRESET in found["memory_resident"][1]


def test_the_high_water_mark_of_a_process_is_no_less_than_what_it_holds() -> None:
    (resident,) = memory.high_water("cpu")
    assert resident.name == "solve_resident"
    assert resident.value >= proc.status("VmRSS") * 0.9 > 0
