"""How many processors there are for us: of the machine, those that we are bound to, and those whose time we are granted."""

from __future__ import annotations

import os
from pathlib import Path

from suite import proc

CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Processors that this process may use: those it is bound to, or fewer where a container's quota grants the time of fewer."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = quota()
    return bound if granted is None else max(1, min(bound, int(granted)))


def quota() -> float | None:
    """Processors whose time the control groups of this process grant it (Docker's --cpus, Kubernetes' limits); None: all."""
    shares = []
    for line in proc.lines("self", "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # version 2 names no controller; a container sees its own group as the root
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = CGROUPS if not controllers else CGROUPS / "cpu"
        own = base / path.strip("/")
        for group in (own, *own.parents) if own.is_dir() else (base,):
            shares += _granted(group)
            if group == base:
                break
    return min(shares, default=None)


def _granted(group: Path) -> list[float]:
    """Processors that one control group grants, if it says so: version 2 in one file, version 1 in two."""
    words = " ".join(_lines(group / "cpu.max")).split()
    words = words or [*_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")]
    if len(words) != 2 or not all(word.lstrip("-").isdigit() for word in words):
        return []  # `max`, or no quota here
    time_granted, period = map(int, words)
    return [time_granted / period] if time_granted > 0 and period > 0 else []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # this system has no such file
        return []
