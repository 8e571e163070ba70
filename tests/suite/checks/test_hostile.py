"""The checker against people who edit, forge, truncate and pack bombs, and against our own mistakes.

Bundles are real ones of a tiny task, written by `suite.bundle`; a forger is given every means of the trade:
hashes and id are computed anew after each change, so that only the rules themselves can refuse it.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from suite import bundle, pictures, registry, system
from suite.check import Registry, check
from suite.checks import footer
from suite.checks.findings import Finding, printable
from suite.checks.untrusted import depth
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


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(furnished(tmp_path_factory.mktemp("house")))


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


# -- what holds ----------------------------------------------------------------------------------------------------


def test_an_honest_bundle_has_no_findings(house: House) -> None:
    with results() as root:
        path = honest(root)
        assert check([path], registry=house) == []
        assert check([root], registry=house) == []


def test_the_writer_and_the_checker_agree_on_bytes(house: House, tmp_path: Path) -> None:
    with results() as root:
        path = honest(root)
        record = bundle.read(path)
        again = bundle.write(tmp_path, record, {n: path / n for n in record.files})
        assert (again / bundle.RUN).read_bytes() == (path / bundle.RUN).read_bytes()


PICTURE = pictures.encode((np.arange(60 * 80 * 3) * 7 % 251).astype(np.uint8).reshape(60, 80, 3))


def test_pictures_are_taken_of_seed_0_where_the_task_shows_some(house: House) -> None:
    with results() as root:
        assert errors(house, honest(root, seen={"spot-1.webp": PICTURE, "spot-1.original.webp": PICTURE})) == []
        refused(house, honest(root, seed=1, seen={"spot-1.webp": PICTURE}), "pictures")
        slim = "spot-1.original.webp"
        other = honest(root, change=lambda b: b["method"].update(name="net_slim"), seen={slim: PICTURE})
        refused(house, other, "pictures", slim)
        refused(house, honest(root, seen={f"spot-{i}.webp": PICTURE for i in range(5)}), "file")
        path = honest(root, seen={"spot-2.webp": PICTURE})
        (path / "spot-2.webp").write_bytes(PICTURE[:-2] + b"ab")
        refused(house, path, "sha256", "spot-2.webp")


@pytest.mark.parametrize(
    "name", ["Spot.webp", "spot.png", ".spot.webp", "spot.original.original.webp", "a" * 70 + ".webp", "spot\n.webp"]
)
def test_a_picture_has_a_plain_name(house: House, name: str) -> None:
    with results() as root:
        refused(house, honest(root, seen={name: PICTURE}))


def _with_bytes(at: int, new: bytes) -> bytes:
    return PICTURE[:at] + new + PICTURE[at + len(new) :]


def _webp(pixels: np.ndarray, **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", **how)
    return out.getvalue()


HOSTILE = {
    "no picture": b"<svg onload=alert(1)>" * 3,
    "empty": b"",
    "cut short": PICTURE[:-40],
    "more at the end": PICTURE + b"<script>",
    "more inside": _with_bytes(4, (len(PICTURE)).to_bytes(4, "little")) + b"EXIF\0\0\0\0",
    "a bomb": _with_bytes(21, (16382 | 16382 << 14).to_bytes(4, "little")),
    "garbled": PICTURE[:25] + bytes(b ^ 0x5A for b in PICTURE[25:]),
    "lossy": _webp(np.zeros((20, 20, 3), np.uint8), quality=80),
    "transparent": _webp(
        np.random.Generator(np.random.Philox(0)).integers(0, 255, (20, 20, 4), np.uint8), lossless=True, exact=True
    ),
    "with metadata": _webp(np.zeros((20, 20, 3), np.uint8), lossless=True, exif=b"Exif\0\0secret"),
    "too large": _webp(np.zeros((181, 320, 3), np.uint8), lossless=True),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_small_picture_is_refused(house: House, kind: str) -> None:
    with results() as root:
        refused(house, honest(root, seen={"spot.webp": HOSTILE[kind]}), "picture", "spot.webp")


def test_a_picture_is_of_the_size_it_is_said_to_be(house: House) -> None:
    about = {"sha256": hashlib.sha256(PICTURE).hexdigest(), "bytes": len(PICTURE), "width": 79, "height": 60}
    with results() as root:
        path = honest(root, change=lambda b: b.update(pictures={"spot.webp": about}), seen={"spot.webp": PICTURE})
        refused(house, path, "picture", "spot.webp")


@QUICK
@given(st.binary(min_size=1, max_size=6), st.integers(8, len(PICTURE) - 7))
def test_no_change_of_bytes_breaks_the_checker(house: House, new: bytes, at: int) -> None:
    with results() as root:
        errors(house, honest(root, seen={"spot.webp": _with_bytes(at, new)}))  # `errors` holds what is said to be printable


def test_a_failure_is_a_result_with_a_reason_and_without_numbers(house: House) -> None:
    def fail(body: Fields) -> None:
        body.update(status="diverged", reason="loss is NaN\nat step 3", operations=[], measures=[], curve=[])

    both = (bundle.EVIDENCE, bundle.TIMING)
    with results() as root:
        assert errors(house, honest(root, change=fail, drop=both)) == []
        refused(house, honest(root, change=lambda b: (fail(b), b.update(reason=" \n")), drop=both), "reason")  # type: ignore[func-returns-value]
        top = stored(Measure("accuracy", 90.0, "%", "up"))
        refused(house, honest(root, change=lambda b: (fail(b), b.update(measures=[top])), drop=both), "measures")  # type: ignore[func-returns-value]
        metered = {**top, "source": "meter"}
        refused(house, honest(root, change=lambda b: (fail(b), b.update(measures=[metered])), drop=both), "accuracy")  # type: ignore[func-returns-value]
        refused(house, honest(root, change=fail), "files")


def test_the_speed_division_has_timing_alone(house: House) -> None:
    with results() as root:
        speed: Change = lambda b: b["spec"].update(division="speed")  # noqa: E731
        assert errors(house, honest(root, change=speed, drop=(bundle.EVIDENCE,))) == []
        refused(house, honest(root, change=speed), "files")
        refused(house, honest(root, drop=(bundle.EVIDENCE,)), file=bundle.EVIDENCE)
        refused(house, honest(root, drop=(bundle.TIMING,)), file=bundle.TIMING)


# -- any byte, any number ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [bundle.RUN, bundle.EVIDENCE, bundle.TIMING])
@QUICK
@given(where=SHARE, flip=st.integers(1, 255))
def test_any_changed_byte_is_refused(house: House, name: str, where: float, flip: int) -> None:
    with results() as root:
        file = honest(root) / name
        data = bytearray(file.read_bytes())
        data[int(where * len(data))] ^= flip
        file.write_bytes(data)
        assert errors(house, file.parent)


@pytest.mark.parametrize("name", [bundle.RUN, bundle.EVIDENCE, bundle.TIMING])
@QUICK
@given(where=SHARE)
def test_any_truncation_is_refused_even_with_new_hashes(house: House, name: str, where: float) -> None:
    with results() as root:
        path = honest(root)
        file = path / name
        file.write_bytes(file.read_bytes()[: int(where * file.stat().st_size)])
        assert errors(house, path)
        if name != bundle.RUN:
            short = {name.partition(".")[0]: file}
            with results() as other:
                refused(house, honest(other, change=lambda b: b.update(rows={name: ROWS}), **short), file=name)


def test_white_space_is_a_change_too(house: House) -> None:
    with results() as root:
        file = honest(root) / bundle.RUN
        file.write_bytes(file.read_bytes().replace(b"\n ", b"\n\t", 1))
        refused(house, file.parent, "bytes")


DERIVED = ["accuracy", "class_accuracy", "time", "throughput", "speedup", "parent_time"]


@QUICK
@given(
    name=st.sampled_from(DERIVED),
    field=st.sampled_from(["value", "low", "high"]),
    factor=st.floats(-2, 3, allow_subnormal=False).filter(lambda f: abs(f - 1) > 1e-6),
)
def test_any_changed_number_of_evidence_or_timing_is_refused(house: House, name: str, field: str, factor: float) -> None:
    def change(body: Fields) -> None:
        told = next(m for m in body["measures"] if m["name"] == name)
        told[field] = factor * told[field] if told[field] is not None else factor

    with results() as root:
        refused(house, honest(root, change=change), name)


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize(
    "changed",
    [
        {"unit": "kg"},
        {"direction": ""},
        {"direction": "down"},
        {"warnings": ["fine"]},
        {"source": "meter"},
        {"low": None, "high": None},
    ],
)
def test_any_changed_condition_is_refused(house: House, name: str, changed: Fields) -> None:
    def change(body: Fields) -> None:
        told = next(m for m in body["measures"] if m["name"] == name)
        body["moved"] = any(told[k] != v for k, v in changed.items())
        told.update(changed)

    with results() as root:
        body = fields(0, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()}, card().hash)
        change(body)
        if body.pop("moved"):
            path = seal(root, body, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()})
            refused(house, path, name)


@pytest.mark.parametrize("source", ["evidence", "timing", "meter"])
def test_missing_surplus_and_doubled_measures_are_refused(house: House, source: str) -> None:
    def twice(body: Fields) -> None:
        body["measures"].append(dict(next(m for m in body["measures"] if m["source"] == source)))

    with results() as root:
        refused(house, honest(root, change=twice), "measures")
        extra = stored(Measure("accuracy", 99.0, "%", "up", "of my own", source=source))  # type: ignore[arg-type]
        refused(house, honest(root, change=lambda b: b["measures"].append(extra)), "accuracy")
        if source != "meter":
            gone: Change = lambda b: b["measures"].remove(next(m for m in b["measures"] if m["source"] == source))  # noqa: E731
            refused(house, honest(root, change=gone), "measures")


@QUICK
@given(row=st.integers(0, ROWS - 1), column=st.sampled_from(["label", "prediction"]))
def test_evidence_changed_without_its_score_is_refused_and_labels_with_it_too(house: House, row: int, column: str) -> None:
    table = evidence()
    other = {**table, column: table[column].copy()}
    other[column][row] = (int(table[column][row]) + 2) % CLASSES
    with results() as root:
        if (table["label"] == table["prediction"]).mean() != (other["label"] == other["prediction"]).mean():
            refused(house, honest(root, evidence=other), "accuracy")
    with results() as root:  # a forger who also scores it again
        whole = {bundle.EVIDENCE: other, bundle.TIMING: blocks()}
        path = seal(root, fields(0, whole, card().hash), whole)
        assert bool(errors(house, path)) == (column == "label")


@pytest.mark.parametrize(
    "pick",
    [
        np.arange(ROWS - 1),
        np.r_[0, np.arange(ROWS - 1)],
        np.arange(ROWS)[::-1],
        np.r_[np.arange(ROWS), ROWS - 1],
        np.r_[1, 0, np.arange(2, ROWS)],
    ],
    ids=["missing", "twice", "unsorted", "surplus", "swapped"],
)
def test_rows_are_complete_unique_and_sorted(house: House, pick: np.ndarray) -> None:
    table = {k: v[pick] for k, v in evidence().items()}
    whole = {bundle.EVIDENCE: table, bundle.TIMING: blocks()}
    with results() as root:
        refused(house, seal(root, fields(0, whole, card().hash), whole), "row")


@QUICK
@given(block=st.integers(0, 79), factor=st.sampled_from([0.5, 0.9, 1.1, 3.0, 1e-300, 1e300]))
def test_changed_blocks_are_refused(house: House, block: int, factor: float) -> None:
    table = blocks()
    table["seconds"][block] *= factor
    with results() as root:
        path = honest(root, timing=table)
        changed = {k: v[table["workload"] == table["workload"][block]] for k, v in table.items()}
        moved = [m for m in timing.derive(changed) if m not in timing.derive(blocks())] if 1e-9 < factor < 1e9 else [None]
        assert bool(errors(house, path)) == bool(moved)  # a trimmed mean and a median may not move: then no number did


def retimed(root: Path, table: Table, change: Change | None = None) -> Path:
    """A forger who derives the numbers of other timings as well, where they can be derived."""
    whole = {bundle.EVIDENCE: evidence(), bundle.TIMING: table}
    try:
        body = fields(0, whole, card().hash)
    except (ValueError, ArithmeticError):
        body = fields(0, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()}, card().hash)
    if change:
        change(body)
    return seal(root, body, whole)


def shaken(**columns: Callable[[np.ndarray], Any]) -> dict[str, np.ndarray]:
    table = blocks()
    return {k: np.asarray(columns[k](v)).astype(v.dtype) if k in columns else v for k, v in table.items()}


@pytest.mark.parametrize(
    "table",
    [
        shaken(seconds=lambda v: v / 10),
        shaken(side=lambda v: np.roll(v, 1)),
        shaken(side=lambda v: np.where(v == "parent", "candidate", "parent")),
        shaken(quad=lambda v: v + 1),
        shaken(index=lambda v: v[::-1]),
        shaken(calls=lambda v: v * 0),
        shaken(calls=lambda v: -v),
        shaken(items=lambda v: np.arange(len(v)) + 1),
        shaken(seconds=lambda v: -v),
        shaken(seconds=lambda v: v * 0),
        shaken(workload=lambda v: [f"w{i // 4}" for i in range(len(v))]),
        {k: v[:-1] for k, v in blocks().items()},
        {k: v[v.shape[0] // 2 :] for k, v in blocks().items()},
        {k: v[:0] if v.dtype != object else np.array([], dtype=str) for k, v in blocks().items()},
        blocks(quads=timing.LOOKS[-1] + 1),
    ],
    ids=[
        "short",
        "BAAB",
        "swapped",
        "quads",
        "reversed",
        "no calls",
        "minus calls",
        "items",
        "negative",
        "zero",
        "many",
        "no whole quad",
        "speed workload left out",
        "empty",
        "longer than the scale",
    ],
)
def test_timings_that_no_scale_of_ours_wrote_are_refused(house: House, table: dict[str, np.ndarray]) -> None:
    with results() as root:
        refused(house, retimed(root, table), file=bundle.TIMING)


def test_a_workload_that_was_calibrated_while_others_computed_is_marked(house: House) -> None:
    table = blocks()
    table["seconds"][table["workload"] == "infer@1"] /= 10  # one call a block, as a burst of load left it
    table["seconds"][table["workload"] == "infer@64"] *= 10
    with results() as root:
        (mark,) = check([retimed(root, table)], registry=house)
        assert (mark.level, mark.file, mark.message.split(":")[0]) == ("mark", bundle.TIMING, "infer@1")


def test_an_unsupported_workload_is_said_or_timed_never_both(house: House) -> None:
    half = {k: v[v.shape[0] // 2 :] for k, v in blocks().items()}
    told: Change = lambda b: b.update(unsupported={"infer@1": "no such runtime here"})  # noqa: E731
    with results() as root:
        assert errors(house, retimed(root, half, told)) == []
        refused(house, retimed(root, blocks(), told), "workload")


# -- metered figures: bounds and cross-sums --------------------------------------------------------------------------


def metered(name: str, value: float, unit: str = "", part: str = "x", **more: Any) -> Change:
    return lambda b: b["measures"].append({**stored(Measure(name, value, unit, "down", part, source="meter")), **more})


def told(name: str, value: float) -> Change:
    return lambda b: next(m for m in b["measures"] if m["name"] == name).update(value=value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (metered("agreement", 100.1, "%"), "agreement"),
        (metered("agreement", -0.1, "%"), "agreement"),
        (metered("search", -1.0, "s"), "search"),
        (metered("energy", -1.0, "J"), "energy"),
        (metered("memory_peak", -1.0, "B"), "memory_peak"),
        (metered("memory_peak", 2.0**47, "B"), "memory_peak"),
        (metered("memory_peak", 9 * 2.0**30, "B"), "memory_peak"),
        (metered("solve_resident", 9 * 2.0**30, "B"), "solve_resident"),
        (metered("agreement", 5.0, low=6.0, high=7.0), "agreement"),
        (metered("agreement", 5.0, low=7.0, high=4.0), "agreement"),
        (metered("agreement", 5.0, low=4.0), "agreement"),
        (metered("speedup", 5.0, "x"), "speedup"),
        (metered("throughput", 5.0, "1/s", "mine"), "throughput"),
        (told("kept.macs", 0.4), "kept.macs"),
        (told("kept.macs", 2.0), "kept.macs"),
        (told("macs", 400.0), "macs"),
        (told("macs", -500.0), "macs"),
        (told("macs_parent", 0.0), "kept.macs"),
        (told("macs_parent", 900.0), "kept.macs"),
        (told("params", 70.0), "params"),
        (told("nonzero", 95.0), "nonzero"),
        (told("train_seconds", 1e-5), "train_seconds"),
        (told("train_seconds", -1.0), "train_seconds"),
        (told("examples", 2000.0), "curve"),
        (lambda b: b["operations"][0].update(nonzero=46), "operations"),
        (lambda b: b["operations"].pop(), "macs"),
        (lambda b: b["measures"].remove(measure(b, "kept.macs")), "kept.macs"),
        (metered("macs_nonzero", 600.0, part=""), "macs_nonzero"),
    ],
)
def test_metered_figures_are_held_to_bounds_and_sums(house: House, change: Change, field: str) -> None:
    with results() as root:
        refused(house, honest(root, change=change), field)


def test_a_metered_figure_within_bounds_cannot_be_seen_to_be_changed(house: House) -> None:
    with results() as root:  # said in the module's own words: only replay confirms it
        assert errors(house, honest(root, change=told("memory_peak", 5e6))) == []


def test_a_longer_training_than_the_cap_is_marked(house: House) -> None:
    with results() as root:
        (mark,) = check([honest(root, change=told("train_seconds", 601.0))], registry=house)
        assert (mark.level, mark.field) == ("mark", "measures train_seconds")


def test_several_processes_of_a_task_that_shares_no_batches_are_marked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with results() as root:
        several = honest(root, change=lambda b: b.update(processes=2))
        (mark,) = check([several], registry=house)
        assert (mark.level, mark.field) == ("mark", "processes")
        assert "2 processes shared no batch" in mark.message
        monkeypatch.setattr(Dots, "shares_batches", True)
        assert check([several], registry=house) == []


def test_memory_is_held_against_the_card_that_measured_it(house: House) -> None:
    big, gpu = card(64.0), card(64.0, {"name": "Loom", "memory_gib": 16.0})
    with results() as root:
        for c in (big, gpu):
            system.write_card(c, root / "systems")
        solve: Change = lambda b: (b["systems"].update(solve=big.hash), metered("solve_resident", 9 * 2.0**30, "B")(b))  # type: ignore[func-returns-value, return-value]  # noqa: E731
        assert errors(house, honest(root, change=solve)) == []
        on_gpu: Change = lambda b: (  # type: ignore[func-returns-value, return-value]  # noqa: E731
            b["spec"].update(device="cuda"),
            b["systems"].update(weigh=gpu.hash, solve=gpu.hash),
            metered("memory_reserved", 20 * 2.0**30, "B")(b),
        )
        refused(house, honest(root, change=on_gpu), "memory_reserved")


def test_memory_of_a_gpus_solve_is_held_against_the_gpu_whatever_weighed(house: House) -> None:
    small, large = card(64.0, {"name": "Loom", "memory_gib": 16.0}), card(64.0, {"name": "Mill", "memory_gib": 140.0})
    for gpu, gib, fits in ((small, 20, False), (large, 100, True)):
        with results() as root:
            system.write_card(gpu, root / "systems")
            solved: Change = lambda b, gpu=gpu, gib=gib: (  # type: ignore[misc, func-returns-value, return-value]  # noqa: E731
                b["systems"].update(solve=gpu.hash),
                metered("solve_allocated", gib * 2.0**30, "B")(b),
            )
            path = honest(root, change=solved)
            if fits:
                assert errors(house, path) == []
            else:
                refused(house, path, "solve_allocated")


# -- hostile JSON --------------------------------------------------------------------------------------------------

OPEN = b'{"schema_version": 1, "x": '


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b"\x00" * 100,
        b"[" * 900_000,
        b'{"a":' * 150_000,
        b'"' * 900_000,
        b'"\\"' * 300_000,
        b"\\" * 900_000,
        OPEN + b"NaN}",
        OPEN + b"-Infinity}",
        OPEN + b"1e999}",
        OPEN + b"9" * 900_000 + b"}",
        OPEN + b"1e" + b"9" * 1000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"schema_version": 2}',
        b'{"schema_version": 99999999999999999999}',
        b'{"id": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"\\u0000": "\\u001b[2J"}',
        b"{}{}",
        b" " * 1_000_001,
    ],
    ids=lambda d: repr(d[:24]),
)
def test_hostile_json_ends_in_one_finding(house: House, data: bytes) -> None:
    with results() as root:
        path = honest(root)
        (path / bundle.RUN).write_bytes(data)
        refused(house, path, file=bundle.RUN)


def test_repeated_keys_are_refused_where_the_last_one_holds(house: House) -> None:
    with results() as root:
        file = honest(root) / bundle.RUN
        file.write_bytes(file.read_bytes().replace(b'"submitter": ""', b'"submitter": "Somebody", "submitter": ""'))
        refused(house, file.parent, "keys")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_subnormal=False) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
@QUICK
def test_depth_bounds_what_a_parser_would_nest(value: Any) -> None:
    def nested(v: Any) -> int:
        inner = v.values() if isinstance(v, dict) else v if isinstance(v, list) else None
        return 0 if inner is None else 1 + max(map(nested, inner), default=0)

    assert depth(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == nested(value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.text(max_size=20),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
    max_leaves=6,
)


def leaves(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a record."""
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for k, v in inner:
        yield from leaves(v, (*here, k))


FREE = {"key", "created", "curve", "notes", "libraries", "submitter", "operations", "source", "reason", "unsupported"}


@settings(QUICK, max_examples=80)
@given(pick=SHARE, value=JSON)
def test_a_sealed_record_with_anything_anywhere_never_ends_in_a_traceback(house: House, pick: float, value: Any) -> None:
    body = fields(0, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()}, card().hash)
    places = [p for p in leaves(body) if p]
    place = places[int(pick * len(places))]
    before = body
    for step in place[:-1]:
        before = before[step]
    before[place[-1]] = copy.deepcopy(value)
    with results() as root:
        try:
            path = seal(root, body, {bundle.EVIDENCE: evidence(), bundle.TIMING: blocks()})
        except (TypeError, AttributeError, KeyError, ValueError, OSError):
            return  # what cannot even be hashed or named cannot be submitted
        errors(house, path)
        errors(house, root)


# -- hostile Parquet -----------------------------------------------------------------------------------------------


def packed(file: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(dict(columns)), file, **{"compression": "snappy", "store_schema": False, **options})
    return file


def test_a_bomb_of_equal_rows_is_refused_unread(house: House, tmp_path: Path) -> None:
    rows = 20_000_000
    ones = {k: np.zeros(rows, dtype=v) for k, v in Dots.columns.items()}
    file = packed(tmp_path / "bomb", ones, row_group_size=rows, max_rows_per_page=rows)
    assert file.stat().st_size < 5_000
    with results() as root:
        refused(house, honest(root, evidence=file), "rows", bundle.EVIDENCE)


def test_a_bomb_of_one_long_text_is_refused_before_it_unfolds(house: House, tmp_path: Path) -> None:
    rows, text = 30_000, "x" * 5_000_000  # 150 GB, unfolded
    table = {k: v[np.arange(rows) % len(v)] for k, v in blocks().items()}
    table["workload"] = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text])
    file = packed(tmp_path / "bomb", table, row_group_size=rows, dictionary_pagesize_limit=10_000_000)
    assert file.stat().st_size < 1_000_000
    with results() as root:
        refused(house, honest(root, timing=file), "workload", bundle.TIMING)


def test_many_workloads_cannot_keep_the_checker_busy(house: House) -> None:
    names = np.array([f"w{i:05d}" for i in range(20_000) for _ in range(4)], dtype=object)
    one = {k: v[:4] for k, v in blocks().items()}
    table = {k: np.tile(v, 20_000) for k, v in one.items()} | {"workload": names}
    with results() as root:
        refused(house, honest(root, timing=table), "blocks", bundle.TIMING)


def raw(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


ODD: dict[str, Callable[[Path], Path]] = {
    "no column": lambda f: packed(f, {k: v for k, v in evidence().items() if k != "score"}),
    "extra column": lambda f: packed(f, {**evidence(), "extra": np.zeros(ROWS)}),
    "other order": lambda f: packed(f, dict(reversed(evidence().items()))),
    "wider type": lambda f: packed(f, {**evidence(), "label": labels().astype(np.int64)}),
    "unsigned": lambda f: packed(f, {**evidence(), "label": labels().astype(np.uint16)}),
    "text": lambda f: packed(f, {**evidence(), "label": labels().astype(str)}),
    "nested": lambda f: packed(f, {**evidence(), "label": pa.array([[int(x)] for x in labels()])}),
    "structs": lambda f: packed(f, {**evidence(), "label": pa.array([{"a": int(x)} for x in labels()])}),
    "timestamps": lambda f: packed(f, {**evidence(), "label": labels().astype("datetime64[ns]")}),
    "empty cells": lambda f: packed(f, {**evidence(), "label": pa.array([None, *labels()[1:]], pa.int16())}),
    "NaN": lambda f: packed(f, {**evidence(), "score": np.full(ROWS, np.nan, np.float16)}),
    "infinity": lambda f: packed(f, {**evidence(), "score": np.full(ROWS, np.inf, np.float16)}),
    "odd codec": lambda f: packed(f, evidence(), compression="zstd"),
    "odd encoding": lambda f: packed(f, evidence(), use_dictionary=False, column_encoding={"row": "DELTA_BINARY_PACKED"}),
    "arrow schema": lambda f: packed(f, evidence(), store_schema=True),
    "many groups": lambda f: packed(f, evidence(), row_group_size=1),
    "no rows": lambda f: packed(f, {k: v[:0] for k, v in evidence().items()}),
    "no Parquet": lambda f: raw(f, b"PAR1" + b"\x00" * 100 + b"PAR1"),
    "empty": lambda f: raw(f, b""),
    "too large": lambda f: raw(f, b"\x00" * (Dots.evidence_bytes + 1)),
    "far too large": lambda f: raw(f, b"\x00" * 8_000_001),
    "long footer": lambda f: raw(f, b"PAR1" + b"\x00" * 8 + b"\xff\xff\xff\x7fPAR1"),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_odd_parquet_is_refused(house: House, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with results() as root:
        refused(house, honest(root, evidence=make(tmp_path / "odd")), file=bundle.EVIDENCE)


@settings(QUICK, max_examples=60)
@given(
    name=st.sampled_from(["evidence", "timing"]),
    changes=st.lists(st.tuples(SHARE, st.integers(0, 255)), min_size=1, max_size=4),
    footer=st.booleans(),
)
def test_forged_parquet_with_a_new_hash_never_ends_in_a_traceback(
    house: House, name: str, changes: list[tuple[float, int]], footer: bool
) -> None:
    with results() as root:
        file = root / "forged"
        bundle.write_table(evidence() if name == "evidence" else blocks(), file)
        data = bytearray(file.read_bytes())
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if footer else 0
        for where, byte in changes:
            data[start + int(where * (len(data) - start))] = byte
        file.write_bytes(data)
        path = honest(root, change=lambda b: b.update(rows={f"{name}.parquet": ROWS if name == "evidence" else 80}), **{name: file})
        errors(house, path)


def test_a_thousand_forged_tables_leave_the_process_alive(tmp_path: Path) -> None:
    """Native code may end the process, which no `except` sees: in a process of its own, footers above all.

    Before footers were read by code of ours, one in some seventy of these did.
    """
    bundle.write_table(evidence(), tmp_path / "evidence.parquet")
    code = (
        "import random, re; from pathlib import Path\n"
        "from suite.checks import untrusted; from suite.checks.findings import Refused\n"
        f"folder, columns = Path({str(tmp_path)!r}), {dict(Dots.columns)!r}\n"
        "whole = (folder / 'evidence.parquet').read_bytes()\n"
        "start = len(whole) - 8 - int.from_bytes(whole[-8:-4], 'little')\n"
        "for seed in range(1000):\n"
        "    draw, data = random.Random(seed), bytearray(whole)\n"
        "    first = start if seed % 4 else 0\n"
        "    for _ in range(draw.randint(1, 4)): data[draw.randrange(first, len(data))] = draw.randrange(256)\n"
        "    (folder / 'evidence.parquet').write_bytes(data)\n"
        "    try: untrusted.table(folder, 'evidence.parquet', columns, 60_000, 240)\n"
        "    except Refused: pass\n"
        # not ru_maxrss, which a child inherits from who started it
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)\n"
    )
    here = {**os.environ, "PYTHONPATH": str(registry.HOUSE)}
    done = subprocess.run([sys.executable, "-c", code], cwd=registry.HOUSE, env=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 1500  # MiB


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd", "none"])
def test_the_footer_says_what_pyarrow_says(tmp_path: Path, codec: str) -> None:
    file = packed(tmp_path / "table", blocks(), compression=codec, row_group_size=50)
    ours, theirs = footer.read(file), parquet.read_metadata(file)
    assert (ours.rows, len(ours.groups), ours.metadata) == (theirs.num_rows, theirs.num_row_groups, False)
    for i, (rows, chunks) in enumerate(ours.groups):
        group = theirs.row_group(i)
        assert (rows, len(chunks)) == (group.num_rows, group.num_columns)
        for j, chunk in enumerate(chunks):
            column = group.column(j)
            assert (chunk.codec, chunk.values, chunk.unpacked) == (
                column.compression,
                column.num_values,
                column.total_uncompressed_size,
            )
            assert chunk.encodings == set(column.encodings)
            assert not chunk.elsewhere
    assert footer.read(packed(tmp_path / "more", blocks(), store_schema=True)).metadata


@QUICK
@given(st.binary(max_size=300))
def test_the_footer_of_anything_is_a_footer_or_a_value_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "any").write_bytes(b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1")
    with suppress(ValueError):
        footer.read(tmp_path / "any")


def test_run_json_may_not_lie_about_rows(house: House) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(rows={bundle.EVIDENCE: ROWS + 1})), "rows", bundle.EVIDENCE)


# -- files and folders ---------------------------------------------------------------------------------------------


def link_away(path: Path) -> None:
    """Move a file or folder out of the results and leave a link."""
    target = next(p for p in path.parents if p.name == "results").with_name(path.name)
    path.rename(target)
    path.symlink_to(target)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", [bundle.RUN, bundle.EVIDENCE, bundle.TIMING])
@pytest.mark.parametrize("spoil", [link_away, folder_instead, pipe_instead, Path.unlink])
def test_only_plain_files_stand_in_a_bundle(house: House, name: str, spoil: Callable[[Path], None]) -> None:
    with results() as root:
        path = honest(root)
        honest(root, seed=1)
        spoil(path / name)
        assert errors(house, path)
        assert any(str(path) in f.bundle for f in errors(house, root))


@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "RUN.JSON", "run.json ", "еvidence.parquet", "a\x1b[2Jb", "<b>", "\udcff", "c\nd"]
)
def test_unexpected_files_are_refused(house: House, name: str) -> None:
    with results() as root:
        path = honest(root)
        (path / name).write_bytes(b"")
        refused(house, path, "file")


def test_links_in_place_of_folders_are_refused(house: House) -> None:
    with results() as root:
        path = honest(root)
        link_away(path)
        refused(house, path, "folder")
        assert errors(house, root)
    with results() as root:
        path = honest(root)
        (root / "elsewhere").symlink_to(path.parent)
        assert [f.file for f in errors(house, root)] == ["elsewhere"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "run.json", "evidence.parquet/../x"])
def test_a_record_cannot_name_other_files(house: House, name: str) -> None:
    entry = {"sha256": "0" * 64, "bytes": 0, "rows": 1}
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(files={name: entry})), "files")


def test_a_path_that_is_no_bundle_is_said(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path / "nothing", tmp_path / "file", tmp_path):
        refused(house, path)


def test_the_folder_says_what_the_record_says(house: House) -> None:
    with results() as root:
        path = honest(root)
        alone = root.parent / path.name
        shutil.copytree(path, alone)
        shutil.copytree(root / "systems", alone.parent / "systems")
        assert errors(house, alone) == []
        for moved in (
            root / "dots/small/net_slim" / path.name,
            root / "dots/smoke/plain" / path.name,
            path.with_name(path.name[::-1]),
        ):
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.rename(moved)
            refused(house, moved, "folder")
            assert any(f.field == "folder" for f in errors(house, root))
            moved.rename(path)
        assert errors(house, root) == []


def test_strays_among_bundles_are_named(house: House) -> None:
    with results() as root:
        path = honest(root)
        honest(root, seed=1)
        (path.parent / "notes.html").write_text("<script>")
        (path.parent / ".part-0123456789abcdef-x").mkdir()  # work in progress
        assert [f.file for f in errors(house, root)] == ["notes.html"]
        (path / bundle.RUN).unlink()
        assert (str(path), bundle.RUN) in {(f.bundle, f.file) for f in errors(house, root)}


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda b: b["spec"].update(task="../../x"), "spec.task"),
        (lambda b: b["spec"].update(task="other"), "spec.task"),
        (lambda b: b["spec"].update(task=".."), "spec.task"),
        (lambda b: b["spec"].update(case="../net"), "spec.case"),
        (lambda b: (b["method"].update(name=".."), b["spec"].update(version=1)), "method.name"),
        (lambda b: b["spec"].update(tier="paper"), "spec.tier"),
        (lambda b: b["spec"].update(target="<b>"), "spec.target"),
        (lambda b: b["spec"].update(seed="0"), "spec.seed"),
        (lambda b: b["spec"].update(seed=True), "spec.seed"),
        (lambda b: b["method"].update(name="рlain"), "method.name"),  # a Cyrillic letter
        (lambda b: b["method"].update(name="plain\n"), "method.name"),
        (lambda b: b["method"].update(name="unheard_of"), "method.name"),
        (lambda b: b["method"].update(seedless=True), "method.seedless"),
        (lambda b: b["method"].update(variant="\u202egnp"), "method.variant"),
        (lambda b: b["operations"][0].update(name="<script>"), "operations.0.name"),
        (lambda b: b["method"].update(configuration={"\x1b[2J": 1}), "method.configuration keys"),
        (lambda b: b.update(surplus=1), "surplus"),
        (lambda b: b.update(measures="none"), "measures"),
        (lambda b: measure(b, "macs").update(value="500"), "measures.0.value"),
        (lambda b: b.update(systems={}), "systems.solve"),
        (lambda b: b.update(data="0" * 64), "data"),
        (lambda b: b.update(submitter="<img>"), "submitter"),
        (lambda b: b["method"].update(configuration={"a": {"b": [[[[[[[[[[[1]]]]]]]]]]]}}), "nesting"),
    ],
)
def test_names_and_types_are_the_schemas(house: House, change: Change, field: str) -> None:
    with results() as root:
        refused(house, honest(root, change=change), field, bundle.RUN)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        (f"mine@{VERSION[:12]}", True),
        ("mine", False),
        ("mine@000000000000", False),
        (f"@{VERSION[:12]}", False),
        ("plain", False),
        (f"plain@{VERSION[:12]}", False),
        (f"P1ain@{VERSION[:12]}", False),
        (f"net-slim@{VERSION[:12]}", False),
    ],
)
@pytest.mark.parametrize("origin", ["file", "package"])
def test_others_methods_bear_their_digest_and_not_our_names(house: House, name: str, holds: bool, origin: str) -> None:
    with results() as root:
        found = errors(house, honest(root, change=lambda b: b["method"].update(name=name, origin=origin)))
        assert (not found) == holds
        assert all(f.field == "method.name" for f in found)


def test_a_source_that_differs_or_is_not_committed_is_marked(house: House) -> None:
    with results() as root:
        (mark,) = check([honest(root, change=lambda b: b["method"].update(version="cd" * 32))], registry=house)
        assert (mark.level, mark.field) == ("mark", "method.version")
        (mark,) = check([honest(root, change=lambda b: b["source"].update(dirty=True))], registry=house)
        assert (mark.level, mark.field) == ("mark", "source")


def test_versions_newer_are_refused_and_older_are_archived(house: House) -> None:
    with results() as root:
        (found,) = refused(house, honest(root, change=lambda b: b["spec"].update(version=3)), "spec.version")
        assert found.mend == "update weighin"
        old = honest(root, change=lambda b: (b["spec"].update(version=1), told("accuracy", 12.0)(b)))  # type: ignore[func-returns-value]
        (mark,) = check([old], registry=house)
        assert (mark.level, mark.field) == ("mark", "spec.version")
        (old / bundle.TIMING).write_bytes(b"")
        refused(house, old, "sha256")


def test_unknown_truth_is_an_error_in_the_closed_division_and_a_mark_in_the_open(house: House) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b["spec"].update(case="stripes/net")), "truth")
        path = honest(root, change=lambda b: b["spec"].update(case="stripes/net", division="open"))
        (mark,) = check([path], registry=house)
        assert (mark.level, mark.field) == ("mark", "truth")


def test_a_score_that_cannot_be_derived_is_said(house: House) -> None:
    table = {**evidence(), "label": np.full(ROWS, -1, np.int16)}
    with results() as root:
        path = honest(root, change=lambda b: b["spec"].update(case="stripes/net", division="open"), evidence=table)
        refused(house, path, "rows", bundle.EVIDENCE)


# -- repetition ----------------------------------------------------------------------------------------------------


def test_a_run_is_submitted_once(house: House) -> None:
    with results() as root, results() as other:
        path = honest(root)
        shutil.copytree(path, other / path.relative_to(root))
        assert errors(house, path, against=root) == []  # it is itself
        assert errors(house, Path(os.path.relpath(path)), against=root) == []
        assert errors(house, path, against=other) == []  # what stands on the board is in a clone of it
        assert [f.field for f in errors(house, root, other)] == ["id"]
        shutil.move(other / path.relative_to(root), other / "dots/small/plain/elsewhere")
        assert [f.field for f in errors(house, path, against=other)] == ["id"]


def test_the_same_order_with_the_same_evidence_is_submitted_once(house: House) -> None:
    with results() as root:
        honest(root)
        honest(root, change=lambda b: b.update(created="2026-11-26T00:00:00Z"))
        assert [f.field for f in errors(house, root)] == ["key"]


def test_two_seeds_do_not_share_evidence(house: House) -> None:
    same = evidence(0)

    def scored(body: Fields) -> None:
        ours = {m.name: stored(m) for m in Dots().score(Spec(**body["spec"]), same)}
        body["measures"] = [ours.get(m["name"], m) for m in body["measures"]]

    with results() as root:
        honest(root, seed=0)
        honest(root, seed=1, change=scored, evidence=same)
        (found,) = errors(house, root)
        assert (found.file, found.field) == (bundle.EVIDENCE, "row")
    (house.root / "plain.py").write_text(f"{SOURCE}\nseedless = True\n")
    try:
        with results() as root:
            for seed in (0, 1):
                honest(root, seed=seed, change=lambda b: (scored(b), b["method"].update(seedless=True)), evidence=same)  # type: ignore[func-returns-value]
            assert errors(house, root) == []
    finally:
        (house.root / "plain.py").write_text(SOURCE)


# -- cards and retractions -----------------------------------------------------------------------------------------


def test_cards_lie_beside_or_in_what_is_checked_against(house: House) -> None:
    with results() as root, results() as other:
        path = honest(root)
        shutil.rmtree(root / "systems")
        assert {f.field for f in errors(house, path)} == {"systems.solve", "systems.weigh"}
        assert errors(house, path, against=other) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 90_000,
        b'{"a":' * 15_000,
        b"NaN",
        b'{"processor": NaN}',
        b"\xff",
        b'{"processor": {"m": "\\ud800"}}',
        b" " * 100_001,
        b'{"processor":{"m":"\\ud800"},"memory":{},"system":{},"software":{},"gpu":{}}',
        b'{"processor":{"\\ud800":1},"memory":{},"system":{},"software":{},"gpu":{}}',
        b'{"processor":{},"memory":{},"system":{},"software":{},"gpu":{}}',
    ],
)
def test_cards_that_are_none_are_refused(house: House, data: bytes) -> None:
    with results() as root:
        path = honest(root)
        (root / "systems" / f"{card().hash}.json").write_bytes(data)
        refused(house, path, "systems")
        refused(house, root, "systems")


def test_a_card_may_not_be_a_link_and_its_facts_may_be_of_any_type(house: House) -> None:
    with results() as root:
        path = honest(root)
        link_away(root / "systems" / f"{card().hash}.json")
        refused(house, path, "systems")
    for odd in ("much", [8], None, True, {"a": 1}):
        with results() as root:
            system.write_card(card(odd), root / "systems")
            both = dict.fromkeys(("solve", "weigh"), card(odd).hash)
            errors(house, honest(root, change=lambda b, both=both: b.update(systems=both)))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (json.dumps({"id": "0" * 64, "reason": "wrong data"}), True),
        (json.dumps({"id": "0" * 64, "reason": "wrong data", "date": "2026-01-31"}), True),
        (json.dumps({"id": "0" * 64, "reason": " "}), False),
        (json.dumps({"id": "0" * 63, "reason": "wrong"}), False),
        (json.dumps({"id": "0" * 64, "reason": "wrong", "date": "today"}), False),
        (json.dumps({"id": "0" * 64, "reason": 3}), False),
        (json.dumps({"id": "0" * 64}), False),
        (json.dumps({"id": "0" * 64, "reason": "wrong", "by": "me"}), False),
        ("[" * 9000, False),
        ("", False),
    ],
)
def test_retractions_are_small_files_with_a_reason(house: House, text: str, holds: bool) -> None:
    with results() as root:
        run = bundle.read(honest(root)).id
        (root / "retractions").mkdir()
        (root / "retractions" / "one.json").write_text(text.replace("0" * 64, run))
        assert (not errors(house, root)) == holds


# -- what it says, and what it needs ---------------------------------------------------------------------------------


def test_at_most_twenty_findings_a_bundle(house: House) -> None:
    extra = [stored(Measure("made_up", float(i), "", "", f"part {i}")) for i in range(500)]
    with results() as root:
        assert len(check([honest(root, change=lambda b: b["measures"].extend(extra))], registry=house)) == 20


@given(st.text())
@QUICK
def test_printable_text_is_one_safe_line(text: str) -> None:
    safe = printable(text)
    assert safe.isprintable()
    assert len(safe) <= 300
    assert not {"<", ">"} & set(safe)
    safe.encode()


def test_a_finding_is_a_line_and_a_record() -> None:
    found = Finding("results/b", "run.json", "id", "error", "is wrong", "mend it")
    assert found.line() == "error: results/b/run.json: id: is wrong; mend it"
    assert found.to_json() == asdict(found)
    assert Finding("results/b", ".", "folder", "mark", "m", "n").line() == "mark: results/b: folder: m; n"


def test_programming_errors_are_not_swallowed(house: House) -> None:
    class Broken(Dots):
        def score(self, spec: Spec, evidence: Table) -> list[Measure]:
            raise TypeError("a mistake of ours")

    class Other(House):
        def task(self, name: str, /) -> Dots:
            return Broken()

    with results() as root, pytest.raises(TypeError, match="a mistake of ours"):
        check([honest(root)], registry=Other(house.root))


def test_our_registry_is_a_registry_and_checking_imports_no_torch(tmp_path: Path) -> None:
    ours: Registry = registry
    assert "image_pruning" in ours.tasks()
    code = (
        "import sys; from pathlib import Path; from tests import demo; from suite.check import check\n"
        f"root = Path({str(tmp_path)!r}); demo.write(root); found = check([root])\n"
        "assert [f.line() for f in found if f.level == 'error'] == [], [f.line() for f in found]\n"
        "assert not {'torch', 'torchvision', 'pickle5', 'duckdb'} & set(sys.modules)"
    )
    here = {**os.environ, "PYTHONPATH": str(registry.HOUSE)}
    done = subprocess.run([sys.executable, "-c", code], cwd=registry.HOUSE, env=here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
