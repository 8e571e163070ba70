"""How well kinds of points lie apart: scores of clusters by scikit-learn and numpy.

Undefined is None, and never a value: where there are fewer than two clusters, where a cluster is a single point, whose spread
nobody knows, and where centroids coincide.  scikit-learn gives Davies-Bouldin's best value, 0, to the last of these, and to any
points whose centroids lie less than 1e-8 apart; so points are brought to one scale first.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np

Metric = Literal["euclidean", "cosine"]

#: which way each score of `scores` is better; none of them depends on the embedding's scale
KINDS: dict[str, Literal["up", "down"]] = {
    "silhouette": "up",
    "silhouette_cosine": "up",
    "davies_bouldin": "down",
    "calinski_harabasz": "up",
    "dunn": "up",
    "separation": "up",
    "intra_distance": "down",
    "intra_variance": "down",
}
APART = 1e-7  #: of the points' spread: centroids that are closer coincide


def scores(x: np.ndarray, label: np.ndarray) -> dict[str, float | None]:
    """Every score of `KINDS` of points x (n, D) in clusters label (n,) int; None where it is undefined.

    `intra_distance` and `intra_variance` are of points whose root mean square distance from their mean is 1, so that models of
    another scale compare; the others are free of the scale by themselves.
    """
    scaled = normalised(x)
    if scaled is None or not defined(scaled, label):
        return dict.fromkeys(KINDS)
    return {
        "silhouette": silhouette(scaled, label),
        "silhouette_cosine": silhouette(x, label, "cosine"),
        "davies_bouldin": davies_bouldin(scaled, label),
        "calinski_harabasz": calinski_harabasz(scaled, label),
        "dunn": dunn(scaled, label),
        "separation": separation(scaled, label),
        "intra_distance": float(intra_distances(scaled, label).mean()),
        "intra_variance": intra_variance(scaled, label),
    }


def normalised(x: np.ndarray) -> np.ndarray | None:
    """Points (n, D) about their mean, their root mean square distance from it 1; None where they are all the same."""
    if not len(x):
        return None
    centred = x.astype(np.float64) - x.astype(np.float64).mean(0)
    most = np.abs(centred).max(initial=0.0)
    if not most:
        return None
    centred = centred / most  # squares of very small or large numbers are none
    scaled: np.ndarray = centred / np.sqrt(np.square(centred).sum(1).mean())
    return scaled


def defined(x: np.ndarray, label: np.ndarray) -> bool:
    """Whether there are two clusters or more, none of a single point, whose centroids do not coincide."""
    _, count = np.unique(label, return_counts=True)
    if len(count) < 2 or count.min() < 2:
        return False
    between = inter_distances(x, label)[np.triu_indices(len(count), 1)]
    spread = np.sqrt(np.square(x - x.mean(0)).sum(1).mean())
    return bool(between.min() > APART * spread)


def centroids(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Mean of each cluster (K, D), clusters in rising order of their labels."""
    return np.stack([x[label == k].mean(0) for k in np.unique(label)])


def intra_distances(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """S_k, mean distance of a cluster's points from its centroid, (K,)."""
    known, index = np.unique(label, return_inverse=True)
    away = np.linalg.norm(x - centroids(x, label)[index], axis=1)
    return np.array([away[index == k].mean() for k in range(len(known))])


def inter_distances(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """D_kl, distance between centroids, (K, K)."""
    middle = centroids(x, label)
    between: np.ndarray = np.linalg.norm(middle[:, None] - middle[None], axis=2)
    return between


def silhouette(x: np.ndarray, label: np.ndarray, metric: Metric = "euclidean") -> float | None:
    """Mean over points of (b - a) / max(a, b), a the mean distance to the own cluster, b the least to another (Rousseeuw 1987).

    Distances are taken from differences: scikit-learn's own are of squares and products, which lose digits far from the origin.
    """
    from scipy.spatial.distance import cdist
    from sklearn.metrics import silhouette_score

    x = x.astype(np.float64)
    if not defined(x, label) or (metric == "cosine" and not np.linalg.norm(x, axis=1).all()):
        return None  # a zero vector has no direction
    distance = cdist(x, x, metric).clip(0)
    np.fill_diagonal(distance, 0)
    return _finite(silhouette_score(distance, label, metric="precomputed"))


def davies_bouldin(x: np.ndarray, label: np.ndarray) -> float | None:
    """Mean over clusters of the largest (S_k + S_l) / D_kl (Davies, Bouldin 1979)."""
    from sklearn.metrics import davies_bouldin_score

    scaled = normalised(x)
    if scaled is None or not defined(scaled, label):
        return None
    return _finite(davies_bouldin_score(scaled, label))


def calinski_harabasz(x: np.ndarray, label: np.ndarray) -> float | None:
    """Variance between clusters over that within, each over its degrees of freedom (Calinski, Harabasz 1974).

    None also where clusters have no spread: the ratio is then infinite, and scikit-learn's word for it is 1.
    """
    from sklearn.metrics import calinski_harabasz_score

    scaled = normalised(x)
    if scaled is None or not defined(scaled, label) or not intra_distances(scaled, label).any():
        return None
    return _finite(calinski_harabasz_score(scaled, label))


def dunn(x: np.ndarray, label: np.ndarray) -> float | None:
    """Least distance between points of two clusters over the largest between points of one (Dunn 1974)."""
    from scipy.spatial.distance import cdist, pdist

    if not defined(x, label):
        return None
    parts = [x[label == k].astype(np.float64) for k in np.unique(label)]
    widest = max(float(pdist(part).max()) for part in parts)
    nearest = min(float(cdist(a, b).min()) for a, b in combinations(parts, 2))
    return nearest / widest if widest else None


def separation(x: np.ndarray, label: np.ndarray) -> float | None:
    """D/S, the mean distance between centroids over the mean distance of points from their own."""
    if not defined(x, label):
        return None
    between = inter_distances(x, label)
    within = float(intra_distances(x, label).mean())
    return float(between[np.triu_indices(len(between), 1)].mean()) / within if within else None


def intra_variance(x: np.ndarray, label: np.ndarray) -> float | None:
    """Mean squared distance of points from the centroid of their cluster."""
    if not defined(x, label):
        return None
    _, index = np.unique(label, return_inverse=True)
    return float(np.square(x - centroids(x, label)[index]).sum(1).mean())


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
