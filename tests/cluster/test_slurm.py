"""`weighin run --cluster` on a Slurm that runs: sweeps whose nodes, jobs and time limits fail, taken up again.

The controller, the daemons of four nodes and every job are real; what kills jobs is Slurm, or signal 9.  Memory is watched by
Slurm's accounting gatherer (``OverMemoryKill``), which needs no control groups and is the closest to them that a machine without
allows: it ends the whole job, where the kernel may end one stage alone.
"""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from suite import bundle, standing
from suite.files import read_json
from tests.cluster.conftest import TOML, Sweep

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
    slurm.cluster.run(
        "scontrol", "update", f"JobId={jobs[preempted]}", "StartTime=now"
    )  # Slurm lets what it put back rest for minutes

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


@pytest.mark.slow
@pytest.mark.parametrize("slurm", [{"nodes": 1, "bind": True}], indirect=True)
def test_a_time_limit_is_met_and_the_run_goes_on_on_all_the_processors_it_was_granted(slurm: Sweep) -> None:
    assert slurm.cluster is not None
    (slurm.folder / "hold-0").touch()
    limits = TOML.replace("timeout_min = 10", "timeout_min = 1\nslurm_signal_delay_s = 50").replace("per_task = 1", "per_task = 2")
    (slurm.folder / "cluster.toml").write_text(limits)
    (row,) = json.loads(slurm.run("--json", "--solve-only").stdout)
    slurm.until(lambda: slurm.cluster.queue()[row["job"]] == "PENDING", "its limit is near")  # type: ignore[union-attr]
    code, counts, runs = slurm.status()
    assert (code, counts) == (0, {"waiting": 1})
    assert runs[0]["reason"] == "BeginTime"
    (slurm.folder / "hold-0").unlink()
    slurm.cluster.run("scontrol", "update", f"JobId={row['job']}", "StartTime=now", "TimeLimit=10")
    code, counts, runs = slurm.status("--wait")
    assert (code, counts) == (0, {"solved": 1}), runs
    lives = slurm.lives(0)
    assert [life[0] for life in lives] == ["0", "1"]
    if len(os.sched_getaffinity(0)) > 1:
        assert [life[2] for life in lives] == ["2", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("slurm", [{"nodes": 2, "accounting": True, "forget": 2}], indirect=True)
def test_jobs_that_the_controller_forgot_are_asked_of_the_accounting(slurm: Sweep) -> None:
    assert slurm.cluster is not None
    for seed in (0, 1):
        (slurm.folder / f"hold-{seed}").touch()
    (slurm.folder / "cluster.toml").write_text(TOML.replace("restarts = 1", "restarts = 0"))
    rows = json.loads(slurm.run("--json", "--solve-only", "--device", "cuda", seeds=range(2, 3)).stdout)
    rows += json.loads(slurm.run("--json", "--solve-only", seeds=range(2)).stdout)
    jobs = {row["seed"]: row["job"] for row in rows}
    slurm.until(lambda: slurm.lives(0) and slurm.lives(1), "they begin")
    slurm.cluster.run("scancel", jobs[0])
    slurm.until(lambda: jobs[0] not in slurm.cluster.queue(), "it is forgotten")  # type: ignore[union-attr]
    slurm.until(lambda: "CANCELLED" in slurm.cluster.run("sacct", "-n", "-X", "-j", jobs[0]), "it is in the books")  # type: ignore[union-attr]
    _, counts, runs = slurm.status("--all")
    assert counts == {"running": 1, "missing": 2}, runs
    slurm.cluster.run("scancel", "--signal=USR2", jobs[1])  # as Slurm does when the time limit is near
    _, counts, runs = slurm.status("--all", "--wait")
    assert counts == {"missing": 3}, runs
    assert "timed-out too many times" in runs[1]["reason"]
    assert "raise timeout_min" in runs[1]["mend"]
    assert runs[0]["reason"].startswith(f"job {jobs[0]}: CANCELLED")
    assert "no device 'cuda' here" in runs[2]["reason"]


@pytest.mark.parametrize("slurm", [{"nodes": 1}], indirect=True)
def test_a_controller_that_does_not_answer_or_refuses_is_told_and_nothing_is_submitted(slurm: Sweep) -> None:
    assert slurm.cluster is not None
    cluster = slurm.folder / "cluster.toml"
    cluster.write_text(TOML.replace("main", "night"))
    refused = slurm.run()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "invalid partition specified: night" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    cluster.write_text(TOML)
    slurm.cluster.run("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=repair")
    assert slurm.run().returncode == 0
    slurm.cluster.run("scontrol", "shutdown", "slurmctld")
    slurm.cluster.daemons["slurmctld"].wait(60)
    silent = slurm.run()
    assert (silent.returncode, silent.stdout) == (2, "")
    assert "squeue does not answer" in silent.stderr
    assert len(silent.stderr.splitlines()) == 1
    code, counts, runs = slurm.status()
    assert (code, counts) == (0, {"waiting": 1})
    assert "squeue does not answer" in runs[0]["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("slurm", [{"nodes": 2, "cpus": 1}], indirect=True)
def test_of_two_commands_at_once_one_submits_and_a_lost_node_s_job_goes_on_on_another(slurm: Sweep) -> None:
    assert slurm.cluster is not None
    (slurm.folder / "hold-0").touch()
    with ThreadPoolExecutor(2) as both:
        told = [json.loads(f.result().stdout) for f in [both.submit(slurm.run, "--json", "--solve-only") for _ in range(2)]]
    assert sorted(rows[0]["state"] == "submitted" for rows in told) == [False, True]
    assert len(slurm.cluster.queue()) == 1
    (job,) = slurm.cluster.queue()
    slurm.until(lambda: slurm.lives(0), "it begins")
    ((_, node, _),) = slurm.lives(0)
    slurm.cluster.crash(int(node.removeprefix("n")))
    slurm.until(lambda: slurm.cluster.queue()[job] == "PENDING", "it is put back")  # type: ignore[union-attr]
    (slurm.folder / "hold-0").unlink()
    slurm.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    code, counts, runs = slurm.status("--wait")
    assert (code, counts) == (0, {"solved": 1}), runs
    assert [life[0] for life in slurm.lives(0)] == ["0", "1"]
    assert slurm.lives(0)[1][1] != node


def _notes(slurm: Sweep) -> list[dict[str, str]]:
    return [read_json(Path(p)) for p in (slurm.folder / "results" / ".work" / standing.NOTES).glob("*.json")]
