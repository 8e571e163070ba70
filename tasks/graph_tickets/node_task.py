"""Nodes of one class each: what all questions of graph_tickets share, and the one that most of its cases ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from suite.naming import UserError
from suite.protocol import Measure, Operations, Run, Spec, Table, Task, Tier, Workload
from tasks.common.cases import data_and_model, shapes_digest
from tasks.common.intervals import newcombe
from tasks.common.libraries import LIBRARIES
from tasks.common.scoring import by_class, share
from tasks.common.truth import class_names, entry
from tasks.graph_tickets.counting import combined, kept_weights, layers, sparse_input_macs
from tasks.graph_tickets.problem import EXAMPLE, RECIPE_ELSE, GraphProblem, Ticket, open_problem

if TYPE_CHECKING:
    from tasks.graph_tickets.data import GraphData
    from tasks.graph_tickets.graph import Graph


class Nodes(Task[GraphProblem, Ticket]):
    """Sparser graphs and graph networks: accuracy by class and by degree, saving on paper and in fact."""

    name = "graph_tickets"
    version = 1
    question = "Make a graph and its network sparse. Who keeps accuracy, also for poorly connected nodes, and is it faster in fact?"
    parent_method = "dense"
    ranked = "accuracy"
    beside = ("worst_class", "low_degree", "degree_gap")
    speed = "infer@graph"
    promised = "kept.macs"
    quotients = {"kept.macs": "macs/macs_parent"}
    libraries = LIBRARIES
    columns = {"row": "int32", "label": "int16", "prediction": "int16", "degree": "int32"}
    truth = ("row", "label", "degree")
    recipe_else: ClassVar[tuple[float, float, float, float]] = RECIPE_ELSE
    tiers = {
        "smoke": Tier(
            ("cora/gcn", "cora-links/gcn"),
            ("edges=0.5,weights=0.5",),
            300,
            {"data": "Cora", "width": "16", "epochs": "10 a training", "ladder": "0.3 of edges and weights a round"},
        ),
        "small": Tier(
            ("cora/gcn", "cora/gin", "cora/gat", "cora/gcn512", "cora-128/gcn", "sbm/gcn", "sbm-128/gcn", "cora-links/gcn"),
            (
                *("edges=0.5,weights=0.5", "edges=0.25,weights=0.25", "edges=0.1,weights=0.1"),
                *("edges=0.5", "edges=0.25", "edges=0.1"),
                *("weights=0.5", "weights=0.25", "weights=0.1"),
            ),
            3600,
            {
                "data": "Cora, public split: 140 training, 500 validation, 1,000 test nodes; 5,278 edges, each in both directions",
                "width": "64 hidden units (gat: 8 heads of 8; gcn512: 512), two layers",
                "budget": "up to 24 trainings of 100 full-graph passes; dense, random and static sparsifiers take 1, a ladder one a"
                " round (two where it looks at an adversary) and a last one; what was used stands beside each row",
                "ladder": "about 0.2 of the remaining edges and weights a round, the last meeting the target; every round"
                " starts from the same initial weights; where the target names no weights none are pruned, and so with edges",
                "recipe": "Adam 0.008, weight decay 8e-5, dropout 0.5 (gat: 0.6); test accuracy at the best validation epoch",
                "links": "cora-links: is a pair of nodes joined? 10 % of the edges are the test, 5 % validation, each beside as"
                " many pairs without an edge, drawn once for all runs; messages pass over the other 4,488 edges, and training meets"
                " each beside a pair drawn anew every epoch; dot product of 16 outputs; Adam 0.005, no decay;"
                " features not normalised",
                "timing": "a forward pass for all nodes; each product by the kernel that is fastest there, for parent and ticket",
            },
        ),
        "paper": Tier(
            (
                *(f"{d}/{m}" for d in ("cora", "citeseer", "pubmed") for m in ("gcn", "gin", "gat")),
                "ogbn-arxiv/gcn",
                "ogbn-arxiv/deepergcn",
                "ogbn-proteins/gcn256",
                *(f"{d}-links/gcn" for d in ("cora", "citeseer", "pubmed")),
                "ogbl-collab/gcn256",
                "ogbl-collab/deepergcn",
            ),
            ("edges=0.5,weights=0.1", "edges=0.25,weights=0.1", "edges=0.5", "edges=0.25", "edges=0.1"),
            14 * 86_400,
            {
                "width": "512 hidden units (gat: 8 heads of 512), two layers; deepergcn: 28 layers of 128",
                "budget": "up to 96 trainings of 200 full-graph passes (ogbn-arxiv, ogbl-collab: 500; ogbn-proteins: 100);"
                " a search for masks on ogbn-arxiv has 250",
                "ladder": "about 0.05 of the remaining edges and 0.2 of the remaining weights a round",
                "recipe": "UGS's published commands; self-loops of the data are stripped first; ogbn-arxiv/gcn (two layers,"
                " no norm) and ogbl-collab/gcn256 (two layers, dropout 0.5, gradients not clipped) are not OGB's references, which"
                " have three layers",
                "links": "as on the small tier; ogbl-collab: its own split by years and its own negatives, steps of 65,536 edges,"
                " a predictor of three layers, ranked by Hits@50; no weights of edges; validation edges are never input"
                " (use_valedges_as_input: no)",
                "ogbn-proteins": "112 labels a node, mean area under ROC; features: the species as one of eight, and the mean of"
                " the eight features of a node's edges; trained on sampled neighbourhoods; no encoder of edges",
            },
        ),
    }

    def digest(self, spec: Spec) -> str:
        from tasks.graph_tickets import data

        name, _ = data_and_model(spec, EXAMPLE)
        if spec.division == "speed":
            return shapes_digest(name)
        return data.digest(name, spec.data)

    def problem(self, spec: Spec, run: Run) -> GraphProblem:
        d = self._data(spec)
        if d.y.ndim != 1:
            raise UserError(f"{d.name}: nodes have several labels, which are asked of ogbn-proteins alone; give y one class a node")
        seen = np.full(d.nodes, -1, np.int64)
        for part in ("train", "val"):
            seen[d.split[part]] = d.y[d.split[part]]
        return open_problem(GraphProblem, spec, run, d, seen, d.split["train"], d.split["val"], len(d.classes), self.recipe_else)

    def parent(self, problem: GraphProblem) -> Ticket:
        return Ticket(problem.graph.row, problem.graph.col, problem.model())

    def examine(self, problem: GraphProblem, solution: Ticket) -> Table:
        import torch

        d = self._data(problem.spec)
        model = solution.model.eval()
        with torch.inference_mode():
            prediction = model(problem.x, self._graph(problem, solution)).argmax(1).cpu().numpy()
        test = d.split["test"]
        columns = {"row": np.arange(len(test)), "label": d.y[test], "prediction": prediction[test], "degree": d.degree()[test]}
        return {k: v.astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """Accuracy, balanced, by class, of the worst class, and of poorly against well connected nodes, in per cent.

        Poorly connected is the third of the test nodes with the fewest neighbours in the whole graph, ties included, well
        connected the third with the most; where the two would meet, neither is told.  Intervals are Wilson's at 95 %, that of
        the gap Newcombe's (1998, method 10), that of a mean over classes adds the classes' variances.

        Raises UserError where the evidence cannot be what it says.
        """
        label, prediction = evidence["label"].astype(int), evidence["prediction"].astype(int)
        degree = evidence["degree"].astype(int)
        if len(label) == 0 or label.min() < 0 or degree.min() < 0:
            raise UserError("evidence: there must be rows, labels and degrees from 0 up; run the method again")
        hit = label == prediction
        measures = by_class("accuracy", label, prediction, class_names(self.name, spec.tier, spec.case))
        low, high = degree_groups(degree)
        if low is not None and high is not None:
            few, many = hit[low], hit[high]
            gap = 100 * float(many.mean() - few.mean())
            between = newcombe(int(many.sum()), len(many), int(few.sum()), len(few))
            measures += [
                share("low_degree", few.sum(), len(few)),
                share("high_degree", many.sum(), len(many)),
                Measure("degree_gap", gap, "points", "down", interval=between),
            ]
        return measures

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a case: digests of rows, labels and degrees, taken from the data."""
        name, _ = data_and_model(spec, EXAMPLE)
        d = self._data(spec)
        test = d.split["test"]
        columns = {"row": np.arange(len(test)), "label": d.y[test], "degree": d.degree()[test]}
        return entry(self, spec, name, columns, d.classes)

    def workloads(self, problem: GraphProblem, solution: Ticket) -> list[Workload]:
        """One forward pass for all nodes, as deployed; and once more with the network's weights in compressed rows."""

        def prepare(weights: Literal["measured", "csr"]) -> Any:
            from tasks.graph_tickets.deploy import deploy

            return deploy(solution.model.to(problem.device), self._graph(problem, solution), problem.x, weights)[0]

        nodes = problem.graph.nodes
        return [
            Workload("infer@graph", lambda: prepare("measured"), nodes),
            Workload("infer_csr@graph", lambda: prepare("csr"), nodes, versus="infer@graph"),
        ]

    def operations(self, problem: GraphProblem, solution: Ticket) -> Operations:
        """The full count, in the order that is cheaper for the dense model's layer."""
        return Operations(tuple(layers(problem, solution, "cheaper")))

    def weigh(self, problem: GraphProblem, solution: Ticket) -> list[Measure]:
        """Shares kept, and multiply-adds by every convention."""
        from tasks.graph_tickets.data import listed

        parent = self.parent(problem)
        ours, theirs = (Operations(tuple(layers(problem, t, "cheaper"))) for t in (solution, parent))
        weights, total = kept_weights(solution.model)
        edges = len(solution.row)
        n = problem.graph.nodes
        dense_linear = sum(n * w.numel() for w in combined(parent.model).values())
        first = next(iter(combined(parent.model).values()))
        gebt = sum(listed(problem.name, n) * int(w.count_nonzero()) for w in combined(solution.model).values())
        gebt += round(2 * problem.citations * edges / max(1, problem.graph.edges)) * first.shape[1]
        orders = {o: sum(line["macs"] for line in layers(problem, solution, o)) for o in ("transform", "aggregate")}
        exps = sum(line["exps"] for line in solution.model.work(n, edges))
        macs = ours.total("macs")

        def told(name: str, value: float, direction: Literal["up", "down", ""] = "down") -> Measure:
            return Measure(name, float(value), "", direction, source="meter")

        return [
            told("macs", macs),
            told("macs_parent", theirs.total("macs"), ""),
            told("kept.macs", macs / theirs.total("macs")),
            told("kept.edges", edges / max(1, problem.graph.edges)),
            told("kept.weights", weights / total),
            told("edges", edges),
            told("edges_parent", problem.graph.edges, ""),
            told("weights", weights),
            told("weights_total", total, ""),
            told("params", ours.total("params")),
            told("nonzero", ours.total("nonzero")),
            told("macs_transform_first", orders["transform"]),
            told("macs_aggregate_first", orders["aggregate"]),
            told("macs_sparse_x", sparse_input_macs(problem, solution)),
            told("macs_linear_legacy", weights / total * dense_linear),
            told("macs_gebt", gebt),
            told("nonlinear_ops", exps),
        ]

    def _data(self, spec: Spec) -> GraphData:
        from tasks.graph_tickets import data
        from tasks.graph_tickets.models import family

        name, architecture = data_and_model(spec, EXAMPLE)
        family(architecture)  # an unknown name is told before anything is loaded
        return data.imitation(name) if spec.division == "speed" else data.load(name, spec.data)

    @staticmethod
    def _graph(problem: GraphProblem, solution: Ticket) -> Graph:
        from tasks.graph_tickets.graph import Graph

        row, col = solution.row.to(problem.device), solution.col.to(problem.device)
        if len(row) and int(row.max()) >= problem.graph.nodes:
            raise UserError(f"the ticket's edges name node {int(row.max())} of {problem.graph.nodes}: it is of another graph")
        values = solution.values
        if values is not None and (len(values) != len(row) or not solution.model.folds_values):
            raise UserError(f"the ticket's {len(row)} edges have {len(values)} weights: give one an edge, to a gcn or gin, or none")
        return Graph(row, col, problem.graph.nodes, None if values is None else values.to(problem.device))


def degree_groups(degree: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Masks of the poorly and the well connected third, ties included; None, None where they would meet."""
    low, high = np.quantile(degree, [1 / 3, 2 / 3], method="inverted_cdf")
    if low >= high:
        return None, None
    return degree <= low, degree >= high
