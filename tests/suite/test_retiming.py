"""A row's shape travels in its bundle, is held to its operations, and is weighed again on another machine by the same scale."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suite import bundle, check, registry, retiming, runner, system, timings
from suite.checks.findings import Finding
from suite.forkserver import ForkServer
from suite.naming import UserError, indented_json
from suite.order import Order
from tests import demo
from tests.commands import forked_command
from tests.suite.conftest import CARD, settings, silent

FACTS = CARD.model_dump()
OTHER = system.SystemCard(**{**FACTS, "processor": {**CARD.processor, "model": "Another processor"}})
Weighed = tuple[Path, runner.Settings, Order]


@pytest.fixture(scope="module")
def timed(weighed: Weighed, server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with one row and its timing on another machine; returns the timing's folder."""
    root = tmp_path_factory.mktemp("timed")
    path = copied(weighed[0], weighed[1].out, root / "results")
    record = bundle.read(path)
    asked = runner.Again(record, (path / bundle.DEPLOYED).read_bytes(), "bundle")
    chosen = settings(root, launch=server.launch, submitter="Lab B")
    return runner.time_again(asked, chosen, "cpu", 1, OTHER, silent)


def copied(path: Path, results: Path, to: Path) -> Path:
    shutil.copytree(results / "systems", to / "systems", dirs_exist_ok=True)
    return Path(shutil.copytree(path, to / path.relative_to(results)))


def errors(*paths: Path) -> list[Finding]:
    return [f for f in check.check(paths) if f.level == "error"]


def test_a_timing_tells_the_rows_workloads_on_its_own_card_and_holds(timed: Path) -> None:
    results = timed.parents[2]
    told = timings.read(timed)
    (path,) = bundle.find(results)
    row = bundle.read(path)
    assert (told.row.id, told.row.key, told.card, told.submitter) == (row.id, row.key, OTHER.hash, "Lab B")
    assert (told.origin, told.shape) == ("bundle", bundle.sha256(path / bundle.DEPLOYED))
    parts = {m.part for m in row.measures if m.name == "speedup"}
    assert {m.part for m in told.measures if m.name == "speedup"} == parts == {"infer@1", "infer@64", "infer@256"}
    # weights and what they take are the same; quality, counts and training are the row's alone
    for name, part in {(m.name, m.part) for m in told.measures if m.name == "memory_weights"}:
        mine, theirs = told_measure(told, name, part), row.measure(name, part)
        assert theirs is not None
        assert mine == theirs.value
    assert {m.source for m in told.measures} == {"timing", "meter"}
    assert not {m.name for m in told.measures} & {"macs", "examples", "train_seconds", "top1"}
    items = (bundle.read_table(p / bundle.TIMING) for p in (path, timed))
    assert len({json.dumps(sorted(set(zip(t["workload"].tolist(), t["items"].tolist(), strict=True)))) for t in items}) == 1
    assert errors(results) == []
    assert errors(timed) == []
    assert [p.name for p in (results.parent / "work").iterdir() if p.is_dir()] == []


def told_measure(told: timings.TimingRecord, name: str, part: str) -> float:
    return next(m.value for m in told.measures if (m.name, m.part) == (name, part))


def forged(timed: Path, root: Path, change: Callable[[dict[str, Any]], Any], table: dict[str, np.ndarray] | None = None) -> Path:
    """A copy of the results in which the timing's record is changed and hashed anew, as a forger would; returns the timing."""
    results = Path(shutil.copytree(timed.parents[2], root / "results"))
    shutil.rmtree(results / timings.FOLDER)
    scratch = root / "timing.parquet"
    if table is None:
        shutil.copyfile(timed / bundle.TIMING, scratch)
    else:
        bundle.write_table(table, scratch)
    body = timings.read(timed).model_dump(mode="json")
    body["files"] = {bundle.TIMING: bundle.describe(scratch).model_dump()}
    change(body)
    body.pop("id")
    return timings.write(results, timings.seal(body), scratch)


def speed(body: dict[str, Any]) -> None:
    next(m for m in body["measures"] if m["name"] == "speedup")["value"] *= 1.1


def row(name: str, value: str) -> Callable[[dict[str, Any]], Any]:
    return lambda body: body["row"].update({name: value})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (speed, "the files give"),
        (lambda b: b["measures"].pop(0), "is missing"),
        (lambda b: b.update(shape="0" * 64), "is not the one in the row's bundle"),
        (lambda b: b.update(origin="operations"), "is not the one in the row's bundle"),
        (row("id", "f" * 64), "is of no run that is here"),
        (row("key", "f" * 64), "is of no run that is here"),
        (row("method", "dense"), "is of no run that is here"),
        (lambda b: b.update(card="d" * 16), "no card"),
        (lambda b: b.update(device="cuda"), "the card names no GPU"),
        (lambda b: b.update(created="2099-01-01T00:00:00Z"), "lies in the future"),
        (lambda b: b.update(unsupported={"infer@64": "no"}), "is timed, and said not to be supported"),
        (
            lambda b: b["measures"].append({**b["measures"][-1], "name": "macs", "part": "", "unit": "", "source": "meter"}),
            "the row itself tells it",
        ),
        (
            lambda b: b["measures"].append({**b["measures"][-1], "name": "top1", "part": "", "source": "evidence"}),
            "cannot be derived",
        ),
        (lambda b: b["libraries"].update(torch="1.0.0"), "its card tells torch"),
    ],
)
def test_a_forged_timing_is_refused(timed: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], told: str) -> None:
    found = errors(forged(timed, tmp_path, change).parents[2])
    assert any(told in f.message for f in found), [f.line() for f in found]


def test_a_timing_handles_as_many_items_as_the_row(timed: Path, tmp_path: Path) -> None:
    from suite.meters import timing

    table = bundle.read_table(timed / bundle.TIMING)
    table["items"] = np.where(table["workload"] == "infer@64", 6400, table["items"]).astype(np.int32)

    def derived(body: dict[str, Any]) -> None:
        body["measures"] = [demo.record(m) for m in timing.derive(table)]

    found = errors(forged(timed, tmp_path, derived, table).parents[2])
    assert any("6400" in f.message for f in found), found


def test_a_timings_files_are_plain_and_in_their_place(timed: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(timed.parents[2], tmp_path / "results"))
    mine = results / timed.relative_to(timed.parents[2])
    (mine / "weights.pt").write_bytes(b"")
    assert any("does not belong in a timing" in f.message for f in errors(results))
    (mine / "weights.pt").unlink()
    text = (mine / timings.TIME).read_text(encoding="utf-8")
    (mine / timings.TIME).write_text(text.replace('"origin": "bundle"', '"origin":  "bundle"'), encoding="utf-8")
    assert any("not written as the runner writes it" in f.message for f in errors(results))
    (mine / timings.TIME).write_text(text, encoding="utf-8")
    assert errors(results) == []
    mine.rename(mine.with_name(mine.name.replace(OTHER.hash, "d" * 16)))
    assert any("lies at" in f.message for f in errors(results))
    (results / timings.FOLDER / "notes.txt").write_text("", encoding="utf-8")
    assert any("does not belong in results" in f.message for f in errors(results))


def reshaped(weighed: Weighed, root: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the bundle with another shape in it, hashed anew, as a forger would."""
    path = copied(weighed[0], weighed[1].out, root / "results")
    raw = json.loads((path / bundle.DEPLOYED).read_bytes())
    change(raw)
    (path / bundle.DEPLOYED).write_bytes(bundle.canonical_json(raw) + b"\n")
    body = bundle.read(path).model_dump(mode="json", exclude_unset=True)
    body["deployed"] = bundle.describe_plain(path / bundle.DEPLOYED).model_dump()
    body["id"] = bundle.identity(body)
    (path / bundle.RUN).write_text(indented_json(body) + "\n", encoding="utf-8")
    return path.rename(path.with_name(f"{body['key'][:12]}-{body['id'][:12]}"))


def widths(step: int) -> Callable[[dict[str, Any]], Any]:
    """Channels more or fewer between two layers, in all tensors that have them."""

    def change(raw: dict[str, Any]) -> None:
        block = "stages.1.0"
        for name, axis in (("conv1.weight", 0), ("bn1.weight", 0), ("bn1.bias", 0), ("conv2.weight", 1)):
            entry = raw["tensors"][f"{block}.{name}"]
            entry["size"][axis] += step
            entry["nonzero"] = math.prod(entry["size"]) if entry["nonzero"] else 0
            entry.pop("where", None)

    return change


@pytest.mark.parametrize("step", [-1, 1])
def test_a_shape_that_is_wider_or_narrower_than_the_operations_is_an_error(weighed: Weighed, tmp_path: Path, step: int) -> None:
    found = errors(reshaped(weighed, tmp_path, widths(step)))
    assert {f.file for f in found} == {bundle.DEPLOYED}
    assert any("params of stages.1.0.conv1 are" in f.message for f in found)
    assert any("params of stages.1.0.conv2 are" in f.message for f in found)


def without_layer(raw: dict[str, Any]) -> None:
    del raw["tensors"]["fc.weight"], raw["tensors"]["fc.bias"]


def sparser(raw: dict[str, Any]) -> None:
    raw["tensors"]["fc.weight"]["nonzero"] -= 1


def with_layer(raw: dict[str, Any]) -> None:
    raw["tensors"]["more.weight"] = {"size": [1], "nonzero": 1}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_layer, "lacks fc"),
        (sparser, "nonzero of fc are"),
        (with_layer, "has a layer more"),
        (lambda raw: raw["facts"].update(classes=100), "the set has"),
        (lambda raw: raw.update(form=99), "form is 99|is 99"),
    ],
)
def test_a_forged_shape_is_an_error(weighed: Weighed, tmp_path: Path, change: Callable[[dict[str, Any]], Any], told: str) -> None:
    import re

    found = errors(reshaped(weighed, tmp_path, change))
    assert any(re.search(told, f.message) for f in found), found


def test_a_row_whose_shape_is_not_its_own_is_not_weighed(weighed: Weighed, tmp_path: Path) -> None:
    path = reshaped(weighed, tmp_path, widths(1))
    with pytest.raises(UserError, match=r"params of stages\.1\.0\.\w+ are"):
        retiming.shape_of(retiming.Candidate(path, bundle.read(path)))


def test_what_is_built_must_count_as_the_row_does(weighed: Weighed, server: ForkServer, tmp_path: Path) -> None:
    """Even where the row's operations and its shape agree in what a shape tells: another architecture under the same names."""
    path = copied(weighed[0], weighed[1].out, tmp_path / "results")
    record = bundle.read(path)
    layers = [x.model_copy(update={"macs": x.macs * 2}) if x.name == "conv1" else x for x in record.operations]
    asked = runner.Again(record.model_copy(update={"operations": layers}), (path / bundle.DEPLOYED).read_bytes(), "bundle")
    with pytest.raises(UserError, match="macs of conv1 are"):
        runner.time_again(asked, settings(tmp_path, launch=server.launch), "cpu", 1, OTHER, silent)
    assert not (tmp_path / "results" / timings.FOLDER).exists()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows of three methods and two targets with shapes nobody can read: for plans alone."""
    root = tmp_path / "results"
    for method, accuracy in (("dense", 0.9), ("chex", 0.8), ("fpgm", 0.85)):
        for seed in (0, 1):
            shape = {"deployed": {"sha256": "a" * 64, "bytes": 10}}
            demo.write(root, method, target="" if method == "dense" else "macs=0.5", seed=seed, accuracy=accuracy, changes=shape)
    demo.write(root, "gmp", target="macs=0.5")
    return root


def test_rows_without_a_timing_come_first_the_best_ranked_before_the_others(rows: Path) -> None:
    plan = retiming.plan([rows], None, "cpu", OTHER)
    order = [(c.record.method.name, c.record.spec.seed) for c in plan.todo if c.record.spec.target]
    assert order == [("fpgm", 0), ("chex", 0), ("fpgm", 1), ("chex", 1)]
    (left,) = plan.left
    assert (left.record.method.name, left.done) == ("gmp", False)
    assert "holds no shape" in left.reason


def test_what_was_weighed_on_this_class_of_machine_is_passed_over(rows: Path) -> None:
    best = next(p for p in bundle.find(rows) if "fpgm" in p.parts and bundle.read(p).spec.seed == 0)
    demo.retime(rows, best, machine=OTHER)
    plan = retiming.plan([rows], None, "cpu", OTHER)
    order = [(c.record.method.name, c.record.spec.seed) for c in plan.todo if c.record.spec.target]
    assert order == [("chex", 0), ("fpgm", 1), ("chex", 1)]
    assert [x.path for x in plan.left if x.done] == [best]
    patched = system.SystemCard(**{**OTHER.model_dump(), "software": {**OTHER.software, "python": "3.11.99"}})
    same_minor = OTHER.software["python"].startswith("3.11.")
    assert patched.hash != OTHER.hash
    assert (best in [x.path for x in retiming.plan([rows], None, "cpu", patched).left if x.done]) == same_minor
    # what weighed the bundles themselves has weighed them
    assert len([x for x in retiming.plan([rows], None, "cpu", demo.card()).left if x.done]) == 7


def test_a_task_without_shapes_says_so(tmp_path: Path) -> None:
    root = demo.video(tmp_path / "results", ("awdnn",), seeds=1)
    without = [name for name in registry.tasks() if registry.shapes(name) is None]
    found = retiming.plan([root], None, "cpu", OTHER)
    if "mobile_vsr" in without:
        assert {x.reason for x in found.left} == {"mobile_vsr tells no shapes: its rows cannot be re-timed yet"}


def test_a_folder_without_bundles_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bundle lies there"):
        retiming.plan([tmp_path], None, "cpu", OTHER)


def candidates(rows: Path) -> list[retiming.Candidate]:
    return list(retiming.plan([rows], None, "cpu", OTHER).todo)


def test_a_budget_ends_the_weighing_in_time(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is begun that would not be done, and one that is not done when the time is over is given up."""
    clock = [0.0]
    lasts = iter([10.0, 10.0, 30.0])
    caps: list[float | None] = []

    def weigh(asked: runner.Again, chosen: runner.Settings, *_: Any) -> Path:
        caps.append(chosen.cap_seconds)
        clock[0] += (took := next(lasts))
        assert chosen.cap_seconds is not None
        if took > chosen.cap_seconds:
            raise TimeoutError
        return rows

    monkeypatch.setattr(retiming.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(runner, "time_again", weigh)
    monkeypatch.setattr(retiming, "shape_of", lambda c: (b"", "bundle"))
    given = {"out": None, "device": "cpu", "threads": 1, "card": OTHER, "memory": False, "show": lambda c: silent}
    done = list(retiming.time_all(candidates(rows), lambda root: runner.Settings(root, root), seconds=25, **given))
    assert (len(done), caps) == (2, [25.0, 15.0])  # 5 s are left, and a row takes 10
    clock[0], lasts = 0.0, iter([10.0, 30.0])
    caps.clear()
    done = list(retiming.time_all(candidates(rows), lambda root: runner.Settings(root, root), seconds=25, **given))
    assert (len(done), caps) == (1, [25.0, 15.0])  # the second overran, and leaves nothing


def test_a_row_that_cannot_be_weighed_does_not_end_the_others(rows: Path) -> None:
    """Its file is not in the bundle: told, and the next one is tried."""
    given = {"out": None, "device": "cpu", "threads": 1, "card": OTHER, "memory": False, "show": lambda c: silent}
    todo = candidates(rows)[:2]
    done = list(retiming.time_all(todo, lambda root: runner.Settings(root, root), seconds=math.inf, **given))
    assert [t.path for t in done] == [None, None]
    assert all("weighin check" in t.reason for t in done)


def test_the_command_times_a_row_and_the_second_time_finds_it_done(weighed: Weighed, tmp_path: Path) -> None:
    """By the command itself: its stages have interpreters of their own, which takes seconds."""
    path = copied(weighed[0], weighed[1].out, tmp_path / "results")
    threads = "1" if CARD.processor["threads_used"] > 1 else "0"
    for turn in range(2):
        process = forked_command(
            "time", "results", "--threads", threads, "--no-memory", "--json", folder=tmp_path, OMP_WAIT_POLICY="PASSIVE"
        )
        process.join(120)
        told = json.loads((tmp_path / "stdout").read_text(encoding="utf-8"))
        assert (process.exitcode, told["failed"], told["waiting"], told["left_out"]) == (0, [], [], [])
        if threads == "1":
            assert (len(told["timed"]), len(told["done"])) == ((1, 0) if not turn else (0, 1))
            assert told["card"] != CARD.hash
    assert errors(tmp_path / "results") == []
    assert path.exists()
