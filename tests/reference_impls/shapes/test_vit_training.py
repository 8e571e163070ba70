"""Trainings of plain networks built again from their shapes: the same steps, so often, beside the same network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reference_impls.parts.vit_example_scores import Beginning
from reference_impls.shapes import vit_training
from suite import deployed, registry
from suite.protocol import NoShape, Spec
from tasks.images.workloads import Training
from tasks.vit_training.data import SHAPES
from tasks.vit_training.problem import Before, Constant, Trained
from tests.helpers import MemoryRun
from tests.reference_impls.shapes.programs import again, assert_same_program, assert_same_zeros

pytestmark = pytest.mark.usefixtures("prepared")


def spec(**changes: Any) -> Spec:
    fields = {"tier": "smoke", "division": "closed", "case": "digits/vit-24-4-2-p4", "target": "train_macs=0.8", "seed": 0}
    return Spec("vit_training", registry.task("vit_training").version, **{**fields, **changes})


def training(problem: Any, epochs: int, **changes: Any) -> Training:
    recipe = problem.recipe_of(epochs)
    return Training(replace(recipe, **changes), epochs, epochs * problem.steps_per_epoch, problem.batch, problem.precision)


@pytest.mark.parametrize("case", ["digits/vit-24-4-2-p4", "clothing10/vit-24-4-2-p8"])
def test_what_is_built_again_is_the_same_program(case: str) -> None:
    """The parent, a shorter training, and one that scoring runs of another rate ran before."""
    asked = spec(case=case)
    problem = registry.task("vit_training").problem(asked, MemoryRun(asked))
    model = problem.network()
    begun = replace(training(problem, 2), recipe=Beginning.of(problem, whole=problem.epochs))
    before = (
        Before("scoring_runs", problem.network(), 12.0, problem.batch, begun),
        Before("scores", problem.network(), 7.5, problem.batch),
    )
    for solution in (
        Trained(model),
        Trained(model, training=training(problem, 6)),
        Trained(model, training=training(problem, 6), points=(0.2, 0.8), before=before),
    ):
        assert_same_program(asked, problem, solution)
        _, built, _ = again(asked, problem, solution)
        assert_same_zeros(built.model, solution.model)


def test_what_a_method_alone_knows_has_no_shape() -> None:
    asked = spec()
    problem = registry.task("vit_training").problem(asked, MemoryRun(asked))
    model = problem.network()
    for solution, told in (
        (Trained(model, schedule=Constant(())), "its schedule"),  # type: ignore[arg-type]
        (Trained(model, selector=model), "its selector"),
        (Trained(model, tested="tickets"), "tested on some patches"),
        (Trained(model, training=replace(training(problem, 2), loss=lambda *_: None)), "otherwise than the task's recipe"),  # type: ignore[arg-type]
    ):
        with pytest.raises(NoShape, match=told):
            vit_training.describe(problem, solution)
    with pytest.raises(NoShape, match="nothing of its training"):
        vit_training.of_operations(asked, [])


def test_a_recipe_of_other_kinds_of_values_is_refused() -> None:
    asked = spec()
    problem = registry.task("vit_training").problem(asked, MemoryRun(asked))
    shape = vit_training.describe(problem, Trained(problem.network(), training=training(problem, 2)))
    for change in ({"lr": "1"}, {"stepwise": 1}, {"schedule": None}):
        told = {**shape.facts["training"], "recipe": {**shape.facts["training"]["recipe"], **change}}
        forged = replace(shape, facts={**shape.facts, "training": told})
        with pytest.raises(ValueError, match="its recipe says"):
            vit_training.rebuild(problem, forged)
    with pytest.raises(ValueError, match="how many images"):
        vit_training.layers(asked, replace(shape, facts={**shape.facts, "images": True}))


def test_the_sets_are_the_tasks() -> None:
    assert dict(vit_training.KNOWN) == {name: (inputs, classes) for name, (inputs, classes, _) in SHAPES.items()}


def test_the_file_is_small() -> None:
    asked = spec(tier="small", case="digits/vit-48-6-3-p4")
    problem = registry.task("vit_training").problem(asked, MemoryRun(asked))
    shapes = registry.shapes("vit_training")
    assert shapes is not None
    shape = shapes.describe(problem, Trained(problem.network(), training=training(problem, 6)))
    assert len(deployed.file_of(asked, shapes, shape)) < 20_000
