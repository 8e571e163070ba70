"""Sweeps on a Slurm of this machine, or none where it is not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from suite import registry
from tests.cluster.slurm import Cluster, missing
from tests.standins.install import install

PATIENCE = 900.0  #: seconds for what takes some: on a busy machine it may take minutes
TOML = """\
executor = "slurm"
folder = "logs"
restarts = 1

[parameters]
timeout_min = 10
mem_gb = 1.5
cpus_per_task = 1
slurm_partition = "main"
"""


@dataclass
class Sweep:
    """A folder to call `weighin` from, with a cluster's TOML and a method that does as it is told."""

    folder: Path
    cluster: Cluster | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        packages = self.folder / "packages"
        install(packages)
        shutil.copy(Path(__file__).with_name("held.py"), self.folder / "held.py")
        (self.folder / "cluster.toml").write_text(TOML)
        path = [str(packages), str(registry.HOUSE)]
        self.environment = {"PYTHONPATH": os.pathsep.join(path), "OMP_WAIT_POLICY": "passive", "COLUMNS": "120"}
        self.environment |= self.cluster.environment if self.cluster else {}

    def weighin(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "suite.cli", *words],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def run(self, *words: str, seeds: range = range(1)) -> subprocess.CompletedProcess[str]:
        """`weighin run` of the method that does as it is told, on the cluster."""
        asked = ["run", "forecast", "-m", "./held.py", "--set", f"folder={self.folder}", "--tier", "smoke", "--target", "lags=0.5"]
        seen = [w for s in seeds for w in ("-s", str(s))]
        return self.weighin(*asked, "--threads", "1", "--timeout", "600", *seen, "--cluster", "cluster.toml", *words)

    def status(self, *words: str) -> tuple[int, dict[str, int], dict[int, dict[str, Any]]]:
        """Exit code, counts and runs by their seeds."""
        done = self.weighin("status", "--json", *words)
        assert done.stdout, done.stderr
        told = json.loads(done.stdout)
        return done.returncode, {k: n for k, n in told["counts"].items() if n}, {r["seed"]: r for r in told["runs"]}

    def lives(self, seed: int) -> list[list[str]]:
        """A line a life of a run's solve: how many went before, by its checkpoint; the node; how many processors it may use."""
        file = self.folder / f"began-{seed}"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def until(self, true: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            logs = sorted((self.folder / "logs").glob("*.err"))
            assert time.monotonic() < deadline, f"{what}: {[p.read_text()[-500:] for p in logs]}"
            time.sleep(0.2)


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary folder whose name leaves room for sockets."""
    with tempfile.TemporaryDirectory(prefix="weighin-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def slurm(short: Path, request: pytest.FixtureRequest) -> Iterator[Sweep]:
    """A sweep's folder on a cluster; parametrised by how that is set up."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'weighin[cluster]'")
    if not os.environ.get("WEIGHIN_SLURM"):  # daemons, queues and lives of jobs: a quarter of an hour
        pytest.skip("on a real Slurm of this machine with WEIGHIN_SLURM=1, or `make cluster`")
    how = getattr(request, "param", {})
    if lacking := missing(how.get("accounting", False)):
        pytest.skip(f"no Slurm here ({', '.join(lacking)}): apt-get install slurmctld slurmd slurm-client munge")
    with Cluster(short / "slurm", **how) as cluster:
        yield Sweep(short, cluster)
