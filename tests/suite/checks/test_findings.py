"""What the checker says of what it finds, and what it needs to run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import registry
from suite.check import Registry, check
from suite.checks.findings import Finding, printable
from suite.protocol import Measure, Spec, Table
from tests.suite.checks.forger import (
    QUICK,
    Dots,
    House,
    honest,
    results,
    stored,
)


def test_at_most_twenty_findings_a_bundle(house: House) -> None:
    extra = [stored(Measure("made_up", float(i), "", "", f"part {i}")) for i in range(500)]
    with results() as root:
        assert len(check([honest(root, change=lambda b: b["measures"].extend(extra))], registry=house)) == 20


@given(st.text())
@QUICK
def test_printable_text_is_one_safe_line(text: str) -> None:
    safe = printable(text)
    assert safe.isprintable()
    assert len(safe) <= 300
    assert not {"<", ">"} & set(safe)
    safe.encode()


def test_a_finding_is_a_line_and_a_record() -> None:
    found = Finding("results/b", "run.json", "id", "error", "is wrong", "mend it")
    assert found.line() == "error: results/b/run.json: id: is wrong; mend it"
    assert found.to_json() == asdict(found)
    assert Finding("results/b", ".", "folder", "mark", "m", "n").line() == "mark: results/b: folder: m; n"


def test_programming_errors_are_not_swallowed(house: House) -> None:
    class Broken(Dots):
        def score(self, spec: Spec, evidence: Table) -> list[Measure]:
            raise TypeError("a mistake of ours")

    class Other(House):
        def task(self, name: str, /) -> Dots:
            return Broken()

    with results() as root, pytest.raises(TypeError, match="a mistake of ours"):
        check([honest(root)], registry=Other(house.root))


@pytest.mark.slow
def test_our_registry_is_a_registry_and_checking_imports_no_torch(tmp_path: Path) -> None:
    ours: Registry = registry
    assert "image_pruning" in ours.tasks()
    code = (
        "import sys; from pathlib import Path; from tests import demo; from suite.check import check\n"
        f"root = Path({str(tmp_path)!r}); demo.write(root); found = check([root])\n"
        "assert [f.line() for f in found if f.level == 'error'] == [], [f.line() for f in found]\n"
        "assert not {'torch', 'torchvision', 'pickle5', 'duckdb'} & set(sys.modules)"
    )
    here = {**os.environ, "PYTHONPATH": str(registry.HOUSE)}
    done = subprocess.run([sys.executable, "-c", code], cwd=registry.HOUSE, env=here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
