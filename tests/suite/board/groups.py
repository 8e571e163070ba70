"""Invented bundles of a task whose examples belong to groups: swept settings, gaps, and when something was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.show import Parts, Reach, Show, Tradeoff
from tests.suite.board.test_store import HERE, light

SHOW = Show(
    words={"top1": "accuracy", "gap": "gap in accuracy"},
    parts=(Parts("group_accuracy", "group"), Parts("class_accuracy", "class")),
    tradeoff=Tradeoff("top1", "gap", {"chex": "delta0", "imp": "rate", "rigl": "alpha"}, floor="majority"),
    reach=Reach(
        "Until it is fair",
        {"steps_to_fair": "Steps, median"},
        {"seconds_to_fair": "Seconds, median"},
        "Fair: a gap of at most 5 points, and at most one point less accuracy than [the parent](../protocol.html).",
    ),
    notes=("A library may print another gap: see [how ours is made](../measurement.html#gap).",),
    cautions={"fashion": "Labels of this data are known to be skewed."},
    sources={"fashion": "[Zalando](https://github.com/zalandoresearch/fashion-mnist), MIT"},
)
#: method, its setting by value (None: the default), and quality, gap, group accuracies of the middle
Plan = Mapping[tuple[str, str], tuple[float, float]]
PLAN: Plan = {
    ("dense", ""): (85.0, 11.0),
    ("chex", ""): (84.6, 9.0),
    ("chex", "delta0=0.1"): (84.9, 10.4),
    ("chex", "delta0=2.0"): (83.6, 6.5),
    ("chex", "delta0=5.0"): (81.9, 4.4),
    ("chex", "score=l1"): (84.0, 9.9),
    ("imp", ""): (84.3, 12.0),
    ("imp", "rate=0.3"): (83.2, 10.0),
    ("imp", "rate=0.5"): (80.4, 9.1),
    ("rigl", ""): (83.9, 8.2),
    ("rigl", "alpha=0.1"): (84.4, 10.8),
    ("rigl", "alpha=0.9"): (82.4, 7.2),
    ("snip", ""): (84.2, 13.1),
    ("grasp", ""): (83.1, 14.2),
    ("magnitude", ""): (84.5, 11.9),
    ("l1_filters", ""): (83.6, 12.9),
    ("random_filters", ""): (82.6, 13.6),
}
DEFAULTS = {"chex": {"delta0": 1.0, "score": "svd"}, "imp": {"rate": 0.2}, "rigl": {"alpha": 0.3}}
CLASSES = ("ankle-boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "t-shirt/top", "trouser")


def measures(quality: float, gap: float, draw: Any, fair: int | None, groups: Sequence[str], classes: int) -> list[dict[str, Any]]:
    """What one run measured."""
    told: list[dict[str, Any]] = [
        {"name": "top1", "value": quality, "unit": "%", "direction": "up", "low": quality - 0.7, "high": quality + 0.7},
        {"name": "gap", "value": gap, "unit": "points", "direction": "down"},
        {"name": "majority", "value": 76.2, "unit": "%", "direction": "up"},
        {"name": "kept.macs", "value": 0.5, "source": "meter"},
        {"name": "speedup", "part": "infer@64", "value": 1.2, "low": 1.19, "high": 1.21, "source": "timing"},
    ]
    for i, name in enumerate(groups):
        place = gap * (0.5 - i / max(1, len(groups) - 1)) + draw.normal(0, 0.2)
        small = {"warnings": ["small: 12 of at least 30 examples"]} if name == "unknown" else {}
        told.append({"name": "group_accuracy", "part": name, "value": quality + place, "unit": "%", "direction": "up", **small})
    for i, name in enumerate(CLASSES[:classes]):
        value = quality - 8 + 1.6 * i - (6 + gap / 2) * (name == "shirt") + draw.normal(0, 0.5)
        told.append({"name": "class_accuracy", "part": name, "value": value, "unit": "%", "direction": "up"})
    if fair is not None:
        told.append({"name": "steps_to_fair", "value": fair, "direction": "down", "source": "meter"})
        told.append({"name": "seconds_to_fair", "value": fair / 40, "unit": "s", "direction": "down", "source": "meter"})
    return told


def write(
    root: Path,
    plan: Plan = PLAN,
    *,
    seeds: int = 3,
    groups: Sequence[str] = ("female", "male", "unknown"),
    classes: int = 10,
    spec: Mapping[str, Any] | None = None,
) -> Path:
    """Bundles of a plan; `fair` methods reach it in some seeds."""
    for at, ((method, variant), (quality, gap)) in enumerate(plan.items()):
        for seed in range(1 if variant == "alpha=0.9" else seeds):
            draw = np.random.Generator(np.random.Philox(100 * at + seed))
            configuration = dict(DEFAULTS.get(method, {}))
            if variant:
                name, _, value = variant.partition("=")
                configuration[name] = value if name == "score" else float(value)
            fair = round(4000 * gap / 9 + 300 * seed) if gap < 9.5 and seed < (2 if method == "imp" else 3) else None
            light(
                root,
                seed,
                measures=measures(quality + draw.normal(0, 0.15), gap + draw.normal(0, 0.4), draw, fair, groups, classes),
                method={
                    "name": method, "origin": "reference", "version": HERE, "variant": variant, "configuration": configuration,
                },
                key=f"{1000 * at + seed + 1:064x}",
                spec={**({"target": ""} if method == "dense" else {}), **(spec or {})},
            )  # fmt: skip
    (root / "systems").mkdir(exist_ok=True)
    (root / "systems" / f"{'c' * 16}.json").write_text('{"processor": {"model": "Invented"}}', encoding="utf-8")
    return root
