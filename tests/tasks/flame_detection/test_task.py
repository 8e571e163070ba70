"""The task: what it asks, scores, counts and times, and that its evidence goes the whole way to the checker's numbers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from suite import bundle, registry
from suite.checks import untrusted
from suite.naming import UserError
from suite.protocol import Spec
from suite.truth import column_digest
from tasks.common.truth import entries
from tasks.flame_detection import frames, task
from tasks.flame_detection.measures import DIMENSIONS, MOST_SAMPLED
from tasks.flame_detection.problem import Detector, Detectors, FlameProblem
from tests.helpers import MemoryRun

TASK = registry.task("flame_detection")


def spec(**changes: Any) -> Spec:
    """A Spec of the smoke tier."""
    fields = {"tier": "smoke", "division": "closed", "case": "synthetic/lfe", "target": "", "seed": 0}
    return Spec("flame_detection", TASK.version, **{**fields, **changes})


def problem(**changes: Any) -> FlameProblem:
    asked = spec(**changes)
    found: FlameProblem = TASK.problem(asked, MemoryRun(asked))
    return found


@pytest.fixture(scope="module")
def sliver() -> FlameProblem:
    return problem()


@pytest.fixture(scope="module")
def centred(sliver: FlameProblem) -> Detectors:
    """Untrained, with centres."""
    parent = TASK.parent(sliver)
    middle = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    return Detectors([replace(d, centres=middle) for d in parent.folds])


@pytest.fixture(scope="module")
def table(sliver: FlameProblem, centred: Detectors) -> dict[str, np.ndarray]:
    return dict(TASK.examine(sliver, centred))


def test_what_was_left_out_is_noted_with_the_result(sliver: FlameProblem) -> None:
    assert sliver.notes == []
    left = {f"frame {i}": "truncated" for i in range(20)}
    told = replace(sliver, patches=replace(sliver.patches, left_out=left, notes=["two cameras"])).notes
    assert told[0] == "left out: frame 0: truncated"
    assert told[-2:] == ["and 8 more were left out", "two cameras"]
    assert len(told) == 14
    scenes = problem(case="flame3_scenes/lfe", tier="small").notes
    assert len(scenes) == 4
    assert not any("/work" in line or "site-packages" in line for line in scenes)


def test_the_task_is_listed_without_torch_and_without_scikit_learn() -> None:
    asked = (
        "import sys; from suite import registry; registry.task('flame_detection'); "
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_evidence_is_scored_without_torch(table: dict[str, np.ndarray], tmp_path: Path) -> None:
    """The checker has none."""
    bundle.write_table(table, tmp_path / "e.parquet")
    asked = (
        "import sys; from pathlib import Path; from suite import bundle, registry; from suite.protocol import Spec\n"
        f"table = bundle.read_table(Path({str(tmp_path / 'e.parquet')!r}))\n"
        f"spec = Spec('flame_detection', {TASK.version}, 'smoke', 'closed', 'synthetic/lfe', '', 0)\n"
        "found = registry.task('flame_detection').score(spec, table)\n"
        "assert 'torch' not in sys.modules\n"
        "print({(m.name, m.part): (m.value, m.interval) for m in found})"
    )
    told = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout
    ours = {(m.name, m.part): (m.value, m.interval) for m in TASK.score(spec(), table)}
    assert told.strip() == str(ours), "to the bit, as it was read back"


def test_columns_are_as_declared_and_pass_as_a_strangers(table: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert list(table) == list(TASK.columns)
    assert {k: str(v.dtype) for k, v in table.items()} == dict(TASK.columns)
    bundle.write_table(table, tmp_path / "e.parquet")
    read = untrusted.table(tmp_path, "e.parquet", TASK.columns, TASK.evidence_bytes, len(table["row"]))
    assert all((read[k] == v).all() for k, v in table.items())
    assert set(TASK.truth) < set(TASK.columns)


def test_evidence_of_the_largest_set_stays_within_its_bounds(tmp_path: Path) -> None:
    """FLAME 2: half a million test patches in frames of 49, of which one fold's sample carries an embedding; a quarter of it."""
    count = 525_000 // 4
    row = np.arange(count)
    draw = np.random.Generator(np.random.Philox(1))
    columns = {k: np.zeros(count) for k in TASK.columns}
    columns |= {"row": row, "frame": row // 49, "score": draw.normal(0, 3, count), "kept": np.ones(count)}
    columns |= {"label": draw.random(count) < 0.1, "obscured": row > count // 2}
    for i in range(DIMENSIONS):
        columns[f"z{i}"][draw.integers(0, count, 256)] = draw.normal(0, 1, 256)
    typed = {k: v.astype(TASK.columns[k]) for k, v in columns.items()}
    bundle.write_table(typed, tmp_path / "e.parquet")
    assert 4 * (tmp_path / "e.parquet").stat().st_size < TASK.evidence_bytes
    untrusted.table(tmp_path, "e.parquet", TASK.columns, TASK.evidence_bytes, count)
    assert MOST_SAMPLED * DIMENSIONS <= 65_536


@pytest.mark.parametrize(("tier", "case"), [("smoke", "synthetic/lfe"), ("small", "flame3_scenes/lfe")])
def test_truth_is_what_the_data_dictate(tier: str, case: str) -> None:
    stored = entries("flame_detection")[tier, case.partition("/")[0]]
    found = TASK.truth_of(spec(tier=tier, case=case))
    assert found == {k: stored[k] for k in found}
    assert set(found["columns"]) == set(TASK.truth)


def test_evidence_meets_the_truth(table: dict[str, np.ndarray]) -> None:
    stored = entries("flame_detection")["smoke", "synthetic"]
    assert {k: column_digest(table[k], TASK.columns[k]) for k in TASK.truth} == stored["columns"]


def test_what_is_shown_beside_the_rank_is_measured(table: dict[str, np.ndarray], centred: Detectors, sliver: FlameProblem) -> None:
    found = {m.name if not m.part else f"{m.name}:{m.part}" for m in TASK.score(spec(), table)}
    lacking = {name for name in (TASK.ranked, *TASK.beside) if name not in found} - {"silhouette:obscured, by prediction"}
    assert lacking == set()
    assert any(m.name == TASK.show.parts[0].measure for m in TASK.score(spec(), table))
    parts = {m.part for m in TASK.score(spec(), table) if m.name == "scene_accuracy"}
    assert parts == {f"{k}{s}" for k in ("flame", "decoy", "background") for s in ("", ", smoke")}


# --- what it is to run


def test_tiers_name_their_cases_and_say_what_the_rows_are() -> None:
    assert TASK.tiers["small"].cases == ("synthetic/lfe", "flame3_scenes/lfe"), "the synthetic case is the ranked one"
    told = " ".join(TASK.tiers["small"].conditions.values())
    for words in ("RECONSTRUCTED", "four FLAME 3 scenes and no more", "CC BY-NC 4.0", "Marinaccio", "quality told beside"):
        assert words in told, words
    assert "RECONSTRUCTED" in " ".join(TASK.tiers["paper"].conditions.values())
    assert "CC BY-NC 4.0" in TASK.show.credit("flame3_scenes/lfe", 0, "closed")
    assert "Marinaccio" in TASK.show.sources["flame3_scenes"]
    assert TASK.promised == ""


def test_a_budget_is_of_all_folds(sliver: FlameProblem) -> None:
    assert (sliver.epochs, sliver.batch, len(sliver.patches.folds)) == (2, 64, 1)
    assert sliver.budget == 2 * 64 * 6
    scenes = problem(tier="small", case="flame3_scenes/lfe")
    assert len(scenes.patches.folds) == 4
    assert scenes.epochs == task.EPOCHS["flame3_scenes"]
    assert scenes.budget == scenes.epochs * 64 * sum(len(f.train) // 64 for f in scenes.patches.folds)


def test_a_parent_has_the_seeds_initial_weights_in_each_fold() -> None:
    scenes = problem(tier="small", case="flame3_scenes/lfe")
    first, again = TASK.parent(scenes), TASK.parent(scenes)
    weights = [torch.cat([p.flatten() for p in d.model.parameters()]) for d in first.folds]
    assert all(
        torch.equal(a, torch.cat([p.flatten() for p in d.model.parameters()])) for a, d in zip(weights, again.folds, strict=True)
    )
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"case": "synthetic"}, "data/architecture"),
        ({"case": "synthetic/resnet20"}, "write synthetic/lfe"),
        ({"case": "synthetic/lfe", "tier": "paper"}, "--tier small"),
        ({"case": "flame2/lfe", "tier": "small"}, "--tier paper"),
        ({"case": "flame2/lfe", "tier": "paper"}, "--data DIR"),
        ({"case": "mine/lfe", "tier": "small"}, "the set 'mine' is not shipped: .*SITE/TIFF"),
        ({"case": "flame2_every30/lfe", "tier": "small"}, "--tier paper"),
        ({"case": "mine/lfe", "division": "speed"}, "no set 'mine'"),
    ],
)
def test_a_case_that_cannot_be_is_told(changes: dict[str, Any], said: str) -> None:
    for refuse in (lambda: TASK.digest(spec(**changes)), lambda: problem(**changes)):
        with pytest.raises(UserError, match=said):
            refuse()


# --- what is counted and timed


@pytest.mark.parametrize("name", ["synthetic", "flame3_scenes", "flame3", "flame2", "flame1"])
def test_the_speed_division_looks_at_no_file(name: str) -> None:
    asked = problem(
        tier="paper" if name.startswith("flame") and name != "flame3_scenes" else "small", case=f"{name}/lfe", division="speed"
    )
    assert len(TASK.digest(asked.spec)) == 64
    parent = TASK.parent(asked)
    (workload, *_) = TASK.workloads(asked, parent)
    seen = workload.prepare()()
    assert (workload.name, workload.items) == ("frame", 1)
    assert seen.map.shape[0] >= 200


def test_operations_are_those_of_all_patches_of_a_frame(sliver: FlameProblem, centred: Detectors) -> None:
    one = TASK.operations(sliver, TASK.parent(sliver))
    patch = 12 * 12 * 16 * 9 + 6 * 6 * 32 * 144 + 3 * 3 * 64 * 288 + 576 * 32 + 32
    assert one.total("macs") == 21 * 26 * patch
    assert one.warnings == ()
    more = TASK.operations(sliver, centred)
    assert more.total("macs") == one.total("macs") + 21 * 26 * 32, "the centres take a product each"
    weighed = {m.name: m.value for m in TASK.weigh(sliver, centred)}
    assert weighed["macs"] == more.total("macs")
    assert weighed["params"] == more.total("params")
    assert set(weighed) == {"macs", "params", "nonzero"}, "the smoke tier has no time to spare"


def test_runtimes_are_timed_beside_torch_with_seed_zero() -> None:
    def names(**changes: Any) -> list[str]:
        asked = problem(division="speed", **changes)
        return [w.name for w in TASK.workloads(asked, TASK.parent(asked))]

    assert names() == ["frame"]
    assert names(tier="small", seed=1) == ["frame"]
    assert names(tier="small") == ["frame", *(f"frame/{r}" for r in frames.RUNTIMES)]
    asked = problem(division="speed", tier="small")
    assert {w.versus for w in TASK.workloads(asked, TASK.parent(asked))} == {"", "frame"}
    assert set(TASK.show.families) == {f"frame/{r}" for r in frames.RUNTIMES}


def test_single_frames_are_timed_with_one_thread_and_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = problem(division="speed", tier="small")
    monkeypatch.setattr(frames, "latencies", lambda call, seconds=0.0: (call(), np.linspace(0.01, 0.03, 101))[1])
    monkeypatch.setattr(frames, "RUNTIMES", ())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    found = {(m.name, m.part): m for m in TASK.weigh(asked, TASK.parent(asked))}
    for threads in (1, 2):
        assert found["frame_latency", f"torch@{threads} median"].value == pytest.approx(0.02)
        assert found["frame_latency", f"torch@{threads} p95"].value == pytest.approx(0.029)
        assert found["frames_per_second", f"torch@{threads}"].value == pytest.approx(50)
        assert "few frames: 101 were timed" in found["frames_per_second", f"torch@{threads}"].warnings


def test_the_board_has_a_column_for_each_runtime_whatever_the_threads_of_a_row() -> None:
    columns = {name for figures in TASK.show.figures for name in figures.columns}
    assert {f"frames_per_second:{r}@{n}" for r in ("torch", *frames.RUNTIMES) for n in (1, 2)} <= columns


def test_each_folds_own_detector_answers_its_scene() -> None:
    scenes = problem(tier="small", case="flame3_scenes/lfe")
    parent = TASK.parent(scenes)
    detectors = []
    for k, d in enumerate(parent.folds):
        with torch.no_grad():
            d.model.head.weight.zero_()  # type: ignore[union-attr, operator]
            d.model.head.bias.fill_(float(k))  # type: ignore[union-attr, operator]
        detectors.append(Detector(d.model))
    table = TASK.examine(scenes, Detectors(detectors))
    assert (table["score"] == table["fold"]).all()
    assert (table["scene"] == table["fold"]).all()
    found = {m.name for m in TASK.score(scenes.spec, table)}
    assert TASK.ranked in found
