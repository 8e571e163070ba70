"""Shapes of trainings of a plain network: its steps, what ran before them, and the network itself.

What changes tokens on its way (a schedule, blocks of a method's own, a selector) is told by that method's code alone: no shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from reference_impls.shapes import networks
from suite.protocol import NoShape, Run, Shape, Spec
from tasks.common.cases import data_and_model

FORM = 1
EXAMPLE = "clothing10/vit-48-6-3-p8"
#: shape of an image and classes of the task's sets
KNOWN: Mapping[str, tuple[tuple[int, ...], int]] = {
    "imagenet": ((3, 224, 224), 1000),
    "clothing10": ((3, 64, 64), 10),
    "digits": ((3, 32, 32), 10),
}
#: fields of a Solution that only a method's own code can build again
OWN = ("schedule", "frozen", "ideal", "selector", "whole", "keeps")


def describe(problem: Any, solution: Any) -> Shape:
    if odd := [name for name in OWN if getattr(solution, name) is not None]:
        raise NoShape(f"its {odd[0]} is known to its method's code alone")
    if solution.tested != "all":
        raise NoShape("it is tested on some patches, which its method chooses")
    found = networks.describe(solution.model, problem.network, problem.input)
    for part in solution.before:
        networks.describe(part.model, problem.network, problem.input)  # or says what it has of its own
    facts = {
        "classes": problem.classes,
        "images": problem.source.train_count,
        "training": None if solution.training is None else _told(problem, solution.training),
        "points": [float(p) for p in solution.points],
        "before": [
            {
                "name": part.name,
                "batches": float(part.batches),
                "batch": part.batch,
                "training": None if part.training is None else _told(problem, part.training),
                "evaluating": part.evaluating,
            }
            for part in solution.before
        ],
    }
    return Shape({**found.facts, **facts}, found.tensors)


def places(spec: Spec) -> bool:
    """Not here: every product is dense."""
    return False


def layers(spec: Spec, shape: Shape) -> Sequence[Mapping[str, Any]]:
    _source(spec, shape)
    _examples(shape)
    return networks.layers(shape)


def problem(spec: Spec, run: Run, shape: Shape) -> Any:
    import torch

    from tasks.images.sources import Shapes
    from tasks.vit_training import recipes
    from tasks.vit_training.problem import VitProblem
    from tasks.vit_training.task import BATCH, EPOCHS, EPOCHS_ELSE, _paper_batch

    inputs, classes = _source(spec, shape)
    name, architecture = data_and_model(spec, EXAMPLE)
    count, paper = _examples(shape), spec.tier == "paper"
    epochs = EPOCHS.get((spec.tier, name), EPOCHS_ELSE[spec.tier])
    batch = _paper_batch(count) if paper else min(BATCH, count)
    recipe = recipes.recipe(spec.tier, architecture, batch, epochs)
    source, device = Shapes(inputs, classes, count), torch.device(spec.device)
    return VitProblem(spec, run, source, architecture, epochs, batch, "bf16" if paper else "fp32", device, recipe)


def rebuild(problem: Any, shape: Shape) -> Any:
    from tasks.vit_training.problem import Before, Trained

    model = networks.on_device(networks.rebuild(shape, problem.network, problem.run.seed("shape")), problem.device)
    try:
        before = tuple(
            Before(
                str(part["name"]),
                problem.network(),
                float(part["batches"]),
                int(part["batch"]),
                None if part["training"] is None else _training(problem, part["training"]),
                bool(part["evaluating"]),
            )
            for part in shape.facts["before"]
        )
        training = None if shape.facts["training"] is None else _training(problem, shape.facts["training"])
        return Trained(model, training=training, points=tuple(map(float, shape.facts["points"])), before=before)
    except (KeyError, TypeError) as e:
        raise ValueError(f"says nothing that a training is built of: {e}") from e


def of_operations(spec: Spec, operations: Sequence[Mapping[str, Any]]) -> Shape:
    raise NoShape("operations tell the network that is tested, and nothing of its training")


def _told(problem: Any, training: Any) -> dict[str, Any]:
    """How steps are taken, where the task's own recipe takes them; raises NoShape for any other."""
    recipe = training.recipe
    kind = next((name for name, of in _recipes(problem).items() if type(recipe) is of), "")
    if not kind or training.set_point is not None or training.loss is not None:
        raise NoShape("its steps are taken otherwise than the task's recipe takes them")
    rates = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
    told = {"epochs": training.epochs, "steps": training.steps, "batch": training.batch, "precision": training.precision}
    return {**told, "kind": kind, "recipe": {name: list(v) if isinstance(v, tuple) else v for name, v in rates.items()}}


def _training(problem: Any, told: Mapping[str, Any]) -> Any:
    from tasks.images.workloads import Training

    epochs = int(told["epochs"])
    if told["precision"] != problem.precision or int(told["batch"]) != problem.batch:
        raise ValueError("its steps are of another batch or precision than the task's")
    rates = {name: tuple(v) if isinstance(v, list) else v for name, v in told["recipe"].items()}
    of = _recipes(problem)[told["kind"]]
    for f in fields(of):
        mine, theirs = rates.get(f.name), getattr(problem.recipe, f.name, 1)
        numbers = isinstance(theirs, float) and isinstance(mine, int | float) and not isinstance(mine, bool)
        if not numbers and type(mine) is not type(theirs):
            raise ValueError(f"its recipe says {f.name}={mine!r}")
    return Training(of(**rates), epochs, int(told["steps"]), problem.batch, problem.precision)


def _recipes(problem: Any) -> dict[str, Any]:
    """Recipes whose steps are a training's: the task's, and the beginning of one that is broken off."""
    from reference_impls.parts.vit_example_scores import Beginning

    return {"task": type(problem.recipe), "beginning": Beginning}


def _examples(shape: Shape) -> int:
    count = shape.facts.get("images")
    if type(count) is not int or not 0 < count < 10**9:
        raise ValueError("says nothing of how many images an epoch has")
    return count


def _source(spec: Spec, shape: Shape) -> tuple[tuple[int, ...], int]:
    name, _ = data_and_model(spec, EXAMPLE)
    return networks.source(shape, KNOWN.get(name))


__all__ = ["FORM", "describe", "layers", "of_operations", "places", "problem", "rebuild"]
