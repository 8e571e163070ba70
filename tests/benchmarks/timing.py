"""How benchmarks of single calls time them."""

from __future__ import annotations

import time
from collections.abc import Callable

BLOCK = 0.05  #: seconds that calls fill


def seconds(call: Callable[[], object]) -> float:
    """Of one call, over calls that fill a block of time."""
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < BLOCK or not done:
        call()
        done += 1
    return spent / done
