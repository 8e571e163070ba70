"""`weighin run --cluster` with submitit's local executor: jobs are processes of this machine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cluster.conftest import TOML, Sweep


@pytest.mark.slow  # jobs and their stages are processes that import torch each
def test_a_killed_local_job_is_missing_and_the_same_command_submits_it_again(short: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'weighin[cluster]'")
    sweep = Sweep(short)
    (short / "cluster.toml").write_text(TOML.replace('"slurm"', '"local"'))
    (short / "hold-0").touch()
    (row,) = json.loads(sweep.run("--json", "--solve-only").stdout)
    sweep.until(lambda: sweep.lives(0), "it begins")
    assert sweep.status()[1] == {"running": 1}
    os.kill(int(row["job"]), signal.SIGKILL)
    (note,) = (short / "results" / ".work" / "sweep").glob("*.json")
    os.kill(int(json.loads(note.read_text())["host"].split(":")[1]), signal.SIGKILL)
    code, counts, runs = sweep.status("--wait")
    assert (code, counts) == (1, {"missing": 1})
    assert "the same command submits it again" in runs[0]["mend"]
    (short / "hold-0").unlink()
    again = sweep.run("--solve-only")
    assert (again.returncode, "submitted 1 run " in again.stdout) == (0, True)
    code, counts, _ = sweep.status("--wait")
    assert (code, counts) == (0, {"solved": 1})
    assert [life[0] for life in sweep.lives(0)] == ["0", "1"]
