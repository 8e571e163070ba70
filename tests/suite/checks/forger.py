"""Bundles of a tiny task for the checker's tests, and a forger who edits them.

Bundles are real ones, written by `suite.bundle`; the forger is given every means of the trade:
hashes and id are computed anew after each change, so that only the rules themselves can refuse it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pyarrow import parquet

from suite import bundle, pictures, system
from suite.check import check
from suite.checks.findings import Finding
from suite.meters import timing
from suite.naming import digest
from suite.protocol import Measure, Problem, Spec, Table, Task, Tier
from suite.show import Gallery, Show
from suite.truth import column_digest

ROWS, CLASSES, VERSION, TASK_SOURCE = 240, 3, "ab12" * 16, "cd34" * 16


DATA = hashlib.sha256(b"dots").hexdigest()


Fields = dict[str, Any]


Change = Callable[[Fields], None]


SHARE = st.floats(0, 1, exclude_max=True, allow_subnormal=False)  # tests compute with denormals flushed


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Dots(Task[Any, Any]):
    """Which of three colours a dot has: as small as a task can be."""

    name = "dots"
    version = 2
    question = "Which colour?"
    tiers: ClassVar[Mapping[str, Tier]] = {
        "smoke": Tier(("dots/net",), ("macs=0.5",), 60),
        "small": Tier(("dots/net",), ("macs=0.5",), 600),
    }
    parent_method = "plain"
    ranked = "accuracy"
    beside = ("class_accuracy",)
    speed = "infer@1"
    promised = "kept.macs"
    columns: ClassVar[Mapping[str, str]] = {"row": "int32", "label": "int16", "prediction": "int16", "score": "float16"}
    truth = ("row", "label")
    evidence_bytes = 60_000
    within: ClassVar[Mapping[str, str]] = {"macs_nonzero": "macs"}
    quotients: ClassVar[Mapping[str, str]] = {"kept.macs": "macs/macs_parent"}
    show = Show(gallery=Gallery(lambda problem, solution, /: {}, "plain", {"dots": "drawn by hand, CC0"}, (320, 180)))

    def score(self, spec: Spec, evidence: Table) -> list[Measure]:
        label, hit = evidence["label"], evidence["label"] == evidence["prediction"]
        shares = np.bincount(label, weights=hit) / np.bincount(label)
        half = 196 * float(np.sqrt(hit.mean() * (1 - hit.mean()) / len(hit)))
        mean = 100 * float(hit.mean())
        worst = Measure("class_accuracy", 100 * float(shares.min()), "%", "up", "worst", warnings=("few rows",))
        return [Measure("accuracy", mean, "%", "up", interval=(max(0.0, mean - half), min(100.0, mean + half))), worst]

    def digest(self, spec: Spec) -> str:
        return DATA

    def problem(self, spec: Spec, run: Any) -> Problem:
        raise AssertionError("a checker builds no problem")

    parent = examine = workloads = operations = problem  # type: ignore[assignment]


@dataclass(frozen=True)
class Place:
    path: Path | None


@dataclass(frozen=True)
class Source:
    origin: str
    version: str
    path: Path
    stated: int = 1


@dataclass(frozen=True)
class House:
    """A registry of one task and two methods."""

    root: Path

    def tasks(self) -> dict[str, Place]:
        return {"dots": Place(self.root / "task.py")}

    def task(self, name: str, /) -> Dots:
        return Dots()

    def task_digest(self, name: str, /) -> str:
        return TASK_SOURCE

    def shapes(self, name: str, /) -> None:
        return None

    def methods(self, task_name: str, /) -> dict[str, Source]:
        source = self.root / "plain.py"
        return {"plain": Source("reference", VERSION, source), "net_slim": Source("reference", VERSION, source)}


def labels() -> np.ndarray:
    return (np.arange(ROWS) % CLASSES).astype(np.int16)


def evidence(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(seed))
    label = labels()
    prediction = np.where(draw.random(ROWS) < 0.2, (label + 1) % CLASSES, label).astype(np.int16)
    return {
        "row": np.arange(ROWS, dtype=np.int32),
        "label": label,
        "prediction": prediction,
        "score": draw.random(ROWS).astype(np.float16),
    }


def blocks(seed: int = 0, quads: int = 10) -> dict[str, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(seed))
    rows = [
        timing.Block(
            name, side, q, 4 * q + i, 50, 0.06 * float(np.exp(draw.normal(0, 0.001))) * (1 + (side == "parent")), items, 0.0, False
        )
        for name, items in (("infer@1", 1), ("infer@64", 64))
        for q in range(quads)
        for i, side in enumerate(timing.ORDER)
    ]
    return timing.to_table(rows)


def card(gib: Any = 8.0, gpu: Fields | None = None) -> system.SystemCard:
    return system.SystemCard(processor={"model": "Abacus"}, memory={"total_gib": gib}, system={}, software={}, gpu=gpu or {})


def meters(**changed: float) -> list[Measure]:
    values = {
        "macs": 500.0,
        "macs_parent": 1000.0,
        "kept.macs": 0.5,
        "params": 90.0,
        "nonzero": 80.0,
        "examples": 6000.0,
        **changed,
    }
    found = [Measure(k, v, "", "down", source="meter") for k, v in values.items()]
    return [
        *found,
        Measure("train_seconds", 12.0, "s", "down", source="meter"),
        Measure("memory_peak", 4e6, "B", "down", "infer@1", source="meter"),
    ]


def stored(m: Measure) -> Fields:
    low, high = m.interval or (None, None)
    fields = {k: v for k, v in asdict(m).items() if k != "interval"}
    return {**fields, "low": low, "high": high, "warnings": list(m.warnings)}


def fields(seed: int, tables: Mapping[str, Table], card_hash: str, **spec: Any) -> Fields:
    """What a runner would seal, its measures derived from the tables."""
    asked = {"task": "dots", "version": 2, "tier": "small", "division": "closed", "case": "dots/net", "target": "macs=0.5"}
    asked = {**asked, "seed": seed, "device": "cpu", **spec}
    measures = meters()
    if bundle.EVIDENCE in tables:
        measures += Dots().score(Spec(**asked), tables[bundle.EVIDENCE])
    if bundle.TIMING in tables:
        measures += timing.derive(tables[bundle.TIMING])
    layers = [{"name": f"layer{i}", "kind": "Linear", "macs": 250.0, "params": 45, "nonzero": 40} for i in range(2)]
    return {
        "schema_version": 1,
        "status": "ok",
        "reason": "",
        "created": "2026-11-25T00:00:00Z",
        "spec": asked,
        "data": DATA,
        "method": {
            "name": "plain",
            "origin": "reference",
            "version": VERSION,
            "configuration": {"rate": 0.1},
            "variant": "",
            "seedless": False,
        },
        "source": {"weighin": "0.1.0", "commit": "0" * 40, "dirty": False},
        "libraries": {"numpy": "2.0"},
        "systems": {"solve": card_hash, "weigh": card_hash},
        "processes": 1,
        "measures": [stored(m) for m in measures],
        "operations": layers,
        "curve": [{"examples": 3000, "seconds": 6.0, "name": "loss", "value": 0.5}],
        "unsupported": {},
        "notes": [],
        "submitter": "",
        "pictures": {},
    }


def seal(root: Path, body: Fields, files: Mapping[str, Path | Table | bytes]) -> Path:
    """Hash everything anew, as a forger would, and write it where it belongs; keeps what no schema would."""
    scratch = Path(tempfile.mkdtemp(prefix=".forge-", dir=root))
    described = {}
    for name, source in files.items():
        if isinstance(source, bytes):  # a picture, which says itself how large it is
            (scratch / name).write_bytes(source)
            sides = dict(zip(("width", "height"), told_size(source), strict=True))
            about = {"sha256": hashlib.sha256(source).hexdigest(), "bytes": len(source), **sides}
            body = {**body, "pictures": {name: about} | body["pictures"]}
            continue
        if isinstance(source, Path):
            shutil.copyfile(source, scratch / name)
        else:
            bundle.write_table(source, scratch / name)
        data = (scratch / name).read_bytes()
        rows = body.get("rows", {}).get(name) or _rows(scratch / name)
        described[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": rows}
    body = {k: v for k, v in body.items() if k not in ("rows", "id")}
    body.setdefault("key", key_of(body))
    body.setdefault("files", described)
    body["id"] = bundle.identity(body)
    spec, method = body["spec"], body["method"]
    text = json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (scratch / bundle.RUN).write_text(text, encoding="utf-8")
    parts = [str(x) for x in (spec["task"], spec["tier"], method["name"], f"{body['key'][:12]}-{body['id'][:12]}")]
    final = root.joinpath(*parts)
    if root not in final.parents or ".." in parts or any("/" in p for p in parts):
        return scratch  # a hostile name: it stays where it is
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(final)
    return final


def key_of(body: Fields) -> str:
    """The key of what a body says was asked."""
    method = body["method"]
    asked = [body["spec"], method["name"], method["version"], method["configuration"], body["data"], body["processes"]]
    try:
        return digest([*asked, body["systems"]])
    except (ValueError, TypeError):  # what no JSON holds
        return "0" * 64


def told_size(data: bytes) -> tuple[int, int]:
    """Width and height as a picture's header tells them; 1x1 where it tells none."""
    try:
        return pictures.size(data)
    except ValueError:
        return 1, 1


def _rows(file: Path) -> int:
    try:
        return int(parquet.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError):
        return ROWS


SOURCE = '''"""Plain."""


class Plain:
    rate: float = 0.1

    def solve(self, problem):
        ...
'''


def furnished(root: Path) -> Path:
    """A folder with what a registry's task and methods have on disk."""
    columns = {"row": np.arange(ROWS, dtype=np.int32), "label": labels()}
    digests = ", ".join(f'{k} = "{column_digest(v, v.dtype.str)}"' for k, v in columns.items())
    case = f'[[case]]\ntier = "small"\nname = "dots"\ndata = "{DATA}"\nrows = {ROWS}\ncolumns = {{ {digests} }}\nclasses = []\n'
    (root / "truth.toml").write_text(case)
    (root / "plain.py").write_text(SOURCE)
    return root


@contextmanager
def results() -> Iterator[Path]:
    """An empty results folder with one card."""
    with tempfile.TemporaryDirectory(prefix="check-") as name:
        root = Path(name) / "results"
        system.write_card(card(), root / "systems")
        yield root


def honest(
    root: Path,
    seed: int = 0,
    change: Change | None = None,
    drop: tuple[str, ...] = (),
    seen: Mapping[str, bytes] | None = None,
    **tables: Any,
) -> Path:
    """A bundle that holds, but for `change` to its record, and pictures and tables given in place of its own."""
    whole: dict[str, Any] = {bundle.EVIDENCE: evidence(seed), bundle.TIMING: blocks(seed)}
    body = copy.deepcopy(_derived(seed, drop))
    for name in whole:
        whole[name] = tables.get(name.partition(".")[0], whole[name])
    if change:
        change(body)
    return seal(root, body, {k: v for k, v in whole.items() if k not in drop} | dict(seen or {}))


@cache
def _derived(seed: int, drop: tuple[str, ...]) -> Fields:
    whole = {bundle.EVIDENCE: evidence(seed), bundle.TIMING: blocks(seed)}
    return fields(seed, {k: v for k, v in whole.items() if k not in drop}, card().hash)


def errors(house: House, *paths: Path, against: Path | None = None) -> list[Finding]:
    found = check(paths, against=against, registry=house)
    for f in found:
        line = f.line()
        assert line.isprintable(), f"a line of a finding must be safe to print: {line!r}"
        assert all((f.bundle, f.file, f.field, f.message, f.mend))
        line.encode()
    return [f for f in found if f.level == "error"]


def refused(house: House, path: Path, field: str = "", file: str = "") -> list[Finding]:
    found = errors(house, path)
    assert found, "was accepted"
    assert any(field in f.field and file in f.file for f in found), [f.line() for f in found]
    return found


def measure(body: Fields, name: str, part: str = "") -> Fields:
    return next(m for m in body["measures"] if (m["name"], m["part"]) == (name, part))


def metered(name: str, value: float, unit: str = "", part: str = "x", **more: Any) -> Change:
    return lambda b: b["measures"].append({**stored(Measure(name, value, unit, "down", part, source="meter")), **more})


def told(name: str, value: float) -> Change:
    return lambda b: next(m for m in b["measures"] if m["name"] == name).update(value=value)


def link_away(path: Path) -> None:
    """Move a file or folder out of the results and leave a link."""
    target = next(p for p in path.parents if p.name == "results").with_name(path.name)
    path.rename(target)
    path.symlink_to(target)
