"""A GPU is found by what CUDA and NVML both call it; throttling between two looks is seen.

Machines without a GPU run this too: the library is stood in for by one that answers as NVML documents.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from suite import nvml


class NVMLError(Exception):
    pass


class NVMLErrorNotFound(NVMLError):
    pass


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two GPUs that NVML numbers the other way round than CUDA does."""
    import torch

    fake: Any = ModuleType("pynvml")
    fake.NVMLError = NVMLError
    fake.NVMLError_NotFound = fake.NVMLError_InvalidArgument = NVMLErrorNotFound
    fake.NVML_PERF_POLICY_THERMAL = 1
    for bit, name in enumerate((*nvml.SLOW, *nvml.CAPPED)):
        setattr(fake, name, 1 << bit)
    fake.mask, fake.violation = 0, 0
    fake.nvmlInit = lambda: None
    known = {"GPU-aaaa": "handle of a", "GPU-bbbb": "handle of b", "MIG-cccc": "handle of a slice"}

    def by_uuid(uuid: str) -> str:
        if uuid not in known:
            raise NVMLErrorNotFound("Not Found")
        return known[uuid]

    def violation(handle: str, policy: int) -> SimpleNamespace:
        if fake.violation is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(violationTime=fake.violation)

    fake.nvmlDeviceGetHandleByUUID = by_uuid
    fake.nvmlDeviceGetViolationStatus = violation
    fake.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: fake.mask
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    uuids = ["bbbb", "aaaa", "cccc", "dddd"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=uuids[i]))
    return fake


@pytest.mark.parametrize(
    ("device", "handle"),
    [("cuda:0", "handle of b"), ("cuda:1", "handle of a"), ("cuda", "handle of a"), ("cuda:2", "handle of a slice")],
)
def test_the_gpu_asked_is_the_gpu_that_computes(library: Any, device: str, handle: str) -> None:
    assert nvml.open_gpu(device) == (handle, "")


def test_a_gpu_that_nvml_does_not_know_is_a_reason(library: Any) -> None:
    assert nvml.open_gpu("cuda:3") == (None, "NVML: Not Found")

    def absent() -> None:
        raise NVMLError("Driver Not Loaded")

    library.nvmlInit = absent
    assert nvml.open_gpu("cuda:0") == (None, "NVML: Driver Not Loaded")


def test_throttling_between_two_looks_is_seen_once(library: Any) -> None:
    throttled = nvml.Throttle("cuda:0")
    assert not throttled()
    library.violation += 10**9  # a second too hot, over when we look
    assert throttled()
    assert not throttled()
    library.violation = None  # a GPU that does not count violations
    assert not throttled()
    library.mask = library.nvmlClocksThrottleReasonHwThermalSlowdown
    assert throttled()
    library.mask = library.nvmlClocksThrottleReasonSwPowerCap  # a cap is the machine's own setting: on the card, no fault
    assert not throttled()
    assert nvml.reasons("handle", nvml.SLOW | nvml.CAPPED) == ["at its power cap"]


def test_what_cannot_be_asked_says_so(library: Any) -> None:
    def forbidden() -> None:
        raise NVMLError("Insufficient Permissions")

    assert nvml.ask(forbidden) == "not readable here: Insufficient Permissions"
    assert nvml.ask(lambda: b"580.1") == "580.1"


def test_on_the_cpu_nothing_is_asked() -> None:
    assert not nvml.Throttle("cpu")()
