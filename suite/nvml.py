"""NVIDIA's management library, asked about the GPU that torch computes on.

CUDA and NVML number GPUs differently (CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER), so a device is looked up by the
UUID that both know; the UUID itself is kept nowhere.  Where NVML cannot answer, the reason is handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

UNREADABLE = "not readable here"
#: NVML's clock event reasons that slow a GPU below what it was asked for, by the name of their constant.
SLOW = {
    "nvmlClocksThrottleReasonSwThermalSlowdown": "too hot (driver)",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "too hot (hardware)",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slow-down",
}
CAPPED = {"nvmlClocksThrottleReasonSwPowerCap": "at its power cap"}
#: Share of a window spent in violation of its thermal limit from which a GPU counts as throttled.
VIOLATION = 0.01


def open_gpu(device: str) -> tuple[Any | None, str]:
    """NVML's handle of a torch device such as ``cuda:1``, or None and the reason."""
    import pynvml
    import torch

    if not torch.cuda.is_available():
        return None, "torch finds no CUDA device"
    uuid = str(torch.cuda.get_device_properties(index_of(device)).uuid).removeprefix("GPU-")
    try:
        pynvml.nvmlInit()
        reason = ""
        for prefix in ("GPU-", "MIG-"):
            try:
                return pynvml.nvmlDeviceGetHandleByUUID(f"{prefix}{uuid}"), ""
            except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument) as e:
                reason = str(e)
    except pynvml.NVMLError as e:
        reason = str(e)
    return None, f"NVML: {reason}"


def index_of(device: str) -> int:
    """torch's number of a device; the current one where the name has none."""
    number = device.partition(":")[2]
    if number:
        return int(number)
    import torch

    return int(torch.cuda.current_device())


def ask(query: Callable[[], Any]) -> Any:
    """The answer to one NVML query, or why there is none."""
    import pynvml

    try:
        answer = query()
    except pynvml.NVMLError as e:
        return f"{UNREADABLE}: {e}"
    return answer.decode() if isinstance(answer, bytes) else answer


def reasons(handle: Any, names: dict[str, str]) -> list[str]:
    """Which of these clock event reasons hold now, in words."""
    import pynvml

    mask = ask(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return [words for name, words in names.items() if mask & getattr(pynvml, name)] if isinstance(mask, int) else []


class Throttle:
    """Whether a GPU held its clock back since it was last asked.

    NVML counts the time in violation of the thermal limit, which sees what falls between two readings; the
    reasons of the moment are asked besides, since not every GPU has that counter.  Without NVML: never.
    """

    def __init__(self, device: str) -> None:
        self._handle = open_gpu(device)[0] if device.startswith("cuda") else None
        self._at, self._violated = time.perf_counter(), self._violation()

    def __call__(self) -> bool:
        if self._handle is None:
            return False
        at, violated = time.perf_counter(), self._violation()
        share = (violated - self._violated) / 1e9 / max(at - self._at, 1e-9)
        self._at, self._violated = at, violated
        return share > VIOLATION or bool(reasons(self._handle, SLOW))

    def _violation(self) -> int:
        """Nanoseconds in violation of the thermal limit so far; 0 where the GPU does not count them."""
        if self._handle is None:
            return 0
        import pynvml

        answer = ask(lambda: pynvml.nvmlDeviceGetViolationStatus(self._handle, pynvml.NVML_PERF_POLICY_THERMAL))
        return 0 if isinstance(answer, str) else int(answer.violationTime)
