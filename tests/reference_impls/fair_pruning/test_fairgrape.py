"""FairGRAPE against the authors' code and against a plain reading of the paper."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.fair_pruning.fairgrape import FairGrape, Tightening, greedy, importance, importance_as_run, left, rates, select
from reference_impls.parts.sparse import alive, weighted
from suite.naming import UserError
from suite.protocol import Stopped
from tests.helpers import MemoryRun, golden, golden_tensors
from tests.tasks.fair_pruning import helpers
from tests.tasks.fair_pruning.helpers import weights_of

LAYERS = ("conv", "fc1", "fc2")


class Small(nn.Module):
    """The network of the golden vectors."""

    def __init__(self, channels: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(channels, channels), nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(F.relu(self.conv(x)).mean((2, 3)))))


@pytest.fixture
def saved() -> dict:
    return golden_tensors("fair_pruning_baselines_fairgrape")


@pytest.fixture
def network(saved) -> nn.Module:
    model = Small()
    model.load_state_dict({k[2:]: v for k, v in saved.items() if k.startswith("w_")})
    return model


def batches_of(saved: dict) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(x, torch.stack([y, s], 1)) for x, y, s in zip(saved["x"], saved["y"], saved["s"], strict=True)]


def test_importance_equals_the_golden_vectors(saved, network) -> None:
    got = importance(network, weighted(network), batches_of(saved), 2)
    for n in LAYERS:
        assert (got[n] - saved[f"impClean_{n}"]).abs().max() <= 1e-6 * saved[f"impClean_{n}"].max()


def test_importance_as_run_equals_the_authors(saved, network) -> None:
    before = {k: v.clone() for k, v in network.state_dict().items()}
    got, after = importance_as_run(network, batches_of(saved), 2)
    for n in LAYERS:
        assert (got[n] - saved[f"impA_{n}"]).abs().max() <= 1e-5 * saved[f"impA_{n}"].max()
    torch.testing.assert_close(after.conv.weight.detach(), saved["weights_after_importance_conv"], rtol=0, atol=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("delta_p", [0, 1, 2])
@pytest.mark.parametrize("rate", [0, 1, 2])
def test_masks_equal_the_authors_bit_for_bit(saved, network, delta_p, rate) -> None:
    given = {n: saved[f"imp_{n}"] for n in LAYERS}
    weights = {n: m.weight for n, m in weighted(network).items()}
    among = {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}
    counts = {n: left(w.numel(), float(saved["prune_rates"][rate])) for n, w in weights.items()}
    masks = select(given, counts, among, weights, delta_p, rechoose_every=2, as_run=True)
    for n in LAYERS:
        assert torch.equal(masks[n], saved[f"mask_dp{delta_p}_r{rate}_{n}"].bool()), n


def test_the_golden_masks_need_the_group_chosen_every_second_time() -> None:
    saved = golden("fair_pruning_baselines_fairgrape")
    different = 0
    for rate, p in enumerate(saved["prune_rates"]):
        for n in LAYERS:
            table = saved[f"imp_{n}"].reshape(2, -1).T
            mask = np.zeros(len(table), dtype=bool)
            mask[greedy(table, left(len(table), float(p)))] = True
            different += bool((mask != saved[f"mask_dp0_r{rate}_{n}"].ravel().astype(bool)).any())
    assert different


def naive_importance(model: nn.Module, batches, groups: int) -> dict[str, torch.Tensor]:
    """One example's gradient after another, in float64, averaged by hand."""
    model = model.double().eval()
    layers = weighted(model)
    found = {n: [[] for _ in range(groups)] for n in layers}
    for x, y in batches:
        for g in range(groups):
            rows = [i for i in range(len(y)) if y[i, 1] == g]
            if not rows:
                continue
            total = {n: torch.zeros_like(m.weight) for n, m in layers.items()}
            for i in rows:
                model.zero_grad()
                F.nll_loss(model(x[i : i + 1].double()).log_softmax(1), y[i : i + 1, 0]).backward()
                for n, m in layers.items():
                    total[n] += m.weight.grad
            for n, m in layers.items():
                found[n][g].append((m.weight.detach() * total[n] / len(rows)).square())
    return {n: torch.stack([sum(f) / len(f) if f else torch.zeros_like(layers[n].weight) for f in per]) for n, per in found.items()}


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_importance_is_that_of_a_plain_loop_where_batches_lack_groups(groups, seed) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    batches = []
    for step in range(3):
        s = torch.randint(0, groups, (10,))
        s[s == step] = groups - 1  # one group is missing from each of the first batches
        batches.append((torch.randn(10, 3, 6, 6), torch.stack([torch.randint(0, 5, (10,)), s], 1)))
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    got = importance(model, weighted(model), batches, groups)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for n, expected in naive_importance(model, batches, groups).items():
        torch.testing.assert_close(got[n].double(), expected, rtol=0, atol=1e-6 * float(expected.max()))


def test_importance_of_a_group_that_no_batch_has_is_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    batch = torch.randn(6, 4), torch.tensor([[0, 0], [1, 0], [0, 2], [1, 2], [1, 2], [0, 0]])
    got = importance(model, weighted(model), [batch], 3)
    assert all(not v[1].any() and v[0].any() and v[2].any() for v in got.values())


def naive_greedy(table, count, delta_p=0, every=1, as_run=False) -> list[int]:
    """Step 3 of the sheet word for word, with lists and explicit searches."""
    n, groups = table.shape
    rows = [list(map(float, r)) for r in table]
    rank = [[(r[g], r[g] / (sum(r) or 1), r[g] * (r[g] / (sum(r) or 1)))[delta_p] for r in rows] for g in range(groups)]
    lists, adds = [], []
    work = [list(r) for r in rows]
    for g in range(groups):
        lists.append(sorted(range(n), key=lambda i: (-rank[g][i], i)))
        if as_run and delta_p:
            for i in range(n):
                work[i][g] = rank[g][i]
        adds.append([list(r) for r in work])
    T = [sum(r[g] for r in rows) for g in range(groups)]
    T = [t / sum(T) for t in T]
    selected, totals, P, used, g, steps = [], [0.0] * groups, [1 / groups] * groups, [0] * groups, 0, 0
    while len(selected) < count:
        if steps % every == 0:
            g = min(range(groups), key=lambda h: (P[h] - T[h], h))
        steps += 1
        while used[g] == n:
            g = (g + 1) % groups
        i = lists[g][used[g]]
        used[g] += 1
        if i not in selected:
            selected.append(i)
            totals = [t + a for t, a in zip(totals, adds[g][i], strict=True)]
            P = [t / sum(totals) for t in totals] if sum(totals) else P
    return selected


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize(("delta_p", "as_run"), [(0, False), (1, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("groups", [2, 3, 5])
def test_greedy_picks_as_the_sheet_says(groups, delta_p, as_run, every) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        # eighths: sums are exact, so ties are true ones; many zeros, and groups of uneven weight
        table = rng.integers(0, 4, (60, groups)) * rng.integers(0, 2, (60, 1)) / 8 * 2.0 ** np.arange(groups)
        table = table if seed % 2 else rng.exponential(size=(60, groups)) ** 3
        for count in (0, 1, 7, 31, 60):
            got = greedy(table, count, delta_p, every, as_run)
            assert got.tolist() == naive_greedy(table, count, delta_p, every, as_run)


def test_greedy_keeps_the_shares_that_magnitude_of_importance_would_lose() -> None:
    rng = np.random.default_rng(0)
    table = np.stack([rng.exponential(size=2000) ** 2, 0.3 * rng.exponential(size=2000) ** 2], 1)
    share = table[:, 1].sum() / table.sum()
    fair = table[greedy(table, 200)].sum(0)
    blind = table[np.argsort(-table.sum(1))[:200]].sum(0)
    assert abs(fair[1] / fair.sum() - share) < 0.01 < abs(blind[1] / blind.sum() - share)


def test_a_layer_without_importance_keeps_its_largest_weights_among_those_left() -> None:
    weights = {"a": torch.tensor([[3.0, -5.0, 1.0], [5.0, 2.0, -4.0]])}
    among = {"a": torch.tensor([[True, False, True], [True, True, True]])}
    masks = select({"a": torch.zeros(2, 2, 3)}, {"a": 3}, among, weights)
    assert masks["a"].tolist() == [[True, False, False], [True, False, True]]


def test_only_survivors_are_candidates_and_their_importance_alone_is_the_target() -> None:
    rng = np.random.default_rng(3)
    scores = torch.from_numpy(rng.exponential(size=(3, 5, 8)))
    among = {"a": torch.from_numpy(rng.random((5, 8)) < 0.6)}
    masks = select({"a": scores}, {"a": 12}, among, {"a": torch.ones(5, 8)})
    assert int(masks["a"].sum()) == 12
    assert not (masks["a"] & ~among["a"]).any()
    survivors = among["a"].flatten().nonzero().flatten()
    expected = survivors[naive_greedy(scores.flatten(1).T[survivors].numpy(), 12)]
    assert sorted(masks["a"].flatten().nonzero().flatten().tolist()) == sorted(expected.tolist())
    everyone = select({"a": scores}, {"a": 40}, among, {"a": torch.ones(5, 8)})
    assert torch.equal(everyone["a"], among["a"])


def test_rates_fall_by_a_tenth_and_end_at_the_target() -> None:
    assert rates(0.5) == pytest.approx([0.1, 0.19, 0.271, 0.3439, 0.40951, 0.468559, 0.5])
    assert len(rates(0.9)) == 22
    assert rates(0.05) == [0.05]
    assert left(10, 0.9) == 0  # (1 - 0.9) 10 is 0.99..., and is cut, as everywhere in the sheet


problem = partial(helpers.problem, case="digits/cnn-16-32")


@pytest.mark.slow
@pytest.mark.parametrize("method", [FairGrape(), FairGrape(as_run=True, delta_p=1, rechoose_every=2), FairGrape(end=0.0)])
@pytest.mark.parametrize("share", [0.2, 0.05])
def test_exactly_the_share_that_is_asked_for_is_left_within_the_budget(method, share) -> None:
    p = problem(target=f"nonzero={share}")
    weights = weights_of(method.solve(p).model)
    size = sum(w.numel() for w in weights)
    assert sum(int((w != 0).sum()) for w in weights) == size - int((1 - share) * size)
    # the same share of every layer
    assert all(abs(int((w != 0).sum()) - share * w.numel()) <= 1 for w in weights)
    assert p.run.examples <= p.budget


def test_iterations_lie_evenly_over_the_training_and_only_tighten() -> None:
    p = problem(target="nonzero=0.5")
    p.epochs, model = p.pretrain_epochs + 10, p.model()
    hooks = Tightening(FairGrape(), p, model, 0.5, steps=20)
    assert hooks.interval == 2  # seven iterations
    hooks.begin(torch.optim.SGD(model.parameters(), 0.1))
    sizes, masks = [alive(hooks.masks)], hooks.masks
    for _ in range(20):
        hooks.after_backward()
        hooks.after_step()
        assert not any((hooks.masks[n] & ~m).any() for n, m in masks.items())
        assert all(not m.weight[~hooks.masks[n]].any() for n, m in hooks.layers.items())
        sizes, masks = [*sizes, alive(hooks.masks)], hooks.masks
    counts = [sum(left(m.weight.numel(), rate) for m in hooks.layers.values()) for rate in rates(0.5)[:-1]]
    expected = [*counts, 5296 // 2]
    assert sizes == [expected[min(6, step // 2)] for step in range(21)]


def test_the_speed_division_cuts_by_size_without_a_batch() -> None:
    p = problem(division="speed")
    weights = weights_of(FairGrape().solve(p).model)
    assert sum(int((w != 0).sum()) for w in weights) == 1060
    assert p.run.examples == 0


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="nonzero=SHARE"):
        FairGrape().solve(problem(target="filters=0.5"))
    with pytest.raises(UserError, match="keep_per_iter"):
        FairGrape(keep_per_iter=1.0)


def test_more_iterations_than_steps_keep_less_each() -> None:
    assert rates(0.98, most=3) == pytest.approx([1 - 0.02 ** (1 / 3), 1 - 0.02 ** (2 / 3), 0.98])
    assert rates(0.5, most=1) == [0.5]
    assert rates(0.5, most=7) == rates(0.5)


@cache
def straight() -> tuple[Any, dict[str, torch.Tensor]]:
    """A solve that nothing stops, one for all that are held against it: its problem, and the network's state."""
    p = problem()
    return p, FairGrape().solve(p).model.state_dict()


@pytest.mark.parametrize("moment", [1, 12, 13, 20, 31])
def test_a_stopped_solve_ends_as_if_it_had_not_been(moment) -> None:
    whole, expected = straight()
    run = MemoryRun(whole.spec, stop_after=moment)
    with pytest.raises(Stopped):
        FairGrape().solve(problem(run))
    again = MemoryRun(whole.spec, saved=run.saved)
    got = FairGrape().solve(problem(again)).model.state_dict()
    assert all(torch.equal(got[k], v) for k, v in expected.items())
    assert again.examples == whole.run.examples
