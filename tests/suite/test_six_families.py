"""Six very different families, each as small as it can be, through one protocol without a special case.

Every stand-in is a real Task and a real Method: a 3-layer network, a 50-node graph, a 2-block ViT with
its trainer, a tabular net with a group, a two-stream patch net, a two-frame upscaler.  `walk` does with
each what the runner does, through the same calls; what the six need from the protocol stays needed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from suite import bundle
from suite.child import ChildRun
from suite.protocol import Measure, Operations, Problem, Spec, Task, Tier, Unsupported, Workload


def generator(problem: Problem, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(problem.run.seed(purpose))


def seeded(problem: Problem, make: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(problem.run.seed("init"))
        return make()


def linear_operations(model: nn.Module) -> Operations:
    return Operations(
        tuple(
            {
                "name": name,
                "kind": type(m).__name__,
                "macs": float(m.weight.numel()),
                "params": m.weight.numel(),
                "nonzero": int(m.weight.count_nonzero()),
            }
            for name, m in model.named_modules()
            if isinstance(m, nn.Linear | nn.Conv2d)
        )
    )


def accuracy(evidence: Mapping[str, np.ndarray], name: str = "accuracy", part: str = "") -> Measure:
    hit = evidence["label"] == evidence["prediction"]
    return Measure(name, 100 * float(hit.mean()), "%", "up", part)


class Base(Task[Any, Any]):
    """What the stand-ins share: nothing of it is in suite/."""

    version = 1
    parent_method = "dense"
    beside: ClassVar[Sequence[str]] = ()
    promised = ""
    truth: ClassVar[Sequence[str]] = ("row",)

    def digest(self, spec: Spec) -> str:
        return "0" * 64

    def operations(self, problem: Any, solution: Any) -> Operations:
        return linear_operations(solution.model)


# 1 -- image pruning: a smaller network ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    model: nn.Module


@dataclass
class VisionProblem(Problem):
    x: torch.Tensor
    y: torch.Tensor

    def model(self, width: int = 16) -> nn.Module:
        return seeded(
            self,
            lambda: nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)),
        )

    def batches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(96, generator=torch.Generator().manual_seed(self.run.seed("order", epoch)))
        for batch in order.split(32):
            self.run.spend(len(batch))
            yield self.x[batch], self.y[batch]


class Pruning(Base):
    """A 3-layer network made narrower."""

    name, question, ranked, speed, promised = "pruning", "Smaller?", "top1", "infer@1", "kept.macs"
    tiers = {"smoke": Tier(("blobs/mlp",), ("macs=0.5",), 60)}
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
        dense = self.operations(problem, self.parent(problem)).total("macs")
        return [Measure("kept.macs", self.operations(problem, solution).total("macs") / dense, source="meter")]


@dataclass(frozen=True)
class Thin:
    epochs: int = 2

    def solve(self, problem: VisionProblem) -> Network:
        dense = sum(p.numel() for n, p in problem.model().named_parameters() if "weight" in n)
        wanted = problem.spec.targets["macs"] * dense
        width = min(range(1, 17), key=lambda w: abs(8 * w + w * w + 3 * w - wanted))
        model = problem.model(width)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        for epoch in range(self.epochs):
            for x, y in problem.batches(epoch):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            problem.run.progress(epoch + 1, self.epochs)
        return Network(model)


# 2 -- graph tickets: edges + network; two targets; the task counts its own operations --------------------------------


@dataclass(frozen=True)
class Ticket:
    edges: torch.Tensor  #: (2, E), pruned edges are gone, not masked
    model: nn.Linear


@dataclass
class GraphProblem(Problem):
    edges: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor

    def propagate(self, edges: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return h.index_add(0, edges[1], h[edges[0]])


class Graph(Base):
    """A 50-node graph losing edges and weights."""

    name, question, ranked, speed = "graph", "Sparser?", "accuracy", "infer@graph"
    tiers = {"smoke": Tier(("ring/gcn",), ("edges=0.5,weights=0.2",), 60)}
    columns = {"row": "int32", "label": "uint8", "prediction": "uint8", "degree": "int32"}

    def problem(self, spec: Spec, run: Any) -> GraphProblem:
        here = torch.arange(50)
        edges = torch.cat([torch.stack([here, (here + d) % 50]) for d in (1, 2)], 1)
        x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
        return GraphProblem(spec, run, edges, x, (x[:, 0] > 0).long())

    def parent(self, problem: GraphProblem) -> Ticket:
        return Ticket(problem.edges, seeded(problem, lambda: nn.Linear(6, 2)))

    def examine(self, problem: GraphProblem, solution: Ticket) -> dict[str, np.ndarray]:
        out = solution.model(problem.propagate(solution.edges, problem.x)).argmax(1)
        degree = torch.bincount(problem.edges[1], minlength=50)  # of the whole graph: who was poorly connected
        columns = {"row": torch.arange(50), "label": problem.y, "prediction": out, "degree": degree}
        return {k: v.numpy().astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        low = evidence["degree"] <= np.median(evidence["degree"])
        return [accuracy(evidence), accuracy({k: v[low] for k, v in evidence.items()}, part="low_degree")]

    def workloads(self, problem: GraphProblem, solution: Ticket) -> list[Workload]:
        return [Workload("infer@graph", lambda: lambda: solution.model(problem.propagate(solution.edges, problem.x)), items=50)]

    def operations(self, problem: GraphProblem, solution: Ticket) -> Operations:
        w = solution.model.weight
        linear = {
            "name": "linear",
            "kind": "Linear",
            "macs": 50.0 * int(w.count_nonzero()),
            "params": w.numel(),
            "nonzero": int(w.count_nonzero()),
        }
        return Operations(
            (
                {
                    "name": "aggregate",
                    "kind": "edges",
                    "macs": 6.0 * solution.edges.shape[1],
                    "params": 0,
                    "nonzero": 0,
                },
                linear,
            )
        )

    def weigh(self, problem: GraphProblem, solution: Ticket) -> list[Measure]:
        w = solution.model.weight
        return [
            Measure("kept.edges", solution.edges.shape[1] / problem.edges.shape[1], source="meter"),
            Measure("kept.weights", int(w.count_nonzero()) / w.numel(), source="meter"),
        ]


@dataclass(frozen=True)
class RandomEdges:
    def solve(self, problem: GraphProblem) -> Ticket:
        keep = torch.randperm(100, generator=generator(problem, "random_edges"))[: round(100 * problem.spec.targets["edges"])]
        ticket = Graph().parent(problem)
        with torch.no_grad():
            flat = ticket.model.weight.view(-1)
            flat[flat.abs().argsort()[: round(len(flat) * (1 - problem.spec.targets["weights"]))]] = 0
        return Ticket(problem.edges[:, keep.sort().values], ticket.model)


# 3 -- ViT training: the trainer is part of the Solution, training steps are workloads with counts ---------------------


@dataclass(frozen=True)
class Trained:
    model: nn.Module
    keep: tuple[float, float, float]  #: share of tokens kept at the start, the middle, the end of the schedule


class TinyViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(2))
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, keep: float = 1.0) -> torch.Tensor:
        h = self.embed(x)[:, : max(1, round(keep * x.shape[1]))]
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean(1))


class ViTraining(Base):
    """A 2-block ViT trained on fewer tokens."""

    name, question, ranked, speed = "vit", "Trained on less?", "top1", "train_step@0.5"
    tiers = {"smoke": Tier(("noise/vit",), ("step_macs=0.5",), 60)}
    columns = {"row": "int32", "label": "uint8", "all": "uint8", "pruned": "uint8"}

    def problem(self, spec: Spec, run: Any) -> VisionProblem:
        x = torch.randn(64, 8, 4, generator=torch.Generator().manual_seed(2))
        return VisionProblem(spec, run, x, (x[:, 0, 0] > 0).long())

    def parent(self, problem: VisionProblem) -> Trained:
        return Trained(seeded(problem, TinyViT), (1.0, 1.0, 1.0))

    def examine(self, problem: VisionProblem, solution: Trained) -> dict[str, np.ndarray]:
        model = solution.model.eval()
        with torch.inference_mode():
            full, pruned = (model(problem.x[48:], keep).argmax(1) for keep in (1.0, solution.keep[2]))
        columns = {"row": torch.arange(16), "label": problem.y[48:], "all": full, "pruned": pruned}
        return {k: v.numpy().astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        return [
            accuracy({**evidence, "prediction": evidence[mode]}, "top1", part) for mode, part in (("pruned", ""), ("all", "all"))
        ]

    def workloads(self, problem: VisionProblem, solution: Trained) -> list[Workload]:
        def step(keep: float) -> Any:
            optimizer = torch.optim.SGD(solution.model.train().parameters(), 0.0)
            x, y = problem.x[:8], problem.y[:8]

            def call() -> None:
                optimizer.zero_grad()
                F.cross_entropy(solution.model(x, keep), y).backward()
                optimizer.step()

            return call

        steps = [
            Workload(f"train_step@{p}", lambda k=k: step(k), 8, count=20)
            for p, k in zip(("0", "0.5", "1"), solution.keep, strict=True)
        ]
        return [*steps, Workload("infer@64", lambda: lambda: solution.model.eval()(problem.x, solution.keep[2]), 64)]

    def weigh(self, problem: VisionProblem, solution: Trained) -> list[Measure]:
        return [Measure("kept.step_macs", math.fsum(solution.keep) / 3, source="meter")]


@dataclass(frozen=True)
class FewerTokens:
    def solve(self, problem: VisionProblem) -> Trained:
        problem.run.spend(48)
        return Trained(seeded(problem, TinyViT), (0.75, 0.5, 0.25))


# 4 -- fair pruning: a group column, and gaps from the same evidence ------------------------------------------------


class Fair(Pruning):
    """A tabular net with a group."""

    name, question, ranked, promised = "fair", "Fair when small?", "worst_group", "kept.nonzero"
    tiers = {"smoke": Tier(("table/mlp",), ("nonzero=0.2",), 60)}
    columns = {"row": "int32", "label": "uint8", "group": "uint8", "prediction": "uint8", "score": "float16"}
    truth = ("row", "label", "group")

    def examine(self, problem: VisionProblem, solution: Network) -> dict[str, np.ndarray]:
        evidence = super().examine(problem, solution)
        with torch.inference_mode():
            score = solution.model(problem.x[96:]).softmax(1).amax(1).numpy()
        return {**evidence, "group": (problem.x[96:, 7] > 0).numpy().astype("uint8"), "score": score.astype("float16")}

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
        return [Measure("kept.nonzero", count.total("nonzero") / count.total("params"), source="meter")]


@dataclass(frozen=True)
class Magnitude:
    def solve(self, problem: VisionProblem) -> Network:
        model = problem.model()
        weights = [p for n, p in model.named_parameters() if "weight" in n]
        cut = torch.cat([w.detach().abs().flatten() for w in weights]).quantile(1 - problem.spec.targets["nonzero"])
        with torch.no_grad():
            for w in weights:
                w.mul_(w.abs() > cut)
        return Network(model)


# 5 -- flame detection: no target; a sampled embedding as evidence --------------------------------------------------


class TwoStream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.thermal, self.head = nn.Linear(12, 4), nn.Linear(4, 4), nn.Linear(8, 1)

    def forward(self, rgb: torch.Tensor, thermal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.cat([self.rgb(rgb), self.thermal(thermal)], 1)
        return self.head(z).squeeze(1), z


class Flame(Base):
    """A two-stream patch net with an embedding."""

    name, question, ranked, speed, parent_method = "flame", "Fire behind smoke?", "balanced_accuracy", "frame", "bce"
    tiers = {"smoke": Tier(("patches/two_stream",), ("",), 60)}
    columns = {
        "row": "int32",
        "label": "uint8",
        "obscured": "uint8",
        "score": "float16",
        **{f"z{i}": "float16" for i in range(8)},
    }

    def problem(self, spec: Spec, run: Any) -> VisionProblem:
        x = torch.randn(40, 16, generator=torch.Generator().manual_seed(3))
        return VisionProblem(spec, run, x, (x[:, 12] > 0).long())

    def parent(self, problem: VisionProblem) -> Network:
        return Network(seeded(problem, TwoStream))

    def examine(self, problem: VisionProblem, solution: Network) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            score, z = solution.model(problem.x[:, :12], problem.x[:, 12:])
        z = torch.where((torch.arange(40) % 2 == 0)[:, None], z, torch.tensor(0.0))  # a fixed sample of rows carries it
        columns = {
            "row": torch.arange(40),
            "label": problem.y,
            "obscured": torch.arange(40) % 2,
            "score": score.sigmoid(),
        }
        columns |= {f"z{i}": z[:, i] for i in range(8)}
        return {k: v.numpy().astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        out = []
        for part, rows in (("clear", evidence["obscured"] == 0), ("obscured", evidence["obscured"] == 1)):
            hit = (evidence["score"] > 0.5) == (evidence["label"] == 1)
            recalls = [hit[rows & (evidence["label"] == k)].mean() for k in (0, 1)]
            out.append(Measure("balanced_accuracy", 100 * float(np.mean(recalls)), "%", "up", "" if part == "clear" else part))
        return out

    def workloads(self, problem: VisionProblem, solution: Network) -> list[Workload]:
        return [Workload("frame", lambda: lambda: solution.model(problem.x[:, :12], problem.x[:, 12:]), items=1)]


@dataclass(frozen=True)
class Bce:
    def solve(self, problem: VisionProblem) -> Network:
        return Flame().parent(problem)


# 6 -- mobile video: files sent + a player; seedless; runtimes versus play/eager; one absent --------------------------


@dataclass(frozen=True)
class Stream:
    files: Mapping[str, bytes]

    @property
    def model(self) -> nn.Module:
        model: nn.Module = torch.jit.load(io.BytesIO(self.files["model"])) if "model" in self.files else nn.Identity()
        return model


@dataclass
class VideoProblem(Problem):
    frames: torch.Tensor  #: (2, 3, 16, 16), train and test alike: video overfits its clip by design


class Video(Base):
    """A two-frame upscaler: files sent and a player."""

    name, question, ranked, speed, parent_method = "video", "Playable?", "psnr_frame", "play/eager", "bicubic"
    tiers = {"smoke": Tier(("clip/x2",), ("",), 60)}
    columns = {"row": "int32", "squared_error": "float64", "bytes_video": "int64", "bytes_model": "int64"}

    def problem(self, spec: Spec, run: Any) -> VideoProblem:
        return VideoProblem(spec, run, torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)))

    def parent(self, problem: VideoProblem) -> Stream:
        return Stream({"video": F.avg_pool2d(problem.frames, 2).numpy().tobytes()})

    def play(self, problem: VideoProblem, solution: Stream) -> torch.Tensor:
        small = torch.frombuffer(bytearray(solution.files["video"]), dtype=torch.float32).view(2, 3, 8, 8)
        return solution.model(F.interpolate(small, scale_factor=2, mode="bicubic")).clamp(0, 1)

    def examine(self, problem: VideoProblem, solution: Stream) -> dict[str, np.ndarray]:
        error = (self.play(problem, solution) - problem.frames).square().mean((1, 2, 3)).double().numpy()
        sizes = {f"bytes_{k}": np.array([len(solution.files.get(k, b"")), 0], "int64") for k in ("video", "model")}
        return {"row": np.arange(2, dtype="int32"), "squared_error": error, **sizes}

    def score(self, spec: Spec, evidence: Mapping[str, np.ndarray]) -> list[Measure]:
        sizes = [Measure("bytes", float(evidence[f"bytes_{k}"].sum()), "B", "down", k) for k in ("video", "model")]
        return [Measure("psnr_frame", -10 * math.log10(evidence["squared_error"].mean()), "dB", "up"), *sizes]

    def workloads(self, problem: VideoProblem, solution: Stream) -> list[Workload]:
        def absent() -> Any:
            raise Unsupported("this runtime is not installed")

        play = lambda: lambda: self.play(problem, solution)  # noqa: E731
        return [Workload("play/eager", play, 2), Workload("play/other", absent, 2, versus="play/eager")]

    def operations(self, problem: VideoProblem, solution: Stream) -> Operations:
        return Operations((), warnings=("bicubic is not counted",))


@dataclass(frozen=True)
class Bicubic:
    seedless: ClassVar[bool] = True

    def solve(self, problem: VideoProblem) -> Stream:
        return Video().parent(problem)


FAMILIES = [
    (Pruning(), Thin()),
    (Graph(), RandomEdges()),
    (ViTraining(), FewerTokens()),
    (Fair(), Magnitude()),
    (Flame(), Bce()),
    (Video(), Bicubic()),
]


@pytest.mark.parametrize(("task", "method"), FAMILIES, ids=[t.name for t, _ in FAMILIES])
def test_a_family_walks_through_the_protocol(prepared: None, task: Any, method: Any, tmp_path: Path) -> None:
    tier = task.tiers["smoke"]
    spec = Spec(task.name, task.version, "smoke", "closed", tier.cases[0], tier.targets[0], seed=0)
    run = ChildRun(spec, tmp_path / "checkpoint.pt", lambda event: None)
    problem = task.problem(spec, run)

    # a Solution crosses processes whole
    torch.save(method.solve(problem), tmp_path / "solution.pt")
    solution = torch.load(tmp_path / "solution.pt", weights_only=False)

    bundle.write_table(task.examine(problem, solution), tmp_path / "evidence.parquet")
    evidence = bundle.read_table(tmp_path / "evidence.parquet")
    assert {k: v.dtype.name for k, v in evidence.items()} == dict(task.columns)
    assert set(task.truth) <= set(evidence)
    assert (evidence["row"] == np.arange(len(evidence["row"]))).all()

    measures = task.score(spec, evidence)
    assert task.score(spec, bundle.read_table(tmp_path / "evidence.parquet")) == measures
    assert any(m.name == task.ranked and m.part == "" and m.direction for m in measures)
    assert all(math.isfinite(m.value) for m in measures)
    assert len({(m.name, m.part) for m in measures}) == len(measures)

    kept = {m.name: m.value for m in task.weigh(problem, solution)}
    assert set(kept) >= {f"kept.{name}" for name in spec.targets}

    theirs = {w.name: w for w in task.workloads(problem, task.parent(problem))}
    played = 0
    for ours in task.workloads(problem, solution):
        try:
            calls = ours.prepare(), theirs[ours.versus or ours.name].prepare()
        except Unsupported as reason:
            assert str(reason)
            continue
        for call in calls:
            call()
        played += 1
    assert played
    assert task.speed in theirs
    operations = task.operations(problem, solution)
    assert operations.layers or operations.warnings
