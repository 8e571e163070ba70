"""Fair classifiers built again from their shapes are the same programs, dead units and sparse products included."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from reference_impls.shapes import fair_pruning
from suite import bundle, deployed, registry
from suite.protocol import NoShape, Spec
from tasks.fair_pruning.deploy import without_dead_units
from tasks.fair_pruning.mixture import Mixture, likeliest
from tasks.fair_pruning.problem import FairNetwork
from tests import helpers
from tests.reference_impls.shapes.programs import again, assert_same_program, assert_same_zeros, solved

pytestmark = pytest.mark.usefixtures("prepared")


def spec(**changes: Any) -> Spec:
    fields = {"tier": "smoke", "division": "speed", "case": "adult/mlp-128-64", "target": "nonzero=0.2", "seed": 0}
    return Spec("fair_pruning", registry.task("fair_pruning").version, **{**fields, **changes})


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("dense", {"target": ""}),
        ("magnitude", {}),
        ("magnitude", {"target": "nonzero=0.02", "tier": "small"}),
        ("fpgm", {"case": "digits/cnn-16-32", "target": "filters=0.5"}),
        ("fpgm", {"case": "clothing_kids/cnn-32-64-128-bn", "target": "filters=0.25", "tier": "small"}),
        ("magnitude", {"case": "clothing_kids/cnn-32-64-128-bn", "tier": "small"}),
    ],
)
def test_what_is_built_again_is_the_same_program(method: str, changes: dict[str, Any]) -> None:
    asked = spec(**changes)
    problem, solution = solved(asked, method)
    assert_same_program(asked, problem, solution)
    _, built, _ = again(asked, problem, solution)
    assert_same_zeros(built.model, solution.model)


def test_dead_units_are_dead_again() -> None:
    """Which units nothing enters or nothing leaves is the pattern's, so the network that is timed has the same widths."""
    asked = spec(target="nonzero=0.02")
    problem, solution = solved(asked, "magnitude")
    _, built, _ = again(asked, problem, solution)
    left = [[layer.out_features for layer in without_dead_units(n.model).layers] for n in (built, solution)]
    assert left[0] == left[1] != [128, 64]


def test_of_a_mixture_the_likeliest_member_travels() -> None:
    asked = spec()
    problem, small = solved(asked, "magnitude")
    mixed = FairNetwork(Mixture([problem.model(), small.model], [0.3, 0.7]))
    assert_same_program(asked, problem, mixed)
    _, built, _ = again(asked, problem, mixed)
    assert_same_zeros(built.model, likeliest(mixed.model))
    assert not isinstance(built.model, Mixture)


def test_a_pattern_that_decides_time_is_not_left_out() -> None:
    assert fair_pruning.places(spec())
    assert not fair_pruning.places(spec(case="digits/cnn-16-32"))


def test_shapes_of_committed_rows_follow_from_their_operations_where_these_tell_all() -> None:
    kinds: dict[str, bundle.RunRecord] = {}
    for path in bundle.find(registry.HOUSE / "results" / "fair_pruning" / "small"):
        record = bundle.read(path)
        whole = all(layer.nonzero == layer.params for layer in record.operations)
        kinds.setdefault(json.dumps([record.spec.case, whole, record.method.name == "fpgm"]), record)
    able = 0
    for record in kinds.values():
        asked = Spec(**{**record.spec.model_dump(), "device": "cpu"})
        layers = [layer.model_dump() for layer in record.operations]
        if "mlp" in asked.case and any(x["nonzero"] != x["params"] for x in layers):
            with pytest.raises(NoShape, match="decides the kernels"):
                fair_pruning.of_operations(asked, layers)
            continue
        shape = fair_pruning.of_operations(asked, layers)
        assert deployed.differences(fair_pruning.layers(asked, shape), layers) == []
        bare = fair_pruning.problem(asked, helpers.MemoryRun(asked), shape)
        assert list(registry.task("fair_pruning").operations(bare, fair_pruning.rebuild(bare, shape)).layers) == layers
        able += 1
    assert able >= 5


def test_no_weight_is_slow_to_multiply() -> None:
    asked = spec(target="nonzero=0.02")
    problem, solution = solved(asked, "magnitude")
    bare, built, _ = again(asked, problem, solution)
    torch.set_flush_denormal(False)
    h = torch.randn(64, *bare.input).flatten(1)
    for layer in built.model.layers:
        h = torch.relu(layer(h))
        alive = h[h != 0].abs()
        assert not len(alive) or alive.min() > 1e-30
