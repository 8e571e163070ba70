"""Energy counters in the kernel's layout: what they add up to, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.meters import energy

RANGE = 262_143_328_850  #: microjoules, of a server's package


def package(root: Path, domain: str, name: str, microjoules: int = 0) -> Path:
    folder = root / domain
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder


def spend(folder: Path, joules: float) -> None:
    file = folder / "energy_uj"
    file.write_text(str((int(file.read_text()) + int(joules * 1e6)) % RANGE))


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    monkeypatch.setattr(energy, "SETTLE", 0.0)
    return tmp_path


@pytest.mark.parametrize("start", [0, RANGE - 300_000])
def test_joules_per_item_of_packages_alone_across_a_turn(rapl: Path, start: int) -> None:
    one = package(rapl, "intel-rapl:0", "package-0", start)
    two = package(rapl, "intel-rapl:1", "package-1")
    core, whole = package(rapl, "intel-rapl:0:0", "core"), package(rapl, "intel-rapl:2", "psys")

    def call() -> None:
        for folder, joules in ((one, 0.02), (two, 0.02), (core, 5), (whole, 50)):
            spend(folder, joules)

    meter, reason = energy.open_meter("cpu", seconds=0.02)
    assert reason is None
    assert meter is not None
    measures, reason = meter.measure(call, items=4, workload="w", seconds=0.1)
    assert reason is None
    found = {m.name: m for m in measures}
    assert found["energy"].value == pytest.approx(0.01, rel=1e-6)  # 0.04 J a call, four items; nothing is spent idle
    assert found["energy_idle_power"].value == 0
    assert {m.unit for m in measures} == {"J", "W"}
    assert {m.source for m in measures} == {"meter"}


def test_no_counter_is_a_reason_not_a_zero(rapl: Path) -> None:
    assert energy.open_meter("cpu") == (None, "no RAPL counter here (a virtual machine, or no such processor)")
    package(rapl, "intel-rapl:0", "package-0")
    meter, _ = energy.open_meter("cpu", seconds=0.02)
    assert meter is not None
    measures, reason = meter.measure(lambda: None, items=1, workload="w", seconds=0.02)
    assert not measures
    assert "did not move" in str(reason)


def test_a_counter_that_is_forbidden_is_a_reason(rapl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(rapl, "intel-rapl:0", "package-0")

    def forbidden(path: Path) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(energy, "_read", forbidden)  # tests may run as root, whom no file mode stops
    meter, reason = energy.open_meter("cpu")
    assert meter is None
    assert "Permission denied" in str(reason)


def test_a_gpu_that_is_not_there_is_a_reason() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    meter, reason = energy.open_meter("cuda")
    assert meter is None
    assert "no CUDA device" in str(reason)
