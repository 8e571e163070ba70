"""A container's quota is as good as fewer processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import proc, processors


@pytest.mark.parametrize(
    ("membership", "files", "granted"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/jobs/17\n", {"jobs/17/cpu.max": "max 100000", "jobs/cpu.max": "400000 100000"}, 4.0),
        ("0::/jobs/17\n", {"jobs/17/cpu.max": "max 100000"}, None),
        ("0::/elsewhere\n", {"cpu.max": "50000 100000"}, 0.5),
        ("4:cpu,cpuacct:/a\n1:memory:/b\n", {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, 3.0),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_a_containers_quota_counts_as_cores(
    membership: str, files: dict[str, str], granted: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(membership)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text + "\n")
    monkeypatch.setattr(proc, "PROC", tmp_path / "proc")
    monkeypatch.setattr(processors, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processors.quota() == granted
    assert processors.cores() == (8 if granted is None else max(1, int(granted)))
