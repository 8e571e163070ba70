"""Make a graph and its network sparse: who keeps accuracy, also for the poorly connected, and is it faster in fact?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np

from suite import parallel
from suite.naming import UserError
from suite.protocol import Measure, Operations, Problem, Run, Spec, Table, Task, Tier, Workload
from tasks.classification import by_class, data_and_model, shapes_digest, share
from tasks.intervals import wilson
from tasks.truth import class_names, entry

if TYPE_CHECKING:
    import torch

    from tasks.graph_tickets.data import GraphData
    from tasks.graph_tickets.graph import Graph, Input
    from tasks.graph_tickets.link_data import LinkData
    from tasks.graph_tickets.models import GraphNetwork
    from tasks.graph_tickets.sampling import Sample

EXAMPLE = "cora/gcn"  #: of a case
#: width of a hidden layer, of one of the eight heads for GAT
HIDDEN = {
    "smoke": {"gcn": 16, "gin": 16, "gat": 4},
    "small": {"gcn": 64, "gin": 64, "gat": 8},
    "paper": {"gcn": 512, "gin": 512, "gat": 512, "deepergcn": 128},
}
#: epochs of one training: mask search, retraining (ugs.md 2.5 and 6); and of searches that are shorter
EPOCHS = {"smoke": 10, "small": 100, "paper": 200}
EPOCHS_OF = {("paper", "ogbn-arxiv"): 500, ("paper", "ogbl-collab"): 500, ("paper", "ogbn-proteins"): 100}
SEARCH_OF = {("paper", "ogbn-arxiv"): 250}
#: shares of the remaining edges and weights that a round removes (ugs.md 2.2 and 6)
RATES = {"smoke": (0.3, 0.3), "small": (0.2, 0.2), "paper": (0.05, 0.2)}
#: Trainings of `EPOCHS` passes over the graph that a closed run may spend: a ladder of ten rounds whose every epoch takes
#: two passes, its last retraining and three to spare; the paper's ladders have up to 45 rounds of the graph's 5 %.
TRAININGS = {"smoke": 12, "small": 24, "paper": 96}
#: learning rate, weight decay, s1 (edges) and s2 (weights), from UGS's published commands (ugs.md 2.5)
RECIPES: dict[tuple[str, str], tuple[float, float, float, float]] = {
    ("cora", "gcn"): (0.008, 8e-5, 1e-2, 1e-2),
    ("citeseer", "gcn"): (0.01, 5e-4, 1e-2, 1e-2),
    ("pubmed", "gcn"): (0.01, 5e-4, 1e-6, 1e-3),
    ("cora", "gin"): (0.008, 8e-5, 1e-3, 1e-3),
    ("citeseer", "gin"): (0.01, 5e-4, 1e-5, 1e-5),
    ("pubmed", "gin"): (0.01, 5e-4, 1e-5, 1e-5),
    ("cora", "gat"): (0.008, 8e-5, 1e-3, 1e-3),
    ("citeseer", "gat"): (0.01, 5e-4, 1e-7, 1e-3),
    ("pubmed", "gat"): (0.01, 5e-4, 1e-2, 1e-2),
    ("ogbn-arxiv", "deepergcn"): (0.01, 0.0, 1e-6, 1e-4),
    ("ogbn-arxiv", "gcn"): (0.01, 0.0, 1e-6, 1e-4),
    ("ogbn-proteins", "gcn"): (0.01, 0.0, 1e-1, 1e-3),
    ("ogbl-collab", "deepergcn"): (0.01, 0.0, 1e-6, 1e-5),
    ("ogbl-collab", "gcn"): (0.001, 0.0, 1e-6, 1e-5),  # the rate is that of OGB's reference
}
#: for a graph without a published command
RECIPE_ELSE = (0.01, 5e-4, 1e-2, 1e-2)
#: nodes and entries up to which a training pass is over the whole graph; larger ones are trained on sampled neighbourhoods
WHOLE, ENTRIES = 500_000, 20_000_000
BATCH = 8_192  #: labelled nodes of such a sample


NO_CLASSES = (
    "this method compares probabilities of classes, and here no node has one class; take one that does without, such as ugs,"
    " random_edges, magnitude, gebt or a static sparsifier"
)
NO_WEIGHTS = (
    "edges of unequal weights need a network that sums over a fixed operator (gcn, gin), and {} weighs its edges itself; set"
    " weighted=false"
)


@dataclass(frozen=True)
class Recipe:
    """Adam's rates and the penalties on the masks, the same for every method."""

    lr: float
    weight_decay: float
    s1: float  #: L1 on the graph's mask
    s2: float  #: L1 on the weights' masks


@dataclass(frozen=True)
class Ticket:
    """The Solution: the edges that are left and the network that runs on them, its pruned weights zero."""

    row: torch.Tensor  #: (E,) entries of the graph, self-loops of the model not among them
    col: torch.Tensor
    model: GraphNetwork
    notes: Mapping[str, Any] = field(default_factory=dict)
    values: torch.Tensor | None = None  #: (E,) weights of these entries, 1 each where None


@dataclass(frozen=True)
class View:
    """What one training step looks at: the whole graph, or a sampled neighbourhood."""

    train: torch.Tensor  #: places of the labelled nodes, or of the ends of pairs, among the model's outputs
    labels: torch.Tensor
    sample: Sample | None = None


@dataclass
class GraphProblem(Problem):
    """A graph, models, a budget of passes over it, and what a step is trained on and judged by.

    Methods see labels of training and validation nodes alone.
    """

    name: str
    architecture: str
    graph: Graph
    x: Input
    y: torch.Tensor  #: (n,) int64, -1 but on training and validation nodes; another kind of problem says what its labels are
    train: torch.Tensor  #: node numbers
    val: torch.Tensor
    classes: int  #: width of the network's outputs
    citations: int
    hidden: int
    epochs: int  #: of one training
    rates: tuple[float, float]  #: of edges and weights, a round
    recipe: Recipe
    device: torch.device
    budget: int  #: labelled nodes that a closed run may see
    batch: int = 0  #: labelled nodes of a sampled neighbourhood; 0: a pass is over the whole graph
    search_epochs: int | None = None  #: of a search for masks; None: as of any training
    one_class: ClassVar[bool] = True  #: whether the outputs are those of one class a node

    @property
    def inputs(self) -> int:
        return int(self.x.shape[1])

    def model(self, seed: int | None = None) -> GraphNetwork:
        """A fresh network, its initial weights addressed by the run's seed, or drawn by another."""
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(self.run.seed("init") if seed is None else seed)
            model = self.build()
        return model.to(self.device)

    def build(self) -> GraphNetwork:
        """A network of this problem's shape, its weights drawn from the state that torch is in."""
        from tasks.graph_tickets.models import build

        return build(self.architecture, self.inputs, self.classes, self.hidden)

    def other(self, case: str) -> GraphProblem:
        """The problem of another case within this run, same seed, which spends this one's budget; for tickets that move."""
        self._grant()  # the first grant of a run stands
        return GraphTickets().of(case).problem(replace(self.spec, case=case), self.run)

    def book(self, labels: int | None = None) -> None:
        """Spend one pass over the graph: its labelled training nodes, or as many as a sampled batch holds."""
        self._grant()
        self.run.spend(len(self.train) if labels is None else labels)

    def _grant(self) -> None:
        self.run.grant(self.budget, "labelled nodes")

    def views(self, graph: Graph, epoch: int, passes: int = 1) -> Iterator[View]:
        """The steps of an epoch over `graph`, each booked `passes` times; every labelled node is met once."""
        import torch

        from tasks.graph_tickets.sampling import sample

        if not self.batch:
            for _ in range(passes):
                self.book()
            yield View(self.train, self.y[self.train])
            return
        generator = torch.Generator().manual_seed(self.run.seed("neighbours", epoch))
        shuffled = self.train[torch.randperm(len(self.train), generator=generator).to(self.device)]
        for seeds in shuffled.split(self.batch):
            for _ in range(passes):
                self.book(len(seeds))
            drawn = sample(graph, seeds, generator)
            yield View(torch.arange(len(seeds), device=self.device), self.y[seeds], drawn)

    def need_classes(self) -> None:
        """For methods that compare probabilities of classes: raises UserError where there are none, before anything is trained."""
        if not self.one_class:
            raise UserError(NO_CLASSES)

    def need_weighted_edges(self) -> None:
        """For methods that leave edges of unequal weights: raises UserError where these are not part of a fixed operator."""
        if not self.model().folds_values:
            raise UserError(NO_WEIGHTS.format(self.architecture))

    def loss(self, outputs: torch.Tensor, view: View) -> torch.Tensor:
        """The supervised loss of a model's outputs for what a view looks at."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs[view.train], view.labels)

    def passes(self, epochs: int | None = None) -> int:
        """Epochs of a training, 0 in the `speed` division: there nothing is trained."""
        return 0 if self.spec.division == "speed" else self.epochs if epochs is None else epochs

    def accuracy(self, logits: torch.Tensor) -> float:
        """Of the validation nodes, as a share; for choices.  Another kind of problem gives its own measure, higher is better."""
        return float((logits[self.val].argmax(1) == self.y[self.val]).float().mean())


Q = TypeVar("Q", bound=GraphProblem)


class GraphTickets(Task[GraphProblem, Ticket]):
    """Sparser graphs and graph networks: accuracy by class and by degree, saving on paper and in fact."""

    name = "graph_tickets"
    version = 1
    question = "Make a graph and its network sparse. Who keeps accuracy, also for poorly connected nodes, and is it faster in fact?"
    parent_method = "dense"
    ranked = "accuracy"
    beside = ("worst_class", "low_degree", "degree_gap")
    speed = "infer@graph"
    promised = "kept.macs"
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

    def of(self, case: str) -> GraphTickets:
        """Nodes of one class each, unless the name of the set says that edges are asked for, or several labels a node."""
        name = case.partition("/")[0]
        if name.endswith("-links") or name == "ogbl-collab":
            from tasks.graph_tickets.link_task import Collaborations, Links

            return Links() if name.endswith("-links") else Collaborations()
        if name.startswith("ogbn-proteins"):
            from tasks.graph_tickets.label_task import Proteins

            return Proteins()
        return self

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
        return self._problem(GraphProblem, spec, run, d, seen, d.split["train"], d.split["val"], len(d.classes))

    def _problem(
        self,
        kind: type[Q],
        spec: Spec,
        run: Run,
        d: GraphData | LinkData,
        y: np.ndarray,
        train: np.ndarray,
        val: np.ndarray,
        outputs: int,
    ) -> Q:
        """What all kinds of problems have in common: graph, features, and what the tables above grant."""
        import torch

        from tasks.graph_tickets import data
        from tasks.graph_tickets.graph import Graph, features
        from tasks.graph_tickets.models import family

        name, architecture = data_and_model(spec, EXAMPLE)
        device = torch.device(parallel.own_device(spec.device))
        network = family(architecture)
        epochs = EPOCHS_OF.get((spec.tier, name), EPOCHS[spec.tier])
        return kind(
            spec,
            run,
            name,
            architecture,
            Graph(torch.from_numpy(d.row).to(device), torch.from_numpy(d.col).to(device), d.nodes),
            features(d.x).to(device),
            torch.from_numpy(y).to(device),
            torch.from_numpy(train).to(device),
            torch.from_numpy(val).to(device),
            outputs,
            d.citations,
            HIDDEN[spec.tier].get(network, 0),
            epochs,
            RATES[spec.tier],
            Recipe(*RECIPES.get((name.removesuffix(data.PROJECTED), network), self.recipe_else)),
            device,
            TRAININGS[spec.tier] * epochs * len(train),
            BATCH if d.nodes > WHOLE or len(d.row) > ENTRIES else 0,
            SEARCH_OF.get((spec.tier, name)),
        )

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
        """The full count (graph_baselines.md 2.2), in the order that is cheaper for the dense model's layer."""
        return Operations(tuple(_layers(problem, solution, "cheaper")))

    def weigh(self, problem: GraphProblem, solution: Ticket) -> list[Measure]:
        """Shares kept, and multiply-adds by every convention."""
        from tasks.graph_tickets.data import listed

        parent = self.parent(problem)
        ours, theirs = (Operations(tuple(_layers(problem, t, "cheaper"))) for t in (solution, parent))
        weights, total = kept_weights(solution.model)
        edges = len(solution.row)
        n = problem.graph.nodes
        dense_linear = sum(n * w.numel() for w in _combined(parent.model).values())
        first = next(iter(_combined(parent.model).values()))
        gebt = sum(listed(problem.name, n) * int(w.count_nonzero()) for w in _combined(solution.model).values())
        gebt += round(2 * problem.citations * edges / max(1, problem.graph.edges)) * first.shape[1]
        orders = {o: sum(line["macs"] for line in _layers(problem, solution, o)) for o in ("transform", "aggregate")}
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
            told("macs_sparse_x", _sparse_input_macs(problem, solution)),
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


def kept_weights(model: GraphNetwork) -> tuple[int, int]:
    """Non-zero and all prunable weights."""
    own = dict(model.named_parameters())
    chosen = [own[n] for n in model.prunable()]
    return sum(int(w.count_nonzero()) for w in chosen), sum(w.numel() for w in chosen)


def _combined(model: GraphNetwork) -> dict[str, torch.Tensor]:
    """Weights of the layers that a linear-only count sees: attention vectors are none, a predictor of pairs is counted apart."""
    return {n: p for n, p in model.named_parameters() if p.ndim == 2 and not n.startswith(("attention", "predictor"))}


def _layers(problem: GraphProblem, ticket: Ticket, order: Literal["cheaper", "transform", "aggregate"]) -> list[dict[str, Any]]:
    """Lines of the full count: combinations by non-zero weights, aggregations by edges that are left."""
    n, own = problem.graph.nodes, dict(ticket.model.named_parameters())
    dense = problem.model().work(n, problem.graph.edges)
    lines = []
    for line, full in zip(ticket.model.work(n, len(ticket.row)), dense, strict=True):
        if line["weight"]:
            weight = own[line["weight"]]
            alive = int(weight.count_nonzero())
            lines.append(
                {"name": line["name"], "kind": "Linear", "macs": float(n * alive), "params": weight.numel(), "nonzero": alive}
            )
            continue
        way = order if order != "cheaper" else min(("transform", "aggregate"), key=lambda o: full[o])
        lines.append({"name": line["name"], "kind": line["kind"], "macs": float(line[way]), "params": 0, "nonzero": 0})
    counted = {line["name"] for line in lines}
    for name, p in own.items():
        if name not in counted:
            lines.append({"name": name, "kind": "scalar", "macs": 0.0, "params": p.numel(), "nonzero": int(p.count_nonzero())})
    return lines


def _sparse_input_macs(problem: GraphProblem, ticket: Ticket) -> int:
    """The first layer's combination over stored features alone: sum over stored (i, f) of the non-zeros of W[:, f]."""
    from tasks.graph_tickets.graph import SparseFeatures

    weight = next(iter(_combined(ticket.model).values()))
    alive = (weight != 0).sum(0)
    if isinstance(problem.x, SparseFeatures):
        return int(alive[problem.x.forward.col_indices()].sum())
    return int((alive * (problem.x != 0).sum(0)).sum())


def degree_groups(degree: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Masks of the poorly and the well connected third, ties included; None, None where they would meet."""
    low, high = np.quantile(degree, [1 / 3, 2 / 3], method="inverted_cdf")
    if low >= high:
        return None, None
    return degree <= low, degree >= high


def newcombe(hits: int, count: int, other_hits: int, other_count: int) -> tuple[float, float]:
    """95 % interval of the difference of two independent shares, in points (Newcombe 1998, method 10)."""
    p, q = 100 * hits / count, 100 * other_hits / other_count
    (low_p, high_p), (low_q, high_q) = wilson(hits, count), wilson(other_hits, other_count)
    return p - q - math.hypot(p - low_p, high_q - q), p - q + math.hypot(high_p - p, q - low_q)
