"""rules.toml: what the checker holds bundles to is what tasks grant, count and time."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import registry, rules
from suite.naming import parse_target
from tasks.common import rules as writing

OURS = [name for name, ref in registry.tasks().items() if ref.ours]


@pytest.mark.parametrize("task", OURS)
def test_every_case_with_data_at_hand_has_rules(task: str) -> None:
    found = rules.read(registry.TASKS / task / rules.FILE)
    assert found.known
    for tier in ("smoke", "small"):
        for case in registry.task(task).tiers[tier].cases:
            of_case = found.of(tier, "closed", case)
            assert of_case is not None, f"python -m tasks.common.rules {task} writes {tier} {case}"
            assert all(most >= 0 for most in of_case.examples.values())
            assert "any" in of_case.examples or writing.HOW[task].several
            assert set(of_case.timed) <= set(of_case.workloads)
            assert set(of_case.timed) <= set(of_case.told)
    asked = {n for t in registry.task(task).tiers.values() for target in t.targets for n in parse_target(target)}
    assert asked <= set(found.targets)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    found = rules.read(registry.TASKS / "fair_pruning" / rules.FILE)
    (tmp_path / rules.FILE).write_text(rules.describe(found), encoding="utf-8")
    assert rules.read(tmp_path / rules.FILE) == found
    assert rules.read(tmp_path / "none.toml") == rules.TaskRules()


def test_rules_are_read_off_the_task() -> None:
    """One case of one task from the task itself; the others take minutes."""
    stored = rules.read(registry.TASKS / "image_pruning" / rules.FILE)
    task = registry.task("image_pruning")
    found, meters = writing.rules_of(task, writing.HOW["image_pruning"], "smoke", "fashion/resnet20", speed=False, rows=[])
    assert found == stored.of("smoke", "closed", "fashion/resnet20")
    assert meters <= set(stored.meters)


def test_a_workload_is_found_by_its_name_or_by_how_it_begins() -> None:
    case = rules.CaseRules("small", "a/b", workloads={"infer@1": 1, "infer@1/*": 1, "step@*": 48, "step@0*": 24})
    assert [case.items(n) for n in ("infer@1", "infer@1/bf16", "step@1", "step@0.5", "infer@2")] == [1, 1, 48, 24, None]


def test_a_method_that_trains_several_networks_has_a_budget_of_its_own() -> None:
    case = rules.CaseRules("small", "a/b", examples={"any": 10, "twice": 20})
    assert [case.most_examples(n) for n in ("twice", "once")] == [20, 10]
    assert rules.CaseRules("small", "a/b").most_examples("once") is None
