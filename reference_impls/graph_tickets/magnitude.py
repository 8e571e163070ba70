"""Weights of smallest magnitude removed in rounds with rewinding; the graph stays whole.

Deviations: a round's rate is such that the last one meets the target (usual is a fixed 20 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reference_impls.parts.graph_masks import static, target_shares
from tasks.graph_tickets.task import GraphProblem, Ticket

__all__ = ["Magnitude"]


@dataclass(frozen=True)
class Magnitude:
    """No setting: the soft-mask version is `ugs` with a target that names weights alone."""

    version: ClassVar[int] = 1

    def solve(self, problem: GraphProblem) -> Ticket:
        target_shares(problem, edges=False)
        return static(problem, torch.ones(problem.graph.edges, dtype=torch.bool, device=problem.device))
