"""What evidence comes to: scikit-learn's figures in parts of their own, intervals by frames, and nothing where nothing is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from suite.naming import UserError
from suite.protocol import Measure
from tasks.common.intervals import mean_interval, wilson
from tasks.flame_detection import clustering, measures
from tasks.flame_detection.examining import distances, written
from tests.tasks.flame_detection.few import evidence

SCENES = ("flame", "decoy", "background")
SIX = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc")


def scored(**columns: Any) -> dict[tuple[str, str], Measure]:
    return of(evidence(columns=columns))


def of(table: dict[str, np.ndarray]) -> dict[tuple[str, str], Measure]:
    found = measures.measures(table, SCENES)
    assert len({(m.name, m.part) for m in found}) == len(found), "no measure stands twice"
    assert all(math.isfinite(m.value) for m in found)
    assert all(0 <= m.value <= 100 for m in found if m.unit == "%")
    return {(m.name, m.part): m for m in found}


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    return evidence()


@pytest.fixture(scope="module")
def found(table: dict[str, np.ndarray]) -> dict[tuple[str, str], Measure]:
    return of(table)


def told(found: dict[tuple[str, str], Measure], name: str) -> list[str]:
    return [part for n, part in found if n == name]


def test_head_and_nearest_centre_on_clear_and_on_obscured_patches_are_scikit_learns(
    table: dict[str, np.ndarray], found: dict[tuple[str, str], Measure]
) -> None:
    parts = {
        "": (~table["obscured"], table["score"]),
        "clear, nearest centre": (~table["obscured"], table["distance_0"] - table["distance_1"]),
        "obscured, head": (table["obscured"], table["score"]),
        "obscured, nearest centre": (table["obscured"], table["distance_0"] - table["distance_1"]),
    }
    assert told(found, "f1") == [*list(parts)[:2], *list(parts)[2:], "clear, RGB label"]
    for part, (rows, score) in parts.items():
        true, answer = table["truth"][rows], score[rows] > 0
        expected = {
            "accuracy": metrics.accuracy_score(true, answer),
            "balanced_accuracy": metrics.balanced_accuracy_score(true, answer),
            "precision": metrics.precision_score(true, answer),
            "recall": metrics.recall_score(true, answer),
            "f1": metrics.f1_score(true, answer),
            "auc": metrics.roc_auc_score(true, score[rows]),
        }
        assert {name: found[name, part].value for name in SIX} == pytest.approx({k: 100 * v for k, v in expected.items()})


def test_the_truth_counts_where_it_is_known_and_the_label_elsewhere(table: dict[str, np.ndarray]) -> None:
    wrong = 1 - table["truth"]
    against_label = scored(label=wrong)
    assert against_label["balanced_accuracy", ""].value > 50 > against_label["balanced_accuracy", "clear, RGB label"].value
    unknown = scored(label=wrong, truth=np.full(240, -1), truth_200=np.full(240, -1))
    assert unknown["balanced_accuracy", ""].value == against_label["balanced_accuracy", "clear, RGB label"].value
    names = {name for name, _ in unknown}
    assert not names & {"smoke_recall", "label_accuracy"}, "nothing is told of a truth that nobody knows"
    assert not any(part.endswith("truth") or part.endswith("RGB label") for _, part in unknown)


def test_patches_that_nobody_knows_anything_of_count_in_no_share(table: dict[str, np.ndarray]) -> None:
    """Frames of smoke in FLAME 2 have neither a label nor a temperature."""
    nobody = np.where(table["obscured"], -1, table["truth"])
    found = scored(label=nobody, truth=np.full(240, -1), truth_200=np.full(240, -1))
    clear = scored(truth=np.full(240, -1), truth_200=np.full(240, -1))
    assert found["balanced_accuracy", ""].value == clear["balanced_accuracy", ""].value
    assert not any(part.startswith("obscured") and "prediction" not in part for _, part in found)
    assert set(told(found, "scene_accuracy")) == set(SCENES)
    assert ("silhouette", "obscured, by prediction") in found
    half = np.where(np.arange(240) == 5, -1, table["truth"])  # a patch of the first frame: then nobody knows of that frame
    part = scored(label=half, truth=half, truth_200=np.full(240, -1))
    assert part["frame_recall", ""].interval == wilson(9, 9)


def test_without_centres_nothing_is_told_of_them() -> None:
    found = of(evidence(centres=False))
    assert not any("nearest" in part for _, part in found)
    assert ("centre_separation", "") not in found
    assert ("silhouette", "obscured, by prediction") in found, "clusters are then what the head predicts"


def test_what_is_undefined_is_not_there() -> None:
    never = scored(score=np.full(240, -1.0))
    assert ("precision", "") not in never, "scikit-learn's word for it is 0"
    assert (never["recall", ""].value, never["f1", ""].value, never["auc", ""].value) == (0, 0, 50)
    calm = scored(truth=np.zeros(240), label=np.zeros(240), truth_200=np.zeros(240))
    assert not {("recall", ""), ("auc", ""), ("balanced_accuracy", "obscured, head")} & calm.keys()
    assert calm["balanced_accuracy", ""].warnings == ("one class: there is no patch of the other",)
    assert calm["balanced_accuracy", ""].value == calm["accuracy", ""].value
    assert ("smoke_recall", "80 degrees, head") not in calm
    clear = of(evidence(smoky=False))
    assert {part.partition(",")[0] for _, part in clear} & {"obscured"} == set()


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40))
def test_figures_of_any_answers_are_scikit_learns(patches: list[tuple[bool, int]]) -> None:
    """Also of one class alone, of ties, and where nothing is called flame."""
    true, score = np.array([t for t, _ in patches]), np.array([float(s) for _, s in patches])
    answer, told = score > 0, dict[str, float]()
    both = 0 < true.sum() < len(true)
    told["accuracy"] = metrics.accuracy_score(true, answer)
    if both:
        told |= {"balanced_accuracy": metrics.balanced_accuracy_score(true, answer), "auc": metrics.roc_auc_score(true, score)}
    for name in ("precision", "recall", "f1"):
        value = getattr(metrics, f"{name}_score")(true, answer, zero_division=np.nan)
        if not np.isnan(value):
            told[name] = value
    found = {m.name: m.value for m in measures.classified("x", answer, true, score)}
    assert found == pytest.approx({k: 100 * v for k, v in told.items()}, rel=1e-13)


def test_an_interval_is_that_of_resampled_frames() -> None:
    """Patches of a frame that fare alike are worth one: the interval is that of as many frames, not of twelve times as many."""
    draw = np.random.Generator(np.random.Philox(1))
    frame = np.arange(1200) // 12
    right = np.repeat(draw.random(100) < 0.7, 12)
    true = np.arange(1200) % 2 == 0
    together = {m.name: m.interval for m in measures.classified("", true == right, true, None, frame)}
    apart = {m.name: m.interval for m in measures.classified("", true == right, true, None, np.arange(1200))}
    single = {m.name: m.interval for m in measures.classified("", true == right, true)}
    wide, narrow, closed = (v["accuracy"][1] - v["accuracy"][0] for v in (together, apart, single))  # type: ignore[index]
    assert wide / narrow == pytest.approx(math.sqrt(12), rel=0.1)
    assert narrow == pytest.approx(closed, rel=0.06)
    assert wide == pytest.approx(2 * 196 * math.sqrt(0.7 * 0.3 / 100), rel=0.1)


def test_a_resampled_figure_is_the_figure_of_the_frames_drawn() -> None:
    """Every interval by brute force: rows of the drawn frames one after the other, through scikit-learn."""
    draw = np.random.Generator(np.random.Philox(2))
    frame = np.repeat(np.arange(12), [3, 9, 6, 6, 2, 10, 6, 6, 6, 6, 6, 6])
    true = draw.random(72) < 0.4
    score = np.round(draw.normal(0, 1, 72) + true, 1)  # with ties
    found = {m.name: m.interval for m in measures.classified("x", score > 0, true, score, frame)}
    drawn: dict[str, list[float]] = {name: [] for name in SIX}
    again = np.random.Generator(np.random.Philox(0))
    for picked in again.integers(0, 12, (measures.RESAMPLES, 12))[:60]:
        rows = np.concatenate([np.flatnonzero(frame == f) for f in picked])
        t, s = true[rows], score[rows]
        for name in SIX:
            if name == "auc":
                value = metrics.roc_auc_score(t, s) if 0 < t.sum() < len(t) else np.nan
            else:
                value = getattr(metrics, f"{name}_score")(t, s > 0)
            drawn[name].append(100 * value)
    assert set(found) == set(SIX)
    counts = measures._draws(12)[0][:60]
    for name, values in drawn.items():
        np.testing.assert_allclose(100 * figures(counts, score > 0, true, score, frame)[name], values, rtol=1e-12)


def figures(often: np.ndarray, answer: np.ndarray, true: np.ndarray, score: np.ndarray, frame: np.ndarray) -> dict[str, np.ndarray]:
    """What `_resampled` takes percentiles of, for given draws."""
    kept: dict[str, np.ndarray] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_draws", lambda frames: [often])
        patch.setattr(measures, "percentiles", lambda values: (values, values))
        patch.setattr(measures, "_ends", lambda ends, frames: ends[0])
        kept |= measures._resampled(answer, true, score, frame)  # type: ignore[arg-type]
    return kept


def test_answers_that_are_all_right_have_the_interval_of_as_many_frames() -> None:
    true, frame = np.arange(240) % 2 == 0, np.arange(240) // 12
    found = {m.name: m for m in measures.classified("", true, true, None, frame)}
    assert found["accuracy"].value == 100
    assert found["accuracy"].interval == found["recall"].interval == wilson(20, 20)


def test_few_frames_have_closed_intervals_and_say_so() -> None:
    found = of(evidence(count=96))  # 4 clear frames, 4 under smoke
    table = evidence(count=96)
    rows = ~table["obscured"]
    hit = (table["score"] > 0) == table["truth"]
    assert found["accuracy", ""].interval == wilson(int(hit[rows].sum()), 48)
    recalls = np.array([hit[rows & (table["truth"] == k)].mean() for k in (0, 1)])
    assert found["balanced_accuracy", ""].interval == mean_interval(recalls, np.array([32, 16]))
    assert found["balanced_accuracy", ""].warnings == ("few frames: the interval takes patches of 4 for independent",)
    assert found["f1", ""].interval is None
    assert scored()["accuracy", ""].warnings == (), "ten frames are enough"


def test_nothing_depends_on_the_order_of_memory_or_on_how_many_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [(m.name, m.part, m.interval) for m in measures.measures(evidence(), SCENES)]
    draws = measures._draws

    def pieces(frames: int, held: int = 2**20) -> list[np.ndarray]:
        return draws(frames, held=77 * frames)

    monkeypatch.setattr(measures, "_draws", pieces)
    assert before == [(m.name, m.part, m.interval) for m in measures.measures(evidence(), SCENES)]


def test_a_frame_is_fire_if_any_patch_is() -> None:
    frame = np.arange(240) // 12
    truth = np.where(frame % 2 == 0, np.arange(240) % 12 == 3, 0)  # every second frame has one patch of fire
    called = np.where(frame == 1, np.arange(240) % 12 == 7, truth)  # one more patch is called so, in a frame without
    found = scored(truth=truth, label=truth, truth_200=truth, score=np.where(called, 1.0, -1.0))
    assert found["frame_accuracy", ""].value == 90  # 10 clear frames
    assert found["frame_recall", ""].value == 100
    assert found["frame_precision", ""].value == pytest.approx(100 * 5 / 6)
    assert found["false_alarm_frames", "clear"].value == 20
    assert found["false_alarms", "clear"].value == 10  # a patch in ten frames
    assert found["false_alarms", "clear"].unit == "per 100 frames"
    assert found["frame_accuracy", ""].interval == wilson(9, 10)


def test_alarms_under_smoke_are_those_of_the_nearest_centre(table: dict[str, np.ndarray]) -> None:
    found = scored(score=np.ones(240))  # the head calls everything flame; nobody asks it under smoke
    wrong = (table["truth"] == 0) & ~table["obscured"]
    assert found["false_alarms", "clear"].value == pytest.approx(100 * wrong.sum() / 10)
    assert found["false_alarms", "obscured"].value < 10
    headed = of(evidence(centres=False, columns={"score": np.ones(240)}))
    assert headed["false_alarms", "obscured"].value == found["false_alarms", "clear"].value


def test_recall_under_smoke_is_told_against_both_temperatures(table: dict[str, np.ndarray]) -> None:
    found = scored()
    hot = table["obscured"] & (table["truth_200"] == 1)
    assert found["smoke_recall", "200 degrees, head"].value == pytest.approx(100 * (table["score"][hot] > 0).mean())
    assert set(told(found, "smoke_recall")) == {f"{d} degrees, {h}" for d in (80, 200) for h in ("head", "nearest centre")}
    rendered = {(m.name, m.part): m for m in measures.measures(table, SCENES, radiometric=False)}
    assert told(rendered, "smoke_recall") == ["fire, head", "fire, nearest centre"], "truth by construction is no temperature"
    nowhere = scored(truth_200=np.zeros(240))
    assert told(nowhere, "smoke_recall") == ["80 degrees, head", "80 degrees, nearest centre"]


def test_the_worst_scene_is_of_those_large_enough(table: dict[str, np.ndarray]) -> None:
    found = scored()
    slices = {part: m for (name, part), m in found.items() if name == "scene_accuracy"}
    assert set(slices) == {*SCENES, *(f"{s}, smoke" for s in SCENES)}
    assert found["worst_scene", ""].value == min(m.value for m in slices.values())
    hit = (table["score"] > 0) == table["truth"]
    kind = ~table["obscured"] & (table["scene"] == 1)
    assert slices["decoy"].value == pytest.approx(100 * hit[kind].mean()), "one class: its recall"
    tiny = scored(
        scene=np.where(np.arange(240) < 4, 7, table["scene"]), score=np.where(np.arange(240) < 4, -table["score"], table["score"])
    )
    small = ("small: 4 of at least 30 examples", "few frames: the interval takes patches of 1 for independent")
    assert tiny["scene_accuracy", "scene 7"].warnings == small
    assert slices["decoy"].warnings == (), "ten frames are resampled"
    assert tiny["worst_scene", ""].value > tiny["scene_accuracy", "scene 7"].value


def test_frames_are_held_to_what_their_set_says(table: dict[str, np.ndarray]) -> None:
    """FLAME 2's frames of smoke have labels as frames and none as patches; its calm frames are known to hold no fire."""
    kind = table["frame"] % 2  # of ten clear frames and ten under smoke every second one shows fire
    found = scored(fire=kind, scene=kind, truth=np.full(240, -1), label=np.where(table["obscured"], -1, table["label"]))
    called = np.bincount(table["frame"], measures.Answers.read(table).deployed) > 0
    smoky = np.arange(20) >= 10
    right = called == (np.arange(20) % 2 == 1)
    assert found["frame_accuracy", "obscured"].value == pytest.approx(100 * right[smoky].mean())
    assert found["frame_accuracy", SCENES[0]].value == pytest.approx(100 * right[::2].mean())
    assert found["false_alarm_frames", "obscured"].value == pytest.approx(100 * called[10::2].mean())
    assert ("false_alarms", "obscured") not in found, "nobody knows of their patches"
    assert ("accuracy", "obscured, head") not in found


def test_of_frames_whose_truth_is_known_no_patch_is_held_to_a_label(table: dict[str, np.ndarray]) -> None:
    hidden = np.arange(240) % 12 == 0  # too hot for the camera, and RGB says the contrary
    found = scored(truth=np.where(hidden, -1, table["truth"]), label=np.where(hidden, 1 - table["truth"], table["truth"]))
    rows = ~table["obscured"] & ~hidden
    assert found["accuracy", ""].value == pytest.approx(100 * ((table["score"] > 0) == table["truth"])[rows].mean())


def test_label_quality_is_no_methods_doing(table: dict[str, np.ndarray]) -> None:
    marked = table["truth"] & (np.arange(240) % 2 == 0)
    one, other = scored(label=marked), scored(label=marked, score=np.ones(240))
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1"):
        key = (f"label_{name}", "clear")
        assert one[key].value == other[key].value
        assert one[key].direction == ""
    assert one["label_precision", "clear"].value == 100
    assert one["label_recall", "clear"].value == 50
    assert ("label_auc", "clear") not in one


# --- clusters


def test_clusters_by_prediction_and_by_truth_are_parts_of_their_own(
    table: dict[str, np.ndarray], found: dict[tuple[str, str], Measure]
) -> None:
    z = np.stack([table[f"z{i}"] for i in range(64)], 1)
    rows = table["sampled"] & table["obscured"]
    near = (table["distance_1"] < table["distance_0"]).astype(int)
    for part, label in (("obscured, by prediction", near), ("obscured, by truth", table["truth"])):
        expected = clustering.scores(z[rows], label[rows])
        assert {name: found[name, part].value for name in clustering.KINDS} == expected
    assert told(found, "silhouette") == [f"{k}, by {h}" for k in ("obscured", "clear") for h in ("prediction", "truth")]
    assert found["smaller_cluster", "obscured, by truth"].value == pytest.approx(100 * table["truth"][rows].mean())


def test_one_cluster_gives_no_score_and_never_the_best() -> None:
    found = of(evidence(centres=False, columns={"score": np.ones(240)}))
    for name in clustering.KINDS:
        assert (name, "obscured, by prediction") not in found
        assert (name, "obscured, by truth") in found
    assert found["smaller_cluster", "obscured, by prediction"].value == 0


def test_folds_have_spaces_of_their_own() -> None:
    table = evidence(count=480, folds=2)
    second = table["fold"] == 1
    for i in range(64):  # another fold's embedding lies elsewhere, and the other way round
        table[f"z{i}"] = np.where(second & table["sampled"], 50 - table[f"z{i}"], table[f"z{i}"])
    for k in (0, 1):
        rows = np.flatnonzero(second)[:64]
        table[f"centre_{k}"][rows] = 50 - table[f"centre_{k}"][rows]
    found = of(table)
    halves = []
    for f in (0, 1):
        rows = table["sampled"] & table["obscured"] & (table["fold"] == f)
        z = np.stack([table[f"z{i}"] for i in range(64)], 1)
        halves.append(clustering.scores(z[rows], table["truth"][rows])["silhouette"])
    assert found["silhouette", "obscured, by truth"].value == pytest.approx(np.mean(halves))
    assert found["silhouette", "obscured, by truth"].warnings == ()


def test_scores_of_two_detectors_are_not_ranked_against_each_other() -> None:
    table = evidence(count=480, folds=2)
    plain = of(table)["auc", ""]
    table["score"] = table["score"] + 100.0 * (table["fold"] == 1)
    assert of(table)["auc", ""].value == pytest.approx(plain.value)
    assert plain.interval is None
    clear = ~table["obscured"]
    halves = [metrics.roc_auc_score(table["truth"][r], table["score"][r]) for r in (clear & (table["fold"] == f) for f in (0, 1))]
    assert plain.value == pytest.approx(100 * np.mean(halves))


def test_a_fold_that_defines_nothing_is_told() -> None:
    table = evidence(count=480, folds=2, centres=False)
    table["score"] = np.where(table["fold"] == 1, 1.0, table["score"])
    found = of(table)["silhouette", "obscured, by prediction"]
    assert found.warnings == ("undefined in 1 of 2 folds",)


def test_the_distance_of_the_centres_is_told_in_the_samples_spread() -> None:
    table = evidence()
    z = np.stack([table[f"z{i}"] for i in range(64)], 1)[table["sampled"]]
    spread = math.sqrt(np.square(z - z.mean(0)).sum(1).mean())
    assert of(table)["centre_separation", ""].value == pytest.approx(16 / spread)


# --- the sample


def test_the_sample_is_fixed_by_the_rows_numbers() -> None:
    fold, obscured = np.zeros(2400, int), np.arange(2400) >= 1200
    chosen = measures.sample(fold, obscured)
    assert (chosen[:1200].sum(), chosen[1200:].sum()) == (64, 192)
    assert np.flatnonzero(chosen)[:8].tolist() == [2, 32, 33, 42, 53, 94, 142, 147]  # on every machine
    few = measures.sample(np.zeros(100, int), np.arange(100) >= 70)
    assert (few[:70].sum(), few[70:].sum()) == (64, 30)


@pytest.mark.parametrize(("folds", "most"), [(1, 256), (4, 1024), (9, 1024)])
def test_all_folds_together_hold_no_more_than_may_be_published(folds: int, most: int) -> None:
    fold, obscured = np.arange(9000) * folds // 9000, np.arange(9000) % 2 == 0
    chosen = measures.sample(fold, obscured)
    assert chosen.sum() <= most
    assert chosen.sum() * measures.DIMENSIONS <= 65_536
    counts = np.bincount(fold[chosen])
    assert counts.min() == counts.max() > 100


# --- what cannot be


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"score": np.full(240, np.nan)}, "finite"),
        ({"label": np.full(240, 2)}, "may be -1"),
        ({"label": np.full(240, -1), "truth": np.full(240, -1)}, "no clear patch"),
        ({"truth": np.full(240, -2)}, "may be -1"),
        ({"obscured": np.full(240, 3)}, "0 or 1"),
        ({"sampled": np.ones(240)}, "numbers choose"),
        ({"fold": np.arange(240) % 2}, "stand together"),
        ({"distance_0": np.full(240, -1.0)}, "both centres"),
        ({"distance_1": np.full(240, -0.5), "distance_0": np.full(240, -0.5)}, "both centres"),
        ({"kept": np.full(240, 1.5)}, "share"),
        ({"z3": np.ones(240)}, "sampled rows alone"),
        ({"distance_0": np.full(240, 1.0), "distance_1": np.full(240, 9.0)}, "not those of embeddings"),
        ({"centre_0": np.full(240, 9.0)}, "not those of embeddings"),
        ({"kept": np.where(np.arange(240) < 9, 1.0, 0.5)}, "one for each fold"),
        ({"fire": np.full(240, 3)}, "may be -1"),
    ],
)
def test_evidence_that_cannot_be_is_told(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        measures.measures(evidence(columns=columns), SCENES)


def wide(dimensions: int, falling: float, seed: int = 3) -> dict[str, np.ndarray]:
    """Evidence of an embedding of more dimensions than are written, whose scales fall by so much from each to the next."""
    table = evidence()
    draw = np.random.Generator(np.random.Philox(seed))
    turned = np.linalg.qr(draw.normal(size=(dimensions, dimensions)))[0]
    z = (draw.normal(0, 1, (240, dimensions)) + 2.0 * table["truth"][:, None]) * falling ** np.arange(dimensions) @ turned
    centres = np.stack([z[table["truth"] == k].mean(0) for k in (0, 1)])
    sampled = table["sampled"] > 0
    x, middle, kept = written(z[sampled], centres)
    away = distances(z, centres)
    table |= {"kept": np.full(240, kept, np.float32)} | {f"distance_{k}": away[:, k].astype(np.float32) for k in (0, 1)}
    for i in range(measures.DIMENSIONS):
        table[f"z{i}"] = np.zeros(240, np.float16)
        table[f"z{i}"][sampled] = x[:, i]
    for k in (0, 1):
        table[f"centre_{k}"] = np.zeros(240, np.float16)
        table[f"centre_{k}"][: measures.DIMENSIONS] = middle[k]
    return table


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [65, 128, 1280])
@pytest.mark.parametrize("falling", [1.0, 0.99, 0.95, 0.8])
def test_distances_of_an_embedding_that_is_not_written_whole_hold(dimensions: int, falling: float) -> None:
    of(wide(dimensions, falling))


@pytest.mark.parametrize("kept", [0.999, 0.9999999, None])
def test_what_is_lost_of_an_embedding_bounds_how_far_distances_differ(kept: float | None) -> None:
    table = evidence() if kept else wide(128, 0.95)
    if kept:
        table["kept"] = np.full(240, kept, np.float32)
        of(table)  # its distances are its own
    sampled = table["sampled"] > 0
    for i in range(measures.DIMENSIONS):  # two clusters by the truth, at distances that stay
        apart = np.where(table["truth"][sampled] == 1, 1000, -1000) + np.arange(sampled.sum()) % 7 * (i % 3)
        table[f"z{i}"] = table[f"z{i}"].astype(np.float16)
        table[f"z{i}"][sampled] = apart
    with pytest.raises(UserError, match="not those of embeddings"):
        of(table)


def test_centres_of_some_patches_are_told() -> None:
    table = evidence()
    for k in (0, 1):
        table[f"distance_{k}"][:5] = -1
    with pytest.raises(UserError, match="some of its patches"):
        measures.measures(table, SCENES)


def test_no_patch_is_told() -> None:
    with pytest.raises(UserError, match="must be patches"):
        measures.measures({k: v[:0] for k, v in evidence().items()}, SCENES)
