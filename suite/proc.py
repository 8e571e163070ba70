"""What the kernel tells of processes and memory: from Linux's ``/proc``, and where there is none (macOS) from psutil.

What neither tells is None, empty or 0, as each function says; who asks then tells that it is missing.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

PROC = Path("/proc")  #: the one name under which it is looked for


def there() -> bool:
    """Whether this system has a ``/proc``: with one, psutil is not asked, whatever cannot be read."""
    return PROC.is_dir()


def lines(*names: str) -> list[str]:
    """Lines of a file in ``/proc``; none where it cannot be read."""
    try:
        return PROC.joinpath(*names).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def busy_seconds() -> float:
    """Time that processors were not idle, of those that this process may use (without ``/proc``: of all); 0 where nothing tells."""
    if not there():
        import psutil

        times = psutil.cpu_times()
        return float(sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal")))
    try:
        mine = {f"cpu{n}" for n in os.sched_getaffinity(0)}
        rows = [[float(x) for x in line.split()[1:9]] for line in lines("stat") if line.split(" ", 1)[0] in mine]
    except (ValueError, AttributeError):
        return 0.0
    # user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user
    return sum(sum(row) - row[3] - row[4] for row in rows) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """Processor time of children that live and of their children; 0 where nothing tells."""
    if there():
        return sum(_seconds_of(pid) for pid in _children("self"))
    import psutil

    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:  # it ended meanwhile, or is not ours to look at
            continue
        total += times.user + times.system
    return total


def _children(pid: str) -> list[str]:
    try:
        found = [c for task in (PROC / pid / "task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile, or the kernel keeps no list
        return []
    return found + [grandchild for child in found for grandchild in _children(child)]


def _seconds_of(pid: str) -> float:
    try:
        # the name, in brackets, may hold spaces; after it come state and numbers: utime is the 12th
        fields = (PROC / pid / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(float(x) for x in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def status(field: str) -> float:
    """Memory of this process in bytes: ``VmRSS``, what is resident, or ``VmHWM``, the most that was; 0 where nothing tells.

    Without ``/proc`` the latter is the process's ``ru_maxrss``, which nobody can reset.
    """
    for line in lines("self", "status"):
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) * 1024
    if there():
        return 0.0
    if field == "VmHWM":  # in bytes on macOS, in KiB elsewhere
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
    import psutil

    return float(psutil.Process().memory_info().rss)


def total_memory() -> float:
    """The machine's memory in bytes; 0 where nothing tells."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):  # a name that this system does not know
        import psutil

        return float(psutil.virtual_memory().total)


def processors() -> list[dict[str, str]]:
    """All blocks of ``/proc/cpuinfo``; none without one."""
    blocks = "\n".join(lines("cpuinfo")).strip()
    pairs = ((line.partition(":") for line in block.splitlines()) for block in blocks.split("\n\n")) if blocks else ()
    return [{key.strip(): value.strip() for key, _, value in block} for block in pairs]
