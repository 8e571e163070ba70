"""Nodes with several labels, each there or not: ogbn-proteins' 112 functions of a protein, by the mean area under ROC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from suite.naming import UserError
from suite.protocol import Measure, Run, Spec, Table
from tasks.common.cases import data_and_model
from tasks.common.truth import entry
from tasks.graph_tickets import metrics
from tasks.graph_tickets.areas import gap, percent
from tasks.graph_tickets.node_task import Nodes, degree_groups
from tasks.graph_tickets.problem import EXAMPLE, GraphProblem, Ticket, View, open_problem

if TYPE_CHECKING:
    import torch

    from tasks.graph_tickets.data import GraphData

LABELS = 112


@dataclass
class LabelProblem(GraphProblem):
    """`y` (n, labels) float32 of 0 and 1, NaN where a label is missing and but on training and validation nodes."""

    one_class: ClassVar[bool] = False

    def loss(self, outputs: torch.Tensor, view: View) -> torch.Tensor:
        """Binary cross-entropy, the mean over the labels that are there."""
        from torch.nn import functional as F

        known = view.labels.isfinite()
        return F.binary_cross_entropy_with_logits(outputs[view.train][known], view.labels[known])

    def accuracy(self, logits: torch.Tensor) -> float:
        """Mean area under ROC of the validation nodes, as a share."""
        return metrics.roc_auc(self.y[self.val].cpu().numpy(), logits[self.val].cpu().numpy())


class Proteins(Nodes):
    """Several labels a node."""

    ranked = "roc_auc"
    beside = ("worst_label", "low_degree", "degree_gap")
    columns = {
        "row": "int32",
        "degree": "int32",
        **{f"label{i}": "int8" for i in range(LABELS)},  # -1: missing
        **{f"score{i}": "float16" for i in range(LABELS)},  # logits: what a half keeps of them is relative
    }
    truth = ("row", "degree", *(f"label{i}" for i in range(LABELS)))
    evidence_bytes = 8_000_000

    def problem(self, spec: Spec, run: Run) -> LabelProblem:
        d = self._data(spec)
        if d.y.shape[1:] != (LABELS,):
            raise UserError(f"{d.name}: labels are {d.y.shape}, {LABELS} a node are needed; unpack the archive again")
        seen = np.full(d.y.shape, np.nan, np.float32)
        for part in ("train", "val"):
            seen[d.split[part]] = d.y[d.split[part]]
        return open_problem(LabelProblem, spec, run, d, seen, d.split["train"], d.split["val"], LABELS, self.recipe_else)

    def examine(self, problem: GraphProblem, solution: Ticket) -> Table:
        import torch

        d = self._data(problem.spec)
        model = solution.model.to(problem.device).eval()
        with torch.inference_mode():
            logits = model(problem.x, self._graph(problem, solution)).cpu().numpy()[d.split["test"]]
        columns = {**self._dictated(d), **{f"score{i}": logits[:, i] for i in range(LABELS)}}
        return {k: columns[k].astype(kind) for k, kind in self.columns.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """Mean over the labels of the area under ROC, that of the worst label, and of poorly and well connected nodes, in per cent.

        A label counts where it has a positive and a negative (OGB's evaluator); in the degrees' thirds, see
        `Nodes.score`, where it has them in both.  Intervals are DeLong's (1988) at 95 %, of means over labels as well: nodes
        are drawn, and move the areas of all their labels together.

        Raises UserError where the evidence cannot be what it says.
        """
        label = np.stack([evidence[f"label{i}"] for i in range(LABELS)], 1).astype(float)
        score = np.stack([evidence[f"score{i}"] for i in range(LABELS)], 1).astype(float)
        degree = evidence["degree"].astype(int)
        if not np.isin(label, (-1, 0, 1)).all() or not np.isfinite(score).all() or not len(degree) or degree.min() < 0:
            raise UserError("evidence: labels are 0, 1 or -1, scores finite, degrees from 0 up; run the method again")
        label[label < 0] = np.nan
        area, moved = metrics.areas(label, score)
        known = np.flatnonzero(np.isfinite(area))
        if not len(known):
            raise UserError("evidence: no label has a positive and a negative; run the method again")
        worst = known[np.argmin(area[known])]
        measures = [
            percent("roc_auc", area[known].mean(), moved[:, known].mean(1)),
            percent("worst_label", area[worst], moved[:, worst]),
        ]
        low, high = degree_groups(degree)
        if low is None or high is None:
            return measures
        (few, by_few), (many, by_many) = (metrics.areas(np.where(g[:, None], label, np.nan), score) for g in (low, high))
        both = np.flatnonzero(np.isfinite(few) & np.isfinite(many))
        if len(both):
            measures += [
                percent("low_degree", few[both].mean(), by_few[:, both].mean(1)),
                percent("high_degree", many[both].mean(), by_many[:, both].mean(1)),
                gap((many - few)[both].mean(), (by_many - by_few)[:, both].mean(1)),
            ]
        return measures

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a case: digests of rows, degrees and all labels."""
        name, _ = data_and_model(spec, EXAMPLE)
        d = self._data(spec)
        return entry(self, spec, name, self._dictated(d), d.classes)

    @staticmethod
    def _dictated(d: GraphData) -> dict[str, np.ndarray]:
        test = d.split["test"]
        label = np.nan_to_num(d.y[test], nan=-1)
        columns = {f"label{i}": label[:, i] for i in range(label.shape[1])}
        return {"row": np.arange(len(test)), "degree": d.degree()[test], **columns}
