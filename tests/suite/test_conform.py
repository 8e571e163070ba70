"""The method that own-method.md shows passes `weighin conform` as it stands there; what breaks a rule is told."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from suite.conform import Step, conform
from suite.naming import UserError
from tests.benchmarks import test_conform as benchmark
from tests.helpers import method_file


def steps(file: str | Path) -> dict[str, Step]:
    return {s.name: s for s in conform(str(file))}


@pytest.mark.slow
def test_the_example_of_the_page_conforms(tmp_path: Path) -> None:
    found = benchmark.conform(benchmark.example(tmp_path), brief=True).steps
    assert [(s.name, s.detail) for s in found if not s.passed] == []
    assert len({s.name for s in found}) == len(found) == 8
    assert found[-1].name == "its bundle passes the checker"


@pytest.mark.slow
def test_each_broken_rule_has_its_line(tmp_path: Path) -> None:
    # answers by where a class lies that was there before any fork: alike in processes forked from one, and only otherwise in an
    # interpreter of its own, whatever the seed; ignores the target, and says so nowhere
    body = (
        "import torch\n"
        "model = problem.model()\n"
        "model.fc.bias.data[0] += id(torch.nn.Module) % 999983 / 999983\n"
        "return Network(model)"
    )
    found = steps(method_file(tmp_path, body))
    failed = {name for name, step in found.items() if not step.passed}
    assert failed == {"the same seed gives the same evidence, bit for bit", "keeps macs=0.5 within 1 %"}
    assert "torch.Generator" in found["the same seed gives the same evidence, bit for bit"].detail


@pytest.mark.slow
def test_ctrl_c_ends_the_repeats(tmp_path: Path) -> None:
    body = (
        "import pathlib, time\n"
        "begun, again = (pathlib.Path(__file__).with_suffix(s) for s in ('.begun', '.again'))\n"
        "if begun.exists():\n"
        "    again.write_text('x')\n"
        "    time.sleep(600)\n"
        "begun.write_text('x')\n"
        "return Network(problem.model())"
    )
    file, at = method_file(tmp_path, body), []

    def press() -> None:
        while not (tmp_path / "mine.again").exists():
            time.sleep(0.1)
        at.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    # a shell that starts its tests in the background has them ignore Ctrl-C
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=press, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            steps(file)
    finally:
        signal.signal(signal.SIGINT, was)
    assert time.monotonic() - at[0] < 60


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("x = 1\n", "one public frozen dataclass with solve()"),
        ("import nothing_of_this_name\n", "the file imports"),
    ],
)
def test_what_is_no_method_is_told_at_once(tmp_path: Path, text: str, step: str) -> None:
    (tmp_path / "odd.py").write_text(text, encoding="utf-8")
    found = {s.name: s for s in conform(str(tmp_path / "odd.py"), "image_pruning")}
    assert not found[step].passed
    assert list(found) == [step]


def test_a_path_that_is_no_python_file_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no Python file"):
        list(conform("method.txt"))
