"""Invented bundles of a task whose methods make the training cheaper: what runs told on their way, jobs, and crossed tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from suite import bundle
from suite.board import store, tables
from suite.protocol import Table
from suite.show import Crossed, History, Parts, Show
from tests.suite.board.test_store import HERE, present

if TYPE_CHECKING:
    import duckdb

DRAWS = 5
LOOKS = 24
EPOCH = 1200  #: examples between two looks
PICTURES, COPIES = 120, 3
HITS = {
    "tested:all": "all", "tested:tickets": "ticket", "parent_tested:all": "parent_all", "parent_tested:tickets": "parent_ticket",
}  # fmt: skip


def hits(evidence: Table, measure: str) -> np.ndarray:
    if measure.endswith(":random"):
        return evidence["parent_random" if measure.startswith("parent") else "random"] / DRAWS
    return np.asarray(evidence[HITS[measure]] == evidence["label"])


SHOW = Show(
    words={"top1": "accuracy", "val_top1": "validation accuracy", "tested": "its network", "parent_tested": "the dense network"},
    families={"training": "Training", "training_total": "Training with what ran before", "infer": "Batch"},
    parts=(Parts("class_accuracy", "class"),),
    history=History("val_top1", "Validation accuracy", unit="%"),
    crossed=Crossed(
        "Do the chosen patches suffice?",
        {"tickets": ("chex", "", "tested"), "random": ("random_channels", "", "tested"), "all": ("chex", "", "parent_tested")},
        ("tickets", "random", "all"),
        chosen=("tickets", "tickets"),
        control=("random", "tickets"),
        whole=("all", "all"),
        hits=hits,
        rule="A network trained on chosen patches should be as good on these as [one that sees all](../measurement.html) on all.",
    ),
)  # fmt: skip
JOBS = {"training": ("train_step@",), "training_total": ("train_step@", "before/")}
#: method and variant: accuracy at the end, seconds of the whole training, speed-up of it, examples before it, share of looks
PLAN: Mapping[tuple[str, str], tuple[float, float, float, int, float]] = {
    ("dense", ""): (72.0, 240.0, 1.0, 0, 1.0),
    ("chex", ""): (71.6, 190.0, 1.31, 3000, 1.0),
    ("chase", ""): (71.2, 205.0, 1.19, 0, 1.0),
    ("depgraph", ""): (70.1, 176.0, 1.4, 0, 1.0),
    ("fpgm", ""): (69.4, 170.0, 1.43, 0, 0.8),
    ("gmp", ""): (66.8, 181.0, 1.33, 0, 1.0),
    ("hrank", ""): (70.6, 240.0, 1.01, 0, 1.0),
    ("imp", ""): (71.7, 178.0, 1.36, 0, 0.9),
    ("chex", "score=l1"): (70.9, 189.0, 1.3, 3000, 1.0),
    ("l1_filters", ""): (68.1, 168.0, 1.45, 0, 1.0),
    ("random_channels", ""): (65.0, 166.0, 1.46, 0, 1.0),
    ("uniform_scratch", ""): (64.2, 170.0, 1.41, 0, 0.75),
}
#: share of right answers, by what a network was trained on and is tested on
RIGHT = {
    "tickets": {"tickets": 0.66, "random": 0.4, "all": 0.5},
    "random": {"tickets": 0.52, "random": 0.5, "all": 0.63},
    "all": {"tickets": 0.6, "random": 0.45, "all": 0.7},
}


def curve(end: float, seconds: float, before: int, share: float, draw: Any) -> list[dict[str, Any]]:
    """Looks at even numbers of examples, with a loss between them that nobody asked for."""
    looks, out = round(LOOKS * share), []
    for k in range(1, looks + 1):
        value = 10 + (end - 10) * (1 - np.exp(-5 * k / looks)) / (1 - np.exp(-5)) + draw.normal(0, 0.35)
        at = {"examples": before + EPOCH * k, "seconds": round(seconds * (k + before / EPOCH) / (looks + before / EPOCH), 3)}
        out += [{**at, "name": "train_loss", "value": 2.0 / k}, {**at, "name": "val_top1", "value": float(value)}]
    return out


def answers(right: Mapping[str, Mapping[str, float]], mine: str, seed: int, pictures: int = PICTURES) -> dict[str, np.ndarray]:
    """Evidence of a network trained on `mine` and of one trained on all: hard pictures are hard for everybody."""
    rows = pictures * COPIES
    picture = np.repeat(np.arange(pictures), COPIES)
    hard = np.random.Generator(np.random.Philox(99)).normal(0, 0.2, pictures)[picture]
    draw = np.random.Generator(np.random.Philox([seed, sum(map(ord, mine))]))
    label = (picture % 10).astype(np.int16)

    def told(share: float) -> np.ndarray:
        return np.where(draw.random(rows) < share + hard, label, (label + 1) % 10).astype(np.int16)

    def counted(share: float) -> np.ndarray:
        return draw.binomial(DRAWS, np.clip(share + hard, 0, 1)).astype(np.int8)

    a, b = right[mine], right["all"]
    return {
        "row": np.arange(rows, dtype=np.int32), "label": label, "picture": picture.astype(np.int32), "prediction": told(a["all"]),
        "all": told(a["all"]), "ticket": told(a["tickets"]), "random": counted(a["random"]),
        "parent_all": told(b["all"]), "parent_ticket": told(b["tickets"]), "parent_random": counted(b["random"]),
    }  # fmt: skip


def timed(part: str, speedup: float, seconds: float = 0.0) -> list[dict[str, Any]]:
    """What timing gives of a workload or a job."""
    ends = {"low": 0.99 * speedup, "high": 1.01 * speedup}
    return [
        {"name": "speedup", "part": part, "value": speedup, "direction": "up", "source": "timing", **ends},
        {"name": "time", "part": part, "value": seconds / speedup, "unit": "s", "direction": "down", "source": "timing"},
    ]


def measures(method: str, quality: float, seconds: float, speedup: float, draw: Any) -> list[dict[str, Any]]:
    """What one run measured."""
    told = [
        {"name": "top1", "value": quality, "unit": "%", "direction": "up", "low": quality - 2, "high": quality + 2},
        {"name": "kept.macs", "value": 0.5, "source": "meter"},
        {"name": "macs_nonzero", "value": 5e5 if method != "dense" else 1e6, "source": "meter"},
        {"name": "macs_parent", "value": 1e6, "source": "meter"},
        {"name": "train_seconds", "value": seconds, "unit": "s", "direction": "down", "source": "meter"},
        *timed("training", speedup, 215.0),
        *timed("training_total", speedup * (0.7 if method == "chex" else 1), 215.0),
        *timed("infer@64", 1 + (speedup - 1) / 2, 0.03),
    ]
    for at, point in enumerate((0, 0.2, 0.4) if method == "chase" else (0.5,)):
        peak = {"name": "memory_peak", "part": f"train_step@{point:g}", "value": (90 - 20 * at) * 2**20, "unit": "B"}
        told += [*timed(f"train_step@{point:g}", speedup, 0.05), {**peak, "direction": "down", "source": "meter"}]
    if method == "chex":
        peak = {"name": "memory_peak", "part": "before/selector", "value": 140 * 2**20, "unit": "B"}
        told += [*timed("before/selector", 2.0, 0.05), {**peak, "direction": "down", "source": "meter"}]
    for i in range(10):
        value = quality + 4 - i + draw.normal(0, 0.5)
        told.append({"name": "class_accuracy", "part": f"class {i}", "value": value, "unit": "%", "direction": "up"})
    return told


def write(
    root: Path,
    plan: Mapping[tuple[str, str], tuple[float, float, float, int, float]] = PLAN,
    *,
    seeds: Sequence[int] = range(5),
    right: Mapping[str, Mapping[str, float]] = RIGHT,
    cards: Mapping[int, str] | None = None,
    pictures: int = PICTURES,
) -> Path:
    """Bundles of a plan; `cards`: of those seeds that were solved elsewhere."""
    for at, ((method, variant), (end, seconds, speedup, before, share)) in enumerate(plan.items()):
        for seed in seeds:
            draw = np.random.Generator(np.random.Philox([100 * at, seed]))
            told = measures(method, end + draw.normal(0, 0.3), seconds, speedup, draw)
            arm = {"chex": "tickets", "random_channels": "random"}.get(method) if not variant else None
            files, scratch = {}, root / ".work"
            scratch.mkdir(parents=True, exist_ok=True)
            if arm:
                evidence = answers(right, arm, seed, pictures)
                bundle.write_table(evidence, scratch / bundle.EVIDENCE)
                files = {bundle.EVIDENCE: scratch / bundle.EVIDENCE}
                names = [f"tested:{part}" for part in right]
                names += [f"parent_tested:{part}" for part in right] if arm == "tickets" else []
                for name in names:
                    value = 100 * float(hits(evidence, name).mean())
                    told.append(
                        {
                            "name": name.partition(":")[0],
                            "part": name.partition(":")[2],
                            "value": value,
                            "unit": "%",
                            "direction": "up",
                        }
                    )
            fields: dict[str, Any] = {
                "key": f"{1000 * at + seed + 1:064x}",
                "status": "ok",
                "created": "2026-01-01T00:00:00Z",
                "spec": {"task": "image_pruning", "version": 1, "tier": "small", "division": "closed", "case": "fashion/resnet20",
                         "target": "" if method == "dense" else "macs=0.5", "seed": seed, "device": "cpu"},
                "data": "0" * 64,
                "method": present("image_pruning", {"name": method, "origin": "reference", "version": HERE, "variant": variant}),
                "source": {"weighin": "0.1.0"},
                "libraries": {},
                "systems": {"solve": (cards or {}).get(seed, "c" * 16), "weigh": "c" * 16},
                "measures": told,
                "curve": curve(end, seconds, before + 100 * seed * bool(before), share, draw),
                "files": {n: bundle.describe(p) for n, p in files.items()},
            }  # fmt: skip
            bundle.write(root, bundle.seal(fields), files)
    (root / "systems").mkdir(exist_ok=True)
    (root / "systems" / f"{'c' * 16}.json").write_text('{"processor": {"model": "Invented"}}', encoding="utf-8")
    return root


def publish(root: Path) -> Path:
    """The database of these bundles, beside them, as of a task of this kind."""
    database = root.parent / "b.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        show(patch)
        store.publish(root, database)
    return database


def the_board(db: duckdb.DuckDBPyConnection) -> tables.Board:
    """The one board that there is."""
    (ranking,) = tables.rankings(db)
    return tables.board(db, ranking)


def show(patch: Any) -> None:
    """Let image_pruning be a task of this kind for a test."""
    from suite import registry

    for name, value in (("show", SHOW), ("speed", "training"), ("jobs", JOBS)):
        patch.setattr(type(registry.task("image_pruning")), name, value)
