"""Train a vision transformer on less: who is as accurate at the end, and was the training shorter in fact?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from suite import parallel
from suite.naming import UserError
from suite.protocol import Measure, Operations, Run, Spec, Table, Task, Tier, Workload
from suite.show import Crossed, Gallery, History, Parts, Show
from tasks.common.cases import data_and_model, shapes_digest
from tasks.common.intervals import mean_interval
from tasks.common.libraries import LIBRARIES
from tasks.common.scoring import by_class, calibration_error, share
from tasks.common.truth import class_names, entry
from tasks.vit_training import crops, recipes
from tasks.vit_training.problem import Before, Constant, Schedule, Trained, VitProblem

if TYPE_CHECKING:
    from torch import nn

    from tasks.images.augment import Deit

__all__ = ["Before", "Constant", "Schedule", "Trained", "VitProblem", "VitTraining"]  # what methods import

EXAMPLE = "clothing10/vit-48-6-3-p8"
EPOCHS = {("small", "digits"): 120, ("small", "clothing10"): 40}
EPOCHS_ELSE = {"smoke": 10, "small": 40, "paper": 300}
BATCH, PAPER_BATCH = 48, 1024
SMOKE = {"train": 240, "val": 60, "test": 60}
SMALL_SETS = ("clothing10", "digits")
INFER = 64
DRAWS = 5  #: random patches of each test image, drawn so often
TELLING = 16  #: of the patches of 4 pixels of an image of digits on noise, those that the digit touches
DRAW_SEED = 2023  #: of these draws, the same for every network


COLUMNS = {"all": "all", "tickets": "ticket", "random": "random"}  #: evidence of each way of testing


def hits(evidence: Table, measure: str) -> np.ndarray:
    """Of ``tested:<part>`` or ``parent_tested:<part>`` the share of right answers of each row, 0 to 1."""
    name, _, part = measure.partition(":")
    column = evidence[("parent_" if name == "parent_tested" else "") + COLUMNS[part]]
    return column / DRAWS if part == "random" else column == evidence["label"]


class VitTraining(Task[VitProblem, Trained]):
    """Vision transformers trained on fewer examples, tokens or connections: top-1 at the end of a fixed schedule, and its cost."""

    name = "vit_training"
    version = 1
    question = "Train a vision transformer on less. Who is as accurate at the end, and was it shorter in fact?"
    parent_method = "dense"
    ranked = "top1"
    beside = ("worst_class", "balanced_accuracy")
    speed = "training_total"
    promised = "total_macs/total_macs_parent"
    shares_batches = True
    amounts = ("train_macs_ideal", "train_macs_counted", "total_macs", "total_macs_parent", "images_processed", "images_parent")
    within = {"train_macs_ideal": "train_macs", "train_macs": "total_macs", "solve_train": "solve_total"}
    trained = {"images_processed": ("calls", "train_step@"), "images_parent": ("parent_calls", "train_step@")}
    exceeding = {"total_macs": ("train_macs", "before/")}
    quotients = {
        "kept.train_macs": "train_macs/train_macs_parent",
        "total_macs_share": "total_macs/total_macs_parent",
        "train_macs_ideal_share": "train_macs_ideal/train_macs_parent",
        "train_macs_counted_share": "train_macs_counted/train_macs_parent",
        "examples_share": "images_processed/images_parent",
    }
    jobs = {"training": ("train_step@",), "training_total": ("train_step@", "before/")}
    libraries = (*LIBRARIES, "pillow")
    columns = {
        "row": "int32",
        "label": "int16",
        "picture": "int32",  # which picture it shows: one may be shown several times
        "prediction": "int16",
        "confidence": "float16",
        # answers where the network is given all patches, or the ones that a selector chose; -1: it was not asked
        "all": "int16",
        "ticket": "int16",
        "random": "int8",  # how many of the draws of random patches it answers rightly
        "parent_all": "int16",  # the same of a network that was trained on all patches
        "parent_ticket": "int16",
        "parent_random": "int8",
        "found": "int16",  # how many of the patches that tell the class the selector chose; -1: nobody knows which these are
        "informative": "int16",
    }
    truth = ("row", "label", "picture")
    evidence_bytes = 4_000_000
    show = Show(
        shares={
            "kept.train_macs": "Training MACs",
            "total_macs_share": "with pre-runs",
            "train_macs_ideal_share": "if masks saved",
            "examples_share": "Examples",
        },
        words={
            "top1": "accuracy",
            "train_macs": "training MACs",
            "tokens": "patches",
            "val_top1": "accuracy on the validation split",
            "tested": "accuracy",
            "parent_tested": "accuracy of the network trained on all patches",
        },
        parts=(Parts("class_accuracy", "class"),),
        families={
            "train_step": "Step at",
            "infer": "Batch",
            "before": "Before",
            "training": "Whole training",
            "training_total": "Whole training and what ran before",
        },
        history=History("val_top1", "Validation accuracy", clock=("before/", "train_step@"), unit="%"),
        crossed=Crossed(
            "Trained on, tested on",
            {
                "tickets": ("data_level_lth", "", "tested"),
                "random patches": ("data_level_lth", "arm=random", "tested"),
                "all patches": ("data_level_lth", "", "parent_tested"),
            },
            tuple(COLUMNS),
            chosen=("tickets", "tickets"),
            control=("random patches", "tickets"),
            whole=("all patches", "all"),
            hits=hits,
            rule="A ticket is what a trained selector keeps of an image; random patches are as many.",
        ),
        gallery=Gallery(crops.pictures, "dense", crops.CREDITS, crops.SIZE, crops.RULE),
    )
    tiers = {
        "smoke": Tier(
            ("digits/vit-24-4-2-p4", "clothing10/vit-24-4-2-p8"),
            ("train_macs=0.8", "tokens=0.75"),
            600,
            {"data": "240 training, 60 test images", "epochs": "10"},
        ),
        "small": Tier(
            ("clothing10/vit-48-6-3-p8", "digits/vit-48-6-3-p4"),
            ("train_macs=0.8", "tokens=0.75", "tokens=0.625", "train_macs=0.9", "train_macs=0.7"),
            4 * 3600,
            {
                "data": "clothing10: 3,068 photographs of 64x64, 372 for the test, random crop and flip; digits: 1,257"
                " digits somewhere on noise of 32x32, placed anew each epoch, 360 for the test, three times each",
                "budget": f"{EPOCHS['small', 'clothing10']} epochs (digits: {EPOCHS['small', 'digits']}) at batch {BATCH} for every"
                " method; what runs before them is counted apart",
                "recipe": "AdamW 1e-3, weight decay 0.05, cosine to 1 %, warm-up over a sixtieth of the epochs, no mixing",
                "precision": "training, evaluation and timing in fp32",
            },
        ),
        "paper": Tier(
            tuple(f"imagenet/{n}" for n in ("deit-s", "deit-t", "deit-b", "swin-t", "swin-s", "lvvit-s")),
            ("train_macs=0.85", "tokens=0.735"),
            60 * 86_400,
            {
                "budget": "ImageNet-1k, 300 epochs at batch 1,024; what runs before them is counted apart",
                "recipe": "DeiT's: AdamW 5e-4 a batch of 512, weight decay 0.05, 5 epochs of warm-up, cosine to 1e-5; RandAugment,"
                " mixup, cutmix, erasing, repeated augmentation; Swin's own for Swin",
                "precision": "training in bf16 autocast, evaluation in fp32",
            },
        ),
    }

    def digest(self, spec: Spec) -> str:
        from tasks.vit_training import data

        name, _ = _case(spec)
        return shapes_digest(name) if spec.division == "speed" else data.digest(name, spec.data)

    def problem(self, spec: Spec, run: Run) -> VitProblem:
        import torch

        from tasks.vit_training import data

        name, architecture = _case(spec)
        if spec.division == "speed":
            source = data.shapes(name)
        else:
            source = data.source(name, spec.data, SMOKE if spec.tier == "smoke" else None, _augmentation(spec, architecture))
        epochs = EPOCHS.get((spec.tier, name), EPOCHS_ELSE[spec.tier])
        paper = spec.tier == "paper"
        batch = _paper_batch(source.train_count) if paper else min(BATCH, source.train_count)
        device = torch.device(parallel.own_device(spec.device))
        recipe = recipes.recipe(spec.tier, architecture, batch, epochs)
        problem = VitProblem(spec, run, source, architecture, epochs, batch, "bf16" if paper else "fp32", device, recipe)
        problem.check()
        return problem

    def parent(self, problem: VitProblem) -> Trained:
        return Trained(problem.network())

    def examine(self, problem: VitProblem, solution: Trained) -> Table:
        from tasks.vit_training.examining import examine

        columns = examine(problem, solution, DRAWS, DRAW_SEED)
        return {k: columns[k].astype(kind) for k, kind in self.columns.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """Top-1 by class as a network is ranked, and `tested` on all, on chosen and on random patches, in per cent.

        `parent_tested` tells the same of a network trained on all patches, `selector_recall` the share of the patches that tell
        the class which the selector chose.  Intervals are Wilson's; where pictures are shown several times they are those of as
        many pictures as there are.  Raises UserError where the evidence cannot be what it says.
        """
        columns = {k: evidence[k].astype(np.int64) for k in self.columns if k != "confidence"}
        confidence = evidence["confidence"].astype(np.float64)
        label, prediction = columns["label"], columns["prediction"]
        if len(label) == 0 or not np.isfinite(confidence).all() or confidence.min() < 0 or confidence.max() > 1:
            raise UserError("evidence: confidence must lie in 0..1 and there must be rows; run the method again")
        for name in ("random", "parent_random"):
            if columns[name].min() < -1 or columns[name].max() > DRAWS:
                raise UserError(f"evidence: {name} counts up to {DRAWS} draws, or is -1; run the method again")
        if (columns["found"] > columns["informative"]).any():
            raise UserError("evidence: more patches were found than there are; run the method again")
        _check_asked(columns)
        if spec.case.startswith("digits/") and spec.case.endswith("-p4") and not set(columns["informative"]) <= {-1, TELLING}:
            raise UserError(f"evidence: informative is {TELLING} or -1 for these digits; run the method again")
        pictures = len(np.unique(columns["picture"]))
        measures = by_class("top1", label, prediction, class_names(self.name, spec.tier, spec.case))
        if pictures < len(label):
            measures = _as_of_pictures(measures, columns["picture"], label, label == prediction)
        measures.append(Measure("calibration_error", 100 * calibration_error(confidence, label == prediction), "%", "down"))
        for name, prefix in (("tested", ""), ("parent_tested", "parent_")):
            for part, column in (("all", f"{prefix}all"), ("tickets", f"{prefix}ticket")):
                if (columns[column] >= 0).all():
                    hits = float((columns[column] == label).mean())
                    measures.append(_share(name, hits, pictures, part))
            if (columns[f"{prefix}random"] >= 0).all():
                measures.append(_share(name, float(columns[f"{prefix}random"].mean()) / DRAWS, pictures, "random"))
        known = columns["informative"] > 0
        if known.any() and (columns["found"][known] >= 0).all():
            recall = columns["found"][known].sum() / columns["informative"][known].sum()
            measures.append(Measure("selector_recall", 100 * float(recall), "%", "up"))
        return measures

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a case: digests of rows, labels and pictures, taken from the data."""
        from tasks.vit_training import data
        from tasks.vit_training.examining import pictures

        name, _ = _case(spec)
        source = data.source(name, spec.data, SMOKE if spec.tier == "smoke" else None)
        label = np.concatenate([y.numpy() for _, y in source.evaluate("test", 5000)])
        columns = {"row": np.arange(len(label)), "label": label, "picture": pictures(source, len(label))}
        return entry(self, spec, name, columns, source.classes)

    def deployed(self, solution: Trained) -> nn.Module:
        from tasks.vit_training.examining import deployed

        return deployed(solution)

    def workloads(self, problem: VitProblem, solution: Trained) -> list[Workload]:
        """Training steps at the method's points of the schedule, what runs before them, and inference as it is tested."""
        from tasks.vit_training import costs

        return costs.workloads(problem, solution, INFER)

    def operations(self, problem: VitProblem, solution: Trained) -> Operations:
        return problem.count(self.deployed(solution))

    def weigh(self, problem: VitProblem, solution: Trained) -> list[Measure]:
        """Multiply-adds of the training on paper, with and without what runs before it, and how long the solve took."""
        from tasks.vit_training import costs

        return costs.weigh(problem, solution)


def _augmentation(spec: Spec, architecture: str) -> Deit | None:
    """DeiT's where the paper tier asks for it; Swin's authors show each image once an epoch."""
    from tasks.images.augment import Deit

    if spec.tier != "paper":
        return None
    return Deit(repeats=1) if architecture.startswith("swin") else Deit()


def _paper_batch(count: int) -> int:
    """Images of a step, no more than there are: even in every process, since a batch is mixed with itself back to front."""
    parts = 2 * parallel.world()
    batch = min(PAPER_BATCH, count) // parts * parts
    if not batch:
        raise UserError(f"{count} training images make no batch that {parallel.world()} processes can share; give more of them")
    return batch


def _check_asked(columns: Mapping[str, np.ndarray]) -> None:
    """Raises UserError where some images were asked about and others were not, or the answer that is ranked is neither test's."""
    for name in ("all", "ticket", "random", "parent_all", "parent_ticket", "parent_random", "found"):
        asked = columns[name] >= 0
        if asked.any() and not asked.all():
            raise UserError(f"evidence: {name} is told of some images and not of others; run the method again")
    if ((columns["found"] >= 0) != (columns["informative"] >= 0)).any():
        raise UserError("evidence: found and informative are told of different images; run the method again")
    answers = [columns[name] for name in ("all", "ticket") if (columns[name] >= 0).all()]
    if answers and not any((columns["prediction"] == a).all() for a in answers):
        raise UserError("evidence: prediction is neither the answer on all patches nor that on tickets; run the method again")


def _as_of_pictures(measures: Sequence[Measure], picture: np.ndarray, label: np.ndarray, hit: np.ndarray) -> list[Measure]:
    """The measures of `by_class`, known as well as so many pictures tell: an image that is shown several times tells no more.

    Args:
        picture, label, hit: (n,) of the images; all images of a picture are of one class.
    """
    shown = np.array([len(np.unique(picture[label == k])) for k in range(int(label.max()) + 1)])
    known = np.flatnonzero(shown)
    recall = np.array([hit[label == k].mean() for k in known])
    worst, parts = int(known[np.argmin(recall)]), iter(known.tolist())
    found = []
    for m in measures:
        if m.name == "balanced_accuracy":
            found.append(replace(m, interval=mean_interval(recall, shown[known])))
            continue
        k = next(parts) if m.name == "class_accuracy" else worst if m.name == "worst_class" else None
        found.append(_share(m.name, m.value / 100, int(shown.sum() if k is None else shown[k]), m.part))
    return found


def _share(name: str, share_right: float, pictures: int, part: str) -> Measure:
    """A share of answers in per cent, known as well as that of so many pictures."""
    found = share(name, round(share_right * pictures), pictures, part)
    return Measure(name, 100 * share_right, "%", "up", part, found.interval)


def _case(spec: Spec) -> tuple[str, str]:
    name, architecture = data_and_model(spec, EXAMPLE)
    if spec.tier == "paper" and name in SMALL_SETS:
        raise UserError(f"{name} is a set of the small tier; use --tier small")
    return name, architecture
