"""Installs the stand-ins as another package would be: a folder on the path with the package and its ``.dist-info``.

Its entry points are all that the suite learns of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from suite import registry
from suite.child import ChildRun
from suite.protocol import Spec
from suite.truth import column_digest

PACKAGE = Path(__file__).with_name("weighin_standins")
#: class of the task, and its methods by file and class, the parent first
STANDINS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "pruning": ("Pruning", {"dense": "Dense", "thin": "Thin"}),
    "graph": ("Graph", {"whole": "Whole", "random_edges": "RandomEdges"}),
    "vit": ("ViTraining", {"all_tokens": "AllTokens", "fewer_tokens": "FewerTokens"}),
    "fair": ("Fair", {"full": "Full", "smallest": "Smallest"}),
    "flame": ("Flame", {"bce": "Bce", "contrastive": "Contrastive"}),
    "video": ("Video", {"bicubic": "Bicubic", "sharpened": "Sharpened"}),
    "forecast": ("Forecast", {"day_before": "DayBefore", "latest": "Latest"}),
}


def install(folder: Path) -> None:
    """Put package and ``.dist-info`` into a folder."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / f"{PACKAGE.name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weighin-standins\nVersion: 1.0\n", encoding="utf-8")
    lines = ["[weighin.tasks]", *(f"{name} = {PACKAGE.name}.{name}.task:{cls}" for name, (cls, _) in STANDINS.items())]
    lines += ["[weighin.methods]"]
    for name, (_, methods) in STANDINS.items():
        lines += [f"{name}/{method} = {PACKAGE.name}.{name}.{method}:{cls}" for method, cls in methods.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def spec_of(name: str, tier: str) -> Spec:
    task = registry.task(name)
    shape = task.tiers[tier]
    return Spec(name, task.version, tier, "closed", shape.cases[0], shape.targets[0], seed=0)


def write_truth(name: str, folder: Path) -> None:
    """What the data of a stand-in dictate, beside its task, as any task's truth.toml."""
    task, entries = registry.task(name), []
    for tier in task.tiers:
        spec = spec_of(name, tier)
        problem = task.problem(spec, ChildRun(spec, folder / "none.pt", lambda event: None))
        evidence = task.examine(problem, task.parent(problem))
        columns = ", ".join(f'{k} = "{column_digest(evidence[k], task.columns[k])}"' for k in task.truth)
        told = {"tier": tier, "name": spec.case.partition("/")[0], "data": task.digest(spec), "rows": len(evidence["row"])}
        lines = [f"{k} = {json.dumps(v)}" for k, v in told.items()]
        entries.append("\n".join(["[[case]]", *lines, f"columns = {{ {columns} }}", ""]))
    (folder / PACKAGE.name / name / "truth.toml").write_text("\n".join(entries), encoding="utf-8")
