"""Make an image classifier smaller: who keeps its accuracy, and is it faster in fact?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite import parallel
from suite.naming import UserError
from suite.protocol import Measure, Operations, Run, Spec, Table, Task, Tier, Workload
from suite.show import Show
from tasks.common.cases import data_and_model, shapes_digest
from tasks.common.libraries import LIBRARIES
from tasks.common.scoring import by_class, calibration_error
from tasks.common.truth import class_names, entry
from tasks.images.problem import Network, PrunableProblem
from tasks.images.recipes import Sgd

#: epochs by tier and set
EPOCHS = {
    ("small", "clothing10"): 22,
    ("paper", "imagenet"): 250,
}
EPOCHS_ELSE = {"smoke": 3, "small": 16, "paper": 160}
#: Small tiers train in fp32: bf16 is twice as fast where a processor has it, and was twelve times slower where it has not.
PRECISION = {"smoke": "fp32", "small": "fp32", "paper": "bf16"}
SMOKE = {"train": 512, "val": 128, "test": 256}
BATCH = 128
BATCHES = {"imagenet": 1024}
RECIPE = Sgd()
#: where a set has a recipe of its own instead of the CIFAR line: the one of CHEX's released code
RECIPES = {"imagenet": Sgd(1.024, 2.0**-15, momentum=0.875, warmup=8, label_smoothing=0.1, mixup=0.2)}
INFER = (1, 64, 256)


@dataclass
class ImageProblem(PrunableProblem):
    """What a method of this task is given."""

    @property
    def size(self) -> int:
        """Height and width of an image."""
        return self.input[-1]


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
    shares_batches = True
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
                "recipe": f"{RECIPE.summary(BATCH)}; random crop and flip",
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
                "recipe": f"CIFAR: {RECIPE.summary()}; ImageNet: {RECIPES['imagenet'].summary()}",
                "precision": "training in bf16 autocast, evaluation in fp32",
                "speed": "timed in fp32 (IEEE's); on a GPU once more in TF32, and with bf16 weights and inputs",
            },
        ),
    }

    def digest(self, spec: Spec) -> str:
        from tasks.image_pruning import data
        from tasks.images import datasets

        name, _ = _case(spec)
        if spec.division == "speed":
            return shapes_digest(name)
        return datasets.digest(data.locate(name, spec.data), own=name not in data.EMBEDDED)

    def problem(self, spec: Spec, run: Run) -> ImageProblem:
        import torch

        from tasks.image_pruning import data

        name, architecture = _case(spec)
        if spec.division == "speed":
            # epochs without batches: a few of them let every schedule come to its end
            source = data.shapes(name)
            epochs = EPOCHS_ELSE["smoke"]
        else:
            source = data.source(name, spec.data, SMOKE if spec.tier == "smoke" else None)
            epochs = EPOCHS.get((spec.tier, name), EPOCHS_ELSE[spec.tier])
        batch = min(BATCHES.get(name, BATCH), source.train_count)
        device = torch.device(parallel.own_device(spec.device))
        recipe = RECIPES.get(name, RECIPE)
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
        from tasks.image_pruning import data

        name, _ = _case(spec)
        source = data.source(name, spec.data, SMOKE if spec.tier == "smoke" else None)
        label = np.concatenate([y.numpy() for _, y in source.evaluate("test", 5000)])
        columns = {"row": np.arange(len(label)), "label": label}
        return entry(self, spec, name, columns, source.classes)

    def workloads(self, problem: ImageProblem, solution: Network) -> list[Workload]:
        """Inference at three batch sizes: as deployed (batch norms folded), fp32, channels last, one fixed random input.

        On a GPU the speed division asks again in TF32 (``infer@64/tf32``) and with bf16 weights and inputs, parent and
        candidate alike.
        """

        from tasks.images import workloads

        several = problem.device.type == "cuda" and problem.spec.division == "speed"
        precisions = workloads.PRECISIONS if several else workloads.PRECISIONS[:1]
        return workloads.inference(solution.model, problem.input, problem.device, INFER, precisions)

    def operations(self, problem: ImageProblem, solution: Network) -> Operations:
        return problem.count(solution.model)

    def weigh(self, problem: ImageProblem, solution: Network) -> list[Measure]:
        """Multiply-adds and weights, kept and left, against the dense parent."""
        from tasks.images.kept import kept

        parent = self.parent(problem).model
        return kept(problem.count(solution.model), solution.model, problem.count(parent), parent)


def _case(spec: Spec) -> tuple[str, str]:
    name, architecture = data_and_model(spec, "fashion/resnet20")
    if spec.tier == "paper" and name in ("fashion", "clothing10"):
        raise UserError(f"{name} is a set of the small tier; use --tier small")
    return name, architecture
