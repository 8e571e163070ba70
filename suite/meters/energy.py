"""Energy above idle, from counters that the hardware keeps: NVML's on NVIDIA, RAPL's on x86 (Intel and AMD).

Informative: the counters integrate the whole device or package, at their own rate, so a window lasts at
least two seconds and an idle baseline is taken before all of them.  Where no counter can be read, the reason is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from suite import nvml
from suite.meters.environment import BUSY, Ledger
from suite.protocol import Measure

RAPL = Path("/sys/class/powercap")
SECONDS = 2.0
SETTLE = 1.0  #: seconds in which power falls back to idle after what ran before


@dataclass(frozen=True)
class Meter:
    """A device's counter and what it draws idle, read once, before anything that is measured has run."""

    device: str
    read: Callable[[], float]  #: joules
    idle: float  #: watts

    def measure(
        self, call: Callable[[], object], *, items: int, workload: str, seconds: float = SECONDS
    ) -> tuple[list[Measure], str | None]:
        """Joules per item above idle, and idle power in watts; or nothing and the reason."""
        call()
        _synchronize(self.device)
        ledger = Ledger()
        calls, began, first = 0, time.perf_counter(), self.read()
        while time.perf_counter() - began < seconds:
            call()
            calls += 1
        _synchronize(self.device)
        wall, used = time.perf_counter() - began, self.read() - first
        if used <= 0:
            return [], "the energy counter did not move within the window"
        busy, shared = ledger.others(), not self.device.startswith("cuda")
        warnings = (f"busy: other processes used {busy:.1f} cores",) if shared and busy > BUSY else ()
        joules = max(0.0, used - self.idle * wall) / (calls * items)
        return [
            Measure("energy", joules, "J", "down", workload, None, "meter", warnings),
            Measure("energy_idle_power", self.idle, "W", "", workload, None, "meter", warnings),
        ], None


def open_meter(device: str, seconds: float = SECONDS) -> tuple[Meter | None, str | None]:
    """The device's meter, its idle power read after it has settled; or nothing and the reason."""
    read, reason = _counter(device)
    if read is None:
        return None, reason
    _synchronize(device)  # a GPU that is held by a process idles higher than one that is not
    time.sleep(SETTLE)
    began, first = time.perf_counter(), read()
    time.sleep(seconds / 2)
    return Meter(device, read, (read() - first) / (time.perf_counter() - began)), None


def _counter(device: str) -> tuple[Callable[[], float] | None, str | None]:
    """A function that reads joules, or the reason why there is none."""
    return _nvml_counter(device) if device.startswith("cuda") else _rapl_counter()


def _nvml_counter(device: str) -> tuple[Callable[[], float] | None, str | None]:
    import pynvml

    handle, reason = nvml.open_gpu(device)
    if handle is None:
        return None, reason
    first = nvml.ask(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    if isinstance(first, str):
        return None, f"NVML's energy counter: {first}"
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, None  # it counts millijoules


def _rapl_counter() -> tuple[Callable[[], float] | None, str | None]:
    # the domain "psys" holds the packages, and "intel-rapl:0:0" is a part of "intel-rapl:0": packages only
    folders = [d for d in sorted(RAPL.glob("intel-rapl:*")) if d.name.count(":") == 1]
    try:
        packages = [_Package.open(d) for d in folders if (d / "name").read_text().startswith("package")]
    except OSError as e:
        return None, f"RAPL's counter cannot be read: {e.strerror}"
    if not packages:
        return None, "no RAPL counter here (a virtual machine, or no such processor)"
    return lambda: sum(p.joules() for p in packages), None


@dataclass
class _Package:
    """One package's counter; it starts again from 0 at its range, after minutes to hours."""

    folder: Path
    last: int  #: microjoules, as read
    range: int
    turns: int = 0

    @staticmethod
    def open(folder: Path) -> _Package:
        return _Package(folder, _read(folder / "energy_uj"), _read(folder / "max_energy_range_uj"))

    def joules(self) -> float:
        now = _read(self.folder / "energy_uj")
        self.turns += now < self.last
        self.last = now
        return (self.turns * self.range + now) / 1e6


def _read(path: Path) -> int:
    return int(path.read_text())


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(nvml.index_of(device))
