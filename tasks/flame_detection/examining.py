"""How trained detectors are tested: the columns of the evidence, one line a test patch over all folds."""

from __future__ import annotations

import numpy as np

from suite.naming import UserError
from suite.protocol import Diverged
from tasks.flame_detection.measures import DIMENSIONS, NOBODY, sample
from tasks.flame_detection.plane import upright
from tasks.flame_detection.problem import Detector, Detectors, FlameProblem, Patches, PatchSet, embeddings, scores

TOP = 2.0**15  #: values of an embedding in half precision stay below it


def examine(problem: FlameProblem, solution: Detectors) -> dict[str, np.ndarray]:
    """Every column of the evidence, as numbers of any type.

    Raises:
        UserError: there is not one detector a fold.
        Diverged: a detector or its centres are not finite.
    """
    folds = problem.patches.folds
    if len(solution.folds) != len(folds):
        raise UserError(f"{problem.patches.name} has {len(folds)} folds and the method gives {len(solution.folds)} detectors")
    told = dictated(problem.patches)
    sampled = sample(told["fold"], told["obscured"] > 0)
    parts, at = [], 0
    for fold, detector in zip(folds, solution.folds, strict=True):
        mine = slice(at, at + len(fold.test))
        at += len(fold.test)
        parts.append(_of_fold(problem, detector, fold.test, sampled[mine]))
    return {**told, "sampled": sampled, **{k: np.concatenate([p[k] for p in parts]) for k in parts[0]}}


def dictated(patches: PatchSet) -> dict[str, np.ndarray]:
    """The columns that the data dictate, (n,) each: where a test patch stands, its label, its truth, and what its set says."""
    tests = [fold.test for fold in patches.folds]
    names = ("frame", "scene", "obscured", "label", "truth", "truth_200", "fire")
    columns = {name: np.concatenate([getattr(test, name).numpy() for test in tests]) for name in names}
    fold = np.repeat(np.arange(len(tests)), [len(test) for test in tests])
    return {"row": np.arange(len(fold)), "fold": fold, **{k: v.astype(np.int64) for k, v in columns.items()}}


def _of_fold(problem: FlameProblem, detector: Detector, test: Patches, sampled: np.ndarray) -> dict[str, np.ndarray]:
    """What a detector makes of its fold's test patches; its embedding of those that are sampled."""
    score = scores(detector.model, test, problem.device).astype(np.float64)
    z = embeddings(detector.model, test, problem.device).astype(np.float64)
    centres = None if detector.centres is None else detector.centres.detach().cpu().double().numpy()
    single = np.finfo(np.float32).max
    if not all(
        np.isfinite(v).all() and np.abs(v).max(initial=0) < single for v in (score, z, *([] if centres is None else [centres]))
    ):
        raise Diverged("a detector's answers, its embedding or its centres are not finite")
    away = np.full((len(test), 2), float(NOBODY)) if centres is None else distances(z, centres)
    if away.max(initial=0) >= single:
        raise Diverged("distances to the centres are not finite in single precision")
    coordinates, turned, kept = written(z[sampled], centres)
    out = np.zeros((len(test), DIMENSIONS), np.float16)
    out[sampled] = coordinates
    columns = {"score": score, "distance_0": away[:, 0], "distance_1": away[:, 1], "kept": np.full(len(test), kept)}
    # component i of the centres stands in the fold's i-th row: they have a row of their own in no table of patches
    for k in (0, 1):
        column = np.zeros(len(test), np.float16)
        if len(test) >= DIMENSIONS:
            column[:DIMENSIONS] = turned[k]
        columns[f"centre_{k}"] = column
    return columns | {f"z{i}": out[:, i] for i in range(DIMENSIONS)}


def distances(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Euclidean distance of z (n, D) to each of centres (2, D), (n, 2)."""
    return np.stack([np.linalg.norm(z - c, axis=1) for c in centres], 1)


def written(z: np.ndarray, centres: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, float]:
    """An embedding as the evidence holds it: at most 64 dimensions, in half precision.

    More dimensions are rotated about the origin, since cosines are taken about it, to the leading components of sample and centres.
    All is multiplied by one power of two, so that the largest value lies below 2^15: half precision ends at 65,504, and rounds each
    value to 11 binary digits.

    Args:
        z: (k, D) of the sample, k up to 256.
        centres: (2, D), or None.

    Returns:
        (k, 64) and (2, 64) float16, zeros where there is nothing, and the share of the variance that is kept, of the sample or of
        the centres, whichever is less.
    """
    both, kept = [z, np.zeros((2, z.shape[1])) if centres is None else centres], 1.0
    if z.shape[1] > DIMENSIONS:
        whole, apart = (_variance(x) for x in both)
        basis = _leading(np.concatenate(both), DIMENSIONS)
        both = [x @ basis.T for x in both]
        shares = [_variance(x) / of for x, of in zip(both, (whole, apart), strict=True) if of]
        kept = min(1.0, *shares) if shares else 1.0
    largest = max(float(np.abs(x).max(initial=0)) for x in both)
    factor = 2.0 ** np.floor(np.log2(TOP / largest)) if largest else 1.0
    out = []
    for x in both:
        wide = np.zeros((len(x), DIMENSIONS), np.float16)
        wide[:, : x.shape[1]] = (factor * x).astype(np.float16)
        out.append(wide)
    return out[0], out[1], kept


def _leading(z: np.ndarray, count: int) -> np.ndarray:
    """Orthonormal rows (at most count, D) that keep most of the squared length of z (k, D); their largest entry is positive."""
    _, _, rows = np.linalg.svd(z, full_matrices=False)
    return upright(rows[:count])


def _variance(z: np.ndarray) -> float:
    return float(np.square(z - z.mean(0)).sum()) if len(z) else 0.0
