"""Memory, in a process and a pass of its own.  Every figure's name says which memory it is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from suite.protocol import Measure

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(prepare: Callable[[], Callable[[], object]], *, device: str, workload: str) -> list[Measure]:
    """Memory of one workload; call it in a fresh process.

    CPU: `memory_peak` is what a pass needs above what is resident before it (the second pass: the first
    fills caches), `memory_resident` the high-water mark of the whole process, libraries included
    (VmHWM; ru_maxrss would inherit the caller's).  CUDA: `memory_peak` above what is allocated before,
    `memory_allocated` and `memory_reserved` of the allocator, `memory_device` as the driver sees it.
    """
    return _cuda(prepare, workload) if device.startswith("cuda") else _cpu(prepare, workload)


def high_water(device: str) -> list[Measure]:
    """The most memory that this process has held so far."""
    found = [Measure("solve_resident", resident, "B", "down", source="meter")] if (resident := _status("VmHWM")) else []
    if device.startswith("cuda"):
        import torch

        found.append(Measure("solve_allocated", float(torch.cuda.max_memory_allocated()), "B", "down", source="meter"))
    return found


def _cpu(prepare: Callable[[], Callable[[], object]], workload: str) -> list[Measure]:
    call = prepare()
    call()
    first = _status("VmHWM")
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to trim
        ctypes.CDLL(None).malloc_trim(0)
    warnings: tuple[str, ...] = ()
    try:
        CLEAR.write_text("5")  # the high-water mark starts again from what is resident now
    except OSError:
        warnings = ("the high-water mark could not be reset: the peak counts from the start of the process",)
    before = _status("VmRSS")
    call()
    after = _status("VmHWM")
    if not before or not after:
        return []
    return [
        Measure("memory_peak", max(0.0, after - before), "B", "down", workload, None, "meter", warnings),
        Measure("memory_resident", max(first, after), "B", "down", workload, None, "meter"),
    ]


def _cuda(prepare: Callable[[], Callable[[], object]], workload: str) -> list[Measure]:
    import torch

    free_at_first, _ = torch.cuda.mem_get_info()
    call = prepare()
    call()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    figures = {
        "memory_peak": torch.cuda.max_memory_allocated() - before,
        "memory_allocated": torch.cuda.max_memory_allocated(),
        "memory_reserved": torch.cuda.max_memory_reserved(),
        "memory_device": free_at_first - free,
    }
    return [Measure(name, float(value), "B", "down", workload, None, "meter") for name, value in figures.items()]


def _status(field: str) -> float:
    """A field of /proc/self/status in bytes; 0 where the system has none."""
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return 0.0
