"""Bundles into DuckDB: incremental, whole or not at all, and what counts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite import bundle, registry
from suite.board import store
from suite.naming import UserError
from tests import demo


def ask(db: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with store.connect(db) as connection:
        return connection.execute(sql, list(values)).fetchall()


HERE = "a" * 16  #: in place of the digest of the source that stands here


def present(task: str, method: dict[str, Any]) -> dict[str, Any]:
    """A bundle's method, its version being that of the source that stands here."""
    ours = registry.methods(task).get(method["name"])
    return {**method, "version": ours.version if ours else HERE} if method["version"] == HERE else method


def light(root: Path, seed: int = 0, **changes: Any) -> Path:
    """A bundle of a few numbers without evidence: enough for the publisher."""
    fields: dict[str, Any] = {
        "key": f"{seed + 1:064x}",
        "status": "ok",
        "created": "2026-01-01T00:00:00Z",
        "spec": {"task": "image_pruning", "version": 1, "tier": "small", "division": "closed", "case": "fashion/resnet20",
                 "target": "macs=0.5", "seed": seed, "device": "cpu"},
        "data": "0" * 64,
        "method": {"name": "chex", "origin": "reference", "version": HERE},
        "source": {"weighin": "0.1.0"},
        "libraries": {},
        "systems": {"solve": "c" * 16, "weigh": "c" * 16},
        "measures": [
            {"name": "top1", "value": 90.0 + seed, "direction": "up"},
            {"name": "kept.macs", "value": 0.5, "source": "meter"},
        ],
    }  # fmt: skip
    spec = fields["spec"] | changes.pop("spec", {})
    changes["method"] = present(spec["task"], changes.get("method", fields["method"]))
    return bundle.write(root, bundle.seal({**fields, **changes, "spec": spec}), {})


@pytest.mark.slow
def test_only_new_bundles_are_read_and_removed_ones_vanish(tmp_path: Path) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    first = light(results, 0)
    assert store.publish(results, db) == store.Published(bundles=1, new=1, removed=0)
    light(results, 1)
    # an old bundle is not opened again: what is written over it afterwards does not arrive
    (first / "run.json").write_text("{}", encoding="utf-8")
    assert store.publish(results, db) == store.Published(bundles=2, new=1, removed=0)
    assert ask(db, "SELECT seed FROM runs ORDER BY seed") == [(0,), (1,)]
    shutil.rmtree(first)
    assert store.publish(results, db) == store.Published(bundles=1, new=0, removed=1)
    assert ask(db, "SELECT seed FROM runs") == [(1,)]
    assert ask(db, "SELECT DISTINCT run FROM measures") == ask(db, "SELECT id FROM runs")


@pytest.mark.slow
def test_incremental_loading_ends_where_loading_at_once_does(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in range(4):
        light(results, seed)
        store.publish(results, tmp_path / "steps.duckdb")
    store.publish(results, tmp_path / "once.duckdb")
    for table in ("runs", "measures", "counted", "kept", "changes"):
        sql = f"SELECT * FROM {table} ORDER BY ALL"
        assert ask(tmp_path / "steps.duckdb", sql) == ask(tmp_path / "once.duckdb", sql)


@pytest.mark.slow
def test_a_copied_bundle_is_no_second_run(tmp_path: Path) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    original = light(results)
    copy = original.with_name("copy")
    shutil.copytree(original, copy)
    for _ in range(2):
        store.publish(results, db)
        assert ask(db, "SELECT count(*) FROM runs") == [(1,)]
        assert ask(db, "SELECT count(*) FROM measures") == [(2,)]
    shutil.rmtree(original)
    store.publish(results, db)
    assert ask(db, "SELECT seed FROM runs") == [(0,)]  # what is left is the copy


def test_published_file_opens_where_duckdb_runs_in_a_browser(tmp_path: Path) -> None:
    light(tmp_path / "results")
    db = tmp_path / "b.duckdb"
    store.publish(tmp_path / "results", db)
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{db}' AS b (READ_ONLY)")
        tags = connection.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'b'").fetchone()
    assert tags is not None
    assert "v1.4" in str(tags[0])


@pytest.mark.slow
def test_a_path_with_an_apostrophe_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "o'brien"
    light(folder / "results")
    store.publish(folder / "results", folder / "b.duckdb")
    assert ask(folder / "b.duckdb", "SELECT count(*) FROM runs") == [(1,)]


@pytest.mark.slow
def test_a_torn_or_older_database_is_made_anew(tmp_path: Path) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    light(results)
    db.write_bytes(b"torn" * 5000)
    assert store.publish(results, db).new == 1
    import duckdb

    db.unlink()
    with duckdb.connect(str(db)) as old:  # tables of an earlier version of the suite
        old.execute("CREATE TABLE runs (id VARCHAR PRIMARY KEY, path VARCHAR)")
    assert store.publish(results, db).new == 1
    assert ask(db, "SELECT seed FROM counted") == [(0,)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("notes.txt", b"what I know\n"),
        ("notes", b"\0" * 64),
        ("photos.db", b"SQLite format 3\0" + b"\0" * 84),
        ("run.json", b"{}"),
    ],
)
def test_a_file_that_is_no_database_of_ours_stays(tmp_path: Path, name: str, data: bytes) -> None:
    light(tmp_path / "results")
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(UserError, match="no DuckDB file"):
        store.publish(tmp_path / "results", file)
    assert file.read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((name, "results"))
    with pytest.raises(UserError, match="no file"):
        store.publish(tmp_path / "results", tmp_path)


def test_somebodys_own_tables_stay(tmp_path: Path) -> None:
    import duckdb

    light(tmp_path / "results")
    for table in ("photos", "runs"):
        db = tmp_path / f"{table}.duckdb"
        with duckdb.connect(str(db)) as own:
            own.execute(f"CREATE TABLE {table} (kilometres DOUBLE)")
        before = db.read_bytes()
        with pytest.raises(UserError, match="own tables"):
            store.publish(tmp_path / "results", db)
        assert db.read_bytes() == before


@pytest.mark.slow
def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    light(tmp_path / "results")
    (tmp_path / "b").touch()
    assert store.publish(tmp_path / "results", tmp_path / "b").new == 1


@pytest.mark.slow
def test_a_broken_bundle_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    light(results)
    store.publish(results, db)
    before = db.read_bytes()
    broken = results / "image_pruning/small/chex/broken"
    broken.mkdir()
    (broken / "run.json").write_text('{"id": ', encoding="utf-8")
    with pytest.raises(UserError, match=r"broken.run\.json.*weighin check"):
        store.publish(results, db)
    assert db.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.slow
def test_retractions_are_data_and_need_a_reason(tmp_path: Path) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    light(results, 0)
    gone = bundle.read(light(results, 1))
    (results / "retractions").mkdir()
    file = results / "retractions" / "one.json"
    file.write_text(json.dumps({"id": gone.id, "reason": "trained on test data"}), encoding="utf-8")
    store.publish(results, db)
    assert ask(db, "SELECT seed FROM counted") == [(0,)]
    assert ask(db, "SELECT seed, retracted FROM failures") == [(1, "trained on test data")]
    file.unlink()
    store.publish(results, db)
    assert ask(db, "SELECT seed FROM counted ORDER BY seed") == [(0,), (1,)]
    file.write_text(json.dumps({"id": gone.id}), encoding="utf-8")
    with pytest.raises(UserError, match="reason"):
        store.publish(results, db)


def test_the_first_run_of_a_seed_counts_and_repeating_does_not_improve_it(tmp_path: Path) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    light(results, created="2026-01-02T00:00:00Z", measures=[{"name": "top1", "value": 80.0}])
    light(results, created="2026-01-03T00:00:00Z", measures=[{"name": "top1", "value": 99.0}])
    light(
        results, created="2026-01-04T00:00:00Z", measures=[{"name": "top1", "value": 98.0}],
        systems={"solve": "d" * 16, "weigh": "d" * 16},
    )  # fmt: skip
    light(results, created="2026-01-01T00:00:00Z", status="oom", measures=[])
    light(results, 1, spec={"tier": "smoke"})
    store.publish(results, db)
    top1 = "SELECT value FROM {} AS v JOIN measures AS m ON m.run = v.id AND m.name = 'top1' ORDER BY created"
    assert ask(db, top1.format("counted")) == [(80.0,)]
    assert ask(db, top1.format("weighed")) == [(80.0,), (98.0,)]  # each card has its own timings
    assert ask(db, "SELECT count(*) FROM failures") == [(0,)]  # the same question has its answer


@pytest.mark.slow
@pytest.mark.parametrize(("kept", "off"), [(0.5, False), (0.5049, False), (0.506, True), (0.49, True)])
def test_off_target_is_more_than_one_percent(tmp_path: Path, kept: float, off: bool) -> None:
    light(tmp_path / "r", measures=[{"name": "kept.macs", "value": kept, "source": "meter"}])
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    assert ask(tmp_path / "b.duckdb", "SELECT off_target FROM kept") == [(off,)]


@pytest.mark.slow
def test_each_part_of_a_target_is_held_and_an_unmeasured_one_is_off(tmp_path: Path) -> None:
    light(
        tmp_path / "r",
        spec={"target": "edges=0.5,weights=0.2"},
        measures=[{"name": "kept.weights", "value": 0.2, "source": "meter"}],
    )
    store.publish(tmp_path / "r", tmp_path / "b.duckdb")
    assert ask(tmp_path / "b.duckdb", "SELECT name, off_target FROM kept ORDER BY name") == [("edges", True), ("weights", False)]


def test_changes_pair_with_the_parent_of_the_same_seed(published: Path) -> None:
    rows = ask(
        published,
        "SELECT c.seed, c.value - p.value, c.change FROM changes AS c"
        " JOIN counted AS d ON d.method = 'dense' AND d.target = '' AND d.seed = c.seed"
        " JOIN measures AS p ON p.run = d.id AND p.name = c.name AND p.part = c.part"
        " WHERE c.method = 'chex' AND c.variant = '' AND c.target = 'macs=0.25'",
    )
    assert {seed for seed, _, _ in rows} == {0, 1, 2}
    assert len(rows) >= 3 * (1 + demo.CLASSES)
    assert all(expected == change for _, expected, change in rows)


def test_cards_travel_with_the_file(published: Path) -> None:
    cards = dict(ask(published, "SELECT hash, facts FROM cards"))
    used = {h for (h,) in ask(published, "SELECT DISTINCT weigh_card FROM runs")}
    assert used == set(cards)
    assert "Another processor" in "".join(cards.values())


@pytest.mark.slow
def test_publishing_imports_no_torch(tmp_path: Path) -> None:
    light(tmp_path / "results")
    code = (
        "import sys; from pathlib import Path; from suite.board import pages, store;"
        f"store.publish(Path({str(tmp_path / 'results')!r}), Path({str(tmp_path / 'b.duckdb')!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("method", {"method": {"name": "../../../../out", "origin": "file", "version": HERE}}),
        ("method", {"method": {"name": "<img src=x onerror=alert(1)>", "origin": "file", "version": HERE}}),
        ("case", {"spec": {"case": '"><script>alert(1)</script>'}}),
        ("tier", {"spec": {"tier": "nosuch"}}),
        ("target", {"spec": {"target": "nonsense"}}),
        ("target", {"spec": {"target": "macs=0.5,nonzero=inf"}}),
        ("measures", {"measures": [{"name": "top1", "value": None}]}),
        ("measures", {"measures": [{"name": "top1", "value": float("nan")}]}),
        ("measures", {"measures": [{"name": "speedup", "part": "infer@64", "value": 0.0, "source": "timing"}]}),
        ("measures", {"measures": [{"name": "speedup", "part": "infer@64", "value": 1e308, "source": "timing"}]}),
    ],
)
def test_a_run_that_no_bundle_holds_is_refused_and_the_old_database_stays(
    tmp_path: Path, field: str, change: dict[str, Any]
) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    light(results)
    store.publish(results, db)
    file = light(results, 1) / bundle.RUN
    body = json.loads(file.read_text(encoding="utf-8"))
    for name, value in change.items():
        body[name] = {**body[name], **value} if isinstance(value, dict) else value
    file.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(UserError, match=f"{file.parent.name}: {field} .*weighin check") as told:
        store.publish(results, db)
    assert "\n" not in str(told.value)
    assert ask(db, "SELECT count(*) FROM runs") == [(1,)]


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    def refused(path: Path) -> None:
        raise duckdb.IOException("Cannot open file: Permission denied")

    light(tmp_path / "results")
    monkeypatch.setattr(store, "opened", refused)
    with pytest.raises(UserError, match=r"cannot write .*Permission denied; name another file"):
        store.publish(tmp_path / "results", tmp_path / "b.duckdb")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[]", "not a JSON object"),
        ('{"cpu": "\\ud800"}', "no JSON"),
        ('{"cpu": ' + "[" * 900 + "]" * 900 + "}", "nested more than 16 levels"),
        ('{"cpu": ' + "[" * 100_000 + "]" * 100_000 + "}", "no JSON"),
    ],
)
def test_a_card_that_no_page_could_hold_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    light(tmp_path / "r")
    (tmp_path / "r" / "systems").mkdir(exist_ok=True)
    (tmp_path / "r" / "systems" / "0123456789abcdef.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"0123456789abcdef.json: {words}"):
        store.publish(tmp_path / "r", tmp_path / "b.duckdb")
