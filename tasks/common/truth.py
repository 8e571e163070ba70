"""What the data dictate: digests of evidence columns, so that a checker needs neither data nor torch.

``python -m tasks.common.truth TASK [FOLDER OF THE PAPERS' DATA]`` writes ``tasks/<task>/truth.toml`` from the data themselves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.truth import FILE, column_digest, read

if TYPE_CHECKING:
    from suite.protocol import Spec, Task

TASKS = Path(__file__).resolve().parent.parent


@cache
def entries(task: str) -> dict[tuple[str, str], dict[str, Any]]:
    """truth.toml of a task by tier and data name, as `suite.truth.read` gives it."""
    return read(TASKS / task / FILE)


def class_names(task: str, tier: str, case: str) -> tuple[str, ...]:
    """Names of the classes of a case, empty where truth.toml does not know it."""
    entry = entries(task).get((tier, case.partition("/")[0]))
    return tuple(entry["classes"]) if entry else ()


def entry(
    task: Task[Any, Any], spec: Spec, name: str, columns: Mapping[str, np.ndarray], classes: Sequence[str] = ()
) -> dict[str, Any]:
    """What truth.toml says of a Spec's data, from the evidence columns that they dictate; what a task's `truth_of` returns."""
    return {
        "tier": spec.tier,
        "name": name,
        "data": task.digest(spec),
        "rows": len(columns["row"]),
        "columns": {k: column_digest(v, task.columns[k]) for k, v in columns.items()},
        "classes": list(classes),
    }


def describe(entry: Mapping[str, Any]) -> str:
    """One [[case]] table in TOML."""
    columns = ", ".join(f"{k} = {json.dumps(v)}" for k, v in entry["columns"].items())
    lines = [f"{k} = {json.dumps(entry[k], ensure_ascii=False)}" for k in ("tier", "name", "data", "rows", "classes")]
    return "\n".join(["[[case]]", *lines[:4], f"columns = {{ {columns} }}", lines[4], ""])


def main(task_name: str, folder: str = "") -> None:
    """Write truth.toml for every case whose data are at hand; entries of absent data stay as they were."""
    from suite import registry
    from suite.naming import UserError
    from suite.protocol import Spec

    task = registry.task(task_name)
    found = dict(entries(task_name))
    for tier, shape in task.tiers.items():
        for case in shape.cases:
            spec = Spec(task_name, task.version, tier, "closed", case, "", 0, data=folder)
            try:
                found[tier, case.partition("/")[0]] = task.of(case).truth_of(spec)
            except UserError as e:
                print(f"left out {tier} {case}: {e}", file=sys.stderr)
    text = "# Written by `python -m tasks.common.truth`, from the data: digests of what no submission may change.\n\n"
    (TASKS / task_name / FILE).write_text(text + "\n".join(describe(e) for e in found.values()), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
