"""Pruned image classifiers built again from their shapes are the same programs; shapes that follow from operations are exact."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from reference_impls.shapes import image_pruning, networks
from suite import bundle, deployed, registry
from suite.protocol import NoShape, Shape, Spec, Tensor
from tasks.image_pruning.data import SHAPES
from tests import helpers
from tests.reference_impls.shapes.programs import again, assert_same_program, assert_same_zeros, solved

pytestmark = pytest.mark.usefixtures("prepared")

CASES = [
    ("dense", "", {}),
    ("l1_filters", "macs=0.5", {}),
    ("depgraph", "macs=0.5", {}),
    ("magnitude", "nonzero=0.2", {}),
    ("structure_lth", "macs=0.5", {}),
    ("structure_lth", "macs=0.5", {"mode": "refill"}),
]


@pytest.mark.parametrize(("method", "target", "settings"), CASES)
def test_what_is_built_again_is_the_same_program(method: str, target: str, settings: dict[str, Any]) -> None:
    spec = helpers.spec(division="speed", target=target)
    problem, solution = solved(spec, method, settings)
    assert_same_program(spec, problem, solution)
    _, built, _ = again(spec, problem, solution)
    assert_same_zeros(built.model, solution.model)


@pytest.mark.parametrize("overlapping", [False, True])
def test_several_blocks_of_a_layer_are_built_again(overlapping: bool) -> None:
    """Rows in any order, columns that two blocks share, whole channels and single places, and blocks that lie over each other."""
    from reference_impls.parts.blocks import Block, BlockConv2d, mask_of, with_blocks
    from tasks.images.problem import Network

    spec = helpers.spec(division="speed")
    problem, solution = solved(spec, "dense")
    generator = torch.Generator().manual_seed(0)
    shared = torch.randperm(9 * 32, generator=generator)[:60]
    rows = torch.randperm(32, generator=generator)
    blocks = [Block(rows[:9], shared), Block(rows[9:14], shared), Block(rows[14:20], torch.arange(18, 45))]
    if overlapping:
        blocks.append(Block(rows[5:16], torch.arange(9 * 32)))
    name = "stages.1.1.conv2"
    model = solution.model
    with torch.no_grad():
        conv = model.get_submodule(name)
        conv.weight.mul_(mask_of(blocks, conv.weight.shape))
    small = Network(with_blocks(model, {name: blocks}))
    assert_same_program(spec, problem, small)
    _, built, _ = again(spec, problem, small)
    ours, theirs = built.model.get_submodule(name), small.model.get_submodule(name)
    assert isinstance(ours, BlockConv2d)
    assert (ours.whole, ours.again, ours.overlaps) == (theirs.whole, theirs.again, theirs.overlaps)
    assert torch.equal(ours.place, theirs.place)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True))
    assert_same_zeros(built.model, small.model)


@pytest.mark.parametrize("case", ["cifar10/vgg16", "cifar10/resnet18"])
def test_networks_of_other_kinds_are_built_again(case: str) -> None:
    spec = helpers.spec(tier="paper", division="speed", case=case, target="macs=0.5")
    problem, solution = solved(spec, "l1_filters")
    bare, built, _ = again(spec, problem, solution)
    task = registry.task("image_pruning")
    assert task.operations(bare, built).layers == task.operations(problem, solution).layers
    assert_same_zeros(built.model, solution.model)


def test_the_weights_are_the_seeds() -> None:
    spec = helpers.spec(division="speed", target="nonzero=0.2")
    problem, solution = solved(spec, "magnitude")
    one, two, other = (again(spec, problem, solution, seed=s)[1].model.fc.weight for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_what_only_its_own_code_knows_has_no_shape() -> None:
    problem = helpers.problem(division="speed")
    odd = problem.model()
    odd.conv1 = torch.nn.Sequential(odd.conv1)
    with pytest.raises(NoShape, match="conv1"):
        networks.describe(odd, problem.build, problem.input)
    hooked = problem.model()
    hooked.fc.register_forward_hook(lambda *_: None)
    with pytest.raises(NoShape, match="hooks"):
        networks.describe(hooked, problem.build, problem.input)
    strided = problem.model()
    strided.conv1.stride = (2, 2)
    with pytest.raises(NoShape, match="more than its widths"):
        networks.describe(strided, problem.build, problem.input)
    half = problem.model().bfloat16()
    with pytest.raises(NoShape, match="precision"):
        networks.describe(half, problem.build, problem.input)


def test_a_forged_width_is_no_network_or_another_one() -> None:
    """Wider and narrower: the checker sees it by layer, and what is built of it does not run, or counts otherwise."""
    spec = helpers.spec(division="speed")
    problem, solution = solved(spec, "l1_filters")
    _, _, shape = again(spec, problem, solution)
    told = registry.task("image_pruning").operations(problem, solution).layers
    name = "stages.0.0.conv1.weight"
    out, *rest = shape.tensors[name].size
    for other in (out - 1, out + 1):
        forged = Shape(shape.facts, {**shape.tensors, name: deployed.tensor(torch.ones(other, *rest).numpy())})
        (difference, *_) = deployed.differences(image_pruning.layers(spec, forged), told)
        assert difference.startswith("params of stages.0.0.conv1 are")
        bare = image_pruning.problem(spec, helpers.MemoryRun(spec), forged)
        with pytest.raises(RuntimeError):
            registry.task("image_pruning").operations(bare, image_pruning.rebuild(bare, forged))


def test_a_shape_of_other_examples_is_refused() -> None:
    spec = helpers.spec(division="speed")
    with pytest.raises(ValueError, match="the set has"):
        image_pruning.layers(spec, Shape({"input": [3, 8, 8], "classes": 10}, {}))
    with pytest.raises(ValueError, match="nothing of the examples"):
        image_pruning.layers(spec, Shape({"input": [3, "16", 16], "classes": 10}, {}))
    blocks = {"conv1": {"bias": True, "channels": [3, 16], "each": [["2:AAAA", ""]]}}
    with pytest.raises(ValueError, match=r"no list of places|no rows"):
        image_pruning.layers(
            spec, Shape({"input": [3, 16, 16], "classes": 10, "blocks": blocks}, {"conv1.weight": Tensor((4,), 4)})
        )


def test_blocks_that_unpack_to_more_than_a_machine_has_are_refused() -> None:
    many = [["131072:eA==", "131072:eA=="]] * 17
    facts = {"input": [3, 16, 16], "classes": 10, "blocks": {"conv1": {"bias": True, "channels": [3, 16], "each": many}}}
    with pytest.raises(ValueError, match="more places than"):
        image_pruning.layers(helpers.spec(), Shape(facts, {"conv1.weight": Tensor((4,), 4)}))


def test_places_are_written_and_read() -> None:
    import numpy as np

    values = np.array([5, 3, 900, 0, 17])
    assert (networks.unplaced(networks.places(values)) == values).all()
    for text in ("", "5", "6:" + networks.places(values)[2:], "99999999:eA==", networks.places(values) + "A"):
        with pytest.raises(ValueError, match="places"):
            networks.unplaced(text)


def test_the_sets_are_the_tasks() -> None:
    assert dict(image_pruning.KNOWN) == {name: (inputs, classes) for name, (inputs, classes, _) in SHAPES.items()}


def committed(methods: tuple[str, ...]) -> list[bundle.RunRecord]:
    """A bundle of each method that is committed, by target."""
    found = {}
    for method in methods:
        for path in bundle.find(registry.HOUSE / "results" / "image_pruning" / "small" / method):
            record = bundle.read(path)
            found.setdefault((method, record.spec.target, json.dumps([x.kind for x in record.operations])), record)
    return list(found.values())


def test_shapes_of_committed_rows_follow_from_their_operations() -> None:
    """What is built of them counts what the bundle counted, layer by layer and column by column."""
    rows = committed(("dense", "l1_filters", "chase", "gmp"))
    assert len(rows) >= 7
    for record in rows:
        spec = Spec(**{**record.spec.model_dump(), "device": "cpu"})
        layers = [layer.model_dump() for layer in record.operations]
        shape = image_pruning.of_operations(spec, layers)
        assert deployed.differences(image_pruning.layers(spec, shape), layers) == []
        bare = image_pruning.problem(spec, helpers.MemoryRun(spec), shape)
        built = image_pruning.rebuild(bare, shape)
        assert list(registry.task("image_pruning").operations(bare, built).layers) == layers


def test_operations_that_do_not_determine_a_network_give_no_shape() -> None:
    (blocks, *_) = committed(("structure_lth",))
    spec = Spec(**{**blocks.spec.model_dump(), "device": "cpu"})
    with pytest.raises(NoShape, match="BlockConv2d"):
        image_pruning.of_operations(spec, [x.model_dump() for x in blocks.operations])
    (dense, *_) = committed(("dense",))
    with pytest.raises(NoShape, match="set of its own"):
        image_pruning.of_operations(replace(spec, case="mine/resnet20"), [x.model_dump() for x in dense.operations])
    odd = [{**x.model_dump(), "params": x.params + (x.kind == "Conv2d")} for x in dense.operations]
    with pytest.raises(NoShape, match="are no 3x3 convolution"):
        image_pruning.of_operations(spec, odd)
