"""fair_pruning as a task: what a method is given and may spend, what is examined and scored, what is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reference_impls.fair_pruning.bifp import Bifp
from reference_impls.fair_pruning.dense import Dense
from reference_impls.fair_pruning.magnitude import Magnitude
from reference_impls.parts.fairness import Constraint
from suite import registry
from suite.naming import UserError
from suite.protocol import OverBudget
from tasks.fair_pruning import sets
from tasks.fair_pruning.deploy import deploy, file_bytes, without_dead_units
from tasks.fair_pruning.mixture import Mixture, answers, likeliest, members
from tasks.fair_pruning.problem import FairNetwork, Watch, accuracy_gap
from tasks.images.networks import Mlp
from tests.helpers import MemoryRun
from tests.tasks.fair_pruning.helpers import problem, spec

TASK = registry.task("fair_pruning")


# --- what a method is given


def test_the_dense_stage_and_the_pruning_stage_see_other_rows() -> None:
    p = problem()
    assert not set(p.pretraining.tolist()) & set(p.pruning.tolist())
    assert len(p.pretraining) + len(p.pruning) == p.source.train_count
    x = p.source.examples.x["train"]
    for epoch, rows in ((0, p.pretraining), (p.pretrain_epochs, p.pruning)):
        of_part = {tuple(v) for v in x[rows].tolist()}
        for batch, y in p.batches(epoch):
            assert {tuple(v) for v in batch.tolist()} <= of_part
            assert y.shape == (len(batch), 2)


def test_targets_hold_label_and_group_of_the_very_example() -> None:
    p = problem()
    x, y, group = p.source.examples.x["train"], p.source.examples.y["train"], p.source.columns("train")[p.source.group]
    for rows, batch, both in p.indexed("test", 5):
        assert torch.equal(batch, x[rows])
        assert torch.equal(both[:, 0], y[rows])
        assert both[:, 1].tolist() == group[rows].tolist()
    everyone = list(p.everyone())
    assert torch.equal(torch.cat([b for b, _ in everyone]), x[p.pruning.sort().values])
    assert torch.cat([b for _, b in everyone])[:, 1].tolist() == group[p.pruning.sort().values].tolist()


def test_the_second_pass_has_another_order_of_the_same_rows() -> None:
    p = problem()
    first, second = (torch.cat([x for x, _ in found]) for found in (p.batches(p.pretrain_epochs), p.again(p.pretrain_epochs)))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_seeds_part_the_rows_and_order_them_otherwise_and_methods_do_not() -> None:
    a, b, c = problem(), problem(), problem(seed=1)
    assert torch.equal(a.pruning, b.pruning)
    assert not torch.equal(a.pruning, c.pruning)
    assert torch.equal(next(iter(a.batches(0)))[0], next(iter(b.batches(0)))[0])
    assert not torch.equal(next(iter(a.batches(0)))[0], next(iter(c.batches(0)))[0])


def test_a_closed_run_cannot_see_more_than_a_method_of_two_levels_takes() -> None:
    p = problem()
    for epoch in range(p.epochs):
        for _ in p.batches(epoch):
            pass
    for epoch in range(p.pretrain_epochs, p.epochs):
        for _ in p.again(epoch):
            pass
    for _ in p.everyone():
        pass
    assert p.run.examples == p.budget
    with pytest.raises(OverBudget):
        next(iter(p.batches(0)))
    for _ in p.everyone(booked=False):
        pass


def test_the_speed_division_has_no_batches_and_no_data() -> None:
    p = problem(division="speed", tier="small")
    assert not list(p.batches(0))
    assert not list(p.again(0))
    assert not list(p.everyone())
    found = Bifp().solve(p)
    assert [w.name for w in TASK.workloads(p, found)] == ["infer@1", "infer@256"]
    assert {m.name: m.value for m in TASK.weigh(p, found)}["kept.nonzero"] == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("adult", "write data/architecture"),
        ("adult/resnet20", "is for images"),
        ("adult/cnn-16", "is for images"),
        ("digits/cnn-1-2-3-4", "cannot be halved"),
        ("digits/vgg99", "no architecture"),
        ("nosuch/mlp-8", "nosuch"),
    ],
)
def test_a_case_that_there_is_not_is_one_clear_line(case: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        problem(case=case).model()


def test_a_set_of_the_small_tier_is_none_of_the_paper_tier() -> None:
    with pytest.raises(UserError, match="small tier"):
        TASK.digest(spec(tier="paper"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["digits/cnn-16-32", "digits/cnn-16-32-bn", "clothing_kids/cnn-32-64-128-bn", "clothing_kids/resnet20"]
)
def test_networks_of_pictures_can_lose_filters(case: str) -> None:
    p = problem(case=case, target="filters=0.5")
    model = Magnitude().solve(p).model
    told = {m.name: m.value for m in TASK.weigh(p, FairNetwork(model))}
    assert told["kept.filters"] == pytest.approx(0.5, rel=0.01)
    assert told["kept.macs"] < 0.8


def test_the_faces_networks_are_what_is_said_of_them() -> None:
    from tasks.fair_pruning.networks import build

    for name, low, high in (("resnet10", 4.8e6, 5.0e6), ("mobilenet_v2", 2.1e6, 2.4e6)):
        model = build(name, 2, (3, 64, 64))
        assert low < sum(p.numel() for p in model.parameters()) < high
        assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


# --- how long until it is fair


def test_a_watch_tells_when_a_network_first_was_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem()
    watch = Watch(p, gap=0.10, accuracy=0.85)
    seen = iter([(0.04, 0.80), (0.06, 0.85), (0.05, 0.84), (0.01, 0.90)])
    monkeypatch.setattr(p, "_looked_at", lambda _: next(seen))
    for _ in range(200):
        watch.step(nn.Identity(), 200, gradients=2)
    assert watch.reached["iterations_to_fair"] == 150, "half the gap, a point less accurate: both, for the first time"
    assert watch.reached["gradients_to_fair"] == 300
    again = Watch(p, 0.10, 0.85)
    again.restore(watch.state())
    assert (again.iterations, again.reached) == (200, watch.reached)


def test_a_network_that_is_too_large_yet_is_not_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem()
    watch = Watch(p, 0.10, 0.85)
    monkeypatch.setattr(p, "_looked_at", lambda _: (0.0, 1.0))
    for i in range(100):
        watch.step(nn.Identity(), 100, due=i >= 60)
    assert watch.reached["iterations_to_fair"] == 100


def test_accuracy_gaps_of_groups_that_are_there() -> None:
    hit, group = np.array([1, 1, 0, 1, 0, 0], bool), np.array([0, 0, 0, 2, 2, 2])
    assert accuracy_gap(hit, group) == pytest.approx(1 / 3)
    assert accuracy_gap(hit[:3], group[:3]) == 0.0
    many = np.repeat([0, 1, 2], [40, 40, 5])
    right = np.concatenate([np.ones(40, bool), np.arange(40) < 30, np.zeros(5, bool)])
    assert accuracy_gap(right, many) == pytest.approx(0.25), "five examples decide nothing"


def test_groups_without_names_are_told_by_their_numbers(tmp_path: Path) -> None:
    draw = np.random.Generator(np.random.Philox(5))
    arrays: dict[str, Any] = {"columns": np.array(["region"]), "group": np.array("region")}
    for split, n in (("train", 300), ("test", 90)):
        arrays |= {f"{split}_x": draw.normal(size=(n, 6)).astype(np.float32), f"{split}_y": draw.integers(0, 2, n)}
        arrays |= {f"{split}_region": draw.integers(1, 4, n)}
    np.savez(tmp_path / "mine.npz", **arrays)
    p = problem(case="mine/mlp-16", data=str(tmp_path), division="open", tier="small")
    assert p.groups_named == ("group 0", "group 1", "group 2", "group 3")
    assert Bifp().solve(p).model is not None


def test_rows_are_those_of_the_batches() -> None:
    p = problem()
    x = p.source.examples.x["train"]
    for epoch in (0, p.pretrain_epochs):
        for rows, (batch, _) in zip(p.rows(epoch), p.batches(epoch), strict=True):
            assert torch.equal(batch, x[rows])


def test_a_set_of_faces_is_none_of_the_small_tier() -> None:
    with pytest.raises(UserError, match="paper tier"):
        TASK.digest(spec(tier="small", case="celeba-blond/resnet10"))


def test_half_precision_takes_the_penalty_too() -> None:
    logits = torch.randn(40, 2, dtype=torch.bfloat16, requires_grad=True)
    label, group = torch.arange(40) % 2, torch.arange(40) // 2 % 2
    value = Constraint(1.0, groups=2).of(logits, label, group)
    value.backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


# --- what is scored


def test_a_row_of_evidence_is_an_example_and_the_dense_networks_answer_stands_beside() -> None:
    p = problem()
    found = Magnitude().solve(p)
    evidence = TASK.examine(p, found)
    label, dense, _ = p.predict(found.dense, "test")
    assert evidence["dense"].tolist() == dense.tolist()
    assert evidence["label"].tolist() == label.tolist()
    assert set(evidence["chance"].tolist()) == {1.0}
    told = {(m.name, m.part): m.value for m in TASK.score(p.spec, evidence)}
    for g, name in enumerate(sets.names("adult")):
        of = evidence["group"] == g
        lost = (dense == label)[of].mean() - (evidence["prediction"] == evidence["label"])[of].mean()
        assert told["degradation", name] == pytest.approx(100 * lost)
    alone = TASK.score(p.spec, {**evidence, "dense": np.full(len(label), -1, np.int16)})
    assert not [m for m in alone if m.name.startswith("degradation")]


def test_the_parent_loses_nothing() -> None:
    p = problem()
    found = Dense().solve(p)
    told = {m.name: m.value for m in TASK.score(p.spec, TASK.examine(p, found)) if not m.part}
    assert told["degradation_gap"] == told["degradation_std"] == told["degradation_excess"] == 0.0


@pytest.mark.parametrize(
    ("column", "value"),
    [("chance", np.nan), ("chance", 1.5), ("chance", 0.2), ("confidence", -1.0), ("prediction", -3), ("group", -1)],
)
def test_evidence_that_cannot_be_is_one_clear_line(column: str, value: Any) -> None:
    p = problem()
    evidence = TASK.examine(p, FairNetwork(p.model()))
    evidence[column] = evidence[column].copy()
    evidence[column][0] = value
    with pytest.raises(UserError, match="evidence"):
        TASK.score(p.spec, evidence)


def test_truth_is_what_the_data_dictate() -> None:
    p = problem(case="digits/cnn-16-32", tier="small")
    entry = TASK.truth_of(p.spec)
    assert entry["rows"] == 447
    assert set(entry["columns"]) == {"row", "label", "group"}


def test_a_table_of_ones_own_with_a_rare_positive_class(tmp_path: Path) -> None:
    draw = np.random.Generator(np.random.Philox(5))
    arrays: dict[str, Any] = {
        "columns": np.array(["region"]),
        "group": np.array("region"),
        "region_names": np.array(["a", "b", "c"]),
    }
    for split, n in (("train", 900), ("test", 400)):
        x = draw.normal(size=(n, 6)).astype(np.float32)
        y = (draw.random(n) < 0.02).astype(np.int64)
        y[:2] = 1
        arrays |= {f"{split}_x": x, f"{split}_y": y, f"{split}_region": draw.integers(0, 3, n)}
    # nobody of region c is positive in the test
    arrays["test_y"][arrays["test_region"] == 2] = 0
    arrays["test_y"][:2], arrays["test_region"][:2] = 1, [0, 1]
    np.savez(tmp_path / "mine.npz", **arrays)
    p = problem(case="mine/mlp-16", data=str(tmp_path), division="open", tier="small")
    assert p.groups_named == ("a", "b", "c")
    found = Magnitude().solve(p)
    told = {(m.name, m.part): m for m in TASK.score(p.spec, TASK.examine(p, found))}
    assert ("true_positive_rate", "group 2") not in told, "undefined, not 0"
    assert ("true_positive_rate", "group 0") in told
    assert ("equal_opportunity_gap", "") in told


# --- what is deployed


def sparse(share: float, seed: int = 0) -> Mlp:
    torch.manual_seed(seed)
    model = Mlp(30, [24, 12], 2)
    with torch.no_grad():
        for m in (*model.layers, model.fc):
            m.weight.mul_(torch.rand_like(m.weight) < share)
    return model


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2, 1.0])
def test_a_deployed_perceptron_answers_like_the_one_it_was_made_of(share: float) -> None:
    for seed in range(5):
        model, x = sparse(share, seed), torch.randn(17, 30)
        small = without_dead_units(model)
        torch.testing.assert_close(small(x), model.eval()(x), atol=1e-5, rtol=1e-5)
        call, kernels = deploy(model, x)
        torch.testing.assert_close(call(), model(x), atol=1e-5, rtol=1e-5)
        assert len(kernels) == 3
        if share == 0.0:
            assert [m.weight.shape for m in (*small.layers, small.fc)] == [(1, 30), (1, 1), (2, 1)]


def test_units_that_nothing_enters_leave_their_constant_behind() -> None:
    model = sparse(1.0)
    with torch.no_grad():
        model.layers[0].weight[3] = 0
        model.layers[0].bias[3] = 2.5
    small, x = without_dead_units(model), torch.randn(9, 30)
    assert small.layers[0].weight.shape[0] == 23
    torch.testing.assert_close(small(x), model.eval()(x), atol=1e-5, rtol=1e-5)


def test_a_file_of_few_weights_is_small_and_of_all_is_no_larger() -> None:
    dense, few = (Mlp(107, [128, 64], 2) for _ in range(2))
    with torch.no_grad():
        for m in (*few.layers, few.fc):
            m.weight.mul_(torch.rand_like(m.weight) < 0.02)
    assert file_bytes(few) < 0.1 * file_bytes(dense)
    plain = sum(p.numel() * 4 for p in dense.parameters())
    assert file_bytes(dense) < 1.05 * plain + 2000


def test_of_a_mixture_one_answers_and_all_are_kept() -> None:
    p = problem()
    torch.manual_seed(0)
    networks = [p.model() for _ in range(3)]
    with torch.no_grad():
        networks[1].fc.bias.copy_(torch.tensor([9.0, -9.0]))
        networks[2].fc.bias.copy_(torch.tensor([-9.0, 9.0]))
    mixture = Mixture(networks, [0.2, 0.5, 0.3])
    assert likeliest(mixture) is networks[1]
    assert len(members(mixture)) == 3
    _, prediction, chance, _ = answers(p, mixture)
    first = p.predict(networks[0], "test")[1]
    assert not prediction.any(), "the second member and half of a tie say no"
    np.testing.assert_allclose(chance, np.where(first == 0, 0.7, 0.5), atol=1e-9)
    told = {m.name: m.value for m in TASK.weigh(p, FairNetwork(mixture))}
    assert told["members"] == 3
    assert told["file_share"] == pytest.approx(3, rel=0.02)
    with pytest.raises(ValueError, match="sum to 1"):
        Mixture(networks, [0.5, 0.5, 0.5])


def test_watching_is_nobodys_training_data() -> None:
    """A network is looked at on the test rows off the budget, and its looks leave no trace in the network."""
    p, run = problem(), MemoryRun(spec())
    q = problem(run)
    ours = Magnitude().solve(p).model
    q.watch = lambda dense: None  # type: ignore[method-assign, return-value, assignment]
    theirs = Magnitude().solve(q).model
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize(
    ("case", "column", "answer"),
    [(None, "prediction", 2), (None, "prediction", 32767), (None, "dense", 2), ("mine/mlp-8", "prediction", 32767)],
)
def test_an_answer_that_is_none_of_the_classes_is_refused_and_takes_no_memory(case: str | None, column: str, answer: int) -> None:
    asked = spec() if case is None else spec(case=case, division="open")
    ones = np.arange(40) % 2
    table = {
        "row": np.arange(40),
        "label": ones,
        "group": ones,
        "prediction": ones,
        "dense": ones,
        "chance": np.ones(40),
        "confidence": np.ones(40),
    }
    evidence = {k: v.astype(TASK.columns[k]) for k, v in table.items()}
    assert TASK.score(asked, evidence)
    assert TASK.score(asked, {**evidence, "dense": np.full(40, -1, np.int16)})
    evidence[column][7] = answer
    with pytest.raises(UserError, match="is none of"):
        TASK.score(asked, evidence)


def test_groups_and_classes_without_number_are_refused() -> None:
    table = {k: (np.arange(300) % (250 if k in ("label", "prediction") else 300)).astype(kind) for k, kind in TASK.columns.items()}
    table |= {"chance": np.ones(300, np.float32), "confidence": np.ones(300, np.float16), "dense": np.full(300, -1, np.int16)}
    with pytest.raises(UserError, match="too many groups"):
        TASK.score(spec(case="mine/mlp-8", division="open"), table)
