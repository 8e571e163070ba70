"""The state that a process must be in before anything is measured in it."""

from __future__ import annotations

import os


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_process(threads: int | None = None) -> None:
    """Fix threads and flush denormals: tiny weights otherwise run up to twice as slow, which is no property of a method."""
    import torch

    torch.set_num_threads(threads or cores())
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True
