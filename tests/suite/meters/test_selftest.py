"""The self-test runs the real ways on a real network, and says what it found."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from suite.meters import environment, selftest


@pytest.fixture(scope="module")
def result() -> Iterator[selftest.SelfTest]:
    yield selftest.self_test(trials=2, cap_seconds=0.5, threads=1)
    environment.prepare_process()  # as the other tests have it


def test_three_ways_in_the_same_run(result: selftest.SelfTest) -> None:
    assert [w.name for w in result.ways] == [selftest.OURS, selftest.BACK_TO_BACK, selftest.AUTORANGE]
    for way in result.ways:
        assert len(way.errors) == result.trials == 2
        assert all(e >= 0 for e in way.errors)
        assert 0 < way.seconds < 60
    assert result.ways[0].covered in (0, 1, 2)
    assert [w.covered for w in result.ways[1:]] == [None, None]  # these ways have no interval
    assert result.resolution is None or result.resolution >= max(result.ways[0].errors)


def test_a_terminal_shows_it(result: selftest.SelfTest) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(selftest.render(dataclasses.replace(result, resolution=0.0123)))
    text = console.export_text()
    assert "1.2% or more" in text
    assert all(w.name in text for w in result.ways)
    console.print(selftest.render(dataclasses.replace(result, resolution=None)))
    assert "too busy" in console.export_text()


def test_twins_compute_the_same() -> None:
    import torch

    one, two = selftest._network()(), selftest._network()()
    assert isinstance(one, torch.Tensor)
    assert isinstance(two, torch.Tensor)
    assert torch.equal(one, two)
    assert one.data_ptr() != two.data_ptr()


def test_it_ends_within_the_seconds_that_it_has_and_tells_each_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(selftest.time, "perf_counter", lambda: now[0])

    def trial(*_: object) -> selftest._Trial:
        now[0] += 1.0  # three ways: a trial takes three seconds
        return selftest._Trial(0.01, 1.0, 0.02)

    monkeypatch.setattr(selftest, "_abba", trial)
    monkeypatch.setattr(selftest, "_one_after_the_other", trial)
    for most, expected in ((0.0, 2), (6.5, 2), (9.0, 3), (100.0, 5)):
        told: list[int] = []
        result = selftest.self_test(5, most_seconds=most, tell=told.append)
        assert result.trials == expected == len(result.ways[0].errors), most
        assert told == list(range(1, expected + 1))


def test_what_it_takes_is_told_beforehand() -> None:
    assert selftest.expected_seconds(20) > 20 * selftest.CAP


def test_a_quick_one_goes_our_way_alone() -> None:
    result = selftest.self_test(2, 0.2, threads=1, alone=True)
    assert [w.name for w in result.ways] == [selftest.OURS]
