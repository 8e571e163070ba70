"""Bundles with invented numbers, for tests of checker and board.  Never published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from suite import bundle, registry, system
from suite.meters import timing
from suite.protocol import Measure, Spec

CLASSES = 10


def card(name: str = "Invented processor") -> system.SystemCard:
    return system.SystemCard(
        processor={"model": name, "cores": 2},
        memory={"total_gib": 16.0},
        system={"os": "Linux"},
        software={"torch": "2.13.0"},
        gpu={},
    )


def labels(rows: int) -> np.ndarray:
    """The real test labels of the small tier, so that demo bundles meet truth.toml."""
    with np.load(registry.HOUSE / "tasks/image_pruning/data/fashion_small.npz") as file:
        return np.asarray(file["test_y"][:rows].astype(np.int16))


def evidence(accuracy: float, seed: int, rows: int = 10_000) -> dict[str, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(seed))
    label = labels(rows)
    hard = 1 + (label == 6) * 2.2  # one class is harder, as in life
    wrong = draw.random(rows) < (1 - accuracy) * hard / hard.mean()
    prediction = np.where(wrong, (label + draw.integers(1, CLASSES, rows)) % CLASSES, label).astype(np.int16)
    return {
        "row": np.arange(rows, dtype=np.int32),
        "label": label,
        "prediction": prediction,
        "confidence": draw.uniform(0.3, 1, rows).astype(np.float16),
    }


def blocks(speedup: float, seed: int, quads: int = 12) -> dict[str, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(1000 + seed))
    out = []
    for name, items, base in (("infer@1", 1, 0.0015), ("infer@64", 64, 0.025), ("infer@256", 256, 0.12)):
        for quad in range(quads):
            for side in timing.ORDER:
                calls = max(1, round(0.08 / base))
                per_call = base * (1 if side == "parent" else 1 / speedup) * float(np.exp(draw.normal(0, 0.01)))
                seconds = max(per_call * calls, 0.051)
                out.append(timing.Block(name, side, quad, 4 * quad + len(out) % 4, calls, seconds, items, 0.0, False))
    return timing.to_table(out)


def write(
    root: Path,
    method: str = "chex",
    *,
    target: str = "macs=0.5",
    seed: int = 0,
    variant: str = "",
    accuracy: float = 0.9,
    speedup: float = 1.4,
    kept: float | None = None,
    status: str = "ok",
    machine: system.SystemCard | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """One whole bundle under `root`, its card beside it."""
    machine = machine or card()
    system.write_card(machine, root / "systems")
    task = registry.task("image_pruning")
    spec = Spec("image_pruning", task.version, "small", "closed", "fashion/resnet20", target, seed)
    share = kept if kept is not None else float(target.partition("=")[2] or 1)
    macs = round(share * 31_047_040)
    scratch = root / ".scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    files, measures = {}, []
    noise = sum(map(ord, method + variant + target))
    if status == "ok":
        bundle.write_table(evidence(accuracy, seed * 7919 + noise), scratch / bundle.EVIDENCE)
        bundle.write_table(blocks(speedup, seed + noise), scratch / bundle.TIMING)
        files = {n: scratch / n for n in (bundle.EVIDENCE, bundle.TIMING)}
        measures = [
            *task.score(spec, bundle.read_table(files[bundle.EVIDENCE])),
            *timing.derive(bundle.read_table(files[bundle.TIMING])),
        ]
        measures += [
            Measure("examples", 214_272, "", "down", source="meter"),
            Measure("train_seconds", 170 + seed, "s", "down", source="meter"),
            Measure("macs", macs, "", "down", source="meter"),
            Measure("macs_parent", 31_047_040, "", "", source="meter"),
            Measure("kept.macs", macs / 31_047_040, "", "down", source="meter"),
            Measure("params", 200_000, "", "down", source="meter"),
            Measure("nonzero", 190_000, "", "down", source="meter"),
            Measure("memory_peak", 24e6, "B", "down", "infer@64", None, "meter"),
        ]
    ref = registry.methods("image_pruning")[method]
    fields: dict[str, Any] = {
        "key": f"{noise + seed * 31 + (hash(machine.hash) % 997):064x}",
        "status": status,
        "reason": "" if status == "ok" else "solve: RuntimeError: invented failure",
        "created": f"2026-01-0{seed + 1}T00:00:00Z",
        "spec": {k: v for k, v in asdict(spec).items() if k != "data"},
        "data": "1c5061a8e9fec306e8cd14f43bec307c35cc6b81d05dae89b049facb16055222",
        "method": {
            "name": method,
            "origin": "reference",
            "version": ref.version,
            "configuration": {},
            "variant": variant,
        },
        "source": {"weighin": "0.1.0", "commit": "0" * 40, "dirty": False},
        "libraries": {"torch": "2.13.0"},
        "systems": {"solve": machine.hash, "weigh": machine.hash},
        "measures": [record(m) for m in measures],
        "operations": [{"name": "conv", "kind": "Conv2d", "macs": macs, "params": 200_000, "nonzero": 190_000}]
        if status == "ok"
        else [],
        "files": {n: bundle.describe(p) for n, p in files.items()},
        **(changes or {}),
    }
    return bundle.write(root, bundle.seal(fields), files)


def record(m: Measure) -> dict[str, Any]:
    low, high = m.interval or (None, None)
    return {
        **{k: v for k, v in asdict(m).items() if k != "interval"},
        "low": low,
        "high": high,
        "warnings": list(m.warnings),
    }


def board(root: Path) -> Path:
    """A results folder with all that a board must show."""
    plan = {
        "dense": ("", 0.921, 1.0),
        "chex": ("", 0.916, 1.33),
        "l1_filters": ("", 0.908, 1.42),
        "uniform_scratch": ("", 0.905, 1.45),
    }
    for target in ("macs=0.5", "macs=0.25"):
        loss = 0.0 if target == "macs=0.5" else 0.015
        for method, (variant, accuracy, speedup) in plan.items():
            if method == "dense" and target != "macs=0.5":
                continue
            for seed in range(3):
                asked = "" if method == "dense" else target
                better = 1 if method == "dense" else speedup * (1 + 20 * loss)
                write(
                    root,
                    method,
                    target=asked,
                    seed=seed,
                    variant=variant,
                    accuracy=accuracy - loss * (method != "dense"),
                    speedup=better,
                )
    for seed in range(3):
        write(
            root,
            "chex",
            seed=seed,
            variant="delta0=0.0",
            accuracy=0.912,
            speedup=1.34,
            changes={"method": _variant("chex", "delta0=0.0")},
        )
        write(
            root,
            "chex",
            seed=seed,
            variant="score=l1",
            accuracy=0.915,
            speedup=1.01,
            changes={"method": _variant("chex", "score=l1")},
        )
    write(
        root,
        "chex",
        seed=3,
        variant="sampling=uniform",
        accuracy=0.915,
        changes={"method": _variant("chex", "sampling=uniform")},
    )
    write(
        root,
        "l1_filters",
        seed=0,
        variant="floor=0.5",
        accuracy=0.919,
        kept=0.56,
        changes={"method": _variant("l1_filters", "floor=0.5")},
    )
    write(root, "chex", seed=7, status="diverged")
    for method, accuracy, speedup in (("dense", 0.92, 1.0), ("chex", 0.915, 1.5)):
        write(
            root,
            method,
            target="" if method == "dense" else "macs=0.5",
            accuracy=accuracy,
            speedup=speedup,
            machine=card("Another processor"),
        )
    return root


def _variant(method: str, variant: str) -> dict[str, Any]:
    version = registry.methods("image_pruning")[method].version
    return {"name": method, "origin": "reference", "version": version, "configuration": {}, "variant": variant}
