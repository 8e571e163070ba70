"""A 3-layer network made narrower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from suite.protocol import Measure, Spec, Workload
from suite.show import Show
from weighin_standins.common import Base, Network, VisionProblem, accuracy, sizes


class Pruning(Base):
    """A 3-layer network made narrower."""

    name, question, ranked, speed, promised = "pruning", "Smaller?", "top1", "infer@1", "kept.macs"
    tiers = sizes("blobs/mlp", "macs=0.49")
    within = {"macs": "macs_parent"}
    quotients = {"kept.macs": "macs/macs_parent"}
    show = Show(words={"top1": "hits", "macs": "products"}, families={"infer": "Lot"})
    columns = {"row": "int32", "label": "uint8", "prediction": "uint8"}
    truth = ("row", "label")

    def problem(self, spec: Spec, run: Any) -> VisionProblem:
        x = torch.randn(128, 8, generator=torch.Generator().manual_seed(0))
        return VisionProblem(spec, run, x, x[:, :3].argmax(1))

    def parent(self, problem: VisionProblem) -> Network:
        return Network(problem.model())

    def examine(self, problem: VisionProblem, solution: Network) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            prediction = solution.model(problem.x[96:]).argmax(1)
        return {
            "row": np.arange(32, dtype="int32"),
            "label": problem.y[96:].numpy().astype("uint8"),
            "prediction": prediction.numpy().astype("uint8"),
        }

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        return [accuracy(evidence, "top1")]

    def workloads(self, problem: VisionProblem, solution: Network) -> list[Workload]:
        def prepare(batch: int) -> Any:
            model, x = solution.model.eval(), torch.zeros(batch, 8)
            return lambda: model(x)

        return [Workload(f"infer@{n}", lambda n=n: prepare(n), items=n) for n in (1, 64)]

    def weigh(self, problem: VisionProblem, solution: Network) -> list[Measure]:
        parent = self.operations(problem, self.parent(problem)).total("macs")
        macs = self.operations(problem, solution).total("macs")
        named = {"macs": macs, "macs_parent": parent, "kept.macs": macs / parent}
        return [Measure(name, value, source="meter") for name, value in named.items()]
