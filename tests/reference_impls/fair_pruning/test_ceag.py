"""CEAG's constraints against the authors' code and against plain loops over examples."""

from __future__ import annotations

from collections import deque
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.fair_pruning.ceag import Balance, Ceag, Memory, ascended, group_means, measures, surrogate, violation
from suite.naming import UserError
from suite.protocol import Stopped
from tests.helpers import MemoryRun, golden_tensors
from tests.tasks.fair_pruning import helpers
from tests.tasks.fair_pruning.helpers import weights_of


def test_violations_and_surrogates_equal_the_golden_vectors() -> None:
    g = golden_tensors("fair_pruning_baselines_ceag")
    there = g["group_indices"]
    missed = violation(g["group_acc"][there], g["baseline_group_acc"][there], g["avg_acc"], g["baseline_avg_acc"], g["tolerance"])
    torch.testing.assert_close(missed, g["violation"], rtol=0, atol=1e-6 * float(g["violation"].abs().max()))
    apart = g["group_gap"] - g["avg_gap"] - g["tolerance"]
    torch.testing.assert_close(missed, apart, rtol=0, atol=1e-6)
    gaps = surrogate(g["group_loss"][there], g["baseline_group_loss"][there], g["avg_loss"], g["baseline_avg_loss"])
    torch.testing.assert_close(gaps, g["surrogate"], rtol=0, atol=1e-6 * float(g["surrogate"].abs().max()))


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize("groups", [2, 4])
def test_the_memory_is_a_ring_a_group(size, groups) -> None:
    torch.manual_seed(size)
    memory = Memory(groups, size)
    rings = [deque(maxlen=size) for _ in range(groups)]
    for _ in range(12):
        values, group = torch.rand(9), torch.randint(0, groups - 1, (9,))  # the last group never comes
        memory.add(values, group)
        for v, g in zip(values, group, strict=True):
            rings[g].append(float(v))
        means, full = memory.means()
        assert full.tolist() == [len(r) == size for r in rings]
        assert means.tolist() == pytest.approx([sum(r) / len(r) if r else 0.0 for r in rings])


def test_multipliers_climb_stay_positive_and_wait_for_full_memories() -> None:
    missed, full = torch.tensor([0.5, -2.0, -0.5, 3.0]), torch.tensor([True, True, True, False])
    start = torch.tensor([0.0, 0.1, 1.0, 0.2])
    assert ascended(start, missed, full, 0.1).tolist() == pytest.approx([0.05, 0.0, 0.95, 0.2])
    assert ascended(start, missed, full, 0.1, equal=True).tolist() == pytest.approx([0.05, -0.1, 0.95, 0.2])


@pytest.mark.parametrize("groups", [2, 5])
def test_measures_of_uneven_batches_are_those_of_single_examples(groups) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).train()
    x, label, group = torch.randn(31, 4), torch.randint(0, 3, (31,)), torch.randint(0, groups - 1, (31,))
    y = torch.stack([label, group], 1)
    got = measures(model, [(x[:20], y[:20]), (x[20:], y[20:])], groups)
    assert model.training
    logits = model.eval()(x).detach()
    for g in range(groups - 1):
        rows = [i for i in range(31) if group[i] == g]
        assert float(got["group_accuracy"][g]) == pytest.approx(sum(int(logits[i].argmax()) == label[i] for i in rows) / len(rows))
        assert float(got["group_loss"][g]) == pytest.approx(
            sum(float(-logits[i].log_softmax(0)[label[i]]) for i in rows) / len(rows), rel=1e-5
        )
    assert float(got["group_accuracy"][-1]) == 0  # nobody
    assert float(got["loss"]) == pytest.approx(float(F.cross_entropy(logits, label)), rel=1e-5)
    assert float(got["accuracy"]) == pytest.approx(float((logits.argmax(1) == label).float().mean()))


def test_means_of_a_batch_without_a_group() -> None:
    means, there = group_means(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([2, 0, 2]), 3)
    assert means.tolist() == [2.0, 0.0, 3.5]
    assert there.tolist() == [True, False, True]


problem = partial(helpers.problem, case="digits/cnn-16-32")


def naive_step(method: Ceag, dense: dict, model: nn.Module, rings: list, multipliers: list[float], x, y):
    """A batch of 2.4, one example after another: multipliers first, then the Lagrangian with them."""
    logits = model(x)
    losses = [F.cross_entropy(logits[i : i + 1], y[i : i + 1, 0]) for i in range(len(y))]
    hits = [float(logits[i].argmax() == y[i, 0]) for i in range(len(y))]
    values = [float(v.detach()) for v in losses] if method.constraint == "loss" else hits
    for i, v in enumerate(values):
        rings[int(y[i, 1])].append(v)
    for g, ring in enumerate(rings):
        if len(ring) < method.memory:
            continue
        mean, overall = sum(ring) / len(ring), sum(values) / len(values)
        if method.constraint == "loss":
            multipliers[g] += method.dual_rate * (mean - overall)
        else:
            lost = float(dense["group_accuracy"][g]) - mean
            allowed = float(dense["accuracy"]) - overall + method.tolerance
            multipliers[g] = max(0.0, multipliers[g] + method.dual_rate * (lost - allowed))
    total = whole = sum(losses) / len(losses)
    for g, m in enumerate(multipliers):
        own = [losses[i] for i in range(len(y)) if y[i, 1] == g]
        if own:
            gap = sum(own) / len(own) - whole
            total = total + m * (gap if method.constraint == "loss" else gap - (dense["group_loss"][g] - dense["loss"]))
    return total


@pytest.mark.parametrize("constraint", ["accuracy", "loss"])
def test_multipliers_and_lagrangian_are_those_of_a_plain_loop(constraint) -> None:
    p = problem()
    method = Ceag(constraint=constraint, dual_rate=0.3, memory=12)
    whole, model = p.model(), p.model()
    nn.init.normal_(model.fc.weight, generator=torch.Generator().manual_seed(1))  # another network than the dense one
    balance = Balance(method, p, whole)
    balance.begin(torch.optim.SGD(model.parameters(), 0.1))
    balance.dense |= {"group_accuracy": torch.tensor([0.8, 0.95]), "accuracy": torch.tensor(0.7)}
    rings, multipliers, moved = [deque(maxlen=12) for _ in range(2)], [0.0, 0.0], 0
    for epoch in (2, 3):
        for x, y in p.batches(epoch):
            x, y = x[:16], y[:16]
            if moved == 1:
                x, y = x[y[:, 1] == 1], y[y[:, 1] == 1]  # a batch without a group
            got = balance.loss(model, x, y)
            expected = naive_step(method, balance.dense, model, rings, multipliers, x, y)
            assert float(got.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
            assert balance.multipliers.tolist() == pytest.approx(multipliers, abs=1e-6)
            for a, b in zip(
                torch.autograd.grad(got, list(model.parameters())),
                torch.autograd.grad(expected, list(model.parameters())),
                strict=True,
            ):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
            moved += 1
    assert any(multipliers)


@pytest.mark.parametrize("constraint", ["accuracy", "loss"])
def test_exactly_the_share_that_is_asked_for_is_left_within_the_budget(constraint) -> None:
    p = problem()
    solution = Ceag(constraint=constraint, memory=10).solve(p)
    assert sum(int((w != 0).sum()) for w in weights_of(solution.model)) == 1060
    assert p.run.examples <= p.budget
    assert set(solution.notes) == {"multiplier_0", "multiplier_1", "slack"}


def test_the_speed_division_prunes_without_a_batch() -> None:
    p = problem(division="speed")
    assert sum(int((w != 0).sum()) for w in weights_of(Ceag().solve(p).model)) == 1060
    assert p.run.examples == 0


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="nonzero=SHARE"):
        Ceag().solve(problem(target="filters=0.5"))
    with pytest.raises(UserError, match="memory"):
        Ceag(memory=0)


@cache
def straight() -> tuple[Any, dict[str, torch.Tensor]]:
    """A solve that nothing stops, one for all that are held against it: its problem, and the network's state."""
    p = problem()
    return p, Ceag(memory=20, dual_rate=1.0).solve(p).model.state_dict()


@pytest.mark.parametrize("moment", [1, 13, 18, 23, 27, 30])
def test_a_stopped_solve_ends_as_if_it_had_not_been(moment) -> None:
    whole, expected = straight()
    run = MemoryRun(whole.spec, stop_after=moment)
    with pytest.raises(Stopped):
        Ceag(memory=20, dual_rate=1.0).solve(problem(run))
    again = MemoryRun(whole.spec, saved=run.saved)
    got = Ceag(memory=20, dual_rate=1.0).solve(problem(again)).model.state_dict()
    assert all(torch.equal(got[k], v) for k, v in expected.items())
    assert again.examples == whole.run.examples
