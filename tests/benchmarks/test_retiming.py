"""A network that was built again from its shape takes the time of the one that was solved: speed-ups agree within both intervals.

`pytest tests/benchmarks/test_retiming.py --benchmark-enable -s` judges; without it the same code runs and nothing is judged.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suite import registry
from suite.meters import timing
from suite.protocol import Spec
from tests.reference_impls.shapes.programs import again, solved

SECONDS = 12.0  #: of a comparison that is judged


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize(
    ("task", "method", "case", "target", "workload"),
    [
        ("image_pruning", "l1_filters", "fashion/resnet20", "macs=0.25", "infer@64"),
        ("image_pruning", "structure_lth", "fashion/resnet20", "macs=0.5", "infer@64"),
        ("image_pruning", "magnitude", "fashion/resnet20", "nonzero=0.2", "infer@64"),
        ("fair_pruning", "magnitude", "adult/mlp-128-64", "nonzero=0.02", "infer@256"),
        ("fair_pruning", "fpgm", "clothing_kids/cnn-32-64-128-bn", "filters=0.25", "infer@256"),
        ("graph_tickets", "ugs", "cora/gcn", "edges=0.5,weights=0.5", "infer@graph"),
    ],
)
def test_the_speed_up_of_a_shape_is_that_of_the_row(
    task: str, method: str, case: str, target: str, workload: str, benchmark: BenchmarkFixture
) -> None:
    judged = bool(benchmark.enabled)
    spec = Spec(task, registry.task(task).version, "small" if judged else "smoke", "speed", case, target, 0)
    problem, solution = solved(spec, method)
    bare, built, _ = again(spec, problem, solution)

    def speedup(p: Any, s: Any) -> tuple[float, float]:
        card = registry.task_of(spec)
        ours, theirs = ({w.name: w for w in card.workloads(p, x)} for x in (s, card.parent(p)))
        blocks = timing.compare(
            ours[workload].prepare(),
            theirs[ours[workload].versus or workload].prepare(),
            workload=workload,
            cap_seconds=SECONDS if judged else 0.1,
        )
        return timing.ratio(timing.quad_ratios(timing.to_table(blocks)))

    (first, half), (second, other) = benchmark.pedantic(
        lambda: (speedup(problem, solution), speedup(bare, built)), rounds=1, iterations=1
    )
    print(
        f"{task} {method} {target}: solved {math.exp(first):.3f}x (± {100 * math.expm1(half):.1f} %),"
        f" from its shape {math.exp(second):.3f}x (± {100 * math.expm1(other):.1f} %)"
    )
    if judged:
        assert abs(first - second) <= half + other
