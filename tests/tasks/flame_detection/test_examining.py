"""Evidence: a line a test patch, an embedding in half precision that keeps its shape, centres that can be found again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from suite.naming import UserError
from suite.protocol import Diverged
from tasks.flame_detection import clustering, examining, measures
from tasks.flame_detection.problem import Detector, Detectors, PatchSet, scores
from tests.tasks.flame_detection.few import Small, patch_set

CPU = torch.device("cpu")


@dataclass
class Given:
    """As much of a problem as is examined."""

    patches: PatchSet
    device: torch.device = CPU


def examined(patches: PatchSet, folds: list[Detector]) -> dict[str, np.ndarray]:
    return examining.examine(Given(patches), Detectors(folds))  # type: ignore[arg-type]


def small(seed: int = 0, features: int = 5, centres: bool = True) -> Detector:
    model = Small(features=features, seed=seed)
    middle = torch.randn(2, features, generator=torch.Generator().manual_seed(seed)) if centres else None
    return Detector(model, middle)


@pytest.fixture(scope="module")
def patches() -> PatchSet:
    return patch_set(folds=2, count=100, smoky=40)


@pytest.fixture(scope="module")
def table(patches: PatchSet) -> dict[str, np.ndarray]:
    return examined(patches, [small(0), small(1)])


def test_there_is_a_line_a_test_patch_in_the_order_of_the_folds(patches: PatchSet, table: dict[str, np.ndarray]) -> None:
    assert {len(v) for v in table.values()} == {200}
    assert (table["row"] == np.arange(200)).all()
    assert (table["fold"] == np.arange(200) // 100).all()
    for name in ("frame", "scene", "label", "truth", "truth_200", "obscured"):
        assert (table[name] == np.concatenate([getattr(f.test, name).numpy() for f in patches.folds])).all(), name
    for fold, detector in enumerate((small(0), small(1))):
        expected = scores(detector.model, patches.folds[fold].test, CPU)
        np.testing.assert_allclose(table["score"][table["fold"] == fold], expected, rtol=1e-6)


def test_what_the_data_dictate_needs_no_detector(patches: PatchSet, table: dict[str, np.ndarray]) -> None:
    for name, column in examining.dictated(patches).items():
        assert (column == table[name]).all()
    assert set(examining.dictated(patches)) == {"row", "fold", "frame", "scene", "obscured", "label", "truth", "truth_200", "fire"}


def test_distances_are_those_to_the_centres(patches: PatchSet, table: dict[str, np.ndarray]) -> None:
    detector = small(1)
    with torch.inference_mode():
        z = detector.model.embed(patches.folds[1].test.thermal)  # type: ignore[operator]
    for k in (0, 1):
        expected = (z - detector.centres[k]).norm(dim=1)  # type: ignore[index]
        np.testing.assert_allclose(table[f"distance_{k}"][100:], expected, rtol=1e-5)


def test_the_evidence_scores_and_its_centres_are_found_again(table: dict[str, np.ndarray]) -> None:
    answers = measures.Answers.read(table)
    for fold, seed in ((0, 0), (1, 1)):
        centres = answers.centres(fold)
        assert centres is not None
        detector = small(seed)
        # one common factor, a power of two, parts the space of the evidence from the detector's
        factor = np.linalg.norm(centres[1] - centres[0]) / float((detector.centres[1] - detector.centres[0]).norm())  # type: ignore[index]
        assert np.log2(factor) == pytest.approx(round(np.log2(factor)), abs=1e-3)
        np.testing.assert_allclose(centres[:, :5] / 2.0 ** round(np.log2(factor)), detector.centres, rtol=1e-3)  # type: ignore[arg-type]
        assert (centres[:, 5:] == 0).all()
    assert measures.measures(table, ())


def test_only_the_sample_carries_an_embedding(table: dict[str, np.ndarray]) -> None:
    z = np.stack([table[f"z{i}"] for i in range(measures.DIMENSIONS)], 1)
    assert z.dtype == np.float16
    assert (z[~table["sampled"]] == 0).all()
    assert (z[table["sampled"]] != 0).any(1).all()
    assert (table["sampled"] == measures.sample(table["fold"], table["obscured"] > 0)).all()
    obscured = table["obscured"] > 0
    first = table["fold"] == 0
    assert (table["sampled"][first & obscured].sum(), table["sampled"][first & ~obscured].sum()) == (40, 60)


def test_without_centres_there_is_no_distance(patches: PatchSet) -> None:
    table = examined(patches, [small(0, centres=False), small(1, centres=False)])
    for name in ("distance_0", "distance_1"):
        assert (table[name] == -1).all()
    for name in ("centre_0", "centre_1"):
        assert (table[name] == 0).all()


# --- half precision


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e5, 1e12])
def test_no_scale_overflows_half_precision_or_loses_more_than_its_digits(scale: float) -> None:
    """Values of 1e5 are infinite in half precision, values of 1e-12 are 0."""
    draw = np.random.Generator(np.random.Philox(1))
    label = np.arange(120) % 2
    z = scale * (draw.normal(0, 1, (120, 32)) + 1.5 * label[:, None])
    out, _, kept = examining.written(z, None)
    assert kept == 1
    assert np.isfinite(out).all()
    assert 2**14 < np.abs(out).max() <= 2**15
    before, after = clustering.scores(z, label), clustering.scores(out, label)
    for name, value in before.items():
        assert after[name] == pytest.approx(value, rel=2e-3, abs=2e-4), name


def test_a_wide_embedding_is_rotated_about_the_origin_to_its_leading_components() -> None:
    draw = np.random.Generator(np.random.Philox(2))
    label = np.arange(200) % 2
    mixed = draw.normal(0, 1, (10, 512))
    z = (draw.normal(0, 1, (200, 10)) + 3 * label[:, None]) @ mixed + 0.01 * draw.normal(0, 1, (200, 512)) + 5
    centres = np.stack([z[label == k].mean(0) for k in (0, 1)])
    out, turned, kept = examining.written(z, centres)
    assert out.shape == (200, 64)
    assert 0.999 < kept < 1
    before, after = clustering.scores(z, label), clustering.scores(out, label)
    for name in ("silhouette", "silhouette_cosine", "davies_bouldin", "separation", "intra_variance"):
        # cosines would be others if the mean had been taken away
        assert after[name] == pytest.approx(before[name], rel=5e-3), name
    away = np.linalg.norm(out[:, None].astype(float) - turned.astype(float), axis=2)
    true = np.linalg.norm(z[:, None] - centres, axis=2)
    np.testing.assert_allclose(away / away.mean(), true / true.mean(), rtol=0.01)


def test_what_is_lost_of_a_wide_embedding_is_told(patches: PatchSet) -> None:
    detectors = [small(seed, features=700) for seed in (0, 1)]
    table = examined(patches, detectors)
    assert 0.3 < table["kept"][0] < 1  # noise in 64 of 700 directions
    found = {m.name: m.value for m in measures.measures(table, ()) if m.name == "variance_kept"}
    assert found["variance_kept"] == pytest.approx(100 * np.mean([table["kept"][0], table["kept"][-1]]))


@pytest.mark.parametrize("seed", range(5))
def test_a_fold_of_few_patches_writes_its_embedding_whole_and_no_centres(seed: int) -> None:
    """Centres stand a component a row: 20 patches have no room for 60, and a part of them would give other distances."""
    few = patch_set(count=20, smoky=8)
    table = examined(few, [small(seed, features=60)])
    answers = measures.Answers.read(table)
    assert (answers.z[answers.sampled, 59] != 0).any()
    assert answers.kept.min() == 1
    assert answers.centres(0) is None
    assert ("centre_separation", "") not in {(m.name, m.part) for m in measures.measures(table, ())}
    assert (answers.away >= 0).all(), "distances are there"


def test_a_forged_embedding_does_not_fit_its_distances(patches: PatchSet, table: dict[str, np.ndarray]) -> None:
    forged = dict(table)
    sign = np.where(forged["truth"] == 1, 1, -1)
    for i in range(5):
        forged[f"z{i}"] = np.where(forged["sampled"] > 0, (100 * sign).astype(np.float16), 0)
    with pytest.raises(UserError, match="not those of embeddings and centres"):
        measures.measures(forged, ())


@pytest.mark.slow
def test_the_same_embedding_gives_the_same_evidence() -> None:
    z = np.random.Generator(np.random.Philox(3)).normal(0, 1, (50, 300))
    first, again = examining.written(z, None), examining.written(z.copy(), None)
    assert (first[0] == again[0]).all()


def test_embeddings_that_are_all_nothing_are_written() -> None:
    out, _, kept = examining.written(np.zeros((5, 100)), None)
    assert (out == 0).all()
    assert kept == 1


# --- what cannot be


def test_each_fold_needs_a_detector(patches: PatchSet) -> None:
    with pytest.raises(UserError, match="2 folds and the method gives 1"):
        examined(patches, [small()])


@pytest.mark.parametrize("part", ["weights", "centres", "far"])
def test_what_is_not_finite_has_diverged(patches: PatchSet, part: str) -> None:
    broken = small()
    if part == "weights":
        with torch.no_grad():
            broken.model.body.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    else:
        assert broken.centres is not None
        far: Any = float("inf") if part == "centres" else 3e38
        broken = replace(broken, centres=torch.full_like(broken.centres, far))
    with pytest.raises(Diverged, match="not finite"):
        examined(patches, [broken, small(1)])
