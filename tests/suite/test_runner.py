"""Runs end as they should: done, or failed with a reason; see test_killed for those that are stopped or killed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from suite import bundle, check, registry, runner
from suite.forkserver import ForkServer
from suite.naming import UserError
from suite.order import SOLUTION, Order
from tests.helpers import method_file, problem, spec
from tests.suite.conftest import CARD, settings, silent


def test_a_whole_run_leaves_a_bundle_that_checks(weighed: tuple[Path, runner.Settings, Order]) -> None:
    path, chosen, _ = weighed
    record = bundle.read(path)
    assert {f.name for f in path.iterdir()} == {bundle.RUN, bundle.EVIDENCE, bundle.TIMING, bundle.DEPLOYED}
    assert [f for f in check.check([path]) if f.level == "error"] == []
    for name, part in (
        ("top1", ""),
        ("worst_class", ""),
        ("speedup", "infer@64"),
        ("throughput", "infer@256"),
        ("time", "infer@1"),
    ):
        assert record.measure(name, part) is not None, name
    for name, part in (
        ("memory_peak", "infer@64"),
        ("kept.macs", ""),
        ("train_seconds", ""),
        ("examples", ""),
        ("solve_resident", ""),
    ):
        assert record.measure(name, part) is not None, name
    kept = record.measure("kept.macs")
    assert kept is not None
    assert kept.value == pytest.approx(0.5, rel=0.01)
    assert any("energy" in n for n in record.notes) or record.measure("energy", "infer@64") is not None
    assert [f.name for f in chosen.work.iterdir() if f.is_dir()] == [], "nothing is left of its work"


def test_what_is_done_is_not_done_again(weighed: tuple[Path, runner.Settings, Order]) -> None:
    path, chosen, order = weighed
    before = (path / bundle.RUN).stat().st_mtime_ns
    outcome = runner.run(order, chosen, CARD, silent)
    assert not outcome.fresh
    assert outcome.path == path
    assert (path / bundle.RUN).stat().st_mtime_ns == before


def test_a_torn_bundle_is_no_result(weighed: tuple[Path, runner.Settings, Order], tmp_path: Path) -> None:
    import shutil

    path, chosen, order = weighed
    copy = tmp_path / "results" / path.relative_to(chosen.out)
    shutil.copytree(path, copy)
    (copy / bundle.EVIDENCE).write_bytes((copy / bundle.EVIDENCE).read_bytes()[:500])
    assert runner.stored(tmp_path / "results", order, bundle.read(path).key) is None


def test_a_solved_run_is_exported_by_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from suite.files import write_json
    from suite.naming import UserError
    from tasks.image_pruning.task import Network

    work = tmp_path / "work"
    work.mkdir()
    runner.make_order(spec(), "uniform_scratch", []).write(work)
    with pytest.raises(UserError, match="no solved run yet"):
        runner.export(work, tmp_path / "files")
    write_json(work / "solver.json", {"card": CARD.hash, "cap": 60, "submitter": ""})
    torch.save(Network(torch.nn.Linear(3, 2)), work / "solution.pt")
    with pytest.raises(UserError, match="image_pruning has nothing to export"):
        runner.export(work, tmp_path / "files")

    def export(task: object, problem: object, solution: Network, folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text(str(sum(p.numel() for p in solution.model.parameters())))

    monkeypatch.setattr(type(registry.task("image_pruning")), "export", export)
    (file,) = runner.export(work, tmp_path / "files")
    assert file.read_text() == "8"


FAILURES = {
    "error": "raise RuntimeError('it broke')",
    "oom": "raise MemoryError('no room')",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "timeout": "import time\ntime.sleep(600)",
    "over_budget": "for epoch in range(99):\n    for x, y in problem.batches(epoch):\n        pass",
    "diverged": "return Network(Trainer(problem).fit('train', problem.model(), Sgd(lr=1e30), epochs=2))",
}


@pytest.mark.parametrize("status", FAILURES)
def test_a_failure_is_kept_with_its_reason(status: str, server: ForkServer, tmp_path: Path) -> None:
    order = runner.make_order(spec(), method_file(tmp_path, FAILURES[status]), [])
    # how a process ends is that of one in its own interpreter; what a stage says of itself, a forked one says too
    launch = runner.launch if status in ("killed", "timeout") else server.launch
    chosen = settings(tmp_path, launch=launch, cap_seconds=8.0 if status == "timeout" else None)
    outcome = runner.run(order, chosen, CARD, silent)
    record = bundle.read(outcome.path)
    assert record.status == status
    assert record.reason
    assert str(tmp_path) not in record.reason.replace(str(tmp_path / "mine.py"), "")
    assert not record.files
    assert [f for f in check.check([outcome.path]) if f.level == "error"] == []
    assert not runner.run(order, chosen, CARD, silent).fresh  # kept, not tried again ...
    if status in ("error", "oom"):  # ... but on --retry, where trying again can help
        again = runner.run(order, settings(tmp_path, launch=launch, retry=True), CARD, silent)
        assert again.fresh


def test_two_runners_do_not_meet(tmp_path: Path) -> None:
    from suite.naming import UserError

    with runner._alone(tmp_path / "w"), pytest.raises(UserError, match="another runner"), runner._alone(tmp_path / "w"):
        pass


def test_a_full_disk_is_one_clear_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from suite.naming import UserError
    from tests import demo

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = demo.write(tmp_path / "a")
    record = bundle.read(path)
    monkeypatch.setattr(bundle.shutil, "copyfile", full)
    with pytest.raises(UserError, match="No space left on device; make room"):
        bundle.write(tmp_path / "b", record, {bundle.EVIDENCE: path / bundle.EVIDENCE})
    assert not list((tmp_path / "b").rglob("*.parquet")), "whole or not at all"


@pytest.mark.slow
def test_the_speed_division_hands_a_torchvision_network_from_child_to_child(tmp_path: Path) -> None:
    """The child that examines has not built such a network itself: torchvision is first imported as it is unpickled."""
    asked = {"tier": "paper", "division": "speed", "case": "imagenet/resnet18", "target": "macs=0.5"}
    order = runner.make_order(spec(**asked), "uniform_scratch", [])
    outcome = runner.run(order, settings(tmp_path, solve_only=True), CARD, silent)
    assert (outcome.status, outcome.reason) == ("solved", "")
    layers = json.loads((outcome.path / "examine.json").read_text())["operations"]
    assert sum(layer["macs"] for layer in layers) == pytest.approx(0.5 * problem(**asked).dense_macs, rel=0.01)


def test_what_another_clone_solved_is_weighed_by_the_method_that_stands_here(tmp_path: Path) -> None:
    order = runner.make_order(spec(), "uniform_scratch", [])
    theirs = tmp_path / "clone" / "uniform_scratch.py"  # it may well exist on this machine
    theirs.parent.mkdir()
    theirs.write_text(Path(order.path).read_text())
    work = tmp_path / "work"
    work.mkdir()
    replace(order, path=str(theirs)).write(work)
    for name in ("solver.json", SOLUTION):
        (work / name).touch()
    assert runner._solved(work).path == order.path


def test_what_is_damaged_is_told_and_made_again(tmp_path: Path, server: ForkServer) -> None:
    """Bytes of a solution or of evidence that changed in the work folder, and a torn outcome: never the method's failure."""
    chosen = settings(tmp_path, solve_only=True, launch=server.launch)
    order = runner.make_order(spec(), "uniform_scratch", [])
    work = runner.run(order, chosen, CARD, silent).path
    before = {n: (work / n).read_bytes() for n in (SOLUTION, bundle.EVIDENCE)}
    for name, data in before.items():
        (work / name).write_bytes(data[:-9] + bytes(9))
        with pytest.raises(UserError, match="is damaged; run the same"):
            runner.weigh(work, chosen, silent)
        assert runner.run(order, chosen, CARD, silent).status == "solved"
        assert (work / bundle.EVIDENCE).read_bytes() == before[bundle.EVIDENCE]
    (work / "examine.json").write_text('{"status": "o')
    assert runner.run(order, chosen, CARD, silent).status == "solved"
    assert json.loads((work / "examine.json").read_text())["status"] == "ok"


def test_data_that_are_not_those_that_are_shipped_are_told_before_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(registry.task("image_pruning")), "digest", lambda self, spec: "0" * 64)
    with pytest.raises(UserError, match="not those that weighin ships"):
        runner.make_order(spec(), "dense", [])

    def torn(self: object, spec: object) -> str:
        raise ValueError("File is not a zip file")

    monkeypatch.setattr(type(registry.task("image_pruning")), "digest", torn)
    with pytest.raises(UserError, match="cannot be read: File is not a zip file; take the file from the repository"):
        runner.make_order(spec(), "dense", [])


@pytest.mark.parametrize(
    ("case", "mend"),
    [
        ("Wald Brände/resnet20", r"write Wald_Brande/resnet20, which stands for a file or folder named Wald Brände"),
        ("IMG 0042 (1).mp4/x2", r"write IMG_0042_1_.mp4/x2"),
        ("fashion/resnet 20", "`weighin list` shows cases"),
        ("a/b/c" * 60, "`weighin list` shows cases"),
    ],
)
def test_a_name_that_no_bundle_can_hold_is_refused_before_the_work(case: str, mend: str) -> None:
    with pytest.raises(UserError, match=rf"case '.*: names are of letters, digits .*; {mend}"):
        runner.make_order(replace(spec(), case=case, division="open"), "dense", [])


def test_single_numbers_that_a_method_notes_are_kept() -> None:
    from types import SimpleNamespace

    from suite.child import MOST_NOTES, noted

    notes = {"density": 0.25, "levels": 3, "rows": {"a": 1}, "bad": math.nan, "not a name": 1.0, "text": "x"}
    assert [(m.name, m.part, m.value, m.source) for m in noted(SimpleNamespace(notes=notes))] == [
        ("noted", "density", 0.25, "meter"),
        ("noted", "levels", 3.0, "meter"),
    ]
    notes = {
        "alive": [9, 7, 4],
        "spread": [{"umm": 0.1, "by": "x"}, {"umm": 0.2, "of": {"a": 1}}],
        "none": [],
        "rows": [[1, 2], [3]],
    }
    assert {m.part: m.value for m in noted(SimpleNamespace(notes=notes))} == {
        "alive_first": 9,
        "alive_last": 4,
        "spread_umm_first": 0.1,
        "spread_umm_last": 0.2,
    }
    assert noted(SimpleNamespace(notes=None)) == []
    assert noted(object()) == []
    assert len(noted(SimpleNamespace(notes={f"n{i}": i for i in range(99)}))) == MOST_NOTES


#: solves in a moment; whoever looks at its network later meets an error as long as a file is there
FUSSY = """
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tasks.image_pruning.task import ImageProblem, Network


class Fussy(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        if Path({flag!r}).exists():
            raise RuntimeError("cannot open {flag}, nor {data}/sub/a.png, nor /home/somebody/more/b.png")
        return self.inner(x)


@dataclass(frozen=True)
class Mine:
    def solve(self, problem: ImageProblem) -> Network:
        with Path({count!r}).open("a") as f:
            f.write("solved ")
        return Network(Fussy(problem.model()))
"""


@pytest.mark.parametrize("weighed_apart", [False, True])
def test_a_late_failure_keeps_the_costly_part(weighed_apart: bool, server: ForkServer, tmp_path: Path) -> None:
    flag, count, file = tmp_path / "flag", tmp_path / "count", tmp_path / "mine.py"
    file.write_text(FUSSY.format(flag=str(flag), count=str(count), data="/data/of/mine"))
    order = runner.make_order(replace(spec(), data="/data/of/mine"), str(file), [])
    if weighed_apart:
        work = runner.run(order, settings(tmp_path, launch=server.launch, solve_only=True), CARD, silent).path
        flag.touch()
        failed = runner.weigh(work, settings(tmp_path, launch=server.launch), silent)
    else:
        flag.touch()
        failed = runner.run(order, settings(tmp_path, launch=server.launch), CARD, silent)
    record = bundle.read(failed.path)
    assert record.status == "error"
    assert failed.kept is not None
    assert (failed.kept / SOLUTION).exists()
    told = record.reason.splitlines()[0]
    assert told.endswith("cannot open flag, nor DIR/sub/a.png, nor b.png")
    assert str(tmp_path) not in record.reason
    assert [f for f in check.check([failed.path]) if "folder of some machine" in f.message] == []
    flag.unlink()
    if weighed_apart:
        again = runner.weigh(failed.kept, settings(tmp_path, launch=server.launch), silent)
    else:
        assert not runner.run(order, settings(tmp_path, launch=server.launch), CARD, silent).fresh
        again = runner.run(order, settings(tmp_path, launch=server.launch, retry=True), CARD, silent)
    assert (again.status, again.reason) == ("ok", "")
    assert count.read_text() == "solved ", "and not solved again"
    assert not failed.kept.exists()
    assert again.kept is None


@pytest.mark.slow
def test_a_timeout_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    body = f"""
import time
from pathlib import Path
step = (problem.run.load() or {{"step": 0}})["step"]
problem.run.save({{"step": step + 1}})
while not Path({str(flag)!r}).exists():
    time.sleep(0.1)
return Network(problem.model(), {{"step": step + 1}})
"""
    order = runner.make_order(spec(), method_file(tmp_path, body), [])
    late = runner.run(order, settings(tmp_path, cap_seconds=20.0), CARD, silent)
    assert late.status == "timeout"
    assert late.kept is not None
    flag.touch()
    again = runner.run(order, settings(tmp_path, retry=True, solve_only=True), CARD, silent)
    assert again.status == "solved"
    import torch

    registry.load(registry.method("image_pruning", order.path))
    assert torch.load(again.path / SOLUTION, weights_only=False).notes == {"step": 2}


def test_what_was_weighed_before_a_failure_is_weighed_again(server: ForkServer, tmp_path: Path) -> None:
    """Memory fails once all is timed: the next try may be on another machine, whose timings must be its own."""
    order = runner.make_order(spec(), "uniform_scratch", [])

    def launch(arguments: list[str], log: Path) -> runner.Child:
        if arguments[0] == "memory" and not (tmp_path / "flag").exists():
            arguments = ["nothing", *arguments[1:]]
        return server.launch(arguments, log)

    failed = runner.run(order, settings(tmp_path, launch=launch), CARD, silent)
    assert failed.status != "ok"
    assert failed.kept is not None
    assert not (failed.kept / bundle.TIMING).exists()
    assert not list(failed.kept.glob("weigh.json")) + list(failed.kept.glob("memory-*.json"))
    assert (failed.kept / "examine.json").exists()
    (failed.kept / "examine.json").unlink()
    with pytest.raises(UserError, match="has not been examined"):
        runner.weigh(failed.kept, settings(tmp_path, launch=launch), silent)


def test_what_other_sources_left_is_not_taken_over(server: ForkServer, tmp_path: Path) -> None:
    order = runner.make_order(spec(), "uniform_scratch", [])
    chosen = settings(tmp_path, launch=server.launch, solve_only=True)
    work = runner.run(order, chosen, CARD, silent).path
    before = (work / SOLUTION).stat().st_mtime_ns
    assert (runner.run(order, chosen, CARD, silent).path / SOLUTION).stat().st_mtime_ns == before
    other = replace(order, task_digest="0" * 64)
    other.write(work)  # as another state of the task's source would have left it
    assert runner.run(order, chosen, CARD, silent).status == "solved"
    assert (work / SOLUTION).stat().st_mtime_ns != before


def test_texts_that_travel_name_no_folder_of_the_machine(tmp_path: Path) -> None:
    from suite import place
    from suite.checks import texts

    work, mine = tmp_path / "left", "/data/mine"
    linux, mac, administrator = ("/".join(("", *parts)) for parts in (("home", "somebody"), ("Users", "somebody"), ("root",)))
    told = (
        f"{work}/log.txt, {mine}/a/b.png and {Path.home()}/x/y; gcc -I{linux}/include a:{linux}/else/b {mac}/e"
        f" file://{administrator}/c.txt in C:\\Users\\me\\d.txt;"
        " read /proc/self/stat, and/or 3/4, tests/a/b.py, https://example.org/a/b"
    )
    assert texts.paths(told)
    cleaned = place.without_paths(told, work, mine)
    assert texts.paths(cleaned) == []
    assert "WORK/log.txt, DIR/a/b.png and ~/x/y" in cleaned
    assert "read /proc/self/stat, and/or 3/4, tests/a/b.py, https://example.org/a/b" in cleaned
    assert not any(word in cleaned for word in ("somebody", "else", "Users"))


def test_a_run_is_no_part_of_somebody_elses_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert not {"LOCAL_RANK", "WORLD_SIZE"} & set(runner.environment())
