"""Targets of a case together: one chart and one table, of what was run at several."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from suite import registry
from suite.board import series
from suite.board.statistics import Standing
from suite.board.tables import Board, Ranking, Row


def row(method: str, values: list[float], kind: str = "paper") -> Row:
    mean = sum(values) / len(values)
    standing = Standing(mean, 0.5, 0 if kind == "parent" else 1, 0 if kind == "parent" else 1)
    return Row(method, "", kind, -2 if kind == "parent" else 0, "", standing, dict(enumerate(values)), 1.0, None, (), None, {}, "")


def board(target: str, rows: list[Row]) -> Board:
    ranking = Ranking("image_pruning", 1, "small", "closed", "fashion/resnet20", target)
    return Board(ranking, "%", True, "", "", (), row("dense", [90.0, 91.0, 92.0], "parent"), rows, (), ())


BOARDS = [
    board("macs=0.5", [row("chex", [88.0, 89.0, 90.0]), row("once", [80.0, 80.0, 80.0])]),
    board("macs=0.25", [row("chex", [90.5, 90.5, 90.5])]),
    board("nonzero=0.2", [row("imp", [88.0, 89.0, 90.0])]),
]


def test_targets_that_name_the_same_things_are_a_series() -> None:
    found = series.of(BOARDS)
    assert list(found) == [BOARDS[0].ranking]
    assert found[BOARDS[0].ranking] == BOARDS[:2]


def test_a_curve_comes_down_to_an_area_and_the_least_that_holds() -> None:
    (found,) = series.summary(BOARDS[:2])
    # seed by seed: from 90 to 88 over a half, then to 90.5 over a quarter, and so on
    by_seed = [((d + a) / 2 * 0.5 + (a + b) / 2 * 0.25) / 0.75 for d, a, b in ((90, 88, 90.5), (91, 89, 90.5), (92, 90, 90.5))]
    assert found.area == pytest.approx(sum(by_seed) / 3)
    assert min(by_seed) <= found.low < found.area < found.high <= max(by_seed)
    assert found.least == 0.25  # the parent's mean minus one deviation is 90; at a half it is under that
    assert found.dips


def test_the_chart_draws_what_was_run_at_two_targets() -> None:
    svg = ElementTree.fromstring(series.chart(BOARDS[:2], registry.task("image_pruning"), 760))
    assert len(list(svg.iter("polyline"))) == 1
    text = "".join(svg.itertext())
    assert "chex" in text
    assert "once" not in text
    assert "MACs kept" in text
