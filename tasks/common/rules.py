"""What every honest run of a case has in common, read off the task itself, so that a checker needs neither data nor torch.

``python -m tasks.common.rules TASK [RESULTS]`` writes ``tasks/<task>/rules.toml``: budgets, counts of the parent, workloads and
what a case dictates are asked of the task, with its parent untrained; how much more than the budget a method of ours sees where it
trains several networks is the most that committed bundles tell.  Cases whose data are not at hand have rules of their shapes alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from suite import bundle, pictures, registry
from suite.child import ChildRun
from suite.meters import timing
from suite.naming import UserError, parse_target
from suite.protocol import Spec, Table, Task
from suite.rules import FILE, CaseRules, TaskRules, describe, read
from suite.truth import column_digest
from tasks.common.fairness import KINDS

TASKS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class How:
    """What cannot be asked of a task."""

    parent: tuple[str, ...] = ()  #: metered of the parent, the same in each row
    columns: tuple[str, ...] = ()  #: dictated by a case, not by the data alone
    totals: tuple[str, ...] = ()  #: nearly so
    by_layer: bool = False  #: `macs_nonzero` and `kept.nonzero` are sums over layers
    targets: tuple[str, ...] = ()  #: beside those of the tiers
    alike: Mapping[str, str] = field(default_factory=dict)  #: workloads of methods: their items are those of one of the parent's
    timing_seconds: float | None = None
    several: bool = False  #: whether it grants several budgets, as for what runs before the training
    paper: bool = True  #: whether the paper tier's shapes are counted in minutes
    more: Mapping[str, Any] = field(default_factory=dict)  #: further fields of TaskRules
    rows: Callable[[Any], Mapping[str, tuple[float, float]]] | None = None  #: `CaseRules.rows` of a problem
    wholes: Mapping[str, str] = field(default_factory=dict)  #: shares by the amounts that they are of: ``{amount: share}``
    answers: str = ""  #: a column with the answers of the parent
    booked: tuple[str, ...] = ()
    unbooked: tuple[str, ...] = ()


def _cropped(problem: Any) -> dict[str, tuple[float, float]]:
    """A frame's squared error is at least that within its borders, and no patch is smaller than the border it is judged without."""
    height, width = problem.size
    border, shave = problem.scale + 6, problem.scale + 4
    within = (height - 2 * border) * (width - 2 * border)
    return {
        "error_cafm/error_frame": (0.0, height * width / within),
        "patches/pixels": (0.0, 1 / (2 * shave + 1) ** 2),
    }


#: what a machine can do is told by these; all cards that the runner wrote tell them
FACTS = ("processor.model", "processor.cores", "memory.total_gib", "system.os", "software.torch")
#: bytes of memory a parameter: 4 and a little in committed rows, half of that in half precision, more with many buffers
WEIGHTS = {"memory_weights/params": (2.0, 16.0)}
FIGURES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")
SHARES = ("accuracy", "balanced_accuracy", "worst_class", "class_accuracy", "calibration_error")
GPU = {"infer@1/*": "infer@1", "infer@64/*": "infer@64", "infer@256/*": "infer@256"}  #: in other precisions
HOW = {
    "image_pruning": How(
        ("macs_parent",),
        by_layer=True,
        targets=("macs", "nonzero"),
        alike=GPU,
        more={"derived": ("top1", *SHARES), "ratios": WEIGHTS, "percent": ("val_top1",)},
    ),
    "fair_pruning": How(
        ("macs_parent",),
        by_layer=True,
        targets=("filters", "nonzero"),
        alike=GPU,
        timing_seconds=3.0,
        wholes={"file_bytes": "file_share"},
        answers="dense",
        more={
            "derived": tuple(KINDS),
            # a file is compressed: 2 bits a weight are left of a quantised network; units that never answer are not deployed
            "ratios": {"memory_weights/params": (2.0, 2000.0), "file_bytes/nonzero": (0.25, 100.0)},
            "percent": ("val_accuracy", "watched_accuracy", "watched_gap"),
            "ones": {"chance": "members"},
            "only": {"members": ("exponentiated_gradient",)},
            "parentless": {"dense": ("grasp", "snip")},
            "apart": {"dense": ("f_and_p",)},
        },
    ),
    "graph_tickets": How(
        ("macs_parent", "edges_parent", "weights_total"),
        more={
            "derived": (*SHARES, "low_degree", "high_degree", "degree_gap", "roc_auc", "hits_50"),
            "ratios": WEIGHTS,
            "percent": ("val_accuracy",),
        },
    ),
    "flame_detection": How(
        more={
            "derived": (
                *(f"{of}{name}" for of in ("", "frame_", "label_") for name in (*FIGURES, "auc")),
                *("false_alarms", "false_alarm_frames", "smoke_recall", "scene_accuracy", "worst_scene"),
                *("silhouette", "silhouette_cosine", "davies_bouldin", "calinski_harabasz", "dunn", "separation"),
                *("intra_distance", "intra_variance", "smaller_cluster", "variance_kept", "centre_separation"),
            ),
            "ratios": WEIGHTS,
            "inverses": {"frames_per_second": "frame_latency median"},
            "rising": {"frame_latency": ("median", "p95")},
            "percent": ("val_balanced_accuracy",),
            "untrained": ("hysteresis", "max_temperature", "otsu"),
            "runs": {"frame/": "frame_latency"},
        },
    ),
    "mobile_vsr": How(
        several=True,
        columns=("pixels", "pixels_hash"),
        totals=("bytes_video_h264", "bytes_video_h265"),
        rows=_cropped,
        more={
            # networks may share weights, and be sent in half precision
            "ratios": {**WEIGHTS, "bytes:model/params": (0.25, 4.5), "bytes:model_fp16/bytes:model": (0.45, 1.02)},
            "least": {"bytes:header": 32.0},
            "of_largest": {"bytes:model": 2.0, "bytes:model_fp16": 2.0},
            "inverses": {"frames_per_second": "frame_latency p50"},
            "rising": {"frame_latency": ("p50", "p90", "p99")},
            "untrained": ("bicubic",),
            "runs": {"play/": "frame_latency"},
        },
    ),
    "vit_training": How(
        ("images_parent", "train_macs_parent", "total_macs_parent"),
        targets=("tokens", "train_macs"),
        alike={"train_step@*": "train_step@0.5", "before/*": "train_step@0.5", "selector@*": "train_step@0.5"},
        several=True,
        paper=False,
        booked=("train_step@", "before/"),
        unbooked=("data_level_lth arm=random",),  # its parent, that it is held against, and the selector that it does without
        more={
            "derived": ("top1", *SHARES, "tested", "parent_tested", "selector_recall"),
            "percent": ("val_top1", "end_top1"),
            "everywhere": ("train_step@", "before/", "selector@"),
            "closed_within": {"images_processed": "images_parent"},
        },
    ),
}
NETWORKS = 4  #: times the most that a method of ours sees where a task grants several budgets: what any method may see
ALWAYS = ("examples", "train_seconds", "memory_peak", "memory_weights", "solve_resident")  #: metered by the runner


def main(task_name: str, results: str = "results") -> None:
    """Write rules.toml for every case of the tiers, and for cases of committed rows; where data are absent, entries stay."""
    task, how = registry.task(task_name), HOW.get(task_name, How())
    rows = list(_rows(Path(results), task_name))
    cases = {(tier, False, case) for tier, shape in task.tiers.items() for case in shape.cases}
    cases |= {("paper", True, case) for case in task.tiers["paper"].cases} if "paper" in task.tiers and how.paper else set()
    cases |= {(r.spec.tier, r.spec.division == "speed", r.spec.case) for r in rows if r.spec.division != "open"}
    before = read(TASKS / task_name / FILE)
    found, meters = dict(before.cases), set(before.meters)
    for tier, speed, case in sorted(cases):
        mine = [r for r in rows if (r.spec.tier, r.spec.division == "speed", r.spec.case) == (tier, speed, case)]
        try:
            of_case, names = rules_of(task, how, tier, case, speed=speed, rows=mine)
            found[tier, speed, case] = replace(of_case, **from_rows(how, mine, _evidence(Path(results), how, mine)))
        except UserError as e:
            print(f"left out {tier} {case}{' (speed)' if speed else ''}: {e}", file=sys.stderr)
            continue
        print(f"{tier} {case}{' (speed)' if speed else ''}", file=sys.stderr, flush=True)
        meters = meters & names if meters else names
    targets = {name for shape in task.tiers.values() for target in shape.targets for name in parse_target(target)}
    layered = {"left_macs": "macs_nonzero", "left_weights": "kept.nonzero"} if how.by_layer else {}
    asked, needed = tuple(sorted({*targets, *how.targets})), tuple(sorted({*meters, *ALWAYS}))
    derived = {*before.derived, *how.more.get("derived", ()), *(m.name for r in rows for m in r.measures if m.source == "evidence")}
    more = {**how.more, "derived": tuple(sorted(derived)), "facts": FACTS}
    found = of_any(found) if how.several else found
    whole = TaskRules(asked, needed, **layered, timing_seconds=how.timing_seconds, **more, cases=found)
    (TASKS / task_name / FILE).write_text(describe(whole), encoding="utf-8")


def of_any(cases: Mapping[tuple[str, bool, str], CaseRules]) -> dict[tuple[str, bool, str], CaseRules]:
    """Cases in which what a method without rows may see is bounded too: `NETWORKS` times the most that is known in the tier."""
    most: dict[str, int] = {}
    for (tier, speed, _), case in cases.items():
        spent = [n for name, n in case.examples.items() if name != "any"]
        if spent and not speed:
            most[tier] = max(NETWORKS * max(spent), most.get(tier, 0))
    return {
        key: replace(case, examples={**case.examples, "any": most[key[0]]}) if key[0] in most and not key[1] else case
        for key, case in cases.items()
    }


def from_rows(how: How, rows: Sequence[bundle.RunRecord], evidence: Sequence[Table]) -> dict[str, Any]:
    """Fields of CaseRules that committed rows of the case tell, given with their evidence."""
    wholes: dict[str, float] = {}
    for amount, share in how.wholes.items():
        found = [a.value / s.value for r in rows if (a := r.measure(amount)) and (s := r.measure(share)) and s.value]
        if found:
            wholes[f"{amount}/{share}"] = float(np.median(found))
    answers: dict[str, dict[str, str]] = {}
    for record, table in zip(rows, evidence, strict=True):
        if how.answers and record.method.name == registry.task(record.spec.task).parent_method:
            kind = registry.task(record.spec.task).columns[how.answers]
            digest = column_digest(table[how.answers], kind)
            answers.setdefault(record.systems["solve"], {})[str(record.spec.seed)] = digest
    ordered = {card: dict(sorted(seeds.items())) for card, seeds in sorted(answers.items())}
    return {"wholes": wholes, "answers": {how.answers: ordered} if ordered else {}}


def _evidence(results: Path, how: How, rows: Sequence[bundle.RunRecord]) -> list[Table]:
    """The evidence of rows, where rules are taken from it."""
    return [bundle.read_table(bundle.folder(results, r) / bundle.EVIDENCE) if how.answers else {} for r in rows]


def _rows(results: Path, task: str) -> Iterator[bundle.RunRecord]:
    for path in bundle.find(results / task) if (results / task).is_dir() else ():
        record = bundle.read(path)
        if record.status == "ok" and record.method.origin == "reference":
            yield record


def rules_of(
    task: Task[Any, Any], how: How, tier: str, case: str, *, speed: bool, rows: Sequence[bundle.RunRecord]
) -> tuple[CaseRules, set[str]]:
    """The rules of a case, and the names of what is metered of its parent."""
    task = task.of(case)
    division = "speed" if speed else "closed"
    target = next(iter(task.tiers[tier].targets), "")
    first, spec = (Spec(task.name, task.version, tier, division, case, target, seed) for seed in (0, 1))
    task.digest(spec)  # or says what is missing
    problem_0, problem = (task.problem(s, ChildRun(s, Path("/nonexistent/checkpoint"), lambda event: None)) for s in (first, spec))
    solution = task.parent(problem)
    metered = {m.name: m.value for m in task.weigh(problem, solution) if not m.part}
    budget = 0 if speed else int(problem.budget)  # type: ignore[attr-defined]
    timed = {w.name: w.items for w in task.workloads(problem, solution)}
    told = {w.name: w.items for w in task.workloads(problem_0, solution)}
    alike = {name: told[other] for name, other in how.alike.items() if other in told}
    of_jobs = set(timing.of_jobs({**told, **timed}, task.jobs))
    columns, totals = {}, {}
    if not speed and (how.columns or how.totals):
        evidence = task.examine(problem, solution)
        columns = {c: column_digest(evidence[c], task.columns[c]) for c in how.columns}
        totals = {c: float(evidence[c].astype(float).sum()) for c in how.totals}
    layers = [m for m in solution.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)] if how.by_layer else []
    rules = CaseRules(
        tier=tier,
        case=case,
        speed=speed,
        examples=granted(how, budget, rows),
        parent={n: metered[n] for n in how.parent},
        weights=sum(m.weight.numel() for m in layers),
        biases=sum(m.bias.numel() for m in layers if isinstance(m, nn.Conv2d) and m.bias is not None),
        workloads={**told, **{n: i for n, i in timed.items() if n not in told}, **alike},
        timed=tuple(n for n in timed if n not in of_jobs and not _optional(n, task)),
        told=tuple(n for n in told if n not in of_jobs),
        columns=columns,
        totals=totals,
        originals={} if speed else _originals(task, problem_0),
        rows={} if speed or how.rows is None else how.rows(problem),
        booked=how.booked,
        unbooked=how.unbooked,
    )
    return rules, metered.keys() - {"noted"}


def granted(how: How, budget: int, rows: Sequence[bundle.RunRecord]) -> dict[str, int]:
    """The most examples by method, and under ``any`` of every other.

    Where a task grants more than one budget, what a method may see in all is known of those that have rows alone: half more than
    the most of theirs, as settings may ask for more networks.
    """
    spent: dict[str, int] = {}
    for r in rows:
        examples = r.measure("examples")
        if examples is not None and r.spec.division == "closed":
            spent[r.method.name] = max(spent.get(r.method.name, budget), int(examples.value))
    if how.several:
        return {name: int(1.5 * most) for name, most in sorted(spent.items())}
    return {"any": max([budget, *spent.values()])}


def _optional(workload: str, task: Task[Any, Any]) -> bool:
    """Whether some machine or method cannot run it: what other runtimes than eager torch see."""
    return "/" in workload and workload != task.speed


def _originals(task: Task[Any, Any], problem: Any) -> dict[str, str]:
    """Digests of the pixels of the originals that seed 0 shows."""
    gallery = task.show.gallery
    if gallery is None or not task.show.credit(problem.spec.case, problem.spec.seed, problem.spec.division):
        return {}
    crops = gallery.crops(problem, None)
    return {f"{n}{pictures.ORIGINAL}.webp": pictures.fingerprint(pixels) for n, pixels in sorted(crops.items())}


if __name__ == "__main__":
    torch.manual_seed(0)
    main(*sys.argv[1:])
