"""Tests that train compute in the state that runs compute in; and which tests an editor runs on save (`make test-fast`).

**The fast lane** is what is not marked `slow`, and a test is marked by a rule, here and nowhere else:

- it lies in a folder that looks at the whole: a browser, benchmarks, fuzzing, the worked examples of the documentation;
- it uses a fixture that is shared by a module or a session, which a fixture is when it is costly;
- its author marked it, as it takes more than about half a second of the processor.

What is none of these is in the lane from the day it is written.  At the end the lane names tests that took over half a second of
the processor: they want the mark.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
WHOLE = ("benchmarks", "browser", "docs", "fuzz")  #: folders whose tests look at the whole
COSTLY = ("session", "package", "module")  #: scopes of fixtures that are shared, as they cost something
NOTICED = 0.5  #: processor seconds of a test of the fast lane that are told

# a test says what is right, never how fast: beside other work an example may take long
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def prepared() -> None:
    """Denormals flushed, one thread: threads that wait for each other crawl beside other work."""
    from suite.meters.environment import prepare_process

    prepare_process(threads=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _slow(item):
            item.add_marker("slow")


def _slow(item: pytest.Item) -> bool:
    if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).parts[0] in WHOLE:
        return True
    used = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]  # nothing public tells it
    return any(d.scope in COSTLY for found in used.values() for d in found if d.baseid.startswith("tests"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    began = _processor()
    item.user_properties.append(("began", began))
    try:
        return (yield)
    finally:
        if torch := sys.modules.get("torch"):  # a test may have prepared this process, and hypothesis draws denormal numbers
            torch.set_flush_denormal(False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "teardown":
        (began,) = (v for k, v in item.user_properties if k == "began")
        report.user_properties.append(("processor", _processor() - float(began)))
    return report


def _processor() -> float:
    """Processor seconds of this process and of those that it started and that ended."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.markexpr != "not slow":
        return
    took = {
        r.nodeid: v
        for found in terminalreporter.stats.values()
        for r in found
        for k, v in getattr(r, "user_properties", ())
        if k == "processor"
    }
    terminalreporter.write_line(f"the fast lane: {len(took)} tests, {sum(took.values()):.0f} s of the processor")
    for test, seconds in sorted(took.items(), key=lambda t: -t[1]):
        if seconds > NOTICED:
            terminalreporter.write_line(f"{seconds:5.1f} s of the processor; mark it slow: {test}")
