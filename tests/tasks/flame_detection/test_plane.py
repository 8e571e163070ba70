"""Embeddings in a plane: two principal components of one fold, its patches by truth and answer, and its centres."""

from __future__ import annotations

import numpy as np
import pytest

from suite.board import clouds
from tasks.flame_detection import board, plane
from tests.tasks.flame_detection.few import evidence

SCATTER = board.SHOW.scatter
assert SCATTER is not None


def test_distances_are_those_of_the_two_leading_components() -> None:
    table = evidence()
    found = plane.points(table)
    rows = table["sampled"]
    z = np.stack([table[f"z{i}"] for i in range(64)], 1)[rows]
    centred = z - z.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    expected = centred @ vectors[:, ::-1][:, :2]
    ours = np.stack([found["x"], found["y"]], 1)[:-2]
    for k in (0, 1):
        assert abs(np.corrcoef(ours[:, k], expected[:, k])[0, 1]) == pytest.approx(1)
    np.testing.assert_allclose(np.square(ours).sum(0), values[::-1][:2], rtol=1e-9)


def test_patches_bear_their_truth_and_answer_and_centres_lie_among_them() -> None:
    table = evidence()
    found = plane.points(table)
    rows = table["sampled"]
    count = int(rows.sum())
    assert (found["landmark"] == [*([-1] * count), 0, 1]).all()
    assert (found["colour"][:count] == table["truth"][rows]).all()
    near = table["distance_1"][rows] < table["distance_0"][rows]
    assert (found["shape"][:count] == near).all()
    place = np.stack([found["x"], found["y"]], 1)
    for k in (0, 1):
        mine = place[:count][found["colour"][:count] == k].mean(0)
        other = place[:count][found["colour"][:count] == 1 - k].mean(0)
        centre = place[count + k]
        assert np.linalg.norm(centre - mine) < 0.3 * np.linalg.norm(centre - other)


def test_without_centres_and_truth_there_are_grey_points_alone() -> None:
    table = evidence(centres=False, columns={"truth": np.full(240, -1), "truth_200": np.full(240, -1)})
    found = plane.points(table)
    assert (found["colour"] == -1).all()
    assert (found["landmark"] == -1).all()
    assert (found["shape"] == (table["score"][table["sampled"]] > 0)).all()


def test_of_several_folds_that_with_patches_under_smoke_is_shown() -> None:
    table = evidence(count=480, folds=2)
    clear = table["fold"] == 0
    table["obscured"] = table["obscured"] & ~clear
    from tasks.flame_detection.measures import sample

    table["sampled"] = sample(table["fold"], table["obscured"])
    z = np.random.Generator(np.random.Philox(1)).normal(0, 1, (480, 64))
    for i in range(64):
        table[f"z{i}"] = np.where(table["sampled"], z[:, i], 0)
    for k in (0, 1):
        table[f"distance_{k}"] = np.full(480, -1.0)
    found = plane.points(table)
    assert len(found["x"]) == int((table["sampled"] & ~clear).sum())


def test_the_board_takes_the_points_as_they_are() -> None:
    read = clouds.read(SCATTER, evidence())  # type: ignore[arg-type]
    assert len(read["x"]) == 184 + 2
    assert clouds.words(SCATTER, read).endswith("With centre of no flame, centre of flame.")  # type: ignore[arg-type]


def test_one_point_or_none_has_a_place() -> None:
    for count in (0, 1, 2):
        middle, axes = plane.components(np.arange(64.0 * count).reshape(count, 64))
        assert np.isfinite(middle).all()
        assert np.isfinite(axes).all()
        assert axes.shape == (2, 64)
