"""Make an image classifier smaller: who keeps its accuracy, and is it faster in fact?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from suite import parallel
from suite.naming import UserError
from suite.protocol import Measure, Operations, OverBudget, Problem, Run, Spec, Table, Task, Tier, Workload
from suite.show import Show
from tasks.classification import by_class, data_and_model, shapes_digest
from tasks.libraries import LIBRARIES
from tasks.truth import class_names, entry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.image_pruning.models import ChannelGroup
    from tasks.image_pruning.sources import Source

#: epochs by tier and set (chex.md 3 and 6; pruning_baselines.md 2.4)
EPOCHS = {
    ("small", "clothing10"): 22,
    ("paper", "imagenet"): 250,
}
EPOCHS_ELSE = {"smoke": 3, "small": 16, "paper": 160}
#: Small tiers train in fp32: bf16 is twice as fast where a processor has it, and was twelve times slower where it has not.
PRECISION = {"smoke": "fp32", "small": "fp32", "paper": "bf16"}
SMOKE = {"train": 512, "val": 128, "test": 256}
BATCHES = {"imagenet": 1024}
#: where a set has a recipe of its own instead of the CIFAR line, as fields of `reference_impls.parts.training.Recipe` (chex.md 3)
RECIPES: dict[str, dict[str, float]] = {
    "imagenet": {
        "lr": 1.024,
        "momentum": 0.875,
        "weight_decay": 2.0**-15,
        "warmup": 8,
        "label_smoothing": 0.1,
        "mixup": 0.2,
    }
}
INFER = (1, 64, 256)
#: how a GPU is asked to compute in the speed division; a processor here has no use for the others
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Network:
    """The Solution: the network that is deployed, and what its method noted about it."""

    model: nn.Module
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ImageProblem(Problem):
    """Data, models and a budget of examples.  Methods see training and validation images, never a test label."""

    source: Source
    architecture: str
    epochs: int
    batch: int
    precision: str  #: of the training autocast: bf16 or fp32
    device: torch.device
    recipe: Mapping[str, Any] = field(default_factory=dict)  #: the set's own recipe, the same for every method
    _spent: int = 0

    @property
    def classes(self) -> int:
        return len(self.source.classes)

    @property
    def size(self) -> int:
        """Height and width of an image."""
        return self.source.size

    @cached_property
    def steps_per_epoch(self) -> int:
        return self.source.train_count // self.batch

    @property
    def budget(self) -> int:
        """Examples that a closed run may see: the same for every method."""
        return self.epochs * self.steps_per_epoch * self.batch

    @property
    def input(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def model(self, widths: Mapping[str, int] | None = None) -> nn.Module:
        """A fresh network on the device, its initial weights addressed by the seed; thin where widths are given."""
        import torch

        from tasks.image_pruning.models import build

        with torch.random.fork_rng():
            torch.manual_seed(self.run.seed("init"))
            model = build(self.architecture, self.classes, self.size, widths)
        return model.to(self.device, memory_format=torch.channels_last)

    def groups(self, model: nn.Module) -> list[ChannelGroup]:
        """Prunable inner channels of a network, in module order."""
        from tasks.image_pruning.models import channel_groups

        return channel_groups(model)

    def compact(self, model: nn.Module, keep: Mapping[str, torch.Tensor]) -> nn.Module:
        """A physically smaller copy, its logits equal to the masked network's."""
        from tasks.image_pruning.models import compact

        return compact(model, keep)

    def macs(self, model: nn.Module) -> int:
        """Multiply-adds of one image, counted on the network itself."""
        return int(self.count(model).total("macs"))

    def count(self, model: nn.Module) -> Operations:
        import torch

        from suite.meters import operations

        return operations.count(model, (torch.zeros(1, *self.input, device=self.device),))

    @cached_property
    def _layers(self) -> list[tuple[int, str, str, int, int]]:
        """A line a dense layer: MACs at a width of one in and out, groups that rule out and in, dense widths."""
        model = self.model()
        groups = self.groups(model)
        modules = dict(model.named_modules())
        names = {id(m): n for n, m in modules.items()}
        rules_in = {names[id(g.consumer)]: g.name for g in groups if g.consumer is not None}
        sliced = {g.name for g in groups if g.consumer is not None}
        rows = []
        for layer in self.count(model).layers:
            if not layer["macs"]:
                continue
            weight = modules[layer["name"]].weight
            c_out, c_in = int(weight.shape[0]), int(weight.shape[1])
            unit = int(layer["macs"]) // (c_out * c_in)
            rows.append((unit, layer["name"] if layer["name"] in sliced else "", rules_in.get(layer["name"], ""), c_out, c_in))
        return rows

    def macs_of(self, widths: Mapping[str, int]) -> int:
        """Multiply-adds of the network with these inner widths (dense where not named), without building it."""
        return sum(u * widths.get(o, c_out) * widths.get(i, c_in) for u, o, i, c_out, c_in in self._layers)

    @cached_property
    def dense_macs(self) -> int:
        return self.macs_of({})

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Augmented training batches of an epoch, on the device; order and augmentation addressed by the seed.

        Spends the budget; an overdraft raises OverBudget.  Empty in the `speed` division.
        """
        if self.spec.division == "speed":
            return
        mine = parallel.share(self.batch)
        for x, y in self.source.train(self.run.seed("order", epoch), self.run.seed("augment", epoch), self.batch, mine):
            self._book(self.batch)
            yield self._to_device(x), y.to(self.device, non_blocking=True)

    def sample(self, count: int, purpose: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Training images without augmentation for scoring; they count against the budget like any others."""
        return next(self.samples(count, purpose, count))

    def samples(self, count: int, purpose: str, piece: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The images of `sample`, at most `piece` of them on the device at once; all are booked with the first."""
        self._book(count)
        for x, y in self.source.sample(count, self.run.seed(purpose), piece):
            yield self._to_device(x), y.to(self.device)

    def distribute(self, model: nn.Module) -> nn.Module:
        """What a training step calls: the model, or its wrapper that averages gradients over processes."""
        return parallel.distribute(model)

    def validate(self, model: nn.Module) -> float:
        """Top-1 on the validation split in per cent, eval mode, off the clock: for choices."""
        if self.spec.division == "speed":
            return float("nan")
        with self.run.off_clock():
            label, prediction, _ = self.predict(model, "val")
        return 100 * float((label == prediction).mean())

    def predict(self, model: nn.Module, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, predictions and confidences over a split, fp32, in stored order."""
        import torch

        was = model.training
        model.eval()
        columns: list[tuple[Any, Any, Any]] = []
        with torch.inference_mode():
            for x, y in self.source.evaluate(split, 500):
                p = model(self._to_device(x)).float().softmax(1)
                confidence, prediction = p.max(1)
                columns.append((y, prediction.cpu(), confidence.cpu()))
        model.train(was)
        label, prediction, confidence = (torch.cat(c).numpy() for c in zip(*columns, strict=True))
        return label, prediction, confidence

    def _book(self, count: int) -> None:
        self._spent = max(self._spent, getattr(self.run, "examples", 0)) + count
        if self.spec.division == "closed" and self._spent > self.budget:
            raise OverBudget(f"{self._spent:,} examples asked, {self.budget:,} granted")
        self.run.spend(count)

    def _to_device(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return x.to(self.device, memory_format=torch.channels_last, non_blocking=True)


class ImagePruning(Task[ImageProblem, Network]):
    """Compressing image classifiers: accuracy by class, saving on paper and in fact."""

    name = "image_pruning"
    version = 1
    question = "Make an image classifier smaller. Who keeps its accuracy, and is it faster in fact?"
    parent_method = "dense"
    ranked = "top1"
    beside = ("worst_class", "balanced_accuracy")
    speed = "infer@64"
    promised = "macs_nonzero/macs_parent"
    within = {"macs_nonzero": "macs"}
    quotients = {"kept.macs": "macs/macs_parent"}
    libraries = LIBRARIES
    show = Show(
        shares={"kept.macs": "Structural MACs", "kept.nonzero": "Weights left"},
        words={"top1": "accuracy", "macs": "MACs"},
        families={"infer": "Batch"},
    )
    columns = {"row": "int32", "label": "int16", "prediction": "int16", "confidence": "float16"}
    truth = ("row", "label")
    tiers = {
        "smoke": Tier(("fashion/resnet20",), ("macs=0.5",), 300, {"data": "512 training, 256 test images", "epochs": "3"}),
        "small": Tier(
            ("fashion/resnet20", "clothing10/resnet20"),
            ("macs=0.5", "macs=0.25", "macs=0.75"),
            3600,
            {
                "data": "Fashion-MNIST, 12,000 training and 10,000 test images of 16x16 (means of 2x2 pixels, a frame of one),"
                " grey repeated to three channels",
                "budget": "16 epochs (clothing10, 32x32: 22) of examples for every method, search and fine-tuning included",
                "recipe": "SGD 0.1, momentum 0.9, weight decay 5e-4, batch 128, cosine; random crop and flip",
                "precision": "training, evaluation and timing in fp32",
            },
        ),
        "paper": Tier(
            (
                "cifar10/resnet20",
                "cifar10/resnet56",
                "cifar10/resnet18",
                "cifar10/vgg16",
                "cifar100/resnet56",
                "cifar100/vgg19",
                *(f"imagenet/{n}" for n in ("resnet18", "resnet34", "resnet50", "resnet101")),
            ),
            ("macs=0.5", "macs=0.25"),
            14 * 86_400,
            {
                "budget": "CIFAR: 160 epochs at batch 128; ImageNet: 250 at 1024; search and fine-tuning included",
                "recipe": "CIFAR: SGD 0.1, momentum 0.9, weight decay 5e-4, cosine; ImageNet: SGD 1.024, momentum 0.875,"
                " weight decay 2^-15, 8 epochs of warm-up, cosine, label smoothing 0.1, mixup 0.2",
                "precision": "training in bf16 autocast, evaluation in fp32",
                "speed": "timed in fp32 (IEEE's); on a GPU once more in TF32, and with bf16 weights and inputs",
            },
        ),
    }

    def digest(self, spec: Spec) -> str:
        from tasks.image_pruning import data

        name, _ = _case(spec)
        if spec.division == "speed":
            return shapes_digest(name)
        return data.digest(data.locate(name, spec.data))

    def problem(self, spec: Spec, run: Run) -> ImageProblem:
        import torch

        from tasks.image_pruning import sources

        name, architecture = _case(spec)
        if spec.division == "speed":
            # epochs without batches: a few of them let every schedule come to its end
            source: Source = sources.Shapes(name)
            epochs = EPOCHS_ELSE["smoke"]
        else:
            source = sources.open_source(name, spec.data, SMOKE if spec.tier == "smoke" else None)
            epochs = EPOCHS.get((spec.tier, name), EPOCHS_ELSE[spec.tier])
        batch = min(BATCHES.get(name, 128), source.train_count)
        device = torch.device(parallel.own_device(spec.device))
        recipe = RECIPES.get(name, {})
        return ImageProblem(spec, run, source, architecture, epochs, batch, PRECISION[spec.tier], device, recipe)

    def parent(self, problem: ImageProblem) -> Network:
        return Network(problem.model())

    def examine(self, problem: ImageProblem, solution: Network) -> Table:
        label, prediction, confidence = problem.predict(solution.model, "test")
        columns = {"row": np.arange(len(label)), "label": label, "prediction": prediction, "confidence": confidence}
        return {k: v.astype(self.columns[k]) for k, v in columns.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """Top-1, balanced and worst-class accuracy, the accuracy of each class and calibration, in per cent.

        Intervals are Wilson's at 95 %; that of a mean over classes adds the classes' variances.
        Raises UserError where the evidence cannot be what it says.
        """
        label, prediction = evidence["label"].astype(int), evidence["prediction"].astype(int)
        confidence = evidence["confidence"].astype(np.float64)
        if len(label) == 0 or not np.isfinite(confidence).all() or confidence.min() < 0 or confidence.max() > 1:
            raise UserError("evidence: confidence must lie in 0..1 and there must be rows; run the method again")
        measures = by_class("top1", label, prediction, class_names(self.name, spec.tier, spec.case))
        error = calibration_error(confidence, label == prediction)
        return [*measures, Measure("calibration_error", 100 * error, "%", "down")]

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a case: digests of rows and labels, taken from the data."""
        from tasks.image_pruning import sources

        name, _ = _case(spec)
        source = sources.open_source(name, spec.data, SMOKE if spec.tier == "smoke" else None)
        label = np.concatenate([y.numpy() for _, y in source.evaluate("test", 5000)])
        columns = {"row": np.arange(len(label)), "label": label}
        return entry(self, spec, name, columns, source.classes)

    def workloads(self, problem: ImageProblem, solution: Network) -> list[Workload]:
        """Inference at three batch sizes: as deployed (batch norms folded), fp32, channels last, one fixed random input.

        On a GPU the speed division asks again in TF32 (``infer@64/tf32``) and with bf16 weights and inputs, parent and
        candidate alike.
        """

        def prepare(batch: int, precision: str) -> Any:
            import torch

            from suite.meters.environment import tf32
            from tasks.image_pruning.models import fold_batch_norms

            generator = torch.Generator().manual_seed(0)
            x = torch.randn(batch, *problem.input, generator=generator).to(problem.device, memory_format=torch.channels_last)
            deployed = fold_batch_norms(solution.model.to(problem.device), x[:2])
            kind = torch.bfloat16 if precision == "bf16" else torch.float32
            model, x = deployed.to(dtype=kind, memory_format=torch.channels_last), x.to(kind)

            def call() -> torch.Tensor:
                with torch.inference_mode():
                    return model(x)  # type: ignore[no-any-return]

            # around each call alone: workloads of several precisions take turns in one process
            return tf32()(call) if precision == "tf32" else call

        several = problem.device.type == "cuda" and problem.spec.division == "speed"
        return [
            Workload(f"infer@{n}" if p == "fp32" else f"infer@{n}/{p}", lambda n=n, p=p: prepare(n, p), items=n)  # type: ignore[misc]
            for p in (PRECISIONS if several else PRECISIONS[:1])
            for n in INFER
        ]

    def operations(self, problem: ImageProblem, solution: Network) -> Operations:
        return problem.count(solution.model)

    def weigh(self, problem: ImageProblem, solution: Network) -> list[Measure]:
        """Multiply-adds and weights, kept and left, against the dense parent."""
        ours, parent = problem.count(solution.model), problem.count(self.parent(problem).model)
        modules = dict(solution.model.named_modules())
        theoretical = 0.0
        weights = 0
        for layer in ours.layers:
            alive, share = _nonzero(modules.get(layer["name"]), layer)
            weights += alive
            theoretical += layer["macs"] * share
        dense_weights = sum(m.weight.numel() for m in _weighted(self.parent(problem).model))
        kept = ours.total("macs") / parent.total("macs")
        return [
            Measure("macs", ours.total("macs"), "", "down", source="meter"),
            Measure("macs_parent", parent.total("macs"), "", "", source="meter"),
            Measure("macs_nonzero", theoretical, "", "down", source="meter"),
            Measure("kept.macs", kept, "", "down", source="meter"),
            Measure("params", ours.total("params"), "", "down", source="meter"),
            Measure("nonzero", ours.total("nonzero"), "", "down", source="meter"),
            Measure("kept.nonzero", weights / dense_weights, "", "down", source="meter"),
        ]


def calibration_error(confidence: np.ndarray, hit: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017, equation 3)."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=confidence, minlength=bins) - np.bincount(index, weights=hit, minlength=bins)
    return float(np.abs(gaps).sum() / len(hit))


def _nonzero(module: nn.Module | None, layer: Mapping[str, Any]) -> tuple[int, float]:
    """Weights of a layer that are not zero, and their share; of what multiplies no weights 0 and 1.

    Where a module has no tensor called weight (attention, int8, a network's own forward), its line of the count stands for
    it.  Normalisation and the like, which multiply nothing that is counted, have no weights here.
    """
    import torch
    from torch import nn

    from suite.meters import operations

    if not layer["macs"] and not isinstance(module, nn.Conv2d | nn.Linear):
        return 0, 1.0
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor):
        alive = operations.nonzero(weight)
        return alive, alive / weight.numel()
    return (layer["nonzero"], layer["nonzero"] / layer["params"]) if layer["params"] else (0, 1.0)


def _weighted(model: nn.Module) -> list[Any]:
    from torch import nn

    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _case(spec: Spec) -> tuple[str, str]:
    name, architecture = data_and_model(spec, "fashion/resnet20")
    if spec.tier == "paper" and name in ("fashion", "clothing10"):
        raise UserError(f"{name} is a set of the small tier; use --tier small")
    return name, architecture
