"""A Slurm of this machine alone: a controller and a daemon for each of several nodes, in a folder of its own.

``python -m tests.cluster.slurm FOLDER`` starts one to try things on, and says how to reach it; Ctrl-C ends it.  Debian: ``apt-get
install slurmctld slurmd slurm-client munge``, and ``slurmdbd mariadb-server`` for accounting.  Nothing of the machine's own
configuration is read or changed, and nothing of it has to run: not as root either, with which user everything runs as this one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import Any

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
ACCOUNTING = ("slurmdbd", "sacctmgr", "sacct", "mariadbd", "mariadb-install-db")
PATIENCE = 60.0  #: seconds for daemons to answer
PATHS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def missing(accounting: bool = False) -> list[str]:
    """Programs that such a cluster needs and this machine has not."""
    return [name for name in NEEDED + ACCOUNTING * accounting if shutil.which(name, path=PATHS) is None]


@dataclass
class Cluster:
    """What of a running cluster tests need.

    Use as a context: on leaving it, or when this process ends however it ends, everything that it started is killed.
    """

    folder: Path  #: short: a socket's path has 107 characters at most
    nodes: int = 4
    cpus: int = 2  #: of each node; that the machine has fewer is no matter
    memory: int = 4000  #: MB of each node
    accounting: bool = False  #: with slurmdbd, on a MariaDB of its own
    largest_array: int = 1001
    bind: bool = False  #: tasks are bound to the processors that they were granted
    forget: int = 600  #: seconds that the controller remembers a job that ended
    kill_over_memory: bool = False  #: the job's accounting gatherer kills what is above its memory: works without control groups
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which its commands find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATHS}

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        # kills whatever has the folder in its environment or arguments once this end of the pipe is closed: by us, or by our end
        self._guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, str(self.folder)], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(PATIENCE)
        for daemon in self.daemons.values():
            daemon.wait(PATIENCE)

    def run(self, *words: str, check: bool = True) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=PATIENCE)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout} {done.stderr}")
        return done.stdout

    def _answers(self, *words: str) -> bool:
        with contextlib.suppress(RuntimeError):
            self.run(*words)
            return True
        return False

    def queue(self, *words: str) -> dict[str, str]:
        """The state of each job that the controller still knows, ended ones included."""
        lines = self.run("squeue", "-h", "-r", "-t", "all", "-o", "%i %T", *words).splitlines()
        return dict(line.split() for line in lines)  # type: ignore[misc]

    def logs(self) -> str:
        """The ends of all daemons' logs: for a message when a test fails."""
        return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in sorted(self.folder.glob("*.log")))

    def node(self, number: int) -> None:
        """Start a node's daemon."""
        self._spawn(f"n{number}", "slurmd", "-D", "-N", f"n{number}", "-f", str(self.folder / "slurm.conf"))

    def crash(self, number: int) -> None:
        """End a node as if its power were cut, and tell the controller, which would find out itself minutes later."""
        self.daemons[f"n{number}"].kill()
        conf, name = f"SLURM_CONF={self.folder}/".encode(), f"SLURMD_NODENAME=n{number}".encode()
        tasks = [
            p for p in Path("/proc").glob("[0-9]*") if conf in _read(p / "environ") and name in _read(p / "environ").split(b"\0")
        ]
        steps = {Path("/proc", _read(p / "stat").rpartition(b")")[2].split()[1].decode()) for p in tasks if _read(p / "stat")}
        for process in [
            p for p in steps if _read(p / "comm").startswith(b"slurmstepd")
        ] + tasks:  # a step would tell of its tasks' end
            with contextlib.suppress(OSError):
                os.kill(int(process.name), signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName=n{number}", "State=DOWN", "Reason=crashed")

    def _start(self) -> None:
        f = self.folder
        (f / "state").mkdir()
        (f / "munge").mkdir(mode=0o700)
        key = f / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        f.chmod(0o755)
        ports = _free_ports(self.nodes + 2)
        self._write_configuration(ports)
        at = str(f / "munge")
        self._spawn(
            "munged", "munged", "-F", "--force", f"--key-file={key}", f"--socket={f}/munge.socket", f"--pid-file={at}/pid",
            f"--log-file={at}/log", f"--seed-file={at}/seed",
        )  # fmt: skip
        _until(lambda: (f / "munge.socket").exists(), "munged's socket", self)
        if self.accounting:
            self._account()
        self._spawn("slurmctld", "slurmctld", "-D", "-i", "-f", str(f / "slurm.conf"))
        for number in range(1, self.nodes + 1):
            (f / f"n{number}").mkdir()
            self.node(number)
        _until(
            lambda: self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T", check=False).split() == ["idle"] * self.nodes,
            "nodes",
            self,
        )

    def _write_configuration(self, ports: Sequence[int]) -> None:
        f, user = self.folder, getuser()
        host = socket.gethostname()
        control, database, *daemons = ports
        accounting = ["AccountingStorageType=accounting_storage/none"]
        if self.accounting:
            accounting = ["AccountingStorageType=accounting_storage/slurmdbd", "AccountingStorageHost=127.0.0.1"]
            accounting += [
                f"AccountingStoragePort={database}",
                f"AccountingStoragePass={f}/munge.socket",
            ]  # its socket, not its key
        text = f"""
ClusterName=tiny
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={f}/munge.socket
StateSaveLocation={f}/state
SlurmdSpoolDir={f}/%n
SlurmctldPidFile={f}/slurmctld.pid
SlurmdPidFile={f}/%n.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin={"task/affinity" if self.bind else "task/none"}
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=100000,requeue_setup_env_fail
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MaxArraySize={self.largest_array}
KillWait=4
MinJobAge={self.forget}
InactiveLimit=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
{"JobAcctGatherParams=OverMemoryKill" if self.kill_over_memory else ""}
{chr(10).join(accounting)}
"""
        text += "".join(
            f"NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} RealMemory={self.memory}\n"
            for i, port in enumerate(daemons, start=1)
        )
        every = f"n[1-{self.nodes}]"
        text += f"PartitionName=main Nodes={every} Default=YES MaxTime=60 DefMemPerCPU=500 PriorityTier=1 PreemptMode=REQUEUE\n"
        text += f"PartitionName=urgent Nodes={every} MaxTime=60 DefMemPerCPU=500 PriorityTier=9\n"
        (f / "slurm.conf").write_text(text)
        (f / "cgroup.conf").write_text("CgroupAutomount=no\n")
        if self.accounting:
            at = f / "slurmdbd.conf"
            at.write_text(
                f"AuthType=auth/munge\nAuthInfo=socket={f}/munge.socket\nDbdHost=localhost\nDbdAddr=127.0.0.1\nDbdPort={database}\n"
                f"SlurmUser={user}\nPidFile={f}/slurmdbd.pid\nLogFile={f}/slurmdbd.log\nStorageType=accounting_storage/mysql\n"
                f"StorageHost=127.0.0.1\nStoragePort={self._database_port()}\nStorageUser=slurm\nStoragePass=slurm\nStorageLoc=slurm\n"
            )
            at.chmod(0o600)

    def _database_port(self) -> int:
        if not hasattr(self, "_chosen"):
            (self._chosen,) = _free_ports(1)
        return self._chosen

    def _account(self) -> None:
        data, user = self.folder / "database", getuser()
        own = ["--no-defaults", f"--datadir={data}"]
        subprocess.run(
            ["mariadb-install-db", *own, f"--user={user}", "--auth-root-authentication-method=normal", "--skip-test-db"],
            env={**os.environ, **self.environment}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        start = self.folder / "start.sql"
        start.write_text("CREATE DATABASE slurm;\nGRANT ALL ON slurm.* TO slurm@'127.0.0.1' IDENTIFIED BY 'slurm';\n")
        self._spawn(
            "mariadb", "mariadbd", *own, f"--user={user}", f"--socket={self.folder}/sql", f"--pid-file={self.folder}/sql.pid",
            "--bind-address=127.0.0.1", f"--port={self._database_port()}", f"--init-file={start}", "--innodb-buffer-pool-size=32M",
            "--skip-name-resolve",
        )  # fmt: skip
        _until(lambda: _listens(self._database_port()), "MariaDB", self)
        self._spawn("slurmdbd", "slurmdbd", "-D")
        _until(lambda: self._answers("sacctmgr", "-n", "show", "cluster"), "slurmdbd", self)
        for words in (["cluster", "tiny"], ["account", "lab"], ["user", user, "Account=lab"]):
            self.run("sacctmgr", "-i", "add", *words, check=False)

    def _spawn(self, name: str, program: str, *words: str) -> None:
        found = shutil.which(program, path=PATHS)
        assert found is not None, program
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [found, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                cwd=self.folder,
                start_new_session=True,
            )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _until(true: Callable[[], Any], what: str, cluster: Cluster) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: nothing after {PATIENCE:g} s\n{cluster.logs()}")
        time.sleep(0.1)


#: waits for the end of its standard input, then kills what was started with a folder's name until nothing is left, and removes it
GUARD = """
import os, shutil, signal, sys, time
folder = sys.argv[1].encode()
signal.signal(signal.SIGINT, signal.SIG_IGN)
while os.read(0, 1024):
    pass
def left():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            said = b"".join(open(f"/proc/{pid}/{name}", "rb").read() for name in ("environ", "cmdline"))
        except OSError:
            continue
        if b"SLURM_CONF=" + folder + b"/" in said:
            yield int(pid)
for _ in range(100):
    found = list(left())
    if not found:
        break
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.05)
shutil.rmtree(folder, ignore_errors=True)
"""


@contextlib.contextmanager
def cluster(folder: Path, **how: Any) -> Iterator[Cluster]:
    """A cluster whose variables are this process's, too."""
    with Cluster(folder, **how) as found:
        before = dict(os.environ)
        os.environ.update(found.environment)
        try:
            yield found
        finally:
            os.environ.clear()
            os.environ.update(before)


def main(folder: Path) -> None:
    if lacking := missing():
        raise SystemExit(f"no {', '.join(lacking)} here: apt-get install slurmctld slurmd slurm-client munge")
    with Cluster(folder.resolve(), accounting=not missing(accounting=True)) as found:
        print(found.run("sinfo"), "\n".join(f"export {k}={v}" for k, v in found.environment.items()), sep="\n", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
