"""The studentized range beside scipy's adaptive integral, Student's t and its limits."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from scipy import stats

from suite.board.tukey import studentized_range


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 40, 1000])
def test_of_two_means_it_is_students_t(freedom: int) -> None:
    assert studentized_range(2, freedom) == pytest.approx(math.sqrt(2) * stats.t.ppf(0.975, freedom), rel=1e-10)


@pytest.mark.parametrize(
    ("groups", "freedom"), [(3, 1), (3, 5), (10, 2), (10, 30), (20, 100), (50, 4), (200, 10), (500, 1), (1000, 3), (5000, 500)]
)
def test_it_is_scipys(groups: int, freedom: int) -> None:
    assert studentized_range(groups, freedom) == pytest.approx(stats.studentized_range.ppf(0.95, groups, freedom), rel=1e-8)


def test_more_means_and_fewer_degrees_of_freedom_ask_for_more() -> None:
    assert all(a < b for a, b in pairwise(studentized_range(k, 9) for k in (2, 3, 5, 30, 31, 4000, 1_000_000)))
    assert all(a > b for a, b in pairwise(studentized_range(7, v) for v in (1, 2, 3, 50, 51, 10_000, 10_000_000)))


def test_with_the_variance_known_it_is_the_range_of_normal_values() -> None:
    """Ten million degrees of freedom are as good as infinitely many: the printed tables' last line (k = 2, 10, 100)."""
    found = [studentized_range(k, 10_000_000) for k in (2, 10, 100)]
    assert found == pytest.approx([2.772, 4.474, 6.085], abs=6e-4)
