"""What was asked and granted: target, case, budget, parent, workloads and dictated columns, held to the task's rules.toml."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from suite import bundle, truth
from suite.checks.findings import AGAIN, Finding
from suite.checks.numbers import MOST_CORES
from suite.meters import timing
from suite.naming import UserError, canonical_target, parse_target
from suite.rules import CaseRules, TaskRules

NEAR = 1e-4  #: relative: the parent's counts; a graph that was drawn again has an edge more or less
NEARLY = 0.02  #: relative: bytes of a video differ by 0.7 % between processors
BY_LAYER = 0.01  #: relative: sums over layers, of which each holds its own numbers of weights
WHOLE = 0.1  #: relative: bytes of one file differ by 0.3 % between versions of what packs it
ROUNDED = 1e-6  #: relative: figures in single precision
ENDS = 0.9  #: of a cap: a comparison that was not known well enough lasted as long


def asked(where: str, record: bundle.RunRecord, rules: TaskRules) -> Iterator[Finding]:
    """What was asked, and what holds of every run of a task, whatever its case and however it ended."""
    yield from _target(where, record, rules)
    yield from _metered(where, record, rules)
    yield from _sums(where, record, rules)
    yield from _quantiles(where, record, rules)
    yield from _unsupported(where, record, rules)


def _target(where: str, record: bundle.RunRecord, rules: TaskRules) -> Iterator[Finding]:
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


def _metered(where: str, record: bundle.RunRecord, rules: TaskRules) -> Iterator[Finding]:
    """A meter tells nothing that evidence alone gives, and of our methods only what they have."""
    ours = record.method.origin == "reference"
    for m in record.measures:
        if m.source != "meter":
            continue
        if m.name in rules.derived:
            yield _wrong(where, _named(m.name, m.part), "is derived from evidence alone, never metered")
        elif ours and m.name in rules.only and record.method.name not in rules.only[m.name]:
            yield _wrong(where, f"measures {m.name}", f"is nothing that {record.method.name} has")
    examples = record.measure("examples")
    closed = record.spec.division == "closed" and record.status == "ok"
    if rules.known and ours and closed and examples and not examples.value and record.method.name not in rules.untrained:
        yield _wrong(where, "measures examples", f"are none, and {record.method.name} trains on some")
    for name in rules.percent:
        beyond = [p.value for p in record.curve if p.name == name and not 0 <= p.value <= 100 * (1 + ROUNDED)]
        if beyond:
            yield _wrong(where, "curve", f"{name} is {beyond[0]:g} %, outside 0..100")


def _sums(where: str, record: bundle.RunRecord, rules: TaskRules) -> Iterator[Finding]:
    """What figures of one run come to, one over the other, lies where it can."""
    for names, (least, most) in rules.ratios.items():
        over, under = names.split("/")
        for part, value in _parts(record, over):
            whole = _parts(record, under)
            if not whole or whole[0][1] <= 0:
                continue
            ratio = value / whole[0][1]
            if not least * (1 - ROUNDED) <= ratio <= most * (1 + ROUNDED):
                told = f"is {ratio:.4g} of {under}, and can be {least:g} to {most:g} of it"
                yield _wrong(where, _named(over, part), told)
    for name, least in rules.least.items():
        for part, value in _parts(record, name):
            if value < least:
                yield _wrong(where, _named(name, part), f"{value:g} is less than any has: {least:g}")
    networks: dict[str, int] = {}
    for layer in record.operations:
        network, colon, _ = layer.name.partition(": ")
        if colon:
            networks[network] = networks.get(network, 0) + layer.params
    largest = max(networks.values(), default=0)
    for name, least in rules.of_largest.items():
        for part, value in _parts(record, name):
            if value < least * largest:
                told = f"{value:,.0f} are less than {least:g} for each of the {largest:,} parameters of one network"
                yield _wrong(where, _named(name, part), told)


def _quantiles(where: str, record: bundle.RunRecord, rules: TaskRules) -> Iterator[Finding]:
    """Quantiles rise, and a rate is one over the time that it is told by."""
    value = {(m.name, m.part): m.value for m in record.measures}
    for name, quantiles in rules.rising.items():
        found: dict[str, list[float]] = {}
        for quantile in quantiles:
            for part, told in _parts(record, name):
                if part.endswith(f" {quantile}"):
                    found.setdefault(part.removesuffix(f" {quantile}"), []).append(told)
        for part, values in found.items():
            if values != sorted(values):
                yield _wrong(where, f"measures {name} {part}", f"falls from {quantiles[0]} to {quantiles[-1]}")
    for rate, time in rules.inverses.items():
        name, _, quantile = time.partition(" ")
        for part, told in _parts(record, rate):
            each = value.get((name, f"{part} {quantile}"))
            if each is None or not math.isclose(told * each, 1.0, rel_tol=ROUNDED):
                yield _wrong(where, f"measures {rate} {part}", f"is not one over {name} {part} {quantile}")


def _unsupported(where: str, record: bundle.RunRecord, rules: TaskRules) -> Iterator[Finding]:
    """What every processor can run is not said to be unsupported on one, nor is what was metered running."""
    for name in record.unsupported:
        if record.spec.device == "cpu" and name.startswith(rules.everywhere):
            yield _untimed(where, f"{name} is said not to be supported, and every processor can run it")
        for beginning, measure in rules.runs.items():
            rest = name.removeprefix(beginning)
            if rest != name and any(m.name == measure and m.part.startswith(f"{rest}@") for m in record.measures):
                yield _untimed(where, f"{name} is said not to be supported, and {measure} tells that {rest} ran")


def _parts(record: bundle.RunRecord, name: str) -> list[tuple[str, float]]:
    """Parts and values of a measure: of ``name:part`` the one, of ``name`` all."""
    name, colon, part = name.partition(":")
    return [(m.part, m.value) for m in record.measures if m.name == name and (not colon or m.part == part)]


def _named(name: str, part: str) -> str:
    """How a finding names a measure, of ``name`` or ``name:part``."""
    return f"measures {name.partition(':')[0]} {part}".strip()


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
    for amounts, whole in case.wholes.items():
        over, under = amounts.split("/")
        amount, share = value.get((over, "")), value.get((under, ""))
        if amount is not None and share is not None and not abs(amount - whole * share) <= WHOLE * whole * share:
            yield _wrong(where, f"measures {over}", f"{amount:g} at a share of {share:g}: the parent has {whole:g}")
    if record.spec.division == "closed":
        for small, large in rules.closed_within.items():
            if value.get((small, ""), 0.0) > value.get((large, ""), math.inf) * (1 + ROUNDED):
                yield _wrong(where, f"measures {small}", f"is more than {large}, which is all that a closed run has")
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
        zeros = layer.params - layer.nonzero
        # of a layer without a zero all multiply-adds are left, however many of its parameters are biases
        lows += layer.macs * max(0.0, 1 - zeros / fewest)
        highs += layer.macs * (1 - max(0, zeros - (layer.params - fewest)) / weights)
        alive_low, alive_high = alive_low + least, alive_high + most
    ends = ((lows, highs), (alive_low / case.weights, alive_high / case.weights))
    for name, (low, high) in zip(names, ends, strict=True):
        told = value.get((name, ""))
        if told is not None and not low * (1 - BY_LAYER) <= told <= high * (1 + BY_LAYER):
            yield _wrong(where, f"measures {name}", f"says {told:.9g}, the layers come to {_between(low, high)}")


def _between(low: float, high: float) -> str:
    return f"{low:.9g}" if math.isclose(low, high) else f"{low:.9g} to {high:.9g}"


def beyond(measure: bundle.MeasureRecord, most: object) -> str:
    """What is wrong with an amount of memory, in bytes, that is more than a card's GiB, which are rounded to a tenth."""
    if not isinstance(most, int | float) or measure.value <= (most + 0.05) * 2**30:
        return ""
    return f"{measure.value / 2**30:.1f} GiB, the card says {most:.1f}"


def card(
    where: str, record: bundle.RunRecord, role: Literal["solve", "weigh"], told: Mapping[str, Mapping[str, Any]], rules: TaskRules
) -> Iterator[Finding]:
    """A card tells the facts that every machine has, counts what it has, and names the versions that the record names."""
    field = f"systems.{role}"
    for fact in rules.facts:
        group, _, name = fact.partition(".")
        if name not in told.get(group, {}):
            yield _wrong(where, field, f"its card tells no {fact}", "submit the card that the run wrote")
    processor, software = told["processor"], told["software"]
    for name in ("cores", "threads_used"):
        count = processor.get(name, 1)
        if type(count) is not int or not 1 <= count <= MOST_CORES:
            yield _wrong(where, field, f"its card tells {count!r:.40} {name}", "submit the card that the run wrote")
    for name in ("python", "torch"):
        # a build's own suffix is in one of them
        versions = [str(of[name]).partition("+")[0] for of in (software, record.libraries) if name in of]
        if len(set(versions)) > 1:
            told_both = f"its card tells {name} {versions[0]:.40}, the libraries {versions[1]:.40}"
            yield _wrong(where, field, told_both, "submit the card that the run wrote")
    cores, gpus = processor.get("cores"), told["gpu"].get("count", 0)
    if role == "solve" and isinstance(cores, int) and isinstance(gpus, int) and record.processes > max(cores, gpus, 1):
        message = f"{record.processes:,} processes on {cores} cores"
        yield Finding(where, bundle.RUN, "processes", "mark", message, "run it again with one process a core, or a GPU")


def dictated(
    where: str,
    record: bundle.RunRecord,
    evidence: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    rules: TaskRules,
    case: CaseRules,
) -> Iterator[Finding]:
    """Columns that the case dictates are the case's, and those of a method can be its own."""
    for name, measure in rules.ones.items():
        several = record.measure(measure)
        if (evidence[name] != 1).any() and (several is None or several.value < 2):
            yield _column(where, name, f"is not 1 everywhere, and no more than one of {measure} is told", AGAIN)
    for names, (least, most) in case.rows.items():
        over, under = (evidence[n].astype(float) for n in names.split("/"))
        if not ((least * under <= over * (1 + ROUNDED)) & (over <= most * under * (1 + ROUNDED))).all():
            message = f"is no {least:g} to {most:.4g} of {names.partition('/')[2]} in some row"
            yield _column(where, names.partition("/")[0], message, AGAIN)
    yield from _parentless(where, record.method, evidence, rules)
    for name, cards in case.answers.items():
        known = cards.get(record.systems.get("solve", ""), {}).get(str(record.spec.seed))
        without = (*rules.parentless.get(name, ()), *rules.apart.get(name, ()))
        mine = record.method.name in without or (evidence[name] == -1).all()
        if known is not None and not mine and truth.column_digest(evidence[name], kinds[name]) != known:
            told = f"is not what the parent of seed {record.spec.seed} answers on this machine"
            yield Finding(where, bundle.EVIDENCE, name, "mark", told, "replay it: nothing else tells whose answers these are")
    for name, expected in case.columns.items():
        if truth.column_digest(evidence[name], kinds[name]) != expected:
            told = f"is not what {case.case} says"
            yield _column(where, name, told, "it comes from the data and is not to be changed")
    for name, total in case.totals.items():
        said = float(evidence[name].astype(float).sum())
        if abs(said - total) > NEARLY * total:
            told = f"sums to {said:,.0f}, that of {case.case} to {total:,.0f}"
            yield _column(where, name, told, "encode the video as the task does")


def _parentless(where: str, method: bundle.MethodRecord, evidence: Mapping[str, np.ndarray], rules: TaskRules) -> Iterator[Finding]:
    """Answers of the parent are there for each row or for none: for none where a method of ours has no parent."""
    ours = method.origin == "reference"
    for column, without in rules.parentless.items():
        absent = evidence[column] == -1
        if absent.all() and ours and method.name not in without:
            yield _column(where, column, f"is -1, and {method.name} has a parent", AGAIN)
        elif absent.any() and not absent.all():
            yield _column(where, column, "is -1 in some rows: a parent answers all of them or none", AGAIN)
        elif ours and method.name in without and not absent.all():
            yield _column(where, column, f"is not -1, and {method.name} has no parent", AGAIN)


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
    if case.booked and record.spec.division != "speed":
        yield from _booked(where, record, items, case)
    if speed in record.unsupported:
        yield _untimed(where, f"{speed}, by which speed is told, is said not to be supported")


def _booked(where: str, record: bundle.RunRecord, items: Mapping[str, int], case: CaseRules) -> Iterator[Finding]:
    """Examples spent are those of all calls of the workloads that they were spent on: what ran and is not told would be no time."""
    calls = timing.calls_of((m.name, m.part, m.value) for m in record.measures if m.source == "meter")
    examples = record.measure("examples")
    if examples is None:
        return
    told = sum(items[n] * calls[n][0] for n in items if n in calls and n.startswith(case.booked))
    method, ours = record.method, record.method.origin == "reference"
    if told > examples.value * (1 + ROUNDED):
        yield _wrong(where, "measures examples", f"says {examples.value:.9g}, the calls of workloads come to {told:.9g}")
    elif told < examples.value * (1 - ROUNDED) and f"{method.name} {method.variant}" not in case.unbooked:
        message = f"says {examples.value:.9g}, and {told:.9g} are told by the calls of workloads: the rest is in no time"
        if ours:
            yield _wrong(where, "measures examples", message)
        else:  # examples may be looked at by what is no part of the job, as for a comparison
            yield Finding(where, bundle.RUN, "measures examples", "mark", message, "tell what ran before as a workload")


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


def _column(where: str, name: str, message: str, mend: str) -> Finding:
    return Finding(where, bundle.EVIDENCE, name, "error", message, mend)


def _untimed(where: str, message: str) -> Finding:
    return Finding(where, bundle.TIMING, "workload", "error", message, "submit the timing as the scale left it")


def _wrong(where: str, field: str, message: str, mend: str = AGAIN) -> Finding:
    return Finding(where, bundle.RUN, field, "error", message, mend)
