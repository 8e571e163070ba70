"""Which pairs of nodes are joined: the questions of graph_tickets whose evidence is a line a pair.

The network's outputs are embeddings, a predictor scores a pair of them, and training tells edges from as many pairs without
one, drawn anew in each epoch.  Methods see training edges and validation pairs; messages pass over training edges alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from suite.naming import UserError
from suite.protocol import Measure, Run, Spec, Table
from suite.show import Show
from tasks.common.cases import data_and_model, shapes_digest
from tasks.common.intervals import newcombe
from tasks.common.scoring import share
from tasks.common.truth import entry
from tasks.graph_tickets import metrics
from tasks.graph_tickets.areas import gap, percent
from tasks.graph_tickets.node_task import Nodes, degree_groups
from tasks.graph_tickets.problem import EXAMPLE, HIDDEN, GraphProblem, Ticket, View, open_problem

if TYPE_CHECKING:
    import torch

    from tasks.graph_tickets.graph import Graph
    from tasks.graph_tickets.link_data import LinkData
    from tasks.graph_tickets.models import GraphNetwork

EMBEDDING = 16  #: width of an embedding that a dot product compares (UGS's published commands)
#: Adam's rate is ours: with features as the files have them a GCN on Cora settles within the small tier's 100 epochs, in which a
#: mask that nothing but the penalty moves falls from 1 to a half (UGS's 0.001 is of a contrastive encoder); the rest is UGS's
RECIPE = (0.005, 0.0, 1e-2, 1e-2)
PAIRS = 65_536  #: training edges of a step (UGS's released code); a smaller set is one step an epoch
K = 50  #: of Hits@K


@dataclass
class LinkProblem(GraphProblem):
    """Training edges to recognise: `train` (m, 2) as listed, `val` (k, 2) pairs with `y` (k,), 1 for an edge.

    `graph` holds the training edges, which all messages pass over; a pruned one remains something to recognise.
    """

    one_class: ClassVar[bool] = False
    predictor: str = "dot"
    hits: bool = False  #: whether an epoch is chosen by Hits@50, else by the area under ROC

    def build(self) -> GraphNetwork:
        from tasks.graph_tickets.link_models import build

        return build(self.architecture, self.inputs, self.classes, self.hidden, self.predictor)

    def other(self, case: str) -> GraphProblem:
        theirs = case.partition("/")[0]
        if theirs != self.name:
            raise UserError(
                f"no ticket moves from {theirs} to {self.name}: edges of another set may be those that are examined here; name a"
                f" source such as {self.name}/gin"
            )
        return super().other(case)

    @cached_property
    def _taken(self) -> np.ndarray:
        from tasks.graph_tickets.link_data import keys

        return keys(self.train.cpu().numpy(), self.graph.nodes)

    def views(self, graph: Graph, epoch: int, passes: int = 1) -> Iterator[View]:
        """The steps of an epoch: every training edge once, and beside it a pair without a training edge, drawn anew."""
        import torch

        from tasks.graph_tickets.link_data import non_edges
        from tasks.graph_tickets.sampling import sample

        rng = np.random.Generator(np.random.Philox(self.run.seed("negatives", epoch)))
        generator = torch.Generator().manual_seed(self.run.seed("neighbours", epoch))
        edges, size = self.train, len(self.train)
        if size > PAIRS:
            edges, size = edges[torch.randperm(size, generator=generator).to(self.device)], PAIRS
        for there in edges.split(size):
            for _ in range(passes):
                self.book(len(there))
            absent = torch.from_numpy(non_edges(graph.nodes, self._taken, len(there), rng)).to(self.device)
            pairs = torch.cat([there, absent])
            labels = torch.cat([torch.ones(len(there)), torch.zeros(len(absent))]).to(self.device)
            if not self.batch:
                yield View(pairs, labels)
                continue
            seeds, places = pairs.unique(return_inverse=True)
            yield View(places, labels, sample(graph, seeds, generator))

    def loss(self, outputs: torch.Tensor, view: View) -> torch.Tensor:
        from torch.nn import functional as F

        return F.binary_cross_entropy_with_logits(_scores(outputs, view.train), view.labels)

    def accuracy(self, logits: torch.Tensor) -> float:
        """Of the validation pairs: the area under ROC, or Hits@50, as a share."""
        score, label = _scores(logits, self.val).cpu().numpy(), self.y.cpu().numpy()
        if self.hits:
            return metrics.hits_at(K, score[label == 1], score[label == 0])
        return metrics.roc_auc(label[:, None].astype(float), score[:, None])


def _scores(outputs: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    from tasks.graph_tickets.link_models import Embeddings

    if not isinstance(outputs, Embeddings):
        raise UserError("a network without a predictor scores no pairs; take the one that problem.model() gives")
    return outputs.scores(pairs)


class Links(Nodes):
    """Edges of a graph of nodes, by the area under ROC."""

    ranked = "roc_auc"
    beside = ("hits_50", "low_degree", "degree_gap")
    columns = {"row": "int32", "source": "int32", "target": "int32", "label": "uint8", "degree": "int32", "score": "float32"}
    truth = ("row", "source", "target", "label", "degree")
    show = Show(pays=False)  # there are no classes
    recipe_else = RECIPE
    predictor: ClassVar[str] = "dot"

    def digest(self, spec: Spec) -> str:
        from tasks.graph_tickets import link_data

        name, _ = data_and_model(spec, EXAMPLE)
        return shapes_digest(name) if spec.division == "speed" else link_data.digest(name, spec.data)

    def problem(self, spec: Spec, run: Run) -> LinkProblem:
        d = self._links(spec)
        val, label = d.pairs("val")
        problem = open_problem(LinkProblem, spec, run, d, label, d.positive["train"], val, self._embedding(spec), self.recipe_else)
        problem.predictor, problem.hits = self.predictor, self.ranked == f"hits_{K}"
        return problem

    def examine(self, problem: GraphProblem, solution: Ticket) -> Table:
        import torch

        pairs = self._pairs(self._links(problem.spec))
        ends = torch.from_numpy(np.stack([pairs["source"], pairs["target"]], 1)).to(problem.device)
        model = solution.model.to(problem.device).eval()
        with torch.inference_mode():
            score = _scores(model(problem.x, self._graph(problem, solution)), ends).cpu().numpy()
        return {k: v.astype(self.columns[k]) for k, v in {**pairs, "score": score}.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """The area under ROC of edges against pairs without one, Hits@50, and of edges by degree, all in per cent.

        An edge's degree is that of its less connected end, among the training edges.  The third of the edges with the lowest,
        ties included, and the third with the highest are each judged against all pairs without an edge, by the measure
        that ranks.  Intervals of areas and of their difference are DeLong's (1988) at 95 %, those of shares Wilson's and
        Newcombe's with the negatives taken as given.

        Raises UserError where the evidence cannot be what it says.
        """
        label, score = evidence["label"].astype(int), evidence["score"].astype(float)
        degree = evidence["degree"].astype(int)
        there = np.flatnonzero(label == 1)
        if not np.isin(label, (0, 1)).all() or len(there) in (0, len(label)) or degree.min() < 0 or not np.isfinite(score).all():
            raise UserError("evidence: there must be edges (1) and other pairs (0), finite scores, degrees from 0 up; run it again")
        found = metrics.hits(K, score[there], score[label == 0])
        groups = [g for g in degree_groups(degree[there]) if g is not None]
        y = np.repeat(label[:, None].astype(float), 1 + len(groups), 1)
        for column, group in enumerate(groups, 1):
            y[there[~group], column] = np.nan
        area, moved = metrics.areas(y, np.repeat(score[:, None], y.shape[1], 1))
        measures = [percent("roc_auc", area[0], moved[:, 0]), share(f"hits_{K}", found.sum(), len(found))]
        if groups and self.ranked == "roc_auc":
            measures += [percent(f"{n}_degree", area[i], moved[:, i]) for i, n in ((1, "low"), (2, "high"))]
            measures.append(gap(area[2] - area[1], moved[:, 2] - moved[:, 1]))
        elif groups:
            low, high = (found[g] for g in groups)
            measures += [share("low_degree", low.sum(), len(low)), share("high_degree", high.sum(), len(high))]
            between = newcombe(int(high.sum()), len(high), int(low.sum()), len(low))
            measures.append(Measure("degree_gap", 100 * float(high.mean() - low.mean()), "points", "down", interval=between))
        return measures

    def weigh(self, problem: GraphProblem, solution: Ticket) -> list[Measure]:
        """As for nodes, and what one more pair costs once the embeddings are there."""
        predictor: Any = solution.model.predictor
        macs = predictor.macs(problem.classes)
        return [*super().weigh(problem, solution), Measure("macs_per_pair", float(macs), "", "down", source="meter")]

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a case: digests of the pairs, their labels and degrees."""
        name, _ = data_and_model(spec, EXAMPLE)
        return entry(self, spec, name, self._pairs(self._links(spec)), ("no edge", "edge"))

    def _embedding(self, spec: Spec) -> int:
        return EMBEDDING

    @staticmethod
    def _pairs(d: LinkData) -> dict[str, np.ndarray]:
        pairs, label = d.pairs("test")
        columns = {"row": np.arange(len(pairs)), "source": pairs[:, 0], "target": pairs[:, 1], "label": label}
        return {**columns, "degree": d.degree(pairs)}

    @staticmethod
    def _links(spec: Spec) -> LinkData:
        from tasks.graph_tickets import data, link_data
        from tasks.graph_tickets.models import family

        name, architecture = data_and_model(spec, EXAMPLE)
        family(architecture)  # an unknown name is told before anything is loaded
        if spec.division == "speed":
            return link_data.split_edges(data.imitation(name.removesuffix(link_data.SUFFIX)), name)
        return link_data.load(name, spec.data)


class Collaborations(Links):
    """Edges of ogbl-collab, by Hits@50 as on its leaderboard; an embedding is as wide as a layer."""

    ranked = "hits_50"
    beside = ("roc_auc", "low_degree", "degree_gap")
    predictor = "hadamard"
    evidence_bytes = 4_000_000

    def _embedding(self, spec: Spec) -> int:
        from tasks.graph_tickets.models import family

        _, architecture = data_and_model(spec, EXAMPLE)
        kind = family(architecture)
        return int(architecture.removeprefix(kind) or HIDDEN[spec.tier].get(kind, 0))
