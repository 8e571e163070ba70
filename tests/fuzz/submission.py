"""A committed bundle taken apart, and put together again as a forger would: hashes, id, key and derived measures computed anew."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from suite import bundle, registry
from suite.checks.numbers import equal
from suite.meters import timing
from suite.naming import digest
from suite.protocol import Measure, Spec

Fields = dict[str, Any]
Table = dict[str, np.ndarray]


@dataclass
class Submission:
    """What a forger holds in hand."""

    source: Path  #: the honest bundle
    body: Fields
    tables: dict[str, Table]
    raw: dict[str, bytes] = field(default_factory=dict)  #: bytes in place of a file
    derive: bool = True  #: measures of evidence and timing are computed again
    rekey: bool = True
    text: bytes | None = None  #: in place of run.json
    place: tuple[str, ...] = ()  #: folders in place of those that the record names
    beside: dict[str, bytes] = field(default_factory=dict)  #: further files, by path below the results

    def measure(self, name: str, part: str = "") -> Fields | None:
        return next((m for m in self.body["measures"] if (m["name"], m["part"]) == (name, part)), None)

    def of(self, source: str) -> list[Fields]:
        return [m for m in self.body["measures"] if m["source"] == source]


@cache
def _honest(path: Path) -> tuple[Fields, dict[str, Table]]:
    body = json.loads((path / bundle.RUN).read_bytes())
    return body, {n: bundle.read_table(path / n) for n in body["files"]}


def opened(path: Path) -> Submission:
    """An honest bundle, to be changed."""
    body, tables = _honest(path)
    return Submission(path, copy.deepcopy(body), {n: {k: v.copy() for k, v in t.items()} for n, t in tables.items()})


def stored(m: Measure) -> Fields:
    """A measure as run.json has it."""
    low, high = m.interval or (None, None)
    return {
        "name": m.name, "part": m.part, "value": float(m.value), "unit": m.unit, "direction": m.direction, "low": low, "high": high,
        "source": m.source, "warnings": list(m.warnings),
    }  # fmt: skip


def same_numbers(s: Submission, path: Path) -> bool:
    """Whether the files of a written submission give the numbers of the honest bundle, as the checker compares them."""
    tables = {n: bundle.read_table(path / n) for n in s.body["files"]}
    told = {(m["name"], m["part"]): m for m in s.body["measures"] if m["source"] != "meter"}
    return all(equal(m["value"], told[m["name"], m["part"]]["value"]) for m in _derived(replace(s, tables=tables)))


def _derived(s: Submission) -> list[Fields]:
    spec = Spec(**{k: v for k, v in s.body["spec"].items() if k != "data"})
    task = registry.task(s.source.parents[2].name).of(str(spec.case))
    found: list[Measure] = []
    if bundle.EVIDENCE in s.tables:
        found += task.score(spec, s.tables[bundle.EVIDENCE])
    if bundle.TIMING in s.tables:
        calls = timing.calls_of((m["name"], m["part"], m["value"]) for m in s.of("meter"))
        found += [
            *timing.derive(s.tables[bundle.TIMING]),
            *timing.jobs(s.tables[bundle.TIMING], calls, task.jobs, s.body["unsupported"]),
        ]
    return [stored(m) for m in found]


def written(s: Submission, root: Path) -> Path:
    """The submission as a folder of results under `root`, with the cards that it names; returns its bundle's folder."""
    body = s.body
    if s.derive:
        with contextlib.suppress(Exception):  # what nothing can be derived of keeps the measures that were there
            body["measures"] = [*s.of("meter"), *_derived(s)]
    scratch = root / "scratch"
    shutil.rmtree(root, ignore_errors=True)
    scratch.mkdir(parents=True)
    changed = {n for n, t in s.tables.items() if not _equal(t, _honest(s.source)[1][n])}
    for name in s.source.iterdir():
        if name.name != bundle.RUN and name.name not in changed and name.name not in s.raw:
            shutil.copyfile(name, scratch / name.name)
    for name in changed - s.raw.keys():
        bundle.write_table(s.tables[name], scratch / name)
    for name, data in s.raw.items():
        (scratch / name).write_bytes(data)
    described = [v for v in (body.get("files"), body.get("pictures")) if isinstance(v, dict)]
    for name, entry in [pair for entries in described for pair in entries.items()]:
        if (scratch / name).exists():
            data = (scratch / name).read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            if name in changed:
                entry["rows"] = len(next(iter(s.tables[name].values())))
    if s.rekey:
        method = body["method"]
        asked = [body["spec"], method["name"], _identity(s), method["configuration"], body["data"]]
        body["key"] = digest([*asked, body["processes"], body["systems"]])
    body["id"] = bundle.identity(body)
    text = json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (scratch / bundle.RUN).write_bytes(s.text if s.text is not None else text.encode("utf-8", "surrogatepass"))
    spec = body["spec"]
    named = (spec["task"], spec["tier"], body["method"]["name"], f"{body['key'][:12]}-{body['id'][:12]}")
    parts = s.place or tuple(str(p).replace("/", "_").replace("\0", "_")[:120] or "_" for p in named)
    final = root.joinpath("results", *parts)
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(final)
    cards = s.source.parents[3] / "systems"
    (root / "results" / "systems").mkdir(exist_ok=True)
    for name in set(_honest(s.source)[0]["systems"].values()):
        shutil.copyfile(cards / f"{name}.json", root / "results" / "systems" / f"{name}.json")
    for name, data in s.beside.items():
        file = root / "results" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return final


def _identity(s: Submission) -> str:
    """The digest that stood for the method's version in the honest key."""
    honest, method = _honest(s.source)[0], s.body["method"]
    if method["version"] != honest["method"]["version"]:
        return str(method["version"])
    return _opened(honest["key"], json.dumps(honest, sort_keys=True))


@cache
def _opened(key: str, text: str) -> str:
    from suite import versions

    body = json.loads(text)
    method, task = body["method"], body["spec"]["task"]
    entries = versions.table(task).methods.get(method["name"], ())
    for identity in dict.fromkeys((method["version"], *(e.digest for e in entries))):
        asked = [body["spec"], method["name"], identity, method["configuration"], body["data"], body["processes"], body["systems"]]
        if digest(asked) == key:
            return identity
    return str(method["version"])


def _equal(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)
