"""The loop and the methods on it: same budget, on target, and stopping changes nothing."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from reference_impls.image_pruning.chex import Chex
from reference_impls.image_pruning.chex_widths import ChexWidths
from reference_impls.image_pruning.dense import Dense
from reference_impls.image_pruning.l1_filters import L1Filters
from reference_impls.image_pruning.uniform_scratch import UniformScratch
from reference_impls.parts import channels
from reference_impls.parts.training import Hooks, Trainer
from suite.naming import UserError
from suite.protocol import Diverged, Stopped
from tasks.images.channels import channel_groups, mask_
from tasks.images.recipes import Sgd
from tests.helpers import MemoryRun, problem, shrunk, spec

METHODS = [
    Dense(),
    UniformScratch(),
    L1Filters(),
    Chex(),
    Chex(delta0=0.0),
    Chex(share=0.4, parity=True),
    Chex(score="l1", ratios="uniform"),
]
IDS = ["dense", "uniform_scratch", "l1_filters", "chex", "chex-no-regrow", "chex-parity", "chex-l1-uniform"]


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@functools.cache
def straight(method: Any, division: str = "closed") -> tuple[Any, Any]:
    """A problem and its solve that nothing stops, one for all tests that look at it or hold another against it."""
    p = problem(division=division)
    return p, method.solve(p)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_every_method_has_the_same_budget_and_meets_its_target(method: Any) -> None:
    p, solution = straight(method)
    assert p.run.examples == p.budget
    if not isinstance(method, Dense) and getattr(method, "share", None) is None:
        assert p.macs(solution.model) / p.dense_macs == pytest.approx(0.5, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("method", [L1Filters(), Chex()], ids=["l1_filters", "chex"])
@pytest.mark.parametrize("moment", [1, 5, 9])
def test_a_stopped_solve_ends_as_if_it_had_not_been(method: Any, moment: int) -> None:
    _, whole = straight(method)
    run = MemoryRun(spec(), stop_after=moment)
    with pytest.raises(Stopped):
        method.solve(problem(run))
    again = MemoryRun(spec(), saved=run.saved)
    p = problem(again)
    assert same(method.solve(p).model, whole.model)
    assert again.examples == p.budget


@pytest.mark.slow
def test_the_control_of_chex_has_its_widths_other_channels_and_a_training_of_its_own() -> None:
    p, found = straight(ChexWidths(), "open")
    _, chex = straight(Chex())
    assert found.notes["widths"] == chex.notes["widths"]
    assert p.macs(found.model) == p.macs(chex.model)
    assert p.run.examples == 2 * p.budget
    assert not same(found.model, chex.model)
    with pytest.raises(UserError, match="--division open"):
        ChexWidths().solve(problem())


@pytest.mark.slow
@pytest.mark.parametrize("moment", [5, 15, 18, 22])
def test_the_control_of_chex_goes_on_in_either_training(moment: int) -> None:
    _, whole = straight(ChexWidths(), "open")
    run = MemoryRun(spec(division="open"), stop_after=moment)
    with pytest.raises(Stopped):
        ChexWidths().solve(problem(run, division="open"))
    p = problem(MemoryRun(spec(division="open"), saved=run.saved), division="open")
    assert same(ChexWidths().solve(p).model, whole.model)
    assert p.run.examples == 2 * p.budget


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25, 0.2])
def test_targets_are_met_by_bisection(share: float) -> None:
    p = problem(tier="small", target=f"macs={share}")
    groups = p.groups(p.model())
    widths = channels.uniform_widths(groups, p.macs_of, share * p.dense_macs)
    assert p.macs_of(widths) / p.dense_macs == pytest.approx(share, rel=0.01)
    scores = {g.name: torch.rand(g.width, generator=torch.Generator().manual_seed(i)) for i, g in enumerate(groups)}
    ranked = channels.ranked_widths(scores, p.macs_of, share * p.dense_macs, dict.fromkeys(scores, 1))
    assert p.macs_of(ranked) / p.dense_macs == pytest.approx(share, rel=0.01)
    assert min(ranked.values()) >= 1


def test_equal_scores_are_taken_in_turn_from_all_layers() -> None:
    order = channels.rank({"a": torch.ones(4), "b": torch.ones(2)})
    assert order[:3].count("a") == 2
    assert order[:3].count("b") == 1


class Watch(Hooks):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def before_epoch(self, epoch: int) -> None:
        self.seen.append(f"epoch {epoch}")

    def begin(self, optimizer: torch.optim.SGD) -> None:
        self.seen.append("begin")

    def after_backward(self) -> bool:
        self.seen.append("gradients")
        return True

    def after_step(self) -> None:
        self.seen.append("step")


def test_hooks_are_called_in_order_and_in_the_speed_division_too() -> None:
    p, watch = problem(), Watch()
    Trainer(p).fit("train", p.model(), Sgd(), epochs=1, hooks=watch)
    assert watch.seen[:4] == ["begin", "epoch 0", "gradients", "step"]
    fast, watch = problem(division="speed"), Watch()
    Trainer(fast).fit("train", fast.model(), Sgd(), epochs=2, hooks=watch)
    assert watch.seen == ["begin", "epoch 0", "epoch 1"]


class Hold(Hooks):
    def after_backward(self) -> bool:
        return False


def test_a_hook_may_hold_the_optimizer() -> None:
    p = problem()
    model = p.model()
    before = {n: w.detach().clone() for n, w in model.named_parameters()}
    Trainer(p).fit("train", model, Sgd(), epochs=1, hooks=Hold())
    assert all(torch.equal(w, before[n]) for n, w in model.named_parameters())


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    p = problem()
    with pytest.raises(Diverged, match="epoch"):
        Trainer(p).fit("train", p.model(), Sgd(lr=1e30), epochs=3)


def test_the_schedule() -> None:
    cosine = Sgd(lr=1.0, warmup=2)
    assert [round(cosine.rate(e, 10), 3) for e in (0, 1, 2, 6, 9)] == [0.5, 1.0, 1.0, 0.5, 0.038]
    steps = Sgd(lr=1.0, schedule="steps", milestones=(0.6, 0.8))
    assert [steps.rate(e, 10) for e in (0, 5, 6, 8)] == pytest.approx([1.0, 1.0, 0.1, 0.01])


def test_norm_parameters_decay_only_where_asked() -> None:
    p = problem()
    model = p.model()
    decays = [g["weight_decay"] for g in Sgd().optimizer(model).param_groups]
    assert decays == [5e-4, 0.0]
    assert [g["weight_decay"] for g in Sgd(norm_decay=True).optimizer(model).param_groups] == [5e-4]


@pytest.mark.slow
def test_chex_keeps_its_invariants_in_every_step_and_ends_without_regrowing() -> None:
    from reference_impls.image_pruning.chex import Exploration

    p = shrunk(problem(tier="small", division="open"), 8, train=768, val=100, test=100)
    model = p.model()
    explorer = Exploration(Chex(), p, model)
    checked = 0

    class Watching(Hooks):
        def before_epoch(self, epoch: int) -> None:
            explorer.before_epoch(epoch)

        def after_step(self) -> None:
            nonlocal checked
            explorer.after_step()
            if checked % 20 == 0:
                for g in explorer.groups:
                    dead = ~explorer.masks[g.name]
                    assert g.consumer is not None
                    assert not g.layer.weight[dead].any()
                    assert not g.bn.weight[dead].any()
                    assert not g.bn.bias[dead].any()
                    assert not g.consumer.weight[:, dead].any()
            checked += 1

    Trainer(p).fit("train", model, Sgd(), epochs=p.epochs, hooks=Watching())
    assert checked > 40
    assert explorer.t_max == round(0.72 * 8)
    assert [h["epoch"] for h in explorer.history] == list(range(1, explorer.t_max + 1))
    assert explorer.history[-1]["delta"] == pytest.approx(0, abs=1e-12)
    assert explorer.history[0]["delta"] > 0
    assert any(h["widths"] != explorer.history[-1]["widths"] for h in explorer.history[:-1])
    assert p.macs_of(explorer.history[-1]["widths"]) / p.dense_macs == pytest.approx(0.5, rel=0.01)
    # before the end more is kept than at the end: what is regrown
    assert p.macs_of(explorer.history[0]["widths"]) > p.macs_of(explorer.history[-1]["widths"])
    state = {k: v.clone() for k, v in model.state_dict().items()}
    mask_(channel_groups(model), explorer.masks)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items()), "masking is idempotent"
    x = torch.randn(4, *p.input)
    model.eval()
    small = p.compact(model, explorer.masks).eval()
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-4)


def test_speed_division_yields_shapes_on_initial_weights() -> None:
    for method in (UniformScratch(), L1Filters(), Chex()):
        p = problem(division="speed")
        assert p.macs(method.solve(p).model) / p.dense_macs == pytest.approx(0.5, rel=0.01)
