"""The measures of flame detection, from the evidence alone: numpy and scikit-learn, no torch.

What an answer is held to is the truth in frames of which somebody knows any, elsewhere the label that the RGB picture gives;
patches that have neither, as frames of smoke whose temperatures are not known, count in no share.  A frame is held to what its set
says of it, where it says so.  Patches of one frame share its scale, its smoke and its scene: intervals are percentiles over
resampled frames, and where there are fewer than `LEAST_FRAMES` of them, closed forms that take patches for independent, with a
warning that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from suite.naming import UserError
from suite.protocol import Measure, Table
from tasks.common.fairness import percentiles, share
from tasks.common.intervals import mean_interval, wilson
from tasks.common.scoring import MIN_GROUP
from tasks.flame_detection import clustering

DIMENSIONS = 64  #: of an embedding in the evidence
LEAST_FRAMES = 10  #: that are resampled for an interval
RESAMPLES = 1000
MOST_PAIRS = 4_000_000  #: of a patch with flame and one without, up to which the area under the curve has an interval
SMALL = "small: "  #: how a warning of a small slice begins
NOBODY = -1  #: truth that is not known, distance to a centre that there is not
HALF = 0.02  #: relative error of a distance between values in half precision

HEAD, NEAREST = "head", "nearest centre"
CLEAR, OBSCURED = "clear", "obscured"
PREDICTED, TRUE = "by prediction", "by truth"
HOT = {"80 degrees": "truth", "200 degrees": "truth_200"}  #: temperatures, and the evidence column that tells of them

Direction = Literal["up", "down", ""]


@dataclass(frozen=True)
class Answers:
    """The evidence, read: a line a test patch over all folds (n)."""

    fold: np.ndarray
    frame: np.ndarray
    scene: np.ndarray
    obscured: np.ndarray  #: bool
    label: np.ndarray  #: of the RGB picture; -1: it gives none
    truth: np.ndarray  #: -1: nobody knows
    truth_200: np.ndarray
    fire: np.ndarray  #: what the set says of the frame; -1: nothing
    score: np.ndarray  #: the head's logit, float64
    away: np.ndarray  #: (n, 2) distance to the centre of no flame and of flame, float64; -1: there are none
    sampled: np.ndarray  #: bool
    kept: np.ndarray  #: of its fold's sample: share of the variance that the embedding in the evidence keeps
    z: np.ndarray  #: (n, 64) embedding of sampled patches, float64
    turned: np.ndarray  #: (n, 2): component i of both centres in the i-th row of a fold

    @classmethod
    def read(cls, evidence: Table) -> Answers:
        """From evidence columns; raises UserError where they cannot be what they say."""
        whole = {k: evidence[k].astype(np.int64) for k in ("fold", "frame", "scene", "label", "truth", "truth_200", "fire")}
        flags = {k: evidence[k].astype(np.int64) for k in ("obscured", "sampled")}
        found = cls(
            **whole,
            **{k: v > 0 for k, v in flags.items()},
            score=evidence["score"].astype(np.float64),
            away=np.stack([evidence[f"distance_{k}"].astype(np.float64) for k in (0, 1)], 1),
            kept=evidence["kept"].astype(np.float64),
            z=np.stack([evidence[f"z{i}"].astype(np.float64) for i in range(DIMENSIONS)], 1),
            turned=np.stack([evidence[f"centre_{k}"].astype(np.float64) for k in (0, 1)], 1),
        )
        _check(found, flags)
        return found

    @cached_property
    def index(self) -> np.ndarray:
        """Of each patch its frame, counted from 0."""
        found: np.ndarray = np.unique(self.frame, return_inverse=True)[1]
        return found

    @cached_property
    def held_to(self) -> np.ndarray:
        """What answers are held to: of a frame whose truth is known of any patch the truth, else the RGB label; -1: neither.

        So no patch that was too hot for its camera is held to a label among others that are held to temperatures.
        """
        by_truth = np.bincount(self.index, self.truth != NOBODY)[self.index] > 0
        return np.where(by_truth, self.truth, self.label)

    @property
    def known(self) -> np.ndarray:
        """Whether there is something that the answer can be held to, bool."""
        found: np.ndarray = self.held_to != NOBODY
        return found

    @property
    def reference(self) -> np.ndarray:
        """What answers are held to where something is known, bool."""
        found: np.ndarray = self.held_to == 1
        return found

    @property
    def head(self) -> np.ndarray:
        """What the head answers, bool."""
        found: np.ndarray = self.score > 0
        return found

    @property
    def centred(self) -> np.ndarray:
        """Whether there are centres, bool."""
        found: np.ndarray = self.away[:, 0] >= 0
        return found

    @property
    def near(self) -> np.ndarray:
        """Whether the centre of flame is the nearer one, bool; of no meaning without centres."""
        found: np.ndarray = self.away[:, 1] < self.away[:, 0]
        return found

    @cached_property
    def deployed(self) -> np.ndarray:
        """The answer that is given: by the nearest centre under smoke, where there are centres; else by the head."""
        return np.where(self.obscured & self.centred, self.near, self.head)

    def centres(self, fold: int) -> np.ndarray | None:
        """Both centres of a fold in the space of `z`, (2, 64); None where there are none."""
        rows = np.flatnonzero(self.fold == fold)
        # a component a row: a fold of fewer patches holds none of them
        if len(rows) < DIMENSIONS or not self.centred[rows].all():
            return None
        return self.turned[rows[:DIMENSIONS]].T


def measures(evidence: Table, scenes: Sequence[str], *, radiometric: bool = True) -> list[Measure]:
    """Every measure that the evidence defines; one that it does not define is not there.

    Args:
        scenes: names by number.
        radiometric: whether the truth is one of temperatures.

    Raises:
        UserError: the evidence cannot be what it says.
    """
    from sklearn import config_context

    answers = Answers.read(evidence)
    # thousands of small calls whose options are ours: their data are looked at, the options need not be
    with config_context(skip_parameter_validation=True):
        return [
            *_patches(answers),
            *_frames(answers, scenes),
            *_alarms(answers),
            *_hot(answers, HOT if radiometric else {"fire": "truth"}),
            *_scenes(answers, scenes),
            *_labels(answers),
            *_clusters(answers),
        ]


# -- patches and frames


def _patches(a: Answers) -> list[Measure]:
    """Clear and obscured patches, by the head and by the nearest centre; the head on clear ones is what is ranked."""
    margin = a.away[:, 0] - a.away[:, 1]
    found = []
    for kind, rows in ((CLEAR, ~a.obscured & a.known), (OBSCURED, a.obscured & a.known)):
        ranked = "" if kind == CLEAR else f"{kind}, {HEAD}"
        found += classified(ranked, a.head[rows], a.reference[rows], a.score[rows], a.frame[rows], a.fold[rows])
        if a.centred[rows].all():
            part = f"{kind}, {NEAREST}"
            found += classified(part, a.near[rows], a.reference[rows], margin[rows], a.frame[rows], a.fold[rows])
    rows = ~a.obscured & (a.label != NOBODY)
    if (a.truth[rows] != NOBODY).any():  # else it is what is ranked
        found += classified("clear, RGB label", a.head[rows], a.label[rows] == 1, a.score[rows], a.frame[rows], a.fold[rows])
    return found


def _frames(a: Answers, scenes: Sequence[str]) -> list[Measure]:
    """A frame is fire if its set says so, else if any patch is, and by what is deployed; one with an obscured patch is obscured.

    Where sets speak of frames their scenes are told apart: FLAME 2's are its classes.
    """
    whole = _Frames.of(a)
    found = []
    for part, rows in (("", whole.known & ~whole.smoky), (OBSCURED, whole.known & whole.smoky)):
        found += [replace(m, name=f"frame_{m.name}") for m in classified(part, whole.called[rows], whole.fire[rows])]
    for k in np.unique(whole.scene[whole.said]).tolist():
        rows = whole.said & (whole.scene == k)
        hits = int((whole.called == whole.fire)[rows].sum())
        count = int(rows.sum())
        name = scenes[k] if k < len(scenes) else f"scene {k}"
        found.append(Measure("frame_accuracy", 100 * hits / count, "%", "up", name, wilson(hits, count)))
    return found


@dataclass(frozen=True)
class _Frames:
    """Each frame as a whole (f)."""

    fire: np.ndarray  #: bool, where `known`
    called: np.ndarray  #: whether it is called fire, bool
    known: np.ndarray  #: whether anything says what it is, bool
    said: np.ndarray  #: whether its set does, bool
    judged: np.ndarray  #: whether all of its patches can be judged, bool
    smoky: np.ndarray  #: whether smoke hides any of it, bool
    scene: np.ndarray

    @classmethod
    def of(cls, a: Answers) -> _Frames:
        any_fire, called, smoky = (np.bincount(a.index, flag) > 0 for flag in (a.reference, a.deployed, a.obscured))
        judged = np.bincount(a.index, ~a.known) == 0
        first = np.unique(a.index, return_index=True)[1]
        fire = a.fire[first]
        said = fire != NOBODY
        return cls(np.where(said, fire == 1, any_fire), called, said | judged, said, judged, smoky, a.scene[first])


def classified(
    part: str,
    answer: np.ndarray,
    true: np.ndarray,
    score: np.ndarray | None = None,
    frame: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> list[Measure]:
    """Accuracy, balanced accuracy, precision, recall, F1 and area under the ROC curve, in per cent, as scikit-learn defines them.

    A figure that these answers leave undefined is not there: precision where nothing is called flame, recall where nothing is,
    balanced accuracy and the area where all is of one class.  The ranked one (`part` empty, of patches) is then over the class that
    there is, with a warning.

    Args:
        answer, true: (n,) bool, flame.
        score: (n,) that ranks patches, for the area; None: no area.
        frame: (n,) that patches are resampled by; None: each is one by itself.
        fold: (n,) whose detectors have scales of their own: the area is then the mean over folds that hold both classes.
    """
    if not len(true):
        return []
    both = bool(true.any() and not true.all())
    found = {name: float(value[0]) for name, value in _shares(_kinds(answer, true).sum(1, keepdims=True), both).items()}
    if not both and (part or frame is None):
        del found["balanced_accuracy"]
    folds = np.unique(fold).tolist() if fold is not None else [None]
    if score is not None:
        mine = [np.ones(len(true), bool) if f is None else fold == f for f in folds]
        areas = [_auc(true[m], score[m]) for m in mine if 0 < true[m].sum() < m.sum()]
        found["auc"] = float(np.mean(areas)) if areas else np.nan
    frames = len(np.unique(frame)) if frame is not None else 0
    told: tuple[str, ...] = ()
    if frame is not None and frames >= LEAST_FRAMES:
        ends = _resampled(answer, true, score if both and len(folds) == 1 else None, frame)
    else:
        ends = _closed(answer, true)
        told = _few(frames) if frames else ()
    one = () if both else ("one class: there is no patch of the other",)
    return [
        Measure(
            name, 100 * float(value), "%", "up", part, ends.get(name), warnings=told + (one if name == "balanced_accuracy" else ())
        )
        for name, value in found.items()
        if np.isfinite(value)
    ]


def _kinds(answer: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Which are hits, misses, false alarms and rightly let be, (4, n) bool."""
    return np.stack([true & answer, true & ~answer, ~true & answer, ~true & ~answer])


def _shares(counts: np.ndarray, both: bool) -> dict[str, np.ndarray]:
    """Figures by how many there are of each kind; NaN where they are undefined.

    Four counts give them all, where scikit-learn's functions would look at the same answers anew for each.

    Args:
        counts: (4, r), of `_kinds`.
        both: whether there are both classes; else balanced accuracy is the recall of the one that there is.
    """
    hits, misses, alarms, rest = counts
    recall, specificity = share(hits, hits + misses), share(rest, rest + alarms)
    return {
        "accuracy": share(hits + rest, counts.sum(0)),
        "balanced_accuracy": (recall + specificity) / 2 if both else np.where(np.isnan(recall), specificity, recall),
        "precision": share(hits, hits + alarms),
        "recall": recall,
        "f1": share(2 * hits, 2 * hits + misses + alarms),
    }


def _auc(true: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve by the Mann-Whitney statistic: the share of pairs of both classes in their order, ties half."""
    from scipy.stats import rankdata

    flames, others = int(true.sum()), int((~true).sum())
    return float((rankdata(score)[true].sum() - flames * (flames + 1) / 2) / (flames * others))


def _closed(answer: np.ndarray, true: np.ndarray) -> dict[str, tuple[float, float] | None]:
    """Intervals in per cent of what has a closed form."""
    hit = answer == true
    shares = {"accuracy": hit, "precision": true[answer], "recall": answer[true]}
    found: dict[str, tuple[float, float] | None] = {k: wilson(int(v.sum()), len(v)) for k, v in shares.items() if len(v)}
    return found | {"balanced_accuracy": mean_interval(*_recalls(hit, true))}


def _recalls(hit: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each class that there is the share that is answered rightly, and how many there are."""
    classes = [hit[true == k] for k in (False, True) if (true == k).any()]
    return np.array([c.mean() for c in classes]), np.array([len(c) for c in classes])


def _few(frames: int) -> tuple[str]:
    """The warning of an interval without enough frames to be resampled."""
    return (f"few frames: the interval takes patches of {frames} for independent",)


def _resampled(
    answer: np.ndarray, true: np.ndarray, score: np.ndarray | None, frame: np.ndarray
) -> dict[str, tuple[float, float] | None]:
    """95 % percentile intervals in per cent over `RESAMPLES` draws of as many frames, by a fixed generator."""
    _, index = np.unique(frame, return_inverse=True)
    frames = int(index.max()) + 1
    counts = np.stack([np.bincount(index, kind, frames) for kind in _kinds(answer, true)], 1)
    area = _area(score, true, index) if score is not None and true.sum() * (~true).sum() <= MOST_PAIRS else None
    totals, areas = [], []
    for often in _draws(frames):
        totals.append(often @ counts)
        if area is not None:
            areas.append(area(often))
    # where there are both classes, a draw without one of them tells nothing of their mean
    found = _shares(np.concatenate(totals).T, bool(true.any() and not true.all()))
    if areas:
        found["auc"] = np.concatenate(areas)
    return {name: _ends(percentiles(value), frames) for name, value in found.items()}


@lru_cache(maxsize=8)
def _draws(frames: int, held: int = 2**20) -> tuple[np.ndarray, ...]:
    """How often each frame is drawn, (r, frames) in pieces of r that add up to `RESAMPLES`; alike for equal numbers of frames."""
    draw = np.random.Generator(np.random.Philox(0))
    step = max(1, held // frames)
    out = []
    for done in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - done)
        picked = draw.integers(0, frames, (rows, frames)) + frames * np.arange(rows)[:, None]
        out.append(np.bincount(picked.ravel(), minlength=rows * frames).reshape(rows, frames).astype(np.float64))
    return tuple(out)


def _area(score: np.ndarray, true: np.ndarray, index: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Area under the ROC curve where frame i is there `often[:, i]` times: the share of pairs in their order, ties half."""
    up, down = score[true][:, None], score[~true][None]
    won = ((up > down) + 0.5 * (up == down)).astype(np.float64)  # (flame, none)
    # won by the flames of one frame against the patches of another; halves add up without rounding, in whatever order
    with_flame, flames, by_flame = _summed(won, index[true])
    without, others, by_both = _summed(by_flame.T, index[~true])
    pairs = by_both.T

    def area(often: np.ndarray) -> np.ndarray:
        one, other = often[:, with_flame], often[:, without]
        return share(((one @ pairs) * other).sum(1), (one @ flames) * (other @ others))

    return area


def _summed(values: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (n, m) added up by their index (n,): the k indices that there are, how many rows each has, and sums (k, m)."""
    there, count = np.unique(index, return_counts=True)
    ordered = values[np.argsort(index, kind="stable")]
    return there, count.astype(np.float64), np.add.reduceat(ordered, np.cumsum(count) - count, axis=0)


def _ends(ends: tuple[float, float] | None, frames: int) -> tuple[float, float] | None:
    """In per cent; where every draw is wholly right, or wholly wrong, Wilson's of as many frames: draws then tell no width."""
    if ends is None:
        return None
    if ends[0] == ends[1] and ends[0] in (0.0, 1.0):
        return wilson(round(ends[0] * frames), frames)
    return 100 * ends[0], 100 * ends[1]


def _alarms(a: Answers) -> list[Measure]:
    """Patches without fire that are called fire, in 100 frames, and frames without fire that are called so, by what is deployed."""
    whole = _Frames.of(a)
    wrong = np.bincount(a.index, a.deployed & ~a.reference)
    found = []
    for part, mine in ((CLEAR, ~whole.smoky), (OBSCURED, whole.smoky)):
        rows = mine & whole.judged
        if rows.any():
            count = wrong[rows]
            ends = None
            if rows.sum() >= LEAST_FRAMES:
                per_frame = percentiles(np.concatenate([often @ count for often in _draws(len(count))]) / len(count))
                ends = (100 * per_frame[0], 100 * per_frame[1]) if per_frame and count.any() else None
            found.append(Measure("false_alarms", 100 * float(count.mean()), "per 100 frames", "down", part, ends))
        calm = mine & whole.known & ~whole.fire
        if calm.any():
            hits = int(whole.called[calm].sum())
            ends = wilson(hits, int(calm.sum()))
            found.append(Measure("false_alarm_frames", 100 * hits / int(calm.sum()), "%", "down", part, ends))
    return found


def _hot(a: Answers, columns: Mapping[str, str]) -> list[Measure]:
    """Recall under smoke against each temperature that somebody knows, by the head and by the nearest centre."""
    found = []
    for hotness, column in columns.items():
        hot = a.obscured & (getattr(a, column) == 1)
        for name, answer, known in ((HEAD, a.head, True), (NEAREST, a.near, a.centred[hot].all())):
            if hot.any() and known:
                part = f"{hotness}, {name}"
                told = classified(part, answer[hot], np.ones(int(hot.sum()), bool), None, a.frame[hot])
                found += [replace(m, name="smoke_recall") for m in told if m.name == "recall"]
    return found


# -- scenes, labels


def _scenes(a: Answers, scenes: Sequence[str]) -> list[Measure]:
    """`scene_accuracy` of each scene, clear and under smoke apart, and of the worst: the mean over its classes of their recall.

    By what is deployed.  A slice of fewer than 30 patches is listed, and the worst one only where all are so small.
    """
    hit = a.deployed == a.reference
    found = []
    for k in np.unique(a.scene).tolist():
        for smoky in (False, True):
            rows = (a.scene == k) & (a.obscured == smoky) & a.known
            if not rows.any():
                continue
            recall, count = _recalls(hit[rows], a.reference[rows])
            name = scenes[k] if k < len(scenes) else f"scene {k}"
            n, frames = int(count.sum()), len(np.unique(a.frame[rows]))
            told = (f"{SMALL}{n} of at least {MIN_GROUP} examples",) if n < MIN_GROUP else ()
            if frames >= LEAST_FRAMES:
                ends = _resampled(a.deployed[rows], a.reference[rows], None, a.frame[rows])["balanced_accuracy"]
            else:
                ends = mean_interval(recall, count)
                told += _few(frames)
            part = f"{name}, smoke" if smoky else name
            found.append(Measure("scene_accuracy", 100 * float(recall.mean()), "%", "up", part, ends, warnings=told))
    large = [m for m in found if not any(w.startswith(SMALL) for w in m.warnings)] or found
    worst = min(large, key=lambda m: m.value)
    return [
        *found,
        replace(worst, name="worst_scene", part="", warnings=tuple(w for w in worst.warnings if not w.startswith(SMALL))),
    ]


def _labels(a: Answers) -> list[Measure]:
    """How good the RGB label is against the truth: no method's doing, and what bounds every accuracy against a label."""
    found = []
    for part, smoky in ((CLEAR, False), (OBSCURED, True)):
        rows = (a.truth != NOBODY) & (a.label != NOBODY) & (a.obscured == smoky)
        told = classified(part, a.label[rows] == 1, a.truth[rows] == 1, None, a.frame[rows])
        found += [replace(m, name=f"label_{m.name}", direction="") for m in told]
    return found


# -- clusters


def _clusters(a: Answers) -> list[Measure]:
    """Scores of the sample's clusters, the mean over folds that define them; folds have spaces of their own."""
    folds = np.unique(a.fold).tolist()
    answer = np.where(a.centred, a.near, a.head)
    found = []
    for kind, smoky in ((OBSCURED, True), (CLEAR, False)):
        for how, label, known in ((PREDICTED, answer, True), (TRUE, a.truth == 1, a.truth != NOBODY)):
            part = f"{kind}, {how}"
            parts = [a.sampled & (a.fold == f) & (a.obscured == smoky) & known for f in folds]
            parts = [rows for rows in parts if rows.any()]
            if not parts:
                continue
            scored = [clustering.scores(a.z[rows], label[rows].astype(int)) for rows in parts]
            for name, direction in clustering.KINDS.items():
                values = [value for s in scored if (value := s[name]) is not None]
                if values:
                    few = (f"undefined in {len(parts) - len(values)} of {len(parts)} folds",) if len(values) < len(parts) else ()
                    found.append(Measure(name, float(np.mean(values)), "", direction, part, warnings=few))
            least = [min(float(label[rows].mean()), float(1 - label[rows].mean())) for rows in parts]
            found.append(Measure("smaller_cluster", 100 * float(np.mean(least)), "%", "", part))
    if a.centred.all():
        apart = [value for f in folds if (value := _apart(a, f)) is not None]
        if apart:
            found.append(Measure("centre_separation", float(np.mean(apart)), "", "up"))
    if a.sampled.any():
        kept = [float(a.kept[a.fold == f][0]) for f in folds]
        found.append(Measure("variance_kept", 100 * float(np.mean(kept)), "%"))
    return found


def _apart(a: Answers, fold: int) -> float | None:
    """Distance between the centres over the root mean square distance of the fold's sample from its mean."""
    x, centres = a.z[a.sampled & (a.fold == fold)], a.centres(fold)
    if centres is None or not len(x):
        return None
    spread = float(np.sqrt(np.square(x - x.mean(0)).sum(1).mean()))
    return float(np.linalg.norm(centres[1] - centres[0])) / spread if spread else None


# -- whether the evidence can be


def _check(a: Answers, flags: Mapping[str, np.ndarray]) -> None:
    """Raises UserError with the first thing that cannot be."""
    again = "; run the method again"
    if not len(a.score):
        raise UserError(f"evidence: there must be patches{again}")
    if not all(np.isfinite(v).all() for v in (a.score, a.away, a.kept, a.z, a.turned)):
        raise UserError(f"evidence: scores, distances and embeddings must be finite{again}")
    if not all(np.isin(v, (0, 1)).all() for v in flags.values()) or not all(
        np.isin(v, (NOBODY, 0, 1)).all() for v in (a.label, a.truth, a.truth_200, a.fire)
    ):
        raise UserError(f"evidence: obscured and sampled are 0 or 1, label, truth and fire may be -1 as well{again}")
    if not (a.known & ~a.obscured).any():
        raise UserError("evidence: no clear patch has a label or a truth, so nothing can be scored; use a set with labels")
    if min(a.fold.min(), a.frame.min(), a.scene.min()) < 0 or (np.diff(a.fold) < 0).any():
        raise UserError(f"evidence: folds, frames and scenes are counted from 0, a fold's patches stand together{again}")
    if (sample(a.fold, a.obscured) != a.sampled).any():
        raise UserError(f"evidence: the sampled rows are not those that their numbers choose{again}")
    if ((a.away < 0) & (a.away != NOBODY)).any() or (a.centred != (a.away[:, 1] >= 0)).any():
        raise UserError(f"evidence: distances to both centres are given, or -1{again}")
    if a.kept.min() < 0 or a.kept.max() > 1 or any(len(np.unique(a.kept[a.fold == f])) > 1 for f in np.unique(a.fold)):
        raise UserError(f"evidence: kept is a share from 0 to 1, one for each fold{again}")
    if (a.z[~a.sampled] != 0).any():
        raise UserError(f"evidence: embeddings are of sampled rows alone{again}")
    for fold in np.unique(a.fold).tolist():
        mine = a.fold == fold
        if len(np.unique(a.centred[mine])) > 1:
            raise UserError(f"evidence: fold {fold} has centres for some of its patches{again}")
        centres = a.centres(fold)
        if centres is None or not (a.sampled & mine).any():
            continue
        x, away = a.z[a.sampled & mine], a.away[a.sampled & mine]
        to = np.linalg.norm(x[:, None] - centres, axis=2)
        if a.kept[mine][0] < 1:
            if not _shortened(x, centres, to, away, float(a.kept[mine][0])):
                raise UserError(f"evidence: distances to the centres are not those of embeddings and centres{again}")
            continue
        # embeddings are written in a unit of their own: one power of two for all of a fold
        large = (to > HALF * to.max()) & (away > 0)
        units = to[large] / away[large]
        if units.size and units.max() > (1 + HALF) ** 2 * units.min():
            raise UserError(f"evidence: distances to the centres are not those of embeddings and centres{again}")


def _shortened(x: np.ndarray, centres: np.ndarray, to: np.ndarray, away: np.ndarray, kept: float) -> bool:
    """Whether distances can be those of an embedding of which only the leading components are written.

    What is left out makes a distance longer, and by little: each of the components left out has a smaller singular value than the
    least of those that are written, so that no row is longer in them than that; and around their mean rows are no longer in them
    than the share of the variance that is said to be lost.

    Args:
        x: (n, 64) of the sample; centres: (2, 64).
        to: (n, 2) distances of these.
        away: (n, 2) distances before, in a unit that is a power of two apart.
        kept: the share of the variance that the components keep, of x or of the centres.
    """
    both = np.concatenate([x, centres])
    large = (to > HALF * to.max()) & (away > 0)
    if not large.any():
        return True
    # the least power of two by which no distance was longer before it was written than after
    unit = 2.0 ** np.ceil(np.log2((to[large] / away[large]).max() / (1 + HALF)))
    values = np.linalg.svd(both, compute_uv=False)
    rounding = 2.0**-11 * float(np.linalg.norm(both))  # of half precision, which may hide the least value
    least = rounding + (float(values[DIMENSIONS - 1]) if len(values) >= DIMENSIONS else 0.0)
    left = np.sqrt(max(0.0, 1 / max(kept, 1e-6) - 1) * np.square(x - x.mean(0)).sum())  # of all rows around their mean
    beyond = min(np.sqrt(2.0) * least, float(left) + least * np.sqrt(1 + 1 / len(x)))
    return bool((unit * away <= (1 + HALF) * np.hypot(to, beyond) + rounding).all())


# -- the sample

MOST_OBSCURED, MOST_CLEAR = 192, 64  #: patches of a fold whose embedding is in the evidence
MOST_SAMPLED = 1024  #: of all folds: so many embeddings of 64 half-precision values are 128 KB


def sample(fold: np.ndarray, obscured: np.ndarray) -> np.ndarray:
    """Which rows carry their embedding, (n,) bool: of each fold the obscured and the clear ones whose numbers hash to the least.

    Four folds have 192 obscured and 64 clear ones each, more folds proportionally fewer.

    Args:
        fold, obscured: (n,) of rows 0 to n - 1.
    """
    rank = _hashed(len(fold))
    folds = np.unique(fold)
    part = min(1.0, MOST_SAMPLED / ((MOST_OBSCURED + MOST_CLEAR) * max(1, len(folds))))
    out = np.zeros(len(fold), bool)
    for f in folds:
        for rows, most in ((obscured, MOST_OBSCURED), (~obscured, MOST_CLEAR)):
            mine = np.flatnonzero((fold == f) & rows)
            out[mine[np.argsort(rank[mine], kind="stable")[: int(most * part)]]] = True
    return out


def _hashed(count: int) -> np.ndarray:
    """A hash of each number below `count`, uint64: SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        x = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
