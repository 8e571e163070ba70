"""A graph, networks for it and a budget of passes over it: what methods see, and what each tier grants them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from suite import parallel, registry
from suite.naming import UserError
from suite.protocol import Problem, Run, Spec
from tasks.common.cases import data_and_model

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
#: epochs of one training: mask search, retraining (UGS's commands; shorter ones are ours); and of searches that are shorter
EPOCHS = {"smoke": 10, "small": 100, "paper": 200}
EPOCHS_OF = {("paper", "ogbn-arxiv"): 500, ("paper", "ogbl-collab"): 500, ("paper", "ogbn-proteins"): 100}
SEARCH_OF = {("paper", "ogbn-arxiv"): 250}
#: shares of the remaining edges and weights that a round removes (UGS's; coarser ones are ours)
RATES = {"smoke": (0.3, 0.3), "small": (0.2, 0.2), "paper": (0.05, 0.2)}
#: Trainings of `EPOCHS` passes over the graph that a closed run may spend: a ladder of ten rounds whose every epoch takes
#: two passes, its last retraining and three to spare; the paper's ladders have up to 45 rounds of the graph's 5 %.
TRAININGS = {"smoke": 12, "small": 24, "paper": 96}
#: learning rate, weight decay, s1 (edges) and s2 (weights), from UGS's published commands
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
    told: Sequence[str] = ()  #: of the data, beside every result
    one_class: ClassVar[bool] = True  #: whether the outputs are those of one class a node

    @property
    def notes(self) -> Sequence[str]:
        return self.told

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
        there = replace(self.spec, case=case)
        theirs: GraphProblem = registry.task_of(there).problem(there, self.run)
        theirs.budget = self.budget
        return theirs

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


def open_problem(
    kind: type[Q],
    spec: Spec,
    run: Run,
    d: GraphData | LinkData,
    y: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    outputs: int,
    recipe_else: tuple[float, float, float, float],
) -> Q:
    """A problem of this kind, with what all kinds have in common: graph, features, and what the tables above grant.

    Many arguments, as the kinds of problem share nothing but these columns.
    """
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
        Recipe(*RECIPES.get((name.removesuffix(data.PROJECTED), network), recipe_else)),
        device,
        TRAININGS[spec.tier] * epochs * len(train),
        BATCH if d.nodes > WHOLE or len(d.row) > ENTRIES else 0,
        SEARCH_OF.get((spec.tier, name)),
        d.notes,
    )
