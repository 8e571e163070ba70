"""What was asked and granted: target, case, budget, parent, workloads and dictated columns, held to the task's rules.toml."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from suite import bundle, truth
from suite.checks.findings import AGAIN, Finding
from suite.meters import timing
from suite.naming import UserError, canonical_target, parse_target
from suite.rules import CaseRules, TaskRules

NEAR = 1e-4  #: relative: the parent's counts; a graph that was drawn again has an edge more or less
NEARLY = 0.02  #: relative: bytes of a video differ by 0.7 % between processors
BY_LAYER = 0.01  #: relative: sums over layers, of which each holds its own numbers of weights
ENDS = 0.9  #: of a cap: a comparison that was not known well enough lasted as long


def asked(where: str, record: bundle.RunRecord, rules: TaskRules) -> Iterator[Finding]:
    """The target reads as the runner writes it, names what the task prunes, and asks for a share."""
    target = record.spec.target
    try:
        canonical, shares = canonical_target(target), parse_target(target)
    except UserError as e:
        yield _wrong(where, "spec.target", str(e))
        return
    if canonical != target:
        yield _wrong(where, "spec.target", f"is written {target!r}, not {canonical!r}")
    for name, share in shares.items():
        if rules.known and name not in rules.targets:
            there = f"there are: {', '.join(rules.targets)}" if rules.targets else "nothing is asked for here"
            yield _wrong(where, "spec.target", f"{name} is nothing that {record.spec.task} removes", there)
        elif share > 1:
            yield _wrong(where, "spec.target", f"{name}={share:g} is no share")


def held(where: str, record: bundle.RunRecord, rules: TaskRules, case: CaseRules) -> Iterator[Finding]:
    """What the case grants, counts and times; of an ok run."""
    value = {(m.name, m.part): m.value for m in record.measures}
    names = {m.name for m in record.measures if m.source == "meter"}
    for name in rules.meters:
        if name not in names:
            yield _wrong(where, f"measures {name}", "is missing: every run of this task has it")
    most = case.most_examples(record.method.name)
    examples = value.get(("examples", ""))
    if record.spec.division != "open" and most is not None and examples is not None and examples > most:
        yield _wrong(
            where, "measures examples", f"{examples:,.0f} are more than the {most:,} that a {record.spec.division} run has"
        )
    for name, expected in case.parent.items():
        told = value.get((name, ""))
        if told is not None and abs(told - expected) > NEAR * abs(expected):
            yield _wrong(where, f"measures {name}", f"says {told:.9g}, the parent's is {expected:.9g}")
    if value.get(("macs", "")) and not record.operations:
        yield _wrong(where, "operations", "are missing, and multiply-adds are told")
    if case.weights:
        yield from _layers(where, record, value, case, (rules.left_macs, rules.left_weights))


def _layers(
    where: str, record: bundle.RunRecord, value: Mapping[tuple[str, str], float], case: CaseRules, names: tuple[str, str]
) -> Iterator[Finding]:
    """What is left by multiply-adds and by weights (`TaskRules`) is what the layers come to: each tells how many are not zero.

    A linear layer has as many weights as multiply-adds an item, a convolution all parameters or all but its biases; of biases some
    may be zero.
    """
    layers = [layer.name for layer in record.operations]
    if len(layers) != len(set(layers)):
        yield _wrong(where, "operations", "a layer stands twice")
    lows, highs, alive_low, alive_high = 0.0, 0.0, 0, 0
    for layer in record.operations:
        if not layer.macs:
            continue
        if not layer.params:  # attention: products of activations
            lows, highs = lows + layer.macs, highs + layer.macs
            continue
        linear = layer.kind == "Linear"
        fewest = min(layer.params, round(layer.macs)) if linear else max(1, layer.params - case.biases)
        weights = fewest if linear else layer.params
        least = max(0, layer.nonzero - (layer.params - fewest))
        most = min(layer.nonzero, weights)
        lows, highs = lows + layer.macs * least / weights, highs + layer.macs * min(1.0, most / fewest)
        alive_low, alive_high = alive_low + least, alive_high + most
    ends = ((lows, highs), (alive_low / case.weights, alive_high / case.weights))
    for name, (low, high) in zip(names, ends, strict=True):
        told = value.get((name, ""))
        if told is not None and not low * (1 - BY_LAYER) <= told <= high * (1 + BY_LAYER):
            yield _wrong(where, f"measures {name}", f"says {told:.9g}, the layers come to {_between(low, high)}")


def _between(low: float, high: float) -> str:
    return f"{low:.9g}" if math.isclose(low, high) else f"{low:.9g} to {high:.9g}"


def dictated(where: str, evidence: Mapping[str, np.ndarray], kinds: Mapping[str, str], case: CaseRules) -> Iterator[Finding]:
    """Columns that the case dictates are the case's."""
    for name, expected in case.columns.items():
        if truth.column_digest(evidence[name], kinds[name]) != expected:
            told = f"is not what {case.case} says"
            yield Finding(where, bundle.EVIDENCE, name, "error", told, "it comes from the data and is not to be changed")
    for name, total in case.totals.items():
        said = float(evidence[name].astype(float).sum())
        if abs(said - total) > NEARLY * total:
            told = f"sums to {said:,.0f}, that of {case.case} to {total:,.0f}"
            yield Finding(where, bundle.EVIDENCE, name, "error", told, "encode the video as the task does")


def workloads(
    where: str, record: bundle.RunRecord, table: Mapping[str, np.ndarray], case: CaseRules, speed: str
) -> Iterator[Finding]:
    """Workloads are the case's, of as many items a call, and none that every machine can run is left out."""
    items = timing.items_of(table)
    there = {*items, *record.unsupported}
    for name in sorted(there) if case.workloads else ():
        known = case.items(name)
        if known is None:
            yield _untimed(where, f"{name} is no workload of {case.case}")
        elif name in items and items[name] != known:
            yield _untimed(where, f"{name} handles {known} items a call, not {items[name]}")
    for name in case.timed:
        if name not in items:
            told = "is said not to be supported, and every machine can run it" if name in there else "is not timed"
            yield _untimed(where, f"{name} {told}")
    if record.spec.seed == 0 and record.spec.device == "cpu":
        for name in case.told:
            if name not in there:
                yield _untimed(where, f"{name} is neither timed nor said to be unsupported")
    if speed in record.unsupported:
        yield _untimed(where, f"{speed}, by which speed is told, is said not to be supported")


def ends(where: str, table: Mapping[str, np.ndarray], caps: Mapping[str, float], cap: float) -> Iterator[Finding]:
    """A comparison ends at the first look at which it is known to 1 %, and else by its cap, never when it looks best.

    Args:
        caps: of each workload in seconds.
        cap: the most that a comparison of this tier has: `caps` may be shares of it.
    """
    for name in timing.items_of(table):
        part = timing.part_of(table, name)
        logs = timing.quad_ratios(part)
        quads, wanted = len(logs), math.log1p(timing.PRECISION)
        early = next((n for n in timing.LOOKS if n < quads and timing.ratio(logs[:n])[1] <= wanted), None)
        if early is not None:
            yield _untimed(where, f"{name} was known well enough after {early} quads, and goes on to {quads}")
        elif not (quads == timing.LOOKS[-1] or (quads in timing.LOOKS and timing.ratio(logs)[1] <= wanted * (1 + 1e-9))):
            spent = float(part["seconds"].sum())
            if spent < ENDS * min(caps.get(name, cap), cap):
                told = f"{name} ends after {quads} quads and {spent:.1f} s, neither known to 1 % nor at its cap"
                yield _untimed(where, told)


def _untimed(where: str, message: str) -> Finding:
    return Finding(where, bundle.TIMING, "workload", "error", message, "submit the timing as the scale left it")


def _wrong(where: str, field: str, message: str, mend: str = AGAIN) -> Finding:
    return Finding(where, bundle.RUN, field, "error", message, mend)
