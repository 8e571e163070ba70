"""Make a classifier smaller without making one group pay: who is served worse afterwards, and is it faster in fact?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from suite import parallel
from suite.naming import UserError
from suite.protocol import Measure, Operations, Run, Spec, Table, Task, Tier, Workload
from suite.show import Parts, Reach, Show, Tradeoff
from tasks.common.cases import data_and_model, shapes_digest
from tasks.common.fairness import fairness
from tasks.common.libraries import LIBRARIES
from tasks.common.truth import class_names, entry
from tasks.fair_pruning import sets
from tasks.fair_pruning.problem import FairNetwork, FairProblem, labelled
from tasks.images.recipes import Sgd

__all__ = ["FairNetwork", "FairProblem", "FairPruning"]  # what methods import

EXAMPLE = "adult/mlp-128-64"
SMOKE = {"train": 768, "val": 128, "test": 512}
INFER = (1, 256)
MOST_CLASSES = 256  #: of a set whose classes nobody knows; ours have 10 at most
MOST_CELLS = 2**22  #: groups times classes times classes: counts of a resample, 64 MB


class FairPruning(Task[FairProblem, FairNetwork]):
    """Smaller classifiers and the groups that they serve: the worst group first, and how far groups lie apart."""

    name = "fair_pruning"
    version = 1
    question = "Make a classifier smaller without making one group pay."
    parent_method = "dense"
    ranked = "worst_group"
    beside = ("accuracy", "accuracy_gap", "demographic_parity_gap", "equalized_odds_gap")
    speed = "infer@256"
    promised = "macs_nonzero/macs_parent"
    within = {"macs_nonzero": "macs"}
    quotients = {"kept.macs": "macs/macs_parent"}
    libraries = (*LIBRARIES, "fairlearn")
    columns = {
        "row": "int32",
        "label": "int16",
        "group": "int16",
        "prediction": "int16",
        "chance": "float32",  # that a randomised classifier answers so; 1 of every other
        "confidence": "float16",
        "dense": "int16",  # what the dense network answered that it was cut from; -1: there was none
    }
    truth = ("row", "label", "group")
    evidence_bytes = 4_000_000
    show = Show(
        shares={"kept.nonzero": "Weights left", "kept.filters": "Filters left"},
        words={"worst_group": "accuracy of the worst group", "nonzero": "weights"},
        families={"infer": "Batch"},
        parts=(Parts("group_accuracy", "group"),),
        tradeoff=Tradeoff(
            "accuracy",
            "accuracy_gap",
            sweeps={
                "bifp": "fairness",
                "p_and_f": "fairness",
                "f_and_p": "fairness",
                "dense_fair": "fairness",
                "fairprune": "beta",
                "ceag": "tolerance",
                "exponentiated_gradient": "eps",
            },
            floor="majority",
        ),
        reach=Reach(
            "Until it is fair",
            {"iterations_to_fair": "Iterations", "gradients_to_fair": "Gradients"},
            {"seconds_to_fair": "Seconds"},
            "Fair: the gap in accuracy is at most half the dense network's, and accuracy at most a point lower, looked at every"
            " 50 iterations after the dense network; two-level methods take two gradients an iteration. [How](../fairness.html)",
            apart=("snip", "grasp", "exponentiated_gradient", "grid_search"),
        ),
        notes=(
            "Gaps are the largest accuracy or rate of a group less the smallest. A rate that a group has no example for is"
            " undefined here and never 0: [where a library prints another number](../fairness.html).",
        ),
        cautions=sets.CAUTIONS,
        sources=sets.SOURCES,
    )
    tiers = {
        "smoke": Tier(
            ("adult/mlp-128-64", "digits/cnn-16-32"),
            ("nonzero=0.2",),
            300,
            {"data": "768 training, 512 test examples", "epochs": "2 + 2"},
        ),
        "small": Tier(
            ("adult/mlp-128-64", "compas/mlp-32-16", "digits/cnn-16-32", "clothing_kids/cnn-32-64-128-bn"),
            ("nonzero=0.05", "nonzero=0.2", "nonzero=0.02", "nonzero=0.25", "nonzero=0.125", "filters=0.5", "filters=0.25"),
            3600,
            sets.CONDITIONS["small"],
        ),
        "paper": Tier(
            (
                *(f"{s}/{n}" for s in ("celeba-blond", "celeba-bags") for n in ("resnet10", "mobilenet_v2")),
                *(f"{s}/{n}" for s in ("lfw-wavy", "lfw-nose") for n in ("resnet10", "mobilenet_v2")),
                *(f"{s}/mobilenet_v2" for s in ("utkface-gender", "utkface-race")),
                *(f"{s}/resnet34" for s in ("fairface-gender", "fairface-race")),
                *(f"acsincome-{s}/mlp-128-64" for s in ("sex", "race")),
            ),
            ("nonzero=0.1074", "nonzero=0.0225", "filters=0.5", "filters=0.25"),
            14 * 86_400,
            sets.CONDITIONS["paper"],
        ),
    }

    def digest(self, spec: Spec) -> str:
        from tasks.fair_pruning import data

        name, _ = _case(spec)
        return shapes_digest(name) if spec.division == "speed" else data.digest(name, spec.data)

    def problem(self, spec: Spec, run: Run) -> FairProblem:
        import torch

        from tasks.fair_pruning import data

        name, architecture = _case(spec)
        plan = sets.plan(name, spec.tier)
        if spec.division == "speed":
            source = data.shapes(name)
            rows = np.arange(2 * plan.batch), np.arange(plan.batch)
        else:
            source = data.source(name, spec.data, SMOKE if spec.tier == "smoke" else None)
            rows = data.parts(name, spec.data, source, run.seed("parts"))
        first, second = (torch.from_numpy(np.ascontiguousarray(r)) for r in rows)
        batch = min(plan.batch, len(first), len(second))
        recipe = Sgd(plan.lr, plan.pretrain_decay, momentum=plan.momentum)
        names = sets.names(name) or _own_names(source)
        return FairProblem(
            spec,
            run,
            source,
            architecture,
            plan.pretrain + plan.tune,
            batch,
            "bf16" if spec.tier == "paper" else "fp32",
            torch.device(parallel.own_device(spec.device)),
            labelled(recipe),
            plan.pretrain,
            first,
            second,
            names,
            labelled(recipe, weight_decay=plan.tune_decay),
        )

    def parent(self, problem: FairProblem) -> FairNetwork:
        return FairNetwork(problem.model())

    def examine(self, problem: FairProblem, solution: FairNetwork) -> Table:
        from tasks.fair_pruning.mixture import answers

        label, prediction, chance, confidence = answers(problem, solution.model)
        dense = np.full(len(label), -1)
        if solution.dense is not None:
            _, dense, _, _ = answers(problem, solution.dense.to(problem.device))
        group = problem.source.columns("test")[problem.source.group]
        columns = {
            "row": np.arange(len(label)),
            "label": label,
            "group": group,
            "prediction": prediction,
            "chance": chance,
            "confidence": confidence,
            "dense": dense,
        }
        return {k: columns[k].astype(kind) for k, kind in self.columns.items()}

    def score(self, spec: Spec, evidence: Table) -> Sequence[Measure]:
        """Accuracy of all, of the worst group and of each, and how far groups lie apart (`tasks.common.fairness`).

        Intervals are percentiles of 1,000 resamples of the test examples within each group.
        Raises UserError where the evidence cannot be what it says.
        """
        name, _ = _case(spec)
        confidence, chance = (evidence[k].astype(np.float64) for k in ("confidence", "chance"))
        if len(confidence) == 0 or not all(np.isfinite(v).all() and v.min() >= 0 and v.max() <= 1 for v in (confidence, chance)):
            raise UserError("evidence: confidence and chance must lie in 0..1 and there must be rows; run the method again")
        columns = {k: evidence[k].astype(np.int64) for k in ("label", "prediction", "group", "dense")}
        classes = class_names(self.name, spec.tier, spec.case)
        count = max(len(classes), 1 + int(max(columns["label"].max(), columns["prediction"].max())), 2)
        for column in ("prediction", "dense"):  # counts are taken by class: one class too many is memory for all of them
            if columns[column].max() >= (most := len(classes) or MOST_CLASSES):
                raise UserError(f"evidence: {column} {columns[column].max()} is none of {most} classes; run the method again")
        if count**2 * len(np.unique(columns["group"])) > MOST_CELLS:
            raise UserError(f"evidence: too many groups to be counted by {count} classes; run the method again")
        try:
            return fairness(
                columns["label"],
                columns["prediction"],
                columns["group"],
                count,
                names=sets.names(name),
                class_names=classes,
                chance=chance,
                dense=columns["dense"],
                favourable=sets.favourable(name),
            )
        except ValueError as e:
            raise UserError(f"evidence: {e}; run the method again") from e

    def truth_of(self, spec: Spec) -> dict[str, Any]:
        """What truth.toml says of a case: digests of rows, labels and groups, taken from the data."""
        from tasks.fair_pruning import data

        name, _ = _case(spec)
        source = data.source(name, spec.data, SMOKE if spec.tier == "smoke" else None)
        label = np.concatenate([y.numpy() for _, y in source.evaluate("test", 5000)])
        columns = {"row": np.arange(len(label)), "label": label, "group": source.columns("test")[source.group]}
        return entry(self, spec, name, columns, source.classes)

    def workloads(self, problem: FairProblem, solution: FairNetwork) -> list[Workload]:
        """Inference of 256 examples as deployed: see `tasks.fair_pruning.deploy`; of a mixture one member answers.

        In the speed division of a single one as well.
        """
        import torch

        def prepare(batch: int) -> Any:
            from tasks.fair_pruning.deploy import deploy
            from tasks.fair_pruning.mixture import likeliest

            generator = torch.Generator().manual_seed(0)
            layout = torch.channels_last if len(problem.input) == 3 else torch.contiguous_format
            x = torch.randn(batch, *problem.input, generator=generator).to(problem.device, memory_format=layout)
            return deploy(likeliest(solution.model).to(problem.device), x)[0]

        batches = INFER if problem.spec.division == "speed" else INFER[-1:]
        return [Workload(f"infer@{n}", lambda n=n: prepare(n), items=n) for n in batches]

    def operations(self, problem: FairProblem, solution: FairNetwork) -> Operations:
        from tasks.fair_pruning.mixture import likeliest

        return problem.count(likeliest(solution.model))

    def weigh(self, problem: FairProblem, solution: FairNetwork) -> list[Measure]:
        """Multiply-adds, weights and filters kept and left, the file's bytes, and when it first was fair."""
        from tasks.fair_pruning.deploy import file_bytes
        from tasks.fair_pruning.mixture import likeliest, members
        from tasks.images.kept import kept

        parent, model = self.parent(problem).model, likeliest(solution.model)
        found = kept(problem.count(model), model, problem.count(parent), parent)
        every = members(solution.model)
        ours, theirs = sum(map(file_bytes, every)), file_bytes(parent)
        found += [
            Measure("file_bytes", ours, "B", "down", source="meter"),
            Measure("file_share", ours / theirs, "", "down", source="meter"),
        ]
        if len(every) > 1:
            found.append(Measure("members", len(every), "", "down", source="meter"))
        before, left = (sum(g.width for g in _filters(problem, m)) for m in (parent, model))
        if before:
            found.append(Measure("kept.filters", left / before, "", "down", source="meter"))
        units = {"seconds_to_fair": "s"}
        return [*found, *(Measure(n, v, units.get(n, ""), "down", source="meter") for n, v in solution.reached.items())]


def _own_names(source: Any) -> tuple[str, ...]:
    """Names of the groups of a set that is not among ours: its own, as far as it gives them, or their numbers."""
    if not source.group:
        return "group 0", "group 1"
    given = [str(n) for n in getattr(getattr(source, "examples", None), "names", {}).get(source.group, ())]
    count = 1 + max(int(source.columns(split)[source.group].max(initial=0)) for split in ("train", "test"))
    return tuple(given[g] if g < len(given) else f"group {g}" for g in range(count))


def _filters(problem: FairProblem, model: Any) -> list[Any]:
    import torch

    try:
        groups = problem.groups(model)
    except (AttributeError, UserError):
        return []
    return [g for g in groups if g.consumer is not None and isinstance(g.layer, torch.nn.Conv2d)]


def _case(spec: Spec) -> tuple[str, str]:
    name, architecture = data_and_model(spec, EXAMPLE)
    if spec.tier == "paper" and name in sets.SMALL:
        raise UserError(f"{name} is a set of the small tier; use --tier small")
    if spec.tier != "paper" and spec.division != "speed" and name in sets.CASES and name not in sets.SMALL:
        raise UserError(f"{name} is a set of the paper tier; use --tier paper")
    return name, architecture
