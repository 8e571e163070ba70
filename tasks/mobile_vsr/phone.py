"""A player measured as phones' benchmarks do: alone in a fresh process, frame after frame of the true sequence.

``measure`` starts the processes; ``python -m tasks.mobile_vsr.phone WHAT FOLDER`` is what runs in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.protocol import Measure, Unsupported

if TYPE_CHECKING:
    import torch

    from tasks.mobile_vsr.player import Player, Program, Stream

WARM, TIMED = 10, 50  #: frames that are played before the clock runs, and while it does
JOB, LOW, FILES, PROGRAMS = "job.json", "low.npy", "files", "programs"


def measure(solution: Stream, low: torch.Tensor, runtime: str, threads: Sequence[int]) -> list[Measure]:
    """Latency of a frame, of the first one and of a switch between patches, loading, and memory, in a process of its own.

    Programs of runtimes that have any are made by a process before it: what exports and lowers networks is not on a phone.

    Args:
        low: the low-resolution frames that are played, (T, 3, h, w) uint8; played again from the start where they are few.
        runtime: ``eager``, or a name of `tasks.mobile_vsr.runtimes`.
        threads: each number of threads has a process; programs are made once where they serve any number.

    Raises UserError where there is no such runtime, Unsupported where it is not to be had here.
    """
    from tasks.mobile_vsr.runtimes import PLAIN, start

    rung, measures = start(runtime), list[Measure]()
    with tempfile.TemporaryDirectory(prefix="weighin-phone-") as scratch:
        folder = Path(scratch)
        for name in (FILES, PROGRAMS):
            (folder / name).mkdir()
        for name, content in solution.files.items():
            (folder / FILES / name).write_bytes(content)
        np.save(folder / LOW, low.cpu().numpy())
        made: dict[str, Any] = {}
        for n in threads:
            (folder / JOB).write_text(json.dumps({"runtime": runtime, "threads": n}), encoding="utf-8")
            if runtime not in PLAIN and (not made or rung.fixes_threads):
                made = _process("make", folder, n)
            measures += as_measures(made | _process("play", folder, n), f"{runtime}@{n}")
    return measures


def _process(what: str, folder: Path, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", __spec__.name if __spec__ else __name__, what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise RuntimeError(f"the player's process ({what}) ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if "unsupported" in found:
        raise Unsupported(found["unsupported"])
    return found


def as_measures(found: Mapping[str, Any], part: str) -> list[Measure]:
    """What the processes found, as measures of a meter."""

    def meter(name: str, value: float, unit: str, part: str = part) -> Measure:
        return Measure(name, float(value), unit, "down", part, source="meter", warnings=tuple(found["warnings"]))

    portable = [meter("planned_arena", found["portable_arena"], "B", f"{part} portable")] if "portable_arena" in found else []
    optional = (("switch_cost", "µs", 1e6), ("program_bytes", "B", 1), ("planned_arena", "B", 1), ("import_memory", "B", 1))
    return [
        *(meter("frame_latency", found[f"p{p}"], "s", f"{part} p{p}") for p in (50, 90, 99)),
        Measure("frames_per_second", 1 / found["p50"], "FPS", "up", part, source="meter", warnings=tuple(found["warnings"])),
        meter("first_frame", found["first_frame"], "s"),
        meter("load_seconds", found["load_seconds"], "s"),
        meter("load_memory", found["load_memory"], "B"),
        meter("play_memory", found["play_memory"], "B"),
        *(meter(name, factor * found[name], unit) for name, unit, factor in optional if name in found),
        *portable,
    ]


def make(folder: Path) -> dict[str, Any]:
    """What `measure` asks of the first process: the programs of a runtime as files, and the arenas that ExecuTorch plans."""
    from suite.meters.environment import prepare_process
    from tasks.mobile_vsr import runtimes
    from tasks.mobile_vsr.player import open_player

    job, low, files = _read(folder)
    prepare_process(job["threads"])
    player, name, shelf = open_player(files), job["runtime"], runtimes.Shelf(folder / PROGRAMS, make=True)
    runtimes.runtime_program(player, name, *low.shape[2:], job["threads"], shelf)
    found = {"program_bytes": shelf.size}
    if runtimes.RUNGS[name].engine == "ExecuTorch":
        found["planned_arena"] = max(map(runtimes.arena_bytes, shelf.files))  # programs of several files follow each other
        if name in runtimes.JUDGED:
            with contextlib.suppress(Unsupported):  # an operator that XNNPACK alone has
                found["portable_arena"] = runtimes.portable_arena(name, runtimes.branches_of(player, *low.shape[2:]))
    return found


def play(folder: Path) -> dict[str, Any]:
    """What `measure` asks of a fresh process: load, play, watch.

    Memory counts from before loading.  In eager torch the player's networks are loaded; elsewhere they lie there already,
    since only the harness needs them, and the runtime's program is.
    """
    import torch

    from suite.meters import memory
    from suite.meters.environment import BUSY, Ledger, prepare_process
    from tasks.mobile_vsr import runtimes
    from tasks.mobile_vsr.player import open_player

    job, frames, files = _read(folder)
    prepare_process(job["threads"])
    low, runtime = torch.from_numpy(frames), job["runtime"]
    found: dict[str, Any] = {}
    if runtime == "eager":
        before, began = memory.status("VmRSS"), time.perf_counter()
        player, program = open_player(files), None
    else:
        player = open_player(files)
        bare = memory.status("VmRSS")
        runtimes.start(runtime)
        before, began = memory.status("VmRSS"), time.perf_counter()
        found["import_memory"] = max(0, before - bare)
        shelf = runtimes.Shelf(folder / PROGRAMS, make=False)
        program = runtimes.runtime_program(player, runtime, *low.shape[2:], job["threads"], shelf)
    found |= {"load_seconds": time.perf_counter() - began, "load_memory": max(0, memory.status("VmRSS") - before)}
    warnings = [] if memory.reset_high_water() else [memory.UNRESET]
    ledger = Ledger()
    seconds = []
    with runtimes.beside(runtime, job["threads"]):
        for i in range(WARM + TIMED):
            t = i % len(low)
            began = time.perf_counter()
            player.play(t, low[t], program)
            seconds.append(time.perf_counter() - began)
        if (busy := ledger.others()) > BUSY:
            warnings.append(f"busy: other processes used {busy:.1f} cores")
        found["play_memory"] = max(0, memory.status("VmHWM") - before)
        cost = switch_cost(player, low, program)
    found["first_frame"] = seconds[0]
    found |= {f"p{p}": float(np.percentile(seconds[WARM:], p)) for p in (50, 90, 99)}
    if cost is not None:
        found["switch_cost"] = cost
    return {**found, "warnings": warnings}


def _read(folder: Path) -> tuple[dict[str, Any], np.ndarray, dict[str, bytes]]:
    """The order, the low-resolution frames and the player's files."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    return job, np.load(folder / LOW), {p.name: p.read_bytes() for p in (folder / FILES).iterdir()}


def run(what: str, folder: Path) -> dict[str, Any]:
    """One process's share of `measure`: ``make`` or ``play``."""
    try:
        return {"make": make, "play": play}[what](folder)
    except Unsupported as e:
        return {"unsupported": str(e)}


def switch_cost(player: Player, low: torch.Tensor, program: Program | None, frames: int = 4) -> float | None:
    """Mean seconds of a patch after one of another network or size, minus those after one of the same; patch by patch.

    Each is taken relative to the mean of its own network and size, since large patches take longer anyway.  A frame's
    first patch follows the last one of the frame before; the very first follows none and is left out.  None where every
    patch follows its like, or none does.
    """
    import torch

    from tasks.mobile_vsr.patches import cells

    call = program or (lambda x, k: player.models[k](x))
    kinds, switched, seconds = [], [], []
    last: tuple[int, int, int] | None = None
    with torch.inference_mode():
        for t in range(min(frames, len(low))):
            x = low[t].float() / 255
            for rows, columns, network, row, column in player.sequence(t):
                patch = cells(x, rows, columns)[row, column][None].contiguous()
                began = time.perf_counter()
                call(patch, network)
                spent, this = time.perf_counter() - began, (network, rows, columns)
                if last is not None:
                    seconds.append(spent)
                    kinds.append(this)
                    switched.append(last != this)
                last = this
    after, took = np.array(switched, bool), np.array(seconds)
    _, kind = np.unique(np.array(kinds).reshape(-1, 3), axis=0, return_inverse=True)
    costs, weights = [], []
    for k in range(int(kind.max(initial=-1)) + 1):
        mine = kind == k
        if (mine & after).any() and (mine & ~after).any():
            costs.append(took[mine & after].mean() - took[mine & ~after].mean())
            weights.append(int((mine & after).sum()))
    return float(np.average(costs, weights=weights)) if costs else None


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]))))
