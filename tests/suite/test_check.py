"""Tampering: whatever is changed in a stored bundle is refused, with file, field and mend, and without a traceback."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from suite import bundle, check
from tests import demo


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one honest bundle."""
    root = tmp_path_factory.mktemp("honest")
    demo.write(root, seed=0)
    shutil.rmtree(root / ".work")
    return root


@pytest.fixture
def results(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "results"))


def the_bundle(results: Path) -> Path:
    (path,) = bundle.find(results)
    return path


def errors(results: Path) -> list[check.Finding]:
    return [f for f in check.check([results]) if f.level == "error"]


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change run.json and recompute all that a forger can: hashes of files, id, folder name."""
    fields = json.loads((path / bundle.RUN).read_text())
    change(fields)
    for name in list(fields.get("files", {})):
        if (path / name).exists():
            fields["files"][name].update(sha256=bundle.sha256(path / name), bytes=(path / name).stat().st_size)
    fields["id"] = bundle.identity(fields)
    # as the runner writes it: else all would be refused for its layout alone
    text = json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    (path / bundle.RUN).write_text(text, encoding="utf-8")
    return path.rename(path.with_name(f"{fields['key'][:12]}-{fields['id'][:12]}"))


def set_measure(name: str, part: str = "", **values: Any) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        (m,) = [m for m in fields["measures"] if (m["name"], m["part"]) == (name, part)]
        m.update(values)

    return change


def rewrite(path: Path, name: str, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    table = {k: v.copy() for k, v in bundle.read_table(path / name).items()}
    out = change(table)
    bundle.write_table(table if out is None else out, path / name)


def test_an_honest_bundle_passes(results: Path) -> None:
    assert errors(results) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused(honest: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    results = Path(shutil.copytree(honest, tmp_path_factory.mktemp("m") / "r"))
    path = the_bundle(results)
    name = data.draw(st.sampled_from([bundle.RUN, bundle.EVIDENCE, bundle.TIMING]))
    content = bytearray((path / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda b: b != content[at]))
    content[at] = new
    (path / name).write_bytes(bytes(content))
    found = errors(results)
    shutil.rmtree(results)
    assert found
    assert all(f.mend and f.message for f in found)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_number_passes_even_with_the_hash_recomputed(
    honest: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    results = Path(shutil.copytree(honest, tmp_path_factory.mktemp("m") / "r"))
    path = the_bundle(results)
    fields = json.loads((path / bundle.RUN).read_text())
    derived = [i for i, m in enumerate(fields["measures"]) if m["source"] != "meter"]
    at = data.draw(st.sampled_from(derived))
    column = data.draw(st.sampled_from(["value", "low", "high"]))
    old = fields["measures"][at][column]
    factor = data.draw(st.floats(0.5, 2).filter(lambda f: abs(f - 1) > 1e-6))

    def change(fields: dict[str, Any]) -> None:
        fields["measures"][at][column] = (old or 0.5) * factor

    if old == 0:
        change = set_measure(fields["measures"][at]["name"], fields["measures"][at]["part"], value=0.123)
    reseal(path, change)
    found = errors(results)
    shutil.rmtree(results)
    assert found


FORGERIES: dict[str, Callable[[Path], Any]] = {
    "a better accuracy": lambda p: reseal(p, set_measure("top1", value=99.0, low=98.0, high=99.5)),
    "above 100": lambda p: reseal(p, set_measure("top1", value=101.0, low=100.0, high=102.0)),
    "a derived number called metered": lambda p: reseal(p, set_measure("top1", value=99.0, low=None, high=None, source="meter")),
    "negative training time": lambda p: reseal(p, set_measure("train_seconds", value=-1.0)),
    "training in no time": lambda p: reseal(p, set_measure("train_seconds", value=1e-9)),
    "memory beyond the card's": lambda p: reseal(p, set_measure("memory_peak", "infer@64", value=1e13)),
    "fewer operations than the layers": lambda p: reseal(p, set_measure("macs", value=1e6)),
    "a kept share that is no ratio": lambda p: reseal(p, set_measure("kept.macs", value=0.4)),
    "more non-zeros than weights": lambda p: reseal(p, lambda f: f["operations"][0].update(nonzero=10**9)),
    "a missing measure": lambda p: reseal(p, lambda f: f["measures"].pop(0)),
    "a surplus measure": lambda p: reseal(p, lambda f: f["measures"].append({**f["measures"][0], "name": "fame"})),
    "a measure twice": lambda p: reseal(p, lambda f: f["measures"].append({**f["measures"][0], "source": "meter"})),
    "an unknown task": lambda p: reseal(p, lambda f: f["spec"].update(task="nothing")),
    "an unknown version": lambda p: reseal(p, lambda f: f["spec"].update(version=99)),
    "another tier's data": lambda p: reseal(p, lambda f: f.update(data="0" * 64)),
    "an unknown method": lambda p: reseal(p, lambda f: f["method"].update(name="nothing")),
    "another's method under our name": lambda p: reseal(p, lambda f: f["method"].update(origin="file")),
    "a card that is not there": lambda p: reseal(p, lambda f: f["systems"].update(weigh="0" * 16)),
    "markup in a name": lambda p: reseal(p, lambda f: f["method"].update(name="<script>")),
    "a path in a name": lambda p: reseal(p, lambda f: f["method"].update(name="../../x")),
    "markup in the submitter": lambda p: reseal(p, lambda f: f.update(submitter="<b>me</b>")),
    "a field of one's own": lambda p: reseal(p, lambda f: f.update(fame=1)),
    "a newer schema": lambda p: reseal(p, lambda f: f.update(schema_version=2)),
    "a failure that has measures": lambda p: reseal(p, lambda f: f.update(status="error", reason="x")),
    "a failure without a reason": lambda p: reseal(p, lambda f: f.update(status="error", files={}, measures=[])),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_record_is_refused(results: Path, forgery: str) -> None:
    FORGERIES[forgery](the_bundle(results))
    found = errors(results)
    assert found
    assert all(f.field and f.message and f.mend and "\n" not in f.line() for f in found)


def _labels(t: dict[str, np.ndarray]) -> None:
    t["label"][:50] = t["prediction"][:50]


def _twice(t: dict[str, np.ndarray]) -> None:
    t["row"][1] = 0


def _nan(t: dict[str, np.ndarray]) -> None:
    t["confidence"][5] = np.nan


TABLES: dict[str, tuple[str, Callable[[dict[str, np.ndarray]], Any]]] = {
    "labels changed to the predictions": (bundle.EVIDENCE, _labels),
    "rows left out": (bundle.EVIDENCE, lambda t: {k: v[:-7] for k, v in t.items()}),
    "rows added": (bundle.EVIDENCE, lambda t: {k: np.concatenate([v, v[:3]]) for k, v in t.items()}),
    "a row twice": (bundle.EVIDENCE, _twice),
    "a column more": (bundle.EVIDENCE, lambda t: {**t, "extra": t["row"]}),
    "a column less": (bundle.EVIDENCE, lambda t: {k: v for k, v in t.items() if k != "confidence"}),
    "another type": (bundle.EVIDENCE, lambda t: {**t, "label": t["label"].astype("int64")}),
    "NaN": (bundle.EVIDENCE, _nan),
    "no rows": (bundle.EVIDENCE, lambda t: {k: v[:0] for k, v in t.items()}),
    "blocks in another order": (bundle.TIMING, lambda t: {k: v[::-1].copy() for k, v in t.items()}),
    "slow blocks left out": (bundle.TIMING, lambda t: {k: v[t["seconds"] < np.median(t["seconds"])] for k, v in t.items()}),
    "short blocks": (bundle.TIMING, lambda t: {**t, "seconds": t["seconds"] / 100}),
    "a negative block": (bundle.TIMING, lambda t: {**t, "seconds": -t["seconds"]}),
}


@pytest.mark.parametrize("forgery", TABLES)
def test_a_forged_table_is_refused(results: Path, forgery: str) -> None:
    path = the_bundle(results)
    name, change = TABLES[forgery]
    rewrite(path, name, change)

    def rows(fields: dict[str, Any]) -> None:
        fields["files"][name]["rows"] = parquet.read_metadata(path / name).num_rows

    reseal(path, rows)
    assert errors(results)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(results: Path) -> None:
    path = the_bundle(results)
    rows = 40_000_000
    zero = pa.array(np.zeros(rows, np.int16))
    table = pa.table(
        {"row": pa.array(np.zeros(rows, np.int32)), "label": zero, "prediction": zero, "confidence": zero.cast(pa.float16())}
    )
    parquet.write_table(table, path / bundle.EVIDENCE, compression="zstd")
    assert (path / bundle.EVIDENCE).stat().st_size < 1_000_000
    reseal(path, lambda f: f["files"][bundle.EVIDENCE].update(rows=rows))
    assert any("more than any evidence needs" in f.message for f in errors(results))


def test_links_and_strangers_are_refused(results: Path, tmp_path: Path) -> None:
    path = the_bundle(results)
    (tmp_path / "elsewhere").write_bytes((path / bundle.EVIDENCE).read_bytes())
    (path / bundle.EVIDENCE).unlink()
    (path / bundle.EVIDENCE).symlink_to(tmp_path / "elsewhere")
    assert any("symbolic link" in f.message for f in errors(results))
    (path / bundle.EVIDENCE).unlink()
    (path / "solution.pt").write_bytes(b"\x80\x04.")
    assert any("does not belong" in f.message for f in errors(results))


def test_a_linked_bundle_is_refused(results: Path, tmp_path: Path) -> None:
    path = the_bundle(results)
    path.rename(tmp_path / "away")
    path.symlink_to(tmp_path / "away")
    assert errors(results)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000,
     b'{"a":' * 5000 + b"1" + b"}" * 5000,
     b'{"schema_version": 1}', b'"' + b"x" * 900_000 + b'"', b"1e999999", b"9" * 200_000],
)  # fmt: skip
def test_hostile_json_is_one_finding(results: Path, text: bytes) -> None:
    (the_bundle(results) / bundle.RUN).write_bytes(text)
    assert len(errors(results)) == 1


def test_an_oversize_record_is_refused(results: Path) -> None:
    path = the_bundle(results)
    with (path / bundle.RUN).open("ab") as f:
        f.write(b" " * 2_000_000)
    assert any("over" in f.message for f in errors(results))


def test_the_same_run_twice_and_the_same_evidence_under_two_seeds(results: Path) -> None:
    path = the_bundle(results)
    twin = Path(shutil.copytree(path, path.with_name("twin")))
    assert any("same run" in f.message for f in errors(results))
    reseal(twin, lambda f: f["spec"].update(seed=1))
    assert any("the same evidence as seed" in f.message for f in errors(results))
    shutil.rmtree(path)


def test_a_method_declared_seedless_may_repeat_its_evidence(results: Path) -> None:
    path = the_bundle(results)
    twin = Path(shutil.copytree(path, path.with_name("twin")))
    reseal(path, lambda f: f["method"].update(seedless=True))

    def change(fields: dict[str, Any]) -> None:
        fields["spec"]["seed"] = 1
        fields["method"]["seedless"] = True

    reseal(twin, change)
    assert not any("same evidence" in f.message for f in errors(results))


def test_a_bundle_in_the_wrong_place_is_refused(results: Path) -> None:
    path = the_bundle(results)
    path.rename(path.with_name("best"))
    assert any(f.field == "folder" for f in errors(results))


def test_a_changed_card_is_refused(results: Path) -> None:
    (card,) = (results / "systems").iterdir()
    fields = json.loads(card.read_text())
    fields["processor"]["cores"] = 64
    card.write_text(json.dumps(fields))
    assert any(f.field.startswith("systems") for f in errors(results))


def test_duplicates_are_found_against_the_board(results: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(results, tmp_path / "submitted"))
    assert not check.check([other], against=results)  # a clone of the board holds what stands on it
    the_bundle(other).parent.rename(other / "image_pruning/small/mine")
    found = check.check([other], against=results)
    assert any("same run" in f.message for f in found)


def test_a_folder_without_bundles_and_a_file(tmp_path: Path) -> None:
    assert check.check([tmp_path])
    (tmp_path / "x").write_text("x")
    assert check.check([tmp_path / "x"])


def test_fields_survive_a_round_trip(results: Path) -> None:
    path = the_bundle(results)
    record = bundle.read(path)
    again = bundle.seal(copy.deepcopy(record.model_dump(mode="json")))
    assert again.id == record.id
    assert os.fspath(bundle.folder(results, again)) == os.fspath(path)


def test_a_workload_whose_name_has_a_slash_may_be_unsupported(tmp_path: Path) -> None:
    demo.write(tmp_path / "r", changes={"unsupported": {"infer@64/bf16": "no such instructions here"}})
    shutil.rmtree(tmp_path / "r" / ".work")
    assert not errors(tmp_path / "r")
    assert "infer@64/bf16" in bundle.read(the_bundle(tmp_path / "r")).unsupported
    with pytest.raises(ValueError, match="unsupported"):
        demo.write(tmp_path / "q", changes={"unsupported": {"<b>play</b>": "markup"}})


def ends(item: int) -> int:
    """Work that the third item ends, with its process."""
    if item == 2:
        os._exit(1)
    return item * item


@pytest.mark.slow
def test_an_item_that_ends_its_process_is_told_and_the_others_are_done() -> None:
    assert list(check.each(ends, range(5))) == [0, 1, None, 9, 16]


def test_a_bundle_that_ends_its_process_is_a_finding(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.write(results, seed=1)
    monkeypatch.setattr(check, "MANY", 2)

    def one_died(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        return (None if i == 0 else work(item) for i, item in enumerate(items))

    monkeypatch.setattr(check, "each", one_died)
    assert [(f.file, f.field) for f in errors(results)] == [(".", "process")]


def test_a_name_that_no_file_system_takes_is_a_finding() -> None:
    assert [f.level for f in check.check([Path("a" * 300)])] == ["error"]


def test_many_bundles_are_found_what_each_is_found_alone(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By several processes as by one: forged figures, a cut file, a repeated run, in the order of the bundles."""
    for seed in (1, 2, 3):
        demo.write(results, seed=seed)
    first, second, third, _ = list(bundle.find(results))
    reseal(first, lambda b: next(m for m in b["measures"] if m["source"] == "evidence").update(value=99.9))
    (second / bundle.EVIDENCE).write_bytes(b"PAR1")
    shutil.copytree(third, third.with_name("aaaaaaaaaaaa-bbbbbbbbbbbb"))
    alone = [f.line() for f in check.check([results])]
    assert len(alone) >= 3
    monkeypatch.setattr(check, "MANY", 2)
    assert [f.line() for f in check.check([results])] == alone
