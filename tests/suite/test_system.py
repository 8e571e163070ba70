"""The system card: read by code, the same each time, refused once edited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite import system
from suite.naming import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def card() -> system.SystemCard:
    return system.card()


def test_the_hash_is_the_machines_not_the_moments(card: system.SystemCard) -> None:
    code = "from suite import system; print(system.card().hash)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert other.stdout.strip() == card.hash == system.card().hash
    assert len(card.hash) == 16
    # another number of threads, another card: their timings share no ranking
    assert system.card(threads=card.processor["threads_used"] + 1).hash != card.hash
    assert system.card(threads=card.processor["threads_used"]).hash == card.hash


def test_what_is_on_a_card(card: system.SystemCard) -> None:
    import torch

    assert card.gpu == {}  # a run on the CPU does not depend on an idle GPU
    assert card.software["torch"] == torch.__version__
    assert card.processor["cores"] >= 1
    assert card.memory["total_gib"] > 0
    every = [v for group in card.model_dump().values() for v in group.values()]
    assert None not in every
    assert "" not in every


@pytest.mark.skipif(sys.platform != "linux", reason="facts of Linux's /proc and /sys")
def test_facts_agree_with_the_kernels(card: system.SystemCard) -> None:
    text = Path("/proc/meminfo").read_text().split("\n", 1)[0]
    assert card.memory["total_gib"] == pytest.approx(int(text.split()[1]) / 2**20, abs=0.1)
    assert card.system["kernel"] == os.uname().release


def test_a_setting_that_steers_is_on_the_card_and_its_paths_are_not(
    monkeypatch: pytest.MonkeyPatch, card: system.SystemCard
) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("KMP_AFFINITY", "granularity=fine,compact")
    for name in system.SET_BY_IMPORTS:
        monkeypatch.setenv(name, "/tmp/x")
    monkeypatch.setenv("LD_PRELOAD", "/home/somebody/lib/libjemalloc.so:/opt/x/libfoo.so")
    other = system._software()["steered_by"]
    assert other["MALLOC_ARENA_MAX"] == "1"
    assert set(system.SET_BY_IMPORTS) & set(other) == set()
    assert other["KMP_AFFINITY"] == "granularity=fine,compact"
    assert other["LD_PRELOAD"] == "libjemalloc.so:libfoo.so"
    assert str(Path.home()) + os.sep not in json.dumps(card.model_dump())


@pytest.mark.slow
def test_a_card_does_not_depend_on_what_was_imported_before() -> None:
    imports = "torchvision, sklearn.metrics, fairlearn.reductions, torch_geometric, torch_pruning, timm, scipy.sparse, pandas"
    asked = f"""
from suite import compat, system
compat.declare_operators()
before = system.card()
for name in "{imports}".split(", "):
    __import__(name)
assert system.card() == before, (before.software["steered_by"], system.card().software["steered_by"])
"""
    # what this process has imported stands in its environment already, and would be found unchanged
    clean = {k: v for k, v in os.environ.items() if k not in system.SET_BY_IMPORTS}
    subprocess.run([sys.executable, "-c", asked], check=True, env=clean)


def test_cards_are_stored_once_and_read_back(tmp_path: Path, card: system.SystemCard) -> None:
    path = system.write_card(card, tmp_path / "systems")
    stamp = path.stat().st_mtime_ns
    assert system.write_card(card, tmp_path / "systems") == path
    assert path.stat().st_mtime_ns == stamp
    assert [p.name for p in path.parent.iterdir()] == [f"{card.hash}.json"]
    assert system.read_cards(path.parent) == {card.hash: card}


@pytest.mark.parametrize("spoil", ["edit", "garbage", "gone"])
def test_an_edited_card_is_refused(tmp_path: Path, card: system.SystemCard, spoil: str) -> None:
    path = system.write_card(card, tmp_path)
    if spoil == "edit":
        path.write_text(path.read_text().replace(card.processor["model"], "a faster one"))
    elif spoil == "garbage":
        path.write_text("{")
    else:
        path.unlink()
    with pytest.raises(UserError, match=card.hash):
        system.read_card(path)


def test_a_card_that_cannot_be_stored_is_one_line(tmp_path: Path, card: system.SystemCard) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write") as error:
        system.write_card(card, tmp_path / "file" / "systems")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [("max 100000", "none"), ("150000 100000", "1.5 cores"), (None, system.UNREADABLE), ("?", system.UNREADABLE)],
)
def test_a_control_groups_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str | None, read: str) -> None:
    if written is not None:
        (tmp_path / "cpu.max").write_text(written + "\n")
    monkeypatch.setattr(system, "CGROUP", tmp_path)
    monkeypatch.setattr(system.processors, "quota", lambda: None)
    assert system._quota() == read
    monkeypatch.setattr(system.processors, "quota", lambda: 2.5)
    assert system._quota() == "2.5 cores", "a group further down may grant less"


@pytest.mark.parametrize(
    ("file", "value", "read"),
    [
        ("cpufreq/boost", "1", "on"),
        ("cpufreq/boost", "0", "off"),
        ("intel_pstate/no_turbo", "1", "off"),
        ("none", "", system.UNREADABLE),
    ],
)
def test_boost_in_either_drivers_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, value: str, read: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(value)
    monkeypatch.setattr(system, "CPU", tmp_path)
    assert system._boost() == read


def test_notes_on_a_weighing() -> None:
    quiet: dict[str, Any] = {"load": 0.2, "khz": system.UNREADABLE, "gpu": {}}
    assert system.compare_moments(quiet, quiet) == []
    hot = {"load": 5.53, "khz": "", "gpu": {"MHz": 900, "°C": 88, "W": 699.5, "slowed": ["too hot (driver)"]}}
    notes = system.compare_moments(hot, quiet)
    assert notes == [
        "load average 5.5 when weighing began",
        "GPU before weighing: 900 MHz, 88 °C, 699.5 W",
        "throttled before weighing: too hot (driver)",
    ]
    now = system.moments()
    assert now["load"] >= 0
    assert now["gpu"] == {}
