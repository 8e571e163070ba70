"""Memory, in a process and a pass of its own.  Every figure's name says which memory it is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Callable

from suite import nvml, proc
from suite.protocol import Measure

STATUS, CLEAR = proc.PROC / "self/status", proc.PROC / "self/clear_refs"
status = proc.status
UNRESET = "the high-water mark could not be reset: what was held before the pass counts too"


def measure(
    prepare: Callable[[], Callable[[], object]], *, device: str, workload: str, solution_bytes: int | None = None
) -> list[Measure]:
    """Memory of one workload, in bytes; call it in a fresh process.

    `memory_weights`: parameters and buffers of the Solution, where `solution_bytes` gives them
    (`suite.meters.size.weight_bytes`).
    CPU: `memory_peak` is what a pass needs above what is resident before it (the second pass: the first
    fills caches), `memory_resident` the high-water mark of the whole process over both passes, libraries and
    data included, loading and `prepare` not (VmHWM; ru_maxrss would inherit the caller's, and stands in where there is
    no /proc, with a warning that it was not reset).  The kernel counts
    pages and adds them up in batches: differences below about 2 MiB mean little.
    CUDA: `memory_peak` above what is allocated before, `memory_allocated` and `memory_reserved` at their
    highest in the allocator, `memory_device` what the driver counts for this process, CUDA's context
    included, or, where it does not tell processes apart, by how much free memory shrank (others' use and
    not the context then included; a warning says so).
    """
    weights = [] if solution_bytes is None else [_figure("memory_weights", solution_bytes, workload)]
    return weights + (_cuda(prepare, device, workload) if device.startswith("cuda") else _cpu(prepare, workload))


def high_water(device: str) -> list[Measure]:
    """The most memory that this process has held so far."""
    found = [_figure("solve_resident", resident)] if (resident := proc.status("VmHWM")) else []
    if device.startswith("cuda"):
        import torch

        found.append(_figure("solve_allocated", torch.cuda.max_memory_allocated(nvml.index_of(device))))
    return found


def _figure(name: str, value: float, workload: str = "", *warnings: str) -> Measure:
    return Measure(name, float(value), "B", "down", workload, None, "meter", warnings)


def _cpu(prepare: Callable[[], Callable[[], object]], workload: str) -> list[Measure]:
    call = prepare()
    _trim()
    reset = reset_high_water()
    call()
    first = proc.status("VmHWM")
    _trim()
    warnings = () if reset_high_water() and reset else (UNRESET,)
    before = proc.status("VmRSS")
    call()
    after = proc.status("VmHWM")
    if not before or not after:  # nothing tells
        return []
    return [
        _figure("memory_peak", max(0.0, after - before), workload, *warnings),
        _figure("memory_resident", max(first, after), workload, *warnings),
    ]


def _trim() -> None:
    """Give freed memory back to the system, so that a pass has to ask for it anew."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to trim
        ctypes.CDLL(None).malloc_trim(0)


def reset_high_water() -> bool:
    """Let the high-water mark start again from what is resident now; False where the kernel forbids it."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _cuda(prepare: Callable[[], Callable[[], object]], device: str, workload: str) -> list[Measure]:
    import torch

    gpu = nvml.index_of(device)
    free_at_first, _ = torch.cuda.mem_get_info(gpu)
    call = prepare()
    call()
    torch.cuda.synchronize(gpu)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(gpu)
    before = torch.cuda.memory_allocated(gpu)
    call()
    torch.cuda.synchronize(gpu)
    booked = _booked(device)
    shrunk = free_at_first - torch.cuda.mem_get_info(gpu)[0]
    allocated = torch.cuda.max_memory_allocated(gpu)
    return [
        _figure("memory_peak", allocated - before, workload),
        _figure("memory_allocated", allocated, workload),
        _figure("memory_reserved", torch.cuda.max_memory_reserved(gpu), workload),
        _figure("memory_device", booked, workload)
        if booked
        else _figure(
            "memory_device", max(0, shrunk), workload, "by how much the device's free memory shrank, context not included"
        ),
    ]


def _booked(device: str) -> int:
    """Device memory that the driver counts for this process; 0 where it does not say (containers, some drivers)."""
    import pynvml

    handle, _ = nvml.open_gpu(device)
    if handle is None:
        return 0
    processes = nvml.ask(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    if isinstance(processes, str):
        return 0
    return sum(int(p.usedGpuMemory or 0) for p in processes if p.pid == os.getpid())
