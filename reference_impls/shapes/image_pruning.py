"""Shapes of pruned image classifiers: narrower layers, zeros in dense products, and convolutions by blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reference_impls.shapes import networks
from suite.protocol import NoShape, Run, Shape, Spec
from tasks.common.cases import data_and_model

FORM = 1
#: shape of an example and classes of the task's sets, here once more: their own module imports torch, which no checker has
KNOWN: Mapping[str, tuple[tuple[int, ...], int]] = {
    "imagenet": ((3, 224, 224), 1000),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "fashion": ((3, 16, 16), 10),
    "clothing10": ((3, 32, 32), 10),
}
THREES = ("resnet20", "resnet32", "resnet56", "resnet110", "vgg16", "vgg19")  #: all of their kernels are 3x3
BASIC = ("resnet18", "resnet34")
BOTTLENECK = ("resnet50", "resnet101")


def describe(problem: Any, solution: Any) -> Shape:
    found = networks.describe(solution.model, problem.build, problem.input)
    return Shape({**found.facts, "classes": problem.classes}, found.tensors)


def places(spec: Spec) -> bool:
    """Not here: every product is dense, or of whole blocks."""
    return False


def layers(spec: Spec, shape: Shape) -> Sequence[Mapping[str, Any]]:
    _source(spec, shape)
    return networks.layers(shape)


def problem(spec: Spec, run: Run, shape: Shape) -> Any:
    import torch

    from tasks.image_pruning.task import BATCH, PRECISION, RECIPE, ImageProblem
    from tasks.images.sources import Shapes

    inputs, classes = _source(spec, shape)
    _, architecture = data_and_model(spec, "fashion/resnet20")
    source = Shapes(inputs, classes, BATCH)
    return ImageProblem(spec, run, source, architecture, 1, BATCH, PRECISION[spec.tier], torch.device(spec.device), RECIPE)


def rebuild(problem: Any, shape: Shape) -> Any:
    from tasks.images.problem import Network

    return Network(networks.on_device(networks.rebuild(shape, problem.build, problem.run.seed("shape")), problem.device))


def of_operations(spec: Spec, operations: Sequence[Mapping[str, Any]]) -> Shape:
    name, architecture = data_and_model(spec, "fashion/resnet20")
    known = KNOWN.get(name)
    if known is None:
        raise NoShape(f"{name} is a set of its own: what its examples are is not told")

    def side(layer: str) -> int:
        if architecture in THREES:
            return 3
        if layer == "conv1":
            return 3 if known[0][-1] < 64 else 7
        if layer.endswith("downsample.0"):
            return 1
        if architecture in BOTTLENECK:
            return 3 if layer.endswith("conv2") else 1
        return 3 if architecture in BASIC else 0

    found = networks.thinned(operations, side, known[0])
    return Shape({**found.facts, "classes": known[1]}, found.tensors)


def _source(spec: Spec, shape: Shape) -> tuple[tuple[int, ...], int]:
    """Shape of an example and number of classes; raises ValueError where a set of ours has others."""
    name, _ = data_and_model(spec, "fashion/resnet20")
    return networks.source(shape, KNOWN.get(name))


__all__ = ["FORM", "describe", "layers", "of_operations", "places", "problem", "rebuild"]
