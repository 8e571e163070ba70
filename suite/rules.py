"""rules.toml: what every honest run of a case has in common, as tasks write it and the checker holds bundles to it.

Where truth.toml says which answers are right, rules.toml says what a run is asked, granted and counted against: targets, budget,
the parent's counts, workloads and the items of a call, columns that the data dictate for one case of several.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

FILE = "rules.toml"  #: beside a task's task.py
HEAD = (
    "# Written by `python -m tasks.common.rules`: what every honest run of a case has in common. The checker holds bundles to it.\n"
)


@dataclass(frozen=True)
class CaseRules:
    """Of one case in one tier; `speed`: of the speed division, which sees shapes and no data."""

    tier: str
    case: str
    speed: bool = False
    #: the most that a closed run may have seen, by method; under ``any`` that of every other; None where nothing is known
    examples: Mapping[str, int] = field(default_factory=dict)
    parent: Mapping[str, float] = field(default_factory=dict)  #: what is metered of the parent, the same in every row
    weights: int = 0  #: of the parent's convolutions and linear layers; 0: nothing is summed over layers
    biases: int = 0  #: of the parent's convolutions, which their layers count beside weights
    workloads: Mapping[str, int] = field(default_factory=dict)  #: items of a call; ``name*`` stands for all that begin so
    timed: tuple[str, ...] = ()  #: workloads that every row times, and that every machine can run
    told: tuple[str, ...] = ()  #: workloads that a row of seed 0 times or says to be unsupported
    columns: Mapping[str, str] = field(default_factory=dict)  #: digests of columns that the case dictates, beside truth.toml's
    totals: Mapping[str, float] = field(default_factory=dict)  #: sums of columns that differ a little from machine to machine
    originals: Mapping[str, str] = field(default_factory=dict)  #: SHA-256 of the pictures of the originals
    #: what an amount over its share of the parent's comes to, which is the parent's amount: ``{"amount/share": the parent's}``
    wholes: Mapping[str, float] = field(default_factory=dict)
    #: of two columns, in each row, the least and the most that one is of the other: ``{"a/b": (least, most)}``
    rows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    #: digests of a column that the parent of a seed gives, the same on one machine: ``{column: {card: {seed: digest}}}``
    answers: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    booked: tuple[str, ...] = ()  #: how workloads begin whose items, by all calls of the candidate, are the examples spent
    unbooked: tuple[str, ...] = ()  #: methods, ``name variant``, of ours that spend examples on what is no part of their job

    def most_examples(self, method: str) -> int | None:
        """The most examples of a closed run of a method; None where nothing is known."""
        return self.examples.get(method, self.examples.get("any"))

    def items(self, workload: str) -> int | None:
        """Items of a call; None where the case has no such workload."""
        exact = self.workloads.get(workload)
        if exact is not None:
            return exact
        beginnings = [n for n in self.workloads if n.endswith("*") and workload.startswith(n[:-1])]
        return self.workloads[max(beginnings, key=len)] if beginnings else None


@dataclass(frozen=True)
class TaskRules:
    """Of a task; empty for a task that comes without."""

    targets: tuple[str, ...] = ()  #: names that a target may have
    meters: tuple[str, ...] = ()  #: measures that every ok row has metered
    #: measures that are sums over the layers of `operations`: multiply-adds of weights that are not zero, and the share of these
    #: weights among the parent's
    left_macs: str = ""
    left_weights: str = ""
    timing_seconds: float | None = None  #: the least cap of a comparison; None: the scale's own
    derived: tuple[str, ...] = ()  #: measures that evidence alone may give, whether or not a run's own defines them
    #: of two measures, ``name`` or ``name:part``, the least and the most that one is of the other: ``{"a/b": (least, most)}``
    ratios: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)  #: the least that a measure can be
    #: the least that a measure is of the parameters of the largest network, where layers are named ``network: layer``
    of_largest: Mapping[str, float] = field(default_factory=dict)
    inverses: Mapping[str, str] = field(
        default_factory=dict
    )  #: rates by the time that each is one over: ``{"rate": "time quantile"}``
    rising: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: quantiles of a measure, the last words of its parts
    percent: tuple[str, ...] = ()  #: values of curves that are per cents
    ones: Mapping[str, str] = field(default_factory=dict)  #: columns that are 1, but where a measure tells of more than one
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: measures by the methods of ours that alone have them
    untrained: tuple[str, ...] = ()  #: methods of ours that see no example
    parentless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: columns by the methods of ours that have -1 there
    apart: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: columns by the methods of ours with a parent of their own
    everywhere: tuple[str, ...] = ()  #: how workloads begin that every processor can run
    runs: Mapping[str, str] = field(default_factory=dict)  #: how workloads begin by what is metered of the rest of their name
    closed_within: Mapping[str, str] = field(default_factory=dict)  #: measures that in a closed run are at most another
    facts: tuple[str, ...] = ()  #: ``group.fact`` that every system card tells
    cases: Mapping[tuple[str, bool, str], CaseRules] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether the task came with rules."""
        return bool(self.cases)

    def of(self, tier: str, division: str, case: str) -> CaseRules | None:
        """Rules of a case; None where there are none, as where its data were not at hand."""
        return self.cases.get((tier, division == "speed", case))

    def has(self, tier: str, division: str, case: str) -> bool:
        """Whether a division of a tier has a case: closed its own, speed the shapes of any, open whatever there is."""
        if division == "speed":
            return case in {name for *_, name in self.cases}
        return division == "open" or (tier, False, case) in self.cases


def read(path: Path) -> TaskRules:
    """The rules of a task; empty without a file."""
    if not path.is_file():
        return TaskRules()
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    cases = [CaseRules(**_tuples(entry)) for entry in raw.pop("case", [])]
    return TaskRules(**_tuples(raw), cases={(c.tier, c.speed, c.case): c for c in cases})


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _tuples(v) if isinstance(v, Mapping) else tuple(v) if isinstance(v, list) else v for k, v in entry.items()}


def describe(rules: TaskRules) -> str:
    """The text of rules.toml: fields that say nothing are left out."""
    blocks = ["\n".join(_lines(rules, ("cases",)))]
    blocks += ["\n".join(["[[case]]", *_lines(rules.cases[key], ())]) for key in rules.cases]
    return HEAD + "\n" + "\n\n".join(blocks) + "\n"


def _lines(told: Any, without: tuple[str, ...]) -> list[str]:
    found = [(f.name, getattr(told, f.name)) for f in fields(told) if f.name not in without]
    return [f"{name} = {_toml(value)}" for name, value in found if value not in (None, False, (), {}, 0, "")]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
