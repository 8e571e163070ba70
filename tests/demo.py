"""Bundles with invented numbers, for tests of checker and board.  Never published."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from suite import bundle, pictures, registry, rules, system, timings
from suite.fields import defaults
from suite.meters import timing
from suite.naming import digest
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


IMAGES = (("infer@1", 1, 0.0015), ("infer@64", 64, 0.025), ("infer@256", 256, 0.12))  #: workload, items, seconds of the parent


def blocks(speedup: float, seed: int, quads: int = 10, works: Sequence[tuple[str, int, float]] = IMAGES) -> dict[str, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(1000 + seed))
    out = []
    for name, items, base in works:
        for quad in range(quads):
            for side in timing.ORDER:
                calls = max(1, round(0.08 / base))
                per_call = base * (1 if side == "parent" else 1 / speedup) * float(np.exp(draw.normal(0, 0.002)))
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
    alive: float = 1.0,
    status: str = "ok",
    machine: system.SystemCard | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """One whole bundle under `root`, its card beside it; `alive`: the share of its MACs that no mask zeroes."""
    machine = machine or card()
    system.write_card(machine, root / "systems")
    task = registry.task("image_pruning")
    spec = Spec("image_pruning", task.version, "small", "closed", "fashion/resnet20", target, seed)
    share = kept if kept is not None else float(target.partition("=")[2] or 1)
    ruled = rules.read(registry.TASKS / spec.task / rules.FILE).of("small", "closed", spec.case)
    assert ruled is not None
    whole = round(ruled.parent["macs_parent"])
    macs, params = round(share * whole), round(share * ruled.weights)
    nonzero = round(alive * params)
    scratch = root / ".work"
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
            Measure("examples", ruled.examples["any"], "", "down", source="meter"),
            Measure("train_seconds", 170 + seed, "s", "down", source="meter"),
            Measure("macs", macs, "", "down", source="meter"),
            Measure("macs_parent", whole, "", "", source="meter"),
            Measure("macs_nonzero", alive * macs, "", "down", source="meter"),
            Measure("kept.macs", macs / whole, "", "down", source="meter"),
            Measure("kept.nonzero", spec.targets.get("nonzero", alive * share), "", "down", source="meter"),
            Measure("params", params, "", "down", source="meter"),
            Measure("nonzero", nonzero, "", "down", source="meter"),
            Measure("memory_weights", 4 * params, "B", "down", source="meter"),
            Measure("solve_resident", 5e8, "B", "down", source="meter"),
            Measure("memory_peak", 24e6, "B", "down", "infer@64", None, "meter"),
        ]
    return _sealed(
        root,
        spec,
        method,
        "1c5061a8e9fec306e8cd14f43bec307c35cc6b81d05dae89b049facb16055222",
        measures,
        files,
        machine,
        status=status,
        variant=variant,
        operations=[{"name": "conv", "kind": "Conv2d", "macs": macs, "params": params, "nonzero": nonzero}],
        changes=changes,
    )


def retime(
    root: Path,
    run: Path,
    *,
    speedup: float = 1.4,
    machine: system.SystemCard | None = None,
    device: str = "cpu",
    submitter: str = "",
) -> Path:
    """A timing of a row's shape, under the same results: what `weighin time` would have written on another machine."""
    row = bundle.read(run)
    machine = machine or card("Another invented processor")
    system.write_card(machine, root / "systems")
    table = root / ".work" / bundle.TIMING
    table.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_table(blocks(speedup, row.spec.seed), table)
    told = timings.seal(
        {
            "row": {"id": row.id, "key": row.key, "task": row.spec.task, "tier": row.spec.tier, "method": row.method.name},
            "shape": row.deployed.sha256 if row.deployed else "0" * 64,
            "origin": "bundle" if row.deployed else "operations",
            "created": "2026-11-30T12:00:00Z",
            "device": device,
            "card": machine.hash,
            "source": {"weighin": "0.1.0", "commit": "0123abc", "dirty": False},
            "libraries": {"torch": "2.13.0"},
            "measures": [record(m) for m in timing.derive(bundle.read_table(table))],
            "submitter": submitter,
            "files": {bundle.TIMING: bundle.describe(table)},
        }
    )
    return timings.write(root, told, table)


def _sealed(
    root: Path,
    spec: Spec,
    method: str,
    data: str,
    measures: Sequence[Measure],
    files: Mapping[str, Path],
    machine: system.SystemCard,
    *,
    status: str = "ok",
    variant: str = "",
    operations: Sequence[Mapping[str, Any]] = (),
    unsupported: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Path:
    ref = registry.methods(spec.task)[method]
    seen = {n for n in files if n.endswith(".webp")}
    fields: dict[str, Any] = {
        "status": status,
        "reason": "" if status == "ok" else "solve: RuntimeError: invented failure",
        "created": f"2026-11-{24 + spec.seed % 7}T00:00:00Z",
        "spec": {k: v for k, v in asdict(spec).items() if k != "data"},
        "data": data,
        "method": {
            "name": method,
            "origin": "reference",
            "version": ref.version,
            "configuration": _set(ref, variant),
            "variant": variant,
        },
        "source": {"weighin": "0.1.0", "commit": "0" * 40, "dirty": False},
        "libraries": {"torch": "2.13.0"},
        "systems": {"solve": machine.hash, "weigh": machine.hash},
        "measures": [record(m) for m in measures],
        "operations": list(operations) if status == "ok" else [],
        "unsupported": dict.fromkeys(unsupported, "this machine is invented"),
        "files": {n: bundle.describe(p) for n, p in files.items() if n not in seen},
        "pictures": {n: bundle.describe_picture(p) for n, p in files.items() if n in seen},
        **(changes or {}),
    }
    asked = [fields["spec"], method, *(fields["method"][k] for k in ("version", "configuration"))]
    fields.setdefault("key", digest([*asked, data, fields.get("processes", 1), fields["systems"]]))
    return bundle.write(root, bundle.seal(fields), files)


def _set(ref: registry.MethodRef, variant: str) -> dict[str, Any]:
    """The settings of a method as the runner writes them: all of them, those of the variant in place of the defaults."""
    pairs = (part.split("=", 1) for part in variant.split(",") if part)
    return {**defaults(ref), **{name: _value(text) for name, text in pairs}}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


#: PSNR above the parent's, speed-up and KB of networks
VIDEO = {
    "awdnn": (0.0, 1.0, 11),
    "bicubic": (-1.6, 9.0, 0),
    "f0": (-0.7, 1.0, 11),
    "nas_chunks": (0.1, 0.97, 44),
    "stdo": (0.45, 0.93, 44),
    "jstdo": (0.3, 0.96, 13),
    "dy_dca": (0.2, 1.25, 24),
}
CROPS = ("frame-10-x-40-y-60", "frame-90-x-200-y-8")


def crop(place: int, blur: int) -> np.ndarray:
    """An invented picture: stripes that grow finer, washed out by a running mean of so many pixels."""
    y, x = np.mgrid[:180, :320]
    image = 128 + 100 * np.sin((x * x + place * 4000 * y / 180) / 900) * np.cos(y / (7 + 9 * place))
    washed = np.mean([np.roll(image, k, axis=1) for k in range(-blur, blur + 1)], axis=0)
    return np.stack([washed, 0.8 * washed + 20, 0.6 * washed + 60], axis=2).clip(0, 255).astype(np.uint8)


@cache
def packed(place: int, blur: int) -> bytes:
    return pictures.encode(crop(place, blur))


@cache
def dictated() -> dict[str, np.ndarray]:
    """What Big Buck Bunny at twice the size dictates: columns of its frames, and of its encoded videos."""
    with np.load(Path(__file__).parent / "golden/bigbuckbunny_x2.npz") as file:
        return dict(file)


def video(root: Path, methods: Sequence[str] = tuple(VIDEO), *, case: str = "bigbuckbunny/x2", seeds: int = 3) -> Path:
    """Bundles of mobile_vsr on the small tier with frames' errors, bytes, the player's speed, and pictures."""
    task, machine = registry.task("mobile_vsr"), card()
    system.write_card(machine, root / "systems")
    scratch = root / ".work"
    scratch.mkdir(parents=True, exist_ok=True)
    ruled = rules.read(registry.TASKS / "mobile_vsr" / rules.FILE).of("small", "closed", case)
    untimed = [n for n in ruled.told if n != "play/eager"] if ruled else []
    frame = np.arange(0, 132, 10)
    zeros = np.zeros(len(frame))
    sent = zeros + (frame == 0)
    for at, method in enumerate(methods):
        gain, speedup, size = VIDEO[method]
        for seed in range(1 if method == "bicubic" else seeds):
            spec = Spec("mobile_vsr", task.version, "small", "closed", case, "", seed)
            draw = np.random.Generator(np.random.Philox(100 * at + seed))
            psnr = 38 + 1.4 * np.sin(frame / 21) + gain * (1 + 0.3 * np.cos(frame / 30)) + draw.normal(0, 0.04, len(frame))
            error = 10 ** (-psnr / 10)
            columns = {
                "row": np.arange(len(frame)), "frame": frame, "covers": np.diff(np.append(frame, 132)), "patches": zeros + 200,
                "ssim": zeros + 0.96, "bytes_model": 1000 * size * sent, "bytes_model_fp16": 500 * size * sent,
                "bytes_map": zeros, "bytes_header": 40 * sent, **dictated(),
            }  # fmt: skip
            table = {k: np.asarray(columns.get(k, error)).astype(kind) for k, kind in task.columns.items()}
            bundle.write_table(table, scratch / bundle.EVIDENCE)
            bundle.write_table(blocks(speedup, seed + at, works=[("play/eager", 3, 0.4)]), scratch / bundle.TIMING)
            files = {n: scratch / n for n in (bundle.EVIDENCE, bundle.TIMING)}
            seen = {f"{n}.webp": packed(i, round(3 - 2 * gain)) for i, n in enumerate(CROPS)} if seed == 0 else {}
            if method == "bicubic":
                seen |= {f"{n}.original.webp": packed(i, 0) for i, n in enumerate(CROPS)}
            for name, data in seen.items():
                (scratch / name).write_bytes(data)
            measures = [
                *task.score(spec, bundle.read_table(files[bundle.EVIDENCE])),
                *timing.derive(bundle.read_table(files[bundle.TIMING])),
                Measure("examples", 0 if method == "bicubic" else 19_200, "", "down", source="meter"),
                Measure("train_seconds", 100 + seed, "s", "down", source="meter"),
                Measure("macs", 4e9, "", "down", source="meter"),
                Measure("params", 250 * size, "", "down", source="meter"),
                Measure("nonzero", 250 * size, "", "down", source="meter"),
                Measure("memory_peak", 24e6, "B", "down", "play/eager", None, "meter"),
                Measure("memory_weights", 1000 * size, "B", "down", source="meter"),
                Measure("solve_resident", 5e8, "B", "down", source="meter"),
            ]
            _sealed(
                root,
                spec,
                method,
                "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
                measures,
                files | {n: scratch / n for n in seen},
                machine,
                operations=[{"name": "conv", "kind": "Conv2d", "macs": 4e9, "params": 250 * size, "nonzero": 250 * size}],
                unsupported=() if seed else untimed,
            )
    return root


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
