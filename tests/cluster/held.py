"""A method whose runs do what files beside it say: wait, or take memory without end.  Copied to where a test keeps its files."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from weighin_standins.forecast.fit import fitted
from weighin_standins.forecast.task import HOURS, Forecaster, Load

PATIENCE = 300.0  #: seconds


@dataclass(frozen=True)
class Held:
    folder: str = ""  #: of the files
    ridge: float = 1e-3  #: penalty on the squares of the weights

    def solve(self, problem: Load) -> Forecaster:
        here, seed, run = Path(self.folder), problem.spec.seed, problem.run
        far = (run.load() or {"lives": 0})["lives"]
        run.save({"lives": far + 1})
        with (here / f"began-{seed}").open("a") as f:
            f.write(f"{far} {os.environ.get('SLURMD_NODENAME', '')} {len(os.sched_getaffinity(0))}\n")
        taken, began = [], time.monotonic()
        while (here / f"hold-{seed}").exists() or (here / f"take-{seed}").exists():
            if (here / f"take-{seed}").exists() and len(taken) < 40:
                taken.append(bytearray(os.urandom(1 << 20)) * 100)
            if time.monotonic() - began > PATIENCE:
                raise RuntimeError("held for too long")
            time.sleep(0.05)
        return fitted(problem, round(HOURS * problem.spec.targets["lags"]), self.ridge)
