"""Partitions: what several laboratories wrote beside each other is the board that their bundles together make."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suite import bundle, check, confirming, registry
from suite.board import partitions, store
from suite.board.partitions import Checked
from suite.naming import UserError
from tests import demo
from tests.commands import forked_command
from tests.helpers import page_text
from tests.suite.board.test_store import ask, light

NO_MARKS = Checked(marks=0)
OWN = {"partitions", "origins"}  #: tables that tell where rows are from
PAGE = registry.HOUSE / "site/docs/partitions.md"


def relations(db: Path) -> list[str]:
    """Every table and view of a database."""
    return [
        name
        for (name,) in ask(
            db,
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'board'"
            " UNION SELECT view_name FROM duckdb_views() WHERE database_name = 'board' AND NOT internal ORDER BY 1",
        )
    ]


def assert_equal(db: Path, expected: Path) -> None:
    """The same rows and types in every table and every view."""
    names = relations(expected)
    assert relations(db) == names
    for name in sorted({*names} - OWN):
        assert ask(db, f"SELECT * FROM {name} ORDER BY ALL") == ask(expected, f"SELECT * FROM {name} ORDER BY ALL"), name
        types = f"SELECT column_name, column_type FROM (DESCRIBE {name})"
        assert ask(db, types) == ask(expected, types), name


#: of what is committed, so that no table is empty
METHODS = ("dense", "chex", "magnitude", "data_level_lth", "bce", "flamefinder", "awdnn", "stdo")


def first_seeds(method: Path) -> list[Path]:
    """A method's bundles of seed 0, of which clouds and pictures are kept."""
    return [p for p in sorted(method.iterdir()) if '"seed": 0' in (p / bundle.RUN).read_text(encoding="utf-8")]


class Labs:
    """Two laboratories that share one bundle, and the results of both in one folder."""

    def __init__(self, root: Path) -> None:
        self.a, self.b, self.both = (root / name / "results" for name in ("lab-a", "lab-b", "both"))
        committed = registry.HOUSE / "results"
        chosen = [p for method in METHODS for tier in sorted(committed.glob(f"*/small/{method}")) for p in first_seeds(tier)[:4]]
        for at, run in enumerate(chosen):
            for lab in (self.a, self.b) if at == 0 else ((self.a, self.b)[at % 2],):
                shutil.copytree(run, lab / run.relative_to(committed))
        shutil.copytree(committed / "systems", self.a / "systems")
        shutil.copytree(committed / "systems", self.b / "systems")
        of_a = [bundle.read(p) for p in bundle.find(self.a)]
        # the second laboratory confirms a run of the first, and the first takes one back
        told = confirming.Confirmation(
            run=of_a[0].id, replay="f" * 64, created="2026-11-30T00:00:00Z", card="d" * 16, evidence="equal", counts="agrees",
            timings="not judged", submitter="Lab B",
        )  # fmt: skip
        confirming.write(self.b, told)
        image = next(p for p in bundle.find(self.b) if bundle.read(p).spec.task == "image_pruning")
        demo.retime(self.b, image, submitter="Lab B")
        (self.a / "retractions").mkdir()
        (self.a / "retractions" / "one.json").write_text(
            json.dumps({"id": of_a[1].id, "reason": "the wrong data"}), encoding="utf-8"
        )
        for lab in (self.a, self.b):
            shutil.copytree(lab, self.both, dirs_exist_ok=True)
        self.shared, self.db = root / "shared", root / "both.duckdb"
        store.publish(self.both, self.db)
        self.own = root / "own"
        for lab in (self.a, self.b):
            partitions.write(lab, self.own / lab.parent.name, NO_MARKS)
        shutil.copytree(self.own / "lab-a", self.shared)
        partitions.write(self.b, self.shared, NO_MARKS)


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Labs:
    """Read only."""
    return Labs(tmp_path_factory.mktemp("labs"))


def test_the_laboratories_have_rows_in_every_table(labs: Labs) -> None:
    empty = {"archived", "failures"}  # nothing of these is committed
    for name in {*relations(labs.db)} - OWN - empty:
        assert ask(labs.db, f"SELECT count(*) FROM {name}")[0][0], name


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("sources", "copies"),
    [
        (["shared"], 0),
        (["own/lab-*"], 1),
        (["own/*/partition=*"], 1),
        (["own/lab-b", "own/lab-a", "shared"], 2),
    ],
)
def test_partitions_of_two_laboratories_are_the_board_of_their_bundles(
    labs: Labs, tmp_path: Path, sources: list[str], copies: int, in_place: bool
) -> None:
    db = tmp_path / "b.duckdb"
    done = partitions.publish([str(labs.own.parent / source) for source in sources], db, in_place=in_place)
    (bundles,) = ask(labs.db, "SELECT count(*) FROM runs")[0]
    assert (done.bundles, done.copies > 0) == (bundles, copies > 0)
    assert_equal(db, labs.db)
    tables = {name for (name,) in ask(db, "SELECT table_name FROM duckdb_tables() WHERE database_name = 'board'")}
    assert ("runs" in tables, "measures" in tables) == (not in_place, not in_place)
    assert ask(db, "SELECT count(*) FROM origins JOIN partitions ON partition = name JOIN runs ON run = id") == [(bundles,)]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_what_is_new_is_added_and_nothing_that_stands_is_touched(tmp_path: Path) -> None:
    results, folder = tmp_path / "results", tmp_path / "p"
    light(results, 0)
    assert partitions.write(results, folder, NO_MARKS).runs == 1
    before = snapshot(folder)
    assert partitions.write(results, folder, NO_MARKS) == partitions.Written(None, 0, 0)
    assert snapshot(folder) == before
    light(results, 1)
    (results / "retractions").mkdir()
    retraction = {"id": bundle.read(light(results, 0)).id, "reason": "a mistake"}
    (results / "retractions" / "x.json").write_text(json.dumps(retraction), encoding="utf-8")
    done = partitions.write(results, folder, Checked(marks=3))
    assert done.runs == 1
    assert done.folder is not None
    after = snapshot(folder)
    assert before.items() <= after.items()
    assert {Path(name).parts[0] for name in after.keys() - before.keys()} == {done.folder.name}
    partitions.publish([str(folder)], tmp_path / "b.duckdb")
    assert ask(tmp_path / "b.duckdb", "SELECT seed, retracted FROM standing ORDER BY seed") == [(0, "a mistake"), (1, None)]
    assert ask(tmp_path / "b.duckdb", "SELECT sum(runs), max(marks) FROM partitions") == [(2, 3)]


@pytest.mark.slow
def test_what_is_being_written_is_no_partition(tmp_path: Path) -> None:
    light(tmp_path / "results")
    done = partitions.write(tmp_path / "results", tmp_path / "p", NO_MARKS)
    assert done.folder is not None
    done.folder.rename(tmp_path / "p" / f".part-{'0' * 16}-{done.folder.name}")
    with pytest.raises(UserError, match="no partition="):
        partitions.publish([str(tmp_path / "p")], tmp_path / "b.duckdb")
    assert not (tmp_path / "b.duckdb").exists()
    # what a killed writer left is cleared away by the next
    partitions.write(tmp_path / "results", tmp_path / "p", NO_MARKS)
    assert [p.name for p in (tmp_path / "p").iterdir()] == [done.folder.name]


@pytest.mark.slow
def test_folders_of_any_name_are_folders(tmp_path: Path) -> None:
    odd = tmp_path / "a[1]*" / "lab=one" / "o'brien"
    light(tmp_path / "results")
    partitions.write(tmp_path / "results", odd, NO_MARKS)
    light(tmp_path / "results", 1)
    partitions.write(tmp_path / "results", tmp_path / "plain", NO_MARKS)
    for in_place in (False, True):
        partitions.publish([str(odd), str(tmp_path / "plain")], tmp_path / "b.duckdb", in_place=in_place)
        assert ask(tmp_path / "b.duckdb", "SELECT task, seed FROM counted ORDER BY seed") == [
            ("image_pruning", 0),
            ("image_pruning", 1),
        ]


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_bundles_published_over_partitions_take_no_row_of_theirs(tmp_path: Path, in_place: bool) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    light(results)
    done = partitions.write(results, tmp_path / "p", NO_MARKS)
    assert done.folder is not None
    rewrite(done.folder, "measures", "SELECT * REPLACE (value + 5 AS value) FROM held")
    partitions.publish([str(tmp_path / "p")], db, in_place=in_place)
    assert ask(db, "SELECT value FROM measures WHERE name = 'top1'") == [(95.0,)]  # nothing in a partition can tell
    assert store.publish(results, db) == store.Published(1, 1, 0)
    assert ask(db, "SELECT value FROM measures WHERE name = 'top1'") == [(90.0,)]
    assert ask(db, "SELECT count(*) FROM origins") == [(0,)]
    partitions.publish([str(tmp_path / "p")], db)  # and over bundles nothing of theirs stays
    assert ask(db, "SELECT value FROM measures WHERE name = 'top1'") == [(95.0,)]


# --- what is not as it should be ---


def rewrite(folder: Path, table: str, sql: str) -> None:
    """Change a table's file in a partition, as somebody could who writes his own, its manifest in agreement."""
    import duckdb

    manifest = json.loads((folder / partitions.MANIFEST).read_text(encoding="utf-8"))
    (file,) = [name for name in manifest["files"] if name.startswith(f"{table}/")]
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE held AS FROM read_parquet({store.quoted(folder / file)}, hive_partitioning = false)")
        db.execute(f"COPY ({sql}) TO {store.quoted(folder / file)} (FORMAT parquet)")
    manifest["files"][file] = bundle.describe(folder / file).model_dump()
    (folder / partitions.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / partitions.MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (folder / partitions.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def measures(folder: Path) -> Path:
    (file,) = (folder / "measures").rglob("*.parquet")
    return file


def flipped(file: Path) -> None:
    """Other bytes where the rows are; the footer as it was."""
    data = bytearray(file.read_bytes())
    data[4:200] = bytes(b ^ 0xFF for b in data[4:200])
    file.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda p: measures(p).write_bytes(measures(p).read_bytes()[:-40]), r"measures/.*cannot be read \(.*; copy"),
    "empty": (lambda p: measures(p).write_bytes(b""), r"measures/.*too small.*; copy the partition again"),
    "missing": (lambda p: measures(p).unlink(), r"measures/.*cannot be read \(.*; copy the partition again"),
    "flipped": (lambda p: flipped(measures(p)), r"measures/.*its bytes are not those.*; copy the partition again"),
    "another's": (
        lambda p: shutil.copyfile(next((p / "runs").rglob("*.parquet")), measures(p)),
        r"measures/.*rows in \d+ bytes where partition.json says 2 rows",
    ),
    "no json": (lambda p: (p / "partition.json").write_text("{", encoding="utf-8"), "partition.json: no JSON object"),
    "a list": (lambda p: (p / "partition.json").write_text("[]", encoding="utf-8"), "partition.json: no JSON object"),
    "newer": (lambda p: edit(p, lambda m: m.update(layout=2)), "layout 2 is newer than this weighin, which reads 1"),
    "no files": (lambda p: edit(p, lambda m: m.pop("files")), "partition.json: files: Field required"),
    "errors": (lambda p: edit(p, lambda m: m["checked"].update(errors=1)), "partition.json: checked.errors"),
    "a way out": (
        lambda p: edit(p, lambda m: m["files"].update({"../x.parquet": m["files"].popitem()[1]})),
        "partition.json: files",
    ),
    "a column less": (lambda p: rewrite(p, "measures", "SELECT * EXCLUDE unit FROM held"), "column unit is missing"),
    "a column more": (lambda p: rewrite(p, "runs", "SELECT *, 1 AS rank FROM held"), "column rank is none of the table's"),
    "another type": (
        lambda p: rewrite(p, "measures", "SELECT * REPLACE (value::VARCHAR AS value) FROM held"),
        "column value is VARCHAR where DOUBLE is wanted",
    ),
    "twice": (lambda p: rewrite(p, "runs", "FROM held UNION ALL FROM held"), "is not the same in partitions"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two partitions, and a database from before; read only."""
    root = tmp_path_factory.mktemp("pair")
    store.publish(root / "results", root / "b.duckdb")
    for seed in range(2):
        light(root / "results", seed)
        partitions.write(root / "results", root / "p", NO_MARKS)
    return root


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_partition_that_is_not_what_it_should_be_is_named_in_one_line(pair: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(pair / "p", tmp_path / "p")
    shutil.copyfile(pair / "b.duckdb", tmp_path / "b.duckdb")
    last = max((tmp_path / "p").iterdir())
    change, said = DAMAGES[damage]
    change(last)
    before = (tmp_path / "b.duckdb").read_bytes()
    with pytest.raises(UserError, match=said) as e:
        partitions.publish([str(tmp_path / "p")], tmp_path / "b.duckdb")
    assert "\n" not in str(e.value)
    assert last.name.removeprefix("partition=") in str(e.value)
    assert (tmp_path / "b.duckdb").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.duckdb", "p"]


@pytest.mark.parametrize("in_place", [False, True])
def test_one_bit_anywhere_in_a_file_is_noticed(pair: Path, tmp_path: Path, in_place: bool) -> None:
    shutil.copytree(pair / "p", tmp_path / "p")
    file = measures(max((tmp_path / "p").iterdir()))
    whole = file.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        data = bytearray(whole)
        data[at] ^= 1
        file.write_bytes(data)
        with pytest.raises(UserError, match="copy the partition again"):
            partitions.publish([str(tmp_path / "p")], tmp_path / "b.duckdb", in_place=in_place)
    file.write_bytes(whole)
    assert partitions.publish([str(tmp_path / "p")], tmp_path / "b.duckdb", in_place=in_place).bundles == 2


@pytest.mark.parametrize("in_place", [False, True])
def test_a_partition_names_no_page_outside_of_the_site(pair: Path, tmp_path: Path, in_place: bool) -> None:
    shutil.copytree(pair / "p", tmp_path / "p")
    rewrite(max((tmp_path / "p").iterdir()), "runs", "SELECT * REPLACE ('../../out' AS method) FROM held")
    with pytest.raises(UserError, match=r"method '\.\./\.\./out' is nothing that a bundle holds"):
        partitions.publish([str(tmp_path / "p")], tmp_path / "b.duckdb", in_place=in_place)
    assert not (tmp_path / "b.duckdb").exists()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("table", "sql"),
    [
        ("measures", "SELECT * REPLACE (value + 1 AS value) FROM held"),
        ("measures", "SELECT * FROM held WHERE name <> 'top1'"),
        ("runs", "SELECT * REPLACE ('somebody' AS submitter) FROM held"),
    ],
)
def test_two_partitions_that_tell_one_bundle_differently_are_refused(
    pair: Path, tmp_path: Path, table: str, sql: str, in_place: bool
) -> None:
    for name in "ab":
        shutil.copytree(pair / "p", tmp_path / name)
    folder = max((tmp_path / "b").iterdir())
    rewrite(folder, table, sql)
    with pytest.raises(UserError, match="of one name and not the same"):
        partitions.publish([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "b.duckdb", in_place=in_place)
    folder.rename(tmp_path / "b" / "partition=other")
    with pytest.raises(UserError, match=r"bundle [0-9a-f]{12} is not the same in partitions \w+, other;"):
        partitions.publish([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "b.duckdb", in_place=in_place)


@pytest.mark.slow
def test_a_copy_in_another_folder_is_the_same_bundle(tmp_path: Path) -> None:
    original = light(tmp_path / "a" / "results")
    shutil.copytree(original, tmp_path / "b" / "results" / "elsewhere" / "copy")
    for lab in "ab":
        partitions.write(tmp_path / lab / "results", tmp_path / lab / "p", NO_MARKS)
    folder = next((tmp_path / "b" / "p").iterdir())
    folder.rename(folder.with_name("partition=0"))
    done = partitions.publish([str(tmp_path / "*" / "p")], tmp_path / "b.duckdb")
    assert done == partitions.Published(partitions=2, bundles=1, copies=1)
    path = original.relative_to(tmp_path / "a" / "results").as_posix()
    assert ask(tmp_path / "b.duckdb", "SELECT count(*), any_value(path) FROM runs") == [(1, min(path, "elsewhere/copy"))]
    assert ask(tmp_path / "b.duckdb", "SELECT count(*) FROM measures") == [(2,)]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "nowhere: no partition=…/partition.json there"),
        ("results", "results: no partition=…/partition.json there"),
        ("task=none/p", "takes a folder task=… above a partition for one within; move"),
        ("https://example.org/p", "write a folder, a pattern of folders, or s3://bucket/prefix"),
    ],
)
def test_a_source_that_is_no_folder_of_partitions_is_told(
    pair: Path, tmp_path: Path, source: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    light(tmp_path / "results")
    shutil.copytree(pair / "p", tmp_path / "task=none" / "p")
    with pytest.raises(UserError, match=re.escape(said)):
        partitions.publish([source], tmp_path / "b.duckdb")


def test_without_its_extension_duckdb_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where DuckDB keeps extensions
    monkeypatch.setattr(partitions, "INSTALL", f"INSTALL httpfs FROM {store.quoted(tmp_path)}")
    with pytest.raises(UserError, match=r"has no httpfs here and cannot download it .* where there is a network"):
        partitions.publish(["s3://lab/p"], tmp_path / "b.duckdb")


# --- the command, and the page that shows it ---


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    """Where two laboratories have results that the checker finds nothing wrong with."""
    for lab, seeds in (("lab-a", (0, 1)), ("lab-b", (2,))):
        for seed in seeds:
            demo.write(tmp_path / lab / "results", "dense", target="", seed=seed)
            demo.write(tmp_path / lab / "results", seed=seed)
        assert not [f for f in check.check([tmp_path / lab / "results"]) if f.level == "error"]
    return tmp_path


def weighin(*words: str, folder: Path) -> tuple[int | None, str]:
    """Exit code, and what was printed."""
    done = forked_command(*words, folder=folder, COLUMNS="200")
    done.join(120)
    return done.exitcode, (folder / "stdout").read_text() + (folder / "stderr").read_text()


def test_the_example_on_the_page_runs(honest: Path) -> None:
    import duckdb

    text = PAGE.read_text(encoding="utf-8")
    lines = re.findall(r"^weighin (.*?)(?:\s+#.*)?$", re.findall(r"```\n(.*?)```", text, re.S)[0], re.M)
    assert len(lines) >= 5
    for line in lines:
        code, said = weighin(*line.replace("'", "").split(), folder=honest)
        assert code == 0, (line, said)
    assert len(list((honest / "shared").glob("partition=*"))) == 2
    home = page_text(honest / "build" / "site" / "index.html")
    assert "Of the runs, 6 were read from partitions: who wrote these checked them, and not this board." in home
    db = honest / "build" / "weighin.duckdb"
    assert ask(db, "SELECT count(*) FROM runs") == [(6,)]
    (query,) = re.findall(r"```sql\n(.*?)```", text, re.S)
    with duckdb.connect(config={"file_search_path": str(honest)}) as connection:
        assert connection.execute(query).fetchall() == [("chex", 3), ("dense", 3)]


def test_results_with_an_error_become_no_partition(honest: Path) -> None:
    file = next(bundle.find(honest / "lab-a" / "results")) / bundle.RUN
    file.write_text(file.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 5'), encoding="utf-8")
    code, said = weighin("publish", "--results", "lab-a/results", "--partitions", "shared", folder=honest)
    assert code == 2
    assert "`weighin check lab-a/results` shows all" in said
    assert not (honest / "shared").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "shared", "--partitions", "other"], "leave out --from"),
        (["--in-place"], "name them with --from"),
        (["--partitions", "shared"], "no folder results"),
    ],
)
def test_options_that_do_not_go_together_are_told(tmp_path: Path, words: list[str], said: str) -> None:
    code, told = weighin("publish", *words, folder=tmp_path)
    assert (code, said in told) == (2, True), told
