"""The ledger: verdicts are computed from rows, and from nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from suite import registry
from suite.board import cases, charts, claims, sequential, statistics, store
from tests.suite.board.test_store import HERE, light
from tests.suite.board.test_tables import measured

ROW = {"tier": "small", "case": "fashion/resnet20", "target": "macs=0.5", "method": "chex"}
CLAIM = {
    "method": "chex",
    "claim": "as good as dense",
    "paper": "77.4",
    "where": "table 1",
    "test": "difference",
    "measure": "top1",
    "row": ROW,
    "versus": ROW | {"method": "dense", "target": ""},
    "least": -1.0,
    "why": "an explanation",
}


def put(
    root: Path,
    name: str,
    seed: int,
    top1: float,
    speedup: float = 1.3,
    card: str = "c" * 16,
    kept: float = 0.5,
    device: str = "cpu",
) -> None:
    method = {"name": name, "origin": "reference", "version": HERE}
    target = "" if name == "dense" else "macs=0.5"
    systems = {"solve": card, "weigh": card}
    spec = {"target": target, "device": device}
    light(root, seed, method=method, spec=spec, systems=systems, measures=measured(top1, speedup, kept))


def judged(root: Path, **changes: Any) -> claims.Verdict:
    store.publish(root, root / "b.duckdb")
    with store.connect(root / "b.duckdb") as db:
        return claims._judge(list(cases.of_task(db, "image_pruning")), "image_pruning", CLAIM | changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [((-0.1, -0.2, -0.3), "met"), ((-3.0, -3.1, -2.9), "not met"), ((-0.2, -1.0, -1.9), "undecided")],
)
def test_the_whole_interval_decides(tmp_path: Path, gaps: tuple[float, ...], verdict: str) -> None:
    for seed, gap in enumerate(gaps):
        put(tmp_path, "dense", seed, 90.0 + seed)
        put(tmp_path, "chex", seed, 90.0 + seed + gap)
    found = judged(tmp_path)
    assert found.verdict == verdict
    assert found.value == pytest.approx(sum(gaps) / 3)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.why == ("" if verdict == "met" else "an explanation")
    assert "<svg" in charts.claim_bar(found.value, found.low, found.high, found.least)


@pytest.mark.slow
def test_two_pairs_and_rows_off_their_target_prove_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "dense", seed, 90.0)
        put(tmp_path, "chex", seed, 90.0, kept=0.5 if seed else 0.6)
    found = judged(tmp_path)
    assert (found.verdict, found.reason) == ("too few rows", "2 of at least 3 paired seeds; 1 run missed its target")
    assert charts.claim_bar(found.value, found.low, found.high, found.least) == ""


@pytest.mark.slow
def test_a_method_that_saves_what_it_saves_counts_off_its_target(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "dense", seed, 90.0)
        put(tmp_path, "chex", seed, 89.5, kept=0.6)
    assert judged(tmp_path).verdict == "too few rows"
    assert judged(tmp_path, row=ROW | {"off_target": True}).value == pytest.approx(-0.5)


@pytest.mark.slow
def test_a_claim_can_ask_for_more_seeds_than_three(tmp_path: Path) -> None:
    for seed in range(4):
        put(tmp_path, "dense", seed, 90.0)
        put(tmp_path, "chex", seed, 90.0)
    found = judged(tmp_path, seeds=5)
    assert (found.verdict, found.reason) == ("too few rows", "4 of at least 5 paired seeds")
    assert judged(tmp_path, seeds=4).value == pytest.approx(0)


def test_timings_of_two_cards_are_not_mixed(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "chex", seed, 90.0, speedup=1.6 + 0.01 * seed)
    for seed in range(2):
        put(tmp_path, "chex", seed, 90.0, speedup=9.0, card="d" * 16)
    found = judged(tmp_path, test="realised", measure="speedup infer@64", promised="kept.macs", least=0.7)
    assert found.value == pytest.approx(0.805)
    assert found.verdict == "met"


@pytest.mark.slow
def test_seconds_of_solves_are_compared_on_the_card_that_solved(tmp_path: Path) -> None:
    def solved(name: str, seed: int, card: str, seconds: float) -> None:
        method = {"name": name, "origin": "reference", "version": HERE}
        told = {"name": "solve_total", "value": seconds, "source": "meter"}
        systems, target = {"solve": card * 16, "weigh": "c" * 16}, "" if name == "dense" else "macs=0.5"
        light(tmp_path, seed, method=method, spec={"target": target}, systems=systems, measures=[*measured(90), told])

    for seed in range(3):
        solved("dense", seed, "c", 100.0)
        solved("chex", seed, "c", 50.0 + seed)
    for seed in range(3, 5):
        solved("dense", seed, "c", 100.0)
        solved("chex", seed, "d", 1.0)  # as well weighed on c, but solved where it went faster
    found = judged(tmp_path, test="ratio", measure="solve_total", least=0.4)
    assert found.value == pytest.approx(0.51)


@pytest.mark.slow
def test_two_rows_are_timed_on_one_card(tmp_path: Path) -> None:
    for seed in range(4):
        put(tmp_path, "chex", seed, 90.0, speedup=2.0)
        put(tmp_path, "dense", seed, 90.0, speedup=9.0, card="d" * 16)
    for seed in range(3):
        put(tmp_path, "chex", seed, 90.0, speedup=3.0, card="d" * 16)
    asked: dict[str, Any] = {"test": "ratio", "measure": "speedup infer@64", "least": 0.3}
    assert judged(tmp_path, **asked).value == pytest.approx(1 / 3)  # never 2 / 9
    elsewhere = {"method": "dense", "target": "", "device": "cuda"}
    assert judged(tmp_path, **asked | {"versus": ROW | elsewhere}).verdict == "too few rows"


@pytest.mark.slow
def test_a_claim_can_name_the_device(tmp_path: Path) -> None:
    for seed in range(4):
        put(tmp_path, "chex", seed, 90.0, speedup=1.6)
    for seed in range(3):
        put(tmp_path, "chex", seed, 90.0, speedup=1.2, card="d" * 16, device="cuda")
    asked: dict[str, Any] = {"test": "value", "measure": "speedup infer@64", "least": 1.5}
    assert judged(tmp_path, **asked).value == pytest.approx(1.6)
    assert judged(tmp_path, row=ROW | {"device": "cpu"}, **asked).verdict == "met"
    assert judged(tmp_path, row=ROW | {"device": "cuda"}, **asked).value == pytest.approx(1.2)


@pytest.mark.slow
def test_a_ratio_and_a_value(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "dense", seed, 80.0)
        put(tmp_path, "chex", seed, 88.0)
    assert judged(tmp_path, test="ratio", least=1.0).value == pytest.approx(1.1)
    assert judged(tmp_path, test="value", least=80).value == pytest.approx(88.0)


@pytest.mark.slow
def test_two_measures_of_the_same_row(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "chex", seed, 90.0, speedup=1.8, kept=0.5)
    found = judged(tmp_path, test="ratio", measure="speedup infer@64", over="kept.macs", versus=ROW, least=1.0)
    assert found.value == pytest.approx(3.6)
    alone = {k: v for k, v in CLAIM.items() if k != "versus"} | {
        "test": "ratio",
        "measure": "speedup infer@64",
        "over": "kept.macs",
        "least": 1.0,
    }
    with store.connect(tmp_path / "b.duckdb") as db:
        assert claims._judge(list(cases.of_task(db, "image_pruning")), "image_pruning", alone) == found


@pytest.mark.slow
def test_the_terminal_shows_each_claim_whole_in_eighty_columns(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "dense", seed, 90.0 + seed)
        put(tmp_path, "chex", seed, 80.0 + seed)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(claims.render([judged(tmp_path), judged(tmp_path, untestable="needs ImageNet")]))
    words = console.export_text()
    assert "✕ not met" in words
    assert "chex as good as dense" in words
    assert "paper: 77.4 (table 1)" in words
    assert "-10.00 [-10.00, -10.00], at least -1" in words
    assert "why: an explanation" in words
    assert "needs ImageNet" in words
    assert "0 met, 1 not met, 0 no difference, 0 undecided, 0 too few rows, 1 not testable here" in " ".join(words.split())


@pytest.mark.slow
def test_what_cannot_be_tested_says_why(tmp_path: Path) -> None:
    found = judged(tmp_path, untestable="needs ImageNet")
    assert (found.verdict, found.reason) == ("not testable here", "needs ImageNet")


@pytest.mark.slow
def test_a_bound_may_be_the_other_rows_spread(tmp_path: Path) -> None:
    for seed, (dense, ours) in enumerate(((88.0, 87.5), (90.0, 89.4), (92.0, 91.6))):
        put(tmp_path, "dense", seed, dense)
        if seed < 2:
            put(tmp_path, "chex", seed, ours)
    assert judged(tmp_path, deviations=-1.0).verdict == "too few rows"
    put(tmp_path, "chex", 2, 91.6)
    found = judged(tmp_path, deviations=-1.0)
    assert found.least == pytest.approx(-2.0)
    assert found.verdict == "met"
    assert judged(tmp_path, deviations=-0.1).verdict == "not met"


def test_what_lies_within_the_margin_is_no_difference(tmp_path: Path) -> None:
    for seed, gap in enumerate((0.1, -0.1, 0.15)):
        put(tmp_path, "dense", seed, 90.0 + seed)
        put(tmp_path, "chex", seed, 90.0 + seed + gap)
    asked: dict[str, Any] = {"least": 0.0, "why": "an explanation"}
    assert judged(tmp_path, **asked).verdict == "undecided"
    assert judged(tmp_path, **asked, margin=0.3).verdict == "undecided"  # the interval reaches 0.38
    found = judged(tmp_path, **asked, margin=0.5)
    assert (found.verdict, found.margin, found.why) == ("no difference", 0.5, "an explanation")
    assert claims.ours(found).endswith("at least 0, margin 0.5")
    assert ("=", "no difference", 1) in claims.tally([found])
    assert judged(tmp_path, **asked | {"least": -1.0}, margin=0.5).verdict == "met"  # what the claim asks comes first
    assert judged(tmp_path, **asked | {"least": 1.0}, margin=0.5).verdict == "not met"


def test_seeds_added_after_a_look_are_held_to_the_bound_of_theirs(tmp_path: Path) -> None:
    gaps = (-0.2, -1.0, -1.9, -1.45, -1.25, -1.5)
    for seed, gap in enumerate(gaps):
        put(tmp_path, "dense", seed, 90.0)
        put(tmp_path, "chex", seed, 90.0 + gap)
    found = judged(tmp_path, least=-0.6)
    assert (found.verdict, found.seeds, found.look) == ("undecided", 6, 4)
    assert found.level == pytest.approx(1 - 2 * sequential.tail(3, 6), abs=1e-6)
    assert found.high is not None
    assert found.value is not None
    mean, half = statistics.t_interval(gaps)
    assert found.value == pytest.approx(mean)
    assert found.high - found.value > half
    assert mean + half < -0.6  # the ordinary interval would have taken it for not met
    assert claims.ours(found).endswith("look 4 at 6 seeds")
    assert judged(tmp_path, least=-0.6, seeds=6).verdict == "not met"  # six were planned: that is its first look


def test_the_first_look_that_decides_stands(tmp_path: Path) -> None:
    for seed, gap in enumerate((-0.1, -0.2, -0.3, -5.0)):
        put(tmp_path, "dense", seed, 90.0)
        put(tmp_path, "chex", seed, 90.0 + gap)
    found = judged(tmp_path)
    assert (found.verdict, found.seeds, found.look, found.value) == ("met", 3, 1, pytest.approx(-0.2))
    assert found.reason == "decided by its first 3 seeds; 1 more came since"


def test_noise_is_pooled_with_the_cases_other_rows_but_not_with_others_methods(tmp_path: Path) -> None:
    others = (
        "uniform_scratch",
        "l1_filters",
        "chase",
        "imp",
        "snip",
        "gmp",
        "fpgm",
        "structure_lth",
        "depgraph",
        "chex_widths",
        "rigl",
    )
    for seed in range(3):
        put(tmp_path, "dense", seed, 90.0)
        put(tmp_path, "chex", seed, 89.0 + (0.0, 0.1, 1.2)[seed])
    alone = judged(tmp_path)
    assert alone.pooled == 0
    known = [name for name in others if name in registry.methods("image_pruning")][:9]
    for i, name in enumerate(known):
        for seed in range(3):
            put(tmp_path, name, seed, 80.0 + i + 0.3 * ((i * seed) % 3))
            method = {"name": f"mine{i}@{'0' * 12}", "origin": "file", "version": HERE}
            light(tmp_path, seed, method=method, measures=measured(50.0 + 20 * ((i + seed) % 3)))
    found = judged(tmp_path)
    assert found.pooled == 2 + len(known)
    assert found.high is not None
    assert found.low is not None
    assert alone.high is not None
    assert alone.low is not None
    assert found.high - found.low < 0.7 * (alone.high - alone.low)


@pytest.mark.parametrize("task", list(registry.tasks()))
def test_a_margin_is_of_a_difference_whose_bound_lies_within_it_and_its_file_says_what_it_follows_from(task: str) -> None:
    found = [c for c in claims.stated(task) if "margin" in c]
    for claim in found:
        assert claim["test"] == "difference"
        assert abs(claim["least"]) < claim["margin"]  # else it is met or not met before it can be no difference
    path = registry.tasks()[task].path
    head = path.with_name("claims.toml").read_text(encoding="utf-8").partition("[[claim]]")[0] if path else ""
    assert ("# `margin`: " in head) == bool(found)
