"""The checker on tasks that sell a whole job: what is timed of it, how often, and what it says that it spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from suite import bundle
from suite.meters import timing
from suite.protocol import Measure
from tests.suite.checks.forger import (
    Change,
    Dots,
    Fields,
    House,
    card,
    errors,
    evidence,
    fields,
    furnished,
    results,
    seal,
    stored,
)

ITEMS = 10
CALLS = {"step@0": (30.0, 40.0), "step@1": (50.0, 60.0), "before/dense": (20.0, 0.0)}
SPENT = {
    "images": 800.0,
    "images_parent": 1000.0,
    "train_macs": 4e6,
    "total_macs": 5e6,
    "solve_train": 8.0,
    "solve_total": 11.0,
}


class Steps(Dots):
    """Dots learned step by step: ranked by the time of all steps."""

    speed = "training"
    jobs: ClassVar[Mapping[str, tuple[str, ...]]] = {"training": ("step@",), "training_total": ("step@", "before/")}
    trained: ClassVar[Mapping[str, tuple[str, str]]] = {
        "images": ("calls", "step@"),
        "images_parent": ("parent_calls", "step@"),
    }
    exceeding: ClassVar[Mapping[str, tuple[str, str]]] = {"total_macs": ("train_macs", "before/")}
    within: ClassVar[Mapping[str, str]] = {"train_macs": "total_macs", "solve_train": "solve_total"}


@dataclass(frozen=True)
class Yard(House):
    def task(self, name: str, /) -> Steps:
        return Steps()


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return Yard(furnished(tmp_path_factory.mktemp("yard")))


def blocks(*without: str) -> dict[str, np.ndarray]:
    """Times of all workloads but these."""
    names = [n for n in (*CALLS, "infer@1") if n not in without]
    draw = np.random.Generator(np.random.Philox(5))
    return timing.to_table(
        [
            timing.Block(name, side, i // 4, i, 1, 0.06 * float(np.exp(draw.normal(0, 0.001))), ITEMS, 0.0, False)
            for name in names
            for i, side in enumerate(timing.ORDER * 10)
        ]
    )


def trained(
    root: Path,
    change: Change | None = None,
    *,
    untimed: tuple[str, ...] = (),
    uncalled: tuple[str, ...] = (),
    spent: Mapping[str, float] | None = None,
    calls: Mapping[str, tuple[float, float]] | None = None,
    **spec: Any,
) -> Path:
    """A bundle that holds, but for what is given: all that can be derived is, as a forger would."""
    tables: dict[str, Any] = {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks(*untimed)}
    if spec.get("division") == "speed":
        del tables[bundle.EVIDENCE]
    called = {n: v for n, v in (CALLS | dict(calls or {})).items() if n not in uncalled}
    body = fields(0, tables, card().hash, **spec)
    found = [
        Measure(n, v, "s" if n.startswith("solve_") else "", "down", source="meter") for n, v in (SPENT | dict(spent or {})).items()
    ]
    found += [Measure(n, v, part=w, source="meter") for w, both in called.items() for n, v in zip(timing.CALLS, both, strict=True)]
    body["measures"] += [stored(m) for m in [*found, *timing.jobs(tables[bundle.TIMING], called, Steps.jobs)]]
    if change:
        change(body)
    return seal(root, body, tables)


def told(yard: Yard, path: Path) -> list[str]:
    return [f"{f.field}: {f.message}" for f in errors(yard, path)]


def unsupported(*names: str) -> Change:
    return lambda b: b.update(unsupported=dict.fromkeys(names, "no such kernel here"))


def forget(*names: str) -> Change:
    def change(body: Fields) -> None:
        body["measures"] = [m for m in body["measures"] if m["name"] not in names]

    return change


def test_an_honest_job_holds(yard: Yard) -> None:
    with results() as root:
        assert told(yard, trained(root)) == []


@pytest.mark.parametrize("part", ["step@0", "before/dense"])
def test_a_job_with_an_unsupported_part_is_left_out(yard: Yard, part: str) -> None:
    with results() as root:
        assert told(yard, trained(root, unsupported(part), untimed=(part,))) == []


def test_a_job_is_timed_unless_a_part_of_it_is_unsupported(yard: Yard) -> None:
    with results() as root:
        found = told(yard, trained(root, untimed=("before/dense",), spent={"total_macs": 4e6}))  # its calls are told, its times not
        assert found == ["workload: training_total is not timed whole, and no workload of it is said not to be supported"]


def test_a_job_is_never_derived_from_the_rest_of_its_parts(yard: Yard) -> None:
    with results() as root:
        found = told(yard, trained(root, unsupported("before/dense"), untimed=("before/dense",), uncalled=("before/dense",)))
        assert (
            "workload: training_total is told without before/dense, which is said not to be supported: then the job is not either"
            in found
        )


def test_no_workload_of_a_job_at_all_is_no_job(yard: Yard) -> None:
    with results() as root:
        found = told(yard, trained(root, untimed=tuple(CALLS), uncalled=tuple(CALLS)))
        assert "workload: training is not timed whole, and no workload of it is said not to be supported" in found


@pytest.mark.parametrize(
    ("forgery", "field"),
    [
        ({"calls": {"step@1": (40.0, 60.0)}}, "images"),
        ({"calls": {"step@1": (50.0, 90.0)}}, "images_parent"),
        ({"spent": {"images": 700.0}}, "images"),
        ({"spent": {"images_parent": 1001.0}}, "images_parent"),
        ({"untimed": ("step@0",), "uncalled": ("step@0",)}, "images"),
    ],
)
def test_images_are_those_of_all_steps(yard: Yard, forgery: dict[str, Any], field: str) -> None:
    with results() as root:
        found = told(yard, trained(root, **forgery))
        assert any(line.startswith(f"measures {field}: says ") and "times their items are" in line for line in found)
        assert all("\n" not in line for line in found)


def test_images_of_all_steps_are_told(yard: Yard) -> None:
    with results() as root:
        assert told(yard, trained(root, forget("images"))) == ["measures images: is missing"]


@pytest.mark.parametrize(
    ("spent", "line"),
    [
        ({"solve_train": 11.5}, "measures solve_train: is more than solve_total"),
        ({"solve_total": 12.1}, "measures solve_total: 12.1 s is more than the 12 s of train_seconds"),
    ],
)
def test_a_part_of_the_solve_takes_no_longer_than_the_whole(yard: Yard, spent: dict[str, float], line: str) -> None:
    with results() as root:
        assert told(yard, trained(root, spent=spent)) == [line]


def test_the_whole_of_the_solve_cannot_be_left_out(yard: Yard) -> None:
    with results() as root:
        found = told(yard, trained(root, forget("examples", "train_seconds")))
        assert found == [
            "measures train_seconds: is missing, and solve_train is a part of it",
            "measures train_seconds: is missing, and solve_total is a part of it",
            "measures images: 800 are more than the 0 examples spent",
        ]


def test_no_more_images_are_trained_on_than_the_solve_has_spent(yard: Yard) -> None:
    many = {"step@0": (300.0, 40.0), "step@1": (500.0, 60.0)}
    with results() as root:
        assert told(yard, trained(root, calls=many, spent={"images": 8000.0})) == [
            "measures images: 8000 are more than the 6000 examples spent"
        ]
    with results() as root:  # where nothing is trained nothing is spent

        def idle(body: Fields) -> None:
            next(m for m in body["measures"] if m["name"] == "examples").update(value=0.0)
            body.update(curve=[])

        assert told(yard, trained(root, idle, division="speed")) == []


def test_what_costs_more_than_the_training_has_a_workload_that_ran_before(yard: Yard) -> None:
    gone: dict[str, Any] = {"untimed": ("before/dense",), "uncalled": ("before/dense",)}
    with results() as root:
        assert told(yard, trained(root, **gone)) == [
            "measures total_macs: is more than train_macs, and there is no workload before/… that it was spent on"
        ]
    with results() as root:
        assert told(yard, trained(root, spent={"total_macs": 4e6 * (1 + 1e-12)}, **gone)) == []


def test_what_ran_before_was_called_and_costs_something(yard: Yard) -> None:
    with results() as root:
        for never in (0.0, 0.5):
            found = told(yard, trained(root, calls={"before/dense": (never, 0.0)}))
            assert found == [f"measures calls before/dense: {never:g}: what is timed as part of a job was called"]
        assert told(yard, trained(root, spent={"total_macs": 4e6})) == [
            "measures total_macs: is no more than train_macs, and before/dense was run besides"
        ]
