"""One budget counter: closed runs are held to what their task grants, in each life of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from suite.budget import Budget
from suite.child import ChildRun
from suite.naming import UserError
from suite.protocol import OverBudget
from tests.helpers import MemoryRun, graph_problem, problem, spec
from tests.tasks.mobile_vsr import helpers as video


def child(folder: Path, division: str = "closed") -> ChildRun:
    return ChildRun(spec(division=division), folder / "checkpoint.pt", lambda event: None)


def test_a_closed_run_is_held_to_its_grant_and_the_others_are_not() -> None:
    for division, held in (("closed", True), ("open", False), ("speed", False)):
        budget = Budget(spec(division=division))
        budget.grant(100)
        budget.book(100)
        if held:
            with pytest.raises(OverBudget, match=r"^1,101 examples asked, 100 granted$"):
                budget.book(1001)
        else:
            budget.book(1001)
        assert budget.spent == {"": 1101}


def test_nobody_widens_what_the_task_grants() -> None:
    wider = Budget(spec())
    wider.grant(10**12)  # a method that is quicker than its task
    wider.grant(100)
    with pytest.raises(OverBudget, match="101 examples asked, 100 granted"):
        wider.book(101)


@pytest.mark.parametrize("amount", [-1, float("nan"), 1.5, None])
def test_nothing_that_was_spent_is_given_back(amount: object, tmp_path: Path) -> None:
    budget = Budget(spec())
    with pytest.raises(ValueError, match="cannot be spent"):
        budget.book(amount)  # type: ignore[arg-type]
    assert budget.spent == {}
    run = child(tmp_path)
    with pytest.raises(ValueError, match="cannot be spent"):
        run.spend(-5, "steps", 1)
    assert (run.examples, run.budget.spent) == (0, {})


def test_counters_are_apart_and_a_grant_stands() -> None:
    budget = Budget(spec())
    budget.grant(2, "", "steps a")
    budget.grant(9, "", "steps a")
    budget.book(5, "nobody's")
    for _ in range(2):
        budget.book(1, "steps a")
    with pytest.raises(OverBudget, match=r"^3 asked by 'steps a', 2 granted$"):
        budget.book(1, "steps a")
    assert budget.spent == {"nobody's": 5, "steps a": 3}


@pytest.mark.slow
def test_each_task_says_what_was_asked_in_its_own_words() -> None:
    images = problem()
    with pytest.raises(OverBudget, match=r"^1,537 examples asked, 1,536 granted$"):
        images.sample(1537, "too many")
    graphs = graph_problem()
    graphs.book(graphs.budget)
    with pytest.raises(OverBudget, match=rf"^{graphs.budget + 100:,} labelled nodes asked, {graphs.budget:,} granted$"):
        graphs.book()
    clip = video.problem()
    with pytest.raises(OverBudget, match=rf"^{clip.budget + 1:,} asked by 'clip', {clip.budget:,} granted$"):
        clip.book("chunk 0", clip.budget + 1)
    with pytest.raises(OverBudget, match=r"^17 asked by 'general f0', 16 granted$"):
        clip.book("f0", 17, general=True, granted=16)
    each = video.problem(case="bigbuckbunny/x2-per_model")
    for _ in range(each.steps):
        each.book("chunk 0", 64)
    with pytest.raises(OverBudget, match=rf"^{each.steps + 1} asked by 'steps chunk 0', {each.steps} granted$"):
        each.book("chunk 0", 64)
    assert each.run.examples == 64 * each.steps, "what was refused was not seen"


def test_a_problem_of_another_case_spends_the_budget_of_the_first() -> None:
    p = graph_problem()
    other = p.other("sbm-128/gcn")
    again = other.other("sbm/gin")
    other.budget, again.budget = 10 * p.budget, 10 * p.budget
    p.book(p.budget - 100)
    again.book(100)
    for each in (other, again, p):
        with pytest.raises(OverBudget, match=f" {p.budget:,} granted"):
            each.book()


def test_what_an_earlier_life_spent_counts(tmp_path: Path) -> None:
    run = child(tmp_path)
    run.grant(100)
    run.spend(60)
    run.spend(64, "steps a", 1)
    run.save({"weights": torch.ones(2)})
    run.spend(30)  # lost with the process
    again = child(tmp_path)
    again.grant(100)
    assert again.load() is not None
    assert (again.examples, again.spent) == (124, {"": 60, "steps a": 1})
    again.spend(40)
    with pytest.raises(OverBudget):
        again.spend(1)


def test_asking_for_the_checkpoint_again_gives_nothing_back(tmp_path: Path) -> None:
    run = child(tmp_path)
    run.spend(10)
    run.save({})
    again = child(tmp_path)
    again.grant(100)
    again.load()
    again.spend(90)
    again.load()
    with pytest.raises(OverBudget, match="101 examples asked"):
        again.spend(1)


def test_a_checkpoint_of_another_layout_starts_afresh(tmp_path: Path) -> None:
    torch.save({"state": {"epoch": 3}, "books": {"examples": 5}}, tmp_path / "checkpoint.pt")
    assert child(tmp_path).load() is None


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = child(tmp_path)
    run.save({"epoch": 1})
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device; make room and run again"):
        run.save({"epoch": 2})
    assert child(tmp_path).load() == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_the_run_of_the_tests_counts_alike() -> None:
    run = MemoryRun(spec())
    run.spend(64, "steps a", 1)
    run.save({})
    again = MemoryRun(spec(), saved=run.saved)
    again.load()
    assert (again.examples, again.spent) == (64, {"steps a": 1})
