"""A version outlives a refactor and not a change of numbers: digests, the table, and who goes by them."""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from suite import bundle, registry, replay, runner, versions
from suite.board import store
from suite.check import check
from suite.naming import UserError
from suite.order import Order
from suite.versions import Entry, Lineage
from tests.suite.board.test_store import ask, light
from tests.suite.conftest import CARD, silent

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
Weighed = tuple[Path, runner.Settings, Order]


@pytest.mark.parametrize("lineage", versions.every(), ids=lambda x: x.name)
def test_every_source_is_in_the_table_or_under_a_raised_version(lineage: Lineage) -> None:
    told = f"{lineage.name}: prove it (weighin versions --prove {lineage.name} --base COMMIT), or raise its version"
    assert lineage.state in ("known", "raised"), told


#: rows of before their method's numbers changed, made on a GPU that the later rows were not; the checker marks them
BEFORE_THE_TABLE = {"03f692552368-9579fb7f43cc", "8dc00096ea60-7044e9003c87"}


@pytest.mark.slow
def test_every_row_of_the_repository_is_of_a_version_in_the_table() -> None:
    rows = {path.name: bundle.read(path) for path in bundle.find(registry.HOUSE / "results")}
    lineages = {x.name: x for x in versions.every()}
    unknown = {
        name
        for name, r in rows.items()
        if r.method.origin == "reference" and not lineages[f"{r.spec.task}/{r.method.name}"].entered(r.method.version)
    }
    assert unknown == BEFORE_THE_TABLE


@pytest.mark.slow
def test_every_digest_but_the_one_that_opens_a_version_has_its_proof() -> None:
    for x in versions.every():
        opened: set[int] = set()
        for entry in x.entries:
            if entry.version in opened:
                assert {"equals", "base", "date", "card", "torch", "runs"} <= entry.proof.keys(), x.name
                assert entry.proof["equals"] in {e.digest for e in x.entries if e.version == entry.version}, x.name
                assert all(name in line for line in entry.proof["runs"] for name in x.name.split("/")), x.name
                assert entry.proof["runs"], x.name
            opened.add(entry.version)


@pytest.mark.parametrize("lineage", [x for x in versions.every() if "/" in x.name], ids=lambda x: x.name)
def test_every_method_states_its_version_in_its_own_file(lineage: Lineage) -> None:
    task, _, name = lineage.name.partition("/")
    ref = registry.method(task, name)
    assert registry.load(ref).version == ref.stated
    states = [
        line.target.id
        for node in ast.parse(ref.path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    ]
    assert states.count("version") == 1


def test_the_first_digest_of_a_version_stands_for_it_in_keys() -> None:
    entries = (Entry(1, OLD), Entry(1, NEW, {"base": "x"}))
    assert Lineage("t/m", 1, NEW, entries).identity == OLD
    assert Lineage("t/m", 1, OLD, entries).identity == OLD
    assert Lineage("t/m", 1, OTHER, entries).identity == OTHER  # unproved: a question of its own
    assert Lineage("t/m", 2, OTHER, (*entries, Entry(2, OTHER))).identity == OTHER
    assert Lineage("t/m", 2, NEW, entries).identity == NEW  # raised without a change of source


def test_a_lineage_says_where_it_stands() -> None:
    entries = (Entry(1, OLD), Entry(2, NEW))
    assert Lineage("t", 2, NEW, entries).state == "known"
    assert Lineage("t", 2, OTHER, entries).state == "changed"
    assert Lineage("t", 2, OLD, entries).state == "changed"  # the source of version 1 under version 2
    assert Lineage("t", 3, NEW, entries).state == "raised"
    assert Lineage("t", 1, OLD, entries).state == "lowered"
    assert Lineage("t", 1, OLD, ()).state == "raised"
    assert [Lineage("t", 2, OTHER, entries).version_of(d) for d in (OLD, NEW, OTHER, "d" * 64)] == [1, 2, 2, None]


@pytest.fixture
def table(own_versions: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of image_pruning apart from the committed one."""
    file = tmp_path / versions.TABLE
    monkeypatch.setattr(versions, "table_file", lambda task: file)
    return file


def test_what_is_entered_is_read_back(table: Path) -> None:
    proof = {"equals": OLD, "base": "0" * 40, "runs": ['run "one"', "run two"]}
    versions.enter("image_pruning/chex", [Entry(1, OLD), Entry(1, NEW, proof)])
    versions.enter("image_pruning", [Entry(1, OTHER)])
    found = versions.read(table)
    assert found.task == (Entry(1, OTHER),)
    assert dict(found.methods) == {"chex": (Entry(1, OLD), Entry(1, NEW, proof))}


@pytest.mark.parametrize(
    "text", ["[[method]", '[[method]]\nname = "chex"\nversion = 1', '[[task]]\nversion = "one"\ndigest = "ab"']
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / versions.TABLE
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="take the file from the repository again"):
        versions.read(file)


@pytest.mark.parametrize("text", ["version = 0", 'version: int = "two"', "version = True", "version = 1 + 1"])
def test_a_version_is_a_whole_number(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m.py"
    file.write_text(f"class M:\n    {text}\n", encoding="utf-8")
    with pytest.raises(UserError, match="whole number from 1 on"):
        registry.stated_version(file)


def test_a_task_digest_covers_its_modules_and_what_they_share_and_no_comment(tmp_path: Path) -> None:
    for folder in ("tasks", "reference_impls"):
        shutil.copytree(registry.HOUSE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    names = list(registry.tasks())

    def digests() -> list[str]:
        return [registry.task_digest(n, house=tmp_path) for n in names]

    before = digests()
    assert before == [registry.task_digest(n) for n in names]
    task = tmp_path / "tasks" / "image_pruning" / "task.py"
    text = task.read_text(encoding="utf-8")
    task.write_text("# a comment\n" + text, encoding="utf-8")
    assert digests() == before
    task.write_text(text + "\nX = 1\n", encoding="utf-8")
    assert "image_pruning" in [n for n, a, b in zip(names, before, digests(), strict=True) if a != b]
    task.write_text(text, encoding="utf-8")
    (shared,) = (tmp_path / "tasks").rglob("intervals.py")
    shared.write_text(shared.read_text(encoding="utf-8") + "\nX = 1\n", encoding="utf-8")
    changed = [n for n, a, b in zip(names, before, digests(), strict=True) if a != b]
    assert {"image_pruning", "graph_tickets"} <= set(changed)


def test_what_a_package_runs_and_relative_imports_belong_to_a_digest(tmp_path: Path) -> None:
    folder = tmp_path / "reference_impls" / "image_pruning"
    (folder / "inner").mkdir(parents=True)
    method, near = folder / "m.py", folder / "inner" / "near.py"
    method.write_text("from .inner import near\nfrom .inner.far import x\n", encoding="utf-8")
    near.write_text("A = 1\n", encoding="utf-8")
    (folder / "inner" / "far.py").write_text("x = 1\n", encoding="utf-8")
    seen = [registry.source_digest(method, house=tmp_path)]
    for file in (
        near,
        folder / "inner" / "far.py",
        folder / "inner" / "__init__.py",
        folder / "__init__.py",
        folder.parent / "__init__.py",
    ):
        file.write_text("B = 2\n", encoding="utf-8")
        seen.append(registry.source_digest(method, house=tmp_path))
    assert len(set(seen)) == len(seen)
    (folder.parent / "__init__.py").write_text('"""Words alone."""\n', encoding="utf-8")
    assert registry.source_digest(method, house=tmp_path) == seen[-2]


def _changed(path: Path, root: Path, **method: object) -> Path:
    """A bundle like that at `path`, of other sources."""
    body = bundle.read(path).model_dump(mode="json")
    task_digest = method.pop("task_digest", body["source"]["task_digest"])
    body["method"] |= method
    body["source"] |= {"task_digest": task_digest, "dirty": False}
    shutil.copytree(path.parents[3] / "systems", root / "systems", dirs_exist_ok=True)
    return bundle.write(root, bundle.seal(body), {p.name: p for p in path.iterdir() if p.name != bundle.RUN})


def test_the_checker_goes_by_the_table(weighed: Weighed, table: Path, tmp_path: Path) -> None:
    here, task_here = registry.method("image_pruning", "uniform_scratch").version, registry.task_digest("image_pruning")
    folder = tmp_path / "image_pruning"
    folder.mkdir()
    table = folder / versions.TABLE
    shutil.copyfile(registry.HOUSE / "tasks/image_pruning/truth.toml", folder / "truth.toml")

    class House:
        """Our registry, but for where the table stands and what is stated."""

        stated = 1

        def tasks(self) -> dict[str, registry.TaskRef]:
            return {"image_pruning": replace(registry.tasks()["image_pruning"], path=folder / "task.py")}

        def methods(self, name: str, /) -> dict[str, registry.MethodRef]:
            ref = registry.method(name, "uniform_scratch")
            ref.__dict__["stated"] = self.stated
            return {"uniform_scratch": ref}

        task, task_digest, shapes = map(staticmethod, (registry.task, registry.task_digest, registry.shapes))

    def told(house: House, **changes: object) -> list[tuple[str, str]]:
        root = tmp_path / f"r{len(list(tmp_path.iterdir()))}"
        found = check([_changed(weighed[0], root, **changes)], registry=house)
        return [(f.level, f.field) for f in found if f.field in ("method.version", "source.task_digest", "source")]

    house = House()
    assert told(house) == []
    assert told(house, version=OLD) == [("mark", "method.version")]
    assert told(house, task_digest=OLD) == [("mark", "source.task_digest")]
    assert told(house, task_digest=None, stated_version=None) == []  # a bundle of before they were recorded
    old, new = Entry(1, OLD), Entry(1, here, {"base": "0" * 40})
    blocks = [
        versions._written("task", "", Entry(1, OTHER)),
        versions._written("task", "", Entry(1, task_here, {"base": "0" * 40})),
    ]
    blocks += [versions._written("method", "uniform_scratch", e) for e in (old, new)]
    table.write_text("\n".join(blocks), encoding="utf-8")
    assert told(house, version=OLD) == []
    assert told(house, task_digest=OTHER) == []
    assert told(house, version=OLD, stated_version=2) == [("error", "method.version")]
    house.stated = 2
    assert told(house, version=OLD, stated_version=1) == [("mark", "method.version")]  # archived


def test_a_proved_refactor_finds_its_row_again(weighed: Weighed, table: Path) -> None:
    path, chosen, order = weighed
    here, before = registry.method("image_pruning", "uniform_scratch").version, order.identity or order.version
    record = bundle.read(path)
    # today's source was moved: the row's is another digest of the same version
    versions.enter("image_pruning/uniform_scratch", [Entry(1, before)] if before != here else [Entry(1, here)])
    if before != here:
        versions.enter("image_pruning/uniform_scratch", [Entry(1, here, {"base": "0" * 40})])
    again = runner.make_order(order.spec, "uniform_scratch", [])
    assert again.key(record.systems) == record.key
    done = runner.run(again, chosen, CARD, silent)
    assert (done.path, done.fresh) == (path, False)


def test_a_key_is_the_version_s_and_not_the_source_s(order: Order) -> None:
    moved = replace(order, version=NEW, identity=OLD)
    assert moved.key({}) == replace(order, version=OLD, identity="").key({})
    assert moved.key({}) != replace(order, version=NEW, identity=NEW).key({})


@pytest.fixture
def order(weighed: Weighed) -> Order:
    return weighed[2]


def test_a_replay_takes_a_source_of_the_same_version_and_no_other(weighed: Weighed, table: Path, tmp_path: Path) -> None:
    moved = _changed(weighed[0], tmp_path / "r", version=OLD)
    with pytest.raises(UserError, match="is not the bundle's"):
        replay.order_of(moved)
    here = registry.method("image_pruning", "uniform_scratch").version
    versions.enter("image_pruning/uniform_scratch", [Entry(1, OLD), Entry(1, here, {"base": "0" * 40})])
    assert replay.order_of(moved)[0].version == here
    elsewhere = _changed(weighed[0], tmp_path / "s", task_digest=OTHER)
    with pytest.raises(UserError, match="is not the bundle's"):
        replay.order_of(elsewhere)


@pytest.mark.slow
def test_rows_of_an_older_version_leave_the_board_and_stay_in_the_file(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, db = tmp_path / "results", tmp_path / "b.duckdb"
    light(results, 0, method={"name": "chex", "origin": "reference", "version": OLD})
    light(results, 1, method={"name": "chex", "origin": "reference", "version": NEW})
    versions.enter("image_pruning/chex", [Entry(1, OLD), Entry(2, NEW)])
    monkeypatch.setattr(registry, "stated_version", lambda path: 2)
    store.publish(results, db)
    assert ask(db, "SELECT seed FROM runs ORDER BY seed") == [(0,), (1,)]
    assert ask(db, "SELECT seed FROM counted ORDER BY seed") == [(1,)]
    monkeypatch.setattr(registry, "stated_version", lambda path: 1)
    store.publish(results, db)
    assert ask(db, "SELECT seed FROM counted ORDER BY seed") == [(0,), (1,)]


def test_the_list_of_sources_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = versions.sources()
    assert found == versions._sources()
    (kept,) = (tmp_path / "weighin").iterdir()
    monkeypatch.setattr(versions, "_sources", lambda: pytest.fail("read again"))
    assert versions.sources() == found
    monkeypatch.setattr(versions, "_state", lambda: "another")
    monkeypatch.setattr(versions, "_sources", lambda: found[:1])
    assert versions.sources() == found[:1]
    assert [f.name for f in (tmp_path / "weighin").iterdir()] == ["sources-another.json"]  # the old list is gone
    (tmp_path / "weighin" / "sources-another.json").write_text("torn")
    assert versions.sources() == found[:1]
    assert kept.name != "sources-another.json"


def test_what_the_list_of_sources_follows_from_changes_with_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tasks", "reference_impls"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(registry, "TASKS", tmp_path / "tasks")
    monkeypatch.setattr(registry, "METHODS", tmp_path / "reference_impls")
    states = [versions._state()]
    for file, text in (("tasks/a.py", "x = 1"), ("reference_impls/b.py", ""), ("tasks/a.py", "x = 2"), ("tasks/versions.toml", "")):
        (tmp_path / file).write_text(text)
        states.append(versions._state())
    assert len(set(states)) == 5


def test_a_home_that_cannot_be_written_to_keeps_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert versions.sources() == versions._sources()


@pytest.mark.parametrize("text", ["[]", "{}", '["abc"]', '[["a", "b", 1]]', "[" * 100_000])
def test_a_kept_list_that_is_none_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(versions, "_sources", lambda: [("task", "", "digest")])
    (tmp_path / "weighin").mkdir()
    (tmp_path / "weighin" / f"sources-{versions._state()}.json").write_text(text)
    assert versions.sources() == [("task", "", "digest")]


def test_where_nobody_has_a_home_no_list_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(versions, "_sources", lambda: [("task", "", "digest")])
    assert versions.sources() == [("task", "", "digest")]
