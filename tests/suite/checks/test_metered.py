"""Metered figures are held to bounds and to sums of each other."""

from __future__ import annotations

import pytest

from suite import system
from suite.check import check
from tests.suite.checks.forger import (
    Change,
    Dots,
    House,
    card,
    errors,
    honest,
    measure,
    metered,
    refused,
    results,
    told,
)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (metered("agreement", 100.1, "%"), "agreement"),
        (metered("agreement", -0.1, "%"), "agreement"),
        (metered("search", -1.0, "s"), "search"),
        (metered("energy", -1.0, "J"), "energy"),
        (metered("memory_peak", -1.0, "B"), "memory_peak"),
        (metered("memory_peak", 2.0**47, "B"), "memory_peak"),
        (metered("memory_peak", 9 * 2.0**30, "B"), "memory_peak"),
        (metered("solve_resident", 9 * 2.0**30, "B"), "solve_resident"),
        (metered("agreement", 5.0, low=6.0, high=7.0), "agreement"),
        (metered("agreement", 5.0, low=7.0, high=4.0), "agreement"),
        (metered("agreement", 5.0, low=4.0), "agreement"),
        (metered("speedup", 5.0, "x"), "speedup"),
        (metered("throughput", 5.0, "1/s", "mine"), "throughput"),
        (told("kept.macs", 0.4), "kept.macs"),
        (told("kept.macs", 2.0), "kept.macs"),
        (told("macs", 400.0), "macs"),
        (told("macs", -500.0), "macs"),
        (told("macs_parent", 0.0), "kept.macs"),
        (told("macs_parent", 900.0), "kept.macs"),
        (told("params", 70.0), "params"),
        (told("nonzero", 95.0), "nonzero"),
        (told("train_seconds", 1e-5), "train_seconds"),
        (told("train_seconds", -1.0), "train_seconds"),
        (told("examples", 2000.0), "curve"),
        (lambda b: b["operations"][0].update(nonzero=46), "operations"),
        (lambda b: b["operations"].pop(), "macs"),
        (lambda b: b["measures"].remove(measure(b, "kept.macs")), "kept.macs"),
        (metered("macs_nonzero", 600.0, part=""), "macs_nonzero"),
    ],
)
def test_metered_figures_are_held_to_bounds_and_sums(house: House, change: Change, field: str) -> None:
    with results() as root:
        refused(house, honest(root, change=change), field)


def test_a_metered_figure_within_bounds_cannot_be_seen_to_be_changed(house: House) -> None:
    with results() as root:  # said in the module's own words: only replay confirms it
        assert errors(house, honest(root, change=told("memory_peak", 5e6))) == []


def test_a_longer_training_than_the_cap_is_marked(house: House) -> None:
    with results() as root:
        (mark,) = check([honest(root, change=told("train_seconds", 601.0))], registry=house)
        assert (mark.level, mark.field) == ("mark", "measures train_seconds")


def test_several_processes_of_a_task_that_shares_no_batches_are_marked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with results() as root:
        several = honest(root, change=lambda b: b.update(processes=2))
        (mark,) = check([several], registry=house)
        assert (mark.level, mark.field) == ("mark", "processes")
        assert "2 processes shared no batch" in mark.message
        monkeypatch.setattr(Dots, "shares_batches", True)
        assert check([several], registry=house) == []


def test_memory_is_held_against_the_card_that_measured_it(house: House) -> None:
    big, gpu = card(64.0), card(64.0, {"name": "Loom", "memory_gib": 16.0})
    with results() as root:
        for c in (big, gpu):
            system.write_card(c, root / "systems")
        solve: Change = lambda b: (b["systems"].update(solve=big.hash), metered("solve_resident", 9 * 2.0**30, "B")(b))  # type: ignore[func-returns-value, return-value]  # noqa: E731
        assert errors(house, honest(root, change=solve)) == []
        on_gpu: Change = lambda b: (  # type: ignore[func-returns-value, return-value]  # noqa: E731
            b["spec"].update(device="cuda"),
            b["systems"].update(weigh=gpu.hash, solve=gpu.hash),
            metered("memory_reserved", 20 * 2.0**30, "B")(b),
        )
        refused(house, honest(root, change=on_gpu), "memory_reserved")


def test_memory_of_a_gpus_solve_is_held_against_the_gpu_whatever_weighed(house: House) -> None:
    small, large = card(64.0, {"name": "Loom", "memory_gib": 16.0}), card(64.0, {"name": "Mill", "memory_gib": 140.0})
    for gpu, gib, fits in ((small, 20, False), (large, 100, True)):
        with results() as root:
            system.write_card(gpu, root / "systems")
            solved: Change = lambda b, gpu=gpu, gib=gib: (  # type: ignore[misc, func-returns-value, return-value]  # noqa: E731
                b["systems"].update(solve=gpu.hash),
                metered("solve_allocated", gib * 2.0**30, "B")(b),
            )
            path = honest(root, change=solved)
            if fits:
                assert errors(house, path) == []
            else:
                refused(house, path, "solve_allocated")
