"""A replay asks for the very run of a bundle, and tells agreement from disagreement."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from suite import bundle, confirming, registry, replay, runner, system
from suite.forkserver import ForkServer
from suite.naming import UserError
from suite.order import Order
from tests.helpers import method_file
from tests.suite.conftest import CARD, settings, silent
from tests.tasks.fair_pruning.helpers import spec as fair_spec

Weighed = tuple[Path, runner.Settings, Order]


def test_the_order_is_the_bundles_own(weighed: Weighed) -> None:
    path, _, order = weighed
    again, record = replay.order_of(path)
    assert again == order
    assert again.key(record.systems) == record.key


def test_threads_come_from_the_card_of_the_solve(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed
    three = system.card(threads=CARD.processor["threads_used"] + 1)
    system.write_card(three, tmp_path / "systems")
    body = bundle.read(path).model_dump(mode="json")
    body["systems"]["solve"] = three.hash
    copy = bundle.write(tmp_path, bundle.seal(body), {n: path / n for n in body["files"]})
    assert replay.order_of(copy)[0].threads == three.processor["threads_used"]
    card = tmp_path / "systems" / f"{three.hash}.json"
    card.write_text(card.read_text().replace('"architecture"', '"architect"'))
    with pytest.raises(UserError, match="never edited"):
        replay.order_of(copy)


def test_a_replay_gives_equal_evidence(weighed: Weighed, server: ForkServer, tmp_path: Path) -> None:
    path, _, _ = weighed
    order, record = replay.order_of(path)

    def launch(arguments: list[str], log: Path) -> runner.Child:
        """The solve, which is to repeat, in an interpreter of its own, as the bundle's was."""
        return (runner.launch if arguments[0] == "solve" else server.launch)(arguments, log)

    outcome = runner.run(order, settings(tmp_path, launch=launch), CARD, silent)
    verdict = replay.compare(path, record, outcome.path)
    assert verdict.same_card
    assert (verdict.evidence, verdict.counts) == ("equal", "agrees")
    assert [x for x in verdict.lines if x.agrees is False and x.kind != "timings"] == []
    assert {"top1", "kept.macs", "examples"} <= {x.name for x in verdict.lines if x.agrees}


def test_another_accuracy_does_not_agree(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed
    body = bundle.read(path).model_dump(mode="json")
    for m in body["measures"]:
        if m["name"] == "top1":
            m["value"], m["low"], m["high"] = m["value"] + 20, m["low"] + 20, m["high"] + 20
    claimed = bundle.write(tmp_path / "results", bundle.seal(body), {n: path / n for n in body["files"]})
    verdict = replay.compare(claimed, bundle.read(claimed), path)
    assert not verdict.agrees
    assert [x.name for x in verdict.lines if x.agrees is False] == ["top1"]


def changed(
    path: Path, root: Path, change: Callable[[dict[str, Any]], object], evidence: Callable[[dict[str, Any]], object] | None = None
) -> Path:
    """A bundle with another record, and with other evidence."""
    body = bundle.read(path).model_dump(mode="json")
    files = {n: path / n for n in body["files"]}
    if evidence:
        table = {k: v.copy() for k, v in bundle.read_table(path / bundle.EVIDENCE).items()}
        evidence(table)
        files[bundle.EVIDENCE] = root / bundle.EVIDENCE
        root.mkdir(parents=True, exist_ok=True)
        bundle.write_table(table, files[bundle.EVIDENCE])
        body["files"][bundle.EVIDENCE] = bundle.describe(files[bundle.EVIDENCE]).model_dump()
    change(body)
    return bundle.write(root, bundle.seal(body), files)


def value(body: dict[str, Any], name: str) -> dict[str, Any]:
    return next(m for m in body["measures"] if m["name"] == name)


def test_ten_answers_put_right_do_not_agree_on_the_same_machine(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed

    def better(table: dict[str, Any]) -> None:
        wrong = np.flatnonzero(table["prediction"] != table["label"])[:10]
        table["prediction"][wrong] = table["label"][wrong]

    claimed = changed(path, tmp_path, lambda b: value(b, "top1").update(value=value(b, "top1")["value"] + 10 / 2.56), better)
    verdict = replay.compare(claimed, bundle.read(claimed), path)
    assert verdict.evidence == "differs"
    assert verdict.counts == "agrees"
    assert not verdict.agrees


def test_evidence_that_is_packed_otherwise_is_equal(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed

    def again(body: dict[str, Any]) -> None:
        parquet.write_table(parquet.read_table(path / bundle.EVIDENCE), tmp_path / "e", compression="NONE")
        body["files"][bundle.EVIDENCE] = bundle.describe(tmp_path / "e").model_dump()

    body = bundle.read(path).model_dump(mode="json")
    again(body)
    files = {n: path / n for n in body["files"]} | {bundle.EVIDENCE: tmp_path / "e"}
    other = bundle.write(tmp_path / "r", bundle.seal(body), files)
    assert replay.compare(other, bundle.read(other), path).evidence == "equal"


def test_another_machine_is_held_to_intervals_and_not_to_its_speed(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed
    elsewhere = dict.fromkeys(("solve", "weigh"), "ab" * 8)

    def slower(body: dict[str, Any]) -> None:
        body["systems"] = elsewhere
        for m in body["measures"]:
            if m["source"] == "timing":
                m.update({k: m[k] and 3 * m[k] for k in ("value", "low", "high")})

    other = changed(path, tmp_path, slower, lambda t: t["confidence"].__setitem__(0, 0.5))
    verdict = replay.compare(path, bundle.read(path), other)
    assert (verdict.same_card, verdict.evidence, verdict.counts, verdict.timings) == (False, "agrees", "agrees", "not judged")
    assert verdict.agrees


def test_a_busy_machine_does_not_make_an_honest_row_disagree(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed

    def busy(body: dict[str, Any]) -> None:
        for m in body["measures"]:
            if m["source"] == "timing":
                m.update(
                    {k: m[k] and 3 * m[k] for k in ("value", "low", "high")}, warnings=["busy: other processes used 1.9 cores"]
                )

    verdict = replay.compare(path, bundle.read(path), changed(path, tmp_path, busy))
    assert (verdict.evidence, verdict.timings, verdict.agrees) == ("equal", "not judged", True)


def test_what_the_bundle_lacks_is_told(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed
    short = changed(path, tmp_path, lambda b: b.update(measures=[m for m in b["measures"] if m["name"] != "macs_parent"]))
    verdict = replay.compare(short, bundle.read(short), path)
    assert [(x.name, x.bundle, x.how) for x in verdict.lines if x.agrees is False] == [("macs_parent", None, "the bundle lacks it")]
    assert verdict.counts == "differs"


# -- confirmations ---------------------------------------------------------------------------------------------------


def test_somebody_elses_replay_is_a_confirmation(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed
    record = bundle.read(path)
    told = replay.confirmation(replay.compare(path, record, path), record, "Other Lab")
    assert told.agrees
    file = confirming.write(tmp_path, told)
    assert confirming.read(file) == told
    assert list(confirming.read_all(tmp_path)) == [told]
    with pytest.raises(UserError, match="stands already"):
        confirming.write(tmp_path, told)


@pytest.mark.parametrize(("name", "said"), [("", "names who ran it"), ("<b>", "letters"), ("Some Lab", "somebody else")])
def test_nobody_confirms_himself(weighed: Weighed, tmp_path: Path, name: str, said: str) -> None:
    mine = bundle.read(changed(weighed[0], tmp_path, lambda b: b.update(submitter="Some Lab")))
    with pytest.raises(UserError, match=said):
        replay.may_confirm(mine, name)


@pytest.mark.parametrize(
    "change", [{"run": "x"}, {"created": "2026-13-01T00:00:00Z"}, {"evidence": "fine"}, {"surplus": 1}, {"submitter": "<b>"}]
)
def test_a_confirmation_that_is_none_is_refused(weighed: Weighed, tmp_path: Path, change: dict[str, object]) -> None:
    record = bundle.read(weighed[0])
    file = confirming.write(tmp_path, replay.confirmation(replay.compare(weighed[0], record, weighed[0]), record, "Other Lab"))
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=str(next(iter(change)))):
        confirming.read(file)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {"version": "0" * 64}}, "the source of uniform_scratch is not the bundle's"),
        ({"spec": {"version": 99}}, "check out commit"),
        ({"data": "0" * 64}, "--data"),
        ({"method": {"origin": "file", "name": "mine@00000000"}}, "--method"),
    ],
)
def test_what_is_not_at_hand_is_asked_for(weighed: Weighed, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    body = bundle.read(weighed[0]).model_dump(mode="json")
    for name, value in changes.items():
        body[name] = {**body[name], **value} if isinstance(value, dict) else value
    path = bundle.write(tmp_path / "results", bundle.seal(body), {n: weighed[0] / n for n in body["files"]})
    with pytest.raises(UserError, match=said):
        replay.order_of(path)


@pytest.mark.slow
def test_somebodys_own_method_is_replayed_from_its_file(tmp_path: Path) -> None:
    # of the task whose rows are weighed soonest: one small network, one workload
    mine = method_file(tmp_path, "from tasks.fair_pruning.problem import FairNetwork\nreturn FairNetwork(problem.model())")
    outcome = runner.run(runner.make_order(fair_spec(), mine, []), settings(tmp_path), CARD, silent)
    assert outcome.status == "ok", outcome.reason
    order, record = replay.order_of(outcome.path, method=mine)
    assert order.key(record.systems) == record.key


def test_a_row_of_processes_that_shared_nothing_is_not_replayed(
    weighed: Weighed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bundle.read(weighed[0]).model_dump(mode="json")
    path = bundle.write(tmp_path / "results", bundle.seal({**body, "processes": 2}), {n: weighed[0] / n for n in body["files"]})
    assert replay.order_of(path)[0].processes == 2
    monkeypatch.setattr(type(registry.task("image_pruning")), "shares_batches", False)
    with pytest.raises(UserError, match="image_pruning does not share its batches: 2 processes"):
        replay.order_of(path)
