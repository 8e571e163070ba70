"""What holds of every run of a task beside its budget: meters, sums across them, curves, workloads, cards and columns of methods.

Each test is a submission that was accepted once, its hashes, id and derived measures computed anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suite import bundle, registry, rules, system
from suite.check import check
from suite.checks import held
from suite.checks.findings import Finding
from suite.protocol import Measure
from suite.truth import column_digest
from tests.suite.checks.forger import (
    Fields,
    House,
    blocks,
    card,
    errors,
    evidence,
    furnished,
    honest,
    measure,
    refused,
    results,
    stored,
)
from tests.suite.checks.test_held import CASE, RULES, scored, timed
from tests.suite.checks.test_jobs import Yard, trained

Change = Callable[[Fields], Any]


def housed(tmp_path: Path, case: rules.CaseRules = CASE, **told: Any) -> House:
    """A registry whose task has these rules besides."""
    root = furnished(tmp_path)
    cases = {("small", False, "dots/net"): case}
    (root / rules.FILE).write_text(rules.describe(replace(RULES, **told, cases=cases)), encoding="utf-8")
    return House(root)


def metered(*found: Measure) -> Change:
    return lambda b: b["measures"].extend(stored(replace(m, source="meter")) for m in found)


def own(body: Fields) -> None:
    body["method"].update(name="mine@ab12ab12ab12", origin="file")


def layers(*named: tuple[str, int]) -> Change:
    """These parameters by layer, and no multiply-adds."""

    def change(body: Fields) -> None:
        body["operations"] = [{"name": n, "kind": "Conv2d", "macs": 250.0, "params": p, "nonzero": p} for n, p in named]
        total = float(sum(p for _, p in named))
        for name in ("params", "nonzero"):
            measure(body, name).update(value=total)
        measure(body, "macs").update(value=250.0 * len(named))
        measure(body, "kept.macs").update(value=0.25 * len(named))

    return change


def both(*changes: Change) -> Change:
    def change(body: Fields) -> None:
        for each in changes:
            each(body)

    return change


def test_a_meter_tells_nothing_that_evidence_alone_gives(tmp_path: Path) -> None:
    house = housed(tmp_path, derived=("accuracy", "luck"))
    with results() as root:
        assert errors(house, honest(root)) == []
        refused(house, honest(root, seed=1, change=metered(Measure("luck", 99.0))), "measures luck")


def test_a_measure_is_of_the_methods_that_have_it(tmp_path: Path) -> None:
    house = housed(tmp_path, only={"members": ("net_slim",)})
    members = metered(Measure("members", 3.0))
    with results() as root:
        refused(house, honest(root, change=members), "measures members")
        slim = both(members, lambda b: b["method"].update(name="net_slim"))
        assert errors(house, honest(root, seed=1, change=slim)) == []
        assert errors(house, honest(root, seed=2, change=both(members, own))) == []


def test_a_network_that_learns_has_seen_examples(tmp_path: Path) -> None:
    house = housed(tmp_path, untrained=("net_slim",))
    idle = both(lambda b: measure(b, "examples").update(value=0.0), lambda b: b.update(curve=[]))
    with results() as root:
        refused(house, honest(root, change=idle), "measures examples")
        assert errors(house, honest(root, seed=1, change=both(idle, lambda b: b["method"].update(name="net_slim")))) == []


def test_examples_are_a_whole_number(tmp_path: Path) -> None:
    with results() as root:
        half = honest(root, change=lambda b: measure(b, "examples").update(value=5999.5))
        refused(House(furnished(tmp_path)), half, "measures examples")


def test_no_run_is_older_than_its_task(tmp_path: Path) -> None:
    house = housed(tmp_path)
    with results() as root:
        assert errors(house, honest(root)) == []
        for seed, created in enumerate(("0001-01-01T00:00:00Z", "2019-05-01T00:00:00Z", "2025-12-31T23:59:59Z"), 1):
            refused(house, honest(root, seed=seed, change=lambda b, at=created: b.update(created=at)), "created")  # type: ignore[misc]


@pytest.mark.parametrize(("value", "holds"), [(1.0, False), (170.0, False), (190.0, True), (360.0, True), (1e6, False)])
def test_figures_of_one_run_are_in_proportion(tmp_path: Path, value: float, holds: bool) -> None:
    house = housed(tmp_path, ratios={"memory_weights/params": (2.0, 16.0)})  # 90 parameters
    told = metered(Measure("memory_weights", value, "B", part="infer@1"), Measure("memory_weights", 360.0, "B", part="infer@64"))
    with results() as root:
        assert (errors(house, honest(root, change=told)) == []) == holds


def test_a_part_of_a_measure_has_a_least_and_is_in_proportion_by_itself(tmp_path: Path) -> None:
    house = housed(tmp_path, least={"bytes:head": 32.0}, ratios={"bytes:half/bytes:whole": (0.45, 1.02)})

    def told(head: float, half: float) -> Change:
        parts = {"head": head, "half": half, "whole": 360.0}
        return metered(*(Measure("bytes", v, "B", part=p) for p, v in parts.items()))

    with results() as root:
        assert errors(house, honest(root, change=told(40.0, 180.0))) == []
        refused(house, honest(root, seed=1, change=told(0.0, 180.0)), "measures bytes head")
        refused(house, honest(root, seed=2, change=told(40.0, 1.0)), "measures bytes half")


def test_what_is_sent_holds_the_largest_network(tmp_path: Path) -> None:
    house = housed(tmp_path, replace(CASE, weights=0), of_largest={"bytes:whole": 2.0})
    two = layers(("one: a", 60), ("one: b", 30), ("two: a", 40))
    with results() as root:
        assert errors(house, honest(root, change=both(two, metered(Measure("bytes", 180.0, "B", part="whole"))))) == []
        found = refused(
            house,
            honest(root, seed=1, change=both(two, metered(Measure("bytes", 179.0, "B", part="whole")))),
            "measures bytes whole",
        )
        assert "90 parameters of one network" in found[0].message


def test_a_rate_is_one_over_its_time_and_quantiles_rise(tmp_path: Path) -> None:
    house = housed(tmp_path, inverses={"rate": "latency median"}, rising={"latency": ("median", "p95")})

    def told(rate: float, median: float | None, p95: float) -> Change:
        times = {"p95": p95} if median is None else {"median": median, "p95": p95}
        return metered(
            Measure("rate", rate, "1/s", part="torch@1"),
            *(Measure("latency", v, "s", part=f"torch@1 {q}") for q, v in times.items()),
        )

    with results() as root:
        assert errors(house, honest(root, change=told(50.0, 0.02, 0.03))) == []
        for seed, wrong in enumerate((told(5000.0, 0.02, 0.03), told(50.0, None, 0.03)), 1):
            refused(house, honest(root, seed=seed, change=wrong), "measures rate torch@1")
        refused(house, honest(root, seed=3, change=told(50.0, 0.02, 0.01)), "measures latency torch@1")


def points(*told: tuple[int, float, float]) -> Change:
    return lambda b: b.update(
        curve=[{"examples": e, "seconds": s, "name": "val", "value": v} for e, s, v in told],
    )


@pytest.mark.parametrize(
    "told",
    [
        [(1000, 1.0, 50.0), (6000, 13.0, 60.0)],
        [(1000, 5.0, 50.0), (6000, 4.0, 60.0)],
        [(2000, 1.0, 50.0), (1000, 4.0, 60.0)],
        [(1000, 1.0, 500.0)],
        [(1000, 1.0, -1.0)],
    ],
)
def test_a_curve_runs_within_the_training_and_forward(tmp_path: Path, told: list[tuple[int, float, float]]) -> None:
    house = housed(tmp_path, percent=("val",))
    with results() as root:  # 6000 examples in 12 seconds
        assert errors(house, honest(root, change=points((1000, 1.0, 0.0), (6000, 12.0, 100.0000001)))) == []
        refused(house, honest(root, seed=1, change=points(*told)), "curve")


def test_an_amount_over_its_share_is_the_parents(tmp_path: Path) -> None:
    house = housed(tmp_path, replace(CASE, wholes={"file/file_share": 1000.0}))

    def told(amount: float) -> Change:
        return metered(Measure("file", amount, "B"), Measure("file_share", 0.5))

    with results() as root:
        assert errors(house, honest(root, change=told(503.0))) == []
        refused(house, honest(root, seed=1, change=told(1.0)), "measures file")


def test_a_closed_run_has_no_more_than_the_parent(tmp_path: Path) -> None:
    house = housed(tmp_path, closed_within={"seen": "seen_parent"})

    def told(seen: float) -> Change:
        return metered(Measure("seen", seen), Measure("seen_parent", 100.0))

    with results() as root:
        assert errors(house, honest(root, change=told(100.0))) == []
        refused(house, honest(root, seed=1, change=told(1000.0)), "measures seen")


def test_what_every_processor_runs_and_what_was_metered_running_is_not_unsupported(tmp_path: Path) -> None:
    house = housed(tmp_path, everywhere=("infer@64/cl",), runs={"infer@64/": "latency"})
    ran = metered(Measure("latency", 0.02, "s", part="bf16@1 median"))

    def lacking(name: str) -> Change:
        return lambda b: b.update(unsupported={name: "no such instructions here"})

    with results() as root:
        assert errors(house, timed(root, blocks(), both(ran, lacking("infer@64/fp16")))) == []
        for name in ("infer@64/bf16", "infer@64/cl"):
            refused(house, timed(root, blocks(), both(ran, lacking(name))), "workload", bundle.TIMING)


# -- cards -----------------------------------------------------------------------------------------------------------


def with_card(house: House, change: Callable[[dict[str, Any]], Any], **record: Any) -> list[Finding]:
    """Findings of a bundle on a card that was changed and named anew."""
    told = {**card().model_dump(), "processor": {"model": "Abacus", "cores": 2}, "software": {"torch": "2.13.0+cpu"}}
    change(told)
    other = system.SystemCard(**told)
    with results() as root:
        system.write_card(other, root / "systems")
        cards = dict.fromkeys(("solve", "weigh"), other.hash)
        return check([honest(root, change=lambda b: b.update(systems=cards, **record))], registry=house)


def test_a_card_tells_what_every_machine_has(tmp_path: Path) -> None:
    house = housed(tmp_path, facts=("processor.cores", "memory.total_gib"))
    assert with_card(house, lambda c: None) == []
    for change in (lambda c: c["processor"].clear(), lambda c: c["memory"].clear()):
        assert {f.field for f in with_card(house, change)} == {"systems.solve", "systems.weigh"}


@pytest.mark.parametrize("cores", [-5, 0, [1, 2], None, True, 2.0, 10**30, "2"])
@pytest.mark.parametrize("name", ["cores", "threads_used"])
def test_a_card_counts_what_it_has(tmp_path: Path, name: str, cores: Any) -> None:
    found = with_card(housed(tmp_path), lambda c: c["processor"].update({name: cores}))
    assert {f.field for f in found if f.level == "error"} == {"systems.solve", "systems.weigh"}


def test_a_card_names_the_versions_of_the_record(tmp_path: Path) -> None:
    house = housed(tmp_path)
    assert with_card(house, lambda c: None, libraries={"torch": "2.13.0", "numpy": "2.0"}) == []
    assert with_card(house, lambda c: None, libraries={"torch": "9.9.9"})[0].field == "systems.solve"


def test_more_processes_than_cores_are_marked(tmp_path: Path) -> None:
    found = with_card(housed(tmp_path), lambda c: None, processes=100_000)
    assert any(f.level == "mark" and "on 2 cores" in f.message for f in found)


# -- columns ---------------------------------------------------------------------------------------------------------


def changed(**columns: np.ndarray) -> dict[str, Any]:
    table = {**evidence(), **columns}
    return {"change": scored(table), "evidence": table}


def test_a_chance_is_below_one_only_of_several(tmp_path: Path) -> None:
    house = housed(tmp_path, ones={"score": "members"})
    sure = {**evidence(), "score": np.ones(240, np.float16)}
    with results() as root:
        assert errors(house, honest(root, change=scored(sure), evidence=sure)) == []
        refused(house, honest(root, seed=1, **changed()), "score", bundle.EVIDENCE)
        several = {**changed(), "change": both(scored(evidence()), metered(Measure("members", 2.0)))}
        assert errors(house, honest(root, seed=2, **several)) == []


def test_columns_are_in_proportion_row_by_row(tmp_path: Path) -> None:
    house = housed(tmp_path, replace(CASE, rows={"prediction/label": (0.0, 2.0)}))
    label = evidence()["label"]
    with results() as root:
        assert errors(house, honest(root, **changed(prediction=2 * label))) == []
        odd = 2 * label
        odd[7] += 1
        refused(house, honest(root, seed=1, **changed(prediction=odd)), "prediction", bundle.EVIDENCE)


def test_the_parents_answers_are_there_of_who_has_a_parent(tmp_path: Path) -> None:
    house = housed(tmp_path, parentless={"prediction": ("net_slim",)})
    none, some = np.full(240, -1, np.int16), evidence()["prediction"].copy()
    some[7] = -1

    def named(method: Change, **columns: np.ndarray) -> dict[str, Any]:
        found = changed(**columns)
        return {**found, "change": both(found["change"], method)}

    def slim(body: Fields) -> None:
        body["method"].update(name="net_slim")

    with results() as root:
        assert errors(house, honest(root, **named(slim, prediction=none))) == []
        assert errors(house, honest(root, seed=1, **named(own, prediction=none))) == []
        refused(house, honest(root, seed=2, **changed(prediction=none)), "prediction", bundle.EVIDENCE)
        refused(house, honest(root, seed=3, **changed(prediction=some)), "prediction", bundle.EVIDENCE)
        refused(house, honest(root, seed=4, **named(slim)), "prediction", bundle.EVIDENCE)


def test_answers_that_are_not_the_parents_of_that_seed_and_machine_are_marked(tmp_path: Path) -> None:
    digest = column_digest(evidence()["prediction"], "int16")
    case = replace(CASE, answers={"prediction": {card().hash: {"0": digest}}})
    house = housed(tmp_path, case, apart={"prediction": ("net_slim",)})
    other = changed(prediction=evidence()["label"])
    with results() as root:
        assert check([honest(root)], registry=house) == []
        (mark,) = check([honest(root, **other)], registry=house)
        assert (mark.level, mark.field) == ("mark", "prediction")
        apart = {**other, "change": both(other["change"], lambda b: b["method"].update(name="net_slim"))}
        assert check([honest(root, **apart)], registry=house) == []
        assert check([honest(root, seed=1)], registry=house) == []  # nobody knows that seed's


# -- jobs ------------------------------------------------------------------------------------------------------------


def booked(tmp_path: Path, *unbooked: str) -> Yard:
    case = rules.CaseRules("small", "dots/net", booked=("step@", "before/"), unbooked=unbooked)
    root = furnished(tmp_path)
    (root / rules.FILE).write_text(rules.describe(rules.TaskRules(("macs",), cases={("small", False, "dots/net"): case})))
    return Yard(root)


def test_examples_spent_are_those_of_the_calls_that_are_timed(tmp_path: Path) -> None:
    def spent(examples: float) -> Change:
        return lambda b: (measure(b, "examples").update(value=examples), b.update(curve=[]))  # type: ignore[func-returns-value]

    house = booked(tmp_path)
    with results() as root:  # 80 steps and 20 calls before them, of 10 items each
        assert errors(house, trained(root, spent(1000.0))) == []
        for examples in (999.0, 1200.0):
            refused(house, trained(root, spent(examples)), "measures examples")
        (mark,) = check([trained(root, both(spent(1200.0), own))], registry=house)
        assert (mark.level, mark.field) == ("mark", "measures examples")
    with results() as root:
        assert errors(booked(tmp_path, "plain "), trained(root, spent(1200.0))) == []


# -- ours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [name for name, ref in registry.tasks().items() if ref.ours])
def test_no_measure_of_committed_evidence_can_be_metered(task: str) -> None:
    found = rules.read(registry.TASKS / task / rules.FILE)
    told = {
        m.name
        for path in bundle.find(registry.HOUSE / "results" / task)
        for m in bundle.read(path).measures
        if m.source == "evidence"
    }
    assert told
    assert told <= set(found.derived)
    assert not set(found.derived) & set(found.meters)


def test_of_a_layer_without_a_zero_all_multiply_adds_are_left() -> None:
    """However many of its few parameters may be biases."""
    (path,) = (p for p in bundle.find(registry.HOUSE / "results/fair_pruning/small/p_and_f") if p.name.startswith("17d9b6eb929f"))
    record = bundle.read(path)
    case = rules.read(registry.TASKS / "fair_pruning" / rules.FILE).of("small", "closed", record.spec.case)
    assert case is not None
    assert all(layer.nonzero == layer.params for layer in record.operations)
    whole = sum(layer.macs for layer in record.operations)
    for share, count in ((1.0, 0), (0.98, 1), (0.9, 1), (1.02, 1)):
        value = {("macs_nonzero", ""): share * whole}
        assert len(list(held._layers("", record, value, case, ("macs_nonzero", "kept.nonzero")))) == count
