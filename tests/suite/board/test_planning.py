"""What would decide a claim: seeds, chances and hours, from bundles with invented numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from suite.board import claims, planning, pooling
from suite.board.claims import Sample
from suite.board.pooling import Prior
from tests.suite.board.test_store import HERE, light

WIDE = (0.3, 1.9, 3.5)  #: gaps that leave a claim undecided, and not for long


def stated(*, over: str) -> dict[str, Any]:
    """The claim that a method of image_pruning is better than another of the same case and target."""
    return next(
        c for c in claims.stated("image_pruning")
        if c.get("test") == "difference" and c["least"] == 0 and c["versus"]["method"] == over and "variant" not in c["versus"]
    )  # fmt: skip


def fill(root: Path, claim: dict[str, Any], gaps: Sequence[float], seconds: float = 100.0) -> None:
    """Rows of a claim with these gaps by seed; the other row has 80."""
    for seed, gap in enumerate(gaps):
        for row, top1 in ((claim["row"], 80 + gap), (claim["versus"], 80.0)):
            put(root, row, seed, top1, seconds)


def put(root: Path, row: dict[str, Any], seed: int, top1: float, seconds: float = 100.0, kept: float = 0.5) -> Path:
    told = [
        {"name": "top1", "value": top1, "unit": "points", "direction": "up"},
        {"name": "kept.macs", "value": kept, "source": "meter"},
        {"name": "train_seconds", "value": seconds, "source": "meter"},
    ]
    spec = {"target": row.get("target", ""), "case": row["case"], "division": row.get("division", "closed")}
    method = {"name": row["method"], "origin": "reference", "version": HERE, "variant": row.get("variant", "")}
    return light(root, seed, method=method, spec=spec, measures=told)


def test_a_plan_names_the_seeds_their_chance_and_their_cost(tmp_path: Path) -> None:
    claim = stated(over="uniform_scratch")
    fill(tmp_path, claim, WIDE, seconds=90.0)
    put(tmp_path, claim["versus"], 3, 80.0)  # of this seed one of two runs is there
    (need,) = planning.judge(tmp_path)
    assert (need.task, need.claim, need.seeds, need.reason) == ("image_pruning", claim["claim"], 3, "")
    assert need.more is not None
    assert list(need.next) == [3 + i for i in range(need.more)]
    assert need.power >= planning.POWER
    assert need.seconds_per_seed == pytest.approx(180.0)
    assert need.runs == 2 * need.more - 1
    assert need.seconds == pytest.approx(90.0 * need.runs)
    told = need.to_json()
    assert told["rows"][0]["method"] == "chex"
    assert "settled" not in told["rows"][0]


def test_seeds_tried_in_vain_are_passed_over_and_new_ones_come_after_those_that_were_looked_at(tmp_path: Path) -> None:
    claim = stated(over="uniform_scratch")
    fill(tmp_path, claim, (9.0, *WIDE))
    for path in (tmp_path / "image_pruning").rglob("run.json"):
        if '"seed": 0' in path.read_text():
            path.unlink()  # the looks were at seeds 1, 2 and 3
    put(tmp_path, claim["row"], 4, 80.0, kept=0.9)  # off its target
    (need,) = planning.judge(tmp_path, "image_pruning")
    assert list(need.next)[:2] == [5, 6]


def test_what_decides_most_an_hour_comes_first_and_a_shared_run_costs_once(tmp_path: Path) -> None:
    cheap, dear = stated(over="uniform_scratch"), stated(over="chex_widths")
    fill(tmp_path, cheap, WIDE, seconds=60.0)
    for seed, gap in enumerate(WIDE):
        put(tmp_path, dear["versus"], seed, 80 - 0.1 * gap, seconds=5_000.0)
    first, second = planning.judge(tmp_path)
    assert (first.claim, second.claim) == (cheap["claim"], dear["claim"])
    assert first.per_hour > second.per_hour
    assert first.seconds is not None
    assert second.seconds is not None
    assert first.more is not None
    assert second.more is not None
    shared = 60.0 * min(first.more, second.more)
    assert planning.seconds_of([first, second]) == pytest.approx(first.seconds + second.seconds - shared)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(planning.render([first, second]))
    words = " ".join(console.export_text().split())
    assert f"{first.more} seeds more" in words
    assert "2 undecided; 2 would be decided with a chance of 80% or more" in words


def sample(values: Sequence[float], least: float = 0.0, margin: float | None = None, prior: Prior | None = None) -> Sample:
    return Sample(dict(enumerate(values)), 3, least, margin, prior, "", "")


CALM = Prior(1.0, 6.0, 60.0, 20)


def test_an_estimate_on_the_bound_is_decided_by_no_seeds_but_by_a_margin() -> None:
    on = [-1.0, 0.0, 1.0]
    assert planning.seeds_more(sample(on, prior=CALM), 3) == (None, 0.0, planning.ON_THE_BOUND)
    more, power, reason = planning.seeds_more(sample(on, prior=CALM, margin=2.0), 3)
    assert more is not None
    assert power >= 0.8
    assert reason == ""
    far, _, why = planning.seeds_more(sample([-0.6, 0.4, 1.4], prior=CALM), 3)
    assert far is None
    assert why.startswith("not within 10 seeds: about ")


@pytest.mark.parametrize(("mean", "margin"), [(1.3, None), (0.8, 2.2), (0.0, 1.6), (-1.5, 1.0)])
def test_the_chance_that_is_told_is_the_share_of_simulated_claims_that_are_decided(mean: float, margin: float | None) -> None:
    draw = np.random.Generator(np.random.Philox(4))
    found, later = sample([mean - 1, mean, mean + 1], 0.0, margin, CALM), 7
    told = planning.decided(found, mean, 1.0, later)
    tail = planning.sequential.tail(3, later)
    decided = 0
    for values in draw.normal(mean, 1, (1_000, later)).tolist():
        middle, half = float(np.mean(values)), pooling.half_width(pooling.difference(values, CALM), later, tail)
        decided += middle - half >= 0 or middle + half < 0 or (margin is not None and abs(middle) + half <= margin)
    assert decided / 1_000 == pytest.approx(told, abs=0.05)


def test_more_seeds_never_make_a_claim_less_likely_to_be_decided() -> None:
    chances = [planning.decided(sample([0.2, 1.2, 2.2], prior=CALM), 1.2, 1.0, n) for n in range(4, 40)]
    assert chances == sorted(chances)
    assert 0 <= chances[0] < chances[-1] <= 1
    assert math.isfinite(sum(chances))


@pytest.mark.parametrize(("seconds", "words"), [(42, "42 s"), (600, "10 min"), (9_000, "2.5 h")])
def test_a_length_of_time_is_told_as_people_do(seconds: float, words: str) -> None:
    assert planning.length(seconds) == words
