"""The system card: what the machine is, read by code, and hashed over what stays the same from run to run."""

from __future__ import annotations

import json
import os
import platform
import time
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from suite.files import write_json
from suite.naming import UserError, digest

UNREADABLE = "not readable here"
FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
    "bf16",
)


class SystemCard(BaseModel):
    """Facts by group.  Nothing in it is typed by a person, and nothing moves while the machine stays what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: dict[str, Any]
    memory: dict[str, Any]
    system: dict[str, Any]
    software: dict[str, Any]
    gpu: dict[str, Any]

    @cached_property
    def hash(self) -> str:
        """Digest of the facts: timings of different hashes never share a ranking."""
        return digest(self.model_dump(mode="json"))[:16]


def card(device: str = "cpu") -> SystemCard:
    """Read this machine.  A fact that cannot be read says so."""
    return SystemCard(
        processor=_processor(),
        memory={"total_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)},
        system={
            "os": platform.system(),
            "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()),
            "virtualised": "yes" if "hypervisor" in _cpuinfo().get("flags", "").split() else "not seen",
        },
        software=_software(),
        gpu=_gpu(device),
    )


def write_card(card: SystemCard, folder: Path) -> Path:
    """Store a card under its hash, once."""
    path = folder / f"{card.hash}.json"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, card.model_dump(mode="json"))
        except OSError as e:
            raise UserError(f"cannot write {path}: {e.strerror}; make room or name another --out") from e
    return path


def read_card(path: Path) -> SystemCard:
    """Read a stored card; raises UserError where it is not what its name says."""
    try:
        found = SystemCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: no system card ({str(e).splitlines()[0]}); copy the one that the run wrote") from e
    if found.hash != path.stem:
        raise UserError(f"{path}: its content hashes to {found.hash}; cards are read by code, never edited")
    return found


def moments() -> dict[str, Any]:
    """What moves: processor time of all and of us, load, GPU clocks."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0)
    return {"wall": time.time(), "load": load[0], "gpu": _gpu_now()}


def compare_moments(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Notes on a weighing: what else was seen on the machine before it."""
    notes = []
    if before["load"] > 1.0:
        notes.append(f"load average {before['load']:.1f} when weighing began")
    if after["gpu"]:
        notes.append("GPU after weighing: " + ", ".join(f"{k} {v}" for k, v in after["gpu"].items()))
    return notes


def _processor() -> dict[str, Any]:
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    frequency = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    return {
        "model": info.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "family_model_stepping": "-".join(info.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "instructions": [f for f in FLAGS if f in flags],
        "caches": _caches(),
        "governor": _read(frequency / "scaling_governor"),
        "max_khz": _read(frequency / "cpuinfo_max_freq"),
        "boost": _read(Path("/sys/devices/system/cpu/cpufreq/boost")),
    }


def _software() -> dict[str, Any]:
    import torch

    config = torch.__config__.show()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "mkl": torch.backends.mkl.is_available(),
        "openmp": torch.backends.openmp.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "compiler": next((line.strip(" -") for line in config.splitlines() if "GCC" in line or "clang" in line), ""),
    }


def _gpu(device: str) -> dict[str, Any]:
    """The GPU that a run uses; empty on the CPU, so that a CPU timing does not depend on an idle GPU."""
    if not device.startswith("cuda"):
        return {}
    import pynvml
    import torch

    index = int(device.partition(":")[2] or 0)
    facts: dict[str, Any] = {
        "name": torch.cuda.get_device_name(index),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(index))),
        "memory_gib": round(torch.cuda.get_device_properties(index).total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as e:
        return {**facts, "nvml": f"{UNREADABLE}: {e}"}
    queries = {
        "driver": lambda: _text(pynvml.nvmlSystemGetDriverVersion()),
        "power_cap_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "max_sm_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "max_memory_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "application_sm_mhz": lambda: pynvml.nvmlDeviceGetApplicationsClock(handle, pynvml.NVML_CLOCK_SM),
        "persistence": lambda: pynvml.nvmlDeviceGetPersistenceMode(handle),
        "ecc": lambda: pynvml.nvmlDeviceGetEccMode(handle)[0],
        "mig": lambda: pynvml.nvmlDeviceGetMigMode(handle)[0],
    }
    return facts | {name: _query(query) for name, query in queries.items()}


def _gpu_now() -> dict[str, Any]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # no NVIDIA driver: nothing to note
        return {}
    queries = {
        "sm_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "celsius": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "watt": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "throttle_reasons": lambda: hex(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
    }
    return {name: _query(query) for name, query in queries.items()}


def _query(query: Any) -> Any:
    import pynvml

    try:
        return query()
    except pynvml.NVMLError as e:
        return f"{UNREADABLE}: {e}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _caches() -> dict[str, str] | str:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        found[f"L{_read(index / 'level')} {_read(index / 'type').lower()}"] = _read(index / "size")
    return found or UNREADABLE


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return UNREADABLE
