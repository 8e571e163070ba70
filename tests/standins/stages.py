"""The runner's stages in forked processes: a fresh interpreter imports torch for seconds, and a board of stand-ins has eighty."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Any

from suite.files import read_json, write_json


def run_stage(arguments: list[str]) -> None:
    """What ``python -m suite.child`` does, in a process forked off one that has computed nothing yet; timings end early."""
    from suite import child
    from suite.meters import timing

    timing.CAP_SECONDS, timing.LONGEST = 0.2, 100  # as few quads as give an interval, however busy the machine is
    child._end_with_the_runner = lambda: None  # there is no pipe to the runner
    sys.exit(child.main(arguments))


def forked_child(work: Path, stage: str, outcome_path: Path, cap: float, progress: Any, launch: Any) -> None:
    """In place of `suite.runner._child`."""
    name, *rest = stage.split()
    process = context().Process(target=run_stage, args=([name, str(work), *rest],))
    process.start()
    process.join(cap)
    if not outcome_path.exists():
        write_json(outcome_path, {"status": "killed", "reason": f"the process ended by exit code {process.exitcode}"})
    assert read_json(outcome_path)


def context() -> Any:
    """A server to fork from that has torch in it; it starts with the first process."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.standins.warm"])
    return found
