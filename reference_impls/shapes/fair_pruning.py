"""Shapes of fair classifiers: perceptrons whose zeros decide the kernel of each product, and convolutional networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reference_impls.shapes import networks
from suite.protocol import NoShape, Run, Shape, Spec, Tensor
from tasks.common.cases import data_and_model
from tasks.fair_pruning import sets

FORM = 1
EXAMPLE = "adult/mlp-128-64"


def describe(problem: Any, solution: Any) -> Shape:
    """Of a mixture that of the member that most answers come from: it is what is timed."""
    from tasks.fair_pruning.mixture import likeliest

    found = networks.describe(likeliest(solution.model), problem.build, problem.input)
    return Shape({**found.facts, "classes": problem.classes}, found.tensors)


def places(spec: Spec) -> bool:
    """Of perceptrons: dead units go, and each product is dense or by compressed rows, whichever is faster."""
    return _architecture(spec).startswith("mlp")


def layers(spec: Spec, shape: Shape) -> Sequence[Mapping[str, Any]]:
    _source(spec, shape)
    return networks.layers(shape)


def problem(spec: Spec, run: Run, shape: Shape) -> Any:
    import torch

    from tasks.fair_pruning.problem import FairProblem, labelled
    from tasks.images.recipes import Sgd
    from tasks.images.sources import Shapes

    inputs, classes = _source(spec, shape)
    name, architecture = data_and_model(spec, EXAMPLE)
    plan = sets.plan(name, spec.tier)
    recipe, rows = labelled(Sgd()), torch.arange(plan.batch)
    return FairProblem(
        spec,
        run,
        Shapes(inputs, classes, 2 * plan.batch),
        architecture,
        plan.pretrain + plan.tune,
        plan.batch,
        "bf16" if spec.tier == "paper" else "fp32",
        torch.device(spec.device),
        recipe,
        plan.pretrain,
        rows,
        rows + plan.batch,
        sets.names(name) or ("0", "1"),
        recipe,
    )


def rebuild(problem: Any, shape: Shape) -> Any:
    from tasks.fair_pruning.problem import FairNetwork

    return FairNetwork(networks.on_device(networks.rebuild(shape, problem.build, problem.run.seed("shape")), problem.device))


def of_operations(spec: Spec, operations: Sequence[Mapping[str, Any]]) -> Shape:
    name, architecture = data_and_model(spec, EXAMPLE)
    if name not in sets.CASES:
        raise NoShape(f"{name} is a set of its own: what its examples are is not told")
    inputs = sets.CASES[name].shape
    if architecture.startswith("mlp"):
        if any(layer["nonzero"] != layer["params"] for layer in operations):
            raise NoShape(
                "which weights of a perceptron are zero decides the kernels of its products, and operations do not tell it"
            )
        found = networks.thinned(operations, lambda _: 0, inputs)
    elif architecture.startswith("cnn"):
        found = _convolutions(operations, inputs)
    else:
        found = networks.thinned(operations, lambda layer: _side(architecture, layer), inputs)
    return Shape({**found.facts, "classes": len(sets.CASES[name].classes)}, found.tensors)


def _convolutions(operations: Sequence[Mapping[str, Any]], inputs: tuple[int, ...]) -> Shape:
    """Convolutions of 3x3 with biases, one after the other: what enters the first is known, and so what leaves each."""
    each, tensors = inputs[0], dict[str, Tensor]()
    for layer in operations:
        if layer["kind"] != "Conv2d":
            continue
        name, nonzero = layer["name"], int(layer["nonzero"])
        out, odd = divmod(int(layer["params"]), 9 * each + 1)
        if odd:
            raise NoShape(f"{name}: {layer['params']:,} parameters are no 3x3 convolution of {each} channels with biases")
        weights = 9 * each * out
        tensors[f"{name}.weight"] = Tensor((out, each, 3, 3), min(weights, nonzero))
        tensors[f"{name}.bias"] = Tensor((out,), max(0, nonzero - weights))
        each = out
    rest = networks.thinned([layer for layer in operations if layer["kind"] != "Conv2d"], lambda _: 0, inputs)
    return Shape(rest.facts, {**tensors, **rest.tensors})


def _side(architecture: str, layer: str) -> int:
    """Of a kernel of a residual network of basic blocks."""
    if architecture not in ("resnet10", "resnet34"):
        return 0
    return 7 if layer == "conv1" else 1 if layer.endswith("downsample.0") else 3


def _architecture(spec: Spec) -> str:
    return data_and_model(spec, EXAMPLE)[1]


def _source(spec: Spec, shape: Shape) -> tuple[tuple[int, ...], int]:
    """Shape of an example and number of classes; raises ValueError where a set of ours has others."""
    name, _ = data_and_model(spec, EXAMPLE)
    known = sets.CASES.get(name)
    return networks.source(shape, (tuple(known.shape), len(known.classes)) if known else None)


__all__ = ["FORM", "describe", "layers", "of_operations", "places", "problem", "rebuild"]
