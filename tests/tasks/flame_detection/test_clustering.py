"""Scores of clusters: scikit-learn's and numpy's numbers, and None where a good guess would give a value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tasks.flame_detection import clustering
from tests.helpers import golden

HELD = 1e-10


@pytest.fixture(scope="module")
def points() -> dict[str, np.ndarray]:
    return golden("flamefinder_clustering")


def blobs(apart: float = 4.0, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.Generator(np.random.Philox(3))
    label = np.arange(count) % 2
    return draw.normal(0, 1, (count, 6)) + apart * label[:, None], label


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("silhouette_euclidean", clustering.silhouette),
        ("silhouette_cosine", lambda x, y: clustering.silhouette(x, y, "cosine")),
        ("davies_bouldin", clustering.davies_bouldin),
        ("calinski_harabasz", clustering.calinski_harabasz),
        ("dunn", clustering.dunn),
        ("centroids", clustering.centroids),
        ("intra_mean_dist", clustering.intra_distances),
        ("inter_centroid_dist", clustering.inter_distances),
    ],
)
def test_every_score_is_the_vectors(points: dict[str, np.ndarray], name: str, found: Callable[..., object]) -> None:
    np.testing.assert_allclose(found(points["x"], points["y"]), points[name], rtol=HELD, atol=HELD)


def test_the_ratio_is_of_the_vectors_distances(points: dict[str, np.ndarray]) -> None:
    expected = points["inter_centroid_dist"][0, 1] / points["intra_mean_dist"].mean()
    assert clustering.separation(points["x"], points["y"]) == pytest.approx(expected, rel=HELD)


def test_variance_within_and_between_make_the_whole() -> None:
    x, label = blobs()
    scaled = clustering.normalised(x)
    assert scaled is not None
    middle = clustering.centroids(scaled, label)
    between = np.square(middle - scaled.mean(0)).sum(1).mean()  # clusters are of equal size
    assert clustering.intra_variance(scaled, label) == pytest.approx(1 - between)
    ratio = between / (1 - between) * (len(x) - 2)
    assert clustering.calinski_harabasz(x, label) == pytest.approx(ratio)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 4096.0, 1e30])
def test_no_score_depends_on_the_scale(scale: float) -> None:
    """scikit-learn's Davies-Bouldin of points 1e-9 as large is 0, the best there is."""
    x, label = blobs()
    plain, scaled = clustering.scores(x, label), clustering.scores(scale * x, label)
    assert None not in plain.values()
    assert {k: v for k, v in scaled.items() if v is None} == {}
    for name, value in plain.items():
        assert scaled[name] == pytest.approx(value, rel=1e-9), name


def test_points_far_from_the_origin_lose_no_digits() -> None:
    """Distances by squares and products keep 4 digits of these."""
    x, label = blobs()
    far = clustering.scores(x + 2.0**26, label)
    near = clustering.scores((x + 2.0**26) - 2.0**26, label)
    for name in ("silhouette", "davies_bouldin", "calinski_harabasz", "dunn", "separation"):
        assert far[name] == pytest.approx(near[name], rel=1e-9), name


@pytest.mark.parametrize("count", [2, 3, 17])
def test_half_precision_is_read_as_what_it_says(count: int) -> None:
    draw = np.random.Generator(np.random.Philox(count))
    x = (20_000 * draw.random((4 * count, 8))).astype(np.float16)
    label = np.arange(len(x)) % 2
    assert clustering.scores(x, label) == clustering.scores(x.astype(np.float64), label)


CROSS = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])
UNDEFINED = {
    "one cluster": (CROSS, [1, 1, 1, 1]),
    "equal centroids": (CROSS, [0, 0, 1, 1]),
    "centroids apart by rounding alone": (CROSS + np.array([[1e-12, 0], [0, 0], [0, 0], [0, 0]]), [0, 0, 1, 1]),
    "a cluster of a single point": (np.array([[0.0, 0], [1, 0], [0, 1], [9, 9]]), [0, 0, 0, 1]),
    "all points the same": (np.ones((4, 2)), [0, 0, 1, 1]),
    "one point": (np.ones((1, 2)), [0]),
    "no point": (np.ones((0, 2)), []),
}


@pytest.mark.parametrize("kind", UNDEFINED)
def test_what_is_undefined_is_none_and_never_the_best(kind: str) -> None:
    x, label = UNDEFINED[kind]
    with np.errstate(all="raise"):
        assert clustering.scores(x, np.array(label, int)) == dict.fromkeys(clustering.KINDS)
    if len(np.unique(label)) == 2 and "same" not in kind:
        for score in (clustering.silhouette, clustering.davies_bouldin, clustering.calinski_harabasz, clustering.dunn):
            assert score(x, np.array(label)) is None


def test_clusters_without_spread_are_the_best_where_that_is_a_number() -> None:
    x, label = np.repeat([[1.0, 0], [0, 1]], 3, axis=0), np.array([0, 0, 0, 1, 1, 1])
    found = clustering.scores(x, label)
    assert (found["silhouette"], found["davies_bouldin"], found["intra_variance"]) == (1, 0, 0)
    # infinite: scikit-learn calls the second of these 1, less than of almost any other clusters
    assert found["dunn"] is found["calinski_harabasz"] is found["separation"] is None


def test_a_vector_without_a_direction_has_no_cosine() -> None:
    x, label = blobs()
    x[3] = 0
    found = clustering.scores(x, label)
    assert found["silhouette_cosine"] is None
    assert found["silhouette"] is not None


def test_cosines_are_about_the_origin_and_not_about_the_mean() -> None:
    x, label = blobs()
    assert clustering.scores(x + 50, label)["silhouette_cosine"] != pytest.approx(clustering.scores(x, label)["silhouette_cosine"])
    assert clustering.scores(x + 50, label)["silhouette"] == pytest.approx(clustering.scores(x, label)["silhouette"])


def test_the_name_of_a_cluster_does_not_count() -> None:
    x, label = blobs()
    assert clustering.scores(x, label) == pytest.approx(clustering.scores(x, 7 - 3 * label))
