"""Energy above idle, from counters that the hardware keeps: NVML's on NVIDIA, RAPL's on x86.

Informative: the counters integrate the whole device or package, at their own rate, so a window lasts at
least two seconds and an idle baseline is taken first.  Where no counter can be read, the reason is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from suite.protocol import Measure

RAPL = Path("/sys/class/powercap")
SECONDS = 2.0


def measure(
    call: Callable[[], object], *, items: int, device: str, workload: str, seconds: float = SECONDS
) -> tuple[list[Measure], str | None]:
    """Joules per item above idle, and idle power; or nothing and the reason."""
    read, reason = _counter(device)
    if read is None:
        return [], reason
    began, first = time.perf_counter(), read()
    time.sleep(seconds / 2)
    idle = (read() - first) / (time.perf_counter() - began)
    calls, began, first = 0, time.perf_counter(), read()
    while time.perf_counter() - began < seconds:
        call()
        calls += 1
    _synchronize(device)
    wall, used = time.perf_counter() - began, read() - first
    if used <= 0:
        return [], "the energy counter did not move within the window"
    joules = max(0.0, used - idle * wall) / (calls * items)
    return [
        Measure("energy", joules, "J", "down", workload, None, "meter"),
        Measure("energy_idle_power", idle, "W", "", workload, None, "meter"),
    ], None


def _counter(device: str) -> tuple[Callable[[], float] | None, str | None]:
    """A function that reads joules, or the reason why there is none."""
    if device.startswith("cuda"):
        import pynvml

        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError as e:
            return None, f"NVML's energy counter cannot be read: {e}"
        return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, None
    packages = sorted(p / "energy_uj" for p in RAPL.glob("intel-rapl:?") if (p / "energy_uj").exists())
    if not packages:
        return None, "no RAPL counter here (a virtual machine, or no such processor)"
    try:
        _joules(packages)
    except OSError as e:
        return None, f"RAPL's counter cannot be read: {e.strerror}"
    return lambda: _joules(packages), None


def _joules(packages: list[Path]) -> float:
    return sum(int(p.read_text()) for p in packages) / 1e6


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
