"""Ranks that cannot be bought: target, variant, key, date, budget, parent, seeds, workloads and the end of a comparison.

Each test is a submission that was accepted once, its hashes, id and derived measures computed anew.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from suite import bundle, rules, system, versions
from suite.check import check
from suite.checks import identity
from suite.meters import timing
from suite.naming import UserError, check_submitter
from suite.protocol import Measure, Spec
from suite.truth import column_digest
from tests.suite.checks.forger import (
    ROWS,
    Dots,
    Fields,
    House,
    blocks,
    card,
    errors,
    evidence,
    fields,
    furnished,
    honest,
    key_of,
    measure,
    refused,
    results,
    seal,
    stored,
)

CASE = rules.CaseRules(
    "small",
    "dots/net",
    examples={"any": 9000, "plain": 6000},
    parent={"macs_parent": 1000.0},
    weights=160,
    workloads={"infer@1": 1, "infer@64": 64, "infer@64/*": 64},
    timed=("infer@1", "infer@64"),
    told=("infer@1", "infer@64"),
)
NEEDED = ("examples", "macs", "macs_parent", "kept.macs")
CASES = {("small", False, "dots/net"): CASE, ("smoke", False, "dots/tiny"): rules.CaseRules("smoke", "dots/tiny")}
RULES = rules.TaskRules(("macs",), NEEDED, "macs_nonzero", "kept.nonzero", cases=CASES)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = furnished(tmp_path_factory.mktemp("ruled"))
    (root / rules.FILE).write_text(rules.describe(RULES), encoding="utf-8")
    return House(root)


def timed(root: Path, table: dict[str, np.ndarray], change: Callable[[Fields], Any] | None = None) -> Path:
    """A bundle with these times, and measures derived of them."""
    tables: dict[str, Any] = {bundle.EVIDENCE: evidence(), bundle.TIMING: table}
    body = fields(0, tables, card().hash)
    if change:
        change(body)
    return seal(root, body, tables)


def test_an_honest_bundle_holds_to_the_rules(house: House) -> None:
    with results() as root:
        assert check([honest(root)], registry=house) == []

        def slim(body: Fields) -> None:
            body["method"].update(name="net_slim")
            measure(body, "examples").update(value=9000)

        assert errors(house, honest(root, seed=1, change=slim)) == []


@pytest.mark.parametrize(
    "target", ["0", "macs=0", "macs=nan", "macs=inf", "macs=0.50", "macs=.5", "macs=abc", "macs=", "macs=0.5,macs=0.5", "macs=1.5"]
)
def test_a_target_is_a_share_written_in_one_way(house: House, target: str) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b["spec"].update(target=target)), "spec.target")


def test_a_target_names_what_the_task_removes(house: House) -> None:
    with results() as root:
        (found, *_) = refused(house, honest(root, change=lambda b: b["spec"].update(target="luck=0.5")), "spec.target")
        assert "there are: macs" in found.mend


@pytest.mark.parametrize("case", ["dots/other", "dots/net-2", "dots/tiny"])
def test_a_closed_case_is_one_of_the_tier(house: House, case: str) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b["spec"].update(case=case)), "spec.case")


@pytest.mark.parametrize("examples", [6001.0, 18_000.0])
def test_no_more_examples_than_the_budget(house: House, examples: float) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: measure(b, "examples").update(value=examples)), "measures examples")


def test_the_parent_is_not_made_larger(house: House) -> None:
    def doubled(body: Fields) -> None:
        measure(body, "macs_parent").update(value=2000.0)
        measure(body, "kept.macs").update(value=0.25)

    with results() as root:
        refused(house, honest(root, change=doubled), "measures macs_parent")

        def near(body: Fields) -> None:
            measure(body, "macs_parent").update(value=1000.02)
            measure(body, "kept.macs").update(value=500 / 1000.02)

        assert errors(house, honest(root, seed=1, change=near)) == []


@pytest.mark.parametrize("name", ["macs_parent", "kept.macs", "examples"])
def test_what_every_run_has_is_there(house: House, name: str) -> None:
    def without(body: Fields) -> None:
        body["measures"] = [m for m in body["measures"] if m["name"] != name]

    with results() as root:
        refused(house, honest(root, change=without), f"measures {name}")


def test_operations_are_told_where_multiply_adds_are(house: House) -> None:
    with results() as root:
        found = refused(house, honest(root, change=lambda b: b.update(operations=[])), "operations")
        assert any(f.field == "operations" for f in found)


def sparse(share: float, told: float, kept: float) -> Callable[[Fields], None]:
    """Two linear layers with biases of which a share of the weights is left, and what the bundle makes of it."""

    def change(body: Fields) -> None:
        layers = [
            {"name": f"fc{i}", "kind": "Linear", "macs": 80.0, "params": 88, "nonzero": round(80 * share) + 8} for i in range(2)
        ]
        body["operations"] = layers
        for name, value in (("macs", 160.0), ("params", 176.0), ("nonzero", 2 * (80 * share + 8)), ("kept.macs", 0.16)):
            measure(body, name).update(value=value)
        body["measures"] += [
            stored(Measure("macs_nonzero", told, "", "down", source="meter")),
            stored(Measure("kept.nonzero", kept, "", "down", source="meter")),
        ]

    return change


def test_what_no_mask_zeroes_is_the_sum_over_the_layers(house: House) -> None:
    with results() as root:
        assert errors(house, honest(root, change=sparse(0.5, 80.0, 0.5))) == []
        refused(house, honest(root, seed=1, change=sparse(0.5, 40.0, 0.5)), "measures macs_nonzero")
        refused(house, honest(root, seed=2, change=sparse(0.5, 80.0, 0.25)), "measures kept.nonzero")


def test_a_layer_stands_once(house: House) -> None:
    def twice(body: Fields) -> None:
        body["operations"][1]["name"] = body["operations"][0]["name"]

    with results() as root:
        refused(house, honest(root, change=twice), "operations")


@pytest.mark.parametrize(
    ("configuration", "variant", "holds"),
    [
        ({"rate": 0.1}, "", True),
        ({"rate": 0.2}, "rate=0.2", True),
        ({"rate": 0.2}, "", False),
        ({"rate": 0.1}, "rate=0.1", False),
        ({"rate": 0.2}, "rate=0.3", False),
        ({"rate": 0.1, "luck": 3}, "", False),
        ({}, "", False),
        ({"rate": 1}, "rate=1", False),
        ({"rate": True}, "rate=True", False),
        ({"rate": "0.2"}, "rate=0.2", False),
        ({"rate": None}, "rate=None", False),
        ({"rate": [1, [2]]}, "rate=[1, [2]]", False),
    ],
)
def test_the_variant_is_what_the_settings_come_to(house: House, configuration: dict[str, Any], variant: str, holds: bool) -> None:
    with results() as root:
        path = honest(root, change=lambda b: b["method"].update(configuration=configuration, variant=variant))
        found = errors(house, path)
        assert (found == []) == holds, [f.line() for f in found]


def test_a_key_is_that_of_what_was_asked(house: House) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(key="0" * 64)), "key")
        other = key_of(fields(7, {}, card().hash))
        refused(house, honest(root, seed=1, change=lambda b: b.update(key=other)), "key")


def test_a_setting_that_came_later_is_the_default_in_older_bundles(tmp_path: Path) -> None:
    older, house = "ef56" * 16, House(furnished(tmp_path))
    entry = f'digest = "{older}"\nversion = 1\nproved = "0000000"\n'
    (tmp_path / versions.TABLE).write_text(f"[[method]]\nname = 'plain'\n{entry}")
    with results() as root:
        path = honest(root, change=lambda b: b["method"].update(configuration={}, version=older))
        assert errors(house, path) == []


@pytest.mark.parametrize(
    ("value", "default", "values", "holds"),
    [
        (0.5, None, "float | None", True),
        (None, None, "float | None", True),
        (1, None, "float | None", False),
        ("0.5", None, "float | None", False),
        ([0.5, 1.0], [0.1], "tuple[float, ...]", True),
        ([1], [0.1], "tuple[float, ...]", False),
        ("b", "a", "a, b", True),
        ("c", "a", "a, b", False),
        (1, 0, "0, 1", True),
        (1.0, 0, "0, 1", False),
        (3, 0.5, "int | float", True),
        ({"a": 1}, None, "Anything", False),
    ],
)
def test_a_setting_is_of_its_fields_type(value: Any, default: Any, values: str, holds: bool) -> None:
    assert identity.typed(value, default, values) == holds


DAYS = ("2999-01-01", "2026-13-01", "2026-02-30", "٢٠٢٦-01-01", "0001-01-01", "1970-01-01", "2019-05-05", "2026-11-23")


@pytest.mark.parametrize("created", [f"{day}T00:00:00Z" for day in DAYS])
def test_a_date_is_a_day_that_has_been(house: House, created: str) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(created=created)), "created")


@pytest.mark.parametrize("seed", [2**63, 2**70])
def test_a_seed_is_a_number_of_63_bits(house: House, seed: int) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b["spec"].update(seed=seed)), "spec.seed")


OTHER = card(16.0)  #: of another machine


def better(seed: int = 0) -> dict[str, np.ndarray]:
    """The evidence of a seed with some answers put right."""
    table = evidence(seed)
    return {**table, "prediction": np.where(np.arange(ROWS) < 60, table["label"], table["prediction"]).astype(np.int16)}


def scored(table: dict[str, np.ndarray], **changed: Any) -> Callable[[Fields], None]:
    def change(body: Fields) -> None:
        ours = {m.name: stored(m) for m in Dots().score(Spec(**body["spec"]), table)}
        body["measures"] = [ours.get(m["name"], m) for m in body["measures"]]
        body.update(changed)

    return change


def test_nobody_comes_before_who_stands_there(house: House) -> None:
    elsewhere = dict.fromkeys(("solve", "weigh"), OTHER.hash)
    with results() as base, results() as root:
        honest(base)
        system.write_card(OTHER, root / "systems")
        early = scored(better(), created="2026-11-24T00:00:00Z", systems=elsewhere)
        path = honest(root, change=early, evidence=better())
        assert errors(house, path) == []  # by itself it holds
        assert [f.field for f in errors(house, path, against=base)] == ["created"]
        late = scored(better(), created="2026-11-26T00:00:00Z", systems=elsewhere)
        assert errors(house, honest(root, change=late, evidence=better()), against=base) == []


def test_one_machine_gives_one_answer_to_one_question(house: House) -> None:
    with results() as base, results() as root:
        honest(base)
        path = honest(root, change=scored(better(), created="2026-11-26T00:00:00Z"), evidence=better())
        assert [f.field for f in errors(house, path, against=base)] == ["evidence"]


def packed(table: dict[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table(table), out, compression="NONE", store_schema=False, use_dictionary=False)
    return out.getvalue()


def test_the_same_evidence_packed_anew_is_no_other_seed(house: House, tmp_path: Path) -> None:
    file = tmp_path / bundle.EVIDENCE
    file.write_bytes(packed(evidence(0)))
    with results() as root:
        honest(root, seed=0)
        honest(root, seed=1, change=scored(evidence(0)), evidence=file)
        assert [(f.file, f.field) for f in errors(house, root)] == [(bundle.EVIDENCE, "row")]


def test_nearly_the_same_answers_of_two_seeds_are_marked(house: House) -> None:
    table = evidence(0)
    table["score"][7] = np.float16(0.123)
    with results() as root:
        honest(root, seed=0)
        honest(root, seed=1, change=scored(table), evidence=table)
        (mark,) = check([root], registry=house)
        assert (mark.level, mark.field) == ("mark", "row")
        assert "99.6 %" in mark.message


def nudged(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same, every figure its next neighbour."""
    return {**table, "score": np.nextafter(table["score"], np.float16(2))}


def test_a_seed_is_no_other_one_but_for_last_digits(house: House) -> None:
    near = nudged({**evidence(0), "score": np.maximum(evidence(0)["score"], np.float16(0.5))})
    base = {**near, "score": np.nextafter(near["score"], np.float16(0))}
    with results() as root, results() as other:
        honest(root, seed=0, change=scored(base), evidence=base)
        path = honest(other, seed=1, change=scored(near), evidence=near)
        (found,) = errors(house, path, against=root)
        assert (found.file, found.field) == (bundle.EVIDENCE, "row")
        assert "last digits" in found.message


def test_equal_answers_of_two_seeds_are_marked_whatever_their_figures(house: House) -> None:
    table = {**evidence(0), "score": evidence(5)["score"]}
    with results() as root:
        honest(root, seed=0)
        honest(root, seed=1, change=scored(table), evidence=table)
        (mark,) = check([root], registry=house)
        assert (mark.level, mark.field) == ("mark", "row")
        assert "100.0 %" in mark.message


def test_networks_that_say_one_thing_of_all_are_not_taken_for_copies(house: House) -> None:
    def constant(seed: int) -> dict[str, np.ndarray]:
        return {**evidence(seed), "prediction": np.ones(ROWS, np.int16), "score": np.full(ROWS, 1 - seed / 2048, np.float16)}

    with results() as root:
        for seed in (0, 1):
            honest(root, seed=seed, change=scored(constant(seed)), evidence=constant(seed))
        assert errors(house, root) == []


def as_another(**method: Any) -> Callable[[Fields], None]:
    return lambda body: (scored(evidence(0))(body), body["method"].update(method))  # type: ignore[func-returns-value, return-value]


def test_evidence_belongs_to_one_row(house: House) -> None:
    """The setting is another one's, and so is the name: what stands already is told of, whichever seed it says."""
    for seed in (0, 1):
        with results() as root, results() as other:
            honest(root)
            set_ = as_another(configuration={"rate": 0.2}, variant="rate=0.2")
            (found,) = errors(house, honest(other, seed, set_, evidence=evidence(0)), against=root)
            assert (found.level, found.field) == ("error", "row")
            assert "the same evidence as plain" in found.message


@pytest.mark.parametrize("method", [{"name": "net_slim"}, {"name": "mine@ab12ab12ab12", "origin": "file"}])
@pytest.mark.parametrize("table", [evidence(0), nudged(evidence(0))], ids=["equal", "near"])
def test_evidence_of_another_method_is_marked(house: House, method: dict[str, Any], table: dict[str, np.ndarray]) -> None:
    with results() as root, results() as other:
        honest(root)
        path = honest(other, change=lambda b: (scored(table)(b), b["method"].update(method)), evidence=table)  # type: ignore[func-returns-value]
        (mark,) = check([path], against=root, registry=house)
        assert (mark.level, mark.field) == ("mark", "row")
        assert "as plain" in mark.message


def test_two_methods_of_ours_with_their_own_turned_off_may_be_one(house: House) -> None:
    with results() as root:
        for name in ("plain", "net_slim"):
            honest(root, change=as_another(name=name, configuration={"rate": 0.2}, variant="rate=0.2"))
        assert check([root], registry=house) == []


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "tpu", "meta", "Cpu", "CPU", "cpu:0", "cuda:-1", "cuda:01"])
def test_a_device_is_one_that_runs_compute_on_and_the_card_names_it(house: House, device: str) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b["spec"].update(device=device)), "spec.device")


def test_a_card_names_a_gpu_where_one_computed(house: House) -> None:
    gpu = card(64.0, {"name": "Loom", "memory_gib": 16.0})
    with results() as root:
        system.write_card(gpu, root / "systems")
        path = honest(root, change=lambda b: b["systems"].update(weigh=gpu.hash))
        refused(house, path, "spec.device")
        for seed, device in ((1, "cuda"), (2, "cuda:3")):  # solved by a processor, weighed by a GPU
            path = honest(root, seed, lambda b, d=device: (b["systems"].update(weigh=gpu.hash), b["spec"].update(device=d)))  # type: ignore[misc]
            assert errors(house, path) == []


@pytest.mark.parametrize("name", [" ", "...", "-", "\u3164", "\uffa0", "a\u3164", " Lab", "Lab ", "Lab  A", "\u2800x"])
def test_who_submits_is_somebody_who_can_be_read(house: House, name: str) -> None:
    with results() as root:
        refused(house, honest(root, change=lambda b: b.update(submitter=name)))
    with pytest.raises(UserError, match="submitter"):
        check_submitter(name)


def test_a_cell_that_asks_for_all_memory_is_a_finding(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(self: Dots, spec: Spec, evidence: Any) -> Any:
        return np.zeros((2**46, 2**10))

    monkeypatch.setattr(Dots, "score", greedy)
    with results() as root:
        (found,) = errors(house, honest(root))
        assert (found.file, found.field) == (bundle.EVIDENCE, "rows")
    for raised in (MemoryError(), RecursionError()):
        monkeypatch.setattr("suite.checks.numbers.possible", lambda *_, e=raised: (_ for _ in ()).throw(e))
        with results() as root:
            (found,) = errors(house, honest(root))
            assert (found.file, found.field) == (".", "files")


def test_a_method_of_ones_own_cannot_do_without_seeds(house: House) -> None:
    def own(body: Fields) -> None:
        body["method"].update(name="mine@ab12ab12ab12", origin="file", seedless=True)

    with results() as root:
        marks = check([honest(root, change=own)], registry=house)
        assert [(m.level, m.field) for m in marks] == [("mark", "method.seedless")]


def test_seeds_of_one_row_have_seen_about_the_same(house: House) -> None:
    with results() as root:
        honest(root, seed=0)
        honest(root, seed=1, change=lambda b: (measure(b, "examples").update(value=2000.0), b.update(curve=[])))  # type: ignore[func-returns-value]
        assert [f.field for f in errors(house, root)] == ["measures examples"]


def test_columns_that_a_case_dictates_are_the_cases(tmp_path: Path) -> None:
    root = furnished(tmp_path)
    score = evidence()["score"]
    told = {"score": column_digest(score, "float16")}
    case = rules.CaseRules("small", "dots/net", columns=told, totals={"prediction": float(evidence()["prediction"].sum())})
    (root / rules.FILE).write_text(rules.describe(rules.TaskRules(("macs",), cases={("small", False, "dots/net"): case})))
    house = House(root)
    with results() as out:
        assert errors(house, honest(out)) == []
        other = {**evidence(), "score": np.roll(score, 1)}
        refused(house, honest(out, seed=1, change=scored(other), evidence=other), "score", bundle.EVIDENCE)
        twice = {**evidence(), "prediction": np.zeros(ROWS, np.int16)}
        refused(house, honest(out, seed=2, change=scored(twice), evidence=twice), "prediction", bundle.EVIDENCE)


# -- timings ---------------------------------------------------------------------------------------------------------


def noisy(
    quads: int, spread: float = 0.05, names: tuple[tuple[str, int], ...] = (("infer@1", 1), ("infer@64", 64))
) -> dict[str, np.ndarray]:
    """Blocks of which no ten quads tell the ratio to 1 %."""
    draw = np.random.Generator(np.random.Philox(3))
    rows = [
        timing.Block(n, side, q, 4 * q + i, 50, 0.06 * float(np.exp(draw.normal(0, spread))), items, 0.0, False)
        for n, items in names
        for q in range(quads)
        for i, side in enumerate(timing.ORDER)
    ]
    return timing.to_table(rows)


def only(table: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {k: v[table["workload"] == name] for k, v in table.items()}


def joined(*tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: np.concatenate([t[k] for t in tables]) for k in tables[0]}


def test_a_comparison_lasts_until_it_is_known_or_its_cap_is_reached(house: House) -> None:
    whole = noisy(56)
    seconds = [float(only(whole, n)["seconds"].sum()) for n in ("infer@1", "infer@64")]
    assert min(seconds) > timing.CAP_SECONDS
    with results() as root:
        assert errors(house, timed(root, whole)) == []
        part = {k: v[whole["quad"] < 10] for k, v in whole.items()}
        refused(house, timed(root, part), "workload", bundle.TIMING)


def test_the_best_third_of_the_quads_is_no_comparison(house: House) -> None:
    whole = noisy(56)
    chosen = []
    for name in ("infer@1", "infer@64"):
        table = only(whole, name)
        best = np.sort(np.argsort(-timing.quad_ratios(table))[: 56 // 3])
        rows = (4 * best[:, None] + np.arange(4)).ravel()
        cut = {k: v[rows] for k, v in table.items()}
        cut["quad"] = (np.arange(len(rows)) // 4).astype(np.int32)
        cut["index"] = np.arange(len(rows)).astype(np.int32)
        chosen.append(cut)
    table = joined(*chosen)
    assert all(math.isfinite(m.value) for m in timing.derive(table))
    with results() as root:
        refused(house, timed(root, table), "workload", bundle.TIMING)


def test_nobody_goes_on_until_the_numbers_are_better(house: House) -> None:
    with results() as root:
        found = refused(house, timed(root, blocks(quads=20)), "workload", bundle.TIMING)
        assert "goes on to 20" in found[0].message


def test_blocks_of_one_side_last_as_long(house: House) -> None:
    times = blocks()
    times["seconds"] = np.where(times["side"] == "candidate", times["seconds"] * 1e-2, times["seconds"] * 10)
    with results() as root:
        refused(house, timed(root, times), "seconds", bundle.TIMING)


def test_workloads_are_the_tasks_of_as_many_items(house: House) -> None:
    times = blocks()
    with results() as root:
        hundred = {**times, "items": np.where(times["workload"] == "infer@64", 6400, times["items"]).astype(np.int32)}
        refused(house, timed(root, hundred), "workload", bundle.TIMING)
        refused(house, timed(root, only(times, "infer@1")), "workload", bundle.TIMING)
        lacking = timed(root, only(times, "infer@1"), lambda b: b.update(unsupported={"infer@64": "no"}))
        refused(house, lacking, "workload", bundle.TIMING)
        invented = joined(times, *({**only(times, "infer@1"), "workload": np.array(["extra@1"] * 40, object)} for _ in range(1)))
        refused(house, timed(root, invented), "workload", bundle.TIMING)
