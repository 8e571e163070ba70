"""A replay asks for the very run of a bundle, and tells agreement from disagreement."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite import bundle, registry, replay, runner, system
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
    assert verdict.same_evidence
    assert [x for x in verdict.lines if not x.agrees and x.how in ("equal", "95 % intervals meet") and "infer" not in x.name] == []
    assert {"top1", "kept.macs", "examples"} <= {x.name for x in verdict.lines}


def test_another_accuracy_does_not_agree(weighed: Weighed, tmp_path: Path) -> None:
    path, _, _ = weighed
    body = bundle.read(path).model_dump(mode="json")
    for m in body["measures"]:
        if m["name"] == "top1":
            m["value"], m["low"], m["high"] = m["value"] + 20, m["low"] + 20, m["high"] + 20
    claimed = bundle.write(tmp_path / "results", bundle.seal(body), {n: path / n for n in body["files"]})
    verdict = replay.compare(claimed, bundle.read(claimed), path)
    assert not verdict.agrees
    assert [x.name for x in verdict.lines if not x.agrees] == ["top1"]


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
