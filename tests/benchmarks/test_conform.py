"""What `weighin conform` takes for the example of own-method.md, beside the same steps run stage by stage as `weighin run` does.

`pytest tests/benchmarks/test_conform.py --benchmark-enable -s` takes each in turn, twice, as a command of its own, and prints the
processor and wall time of each; without it tests/suite/test_conform.py runs the brief one, by what is here, and nothing is judged.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suite import runner
from suite.conform import Step
from tests.docs import examples

ENOUGH = 30.0  #: seconds that one waits, on two cores with nothing else to do
ROUNDS = 2


@dataclass(frozen=True)
class Taken:
    """One command: its steps, and what it took in seconds."""

    steps: tuple[Step, ...]
    wall: float
    cpu: float  #: user and system, of all its processes


def example(folder: Path) -> Path:
    """The method that own-method.md shows, in a file of its own."""
    (folder / "at_birth.py").write_text(examples.file("own-method.md", "at_birth.py"), encoding="utf-8")
    return folder / "at_birth.py"


def conform(file: Path, *, brief: bool) -> Taken:
    code = (
        "import json\nfrom dataclasses import asdict\nfrom suite.conform import conform\n"
        f"for s in conform({str(file)!r}, brief={brief}):\n    print(json.dumps(asdict(s)))"
    )
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-P", "-c", code], env=runner.environment(), capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    steps = tuple(Step(**json.loads(line)) for line in done.stdout.splitlines())
    return Taken(steps, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def test_conform_takes_seconds(benchmark: Any, tmp_path: Path) -> None:
    if not benchmark.enabled:
        pytest.skip("its steps are those of tests/suite/test_conform.py; what they take, with --benchmark-enable")
    file, ways = example(tmp_path), (True, False) * ROUNDS
    taken = benchmark.pedantic(lambda: [(brief, conform(file, brief=brief)) for brief in ways], rounds=1, iterations=1)
    told = {tuple((s.passed, s.name) for s in t.steps) for _, t in taken}
    assert len(told) == 1  # whichever way, the same steps with the same answers
    assert [passed for passed, _ in told.pop()] == [True] * 8
    mean = {way: [sum(getattr(t, what) for b, t in taken if b == way) / ROUNDS for what in ("cpu", "wall")] for way in ways}
    for way, name in ((True, "brief"), (False, "stage by stage")):
        cpu, wall = mean[way]
        print(f"\n{name:15} {cpu:6.1f} s of processors, {wall:6.1f} s of wall", end="")
    ratio = mean[False][0] / mean[True][0]
    print(f"\n{ratio:.1f} times less of processors, {mean[False][1] / mean[True][1]:.1f} of wall")
    benchmark.extra_info["ratio"] = round(ratio, 2)
    assert mean[True][1] < ENOUGH
