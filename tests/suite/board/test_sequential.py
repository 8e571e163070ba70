"""Looking again and again: how often a claim at its bound is taken for beyond or short of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from suite.board import sequential
from suite.board.claims import Sample, looks
from suite.board.pooling import Prior

CLAIMS = 40_000


def means(draw: np.random.Generator, first: int) -> np.ndarray:
    """Standardised means (claims, looks) of claims whose truth is at their bound."""
    sums = draw.normal(size=(CLAIMS, sequential.MOST_SEEDS)).cumsum(1)
    return sums[:, first - 1 :] / np.sqrt(np.arange(first, sequential.MOST_SEEDS + 1))


@pytest.mark.parametrize("first", [3, 4, 5, 9])
def test_looks_of_a_design_share_five_in_a_hundred(first: int) -> None:
    z = means(np.random.Generator(np.random.Philox(first)), first)
    edge = stats.norm.isf(sequential.tails(first))
    wrong = float((np.abs(z) > edge).any(1).mean())
    assert wrong == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / CLAIMS))


@pytest.mark.parametrize("first", [3, 5, 10])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_verdict_is_wrong_in_at_most_five_of_a_hundred_claims_however_often_they_are_looked_at(first: int, side: int) -> None:
    z = side * means(np.random.Generator(np.random.Philox(10 + first)), first)
    edge = stats.norm.isf([sequential.tail(first, n) for n in range(first, sequential.MOST_SEEDS + 1)])
    wrong = float((z > edge).any(1).mean())  # met where it is short of its bound by a hair, or not met where it is not
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / CLAIMS)
    plain = float((z > stats.norm.isf(sequential.TAIL)).any(1).mean())  # the ordinary interval at each look
    assert plain > wrong if first < 10 else plain == wrong


def test_looks_of_claims_with_estimated_noise_are_wrong_as_seldom() -> None:
    """By the code that judges claims: with a claim's own noise, and with noise drawn towards others'."""
    draw = np.random.Generator(np.random.Philox(3))
    for prior in (None, Prior(1.0, 6.0, 60.0, 20)):
        beyond = short = 0
        for values in draw.normal(size=(600, sequential.MOST_SEEDS)):
            if prior is not None:  # a variance of the law that it is told
                values = values * math.sqrt(6 / draw.chisquare(6))
            word = looks(Sample(dict(enumerate(values.tolist())), 3, 0.0, None, prior, "", ""))[-1].word
            beyond += word == "met"
            short += word == "not met"
        chance = 3 * math.sqrt(0.05 * 0.95 / 600)
        assert beyond / 600 <= 0.05 + chance
        assert short / 600 <= 0.05 + chance


def test_bounds_are_strict_early_and_never_looser_than_the_ordinary_interval() -> None:
    for first in range(3, 11):
        found = sequential.tails(first)
        assert len(found) == 11 - first
        assert list(found) == sorted(found)
        assert found[-1] <= sequential.TAIL + 1e-9
        assert found[0] == pytest.approx(sequential.spent(first / 10), rel=1e-6)
    assert sequential.spent(1.0) == pytest.approx(sequential.TAIL)
    assert sequential.tail(3, 3) == sequential.tail(12, 12) == sequential.TAIL
    assert sequential.tail(3, 4) == sequential.tails(3)[1]
    assert sequential.tail(3, 40) == sequential.tails(3)[-1]


def test_bounds_of_five_looks_are_those_of_the_literature() -> None:
    """Five looks at equal steps, two-sided 5 %, O'Brien and Fleming's function: Reboussin, DeMets, Kim and Lan (2000)."""
    assert stats.norm.isf(sequential.tails(1, 5)) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-3)
