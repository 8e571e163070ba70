"""What a scheduler says of its jobs: Slurm by its own commands, submitit's local executor by its processes.

submitit itself is asked for no state: where a cluster keeps no accounting it calls every job UNKNOWN and waits for ever, a job
that was pre-empted and put back reads as finished where its first life left an error, and one pre-empted for good as unfinished.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.naming import UserError

SECONDS = 60.0  #: that a scheduler's command may take
DEFAULT_ARRAY = 1001  #: Slurm's own MaxArraySize
#: states in which a job has not begun, or will begin again
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "CONFIGURING")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT")
#: what to do about an end, where it is more than to submit again
MEND = {
    "OUT_OF_MEMORY": "it took more memory than it was granted: raise mem_gb",
    "TIMEOUT": "it took longer than it was granted: raise timeout_min",
    "DEADLINE": "its deadline came before its end",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "PREEMPTED": "another job took its place",
}


@dataclass(frozen=True)
class Job:
    """What is known of one job."""

    state: Literal["waiting", "running", "ended", "gone"]  #: gone: the scheduler does not know it (any more)
    word: str = ""  #: the scheduler's own
    reason: str = ""  #: why it waits, or how it ended
    node: str = ""


class Silent(UserError):
    """The scheduler does not answer: nothing is known of its jobs, least of all that they ended."""


def need_slurm() -> None:
    """Raises UserError where Slurm's commands are not on this machine."""
    for program in ("sbatch", "squeue"):
        if shutil.which(program) is None:
            raise UserError(
                f'executor = "slurm" needs {program}, which is not here: call from a machine that submits to the cluster, '
                'or try with executor = "local"'
            )


def slurm(jobs: Iterable[str]) -> dict[str, Job]:
    """Slurm's word on jobs by their ids (``7``, or ``7_3`` of an array).  Raises Silent where the controller does not answer."""
    wanted = set(jobs)
    if not wanted:
        return {}
    if shutil.which("squeue") is None:
        raise Silent("squeue is not here: ask on a machine of the cluster")
    lines = _call("squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i|%T|%r|%N")
    found = {}
    for line in lines:
        name, word, reason, node = line.split("|", 3)
        if name in wanted:
            found[name] = _job(word, reason, node)
    if forgotten := wanted - found.keys():  # the controller remembers an end for minutes, accounting for longer
        found |= {name: job for name, job in _accounted(forgotten).items() if name in forgotten}
    return {name: found.get(name, Job("gone")) for name in wanted}


def _accounted(jobs: Iterable[str]) -> dict[str, Job]:
    """What Slurm's accounting says; nothing where a cluster keeps none, or it does not answer."""
    if shutil.which("sacct") is None:
        return {}
    ids = ",".join(sorted({name.partition("_")[0] for name in jobs}))
    try:
        lines = _call(
            "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode,NodeList", f"--jobs={ids}"
        )
    except Silent:
        return {}
    found = {}
    for line in lines:
        name, state, code, node = line.split("|", 3)
        found[name] = _job(state.split()[0] if state else "", "" if code in ("0:0", "") else f"exit code {code}", node)
    return found


def _job(word: str, reason: str, node: str) -> Job:
    reason = "" if reason in ("None", "") else reason
    if word in WAITING:
        return Job("waiting", word, reason)
    if word in RUNNING:
        return Job("running", word, "" if word == "RUNNING" else word.lower(), node)
    return Job("ended", word, reason, node)


def _call(*words: str) -> list[str]:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Silent(f"{words[0]} does not answer ({type(e).__name__}); try again later") from e
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Silent(f"{words[0]} does not answer: {told[-1] if told else f'exit code {done.returncode}'}; try again later")
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def largest_array() -> int:
    """How many jobs an array of this Slurm may have."""
    try:
        lines = _call("scontrol", "show", "config")
    except Silent:
        return DEFAULT_ARRAY - 1
    (found,) = [int(m[1]) for m in map(re.compile(r"MaxArraySize\s*=\s*(\d+)").match, lines) if m] or [DEFAULT_ARRAY]
    return max(1, found - 1)  # the largest index is one below it


def local(jobs: Iterable[str]) -> dict[str, Job]:
    """Whether the controllers of submitit's local executor live, by their process ids; those of this machine alone."""
    return {name: Job("running", "RUNNING") if _lives(int(name), b"submitit") else Job("ended") for name in jobs}


def commands(jobs: Iterable[str]) -> dict[str, Job]:
    """Whether commands live: by ``host:pid:start`` as `this_process` writes them; of another machine's nobody can tell."""
    found = {}
    for name in jobs:
        host, pid, start = name.split(":")
        if host != os.uname().nodename:
            found[name] = Job("running", f"on {host}", f"{host} knows")
        else:
            found[name] = Job("running") if _start(int(pid)) == start else Job("ended")
    return found


def this_process() -> str:
    """A name for this process that no other one has: its machine, id, and when it began."""
    return f"{os.uname().nodename}:{os.getpid()}:{_start(os.getpid())}"


def _lives(pid: int, what: bytes) -> bool:
    try:
        return what in Path(f"/proc/{pid}/cmdline").read_bytes() and _state(pid) != "Z"
    except OSError:
        return False


def _start(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "" if not _signalled(pid) else "?"
    return "" if fields[0] == "Z" else fields[19]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]


def _signalled(pid: int) -> bool:
    """Whether there is such a process, where /proc is not."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
