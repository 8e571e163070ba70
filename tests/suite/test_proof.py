"""A proof lets a refactor in and a change of numbers not: in a clone, by the command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from suite import proof, registry, versions
from suite.fingerprint import parts, tensor
from suite.naming import UserError
from suite.proof import Compared, Result, Trial

TRIAL = Trial("t", "m", "smoke", "closed", "data/net", ("x=1",))
FOUND = {"evidence": {"row": "a"}, "network": {"w": "b"}, "operations": {}}


@dataclass(frozen=True)
class Small:
    model: nn.Module
    kept: dict[str, torch.Tensor]
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Moved:
    model: nn.Module
    kept: dict[str, torch.Tensor]
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def solution(kind: type[Any] = Small, **changes: Any) -> Any:
    return kind(**{"model": network(), "kept": {"a": torch.arange(5), "b": torch.ones(2)}, **changes})


def told(value: Any) -> dict[str, str]:
    return dict(parts(value))


def test_where_a_class_stands_does_not_count_and_notes_neither() -> None:
    assert told(solution(Moved, notes={"seconds": 3.0})) == told(solution())


def test_what_the_solve_took_does_not_count() -> None:
    assert told(solution(seconds={"train": 3.0, "total": 4.0})) == told(solution(seconds={"train": 3.1, "total": 4.2}))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[0].weight.data[0, 0, 0, 0].add_(1e-7),
        lambda m: m[1].running_mean.add_(1),
        lambda m: m[1].register_buffer("table", torch.zeros(1), persistent=False),
        lambda m: setattr(m[0], "stride", (2, 2)),
        lambda m: m.append(nn.Flatten()),
        lambda m: m.to(torch.float64),
    ],
    ids=["a weight", "a running mean", "a buffer", "a stride", "a layer", "a type"],
)
def test_whatever_is_deployed_counts(change: Any) -> None:
    model = network()
    change(model)
    assert told(solution(model=model)) != told(solution())


def test_the_layout_of_a_tensor_in_memory_does_not_count() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert tensor(x.to(memory_format=torch.channels_last)) == tensor(x)
    assert tensor(x.reshape(2, 3, 16)) != tensor(x)
    assert tensor(torch.zeros(2)) != tensor(-torch.zeros(2))  # bits, not numbers
    assert tensor(torch.eye(3).to_sparse_csr()) == tensor(torch.eye(3).to_sparse_coo())


def test_plain_values_count_by_what_they_are() -> None:
    kinds = [1, 1.0, "1", b"1", True, None, (), {}, np.float32(1), np.arange(2), {"1": 1}, [1], {1, 2}, torch.float32]
    digests = [json.dumps(told(k), sort_keys=True) for k in kinds]
    assert len(set(digests)) == len(digests)


def test_a_comparison_says_in_what_two_trees_differ() -> None:
    same = Result("solved", "x=1", "", FOUND)
    assert Compared(TRIAL, same, same).equal
    other = Result("solved", "x=1", "", {**FOUND, "network": {"w": "c"}})
    assert not Compared(TRIAL, same, other).equal
    assert Compared(TRIAL, same, other).told == "network differs in 1 of 1, first w"
    more = Result("solved", "x=1", "", {**FOUND, "operations": {"conv": "d"}})
    assert Compared(TRIAL, same, more).told == "operations differs in 1 of 1, first conv"
    failed = Result("error", "x=1", "ValueError: no")
    assert not Compared(TRIAL, failed, failed).equal
    assert "no proof: base error (ValueError: no); tree error" in Compared(TRIAL, failed, failed).told
    assert not Compared(TRIAL, same, Result("solved", "x=2", "", FOUND)).equal


def test_only_what_the_base_refuses_is_passed_over() -> None:
    refused, solved = Result("user", reason="no such setting"), Result("solved", "x=1", "", FOUND)
    assert Compared(TRIAL, refused, solved).refused
    assert not Compared(TRIAL, solved, refused).refused
    assert "tree user (no such setting)" in Compared(TRIAL, solved, refused).told


def test_without_a_run_that_has_evidence_nothing_is_proved() -> None:
    speed = Compared(replace(TRIAL, division="speed"), Result("solved", "x=1", "", FOUND), Result("solved", "x=1", "", FOUND))
    refused = Compared(TRIAL, Result("user"), Result("user"))
    lineage = versions.Lineage("t/m", 1, "b" * 64, (versions.Entry(1, "a" * 64),))
    found = proof._judge(lineage, "a" * 64, (speed, refused), None)  # type: ignore[arg-type]
    assert (found.proved, found.told) == (False, "no run of it with evidence could be made")


def test_trials_are_the_smoke_cases_the_speed_division_and_what_has_rows() -> None:
    found = proof.trials("image_pruning/chex", registry.HOUSE / "results")
    places = {(t.tier, t.division, t.case) for t in found}
    assert ("smoke", "closed", "fashion/resnet20") in places
    assert ("smoke", "speed", "fashion/resnet20") in places
    whole = proof.trials("image_pruning/chex", registry.HOUSE / "results", full=True)
    more = {(t.tier, t.division, t.case) for t in whole} - places
    assert ("paper", "speed", "imagenet/resnet50") in more
    assert {place[:2] for place in more} == {("paper", "speed")}
    assert ("delta0=0.0",) in {t.settings for t in found}
    assert "open" in {t.division for t in proof.trials("image_pruning/chex_widths", registry.HOUSE / "results")}
    assert len({t.name for t in found}) == len(found)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with the sources as they stand here, committed."""
    if shutil.which("git") is None:
        pytest.skip("a proof needs git")
    house = tmp_path_factory.mktemp("proof") / "house"
    (house / "results").mkdir(parents=True)
    for name in ("suite", "tasks", "reference_impls"):
        shutil.copytree(registry.HOUSE / name, house / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(house, "init", "--quiet")
    commit(house, "as it stands")
    return house


def git(house: Path, *words: str) -> str:
    own = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(house), *own, *words], check=True, capture_output=True, text=True).stdout.strip()


def commit(house: Path, words: str) -> str:
    git(house, "add", "--all")
    git(house, "commit", "--quiet", "--allow-empty", "--message", words)
    return git(house, "rev-parse", "HEAD")


def weighin(house: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(house), "COLUMNS": "300", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "suite.cli", "versions", *words]
    return subprocess.run(command, cwd=house, env=env, capture_output=True, text=True)


def edit(house: Path, old: str, new: str) -> None:
    file = house / "reference_impls" / "graph_tickets" / "degree.py"
    text = file.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def entries(house: Path) -> tuple[versions.Entry, ...]:
    return versions.read(house / "tasks" / "graph_tickets" / versions.TABLE).methods["degree"]


@pytest.mark.slow
def test_a_refactor_is_entered_with_its_proof_and_another_number_is_not(clone: Path) -> None:
    base, known = git(clone, "rev-parse", "HEAD"), entries(clone)
    edit(clone, "def solve(self, problem", "def helper(self):\n        return 1\n\n    def solve(self, problem")
    listed = weighin(clone).stdout
    assert "degree" in listed
    assert "not in the table" in listed
    done = weighin(clone, "--prove", "degree", "--base", base, "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs equal bit for bit" in done.stdout
    (new,) = entries(clone)[len(known) :]
    assert (new.version, new.proof["base"], new.proof["equals"]) == (known[-1].version, base, known[-1].digest)
    assert any(line.startswith("graph_tickets degree smoke closed cora/gcn") and "network" in line for line in new.proof["runs"])
    assert git(clone, "worktree", "list").count("\n") == 0  # the base's worktree is gone
    # the same again: nothing is run anew and nothing is entered
    assert "already in the table" in weighin(clone, "--prove", "graph_tickets/degree", "--base", base, "--workers", "1").stdout
    assert len(entries(clone)) == len(known) + 1
    # another ranking keeps other edges: no digest is entered, and the first difference is named
    edit(clone, "1 / d[pairs.u] + 1 / d[pairs.v]", "1 / d[pairs.u] + 2 / d[pairs.v]")
    worse = weighin(clone, "--prove", "degree", "--base", base, "--workers", "1")
    assert worse.returncode == 1
    assert "runs differ; graph_tickets degree smoke closed cora/gcn: evidence differs" in worse.stdout
    assert len(entries(clone)) == len(known) + 1
    # under a raised version other numbers are meant: its source opens it
    edit(clone, "class Degree:\n", "class Degree:\n    version = 9\n")
    raised = weighin(clone, "--prove", "degree", "--base", base, "--workers", "1")
    assert (raised.returncode, "version 9 is opened" in raised.stdout) == (0, True)
    assert entries(clone)[-1].version == 9
    git(clone, "checkout", "--quiet", "--", ".")


@pytest.fixture(scope="module")
def as_it_stands(clone: Path) -> tuple[Trial, Result]:
    """A trial of the task's own in the small tier, and what it gives before anything is changed."""
    trial = next(t for t in proof.definition("graph_tickets") if (t.tier, t.case) == ("small", "cora/gcn"))
    return trial, told_by(clone, trial)


def told_by(house: Path, trial: Trial) -> Result:
    """What a trial gives in a tree, of processes that have read it only now."""
    with proof._Workers({"tree": house}) as workers:
        return Result(**workers.ask("tree", trial))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "kind"),
    [
        ("problem.py", '"small": 100', '"small": 99', "fields"),
        ("node_task.py", 'promised = "kept.macs"', 'promised = "kept.edges"', "card"),
        ("node_task.py", 'prepare("measured"), nodes', 'prepare("measured"), 2 * nodes', "workloads"),
    ],
)
def test_what_a_task_asks_of_other_tiers_is_part_of_its_proof(
    clone: Path, as_it_stands: tuple[Trial, Result], file: str, old: str, new: str, kind: str
) -> None:
    trial, before = as_it_stands
    path = clone / "tasks" / "graph_tickets" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        compared = Compared(trial, before, told_by(clone, trial))
    finally:
        path.write_text(text, encoding="utf-8")
    assert {k for k, _ in compared.odd} == {kind}, compared.told


def test_sources_that_change_under_a_proof_end_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    moved = versions.Lineage("graph_tickets/degree", 1, "b" * 64, (versions.Entry(1, "a" * 64),))
    monkeypatch.setattr(proof, "selected", lambda names: [moved])
    monkeypatch.setattr(proof, "Prover", _Still)
    monkeypatch.setattr(registry.code_digest, "__wrapped__", lambda: "another", raising=False)
    with pytest.raises(UserError, match="the sources changed while they were run"):
        proof.prove(["degree"], "HEAD", results=tmp_path, folder=tmp_path, tell=lambda *_: None)


class _Still:
    """A prover that runs nothing."""

    commit = "0" * 40

    def __init__(self, *_: object) -> None: ...

    @contextlib.contextmanager
    def worktree(self) -> Iterator[Path]:
        yield Path()

    def digests(self, place: Path, names: Sequence[str]) -> dict[str, tuple[str, int]]:
        return dict.fromkeys(names, ("a" * 64, 1))

    def compare(self, wanted: object, place: Path, tell: object) -> list[Compared]:
        return []


@pytest.mark.slow
def test_a_proof_needs_a_commit_that_is_there(clone: Path) -> None:
    done = weighin(clone, "--prove", "degree", "--base", "no-such-commit")
    assert done.returncode == 2
    assert "no commit 'no-such-commit' here" in done.stderr
    assert "Traceback" not in done.stderr
    assert weighin(clone, "--prove", "degree").returncode == 2
    unknown = weighin(clone, "--prove", "nonsense", "--base", "HEAD")
    assert (unknown.returncode, "no task or method 'nonsense'" in unknown.stderr) == (2, True)
