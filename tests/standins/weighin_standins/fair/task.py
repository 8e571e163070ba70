"""A tabular net with a group: gaps between groups from the same evidence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from suite.protocol import Measure, Spec
from suite.show import Show
from weighin_standins.common import Network, VisionProblem, accuracy, sizes
from weighin_standins.pruning.task import Pruning


class Fair(Pruning):
    """A tabular net with a group."""

    name, question, ranked, promised = "fair", "Fair when small?", "worst_group", "kept.nonzero"
    tiers = sizes("table/mlp", "nonzero=0.2")
    parent_method = "full"
    within = {}
    quotients = {"kept.nonzero": "nonzero/params"}
    show = Show(part="group", families={"infer": "Lot"})
    columns = {"row": "int32", "label": "uint8", "group": "uint8", "prediction": "uint8", "score": "float16"}
    truth = ("row", "label", "group")

    def examine(self, problem: VisionProblem, solution: Network) -> dict[str, np.ndarray]:
        evidence = super().examine(problem, solution)
        with torch.inference_mode():
            score = solution.model(problem.x[96:]).softmax(1).amax(1).numpy()
        evidence |= {"group": (problem.x[96:, 7] > 0).numpy().astype("uint8"), "score": score.astype("float16")}
        return {name: evidence[name] for name in self.columns}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        parts = [
            accuracy({k: v[evidence["group"] == g] for k, v in evidence.items()}, "group_accuracy", f"group {g}") for g in (0, 1)
        ]
        worst = min(p.value for p in parts)
        return [
            *parts,
            Measure("worst_group", worst, "%", "up"),
            Measure("gap", max(p.value for p in parts) - worst, "points", "down"),
        ]

    def weigh(self, problem: VisionProblem, solution: Network) -> list[Measure]:
        count = self.operations(problem, solution)
        told = {name: count.total(name) for name in ("nonzero", "params")}
        return [Measure(n, v, source="meter") for n, v in {**told, "kept.nonzero": told["nonzero"] / told["params"]}.items()]
