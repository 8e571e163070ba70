"""Six very different families, and a seventh unlike them, each as small as it can be, without a special case in `suite/`.

Every stand-in (tests/standins) is a real Task with a parent and a method: a 3-layer network, a 50-node graph, a 2-block ViT
with its trainer, a tabular net with a group, a two-stream patch net, a two-frame upscaler, and a forecast.  They come as
another package comes, by entry points, and go the whole way: through the protocol's calls, runner, checker, publisher and
page.  What the families need from the suite stays needed, and no page of one speaks of another.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from suite import bundle, check, registry, runner, system
from suite.board import pages, store
from suite.child import ChildRun
from suite.order import Order
from suite.protocol import Task, Unsupported
from tests.helpers import on_one_line, page_text
from tests.standins.install import STANDINS, install, spec_of, write_truth
from tests.standins.stages import forked_child

#: heads of columns that a family declares, with its arrow or unit as far as it has one
HEADS = {
    "pruning": [
        "top1, %\u00a0↑",
        "vs parent, points ↑",
        "Worst class, %\u00a0↑",
        "on paper",
        "in fact, infer@1 ↑",
        "Lot 64&nbsp;↑",
    ],
    "graph": ["accuracy, %\u00a0↑", "Worst degree, %\u00a0↑", "in fact, infer@graph ↑"],
    "vit": [
        "top1, %\u00a0↑",
        "in fact, train_step@0.5 ↑",
        "Latency train_step@0, ms&nbsp;↓",
        "Step at 1&nbsp;↑",
        "Forward 64&nbsp;↑",
    ],
    "fair": ["worst_group, %\u00a0↑", "Worst group, %\u00a0↑", "on paper", "in fact, infer@1 ↑", "Lot 64&nbsp;↑"],
    "flame": ["balanced_accuracy, %\u00a0↑", "Worst scene, %\u00a0↑", "in fact, frame ↑"],
    "video": ["psnr_frame, dB\u00a0↑", "vs parent, dB ↑", "in fact, play/eager ↑"],
    "forecast": ["rmse, kWh\u00a0↓", "vs parent, kWh ↓", "on paper", "in fact, horizon@176 ↑"],
}
#: and what else its page says in its own words
SAYS = {
    "pruning": ["Keep most hits", "keep 0.49 of the products", "vs parent, points ↑"],
    "graph": ["A dot a degree", "change from the whole parent", "keep a quarter of the weights"],
    "vit": ["keep half the work of a step", "A dot a class"],
    "fair": ["A dot a group", "The group that pays most", "Change of each group from the full parent"],
    "flame": ["A dot a scene", "change from the bce parent", "Keep most balanced_accuracy"],
    "video": ["likeness along the rows", "psnr_frame over bytes of what is sent", "Cut at the top.", "drawn by a random number"],
    "forecast": ["Keep most certainty", "keep half the past hours", "error along the rows", "rmse over hours looked back on"],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The stand-ins' package on the path of this process and of those that it starts."""
    folder = tmp_path_factory.mktemp("site")
    install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])))
        for name in STANDINS:
            write_truth(name, folder)
        yield folder


@pytest.fixture(scope="module")
def weighed_all(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results: of each family the parent, the method, and that one with another setting where it has one."""
    root = tmp_path_factory.mktemp("families")
    settings, card = runner.Settings(root / "results", root / "work"), system.card("cpu", 1)

    def run(order: Order) -> runner.Outcome:
        return runner.run(order, settings, card, lambda stage, event: None)

    asked = [(name, method, []) for name, (_, methods) in STANDINS.items() for method in methods]
    asked += [("pruning", "thin", ["epochs=1"]), ("flame", "contrastive", ["temperature=0.5"]), ("forecast", "latest", ["ridge=1"])]
    orders = [runner.make_order(spec_of(name, "small"), method, how, threads=1) for name, method, how in asked]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_child", forked_child)
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(run, orders))
    assert [(o.order.spec.task, o.order.method, o.reason) for o in outcomes if o.status != "ok"] == []
    return root / "results"


@pytest.fixture(scope="module")
def written(weighed_all: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of all that was run."""
    folder = tmp_path_factory.mktemp("pages")
    store.publish(weighed_all, folder / "board.duckdb")
    with store.connect(folder / "board.duckdb") as db:
        pages.write_pages(db, folder / "docs")
    return folder / "docs"


def the_task(name: str) -> Task:
    return registry.task(name)


@pytest.mark.parametrize("name", STANDINS)
def test_a_family_walks_through_the_protocol(prepared: None, installed: Path, name: str, tmp_path: Path) -> None:
    task, spec = the_task(name), spec_of(name, "smoke")
    *_, chosen = STANDINS[name][1]
    method = registry.configure(registry.load(registry.method(name, chosen)), [])
    run = ChildRun(spec, tmp_path / "checkpoint.pt", lambda event: None)
    problem = task.problem(spec, run)

    # a Solution crosses processes whole
    torch.save(method.solve(problem), tmp_path / "solution.pt")
    solution = torch.load(tmp_path / "solution.pt", weights_only=False)

    bundle.write_table(task.examine(problem, solution), tmp_path / "evidence.parquet")
    evidence = bundle.read_table(tmp_path / "evidence.parquet")
    assert {k: v.dtype.name for k, v in evidence.items()} == dict(task.columns)
    assert set(task.truth) <= set(evidence)
    assert (evidence["row"] == np.arange(len(evidence["row"]))).all()

    measures = task.score(spec, evidence)
    assert task.score(spec, bundle.read_table(tmp_path / "evidence.parquet")) == measures
    assert any(m.name == task.ranked and m.part == "" and m.direction for m in measures)
    assert all(math.isfinite(m.value) for m in measures)
    assert len({(m.name, m.part) for m in measures}) == len(measures)

    kept = {m.name: m.value for m in task.weigh(problem, solution)}
    assert set(kept) >= {f"kept.{name}" for name in spec.targets}

    theirs = {w.name: w for w in task.workloads(problem, task.parent(problem))}
    played = 0
    for ours in task.workloads(problem, solution):
        try:
            calls = ours.prepare(), theirs[ours.versus or ours.name].prepare()
        except Unsupported as reason:
            assert str(reason)
            continue
        for call in calls:
            call()
        played += 1
    assert played
    assert task.speed in theirs
    operations = task.operations(problem, solution)
    assert operations.layers or operations.warnings


def test_a_task_of_another_package_has_its_own_parent_and_references(installed: Path) -> None:
    refs = registry.methods("flame")
    assert {name: ref.origin for name, ref in refs.items()} == {"bce": "reference", "contrastive": "reference"}
    assert runner.make_order(spec_of("flame", "small"), "bce", []).spec.target == ""
    found = registry.tasks()["flame"]
    assert found.summary == "A two-stream patch net with an embedding: no target, a sampled embedding as evidence."
    assert found.path == installed / "weighin_standins" / "flame" / "task.py"


@pytest.mark.slow
def test_processes_of_the_runner_find_a_task_of_another_package(installed: Path, tmp_path: Path) -> None:
    order = runner.make_order(spec_of("flame", "smoke"), "contrastive", [], threads=1)
    settings = runner.Settings(tmp_path / "results", tmp_path / "work")
    outcome = runner.run(order, settings, system.card("cpu", 1), lambda stage, event: None)
    assert outcome.status == "ok", outcome.reason
    assert [f.line() for f in check.check([tmp_path / "results"]) if f.level == "error"] == []
    assert set(bundle.read(outcome.path).libraries) >= {"python", "torch", "torchvision", "numpy", "scipy", "pillow"}


def test_the_checker_finds_no_error_in_any_family(weighed_all: Path) -> None:
    assert [f.line() for f in check.check([weighed_all]) if f.level == "error"] == []


@pytest.mark.parametrize("name", STANDINS)
def test_a_page_speaks_of_its_own_family(written: Path, name: str) -> None:
    page = page_text(written / "tasks" / f"{name}-small.md")
    task = the_task(name)
    assert [head for head in HEADS[name] if f">{head}<" not in page] == []
    assert [words for words in SAYS[name] if words not in page] == []
    assert f"{task.parent_method}</a></span><small>the parent, weighed against itself</small>" in page


@pytest.mark.parametrize("name", STANDINS)
def test_a_page_says_no_word_of_another_family(written: Path, name: str) -> None:
    said = on_one_line(re.sub(r"[\w.]*weighin[\w.]*", "", (written / "tasks" / f"{name}-small.md").read_text(encoding="utf-8")))
    others = {word for other in registry.tasks() if other != name for word in words_of(the_task(other))} | NAMED
    own = words_of(the_task(name)) | {w for words in words_of(the_task(name)) for w in re.findall(r"\w+", words)}
    found = [w for w in sorted(others - own) if re.search(rf"(?<![\w@.]){re.escape(w)}(?![\w@])", said)]
    assert found == []


#: words that the board once had of its own
NAMED = {"dense", "top1", "macs", "MACs", "PSNR", "FPS", "Batch"}


def words_of(task: Task) -> set[str]:
    """Names that a task alone gives, and its words for them."""
    show = task.show
    targets = {t.partition("=")[0] for tier in task.tiers.values() for text in tier.targets for t in text.split(",") if t}
    named = {task.name, task.parent_method, task.ranked, *task.beside, *targets, *task.quotients, *task.within, *task.amounts}
    named |= {task.speed, *task.jobs, *show.words, *show.words.values(), *show.families.values(), *show.shares.values()}
    named |= {case for tier in task.tiers.values() for case in tier.cases}
    return {name for name in named if name}


def test_the_page_of_the_machine_names_the_parents_that_were_weighed_on_it(written: Path) -> None:
    (page,) = (written / "systems").glob("????????????????.md")
    parents = sorted(the_task(name).parent_method for name in STANDINS)
    assert f"the {' or '.join(parents)} network, weighed {len(parents)} times" in page_text(page)


def test_the_front_page_shows_every_family_and_announces_those_to_come(written: Path) -> None:
    page = (written / "index.md").read_text(encoding="utf-8")
    assert "<h2>13 tasks</h2>" in page
    for name in STANDINS:
        assert f'<a href="tasks/{name}-small.html">{name}</a></h3><p>{the_task(name).question}</p>' in page
    assert "<h3>flame_detection</h3><p>Find fire that smoke hides.</p>" in page


def test_pictures_of_a_family_are_as_large_as_it_allows_itself(weighed_all: Path) -> None:
    seen = [p for path in bundle.find(weighed_all / "video") for p in bundle.read(path).pictures.values()]
    assert {(p.width, p.height) for p in seen} == {(16, 8)}


def test_a_bundle_that_breaks_a_rule_of_its_own_task_is_refused(weighed_all: Path) -> None:
    from suite.checks import numbers

    (path,) = (p for p in bundle.find(weighed_all / "pruning" / "small" / "dense"))
    record, task = bundle.read(path), the_task("pruning")
    assert list(numbers.possible("here", record, task)) == []
    for name, value, expected in (
        ("kept.macs", 0.9, ["measures kept.macs"]),
        ("macs_parent", -1.0, ["measures macs_parent", "measures macs", "measures kept.macs"]),
        ("macs_parent", 100.0, ["measures macs", "measures kept.macs"]),
    ):
        changed = [m.model_copy(update={"value": value}) if m.name == name else m for m in record.measures]
        told = numbers.possible("here", record.model_copy(update={"measures": changed}), task)
        assert [f.field for f in told] == expected
