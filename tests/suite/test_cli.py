"""The command as a user meets it: help, lists, mistakes, JSON, and what it does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite import bundle, cli, registry
from tests import demo
from tests.commands import forked_command

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(registry.HOUSE), "COLUMNS": "200"}


def weighin(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "suite.cli", *words], capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd, timeout=120
    )


@pytest.mark.slow
def test_list_names_tasks_and_methods() -> None:
    done = weighin("list")
    assert done.returncode == 0
    for word in ("image_pruning", "chex", "dense", "l1_filters", "uniform_scratch", "fashion/resnet20"):
        assert word in done.stdout
    (entry,) = [e for e in json.loads(weighin("list", "--json").stdout) if e["task"] == "image_pruning"]
    assert {m["name"]: m["kind"] for m in entry["methods"]}["chex"] == "paper"


@pytest.mark.slow
def test_list_tells_what_can_be_set_of_a_method() -> None:
    done = weighin("list", "image_pruning", "chex")
    assert done.returncode == 0
    for word in ("Paper:", "What we changed:", "residual_power", "importance, uniform", "--set share=VALUE"):
        assert word in done.stdout
    found = json.loads(weighin("list", "image_pruning", "chex", "--json").stdout)
    assert {s["name"]: s["default"] for s in found["settings"]}["score"] == "css"
    assert "Nothing can be set" in weighin("list", "image_pruning", "dense").stdout
    done = weighin("list", "image_pruning", "nothing")
    assert done.returncode == 2
    assert "there are: chase" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nothing", "-m", "dense"], "there are: fair_pruning, flame_detection, graph_tickets"),
        (["run", "image_pruning", "-m", "nothing"], "chex"),
        (["run", "image_pruning", "-m", "chex", "--set", "shape=1"], "delta0"),
        (["run", "image_pruning", "-m", "chex", "--set", "share=lots"], "share=lots"),
        (["run", "image_pruning", "-m", "chex", "--target", "macs=half"], "name=number"),
        (["run", "image_pruning", "-m", "chex", "--target", "macs=nan"], "name=number"),
        (["run", "image_pruning", "-m", "chex", "--tier", "huge"], "smoke"),
        (["run", "image_pruning", "-m", "chex", "--set", "delta0=nan"], "finite"),
        (["run", "image_pruning", "-m", "chex", "--set", "delta0=1e999"], "finite"),
        (["run", "image_pruning", "-m", "chex", "--timeout", "nan"], "more than 0"),
        (["run", "image_pruning", "-m", "chex", "--timeout", "0"], "more than 0"),
        (["run", "image_pruning", "-m", "chex", "--timeout", "-5"], "more than 0"),
        (["run", "image_pruning", "-m", "chex", "--threads", "4096"], "cores"),
        (["run", "image_pruning", "-m", "chex", "-s", str(2**63)], "below 2^63"),
        (["run", "image_pruning", "-m", "chex", "--submitter", "<b>me</b>"], "--submitter"),
        (["run", "image_pruning", "-m", "chex", "--case", "fashion"], "data/architecture"),
        (["run", "image_pruning", "-m", "chex", "--case", "fashion/lenet", "--tier", "smoke"], ""),
        (["run", "image_pruning", "-m", "chex", "--case", "cifar10/resnet20", "--tier", "paper"], "--data"),
        (["run", "image_pruning", "-m", "chex", "--division", "ajar"], "closed"),
        (["run", "image_pruning", "-m", "./none.py"], "no file"),
        (["run", "graph_tickets", "-m", "dense", "--processes", "2"], "does not share its batches"),
        (["run", "image_pruning", "-m", "dense", "--device", "cuda:9"], "no device"),
        (["check", "nowhere"], "nowhere"),
        (["check", "a" * 300], "no file"),
        (["check", ".", "--against", "nowhere"], "--against"),
        (["check", ".", "--against", "stdout"], "--against"),
        (["check", ".", "--against", "a" * 300], "--against"),
        (["preview", "nowhere", "--against", "."], "no folder nowhere"),
        (["preview", ".", "--against", "nowhere"], "--against"),
        (["publish", "--results", "nowhere"], "nowhere"),
        (["publish", "--results", "a" * 300], "no folder"),
        (["publish", "--results", ".", "--out", "a" * 300], "name another"),
        (["replay", "a" * 300], "too long"),
        (["weigh", "a" * 300], "no work folder"),
        (["weigh", "nowhere"], "no work folder"),
        (["export", "nowhere", "player"], "no work folder"),
        (["replay", "nowhere"], "run.json"),
        (["run", "--what"], "--what"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(words: list[str], said: str, tmp_path: Path) -> None:
    if words[0] == "run" and "--what" not in words:
        words = [*words, "--out", str(tmp_path)]
    done = forked_command(*words, folder=tmp_path, COLUMNS="200")
    done.join(120)
    told = (tmp_path / "stderr").read_text()
    assert done.exitcode == 2, told
    assert "Traceback" not in told
    assert said in told


@pytest.mark.slow
def test_help_and_the_light_commands_import_nothing_heavy(tmp_path: Path) -> None:
    demo.write(tmp_path / "results")
    lines = [
        ("['--help']", "torch numpy pydantic duckdb pyarrow pandas scipy"),
        ("['list']", "torch torchvision"),
        (f"['check', {str(tmp_path / 'results')!r}]", "torch torchvision"),
        (f"['publish', '--results', {str(tmp_path / 'results')!r}, '--out', {str(tmp_path / 'b.duckdb')!r}]", "torch torchvision"),
        (f"['preview', {str(tmp_path / 'results')!r}, '--against', {str(tmp_path)!r}]", "torch torchvision"),
        (f"['claims', '--results', {str(tmp_path / 'results')!r}]", "torch torchvision"),
    ]
    for words, banned in lines:
        code = (
            f"import sys; sys.argv = ['weighin', *{words}]\nfrom suite import cli\n"
            "try:\n    cli.main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
            f"heavy = set({banned.split()!r}) & set(sys.modules)\nassert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
        assert done.returncode == 0, (words, done.stdout[-500:], done.stderr[-1500:])


@pytest.mark.slow
def test_a_folder_called_tasks_where_the_user_stands_does_no_harm(tmp_path: Path) -> None:
    for name in ("tasks", "suite"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('shadowed')")
    assert weighin("list", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    path = demo.write(tmp_path / "results")
    assert weighin("check", str(tmp_path / "results")).returncode == 0
    text = (path / "run.json").read_text()
    (path / "run.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    done = weighin("check", str(tmp_path / "results"))
    assert done.returncode == 1
    assert "run.json: id:" in done.stdout
    found = json.loads(weighin("check", "--json", str(tmp_path / "results")).stdout)
    assert found["errors"] == 1


@pytest.mark.parametrize("width", [80, 200])
def test_numbers_of_a_result_are_whole_in_any_window(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    records = [bundle.read(demo.write(tmp_path, method, seed=0)) for method in ("dense", "chex")]
    cli._results_table(records)
    text = capsys.readouterr().out
    assert "…" not in text
    assert max(map(len, text.split("a wider window")[0].splitlines())) <= width
    top1 = records[1].measure("top1")
    assert top1 is not None
    half = (top1.high - top1.low) / 2
    assert f"{top1.value:.1f} ±{half:.1f} " in text  # digits as on the board
    left_out = "a wider window shows" in text
    assert left_out == (width == 80)
    assert left_out != ("balanced" in text.split("a wider window")[0])


def test_a_method_that_cannot_be_imported_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('"""Mine."""\nopen("nowhere")\n')
    done = weighin("run", "image_pruning", "-m", "./mine.py", "--tier", "smoke", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be imported: FileNotFoundError" in done.stderr
    assert "line 2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = weighin("run", "image_pruning", "-m", "dense", "--tier", "smoke", "--out", str(tmp_path / "file" / "results"))
    assert done.returncode == 2
    assert "cannot write to" in done.stderr
    demo.write(tmp_path / "r")
    for command in ("publish", "site"):
        out = str(tmp_path / "file" / "b.duckdb")
        done = weighin(command, "--results", str(tmp_path / "r"), "--out", out, *(["--db", out] if command == "site" else []))
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


def test_a_target_that_was_missed_ends_with_1(tmp_path: Path) -> None:
    record = bundle.read(demo.write(tmp_path, target="macs=0.5", kept=0.7))
    assert [told.partition(" of ")[0] for told in cli._missed(record)] == ["kept 0.7"]
    assert cli._missed(bundle.read(demo.write(tmp_path, seed=1))) == []
