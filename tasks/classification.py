"""What tasks that classify share: a case's two parts, and accuracy by class from labels and predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from suite.naming import UserError
from suite.protocol import Measure, Spec
from tasks.intervals import mean_interval, wilson


def data_and_model(spec: Spec, example: str) -> tuple[str, str]:
    """The two parts of a case such as ``fashion/resnet20``; raises UserError on a text that is none."""
    name, _, architecture = spec.case.partition("/")
    if not name or not architecture or "/" in architecture or name in (".", ".."):
        raise UserError(f"case {spec.case!r}: write data/architecture, for example {example}")
    return name, architecture


def shapes_digest(name: str) -> str:
    """Stands for a set's data in the `speed` division, which looks at none of it."""
    return hashlib.sha256(f"shapes of {name}".encode()).hexdigest()


def share(name: str, hits: float, count: float, part: str = "") -> Measure:
    """A share in per cent with Wilson's interval."""
    return Measure(name, 100 * float(hits / count), "%", "up", part, wilson(int(hits), int(count)))


def by_class(name: str, label: np.ndarray, prediction: np.ndarray, names: Sequence[str]) -> list[Measure]:
    """Accuracy under `name`, `balanced_accuracy`, `worst_class`, and `class_accuracy` of each class that occurs, in per cent.

    Intervals are Wilson's at 95 %; that of the mean over classes adds the classes' variances.

    Args:
        label, prediction: (n,) int, n at least 1, labels from 0.
        names: of the classes; one without a name is told by its number.
    """
    hit = label == prediction
    count = np.bincount(label)
    known = np.flatnonzero(count)
    correct = np.bincount(label, weights=hit, minlength=len(count))
    recall = correct[known] / count[known]
    worst = known[np.argmin(recall)]
    return [
        share(name, hit.sum(), len(hit)),
        Measure("balanced_accuracy", 100 * float(recall.mean()), "%", "up", interval=mean_interval(recall, count[known])),
        share("worst_class", correct[worst], count[worst]),
        *(share("class_accuracy", correct[k], count[k], names[k] if k < len(names) else f"class {k}") for k in known),
    ]
