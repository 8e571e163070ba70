"""What a network that was built again from its shape must have in common with the one that was solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from suite import deployed, registry
from suite.protocol import Shape, Spec
from tests.helpers import MemoryRun


def solved(spec: Spec, method: str, settings: Sequence[str] | Mapping[str, Any] = ()) -> tuple[Any, Any]:
    """A problem of the speed division, which looks at no data, and what a method deploys of it."""
    task = registry.task_of(spec)
    problem = task.problem(spec, MemoryRun(spec))
    return problem, registry.configure(registry.load(registry.method(spec.task, method)), settings).solve(problem)


def again(spec: Spec, problem: Any, solution: Any, *, seed: int | None = None) -> tuple[Any, Any, Shape]:
    """The problem without its data, and what is built from the shape as a bundle holds it."""
    shapes = registry.shapes(spec.task)
    assert shapes is not None
    shape = deployed.read(deployed.file_of(spec, shapes, shapes.describe(problem, solution))).shape
    asked = spec if seed is None else replace(spec, seed=seed)
    bare = shapes.problem(asked, MemoryRun(asked), shape)
    return bare, shapes.rebuild(bare, shape), shape


def assert_same_program(spec: Spec, problem: Any, solution: Any) -> None:
    """Operations by layer, sizes, zeros, workloads and what they give: all but the values of weights."""
    task, shapes = registry.task_of(spec), registry.shapes(spec.task)
    assert shapes is not None
    bare, built, shape = again(spec, problem, solution)
    ours, theirs = task.operations(bare, built), task.operations(problem, solution)
    assert ours.layers == theirs.layers
    assert deployed.differences(shapes.layers(spec, shape), theirs.layers) == []
    assert shapes.describe(bare, built) == shapes.describe(problem, solution)
    mine, wanted = ({w.name: w for w in task.workloads(p, s)} for p, s in ((bare, built), (problem, solution)))
    assert {n: (w.items, w.count, w.versus, w.parent_count) for n, w in mine.items()} == {
        n: (w.items, w.count, w.versus, w.parent_count) for n, w in wanted.items()
    }
    parents = {w.name for w in task.workloads(bare, task.parent(bare))}
    assert {w.versus or w.name for w in mine.values()} <= parents
    for name in sorted(mine, key=lambda n: mine[n].items)[:6]:
        told, expected = mine[name].prepare()(), wanted[name].prepare()()
        assert (told is None) == (expected is None), name  # a step of a training gives nothing
        if told is not None:
            assert told.shape == expected.shape, name
            assert told.isfinite().all(), name


def assert_same_zeros(model: torch.nn.Module, other: torch.nn.Module) -> None:
    """The same parameters of the same sizes, zero at the same places, none of them so small that it is slow."""
    mine, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, parameter in mine.items():
        assert torch.equal(parameter != 0, theirs[name] != 0), name
        left = parameter[parameter != 0].abs()
        assert not len(left) or (left.min() > 1e-6 and left.max() < 1e3), name


__all__ = ["again", "assert_same_program", "assert_same_zeros", "solved"]
