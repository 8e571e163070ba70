"""What lies beside bundles: an allow-list by name, depth and mode, cards of typed facts, retractions of runs that there are."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from suite import bundle, system
from suite.check import check
from suite.checks import footer, texts
from tests.suite.checks.forger import House, card, errors, evidence, furnished, honest, refused, results


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(furnished(tmp_path_factory.mktemp("house")))


@pytest.mark.parametrize(
    "place",
    [
        "notes.txt",
        "Dots/small/plain/a.json",
        "dots/notes.txt",
        "dots/tiny/plain/x",
        "dots/small/notes.txt",
        "dots/small/plain/notes.txt",
        "dots/small/plain/run/run.json",
        "dots/small/plain/0123456789ab-0123456789ab/deeper/run.json",
        "dots/small/.hidden/0123456789ab-0123456789ab/run.json",
        ".github/workflows/ci.yml",
        ".hidden/x",
        "systems/notes.txt",
        "systems/deeper/x.json",
        "unheard_of/small/x",
    ],
)
def test_everything_in_results_has_its_place(house: House, place: str) -> None:
    with results() as root:
        honest(root)
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text("{}")
        assert errors(house, root)
        assert errors(house, root.parent)  # from a folder above as well


def test_a_pipe_is_told_of_and_not_waited_for(house: House) -> None:
    with results() as root:
        honest(root)
        os.mkfifo(root / "systems" / "pipe.json")
        os.mkfifo(root / "dots" / "pipe")
        assert {f.file for f in errors(house, root)} == {"pipe.json", "pipe"}


def test_files_of_results_are_not_executed(house: House) -> None:
    with results() as root:
        path = honest(root)
        (path / bundle.RUN).chmod(0o755)
        refused(house, root, "file", bundle.RUN)


def test_work_in_progress_is_passed_over(house: House) -> None:
    with results() as root:
        honest(root)
        (root / ".work" / "x").mkdir(parents=True)
        assert errors(house, root) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "<b>Abacus</b>"),
        ("model", "Aba\u202ecus"),
        ("model", "a" * 500),
        ("model", [["nested"]]),
        ("model", {"a": {"b": 1}}),
        ("mo<b>del", "x"),
        ("instructions", ["avx"] * 200),
    ],
)
def test_facts_of_cards_are_short_and_plain(house: House, name: str, value: Any) -> None:
    odd = system.SystemCard(processor={name: value}, memory={"total_gib": 8.0}, system={}, software={}, gpu={})
    with results() as root:
        system.write_card(odd, root / "systems")
        both = dict.fromkeys(("solve", "weigh"), odd.hash)
        refused(house, honest(root, change=lambda b: b.update(systems=both)), "systems")


@pytest.mark.parametrize("gib", ["much", [8], True, {"a": 1}, -1.0, 1e9])
def test_memory_of_a_card_is_an_amount(house: House, gib: Any) -> None:
    odd = system.SystemCard(processor={}, memory={"total_gib": gib}, system={}, software={}, gpu={})
    with results() as root:
        system.write_card(odd, root / "systems")
        both = dict.fromkeys(("solve", "weigh"), odd.hash)
        refused(house, honest(root, change=lambda b: b.update(systems=both)), "systems")


def retracted(root: Path, name: str, **told: str) -> None:
    (root / "retractions").mkdir(exist_ok=True)
    (root / "retractions" / name).write_text(json.dumps({"reason": "wrong data", **told}))


def test_a_retraction_is_of_a_run_that_there_is_once_and_says_whose_it_is(house: House) -> None:
    with results() as root:
        run = bundle.read(honest(root, change=lambda b: b.update(submitter="Some Lab")))
        retracted(root, "a.json", id=run.id)
        (mark,) = check([root], registry=house)
        assert (mark.level, mark.field) == ("mark", "id")
        assert "plain by Some Lab" in mark.message
        retracted(root, "b.json", id=run.id)
        assert [f.file for f in errors(house, root)] == ["b.json"]
        (root / "retractions" / "b.json").unlink()
        retracted(root, "c.json", id="0" * 64)
        assert [f.file for f in errors(house, root)] == ["c.json"]


@pytest.mark.parametrize("date", ["2026-13-01", "2026-02-30", "2999-01-01", "٢٠٢٦-01-01"])
def test_a_retraction_has_a_day_that_has_been(house: House, date: str) -> None:
    with results() as root:
        retracted(root, "a.json", id=bundle.read(honest(root)).id, date=date)
        assert [f.field for f in errors(house, root)] == ["date"]


def confirmed(root: Path, run: str, **changed: Any) -> Path:
    told = {
        "schema_version": 1, "run": run, "replay": "e" * 64, "created": "2026-11-26T00:00:00Z", "card": card().hash,
        "evidence": "equal", "counts": "agrees", "timings": "not judged", "submitter": "Other Lab", **changed,
    }  # fmt: skip
    path = root / "confirmations" / f"{told['run'][:12]}-{told['card']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(told))
    return path


def test_a_confirmation_is_of_a_run_that_there_is_by_somebody_else(house: House) -> None:
    with results() as root:
        run = bundle.read(honest(root, change=lambda b: b.update(submitter="Some Lab"))).id
        path = confirmed(root, run)
        assert check([root], registry=house) == []
        for change, field in (
            ({"run": "0" * 64}, "run"),
            ({"submitter": "Some Lab"}, "submitter"),
            ({"submitter": "Other\u200bLab"}, "confirmation"),
            ({"card": "ab" * 8}, "card"),
            ({"created": "2026-11-24T00:00:00Z"}, "created"),
            ({"evidence": "very good"}, "confirmation"),
            ({"evidence": "not judged", "counts": "not judged"}, "evidence"),
            ({"counts": "equal"}, "confirmation"),
            ({"timings": "equal"}, "confirmation"),
            ({"replay": run}, "replay"),
            ({"created": "2999-01-01T00:00:00Z"}, "created"),
            ({"schema_version": True}, "schema_version"),
            *(
                ({"submitter": name}, "submitter")
                for name in ("some lab", "Some-Lab.", "Some  Lab", "Sоme Lab", "5ome Lab ", " ", "..")
            ),
        ):
            path.unlink()
            path = confirmed(root, **{"run": run, **change})
            assert [f.field for f in errors(house, root)] == [field], change
        path.rename(path.with_name("another.json"))
        assert [f.field for f in errors(house, root)] == ["confirmation"]


def test_one_replay_confirms_one_run(house: House) -> None:
    with results() as root:
        for seed in (0, 1):
            confirmed(root, bundle.read(honest(root, seed)).id)
        assert [f.field for f in errors(house, root)] == ["replay"]


def test_folders_are_looked_at_as_deep_as_results_may_lie(house: House) -> None:
    """Deeper than a stack of calls: one finding, and no more of its kind."""
    with results() as root:
        path = honest(root)
        here = os.open(root.parent, os.O_RDONLY)
        try:
            for _ in range(1200):
                os.mkdir("a", dir_fd=here)
                inner = os.open("a", os.O_RDONLY, dir_fd=here)
                os.close(here)
                here = inner
            shutil.copyfile(path / bundle.RUN, f"/proc/self/fd/{here}/run.json")
        finally:
            os.close(here)
        found = errors(house, root.parent)
        assert [(f.file, f.field) for f in found] == [(".", "folder")]
        assert errors(house, path, against=root.parent) == []
        unrooted(root.parent / "a")


def unrooted(folder: Path) -> None:
    """Removes folders deeper than a path is long."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_walk_is_that_of_the_system(tmp_path: Path) -> None:
    for name in ("b/x", "a/y/z", "a/w", "c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    (tmp_path / "d").symlink_to(tmp_path / "a")
    assert [(str(b), f, n) for b, f, n in bundle.walk(tmp_path)] == [(b, f, n) for b, f, n in os.walk(tmp_path)]


# -- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "PLAIN", "p1ain", "pIain", "pla-in", "net_s1im", "NET-SLIM", "netsIim"])
def test_a_method_of_ones_own_reads_like_none_of_ours(house: House, name: str) -> None:
    def own(body: dict[str, Any]) -> None:
        body["method"].update(name=f"{name}@ab12ab12ab12", origin="file")

    with results() as root:
        refused(house, honest(root, change=own), "method.name")


def test_names_of_one_skeleton_read_alike() -> None:
    for name in ("rnodel", "MODEL", "mоdel", "ｍodel", "m0de1", "mOdeI"):  # a Cyrillic o, a wide m
        assert texts.skeletons(name) & texts.skeletons("model"), (name, texts.skeletons(name))
    assert not texts.skeletons("chex") & texts.skeletons("chase")


@pytest.mark.parametrize("text", ["a\u200bb", "e\u0301", "\u202egnp", "\ufeffx", "a\u0338", "\ue000", "e\u0301\n"])
@pytest.mark.parametrize("field", ["notes", "variant", "submitter"])
def test_nothing_is_hidden_in_a_text(house: House, text: str, field: str) -> None:
    def change(body: dict[str, Any]) -> None:
        if field == "variant":
            body["method"]["variant"] = text
        else:
            body[field] = [text] if field == "notes" else text

    with results() as root:
        refused(house, honest(root, change=change))


def test_names_of_people_are_written_as_they_are(house: House) -> None:
    with results() as root:
        assert errors(house, honest(root, change=lambda b: b.update(submitter="Zoë Čapek 李"))) == []


@pytest.mark.parametrize("version", [True, 1.0, 2, 0, "1", None])
def test_the_schema_is_a_whole_number(house: House, version: Any) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(schema_version=version)), "schema_version")


def test_a_run_that_is_ok_has_no_reason(house: House) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(reason="because")), "reason")


@pytest.mark.parametrize("count", [10**400, 2**63])
def test_counts_are_numbers_that_a_database_takes(house: House, count: int) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b["operations"][0].update(params=count)))


# -- Parquet ---------------------------------------------------------------------------------------------------------


def written(file: Path) -> bytes:
    bundle.write_table(evidence(), file)
    return file.read_bytes()


def spliced(data: bytes) -> bytes:
    """Bytes between the last page and the footer, which no offset points to."""
    size = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - size] + b"hidden" + data[-8 - size :]


def foreign(file: Path, **how: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table(evidence()), out, compression="NONE", store_schema=False, **how)
    return out.getvalue()


def test_pages_fill_the_file(house: House, tmp_path: Path) -> None:
    data = written(tmp_path / "a.parquet")
    assert footer.read(tmp_path / "a.parquet").filled
    (tmp_path / "b.parquet").write_bytes(spliced(data))
    assert parquet.read_table(tmp_path / "b.parquet").num_rows == 240  # Arrow reads it
    assert not footer.read(tmp_path / "b.parquet").filled
    with results() as root:
        refused(house, honest(root, evidence=tmp_path / "b.parquet"), "pages", bundle.EVIDENCE)


@pytest.mark.parametrize(
    "how", [{"write_page_index": True}, {"bloom_filter_options": {"label": {"ndv": 3}}}], ids=["page index", "Bloom filter"]
)
def test_no_more_than_a_table_is_in_the_file(house: House, tmp_path: Path, how: dict[str, Any]) -> None:
    try:
        (tmp_path / "a.parquet").write_bytes(foreign(tmp_path, **how))
    except TypeError:
        pytest.skip("this Arrow cannot write one")
    with results() as root:
        refused(house, honest(root, evidence=tmp_path / "a.parquet"), "metadata", bundle.EVIDENCE)


def renamed(data: bytes) -> bytes:
    assert data.count(b"parquet-cpp-arrow version") == 1
    return data.replace(b"parquet-cpp-arrow version", b"call me at 0123 456 789  ")


def test_the_writer_is_arrow(house: House, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(renamed(written(tmp_path / "b.parquet")))
    with results() as root:
        refused(house, honest(root, evidence=tmp_path / "a.parquet"), "metadata", bundle.EVIDENCE)
