"""The system card: what the machine is, read by code, and hashed over what stays the same from run to run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from suite import bundle, nvml, proc, processors
from suite.naming import UserError, digest
from suite.nvml import UNREADABLE

CPU = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
#: Variables that steer how fast torch computes; of paths only the file's name is kept.
STEERING = (
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "DNNL_",
    "ONEDNN_",
    "OPENBLAS_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "ATEN_CPU_CAPABILITY",
    "TORCHINDUCTOR_",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "CUBLAS_",
    "CUDNN_",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE",
)
#: What an import writes into the environment of its own process, so that a card would depend on what was imported before:
#: torch's compiler where it keeps files, scikit-learn that two OpenMP runtimes may stand beside each other and start late.
#: None of them changes how fast anything computes.
SET_BY_IMPORTS = ("TORCHINDUCTOR_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")
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


LIBRARIES = ("torch", "torchvision", "numpy", "scipy")  #: that every task computes with


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


def card(device: str = "cpu", threads: int = 0) -> SystemCard:
    """Read this machine.  A fact that cannot be read says so.

    Args:
        device: what a run computes on; another GPU, or none, makes another card.
        threads: torch's threads; 0 for as many as there are processors.
    """
    processor = _processor()
    return SystemCard(
        processor=processor | {"threads_used": threads or processor["cores"]},
        memory={
            "total_gib": round(proc.total_memory() / 2**30, 1),
            "huge_pages": _chosen(_read(Path("/sys/kernel/mm/transparent_hugepage/enabled"))),
        },
        system={
            "os": platform.system(),
            "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()),
            "virtualised": "yes" if "hypervisor" in _cpuinfo().get("flags", "").split() else "not seen",
        },
        software=_software(),
        gpu=_gpu(device),
    )


def check_machine(device: str, threads: int = 0) -> None:
    """Raises UserError where this machine has no such device, or grants fewer cores."""
    if device != "cpu":
        import torch

        if not device.startswith("cuda") or not torch.cuda.is_available():
            raise UserError(
                f"no device {device!r} here; use --device cpu, or install a CUDA build of torch on a machine with a GPU"
            )
    if threads > (granted := processors.cores()):
        raise UserError(f"--threads {threads}: this machine grants {granted} cores; name no more")


def write_card(card: SystemCard, folder: Path) -> Path:
    """Store a card under its hash, once."""
    path = folder / f"{card.hash}.json"
    return path if path.exists() else bundle.keep(path, card.model_dump(mode="json"), "--out")


def read_card(path: Path) -> SystemCard:
    """Read a stored card; raises UserError where it is not what its name says."""
    try:
        found = SystemCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: no system card ({str(e).splitlines()[0]}); copy the one that the run wrote") from e
    if found.hash != path.stem:
        raise UserError(f"{path}: its content hashes to {found.hash}; cards are read by code, never edited")
    return found


def read_cards(folder: Path) -> dict[str, SystemCard]:
    """All stored cards by hash; raises UserError at the first that is not what its name says."""
    return {path.stem: read_card(path) for path in sorted(folder.glob("*.json"))}


def libraries(of_task: Sequence[str] = ()) -> dict[str, str]:
    """Versions of Python and of what computes, `Task.libraries` among it, as far as it is installed here."""
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *of_task):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def moments(device: str = "cpu") -> dict[str, Any]:
    """What moves from minute to minute: load, and the clocks, heat and throttling of the GPU that computes."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0)
    return {"load": load[0], "khz": _read(CPU / "cpu0/cpufreq/scaling_cur_freq"), "gpu": _gpu_now(device)}


def compare_moments(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Notes on a weighing, from what was seen before and after it; what taints one number travels with that number."""
    notes = []
    if before["load"] > 1.0:
        notes.append(f"load average {before['load']:.1f} when weighing began")
    for when, seen in (("before", before["gpu"]), ("after", after["gpu"])):
        facts = {k: v for k, v in seen.items() if k != "slowed"}
        if seen:
            notes.append(f"GPU {when} weighing: " + ", ".join(f"{v} {k}" for k, v in facts.items()))
        if seen.get("slowed"):
            notes.append(f"throttled {when} weighing: {', '.join(seen['slowed'])}")
    return notes


def _processor() -> dict[str, Any]:
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    frequency = CPU / "cpu0/cpufreq"
    sockets = {info.get("physical id") for info in proc.processors()} - {None}
    return {
        "model": info.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "sockets": len(sockets) or UNREADABLE,
        "cores_per_socket": info.get("cpu cores", UNREADABLE),
        "hyperthreading": {"0": "off", "1": "on"}.get(_read(CPU / "smt/active"), UNREADABLE),
        "quota": _quota(),
        "family_model_stepping": "-".join(info.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "instructions": [f for f in FLAGS if f in flags],
        "caches": _caches(),
        "governor": _read(frequency / "scaling_governor"),
        "driver": _read(frequency / "scaling_driver"),
        "max_khz": _read(frequency / "cpuinfo_max_freq"),
        "limits_khz": " to ".join(dict.fromkeys(_read(frequency / f"scaling_{end}_freq") for end in ("min", "max"))),
        "boost": _boost(),
    }


def _software() -> dict[str, Any]:
    import torch

    config = torch.__config__.show()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_commit": str(torch.version.git_version)[:12],
        "torchvision": metadata.version("torchvision"),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "mkl": torch.backends.mkl.is_available(),
        "openmp": torch.backends.openmp.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "compiler": next((line.strip(" -") for line in config.splitlines() if "GCC" in line or "clang" in line), ""),
        "blas": _found(r"BLAS_INFO=(\w+)", config),
        "mkl_version": _found(r"Math Kernel Library Version ([\w.-]+)", config),
        "mkldnn_version": _found(r"(?:MKL-DNN|oneDNN) v([\w.]+)", config),
        "openmp_version": _found(r"OpenMP (\d+)", config),
        "steered_by": {
            name: re.sub(r"[^\s:,;=]*/", "", value)
            for name, value in sorted(os.environ.items())
            if name.startswith(STEERING) and name not in SET_BY_IMPORTS
        },
    }


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else UNREADABLE


def _quota() -> str:
    """Processor time that the control groups grant, in cores."""
    granted = processors.quota()
    if granted is not None:
        return f"{granted:g} cores"
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return "none" if quota == "max" else f"{int(quota) / int(period):g} cores"
    except (OSError, ValueError):
        return UNREADABLE


def _boost() -> str:
    """Whether the processor may exceed its nominal clock; Intel's own driver says it the other way round."""
    plain, turbo_off = _read(CPU / "cpufreq/boost"), _read(CPU / "intel_pstate/no_turbo")
    return {"0": "off", "1": "on"}.get(plain) or {"0": "on", "1": "off"}.get(turbo_off, UNREADABLE)


def _chosen(options: str) -> str:
    """The bracketed one of a kernel setting's options: ``always [madvise] never``."""
    match = re.search(r"\[(\w+)\]", options)
    return match[1] if match else options


def _gpu(device: str) -> dict[str, Any]:
    """The GPU that a run uses; empty on the CPU, so that a CPU timing does not depend on an idle GPU."""
    if not device.startswith("cuda"):
        return {}
    import pynvml
    import torch

    index = nvml.index_of(device)
    facts: dict[str, Any] = {
        "name": torch.cuda.get_device_name(index),
        "count": torch.cuda.device_count(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(index))),
        "memory_gib": round(torch.cuda.get_device_properties(index).total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    handle, reason = nvml.open_gpu(device)
    if handle is None:
        return {**facts, "nvml": f"{UNREADABLE}: {reason}"}
    queries: dict[str, Callable[[], Any]] = {
        "driver": pynvml.nvmlSystemGetDriverVersion,
        "power_default_w": lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000,
        "power_cap_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "max_sm_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "max_memory_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "application_sm_mhz": lambda: pynvml.nvmlDeviceGetApplicationsClock(handle, pynvml.NVML_CLOCK_SM),
        "persistence": lambda: pynvml.nvmlDeviceGetPersistenceMode(handle),
        "ecc": lambda: pynvml.nvmlDeviceGetEccMode(handle)[0],
        "mig": lambda: pynvml.nvmlDeviceGetMigMode(handle)[0],
    }
    return facts | {name: nvml.ask(query) for name, query in queries.items()}


def _gpu_now(device: str) -> dict[str, Any]:
    handle = nvml.open_gpu(device)[0] if device.startswith("cuda") else None
    if handle is None:  # on the CPU, or without NVML, which the card then says
        return {}
    import pynvml

    queries = {
        "MHz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "°C": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "W": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    }
    slowed = nvml.reasons(handle, nvml.SLOW | nvml.CAPPED)
    return {name: nvml.ask(query) for name, query in queries.items()} | {"slowed": slowed}


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo."""
    return next(iter(proc.processors()), {})


def _caches() -> dict[str, str] | str:
    found = {}
    for index in sorted((CPU / "cpu0/cache").glob("index*")):
        found[f"L{_read(index / 'level')} {_read(index / 'type').lower()}"] = _read(index / "size")
    return found or UNREADABLE


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return UNREADABLE
