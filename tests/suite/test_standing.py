"""How runs stand: by bundles, notes and whoever was to do them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from suite import queues, runner, standing, sweep
from suite.cli import _sweep_screen, app
from suite.naming import UserError
from suite.order import Order
from suite.protocol import Stopped
from tests import demo
from tests.suite.conftest import CARD

ASKED = {"tier": "small", "division": "closed"}


@pytest.fixture(scope="module")
def todo() -> list[Order]:
    return sweep.orders("image_pruning", methods=["dense"], seeds=[0, 1, 2], **ASKED)  # type: ignore[arg-type]


def gone() -> str:
    """The name of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return queues.this_process().replace(f":{queues.this_process().split(':')[1]}:", f":{process.pid}:")


def stand(folder: Path) -> dict[int, standing.Standing]:
    entries = list(standing.read(folder / "work").values())
    return {s.order.spec.seed: s for s in standing.standings(folder / "results", folder / "work", entries)}


def test_a_command_that_lives_runs_one_and_lets_the_others_wait(todo: list[Order], tmp_path: Path) -> None:
    work = tmp_path / "work"
    standing.register(tmp_path / "results", work, todo, solve_only=False)
    with standing.noting(work, todo[0], queues.this_process()):
        standing.note_card(work, todo[0], CARD.hash)
        found = stand(tmp_path)
    assert [found[s].state for s in range(3)] == ["running", "waiting", "waiting"]
    assert found[0].stage == "solve"


def test_what_a_command_that_ended_left_open_is_missing_and_says_why(todo: list[Order], tmp_path: Path) -> None:
    work, me = tmp_path / "work", gone()
    with standing.Ledger(tmp_path / "results", work) as ledger:
        ledger.put(standing.Entry(o, "command", me, standing.now()) for o in todo)
    with pytest.raises(Stopped), standing.noting(work, todo[0], me):
        raise Stopped
    standing.note(work, todo[1], job=me, began=standing.now(), ended="", card=CARD.hash, folder="nowhere")
    found = stand(tmp_path)
    assert {found[s].state for s in range(3)} == {"missing"}
    assert [found[s].reason for s in range(3)] == ["stopped", "stopped before its end", "not begun"]
    assert all("the same command" in found[s].mend for s in range(3))


def test_bundles_are_the_truth_whatever_is_told_of_their_jobs(todo: list[Order], tmp_path: Path) -> None:
    out, work, machine = tmp_path / "results", tmp_path / "work", demo.card()
    with standing.Ledger(out, work) as ledger:
        ledger.put(standing.Entry(o, "command", gone(), standing.now()) for o in todo)
    cards = {"solve": machine.hash, "weigh": machine.hash}
    for order, status in zip(todo, ("ok", "killed", "ok"), strict=True):
        written = demo.write(
            out,
            "dense",
            target="",
            seed=order.spec.seed,
            status=status,
            changes={"key": order.key(cards), "reason": "the process ended by SIGKILL\nmore"},
        )
        if order.spec.seed < 2:
            standing.note(work, order, job="another", card=machine.hash, began="", ended="", folder="")
        assert written.is_dir()
    found = stand(tmp_path)
    assert [found[s].state for s in range(3)] == ["ok", "failed", "ok"]
    assert (found[1].reason, found[1].mend) == (
        "killed: the process ended by SIGKILL",
        "the same command with --retry tries it again",
    )


def test_bundles_of_machines_that_the_sweep_never_met_are_others(todo: list[Order], tmp_path: Path) -> None:
    machine = demo.card()
    standing.register(tmp_path / "results", tmp_path / "work", todo, solve_only=False)
    demo.write(
        tmp_path / "results", "dense", target="", changes={"key": todo[0].key({"solve": machine.hash, "weigh": machine.hash})}
    )
    assert stand(tmp_path)[0].state == "waiting"


def test_a_damaged_state_file_is_told_and_a_damaged_note_is_none(todo: list[Order], tmp_path: Path) -> None:
    work = tmp_path / "work"
    standing.register(tmp_path / "results", work, todo, solve_only=False)
    standing.note(work, todo[0], job="1")
    (note,) = (work / standing.NOTES).glob("*.json")
    note.write_text("{")
    assert standing.noted(work, todo[0]) == {}
    for text in ("{", "[]", '{"layout": 9}', '{"layout": 1, "runs": {"a": {}}}'):
        (work / standing.FILE).write_text(text)
        with pytest.raises(UserError, match=r"damaged.*move it away"):
            standing.read(work)


def test_the_last_command_s_runs_are_shown_and_those_that_are_open(todo: list[Order], tmp_path: Path) -> None:
    with standing.Ledger(tmp_path / "results", tmp_path / "work") as ledger:
        ledger.put(
            [
                standing.Entry(todo[0], "command", gone(), "2026-01-01T00:00:00Z"),
                standing.Entry(todo[1], "command", gone(), "2026-01-02T00:00:00Z"),
            ]
        )
    assert [e.order.spec.seed for e in standing.latest(standing.read(tmp_path / "work"))] == [1]


def test_a_job_that_lives_elsewhere_keeps_its_place_when_a_command_asks_for_the_run(
    todo: list[Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = standing.Entry(todo[0], "slurm", "7_0", standing.now())
    with standing.Ledger(tmp_path / "results", tmp_path / "work") as ledger:
        ledger.put([job])
    said = {"7_0": queues.Job("waiting", "PENDING", "Priority")}
    monkeypatch.setattr(standing, "ASK", {**standing.ASK, "slurm": lambda jobs: {j: said[j] for j in jobs}})
    standing.register(tmp_path / "results", tmp_path / "work", todo, solve_only=False)
    assert [e.kind for e in standing.read(tmp_path / "work").values()].count("slurm") == 1
    said["7_0"] = queues.Job("ended", "CANCELLED")
    standing.register(tmp_path / "results", tmp_path / "work", todo, solve_only=False)
    assert {e.kind for e in standing.read(tmp_path / "work").values()} == {"command"}


def test_a_run_that_failed_and_has_a_job_again_waits_so_that_none_is_submitted_twice(
    todo: list[Order], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work, machine = tmp_path / "results", tmp_path / "work", demo.card()
    key = todo[0].key({"solve": machine.hash, "weigh": machine.hash})
    demo.write(out, "dense", target="", status="killed", changes={"key": key})
    standing.note(work, todo[0], job="7", card=machine.hash, ended=standing.now(), status="killed", path="", folder="")
    monkeypatch.setattr(
        standing, "ASK", {"slurm": lambda jobs: {j: queues.Job("waiting") if j == "9" else queues.Job("ended") for j in jobs}}
    )
    for job, state in (("7", "failed"), ("9", "waiting")):
        with standing.Ledger(out, work) as ledger:
            ledger.put([standing.Entry(todo[0], "slurm", job, standing.now())])
        assert stand(tmp_path)[0].state == state


def test_status_fits_a_screen_and_prints_json(todo: list[Order], tmp_path: Path) -> None:
    many = [
        standing.Standing(o, "failed" if i % 2 else "running", reason=f"killed: {i}", stage="solve")
        for i, o in enumerate(todo * 200)
    ]
    console = Console(width=100, record=True, file=(tmp_path / "screen").open("w"))
    console.print(_sweep_screen(many))
    text = console.export_text()
    assert len(text.splitlines()) < 60
    assert "600 runs: 300 running, 300 failed" in text
    assert "and 288 more: --json tells of all" in text
    standing.register(tmp_path / "results", tmp_path / "results" / ".work", todo, solve_only=False)
    done = CliRunner().invoke(app, ["status", "--out", str(tmp_path / "results"), "--json"])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["counts"]["waiting"], len(told["runs"])) == (0, 3, 3)


def test_runner_keeps_the_warnings_of_schedulers_from_stages(tmp_path: Path) -> None:
    child = runner.launch(["solve", str(tmp_path)], tmp_path / "log")
    mask = next(line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if line.startswith("SigBlk"))
    child.kill()
    child.wait()
    assert all(int(mask.split()[1], 16) >> (number - 1) & 1 for number in runner.WARNINGS)
