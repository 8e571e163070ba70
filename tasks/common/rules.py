"""What every honest run of a case has in common, read off the task itself, so that a checker needs neither data nor torch.

``python -m tasks.common.rules TASK [RESULTS]`` writes ``tasks/<task>/rules.toml``: budgets, counts of the parent, workloads and
what a case dictates are asked of the task, with its parent untrained; how much more than the budget a method of ours sees where it
trains several networks is the most that committed bundles tell.  Cases whose data are not at hand have rules of their shapes alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suite import bundle, pictures, registry
from suite.child import ChildRun
from suite.meters import timing
from suite.naming import UserError, parse_target
from suite.protocol import Spec, Task
from suite.rules import FILE, CaseRules, TaskRules, describe, read
from suite.truth import column_digest

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


GPU = {"infer@1/*": "infer@1", "infer@64/*": "infer@64", "infer@256/*": "infer@256"}  #: in other precisions
HOW = {
    "image_pruning": How(("macs_parent",), by_layer=True, targets=("macs", "nonzero"), alike=GPU),
    "fair_pruning": How(("macs_parent",), by_layer=True, targets=("filters", "nonzero"), alike=GPU, timing_seconds=3.0),
    "graph_tickets": How(("macs_parent", "edges_parent", "weights_total")),
    "mobile_vsr": How(several=True, columns=("pixels", "pixels_hash"), totals=("bytes_video_h264", "bytes_video_h265")),
    "vit_training": How(
        ("images_parent", "train_macs_parent", "total_macs_parent"),
        targets=("tokens", "train_macs"),
        alike={"train_step@*": "train_step@0.5", "before/*": "train_step@0.5", "selector@*": "train_step@0.5"},
        several=True,
        paper=False,
    ),
}
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
            found[tier, speed, case], names = rules_of(task, how, tier, case, speed=speed, rows=mine)
        except UserError as e:
            print(f"left out {tier} {case}{' (speed)' if speed else ''}: {e}", file=sys.stderr)
            continue
        print(f"{tier} {case}{' (speed)' if speed else ''}", file=sys.stderr, flush=True)
        meters = meters & names if meters else names
    targets = {name for shape in task.tiers.values() for target in shape.targets for name in parse_target(target)}
    layered = {"left_macs": "macs_nonzero", "left_weights": "kept.nonzero"} if how.by_layer else {}
    asked, needed = tuple(sorted({*targets, *how.targets})), tuple(sorted({*meters, *ALWAYS}))
    whole = TaskRules(asked, needed, **layered, timing_seconds=how.timing_seconds, cases=found)
    (TASKS / task_name / FILE).write_text(describe(whole), encoding="utf-8")


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
