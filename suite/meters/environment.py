"""The state that a process must be in before anything is measured in it, and who else computes meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from suite import proc
from suite.processors import cores

BUSY = 0.15  #: cores used by others that are worth a warning


def prepare_process(threads: int | None = None, *, tune: bool = False) -> None:
    """Fix threads and what fp32 means on a GPU (IEEE's, not TF32), and flush denormals.

    Tiny weights otherwise run up to twice as slow, which is no property of a method.

    Args:
        threads: torch's threads; as many as this process has processors where None.
        tune: let cuDNN try its algorithms and keep the fastest.  For timing; a solve must choose the same ones
            each time it runs.
    """
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(threads or cores())
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = tune
    torch.backends.cudnn.deterministic = not tune


@contextmanager
def tf32() -> Iterator[None]:
    """A GPU may round to TF32 inside; `prepare_process` has forbidden it."""
    import torch

    cudnn, product = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.allow_tf32 = product.allow_tf32 = True
    try:
        yield
    finally:
        cudnn.allow_tf32 = product.allow_tf32 = False


class Ledger:
    """Processor time that others take, from the kernel's counters; 0 where they cannot be read (`suite.proc`).

    Others are all but this process and its children, on the processors that this process may use; time that a
    hypervisor gave to its other guests counts as theirs.
    """

    def __init__(self) -> None:
        self._began, self._all, self._own = time.perf_counter(), proc.busy_seconds(), _own_seconds()

    def others(self) -> float:
        """Cores that others used on average since this ledger was opened."""
        wall = time.perf_counter() - self._began
        return max(0.0, (proc.busy_seconds() - self._all) - (_own_seconds() - self._own)) / wall


def _own_seconds() -> float:
    """Time of this process, of children that ended, and of those that live (loaders' workers)."""
    return sum(os.times()[:4]) + proc.children_seconds()
