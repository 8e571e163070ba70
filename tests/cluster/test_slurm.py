"""`weighin run --cluster` on a Slurm that runs: sweeps whose nodes, jobs and time limits fail, taken up again.

The controller, the daemons of four nodes and every job are real; what kills jobs is Slurm, or signal 9.  Memory is watched by
Slurm's accounting gatherer (``OverMemoryKill``), which needs no control groups and is the closest to them that a machine without
allows: it ends the whole job, where the kernel may end one stage alone.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from suite import bundle, standing
from suite.files import read_json
from tests.cluster.conftest import Sweep

SWEEP = {"nodes": 4, "cpus": 1, "largest_array": 9, "kill_over_memory": True}


@pytest.mark.slow  # twenty runs of six processes each
@pytest.mark.parametrize("slurm", [SWEEP], indirect=True)
def test_twenty_runs_outlive_a_kill_a_lack_of_memory_a_preemption_and_a_drained_node(slurm: Sweep) -> None:
    assert slurm.cluster is not None
    killed, preempted, drained, hungry = range(4)
    for seed in (killed, preempted, drained, hungry):
        (slurm.folder / f"hold-{seed}").touch()
    first = slurm.run("--json", seeds=range(20))
    assert first.returncode == 0, first.stderr
    jobs = {row["seed"]: row["job"] for row in json.loads(first.stdout)}
    assert len(set(jobs.values())) == 20
    assert len({j.partition("_")[0] for j in jobs.values()}) == 3, "an array has no more jobs than this Slurm lets it have: 8"
    slurm.until(lambda: all(slurm.lives(s) for s in range(4)), "the first four begin")
    again = slurm.run("--json", seeds=range(20))
    assert {row["state"] for row in json.loads(again.stdout)} <= {"running", "waiting"}, "nothing is submitted twice"
    code, counts, runs = slurm.status()
    assert (code, counts) == (0, {"running": 4, "waiting": 16})
    assert runs[0]["stage"] == "solve"

    note = next(n for n in _notes(slurm) if n["job"] == jobs[killed])
    os.kill(int(note["host"].split(":")[1]), signal.SIGKILL)
    slurm.cluster.run("scontrol", "update", f"NodeName={runs[drained]['node']}", "State=DRAIN", "Reason=repair")
    (slurm.folder / f"take-{hungry}").touch()
    (slurm.folder / f"hold-{drained}").unlink()
    slurm.cluster.run(
        "sbatch", "-p", "urgent", "-w", runs[preempted]["node"], "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"
    )
    slurm.until(lambda: slurm.cluster.queue()[jobs[preempted]] == "PENDING", "one is pre-empted")  # type: ignore[union-attr]
    (slurm.folder / f"hold-{preempted}").unlink()
    slurm.cluster.run("scontrol", "update", f"JobId={jobs[preempted]}", "StartTime=now")  # Slurm lets what it put back rest for minutes

    code, counts, runs = slurm.status("--wait")
    assert (code, counts) == (1, {"ok": 18, "missing": 2}), runs
    assert runs[killed]["state"] == runs[hungry]["state"] == "missing"
    assert f"job {jobs[killed]}: " in runs[killed]["reason"]
    assert "memory" in (runs[hungry]["reason"] + runs[hungry]["mend"]).lower()
    assert all("same command" in runs[s]["mend"] for s in (killed, hungry))
    assert [life[0] for life in slurm.lives(preempted)] == ["0", "1"], "its second life goes on from the checkpoint of the first"
    assert len(slurm.lives(drained)) == 1

    for seed, what in ((killed, "hold"), (hungry, "hold"), (hungry, "take")):
        (slurm.folder / f"{what}-{seed}").unlink()
    second = slurm.run("--json", seeds=range(20))
    assert second.returncode == 0, second.stderr
    submitted = {row["seed"] for row in json.loads(second.stdout) if row["state"] == "submitted"}
    assert submitted == {killed, hungry}, "what is missing, and nothing else"
    assert f"seed {killed}: job {jobs[killed]}: " in second.stderr
    assert f"seed {hungry}: job {jobs[hungry]}: " in second.stderr
    code, counts, _ = slurm.status("--wait")
    assert (code, counts) == (0, {"ok": 20})
    assert [life[0] for life in slurm.lives(killed)] == ["0", "1"]

    keys = [bundle.read(p.parent).key for p in (slurm.folder / "results").rglob(bundle.RUN)]
    assert len(keys) == len(set(keys)) == 20, "every run has a bundle, none two"
    assert all(len(slurm.lives(s)) == 1 for s in range(4, 20))
    third = slurm.run(seeds=range(20))
    assert third.returncode == 0
    assert "submitted 0 runs; 20 have their bundles" in third.stdout


def _notes(slurm: Sweep) -> list[dict[str, str]]:
    return [read_json(Path(p)) for p in (slurm.folder / "results" / ".work" / standing.NOTES).glob("*.json")]
