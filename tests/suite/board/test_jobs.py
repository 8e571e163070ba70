"""A task whose speed is that of a whole job (`Task.jobs`): heads, columns, memory and words, everywhere that speed is told."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from suite import registry
from suite.board import cases, claims, export, pages, store, tables
from suite.show import Show
from tests.helpers import page_text
from tests.suite.board import trainings

TASK = registry.task("image_pruning")
PLAN = {k: trainings.PLAN[k] for k in (("dense", ""), ("chex", ""), ("chase", ""), ("l1_filters", ""))}


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings.show(monkeypatch)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        trainings.show(patch)
        trainings.write(root / "results", PLAN, seeds=range(3))
        store.publish(root / "results", root / "b.duckdb")
    return root / "b.duckdb"


@pytest.fixture
def board(published: Path) -> tables.Board:
    with store.connect(published) as db:
        (ranking,) = tables.rankings(db)
        return tables.board(db, ranking)


def test_heads_of_jobs_come_from_the_families() -> None:
    show = Show(families={"infer": "Batch", "training": "Training", "all": "MLP steps"})
    assert [show.head(w) for w in ("infer@64", "training", "step@1", "other")] == ["Batch 64", "Training", "step@1", "other"]
    assert [show.spoken(w) for w in ("infer@64", "training", "all", "play/eager")] == [
        "infer@64",
        "training",
        "MLP steps",
        "play/eager",
    ]


def test_a_job_has_its_time_the_other_jobs_and_what_is_part_of_none(board: tables.Board) -> None:
    columns = pages._columns(TASK, board)
    assert [(c.head, c.key, c.slanted) for c in columns] == [
        ("Training, s", "time training", False),
        ("Training with what ran before", "speedup training_total", False),
        ("Batch 64", "speedup infer@64", False),
        ("Peak memory, MiB", "memory_peak training", True),
        ("Whole solve, s", "train_seconds", True),
    ]


def test_without_the_job_no_time_is_shown_in_its_place() -> None:
    row = SimpleNamespace(cells={"time train_step@0.5": None, "speedup train_step@0.5": None})
    board: Any = SimpleNamespace(rows=[row], ranking=SimpleNamespace(division="closed"))
    assert pages._columns(TASK, board) == []


def test_where_the_speed_is_a_step_its_steps_have_columns_and_the_job_beside_them(
    board: tables.Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(TASK), "speed", "train_step@0.5")
    heads = [c.head for c in pages._columns(TASK, board)]
    assert heads[:4] == ["Latency train_step@0, ms", "Training", "Training with what ran before", "before/selector"]
    assert {"train_step@0.2", "train_step@0.4", "Batch 64", "Training, s"} <= set(heads)


def test_a_jobs_memory_is_the_most_that_one_of_its_workloads_took(board: tables.Board) -> None:
    rows = {r.method: r for r in board.rows}
    # what runs before the training is part of the whole alone
    assert rows["chex"].cells["memory_peak training"].value == 90 * 2**20
    assert rows["chex"].cells["memory_peak training_total"].value == 140 * 2**20
    assert rows["chase"].cells["memory_peak training"].value == 90 * 2**20  # at its first point; later ones take less
    assert rows["chase"].cells["memory_peak training"].source == "meter"


def test_times_of_a_job_have_three_digits_whatever_they_are_of() -> None:
    assert [pages._figure(v, "span") for v in (0.01234, 1.5, 83.26, 164.12, 51234.5)] == ["0.0123", "1.50", "83.3", "164", "51234"]


def test_every_page_speaks_of_the_job(published: Path, tmp_path: Path) -> None:
    with store.connect(published) as db:
        pages.write_pages(db, tmp_path)
    text = page_text(tmp_path / "tasks/image_pruning-small.md")
    head = re.findall(r'<thead role="rowgroup">.*?</thead>', text)[0]
    assert "in fact, training ↑" in head
    assert "Training, s&nbsp;↓" in head
    assert "Training with what ran before&nbsp;↑" in head
    assert "Latency" not in head
    assert "train_step" not in head
    assert "measured speed-up over the parent, training, log scale" in text
    chex = re.findall(r'<tr role="row" id="[^"]*closed-chex-".*?</tr>', text, re.S)[0]
    assert re.search(r'data-h="in fact, training"><b>1.31×</b>', chex)
    assert 'data-h="Training, s">164</td>' in chex
    assert 'data-h="Training with what ran before">0.92×</td>' in chex
    assert "not weighed on this card" not in text
    home = page_text(tmp_path / "index.md")
    assert "<b>solid what the clock found</b>, training, card cccc" in home
    assert "1.31×" in home
    card = page_text(tmp_path / f"systems/{'c' * 16}.md")
    assert "<td>training, cpu</td>" in card
    assert "the dense network, weighed 3 times" in card  # as a whole job beside itself
    assert ">train_step@0.5<" not in card
    method = page_text(tmp_path / "methods/chex.md")
    assert '<td class="num">1.31×</td>' in method


def test_files_to_take_away_hold_the_job(board: tables.Board, tmp_path: Path) -> None:
    export.write(board, TASK, tmp_path, "b")
    table = pd.read_csv(tmp_path / "b.csv").set_index("method")
    assert table.loc["chex", "speedup:training"] == pytest.approx(1.31)
    assert table.loc["chex", "time:training"] == pytest.approx(215 / 1.31)
    assert table.loc["chex", "memory_peak:training_total"] == 140 * 2**20
    assert table.loc["chase", "speedup:train_step@0.4"] == pytest.approx(1.19)  # what is part of a job stays in the file
    text = (tmp_path / "b.tex").read_text(encoding="utf-8")
    assert "macs=0.5; training on card cccccccccccccccc, cpu." in text
    assert re.search(r"^chex & .* & 2\.00 & 1\.31 & 3 ", text, re.M)


def test_a_claim_holds_a_job_against_its_promise(published: Path) -> None:
    claim = {
        "method": "chex", "claim": "c", "paper": "p", "where": "w", "test": "realised", "measure": "speedup training",
        "promised": "kept.macs", "least": 0.6, "unit": "of the promise",
        "row": {"tier": "small", "case": "fashion/resnet20", "target": "macs=0.5", "method": "chex"},
    }  # fmt: skip
    with store.connect(published) as db:
        found = claims._judge(list(cases.of_task(db, "image_pruning")), "image_pruning", claim)
    assert (found.verdict, found.value) == ("met", pytest.approx(1.31 / 2))
